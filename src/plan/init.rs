//! claw-init: how it is built, and the manifest it reads in the image.

use std::time::Duration;

use diag::Spanned;
use oci::Platform;
use recipe::{Base, Config, Health, HealthProbe, Name, Override, Process, Ready, Recipe};
use serde_json::{Map, Value, json};

use crate::stage::{Stages, path};
use crate::{
    BaseImages, Context, Copy, CopyFrom, FileAction, LockedBase, LockedRecipe, Mount, MountKind, Origin, PlanError,
    Run, Stage, StageId, Step, StepKind, bases,
};

/// The base claw-init is compiled on.
pub(crate) const INIT_BASE: &str = "init-toolchain";
/// The base whose files are Rust's libraries for a platform other than the one that compiles.
pub(crate) const INIT_TARGET_BASE: &str = "init-target";
/// The files of `base/init` that make claw-init, as patterns; the build depends on nothing else there.
pub const INIT_CONTEXT_FILES: [&str; 1] = ["src"];
/// Where claw-init lies in images.
pub(crate) const INIT_PATH: &str = "/usr/bin/claw-init";
/// Where claw-init reads its manifest.
pub(crate) const MANIFEST_PATH: &str = "/etc/claw/init.json";
/// How long a runtime that others wait for may take to become healthy, at least.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long one question whether a process is ready may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Where baked configuration defaults lie.
pub(crate) const DEFAULTS: &str = "/usr/share/claw";

/// The stage that compiles claw-init for `target` on `build`; the program is `/out/claw-init`.
pub(crate) fn compile(
    stages: &mut Stages,
    locked: &LockedRecipe<'_>,
    images: &BaseImages,
    build: Platform,
    target: Platform,
) -> Result<StageId, PlanError> {
    let name = format!("claw-init {target}");
    if let Some(stage) = stages.named(&name) {
        return Ok(stage);
    }
    let asked: Spanned<Name> = Spanned::new(INIT_BASE.parse().expect("a name"), locked.recipe.image.base.span);
    let chain: Vec<&Base> = locked.project.chain(&asked, &locked.recipe.source)?;
    let base = chain.last().expect("a chain holds at least the base asked for");
    let origin = Origin { source: base.source.clone(), span: base.name.span };
    let epoch = LockedBase::new(&chain, build, locked.lock).epoch();
    let toolchain = bases::layout(images, &asked.value, build, origin.clone());
    let context = Context {
        name: "init".to_owned(),
        include: INIT_CONTEXT_FILES.iter().map(|file| (*file).to_owned()).collect(),
        exclude: Vec::new(),
    };
    let copy = FileAction::Copy(Copy { into: true, ..Copy::new(CopyFrom::Context(context), path("/src")) });
    let out = FileAction::Directory { path: path("/out"), mode: 0o755, owner: (0, 0) };
    let mut files = vec![copy, out];
    let triple = crate::language::triple(target.architecture);
    if target != build {
        let name: Name = INIT_TARGET_BASE.parse().expect("a name");
        let from = bases::layout(images, &name, target, origin.clone());
        let name = format!("claw-init libraries {target}");
        let libraries = stages.add(Stage { name, platform: target, epoch, from, steps: Vec::new() });
        let directory = path(&format!("/usr/lib/rustlib/{triple}"));
        files.push(FileAction::Copy(Copy {
            path: directory.as_str().to_owned(),
            ..Copy::new(CopyFrom::Stage(libraries), directory)
        }));
    }
    let linker = format!("{}-linux-gnu-ld", target.architecture.gnu());
    let linker = format!("-Clinker={linker}");
    let args = [
        "rustc",
        "--edition=2021",
        "--crate-name=claw_init",
        "--crate-type=bin",
        "--target",
        triple,
        "--cfg",
        "freestanding",
        "-Copt-level=z",
        "-Clto=fat",
        "-Ccodegen-units=1",
        "-Cpanic=abort",
        "-Cstrip=symbols",
        "-Crelocation-model=static",
        "-Clinker-flavor=ld",
        &linker,
        "-Clink-arg=-static",
        // The build id would be a hash over temporary paths.
        "-Clink-arg=--build-id=none",
        "--remap-path-prefix=/src=claw-init",
        "-o",
        "/out/claw-init",
        "/src/src/main.rs",
    ];
    let run = Run {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: std::collections::BTreeMap::new(),
        workdir: path("/src"),
        network: false,
        mounts: vec![Mount { target: path("/tmp"), kind: MountKind::Tmpfs }],
    };
    let steps = vec![
        Step { name: "source".to_owned(), origin: origin.clone(), kind: StepKind::Files(files) },
        Step { name: "rustc claw-init".to_owned(), origin, kind: StepKind::Run(run) },
    ];
    Ok(stages.add(Stage { name, platform: build, epoch, from: toolchain, steps }))
}

/// The manifest claw-init reads: what it runs, renders and probes. Written by `base/init`'s own definition. `own` is the
/// health of the recipe's command, whatever the image's is.
pub(crate) fn manifest(recipe: &Recipe, own: &Health) -> Vec<u8> {
    let image = &recipe.image;
    let user = &image.user;
    let volumes: Vec<Value> = image
        .volumes
        .iter()
        .map(|volume| json!({ "path": volume.value.as_str(), "uid": user.uid, "gid": user.gid, "mode": "0700" }))
        .collect();
    let health = probe(&recipe.health.probe, recipe.health.timeout);
    let mut manifest = json!({
        "version": 1,
        "user": { "uid": user.uid, "gid": user.gid, "home": user.home.as_str() },
        "config": recipe.config.iter().map(config).collect::<Vec<_>>(),
        "volumes": volumes,
        "stop_signal": image.stop_signal,
        "stop_timeout_ms": millis(image.stop_timeout),
    });
    if !health.is_null() {
        manifest["health"] = health;
    }
    if image.processes.is_empty() {
        manifest["command"] = image.command.clone().into();
    } else {
        let processes = image.processes.iter().map(process);
        manifest["processes"] = [command(recipe, own)].into_iter().chain(processes).collect();
    }
    format!("{manifest:#}\n").into_bytes()
}

fn probe(probe: &HealthProbe, timeout: Duration) -> Value {
    match probe {
        HealthProbe::Http { port, port_env, path } => {
            let mut http = json!({ "port": port, "path": path });
            if let Some(variable) = port_env {
                http["port_env"] = variable.as_str().into();
            }
            json!({ "http": http, "timeout_ms": millis(timeout) })
        }
        HealthProbe::Exec(args) => json!({ "exec": args, "timeout_ms": millis(timeout) }),
        HealthProbe::None => Value::Null,
    }
}

/// The recipe's command as one of several processes: the one the container ends with. Those that come after it wait
/// until it is healthy.
fn command(recipe: &Recipe, health: &Health) -> Value {
    let image = &recipe.image;
    let mut command = json!({ "name": recipe.name.value.as_str(), "command": image.command, "main": true });
    after(&mut command, &image.after);
    let is_awaited =
        image.processes.iter().flat_map(|process| &process.after).any(|name| name.value == recipe.name.value);
    let mut ready = probe(&health.probe, health.timeout);
    if is_awaited && !ready.is_null() {
        ready["within_ms"] = millis(health.start_period.max(READY_WITHIN)).into();
        command["ready"] = ready;
    }
    command
}

fn process(process: &Process) -> Value {
    let mut entry = json!({
        "name": process.name.value.as_str(),
        "command": process.command,
        "main": false,
        "restart": process.restart.as_str(),
    });
    after(&mut entry, &process.after);
    if !process.env.is_empty() {
        entry["env"] = json!(process.env);
    }
    if let Some(directory) = &process.workdir {
        entry["cwd"] = directory.as_str().into();
    }
    match &process.ready {
        Ready::Started => {}
        Ready::Completed => entry["ready"] = "completed".into(),
        Ready::Probe { probe: asked, within } => {
            entry["ready"] = probe(asked, PROBE_TIMEOUT);
            entry["ready"]["within_ms"] = millis(*within).into();
        }
    }
    if let Some((asked, timeout)) = &process.health {
        entry["health"] = probe(asked, *timeout);
    }
    entry
}

fn after(entry: &mut Value, names: &[Spanned<Name>]) {
    if !names.is_empty() {
        entry["after"] = names.iter().map(|name| Value::from(name.value.as_str())).collect();
    }
}

/// Where a config's baked default lies in the image.
pub(crate) fn default_path(config: &Config) -> recipe::ContainerPath {
    let name = config.path.value.as_str().rsplit('/').next().expect("a path has a last component");
    path(DEFAULTS).join(name)
}

fn config(config: &Config) -> Value {
    json!({
        "default": default_path(config).as_str(),
        "path": config.path.value.as_str(),
        "format": config.format.value.as_str(),
        "overrides": config.overrides.iter().map(|(name, entry)| one_override(name, entry)).collect::<Vec<_>>(),
    })
}

fn one_override(name: &str, entry: &Override) -> Value {
    let mut value = Map::new();
    value.insert("env".to_owned(), name.into());
    value.insert("key".to_owned(), entry.key.clone().into());
    value.insert("type".to_owned(), entry.kind.as_str().into());
    value.insert("secret".to_owned(), entry.secret.into());
    Value::Object(value)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("recipes hold durations below a million hours")
}
