//! Go programs: modules are fetched once and checked against `go.sum`, compiling has no network and no C.

use recipe::Go;

use super::{Command, Source, Workshop, joined, mounted, variables, words};
use crate::stage::{Stages, path};
use crate::{From, Mount, MountKind, StageId};

/// What a source directory holds that is no source.
pub(super) const EXCLUDE: &[&str] = &[".git"];

/// What says which modules are needed.
const MODULE_FILES: &[&str] = &["go.mod", "go.sum", "go.work", "go.work.sum", "**/go.mod", "**/go.sum"];
/// Where modules lie.
const MODULES: &str = "/modules";
const PATH: &str = "/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The stage that compiles; the programs are in `/out/bin`.
pub(super) fn compile(shop: &Workshop<'_>, stages: &mut Stages, go: &Go, source: &Source) -> StageId {
    let environment = || {
        let mut env = variables([
            ("PATH", PATH),
            ("GOMODCACHE", MODULES),
            ("GOTOOLCHAIN", "local"),
            ("GOTELEMETRY", "off"),
            // Every module is in go.sum, which is looked at; asking about others would need the network.
            ("GONOSUMDB", "*"),
            ("GOSUMDB", "off"),
            ("CGO_ENABLED", "0"),
        ]);
        env.insert("GOOS".to_owned(), "linux".to_owned());
        env.insert("GOARCH".to_owned(), shop.target.architecture.as_str().to_owned());
        env
    };
    let mut fetch_env = environment();
    fetch_env.insert("GOPROXY".to_owned(), "https://proxy.golang.org".to_owned());
    let manifest = shop.files("go.mod", vec![source.tree.only(MODULE_FILES).copy("/source")]);
    let fetch = Command {
        args: words(&["go", "mod", "download"]),
        env: fetch_env,
        workdir: path("/source"),
        network: true,
        mounts: Vec::new(),
    };
    let modules =
        stages.add(shop.stage("modules", shop.toolchain(), vec![manifest, shop.command("go mod download", fetch)]));

    let mut env = environment();
    env.insert("GOPROXY".to_owned(), "off".to_owned());
    env.insert("GOCACHE".to_owned(), "/cache".to_owned());
    let modules = Mount { target: path(MODULES), kind: MountKind::Stage { stage: modules, path: path(MODULES) } };
    let mounts =
        |more: Vec<Mount>| [modules.clone(), shop.cache("/cache", "go")].into_iter().chain(more).collect::<Vec<_>>();
    let mut steps: Vec<_> = shop.packages().into_iter().collect();
    let mut source_mount = vec![mounted("/source", source.stage)];
    if !go.generate.is_empty() {
        // What is generated goes into the source, so that has to be the stage's own.
        source_mount.clear();
        steps.push(shop.files("source", vec![source.copy()]));
        let mut args = words(&["go", "generate"]);
        args.extend(go.generate.iter().map(|pattern| pattern.value.clone()));
        // Generators run here, whatever the program is for.
        let mut env = env.clone();
        env.insert("GOARCH".to_owned(), shop.build.architecture.as_str().to_owned());
        let generate = Command { args, env, workdir: path("/source"), network: false, mounts: mounts(Vec::new()) };
        steps.push(shop.command("go generate", generate));
    }
    let mut args = words(&["go", "build", "-trimpath", "-buildvcs=false", "-o", "/out/bin/"]);
    if !go.tags.is_empty() {
        args.push(format!("-tags={}", joined(&go.tags, ",")));
    }
    let version = shop.locked.version();
    let variables =
        go.variables.iter().map(|(name, value)| format!(" -X '{name}={}'", value.replace("{version}", &version)));
    args.push(format!("-ldflags=-s -w -buildid={}", variables.collect::<String>()));
    args.extend(go.main.iter().map(|package| package.value.clone()));
    steps.push(shop.command(
        "go build",
        Command { args, env, workdir: path("/source"), network: false, mounts: mounts(source_mount) },
    ));
    let toolchain: From = shop.toolchain();
    stages.add(shop.stage("build", toolchain, steps))
}
