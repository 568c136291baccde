//! Node.js programs, installed by pnpm: fetch with network, install without.

use std::collections::BTreeMap;

use diag::codes;
use oci::Platform;
use recipe::{Base, ContainerPath, Name, Node, RecipeError, SourceSpec, Tool};

use super::Workshop;
use crate::archives::download;
use crate::bases::archive_stage;
use crate::source::{LockedSource, SourceTree};
use crate::stage::{Stages, path};
use crate::{
    Context, Copy, CopyFrom, FileAction, From, LockedRecipe, Mount, MountKind, Origin, PlanError, Run, Stage, StageId,
    Step, StepKind,
};

/// Where pnpm is mounted while it runs.
const PNPM: &str = "/run/clawbuild/pnpm";
/// Where fetched packages lie between the two steps. Its bytes differ from run to run, so it never enters an image, and
/// a change in it alone rebuilds nothing that the lock did not change too.
const STORE: &str = "/store";
/// Where the fetch runs, away from what is installed: it leaves files of its own behind.
const FETCH: &str = "/fetch";
/// pnpm's own state, which carries times and paths and which nothing reads at run time.
const STATE: [&str; 3] = [".modules.yaml", ".pnpm-workspace-state-v1.json", ".pnpm"];

/// pnpm as the nearest base names it.
pub(crate) fn pnpm<'a>(recipe: &recipe::Recipe, chain: &[&'a Base]) -> Result<(&'a Tool, &'a Base), PlanError> {
    let name: Name = "pnpm".parse().expect("a name");
    chain.iter().rev().find_map(|base| base.tools.get(&name).map(|tool| (tool, *base))).ok_or_else(|| {
        let span = recipe.build.language.span;
        let message =
            format!("language `node` needs the tool `pnpm`, which base `{}` does not bring", recipe.image.base.value);
        RecipeError::at(codes::recipe::UNMET_TOOL, &recipe.source, span, message)
            .help("use `base = \"node\"`, or give the base a `[tools]` entry for pnpm")
            .into()
    })
}

struct Parts<'a> {
    shop: &'a Workshop<'a>,
    locked: &'a LockedRecipe<'a>,
    node: &'a Node,
    base: From,
    pnpm: StageId,
    program: ContainerPath,
}

impl<'a> Parts<'a> {
    fn new(shop: &'a Workshop<'a>, stages: &mut Stages, node: &'a Node) -> Result<Self, PlanError> {
        let locked = shop.locked;
        let (tool, tool_base) = pnpm(locked.recipe, &locked.chain)?;
        let request = tool.archive.request(shop.build.architecture, &tool_base.source);
        let pinned = locked.release(&request);
        let origin = Origin { source: tool_base.source.clone(), span: tool.archive.package.span };
        let pnpm = archive_stage(stages, "pnpm", download(&pinned.url, pinned.sha256), shop.build, origin);
        Ok(Self {
            shop,
            locked,
            node,
            base: shop.toolchain(),
            pnpm,
            program: path(PNPM).join(tool.program.value.trim_start_matches('/')),
        })
    }

    fn run(&self, name: &str, directory: &ContainerPath, network: bool, args: &[&str]) -> Step {
        let mut command = vec![self.program.to_string(), "-C".to_owned(), directory.to_string()];
        command.extend(args.iter().map(|arg| (*arg).to_owned()));
        // CI: no questions, no progress drawing. The store version check would ask the network.
        let env = [("CI", "1"), ("npm_config_update_notifier", "false")];
        Step {
            name: name.to_owned(),
            origin: self.shop.origin(self.locked.recipe.origin.span),
            kind: StepKind::Run(Run {
                args: command,
                env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                workdir: directory.clone(),
                network,
                mounts: vec![
                    Mount { target: path(PNPM), kind: MountKind::Stage { stage: self.pnpm, path: path("/") } },
                    Mount { target: path("/tmp"), kind: MountKind::Tmpfs },
                ],
            }),
        }
    }

    fn files(&self, name: &str, actions: Vec<FileAction>) -> Step {
        self.shop.files(name, actions)
    }

    fn stage(&self, name: &str, from: From, steps: Vec<Step>) -> Stage {
        self.shop.stage(name, from, steps)
    }
}

/// The stage whose `/pnpm-lock.yaml` is the closure of an npm source's dependencies, resolved now.
pub(super) fn resolution(shop: &Workshop<'_>, stages: &mut Stages, node: &Node) -> Result<StageId, PlanError> {
    let parts = Parts::new(shop, stages, node)?;
    let locked = shop.locked;
    let directory = path("/resolve");
    let mut manifest = manifest(&parts, None, &directory);
    if !matches!(locked.source, LockedSource::Release(_)) {
        let source = SourceTree::of(stages, locked, shop.ground, shop.build, &[]);
        manifest.push(source.only(&["package.json", "pnpm-workspace.yaml", ".npmrc"]).copy(directory.as_str()));
    }
    let resolve = parts.stage(
        "resolution",
        parts.base.clone(),
        vec![
            parts.files("manifest", manifest),
            parts.run("pnpm install --lockfile-only", &directory, true, &["install", "--lockfile-only"]),
        ],
    );
    let resolved = stages.add(resolve);
    let copy = Copy {
        path: "/resolve/pnpm-lock.yaml".to_owned(),
        mode: Some(0o644),
        ..Copy::new(CopyFrom::Stage(resolved), path("/pnpm-lock.yaml"))
    };
    let collect = parts.files("pnpm-lock.yaml", vec![FileAction::Copy(copy)]);
    Ok(stages.add(parts.stage("lock file", From::Scratch, vec![collect])))
}

/// The stages that fetch and install, and the steps that put the result into the image.
pub(super) fn build(shop: &Workshop<'_>, stages: &mut Stages, node: &Node) -> Result<Vec<Step>, PlanError> {
    let Node { run, omit, prefix, .. } = node;
    let parts = Parts::new(shop, stages, node)?;
    let locked = shop.locked;
    let source = SourceTree::of(stages, locked, shop.ground, shop.build, &[]);
    let files = |directory: &ContainerPath| {
        let mut files = manifest(&parts, Some(shop.target), directory);
        files.push(match &locked.recipe.origin.value {
            SourceSpec::Release { .. } => context_copy("recipe", &["pnpm-lock.yaml"], &[], directory),
            SourceSpec::Path { .. } | SourceSpec::Git { .. } | SourceSpec::Archive { .. } => {
                let manifests = ["package.json", "pnpm-lock.yaml", "pnpm-workspace.yaml", ".npmrc", "patches"];
                source.only(&manifests).copy(directory.as_str())
            }
        });
        files
    };
    let fetch = path(FETCH);
    let store = format!("--store-dir={STORE}");
    let dev = if run.is_empty() { vec!["--prod"] } else { vec![] };
    let fetch_args: Vec<&str> = ["fetch"].into_iter().chain(dev.iter().copied()).chain([store.as_str()]).collect();
    let fetched = stages.add(parts.stage(
        "dependencies",
        parts.base.clone(),
        vec![parts.files("manifest", files(&fetch)), parts.run("pnpm fetch", &fetch, true, &fetch_args)],
    ));
    let store_mount = Mount { target: path(STORE), kind: MountKind::Stage { stage: fetched, path: path(STORE) } };
    let frozen = ["install", "--frozen-lockfile", "--offline", "--frozen-store", store.as_str()];
    let install =
        |extra: &[&'static str]| -> Vec<&str> { frozen.iter().copied().chain(extra.iter().copied()).collect() };
    let mut steps = vec![match &locked.recipe.origin.value {
        SourceSpec::Release { .. } => parts.files("manifest", files(prefix)),
        SourceSpec::Path { .. } | SourceSpec::Git { .. } | SourceSpec::Archive { .. } => {
            parts.files("source", vec![source.copy(prefix.as_str())])
        }
    }];
    if run.is_empty() {
        steps.push(parts.run("pnpm install", prefix, false, &install(&["--prod"])));
    } else {
        steps.push(parts.run("pnpm install", prefix, false, &install(&[])));
        for script in run {
            let name = format!("pnpm run {}", script.value);
            steps.push(parts.run(&name, prefix, false, &["run", &script.value]));
        }
        steps.push(parts.run("pnpm install --prod", prefix, false, &install(&["--prod"])));
    }
    for step in &mut steps {
        if let StepKind::Run(run) = &mut step.kind {
            run.mounts.push(store_mount.clone());
        }
    }
    let installed = stages.add(parts.stage("build", parts.base.clone(), steps));
    Ok(collect(&parts, installed, prefix, omit))
}

/// Two layers: dependencies change less often than the program.
fn collect(parts: &Parts<'_>, installed: StageId, prefix: &ContainerPath, omit: &[diag::Spanned<String>]) -> Vec<Step> {
    let modules = prefix.join("node_modules");
    let omitted =
        || STATE.iter().map(|state| (*state).to_owned()).chain(omit.iter().map(|pattern| pattern.value.clone()));
    let copy = |from: &ContainerPath, to: &ContainerPath, exclude: Vec<String>| {
        let path = from.to_string();
        FileAction::Copy(Copy { path, into: true, exclude, ..Copy::new(CopyFrom::Stage(installed), to.clone()) })
    };
    match &parts.locked.recipe.origin.value {
        SourceSpec::Release { package, .. } => {
            let own = modules.join(&package.value);
            let own_omitted = omitted().filter_map(|pattern| below(&package.value, &pattern)).collect();
            let rest = omitted().chain([package.value.clone()]).collect();
            vec![
                parts.files("dependencies", vec![copy(&modules, &modules, rest)]),
                parts.files(&package.value, vec![copy(&own, &own, own_omitted)]),
            ]
        }
        SourceSpec::Path { .. } | SourceSpec::Git { .. } | SourceSpec::Archive { .. } => {
            let program = omitted().map(|pattern| format!("node_modules/{pattern}")).chain(["node_modules".to_owned()]);
            vec![
                parts.files("dependencies", vec![copy(&modules, &modules, omitted().collect())]),
                parts.files("program", vec![copy(prefix, prefix, program.collect())]),
            ]
        }
    }
}

/// What a pattern relative to `node_modules` says about the inside of one package; `None` if nothing.
fn below(package: &str, pattern: &str) -> Option<String> {
    let (negation, plain) = pattern.strip_prefix('!').map_or(("", pattern), |plain| ("!", plain));
    let inside = if plain.starts_with("**/") { plain } else { plain.strip_prefix(package)?.strip_prefix('/')? };
    Some(format!("{negation}{inside}"))
}

fn context_copy(name: &str, include: &[&str], exclude: &[String], to: &ContainerPath) -> FileAction {
    let context = Context {
        name: name.to_owned(),
        include: include.iter().map(|pattern| (*pattern).to_owned()).collect(),
        exclude: exclude.to_vec(),
    };
    FileAction::Copy(Copy { into: true, ..Copy::new(CopyFrom::Context(context), to.clone()) })
}

/// `package.json` and pnpm's settings for a source that is a package of the npm registry. A source directory brings its own.
/// The settings differ by target, the lock file does not: without a target, they are for resolving.
fn manifest(parts: &Parts<'_>, target: Option<Platform>, directory: &ContainerPath) -> Vec<FileAction> {
    let (SourceSpec::Release { package, .. }, LockedSource::Release(program)) =
        (&parts.locked.recipe.origin.value, parts.locked.source)
    else {
        return vec![FileAction::Directory { path: directory.clone(), mode: 0o755, owner: (0, 0) }];
    };
    let Node { scripts, without_scripts, skip, .. } = parts.node;
    let write = |name: &str, text: String| FileAction::Write {
        path: directory.join(name),
        data: text.into_bytes(),
        mode: 0o644,
        owner: (0, 0),
    };
    let manifest = serde_json::json!({
        "name": format!("{}-image", parts.locked.recipe.name.value),
        "version": "0.0.0",
        "private": true,
        "dependencies": { package.value.clone(): program.version.clone() },
    });
    // JSON is YAML, and escapes names such as `@scope/name` without more ado.
    let allowed = scripts.iter().map(|name| (name.value.clone(), true));
    let builds: BTreeMap<String, bool> =
        without_scripts.iter().map(|name| (name.value.clone(), false)).chain(allowed).collect();
    let mut settings = serde_json::json!({
        // A flat tree of real directories: no links out of the package, the same on every filesystem.
        "nodeLinker": "hoisted",
        "packageImportMethod": "copy",
        // The lock's integrity hashes are enforced; asking the registry again would need the network.
        "trustLockfile": true,
        "allowBuilds": builds,
        "ignoredOptionalDependencies": skip.iter().map(|name| &name.value).collect::<Vec<_>>(),
    });
    if let Some(target) = target {
        settings["supportedArchitectures"] =
            serde_json::json!({ "os": ["linux"], "cpu": [target.architecture.node()], "libc": ["glibc"] });
    }
    vec![
        FileAction::Directory { path: directory.clone(), mode: 0o755, owner: (0, 0) },
        write("package.json", format!("{manifest:#}\n")),
        write("pnpm-workspace.yaml", format!("{settings:#}\n")),
    ]
}
