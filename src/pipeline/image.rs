//! From a recipe to its image in the store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use diag::{Diagnostic, codes};
use engine::{ContextSpec, ImageOutput, Layout, Output, SecretId, SolveOutcome, SolveRequest, Solved, SolvedImage};
use oci::layer::compress::Compression;
use oci::{History, Platform};
use plan::{Build, Epoch, LockedRecipe, Lowered, Plan};
use recipe::{Lock, Name, SourceSpec};
use secrecy::SecretSlice;

use super::bases::Ground;
use super::{Session, bases};
use crate::cli::Failure;
use crate::workspace::{LoadedRecipe, Workspace};

/// The store's name in `oci-layout://` sources.
pub(crate) const STORE_NAME: &str = plan::STORE_LAYOUT;

/// Directories behind local sources, by name.
pub(crate) type Contexts = BTreeMap<String, PathBuf>;

/// What the user says about one build.
#[derive(Clone, Debug, Default)]
pub struct ImageOptions {
    /// How new layers are compressed.
    pub compression: Compression,
    /// Whether every step runs.
    pub no_cache: bool,
    /// Secrets for steps that ask for them.
    pub secrets: BTreeMap<SecretId, SecretSlice<u8>>,
}

/// An image in the store, and the plan it was built from.
#[derive(Clone, Debug)]
pub struct Built {
    /// The plan.
    pub plan: Plan,
    /// Its LLB.
    pub(crate) definition: llb::Definition,
    /// The directories it takes files from.
    pub(crate) contexts: Contexts,
    /// The image.
    pub image: SolvedImage,
}

/// A recipe with everything around it, ready to be planned.
pub(crate) struct Prepared<'a> {
    pub(crate) locked: LockedRecipe<'a>,
    pub(crate) ground: Ground,
    pub(crate) contexts: Contexts,
}

/// Builds a recipe's image.
///
/// # Errors
/// Whatever stands in the way; everything finished stays in the store.
pub async fn build_image(
    session: &Session,
    workspace: &Workspace,
    loaded: &LoadedRecipe,
    lock: &Lock,
    platform: Platform,
    options: &ImageOptions,
) -> Result<Built, Failure> {
    let project = workspace.project()?;
    let ignore = ignore_patterns(loaded)?;
    let locked = LockedRecipe::new(&loaded.recipe, project, lock, ignore)?;
    let prepared = prepare(session, workspace, loaded, locked, lock, platform).await?;
    let (plan, lowered) = lower(session, &prepared, platform)?;
    let output = image_output(&plan, options.compression);
    let mut contexts = prepared.contexts;
    contexts.retain(|name, _| lowered.contexts.contains(name));
    let request = Request { contexts: &contexts, secrets: &options.secrets, no_cache: options.no_cache };
    let epoch = plan.image.epoch;
    let definition = lowered.definition;
    let output = Output::Image(Box::new(output));
    let outcome = solve(session, definition.clone(), platform, epoch, output, request).await?;
    let Solved::Image(image) = outcome.result else { unreachable!("an image was asked for") };
    Ok(Built { plan, definition, contexts, image })
}

/// Builds a base's image, and those below it.
///
/// # Errors
/// As [`build_image`].
pub async fn build_base(
    session: &Session,
    workspace: &Workspace,
    name: &Name,
    lock: &Lock,
    platform: Platform,
) -> Result<Built, Failure> {
    let (plan, lowered) = lower_base(session, workspace, name, lock, platform).await?;
    let output = image_output(&plan, Compression::default());
    let (definition, contexts) = (lowered.definition, Contexts::new());
    let outcome =
        solve_image(session, definition.clone(), &contexts, platform, plan.image.epoch, output, false).await?;
    let Solved::Image(image) = outcome.result else { unreachable!("an image was asked for") };
    Ok(Built { plan, definition, contexts, image })
}

/// The plan and LLB of a base's image. What it stands on is built if it is not there.
///
/// # Errors
/// As [`build_image`].
pub async fn lower_base(
    session: &Session,
    workspace: &Workspace,
    name: &Name,
    lock: &Lock,
    platform: Platform,
) -> Result<(Plan, Lowered), Failure> {
    let bases = plan::locked_base(workspace.project()?, name, platform, lock)?;
    let (base, below) = bases.split_last().expect("a chain holds at least the base asked for");
    let ground = bases::lay_ground(session, lock, below, base.debian()).await?;
    let plan = base.plan(&ground.images, &ground.layers);
    let lowered = plan.lower();
    Ok((plan, lowered))
}

/// The plan and LLB of a recipe's image. Bases are built if they are not there: their digests are part of the graph.
///
/// # Errors
/// As [`build_image`].
pub async fn lower_image(
    session: &Session,
    workspace: &Workspace,
    loaded: &LoadedRecipe,
    lock: &Lock,
    platform: Platform,
) -> Result<(Plan, Lowered), Failure> {
    let project = workspace.project()?;
    let locked = LockedRecipe::new(&loaded.recipe, project, lock, ignore_patterns(loaded)?)?;
    let prepared = prepare(session, workspace, loaded, locked, lock, platform).await?;
    lower(session, &prepared, platform)
}

/// Builds what a recipe stands on, and finds the directories it takes files from.
pub(crate) async fn prepare<'a>(
    session: &Session,
    workspace: &Workspace,
    loaded: &LoadedRecipe,
    locked: LockedRecipe<'a>,
    lock: &Lock,
    platform: Platform,
) -> Result<Prepared<'a>, Failure> {
    let bases = locked.bases(session.build_platform(), platform)?;
    let ground = bases::lay_ground(session, lock, &bases, locked.packages(platform)).await?;
    let directory = loaded.directory.on_disk(session.store())?;
    let mut contexts = Contexts::from([
        ("recipe".to_owned(), directory.clone()),
        ("init".to_owned(), workspace.init_directory(session.store())?),
    ]);
    if let SourceSpec::Path { path, .. } = &loaded.recipe.origin.value {
        let source = directory.join(&path.value);
        if !source.is_dir() {
            let message = format!("the source directory `{}` is not there", workspace.display(&source));
            return Err(Diagnostic::new(codes::recipe::SOURCE_NOT_FOUND, message)
                .label(&loaded.recipe.source, path.span, "named here, relative to the recipe")
                .into());
        }
        contexts.insert("source".to_owned(), source);
    }
    Ok(Prepared { locked, ground, contexts })
}

fn lower(session: &Session, prepared: &Prepared<'_>, platform: Platform) -> Result<(Plan, Lowered), Failure> {
    let epoch = source_date_epoch(session)?.unwrap_or_else(|| prepared.locked.epoch());
    let build = Build { build: session.build_platform(), target: platform, epoch };
    let plan = Plan::image(&prepared.locked, &prepared.ground.images, &prepared.ground.layers, build)?;
    let lowered = plan.lower();
    Ok((plan, lowered))
}

fn source_date_epoch(session: &Session) -> Result<Option<Epoch>, Failure> {
    let Some(text) = &session.settings().variables.source_date_epoch else { return Ok(None) };
    match text.parse::<u32>() {
        Ok(seconds) => Ok(Some(Epoch(i64::from(seconds)))),
        Err(_) => {
            let message = format!("SOURCE_DATE_EPOCH is `{text}`, which is not a number of seconds since 1970");
            Err(Diagnostic::new(codes::cli::SETTINGS, message).into())
        }
    }
}

/// The patterns of a source directory's `.dockerignore`.
fn ignore_patterns(loaded: &LoadedRecipe) -> Result<Vec<String>, Failure> {
    let (SourceSpec::Path { path, .. }, crate::workspace::RecipeDirectory::Disk(directory)) =
        (&loaded.recipe.origin.value, &loaded.directory)
    else {
        return Ok(Vec::new());
    };
    let file = directory.join(&path.value).join(".dockerignore");
    match std::fs::read(&file) {
        Ok(bytes) => Ok(engine::context::parse_ignore_file(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(crate::workspace::WorkspaceError::Read { path: file, source }.into()),
    }
}

/// What the engine is told about the image.
pub(crate) fn image_output(plan: &Plan, compression: Compression) -> ImageOutput {
    let created = plan.image.epoch.to_rfc3339();
    let line = |text: &String| History {
        created: Some(created.clone()),
        created_by: Some(text.clone()),
        comment: Some("clawbuild".to_owned()),
        empty_layer: false,
    };
    ImageOutput {
        compression,
        config: plan.image.config.clone(),
        created: Some(created.clone()),
        author: None,
        history: plan.image.history.iter().map(line).collect(),
        annotations: BTreeMap::new(),
    }
}

struct Request<'a> {
    contexts: &'a Contexts,
    secrets: &'a BTreeMap<SecretId, SecretSlice<u8>>,
    no_cache: bool,
}

async fn solve(
    session: &Session,
    definition: llb::Definition,
    platform: Platform,
    epoch: Epoch,
    output: Output,
    Request { contexts, secrets, no_cache }: Request<'_>,
) -> Result<SolveOutcome, Failure> {
    let contexts = contexts.iter().map(|(name, root)| (name.clone(), ContextSpec { root: root.clone() })).collect();
    let mut all_secrets = session.certificates();
    all_secrets.extend(secrets.iter().map(|(id, value)| (id.clone(), value.clone())));
    let request = SolveRequest {
        definition: Arc::new(definition),
        platform,
        contexts,
        layouts: BTreeMap::from([(STORE_NAME.to_owned(), Layout::Store(session.store().clone()))]),
        secrets: all_secrets,
        agents: BTreeMap::new(),
        cache_from: Vec::new(),
        cache_to: Vec::new(),
        output,
        no_cache,
        source_date_epoch: Some(epoch.0),
    };
    Ok(session.engine().solve(request, session.progress().clone(), session.cancel().clone()).await?)
}

/// Solves for an image, without secrets of the user's.
pub(crate) async fn solve_image(
    session: &Session,
    definition: llb::Definition,
    contexts: &Contexts,
    platform: Platform,
    epoch: Epoch,
    output: ImageOutput,
    no_cache: bool,
) -> Result<SolveOutcome, Failure> {
    let request = Request { contexts, secrets: &BTreeMap::new(), no_cache };
    solve(session, definition, platform, epoch, Output::Image(Box::new(output)), request).await
}

/// Solves for files, without secrets of the user's.
pub(crate) async fn solve_files(
    session: &Session,
    definition: llb::Definition,
    contexts: &Contexts,
    platform: Platform,
    epoch: Epoch,
    output: engine::FilesOutput,
    no_cache: bool,
) -> Result<SolveOutcome, Failure> {
    let request = Request { contexts, secrets: &BTreeMap::new(), no_cache };
    solve(session, definition, platform, epoch, Output::Files(output), request).await
}
