//! Node.js programs that are packages of the npm registry.

use std::collections::BTreeMap;

use oci::Platform;
use recipe::{ContainerPath, Node, SourceSpec};

use super::{FETCH, Parts, STORE, collected, lock_file, omitted};
use crate::source::LockedSource;
use crate::stage::{Stages, path};
use crate::{Context, Copy, CopyFrom, FileAction, Mount, MountKind, StageId, Step, StepKind};

/// The stage whose `/pnpm-lock.yaml` is the closure of the package's dependencies, resolved now.
pub(super) fn resolution(parts: &Parts<'_>, stages: &mut Stages) -> StageId {
    let directory = path("/resolve");
    let resolve = parts.shop.stage(
        "resolution",
        parts.shop.toolchain(),
        vec![
            parts.shop.files("manifest", manifest(parts, None, &directory)),
            parts.run("pnpm install --lockfile-only", &directory, true, &["install", "--lockfile-only"]),
        ],
    );
    let resolved = stages.add(resolve);
    lock_file(parts, stages, resolved, &directory)
}

/// The stages that fetch and install, and the steps that put the result into the image.
pub(super) fn build(parts: &Parts<'_>, stages: &mut Stages, package: &str) -> Vec<Step> {
    let (shop, node) = (parts.shop, parts.node);
    let files = |directory: &ContainerPath| {
        let mut files = manifest(parts, Some(shop.target), directory);
        files.push(beside("pnpm-lock.yaml", directory));
        files
    };
    let fetch = path(FETCH);
    let store = format!("--store-dir={STORE}");
    let fetched = stages.add(shop.stage(
        "dependencies",
        shop.toolchain(),
        vec![
            shop.files("manifest", files(&fetch)),
            parts.run("pnpm fetch", &fetch, true, &["fetch", "--prod", &store]),
        ],
    ));
    let install = ["install", "--frozen-lockfile", "--offline", "--frozen-store", &store, "--prod"];
    let mut install = parts.run("pnpm install", &node.prefix, false, &install);
    if let StepKind::Run(run) = &mut install.kind {
        let kind = MountKind::Stage { stage: fetched, path: path(STORE) };
        run.mounts.push(Mount { target: path(STORE), kind });
    }
    let steps = vec![shop.files("manifest", files(&node.prefix)), install];
    let installed = stages.add(shop.stage("build", shop.toolchain(), steps));
    collect(parts, installed, package)
}

/// Two layers: dependencies change less often than the program.
fn collect(parts: &Parts<'_>, installed: StageId, package: &str) -> Vec<Step> {
    let modules = parts.node.prefix.join("node_modules");
    let own = modules.join(package);
    let own_omitted = omitted(parts.node).into_iter().filter_map(|pattern| below(package, &pattern)).collect();
    let rest = omitted(parts.node).into_iter().chain([package.to_owned()]).collect();
    vec![
        parts.shop.files("dependencies", vec![collected(installed, &modules, rest)]),
        parts.shop.files(package, vec![collected(installed, &own, own_omitted)]),
    ]
}

/// What a pattern relative to `node_modules` says about the inside of one package; `None` if nothing.
fn below(package: &str, pattern: &str) -> Option<String> {
    let (negation, plain) = pattern.strip_prefix('!').map_or(("", pattern), |plain| ("!", plain));
    let inside = if plain.starts_with("**/") { plain } else { plain.strip_prefix(package)?.strip_prefix('/')? };
    Some(format!("{negation}{inside}"))
}

/// A file beside the recipe.
fn beside(name: &str, to: &ContainerPath) -> FileAction {
    let context = Context { name: "recipe".to_owned(), include: vec![name.to_owned()], exclude: Vec::new() };
    FileAction::Copy(Copy { into: true, ..Copy::new(CopyFrom::Context(context), to.clone()) })
}

/// `package.json` and pnpm's settings for a source that is a package of the npm registry.
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
