//! `--source NAME=PLACE`: the source of a recipe from elsewhere, in one run. What is pinned stays pinned.

use std::path::Path;

use clap::Args;
use diag::{Diagnostic, codes};
use recipe::{Lock, Registry, ReleaseRequest, SourceSpec};
use url::Url;

use super::Failure;
use crate::settings::Settings;
use crate::workspace::{LoadedRecipe, Target, Workspace};

/// Where sources come from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Sources {
    /// Fetch a recipe's source from here in this run: a repository or an archive, with what the lock pins in it
    #[arg(long = "source", value_name = "NAME=PATH|URL")]
    sources: Vec<String>,
}

/// What stands in for a source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Repository,
    Archive,
}

impl Sources {
    /// The settings with the sources of these targets replaced.
    ///
    /// # Errors
    /// A name that is no target's, a place that holds no such source, a source that cannot be replaced.
    pub(super) fn apply(&self, settings: &Settings, targets: &[Target]) -> Result<Settings, Failure> {
        let recipes: Vec<(&LoadedRecipe, &Workspace)> = targets
            .iter()
            .filter_map(|target| match target {
                Target::Recipe { loaded, workspace } => Some((&**loaded, workspace)),
                Target::Base { .. } => None,
            })
            .collect();
        self.apply_to(settings, &recipes)
    }

    /// As [`Sources::apply`].
    ///
    /// # Errors
    /// As [`Sources::apply`].
    pub(super) fn apply_to(
        &self,
        settings: &Settings,
        recipes: &[(&LoadedRecipe, &Workspace)],
    ) -> Result<Settings, Failure> {
        let mut settings = settings.clone();
        for word in &self.sources {
            let (name, place) = match word.split_once('=') {
                Some((name, place)) if !name.is_empty() && !place.is_empty() => (name, place),
                _ => {
                    let message = format!("`--source {word}` is not NAME=PATH or NAME=URL");
                    return Err(Diagnostic::new(codes::cli::USAGE, message).into());
                }
            };
            let found = recipes.iter().find(|(loaded, _)| loaded.recipe.name.value.as_str() == name);
            let Some((loaded, workspace)) = found else { return Err(unknown(name, recipes)) };
            let (address, kind) = address(loaded, workspace)?;
            settings.sources.insert(address, replacement(name, place, kind)?);
        }
        Ok(settings)
    }
}

fn unknown(name: &str, recipes: &[(&LoadedRecipe, &Workspace)]) -> Failure {
    let known = recipes.iter().map(|(loaded, _)| loaded.recipe.name.value.as_str());
    let help = match diag::did_you_mean(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name a recipe that this command is about".to_owned(),
    };
    let message = format!("`--source` names `{name}`, which is no recipe among the targets");
    Diagnostic::new(codes::cli::SOURCE, message).help(help).into()
}

/// What the recipe or the lock says where its source lies.
fn address(loaded: &LoadedRecipe, workspace: &Workspace) -> Result<(String, Kind), Failure> {
    let recipe = &loaded.recipe;
    let refused = |what: &str, help: &str| {
        Diagnostic::new(codes::cli::SOURCE, format!("the source of `{}` {what}", recipe.name.value))
            .label(&recipe.source, recipe.origin.span, "this one")
            .help(help.to_owned())
    };
    match &recipe.origin.value {
        SourceSpec::Git { url, .. } => Ok((url.value.clone(), Kind::Repository)),
        SourceSpec::Archive { url, .. } => Ok((url.value.clone(), Kind::Archive)),
        SourceSpec::Path { .. } => {
            Err(refused("is a directory of its own", "change `path` in the recipe, or build there").into())
        }
        SourceSpec::Release { registry: Registry::Npm, .. } => {
            let help = "send requests for registry.npmjs.org elsewhere with `[mirrors]`";
            Err(refused("is installed by pnpm, with all it depends on", help).into())
        }
        SourceSpec::Release { registry, package, version } => {
            let request = ReleaseRequest {
                registry: *registry,
                package: package.value.clone(),
                requirement: version.value.clone(),
                architecture: None,
                place: (recipe.source.clone(), version.span),
            };
            let (lock, _): (Lock, _) = workspace.lock()?;
            match lock.release(&request) {
                Ok(locked) => Ok((locked.url.clone(), Kind::Archive)),
                Err(_) => Err(refused("is not locked yet", "run `clawbuild lock` once without `--source`").into()),
            }
        }
    }
}

fn replacement(name: &str, place: &str, kind: Kind) -> Result<Url, Failure> {
    let refused = |why: String| {
        let help = match kind {
            Kind::Repository => "give a git repository, bare or not: its path, or its URL",
            Kind::Archive => "give the archive that the lock pins: its path, or its URL",
        };
        Failure::from(Diagnostic::new(codes::cli::SOURCE, format!("the source of `{name}` {why}")).help(help))
    };
    let url = match Url::parse(place) {
        Ok(url) => url,
        Err(_) => {
            let path = std::path::absolute(place).map_err(|error| refused(format!("cannot be found: {error}")))?;
            Url::from_file_path(&path).map_err(|()| refused(format!("has no such path: `{place}`")))?
        }
    };
    let schemes: &[&str] = match kind {
        Kind::Repository => &["file", "https", "http", "ssh", "git"],
        Kind::Archive => &["file", "https", "http"],
    };
    if !schemes.contains(&url.scheme()) {
        return Err(refused(format!("cannot come from a `{}:` URL", url.scheme())));
    }
    if let Ok(path) = url.to_file_path() {
        match kind {
            _ if !path.exists() => return Err(refused(format!("is not at `{}`", path.display()))),
            Kind::Repository if !is_repository(&path) => {
                return Err(refused(format!("is to come from `{}`, which is no git repository", path.display())));
            }
            Kind::Archive if !path.is_file() => {
                return Err(refused(format!("is to come from `{}`, which is no file", path.display())));
            }
            Kind::Repository | Kind::Archive => {}
        }
    }
    Ok(url)
}

/// Spec: gitrepository-layout(5).
fn is_repository(path: &Path) -> bool {
    path.join(".git").exists() || (path.join("HEAD").is_file() && path.join("objects").is_dir())
}
