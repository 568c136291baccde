//! Where recipes, bases and the lock lie: a directory of the user's, with the program's own as the fallback.

mod embedded;
mod error;
mod target;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use diag::Source;
use plan::{LockedRecipe, Project};
use recipe::{Base, Config, Lock, Recipe, Tier};
use store::Store;

pub(crate) use embedded::{bytes as embedded_bytes, files as embedded_files};
pub use error::WorkspaceError;
pub use target::Target;
pub(crate) use target::tier_word;

/// The lock's file name.
pub const LOCK_FILE: &str = "clawbuild.lock";
/// A recipe's file name.
pub const RECIPE_FILE: &str = "recipe.toml";
/// The directory beside a recipe with agents in files of their own.
pub(crate) const AGENTS: &str = "agents";

/// A directory with recipes, bases and a lock.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    /// The bases, read when first needed.
    project: OnceLock<Project>,
    /// The working directory, which names in messages are relative to.
    here: PathBuf,
}

/// A recipe and the directory it lies in.
#[derive(Clone, Debug)]
pub struct LoadedRecipe {
    /// The recipe.
    pub recipe: Recipe,
    /// Where the files beside it lie.
    pub directory: RecipeDirectory,
    /// Which of its images is meant.
    pub tier: Tier,
}

impl LoadedRecipe {
    /// The recipe, with the agents that have files of their own beside it: `agents/NAME.toml`.
    fn new(workspace: &Workspace, source: &Source, directory: RecipeDirectory) -> Result<Self, WorkspaceError> {
        let mut recipe = Recipe::parse(source)?;
        match &directory {
            RecipeDirectory::Disk(directory) => {
                for (name, source) in workspace.sources(&directory.join(AGENTS))? {
                    recipe.add_agent(&name, &source)?;
                }
            }
            RecipeDirectory::Embedded(prefix) => {
                for name in embedded::names(&format!("{prefix}{AGENTS}/"), ".toml") {
                    let file = format!("{prefix}{AGENTS}/{name}.toml");
                    let text = embedded::text(&file).expect("a name listed is there");
                    recipe.add_agent(name, &Source::new(format!("<clawbuild>/{file}"), text))?;
                }
            }
        }
        Ok(Self { recipe, directory, tier: Tier::Runtime })
    }

    /// The recipe as the image that is meant has it.
    #[must_use]
    pub fn effective(&self) -> Recipe {
        self.recipe.at(&self.tier)
    }

    /// The recipe with the lock's answers, and the image that is meant.
    ///
    /// # Errors
    /// The lock does not answer, the configuration's default cannot be read, or the tier does not fit it.
    pub fn locked<'a>(
        &'a self,
        project: &'a Project,
        lock: &'a Lock,
        ignore: Vec<String>,
    ) -> Result<LockedRecipe<'a>, WorkspaceError> {
        let locked = LockedRecipe::new(&self.recipe, project, lock, ignore)?;
        let config = self.recipe.changed_config(&self.tier).map(|config| self.default_of(config)).transpose()?;
        Ok(locked.at(&self.tier, config.as_deref())?)
    }

    /// The baked default of a configuration.
    fn default_of(&self, config: &Config) -> Result<String, WorkspaceError> {
        match &self.directory {
            RecipeDirectory::Disk(directory) => {
                let path = directory.join(&config.file.value);
                std::fs::read_to_string(&path).map_err(|source| WorkspaceError::Read { path, source })
            }
            RecipeDirectory::Embedded(prefix) => {
                let path = format!("{prefix}{}", config.file.value);
                embedded::text(&path).map(str::to_owned).ok_or_else(|| WorkspaceError::Read {
                    path: path.into(),
                    source: std::io::ErrorKind::NotFound.into(),
                })
            }
        }
    }
}

/// Where the files beside a recipe lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipeDirectory {
    /// On disk.
    Disk(PathBuf),
    /// In the program, under this prefix.
    Embedded(String),
}

impl Workspace {
    /// The workspace of the working directory: the nearest directory upwards with a `runtimes` directory or a lock,
    /// else the working directory itself.
    ///
    /// # Errors
    /// The working directory cannot be found out.
    pub fn find() -> Result<Self, WorkspaceError> {
        let here = std::env::current_dir().map_err(WorkspaceError::WorkingDirectory)?;
        Ok(Self { root: marked(&here).unwrap_or_else(|| here.clone()), project: OnceLock::new(), here })
    }

    /// The workspace a recipe outside the working directory's belongs to.
    fn around(&self, directory: &Path) -> Self {
        let root = marked(directory).unwrap_or_else(|| directory.to_owned());
        if root == self.root { self.clone() } else { Self { root, project: OnceLock::new(), here: self.here.clone() } }
    }

    /// The workspace's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How messages name a path: relative to the working directory where it lies below it.
    #[must_use]
    pub fn display(&self, path: &Path) -> String {
        path.strip_prefix(&self.here).unwrap_or(path).display().to_string()
    }

    fn read(&self, path: &Path) -> Result<Option<Source>, WorkspaceError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(Source::new(self.display(path), text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(WorkspaceError::Read { path: path.to_owned(), source: error }),
        }
    }

    /// The names of the recipes there are, the program's own included.
    #[must_use]
    pub fn recipe_names(&self) -> Vec<String> {
        let on_disk = std::fs::read_dir(self.root.join("runtimes"));
        let with_recipe = |path: PathBuf| {
            path.join(RECIPE_FILE)
                .is_file()
                .then(|| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        };
        let mut names: Vec<String> =
            on_disk.into_iter().flatten().flatten().filter_map(|entry| with_recipe(entry.path())).collect();
        names.extend(embedded::names("runtimes/", &format!("/{RECIPE_FILE}")).map(str::to_owned));
        names.sort();
        names.dedup();
        names
    }

    /// The recipe of this name in `runtimes`, or the program's own.
    ///
    /// # Errors
    /// Mistakes in it, or an unreadable file; `None` if there is none.
    pub fn recipe(&self, name: &str) -> Result<Option<LoadedRecipe>, WorkspaceError> {
        let directory = self.root.join("runtimes").join(name);
        if let Some(source) = self.read(&directory.join(RECIPE_FILE))? {
            return LoadedRecipe::new(self, &source, RecipeDirectory::Disk(directory)).map(Some);
        }
        let prefix = format!("runtimes/{name}/");
        let Some(text) = embedded::text(&format!("{prefix}{RECIPE_FILE}")) else { return Ok(None) };
        let source = Source::new(format!("<clawbuild>/{prefix}{RECIPE_FILE}"), text);
        LoadedRecipe::new(self, &source, RecipeDirectory::Embedded(prefix)).map(Some)
    }

    /// The recipe in this file.
    ///
    /// # Errors
    /// As [`Workspace::recipe`].
    pub fn recipe_file(&self, path: &Path) -> Result<LoadedRecipe, WorkspaceError> {
        let Some(source) = self.read(path)? else {
            return Err(WorkspaceError::NoRecipe { path: self.display(path) });
        };
        let directory = path.parent().map_or_else(|| self.here.clone(), Path::to_owned);
        LoadedRecipe::new(self, &source, RecipeDirectory::Disk(directory))
    }

    /// Every base: the workspace's own, and the program's where the workspace has none of that name.
    ///
    /// # Errors
    /// Mistakes in one, or an unreadable file.
    pub fn project(&self) -> Result<&Project, WorkspaceError> {
        if let Some(project) = self.project.get() {
            return Ok(project);
        }
        let project = self.read_project()?;
        Ok(self.project.get_or_init(|| project))
    }

    fn read_project(&self) -> Result<Project, WorkspaceError> {
        project_of(self.sources(&self.root.join("base"))?)
    }

    /// The TOML files of a directory by their names without `.toml`, sorted. There may be no such directory.
    fn sources(&self, directory: &Path) -> Result<Vec<(String, Source)>, WorkspaceError> {
        let Ok(entries) = std::fs::read_dir(directory) else { return Ok(Vec::new()) };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        let mut sources = Vec::new();
        for path in paths {
            if let Some(source) = self.read(&path)? {
                let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
                sources.push((name.unwrap_or_default(), source));
            }
        }
        Ok(sources)
    }

    /// A keyring of `base/keys`.
    ///
    /// # Errors
    /// An unreadable file; `None` if there is none.
    pub fn key(&self, name: &str) -> Result<Option<Vec<u8>>, WorkspaceError> {
        let path = self.root.join("base/keys").join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(embedded::bytes(&format!("base/keys/{name}")).map(<[u8]>::to_vec))
            }
            Err(source) => Err(WorkspaceError::Read { path, source }),
        }
    }

    /// Where the lock lies.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.root.join(LOCK_FILE)
    }

    /// The lock. Where the workspace has none, the program's own answers are the start, so that its own recipes build
    /// anywhere to the same digests.
    ///
    /// # Errors
    /// A lock that cannot be read.
    pub fn lock(&self) -> Result<(Lock, LockOrigin), WorkspaceError> {
        if let Some(source) = self.read(&self.lock_path())? {
            let lock = Lock::parse(&source).map_err(|error| WorkspaceError::Lock(Box::new(error)))?;
            return Ok((lock, LockOrigin::File(source.text().to_owned())));
        }
        let lock = match embedded::text(LOCK_FILE) {
            Some(text) => Lock::parse(&Source::new(format!("<clawbuild>/{LOCK_FILE}"), text))
                .map_err(|error| WorkspaceError::Lock(Box::new(error)))?,
            None => Lock::default(),
        };
        Ok((lock, LockOrigin::Embedded))
    }

    /// Writes the lock so that either the old one or the new is there, whatever happens.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_lock(&self, lock: &Lock) -> Result<(), WorkspaceError> {
        write_atomically(&self.lock_path(), lock.to_string().as_bytes())
    }

    /// The directory with claw-init's source: the workspace's own, or else the program's, laid out in the store.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn init_directory(&self, store: &Store) -> Result<PathBuf, WorkspaceError> {
        let own = self.root.join("base/init");
        if own.join("src/main.rs").is_file() { Ok(own) } else { embedded::lay_out("base/init/", store) }
    }
}

/// The bases in these files of a directory `base`, by their names without `.toml`; and the program's own where there is
/// none of that name.
///
/// # Errors
/// Mistakes in one.
pub(crate) fn project_of(own: Vec<(String, Source)>) -> Result<Project, WorkspaceError> {
    let embedded = embedded::names("base/", ".toml").filter(|name| !own.iter().any(|(known, _)| known == name));
    let embedded = embedded.map(|name| {
        let file = format!("base/{name}.toml");
        let text = embedded::text(&file).expect("a name listed is there");
        Source::new(format!("<clawbuild>/{file}"), text)
    });
    let embedded: Vec<Source> = embedded.collect();
    let bases =
        own.iter().map(|(_, source)| source).chain(&embedded).map(Base::parse).collect::<Result<Vec<_>, _>>()?;
    Ok(Project::new(bases)?)
}

/// Where a lock was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockOrigin {
    /// The workspace's file, with this text.
    File(String),
    /// The program.
    Embedded,
}

impl RecipeDirectory {
    /// The directory on disk; an embedded one is laid out in the store first.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn on_disk(&self, store: &Store) -> Result<PathBuf, WorkspaceError> {
        match self {
            Self::Disk(path) => Ok(path.clone()),
            Self::Embedded(prefix) => embedded::lay_out(prefix, store),
        }
    }
}

/// Writes `bytes` to `path` so that either the old content or the new is there, whatever happens.
///
/// # Errors
/// [`WorkspaceError::Write`].
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WorkspaceError> {
    use std::io::Write as _;
    let failed = |source| WorkspaceError::Write { path: path.to_owned(), source };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn marked(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .find(|directory| directory.join("runtimes").is_dir() || directory.join(LOCK_FILE).is_file())
        .map(Path::to_owned)
}
