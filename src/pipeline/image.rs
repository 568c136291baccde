//! From a recipe to its image in the store.

use std::collections::BTreeMap;

use diag::{Diagnostic, codes};
use engine::{ImageOutput, SolvedImage};
use oci::layer::compress::Compression;
use oci::{History, Platform};
use plan::{Build, Epoch, Ground, LockedRecipe, Lowered, Plan};
use recipe::{Lock, Name, SourceSpec};

use super::bases::Own;
use super::solve::{Contexts, SolveOptions, Work};
use super::{Run, Session, bases, dependencies};
use crate::cli::Failure;
use crate::workspace::{LoadedRecipe, Workspace};

/// What the user says about one build.
#[derive(Clone, Debug, Default)]
pub struct ImageOptions {
    /// How new layers are compressed.
    pub compression: Compression,
    /// What steps are given.
    pub solve: SolveOptions,
}

/// An image in the store, and the plan it was built from.
#[derive(Clone, Debug)]
pub struct Built {
    /// The plan.
    pub plan: Plan,
    /// Its graph.
    pub(crate) work: Work,
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
    let locked = dependencies::locked(loaded, project, lock)?;
    let prepared = prepare(session, workspace, loaded, locked, lock, platform).await?;
    let (plan, lowered) = lower(session, &prepared, platform).await?;
    let output = image_output(&plan, options.compression);
    let work = Work::of(&plan, lowered, prepared.contexts);
    let image = work.image(session, output, &options.solve).await?;
    Ok(Built { plan, work, image })
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
    let work = Work::of(&plan, lowered, Contexts::new());
    let image = work.image(session, output, &SolveOptions::default()).await?;
    Ok(Built { plan, work, image })
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
    let own = Own { packages: base.debian().into_iter().collect(), archives: base.archives(), ..Own::default() };
    let ground = bases::lay_ground(session, lock, below, own).await?;
    let plan = base.plan(&ground);
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
    let locked = dependencies::locked(loaded, project, lock)?;
    let prepared = prepare(session, workspace, loaded, locked, lock, platform).await?;
    lower(session, &prepared, platform).await
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
    if let Some(url) = locked.source_archive()
        && session.settings().sources.contains_key(url)
        && session.embedded().await?.is_none()
    {
        let message = "only the embedded engine takes an archive from elsewhere: others download it by themselves";
        return Err(Diagnostic::new(codes::cli::SOURCE, message)
            .label(&loaded.recipe.source, loaded.recipe.origin.span, "of this source")
            .help("add `--engine embedded`, or leave `--source` out")
            .into());
    }
    let bases = locked.bases(session.build_platform(platform).await?, platform)?;
    let ground = bases::lay_ground(session, lock, &bases, Own::of(&locked, platform)).await?;
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

async fn lower(session: &Session, prepared: &Prepared<'_>, platform: Platform) -> Result<(Plan, Lowered), Failure> {
    let epoch = source_date_epoch(session)?.unwrap_or_else(|| prepared.locked.epoch());
    let build = Build { build: session.build_platform(platform).await?, target: platform, epoch };
    let plan = Plan::image(&prepared.locked, &prepared.ground, build)?;
    let lowered = plan.lower();
    Ok((plan, lowered))
}

fn source_date_epoch(session: &Run) -> Result<Option<Epoch>, Failure> {
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
pub(crate) fn ignore_patterns(loaded: &LoadedRecipe) -> Result<Vec<String>, Failure> {
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
