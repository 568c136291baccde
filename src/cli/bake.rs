//! `clawbuild graph --format bake`: a definition for `docker buildx bake`.

use std::path::{Path, PathBuf};

use diag::{Diagnostic, codes};
use oci::{Platform, Reference};
use recipe::{Recipe, SourceSpec, StepKind, Tier};
use serde_json::{Map, Value, json};

use super::arguments::Graph;
use crate::cli::Failure;
use crate::pipeline::{ImageName, Locking, Naming, ensure_locked};
use crate::settings::Settings;
use crate::ui::Printer;
use crate::workspace::{LoadedRecipe, RecipeDirectory, Target, Workspace};

/// Prints the definition of the targets. Spec: Docker `docs/build/bake/reference.md`; JSON, which every buildx reads.
pub(super) fn bake(settings: &Settings, arguments: &Graph, printer: &Printer) -> Result<(), Failure> {
    let here = Workspace::find()?;
    let naming = Naming { github_owner: settings.variables.github_owner.clone(), ..Naming::default() };
    let locking = if settings.locked { Locking::Locked } else { Locking::Missing };
    let mut found = Vec::new();
    for word in &arguments.targets {
        for target in Target::find_all(&here, word)? {
            let Target::Recipe { loaded, workspace } = target else {
                let message = format!("`{word}` is a base, which only clawbuild assembles");
                return Err(Diagnostic::new(codes::cli::USAGE, message)
                    .help("name recipes; what they stand on is taken from a registry: `clawbuild publish RECIPE`")
                    .into());
            };
            let place = Place::of(arguments, &workspace, &loaded)?;
            found.push((loaded, workspace, place));
        }
    }
    let around: Vec<_> = found.iter().map(|(loaded, workspace, _)| (&**loaded, workspace)).collect();
    let settings = &arguments.sources.apply_to(settings, &around)?;
    let locks = super::run_building(settings, printer, None, async |session| {
        let mut locks = Vec::new();
        for (loaded, workspace, _) in &found {
            let (lock, _) = ensure_locked(session, workspace, &[loaded], plan::Requests::default(), &locking).await?;
            locks.push(lock);
        }
        Ok(locks)
    })?;
    let mut targets = Map::new();
    for ((loaded, workspace, place), lock) in found.iter().zip(&locks) {
        let version = loaded.locked(workspace.project()?, lock, Vec::new())?.version();
        let recipe = &loaded.recipe;
        let repository = recipe.image.repository.as_ref().map(|repository| &repository.value);
        let suffix = recipe.image.naming.suffix(&loaded.tier);
        let name = ImageName::named(&recipe.name.value, &suffix, &version, repository, &naming)?;
        let image = recipe.target(&loaded.tier);
        let mut definition = target(arguments, workspace, recipe, place, &name);
        if loaded.tier != Tier::Runtime {
            definition["target"] = image.to_string().into();
        }
        targets.insert(image.component(), definition);
    }
    let names: Vec<&String> = targets.keys().collect();
    let definition = json!({ "group": { "default": { "targets": names } }, "target": targets });
    printer.data(format_args!("{definition:#}\n"));
    Ok(())
}

/// Where a recipe lies, as buildx has to know.
struct Place {
    directory: PathBuf,
    /// The recipe itself, relative to the workspace.
    dockerfile: String,
}

impl Place {
    /// # Errors
    /// The recipe is not on disk, or nobody says what builds it.
    fn of(arguments: &Graph, workspace: &Workspace, loaded: &LoadedRecipe) -> Result<Self, Failure> {
        let recipe = &loaded.recipe;
        let RecipeDirectory::Disk(directory) = &loaded.directory else {
            let message =
                format!("the recipe `{}` lies in clawbuild itself, where buildx cannot read it", recipe.name.value);
            return Err(Diagnostic::new(codes::cli::USAGE, message)
                .help("copy it into `runtimes/` of a directory of your own")
                .into());
        };
        if arguments.frontend.is_none() && !names_frontend(recipe) {
            let start = diag::Span::new(0..recipe.source.text().find('\n').unwrap_or(0));
            let message = format!("the recipe `{}` does not say which frontend builds it", recipe.name.value);
            return Err(Diagnostic::new(codes::cli::USAGE, message)
                .label(&recipe.source, start, "`# syntax=REGISTRY/NAME:TAG` belongs into the first line")
                .help("or name it here: `--frontend REGISTRY/NAME:TAG`")
                .into());
        }
        let file = directory.join(Path::new(recipe.source.name()).file_name().unwrap_or_default());
        let dockerfile = file.strip_prefix(workspace.root()).unwrap_or(&file).display().to_string();
        Ok(Self { directory: directory.clone(), dockerfile })
    }
}

fn target(arguments: &Graph, workspace: &Workspace, recipe: &Recipe, place: &Place, name: &ImageName) -> Value {
    let context = match workspace.display(workspace.root()) {
        empty if empty.is_empty() => ".".to_owned(),
        shown => shown,
    };
    let own: Vec<Platform> = recipe.platforms.iter().map(|platform| platform.value).collect();
    let platforms = arguments.platform.map_or(own, |platform| vec![platform]);
    let mut target = json!({
        "context": context,
        "dockerfile": place.dockerfile,
        "platforms": platforms.iter().map(Platform::to_string).collect::<Vec<_>>(),
        "tags": name.references().iter().map(Reference::familiar).collect::<Vec<_>>(),
        // Times are the recipe's own, as in every image clawbuild makes; an attestation is no image.
        "output": ["type=image,rewrite-timestamp=true"],
        "attest": ["type=provenance,disabled=true"],
    });
    if let Some(frontend) = &arguments.frontend {
        target["args"] = json!({ "BUILDKIT_SYNTAX": frontend.familiar() });
    }
    let secrets = secrets(recipe);
    if !secrets.is_empty() {
        target["secret"] = secrets.into_iter().map(|name| Value::from(format!("id={name}"))).collect();
    }
    if let SourceSpec::Path { path, .. } = &recipe.origin.value
        && path.value.split('/').any(|part| part == "..")
    {
        // Clients hand over the recipe's directory without saying where it lies.
        target["contexts"] = json!({ "source": workspace.display(&place.directory.join(&path.value)) });
    }
    target
}

/// Whether the recipe's first line says what builds it. Spec: BuildKit `frontend/dockerfile/parser/directives.go`.
fn names_frontend(recipe: &Recipe) -> bool {
    let first = recipe.source.text().lines().next().unwrap_or_default();
    let directive = first.strip_prefix('#').and_then(|rest| rest.split_once('='));
    directive.is_some_and(|(key, value)| key.trim().eq_ignore_ascii_case("syntax") && !value.trim().is_empty())
}

/// The names of the secrets its steps ask for.
fn secrets(recipe: &Recipe) -> Vec<String> {
    let steps = recipe.stages.iter().flat_map(|stage| &stage.steps);
    let mut names: Vec<String> = steps
        .filter_map(|step| match &step.kind.value {
            StepKind::Run { secrets, .. } => Some(secrets),
            _ => None,
        })
        .flatten()
        .map(|name| name.value.to_string())
        .collect();
    names.sort();
    names.dedup();
    names
}
