//! A language's own lock file: pinned by digest, resolved in the sandbox when it has to be.

use std::path::{Path, PathBuf};

use diag::{Diagnostic, codes};
use engine::FilesOutput;
use oci::Digest;
use plan::{LockedRecipe, Plan};
use recipe::{Language, Lock, LockedDependencies, Recipe, SourceSpec};

use super::Session;
use super::image;
use super::solve::{SolveOptions, Work};
use crate::cli::Failure;
use crate::workspace::{LoadedRecipe, RecipeDirectory, Workspace, WorkspaceError, write_atomically};

/// The file pnpm writes.
pub(crate) const FILE: &str = "pnpm-lock.yaml";

/// Why a recipe's dependencies have to be resolved.
pub(crate) enum Need {
    /// They do not.
    Nothing,
    /// The file is as it should be, only the lock does not know it.
    Record(LockedDependencies),
    /// The file is missing, or belongs to another version of the program.
    Resolve {
        /// Why, in words.
        reason: String,
    },
}

/// What a recipe's dependencies need. `update` resolves even what is pinned.
pub(crate) fn need(workspace: &Workspace, loaded: &LoadedRecipe, lock: &Lock, update: bool) -> Result<Need, Failure> {
    let Language::Node { .. } = &loaded.recipe.build.language.value else { return Ok(Need::Nothing) };
    let project = workspace.project()?;
    let locked = LockedRecipe::new(&loaded.recipe, project, lock, Vec::new())?;
    if update {
        return Ok(Need::Resolve { reason: "asked to".to_owned() });
    }
    let pinned = lock.dependencies(&loaded.recipe.name.value);
    let Some(found) = read(loaded)? else { return Ok(Need::Resolve { reason: format!("`{FILE}` is not there") }) };
    let found = entry(&locked, found);
    Ok(match pinned {
        Some(pinned) if *pinned == found => Need::Nothing,
        // The program's own closure is only good for the version it was resolved for; a source directory brings its own.
        Some(pinned) if pinned.root != found.root => {
            Need::Resolve { reason: format!("it was resolved for {}, the recipe is at {}", pinned.root, found.root) }
        }
        Some(_) | None => Need::Record(found),
    })
}

/// What the lock has for a recipe whose file has this digest.
pub(crate) fn entry(locked: &LockedRecipe<'_>, sha256: Digest) -> LockedDependencies {
    LockedDependencies {
        target: locked.recipe.name.value.to_string(),
        manager: locked.package_manager(),
        root: locked.dependency_root(),
        file: relative_file(locked.recipe),
        sha256,
    }
}

/// The file, relative to the recipe's directory.
fn relative_file(recipe: &Recipe) -> String {
    match &recipe.origin.value {
        SourceSpec::Npm { .. } => FILE.to_owned(),
        SourceSpec::Path { path, .. } => Path::new(&path.value).join(FILE).display().to_string(),
    }
}

/// The digest of the file as it lies on disk or in the program.
fn read(loaded: &LoadedRecipe) -> Result<Option<Digest>, Failure> {
    let path = match &loaded.directory {
        RecipeDirectory::Embedded(prefix) => return Ok(crate::workspace::embedded_digest(&format!("{prefix}{FILE}"))),
        RecipeDirectory::Disk(directory) => directory.join(relative_file(&loaded.recipe)),
    };
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(Digest::of(bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(WorkspaceError::Read { path, source }.into()),
    }
}

/// Resolves the dependencies with the package manager itself, in the sandbox, and writes its file beside the recipe.
pub(crate) async fn resolve(
    session: &Session,
    workspace: &Workspace,
    loaded: &LoadedRecipe,
    lock: &Lock,
) -> Result<LockedDependencies, Failure> {
    let RecipeDirectory::Disk(directory) = &loaded.directory else {
        let message =
            format!("the dependencies of the built-in recipe `{}` cannot be resolved anew", loaded.recipe.name.value);
        return Err(Diagnostic::new(codes::lock::DEPENDENCIES, message)
            .help("copy the recipe into `runtimes/` of a directory of your own and run `clawbuild lock` there")
            .into());
    };
    let project = workspace.project()?;
    let locked = LockedRecipe::new(&loaded.recipe, project, lock, Vec::new())?;
    let platform = session.platform().await?;
    let prepared = image::prepare(session, workspace, loaded, locked, lock, platform).await?;
    let plan = Plan::resolution(&prepared.locked, &prepared.ground.images, platform)?;
    let plan = plan.expect("only recipes whose language has a lock file come here");
    let lowered = plan.lower();
    let out: PathBuf = session.scratch().join("resolution");
    let work = Work::of(&plan, lowered, prepared.contexts.clone());
    let options = SolveOptions { no_cache: true, ..SolveOptions::default() };
    work.files(session, FilesOutput::Directory(out.clone()), &options).await?;
    let path = out.join(FILE);
    let text = std::fs::read(&path).map_err(|source| WorkspaceError::Read { path, source })?;
    write_atomically(&directory.join(relative_file(&loaded.recipe)), &text)?;
    Ok(entry(&prepared.locked, Digest::of(&text)))
}
