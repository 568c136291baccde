//! Node.js programs that come as their source: a git repository, an archive, a directory.
//!
//! The source brings `pnpm-lock.yaml` and its own settings for pnpm, among them whose install scripts run.

use std::collections::BTreeMap;

use oci::{Architecture, Platform};

use super::{FETCH, Parts, STORE, collected, lock_file, omitted};
use crate::language::{Command, variables, words};
use crate::source::SourceTree;
use crate::stage::{Stages, path};
use crate::{Copy, FileAction, From, StageId, Step, StepKind};

/// What a source directory holds that is no source.
const EXCLUDE: &[&str] = &["**/node_modules", ".git"];
/// What says which packages are needed, and how they are installed.
const MANIFESTS: &[&str] =
    &["package.json", "**/package.json", "pnpm-lock.yaml", "pnpm-workspace.yaml", ".npmrc", ".pnpmfile.cjs", "patches"];
/// Where the programs of npm's own node-gyp lie in the toolchain, for packages that call it by its name.
const NODE_GYP: &str = "/usr/local/lib/node_modules/npm/bin/node-gyp-bin";

/// The program's own scripts are for the whole source and all its dependencies, not for an install of some of them.
const WITHOUT_SCRIPTS: &str = r#"
const fs = require("fs");
const manifest = JSON.parse(fs.readFileSync("package.json", "utf8"));
delete manifest.scripts;
fs.writeFileSync("package.json", JSON.stringify(manifest, null, 2) + "\n");
"#;

/// Addons are compiled in `build/Release`; one that ignored what it is compiled for would only fail when it is loaded.
/// Spec: ELF, `e_machine` is the half word at 18.
const CHECK_ADDONS: &str = r#"
const fs = require("fs"), path = require("path");
const [wanted, name] = process.argv.slice(1);
let wrong = 0;
for (const file of fs.readdirSync("node_modules", { recursive: true })) {
  const [, parent, addon] = /^(.+)\/build\/Release\/([^\/]+\.node)$/.exec(file) ?? [];
  if (!addon) continue;
  const head = fs.readFileSync(path.join("node_modules", file)).subarray(0, 20);
  if (head.length === 20 && head.readUInt32BE(0) === 0x7f454c46 && head.readUInt16LE(18) !== Number(wanted)) {
    console.error(`package ${parent}: its addon ${addon} was not compiled for ${name}; its install script cannot cross-compile`);
    wrong = 1;
  }
}
process.exit(wrong);
"#;

/// The stage whose `/pnpm-lock.yaml` is the source's, brought up to date.
pub(super) fn resolution(parts: &Parts<'_>, stages: &mut Stages) -> StageId {
    let directory = path("/resolve");
    let manifests = tree(parts, stages).only(MANIFESTS).copy(directory.as_str());
    let mut resolve = parts.run("pnpm install --lockfile-only", &directory, true, &["install", "--lockfile-only"]);
    add_env(&mut resolve, strict());
    let steps = vec![parts.shop.files("manifest", vec![manifests]), resolve];
    let resolved = stages.add(parts.shop.stage("resolution", parts.shop.toolchain(), steps));
    lock_file(parts, stages, resolved, &directory)
}

/// The stages that fetch, install and build, and the steps that put the result into the image: one layer of what the
/// program depends on, and one of the program.
pub(super) fn build(parts: &Parts<'_>, stages: &mut Stages) -> Vec<Step> {
    let (shop, node) = (parts.shop, parts.node);
    let prefix = &node.prefix;
    let source = tree(parts, stages);
    let installed = installed(parts, stages, &source, shop.target);
    let modules = prefix.join("node_modules");
    let dependencies = shop.files("dependencies", vec![collected(installed, &modules, omitted(node))]);
    let exclude = node.exclude.iter().map(|pattern| pattern.value.clone());
    let exclude = ["node_modules".to_owned(), ".git".to_owned()].into_iter().chain(exclude).collect();
    let program = if node.run.is_empty() {
        let (from, root) = source.into_parts();
        FileAction::Copy(Copy { path: root, into: true, exclude, ..Copy::new(from, prefix.clone()) })
    } else {
        collected(built(parts, stages, &source), prefix, exclude)
    };
    vec![dependencies, shop.files("program", vec![program])]
}

/// The source.
fn tree(parts: &Parts<'_>, stages: &mut Stages) -> SourceTree {
    SourceTree::of(stages, parts.locked, parts.shop.ground, parts.shop.build, EXCLUDE)
}

/// The stage with what the program needs when it runs on `target`, below the prefix.
fn installed(parts: &Parts<'_>, stages: &mut Stages, source: &SourceTree, target: Platform) -> StageId {
    let (shop, prefix) = (parts.shop, &parts.node.prefix);
    let stage_name = format!("dependencies {target}");
    if let Some(stage) = stages.named(&format!("{} {stage_name}", shop.locked.recipe.name.value)) {
        return stage;
    }
    let natives = natives(target);
    let natives: Vec<&str> = natives.iter().map(String::as_str).collect();
    let fetched = fetched(parts, stages, source, target, &natives);
    let mut steps = vec![shop.files("manifest", vec![source.only(MANIFESTS).copy(prefix.as_str())])];
    let scripts = Command {
        args: words(&["node", "-e", WITHOUT_SCRIPTS]),
        env: BTreeMap::new(),
        workdir: prefix.clone(),
        network: false,
        mounts: Vec::new(),
    };
    steps.push(shop.command("no scripts of its own", scripts));
    if let Some(packages) = shop.packages() {
        steps.push(packages);
    }
    steps.push(install(parts, "pnpm install --prod", target, &[&["--prod"], natives.as_slice()].concat()));
    if target != shop.build {
        let (machine, name) = machine(target.architecture);
        let check = Command {
            args: words(&["node", "-e", CHECK_ADDONS, machine, name]),
            env: BTreeMap::new(),
            workdir: prefix.clone(),
            network: false,
            mounts: Vec::new(),
        };
        steps.push(shop.command(&format!("addons are for {target}"), check));
    }
    stages.add(shop.stage(&stage_name, From::Stage(fetched), steps))
}

/// The stage with every package fetched, for `target`.
fn fetched(parts: &Parts<'_>, stages: &mut Stages, source: &SourceTree, target: Platform, natives: &[&str]) -> StageId {
    let (shop, fetch, store) = (parts.shop, path(FETCH), format!("--store-dir={STORE}"));
    let all = ["fetch", store.as_str()];
    let wanted: &[&str] = if parts.node.run.is_empty() { &["--prod"] } else { &[] };
    let mut run = parts.run("pnpm fetch", &fetch, true, &[&all, wanted, natives].concat());
    // Some versions of pnpm also install what they fetch, with network.
    add_env(&mut run, variables([("npm_config_ignore_scripts", "true")]));
    add_env(&mut run, strict());
    let manifests = source.only(MANIFESTS).copy(fetch.as_str());
    let steps = vec![shop.files("manifest", vec![manifests]), run];
    stages.add(shop.stage(&format!("packages {target}"), shop.toolchain(), steps))
}

/// The stage in which the program's scripts ran, on the platform that builds, with everything they need.
fn built(parts: &Parts<'_>, stages: &mut Stages, source: &SourceTree) -> StageId {
    let (shop, prefix) = (parts.shop, &parts.node.prefix);
    // What is compiled for this platform already is not compiled again.
    let installed = installed(parts, stages, source, shop.build);
    let natives = natives(shop.build);
    let natives: Vec<&str> = natives.iter().map(String::as_str).collect();
    let all = install(parts, "pnpm install", shop.build, &natives);
    let complete = stages.add(shop.stage("tools", From::Stage(installed), vec![all]));
    let mut steps = vec![shop.files("source", vec![source.copy(prefix.as_str())])];
    for script in &parts.node.run {
        let mut run = parts.run(&format!("pnpm run {}", script.value), prefix, false, &["run", &script.value]);
        add_env(&mut run, strict());
        // It would install anew: the manifest has its scripts again.
        add_env(&mut run, variables([("npm_config_verify_deps_before_run", "false")]));
        add_env(&mut run, variables([("pnpm_config_verify_deps_before_run", "false")]));
        steps.push(run);
    }
    stages.add(shop.stage("build", From::Stage(complete), steps))
}

/// Installs what was fetched, without network, and compiles addons for `target`.
fn install(parts: &Parts<'_>, name: &str, target: Platform, more: &[&str]) -> Step {
    let store = format!("--store-dir={STORE}");
    let frozen = [
        "install",
        "--frozen-lockfile",
        "--offline",
        store.as_str(),
        // A flat tree of real directories: no links out of the package, the same on every filesystem.
        "--config.node-linker=hoisted",
        "--config.package-import-method=copy",
        // A package whose install script nobody has allowed or refused is looked at first.
        "--config.strict-dep-builds=true",
        "--config.side-effects-cache=false",
    ];
    let mut step = parts.run(name, &parts.node.prefix, false, &[&frozen, more].concat());
    add_env(&mut step, strict());
    if parts.locked.recipe.build.toolchain.is_some() {
        add_env(&mut step, compilers(parts.shop.build, target));
    }
    step
}

/// The optional dependencies of a platform, which are where packages keep what was compiled before.
fn natives(target: Platform) -> [String; 3] {
    [format!("--cpu={}", target.architecture.node()), "--os=linux".to_owned(), "--libc=glibc".to_owned()]
}

/// pnpm is the version that the lock has; a source that wants another one is told so.
fn strict() -> BTreeMap<String, String> {
    variables([
        ("npm_config_manage_package_manager_versions", "false"),
        ("npm_config_package_manager_strict_version", "true"),
        ("pnpm_config_pm_on_fail", "error"),
    ])
}

/// What node-gyp is told: Node's headers are there, and what addons are compiled for.
fn compilers(build: Platform, target: Platform) -> BTreeMap<String, String> {
    let mut env = variables([
        ("npm_config_nodedir", "/usr/local"),
        ("npm_config_jobs", "max"),
        ("npm_config_arch", target.architecture.node()),
        ("PATH", &format!("{NODE_GYP}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")),
    ]);
    if build != target {
        let gnu = target.architecture.gnu();
        for (name, program) in [("CC", "gcc"), ("CXX", "g++"), ("AR", "ar")] {
            env.insert(name.to_owned(), format!("{gnu}-linux-gnu-{program}"));
        }
    }
    env
}

/// A platform's number in ELF files, and its name there. Spec: the ELF supplement of each architecture.
const fn machine(architecture: Architecture) -> (&'static str, &'static str) {
    match architecture {
        Architecture::Amd64 => ("62", "x86-64"),
        Architecture::Arm64 => ("183", "AArch64"),
        Architecture::Riscv64 => ("243", "RISC-V"),
    }
}

fn add_env(step: &mut Step, env: BTreeMap<String, String>) {
    if let StepKind::Run(run) = &mut step.kind {
        run.env.extend(env);
    }
}
