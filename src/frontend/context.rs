//! What the build context holds: the recipe and what lies beside it, the bases, the lock.

use std::collections::{BTreeMap, BTreeSet};

use buildkit::gateway::Gateway;
use diag::{Diagnostic, Source, Span, codes, did_you_mean};
use oci::Digest;
use plan::{ContextPlace, LockedRecipe, Project};
use recipe::{Config, Language, Lock, Recipe, SourceSpec, Tier};

use super::directory::{Directory, Files, resolve};
use super::options::Options;
use super::report::Stop;
use crate::pipeline::locked_dependencies;
use crate::workspace::{AGENTS, LOCK_FILE, RECIPE_FILE, WorkspaceError, embedded_files, project_of};

/// Everything a plan is made from.
pub(super) struct Inputs {
    pub(super) recipe: Recipe,
    pub(super) project: Project,
    pub(super) lock: Lock,
    /// Patterns of the source directory's `.dockerignore`.
    pub(super) ignore: Vec<String>,
    /// Where the directories are that plans name.
    pub(super) contexts: BTreeMap<String, ContextPlace>,
    /// The language's own lock file, where there is one.
    dependencies: Option<Vec<u8>>,
    /// The vertex that loaded the recipe.
    pub(super) vertex: Digest,
    /// Which of the recipe's images is asked for.
    pub(super) tier: Tier,
    /// The baked default of the configuration, where the tier changes it.
    config: Option<String>,
}

/// Reads it all.
pub(super) async fn read(gateway: &Gateway, options: &Options) -> Result<Inputs, Stop> {
    let main = Directory::main(gateway, options).await?;
    let around = match (&options.recipe_directory, &options.remote) {
        (Some(name), _) => Directory::local(options, name),
        (None, None) => Directory::local(options, "dockerfile"),
        (None, Some(_)) => main.clone(),
    };
    let place = resolve("", options.filename.trim_start_matches('/'));
    let Some(filename) = place.filter(|path| !path.is_empty()) else {
        return Err(missing(format!("`{}` is no path of a recipe in the build context", options.filename)));
    };
    let directory = filename.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned();
    let beside = |file: &str| resolve(&directory, file).expect("it lies beside the recipe");
    let agents = beside(AGENTS);
    let patterns: Vec<String> =
        [filename.clone(), format!("{agents}/*.toml")].into_iter().chain(Language::LOCK_FILES.map(beside)).collect();
    let (recipe_files, main_files) = futures::future::try_join(
        around.files(gateway, format!("load recipe from {filename}"), &patterns),
        main.files(gateway, format!("load {LOCK_FILE} and bases"), &main_patterns()),
    )
    .await?;
    let Some(text) = recipe_files.source(&filename).await? else {
        return Err(missing(format!("there is no recipe `{filename}` in the build context")));
    };
    let mut recipe = Recipe::parse(&text).map_err(WorkspaceError::from)?;
    for name in recipe_files.names(&agents).await? {
        if let Some(stem) = name.strip_suffix(".toml")
            && let Some(source) = recipe_files.source(&format!("{agents}/{name}")).await?
        {
            recipe.add_agent(stem, &source).map_err(WorkspaceError::from)?;
        }
    }
    let tier = tier(&recipe, options.target.as_deref())?;
    let project = project(&main_files).await?;
    let lock = lock(&main_files, &recipe).await?;
    let own = around.join(&directory);
    let mut contexts =
        BTreeMap::from([("recipe".to_owned(), own.place()), ("init".to_owned(), init(&main, &main_files).await?)]);
    for name in ["recipe", "init"] {
        if let Some(given) = given(options, name)? {
            contexts.insert(name.to_owned(), given.place());
        }
    }
    let config = match recipe.changed_config(&tier) {
        Some(config) => Some(default_of(gateway, &around, &directory, &recipe, config).await?),
        None => None,
    };
    let vertex = recipe_files.vertex;
    let mut inputs =
        Inputs { project, lock, ignore: Vec::new(), contexts, dependencies: None, vertex, tier, config, recipe };
    let lock_file = inputs.recipe.lock_file();
    match &inputs.recipe.origin.value {
        SourceSpec::Release { .. } | SourceSpec::Git { .. } | SourceSpec::Archive { .. } => {
            if let Some(file) = lock_file {
                inputs.dependencies = recipe_files.bytes(&beside(file)).await?;
            }
        }
        SourceSpec::Path { path, .. } => {
            let source = match given(options, "source")? {
                Some(given) => given,
                None => match resolve(&directory, &path.value) {
                    Some(inside) => around.join(&inside),
                    None => outside(gateway, &main, &filename, &inputs.recipe, &path.value, path.span).await?,
                },
            };
            let patterns: Vec<String> = [".dockerignore"].into_iter().chain(lock_file).map(str::to_owned).collect();
            let files = source.files(gateway, "load .dockerignore of the source".to_owned(), &patterns).await?;
            if let Some(file) = lock_file {
                inputs.dependencies = files.bytes(file).await?;
            }
            let ignore = files.bytes(".dockerignore").await?.unwrap_or_default();
            inputs.ignore = engine::context::parse_ignore_file(&String::from_utf8_lossy(&ignore));
            inputs.contexts.insert("source".to_owned(), source.place());
        }
    }
    options.check_contexts(&inputs.names())?;
    Ok(inputs)
}

/// The image a target names: `:PROFILE` or `@AGENT`, with or without the recipe's name. Other targets are stages of the
/// runtime's image.
fn tier(recipe: &Recipe, target: Option<&str>) -> Result<Tier, Stop> {
    let Some(target) = target else { return Ok(Tier::Runtime) };
    let short = target.strip_prefix(recipe.name.value.as_str()).unwrap_or(target);
    if !short.starts_with([':', '@']) {
        return Ok(Tier::Runtime);
    }
    let word = |tier: &Tier| recipe.target(tier).to_string();
    let full = format!("{}{short}", recipe.name.value);
    recipe.tiers().find(|tier| word(tier) == full).ok_or_else(|| {
        let known: Vec<String> = recipe.tiers().map(|tier| word(&tier)).collect();
        let diagnostic = Diagnostic::new(codes::frontend::OPTION, format!("there is no image `{full}`"));
        Stop::from(match did_you_mean(&full, known.iter().map(String::as_str)) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help(format!("images: {}", known.join(", "))),
        })
    })
}

/// The baked default of a configuration, which lies beside the recipe.
async fn default_of(
    gateway: &Gateway,
    around: &Directory,
    directory: &str,
    recipe: &Recipe,
    config: &Config,
) -> Result<String, Stop> {
    let found = match resolve(directory, &config.file.value) {
        Some(path) => {
            let files = around.files(gateway, format!("load {path}"), std::slice::from_ref(&path)).await?;
            files.source(&path).await?
        }
        None => None,
    };
    found.map(|source| source.text().to_owned()).ok_or_else(|| {
        let message = format!("`{}` is not beside the recipe", config.file.value);
        let diagnostic = Diagnostic::new(codes::frontend::CONTEXT, message);
        Stop::from(diagnostic.label(&recipe.source, config.file.span, "named here"))
    })
}

fn missing(message: String) -> Stop {
    Stop::from(
        Diagnostic::new(codes::frontend::CONTEXT, message)
            .help("name the recipe: `docker buildx build -f RECIPE DIRECTORY`, or `--opt filename=RECIPE`"),
    )
}

/// What is read of the main directory.
fn main_patterns() -> Vec<String> {
    [LOCK_FILE, "base/*.toml", "base/init/src/main.rs"].map(str::to_owned).to_vec()
}

async fn project(files: &Files<'_>) -> Result<Project, Stop> {
    let mut own = Vec::new();
    for name in files.names("base").await? {
        if let Some(stem) = name.strip_suffix(".toml")
            && let Some(source) = files.source(&format!("base/{name}")).await?
        {
            own.push((stem.to_owned(), source));
        }
    }
    Ok(project_of(own)?)
}

async fn lock(files: &Files<'_>, recipe: &Recipe) -> Result<Lock, Stop> {
    match files.source(LOCK_FILE).await? {
        Some(source) => Ok(Lock::parse(&source).map_err(|error| WorkspaceError::Lock(Box::new(error)))?),
        None => Err(Stop::from(
            Diagnostic::new(codes::lock::MISSING, format!("the build context has no {LOCK_FILE}"))
                .label(&recipe.source, recipe.name.span, "the inputs of this recipe are not locked")
                .help("give the directory that holds it as the build context")
                .help("or write one with `clawbuild lock`, and publish what the recipe stands on: `clawbuild publish`"),
        )),
    }
}

/// claw-init's source: the main directory's own, or else the program's.
async fn init(main: &Directory, files: &Files<'_>) -> Result<ContextPlace, Stop> {
    if files.names("base/init/src").await?.contains("main.rs") {
        return Ok(main.join("base/init").place());
    }
    let files = embedded_files("base/init/").filter(|(name, _)| {
        plan::INIT_CONTEXT_FILES.iter().any(|part| name.strip_prefix(part).is_some_and(|rest| rest.starts_with('/')))
    });
    Ok(ContextPlace::Files(files.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()))
}

/// The directory given for a name.
fn given(options: &Options, name: &str) -> Result<Option<Directory>, Stop> {
    match options.contexts.get(name) {
        None => Ok(None),
        Some(place) => match place.strip_prefix("local:") {
            Some(local) => Ok(Some(Directory::local(options, local))),
            None => {
                let message = format!("`{name}` is a directory, and `{place}` is none");
                Err(Stop::from(
                    Diagnostic::new(codes::frontend::OPTION, message)
                        .help(format!("write `--build-context {name}=DIRECTORY`")),
                ))
            }
        },
    }
}

/// A source directory that is not below the recipe's. Clients hand over the recipe's directory without saying where it
/// lies in the main one, so the recipe is looked for there.
async fn outside(
    gateway: &Gateway,
    main: &Directory,
    filename: &str,
    recipe: &Recipe,
    path: &str,
    span: Span,
) -> Result<Directory, Stop> {
    let name = filename.rsplit('/').next().unwrap_or(RECIPE_FILE);
    let depths = ["", "*/", "*/*/"].map(|depth| format!("{depth}{name}"));
    let files = main.files(gateway, format!("look for {name}"), &depths).await?;
    let mut candidates = vec![String::new()];
    for depth in 0..2 {
        for above in candidates.clone().iter().filter(|above| depth == 0 || !above.is_empty()) {
            // All that was loaded are files of this name and the directories above them.
            for below in files.names(above).await?.into_iter().filter(|below| below != name) {
                candidates.push(resolve(above, &below).expect("names lead nowhere else"));
            }
        }
    }
    for directory in candidates {
        let file = resolve(&directory, name).expect("names lead nowhere else");
        let is_it = files.bytes(&file).await?.is_some_and(|bytes| bytes == recipe.source.text().as_bytes());
        if is_it && let Some(inside) = resolve(&directory, path) {
            return Ok(main.join(&inside));
        }
    }
    Err(Stop::from(
        Diagnostic::new(codes::frontend::CONTEXT, format!("the source directory `{path}` is not in the build context"))
            .label(&recipe.source, span, "named here, relative to the recipe")
            .help("give a directory above both as the build context")
            .help("or give the source itself: `--build-context source=DIRECTORY`"),
    ))
}

impl Inputs {
    /// What can be given by name.
    fn names(&self) -> BTreeSet<String> {
        let bases = self.project.bases().map(|base| format!("base/{}", base.name.value));
        let build = format!("packages/{}-build", self.recipe.name.value);
        let packages = self.recipe.tiers().map(|tier| format!("packages/{}", self.recipe.target(&tier).component()));
        let packages = packages.chain([build]);
        let directories = self.contexts.keys().cloned();
        directories.chain(bases).chain(packages).collect()
    }

    /// The recipe with the lock's answers, all of which are there.
    ///
    /// # Errors
    /// The first mistake in the recipe, or what the lock does not answer.
    pub(super) fn locked(&self) -> Result<LockedRecipe<'_>, Stop> {
        let locked = LockedRecipe::new(&self.recipe, &self.project, &self.lock, self.ignore.clone())?;
        let locked = locked.at(&self.tier, self.config.as_deref())?;
        let Some(file) = self.recipe.lock_file() else { return Ok(locked) };
        let name = &self.recipe.name.value;
        let why = match (&self.dependencies, self.lock.dependencies(name)) {
            (None, _) => format!("`{file}` is not there"),
            (Some(_), None) => format!("the lock has nothing of `{file}`"),
            (Some(found), Some(pinned)) if *pinned == locked_dependencies(&locked, Digest::of(found)) => {
                let text = Source::new(file, String::from_utf8_lossy(found).into_owned());
                return Ok(locked.with_lock_file(&text)?);
            }
            (Some(_), Some(_)) => format!("`{file}` is not the one that was locked"),
        };
        let message = format!("the dependencies of `{name}` are not what {LOCK_FILE} pins");
        Err(Stop::from(
            Diagnostic::new(codes::lock::DEPENDENCIES, message)
                .label(&self.recipe.source, self.recipe.origin.span, "of this source")
                .cause(why)
                .help(format!("run `clawbuild lock`, look at what changed, and commit {LOCK_FILE} and the file")),
        ))
    }
}
