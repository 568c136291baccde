//! A language's own lock file: pinned by digest, resolved in the sandbox when it has to be.

use std::path::{Path, PathBuf};

use diag::{Diagnostic, Source, codes};
use engine::FilesOutput;
use oci::Digest;
use plan::{LockedRecipe, Plan, Project};
use recipe::{Language, Lock, LockedDependencies, Recipe, SourceSpec};

use super::Session;
use super::image;
use super::solve::{SolveOptions, Work};
use crate::cli::Failure;
use crate::workspace::{LoadedRecipe, RecipeDirectory, Workspace, WorkspaceError, write_atomically};

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
    let Some(file) = loaded.recipe.lock_file() else { return Ok(Need::Nothing) };
    let project = workspace.project()?;
    let locked = LockedRecipe::new(&loaded.recipe, project, lock, Vec::new())?;
    let is_own = matches!(loaded.recipe.origin.value, SourceSpec::Path { .. });
    // Only the package manager of a source directory's owner writes its lock file.
    let may_resolve = !is_own || matches!(loaded.recipe.build.language.value, Language::Node(_));
    if update && may_resolve {
        return Ok(Need::Resolve { reason: "asked to".to_owned() });
    }
    let pinned = lock.dependencies(&loaded.recipe.name.value);
    let Some(found) = read(loaded)? else {
        if may_resolve {
            return Ok(Need::Resolve { reason: format!("`{file}` is not there") });
        }
        let message = format!("the source has no `{file}`");
        return Err(Diagnostic::new(codes::lock::DEPENDENCIES, message)
            .label(&loaded.recipe.source, loaded.recipe.origin.span, "looked for in this source")
            .help(match &loaded.recipe.build.language.value {
                Language::Rust(_) => "run `cargo generate-lockfile` there, and commit the file",
                _ => "write it, and commit it",
            })
            .into());
    };
    // What cannot be used is not pinned.
    let locked = locked.with_lock_file(&lock_file_text(file, &found))?;
    let found = entry(&locked, Digest::of(found));
    Ok(match pinned {
        Some(pinned) if *pinned == found => Need::Nothing,
        // The program's own closure is only good for the version it was resolved for; a source directory brings its own.
        Some(pinned) if pinned.root != found.root => {
            Need::Resolve { reason: format!("it was resolved for {}, the recipe is at {}", pinned.root, found.root) }
        }
        Some(_) | None => Need::Record(found),
    })
}

/// A recipe under a lock that answers all it asks, with the files its plan is made from.
///
/// # Errors
/// Mistakes in the recipe or its files, a lock that does not answer.
pub(crate) fn locked<'a>(
    loaded: &'a LoadedRecipe,
    project: &'a Project,
    lock: &'a Lock,
) -> Result<LockedRecipe<'a>, Failure> {
    let locked = loaded.locked(project, lock, image::ignore_patterns(loaded)?)?;
    match (loaded.recipe.lock_file(), read(loaded)?) {
        (Some(file), Some(bytes)) => Ok(locked.with_lock_file(&lock_file_text(file, &bytes))?),
        (None, _) | (Some(_), None) => Ok(locked),
    }
}

fn lock_file_text(file: &str, bytes: &[u8]) -> Source {
    Source::new(file, String::from_utf8_lossy(bytes).into_owned())
}

/// What the lock has for a recipe whose file has this digest.
pub(crate) fn entry(locked: &LockedRecipe<'_>, sha256: Digest) -> LockedDependencies {
    LockedDependencies {
        target: locked.recipe.name.value.to_string(),
        manager: locked.package_manager(),
        root: locked.dependency_root(),
        file: relative_file(locked.recipe).unwrap_or_default(),
        sha256,
    }
}

/// The file, relative to the recipe's directory.
fn relative_file(recipe: &Recipe) -> Option<String> {
    let file = recipe.lock_file()?;
    Some(match &recipe.origin.value {
        SourceSpec::Path { path, .. } => Path::new(&path.value).join(file).display().to_string(),
        SourceSpec::Release { .. } | SourceSpec::Git { .. } | SourceSpec::Archive { .. } => file.to_owned(),
    })
}

/// The file as it lies on disk or in the program.
fn read(loaded: &LoadedRecipe) -> Result<Option<Vec<u8>>, Failure> {
    let Some(file) = relative_file(&loaded.recipe) else { return Ok(None) };
    let path = match &loaded.directory {
        RecipeDirectory::Embedded(prefix) => {
            return Ok(crate::workspace::embedded_bytes(&format!("{prefix}{file}")).map(<[u8]>::to_vec));
        }
        RecipeDirectory::Disk(directory) => directory.join(file),
    };
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
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
    let plan = Plan::resolution(&prepared.locked, &prepared.ground, platform)?;
    let plan = plan.expect("only recipes whose language has a lock file come here");
    let lowered = plan.lower();
    let out: PathBuf = session.scratch().join("resolution");
    let work = Work::of(&plan, lowered, prepared.contexts.clone());
    let options = SolveOptions { no_cache: true, ..SolveOptions::default() };
    work.files(session, FilesOutput::Directory(out.clone()), &options).await?;
    let file = loaded.recipe.lock_file().expect("only languages with one come here");
    let path = out.join(file);
    let text = std::fs::read(&path).map_err(|source| WorkspaceError::Read { path, source })?;
    let beside = relative_file(&loaded.recipe).expect("only languages with one come here");
    write_atomically(&directory.join(beside), &text)?;
    Ok(entry(&prepared.locked, Digest::of(&text)))
}
