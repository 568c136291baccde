//! What is asked for on the command line.

use std::path::Path;

use recipe::{Name, Recipe, Tier};

use super::{LoadedRecipe, RECIPE_FILE, Workspace, WorkspaceError};

/// Something to build, with the workspace it belongs to.
#[derive(Clone, Debug)]
pub enum Target {
    /// A recipe's image.
    Recipe {
        /// The recipe.
        loaded: Box<LoadedRecipe>,
        /// Where its bases and lock lie.
        workspace: Workspace,
    },
    /// A base's image.
    Base {
        /// The base's name.
        name: Name,
        /// Where it lies.
        workspace: Workspace,
    },
}

impl Target {
    /// Finds what a word names: `base/NAME`, a recipe's name, or a path to a recipe or its directory; a recipe's profile
    /// as `RECIPE:PROFILE`, an agent as `RECIPE@AGENT`.
    ///
    /// # Errors
    /// Nothing has the name, or the recipe is wrong.
    pub fn find(workspace: &Workspace, word: &str) -> Result<Self, WorkspaceError> {
        let mut found = Self::find_all(workspace, word)?;
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => Err(WorkspaceError::Several { word: word.to_owned() }),
        }
    }

    /// As [`Target::find`], and all profiles of a recipe as `RECIPE:*`, all agents as `RECIPE@*`.
    ///
    /// # Errors
    /// As [`Target::find`]; or a recipe has no profiles or agents.
    pub fn find_all(workspace: &Workspace, word: &str) -> Result<Vec<Self>, WorkspaceError> {
        if let Some(name) = word.strip_prefix("base/")
            && let Ok(name) = name.parse::<Name>()
            && workspace.project()?.base(&name).is_some()
        {
            return Ok(vec![Self::Base { name, workspace: workspace.clone() }]);
        }
        let (plain, asked) = Asked::split(workspace, word);
        let (loaded, workspace) = Self::recipe(workspace, plain, word)?;
        let tiers = asked.tiers(&loaded.recipe).ok_or_else(|| WorkspaceError::UnknownTarget {
            name: word.to_owned(),
            known: loaded.recipe.tiers().map(|tier| tier_word(plain, &tier)).collect(),
        })?;
        let target = |tier| Self::Recipe {
            loaded: Box::new(LoadedRecipe { tier, ..loaded.clone() }),
            workspace: workspace.clone(),
        };
        Ok(tiers.into_iter().map(target).collect())
    }

    /// Every image of every recipe.
    ///
    /// # Errors
    /// A recipe is wrong.
    pub fn all(workspace: &Workspace) -> Result<Vec<Self>, WorkspaceError> {
        let mut targets = Vec::new();
        for name in workspace.recipe_names() {
            if let Some(loaded) = workspace.recipe(&name)? {
                targets.extend(loaded.recipe.tiers().map(|tier| Self::Recipe {
                    loaded: Box::new(LoadedRecipe { tier, ..loaded.clone() }),
                    workspace: workspace.clone(),
                }));
            }
        }
        Ok(targets)
    }

    fn recipe(workspace: &Workspace, plain: &str, word: &str) -> Result<(LoadedRecipe, Workspace), WorkspaceError> {
        let is_path = is_path(plain);
        if !is_path && let Some(loaded) = workspace.recipe(plain)? {
            return Ok((loaded, workspace.clone()));
        }
        let path = workspace.here.join(plain);
        if is_path || path.join(RECIPE_FILE).is_file() {
            let file = if path.is_dir() { path.join(RECIPE_FILE) } else { path };
            let file = normal(&file);
            let loaded = workspace.recipe_file(&file)?;
            let directory = file.parent().unwrap_or(Path::new("/"));
            return Ok((loaded, workspace.around(directory)));
        }
        let mut known = workspace.recipe_names();
        known.extend(workspace.project()?.bases().map(|base| format!("base/{}", base.name.value)));
        Err(WorkspaceError::UnknownTarget { name: word.to_owned(), known })
    }
}

impl Target {
    /// The recipe and the profile that the image stands on; nothing for bases.
    #[must_use]
    pub fn stands_on(&self) -> Option<(&Name, Option<&Name>)> {
        let Self::Recipe { loaded, .. } = self else { return None };
        let profile = loaded.recipe.profiles_of(&loaded.tier).last().map(|profile| &profile.name.value);
        Some((&loaded.recipe.name.value, profile))
    }
}

/// Which images of a recipe a word asks for.
enum Asked {
    Runtime,
    Profile(String),
    Agent(String),
}

/// All of a kind.
const ALL: &str = "*";

impl Asked {
    /// Splits a word into the recipe's part and the rest. A path that is there is a path, whatever it holds.
    fn split<'a>(workspace: &Workspace, word: &'a str) -> (&'a str, Self) {
        let whole = (word, Self::Runtime);
        if is_path(word) && workspace.here.join(word).exists() {
            return whole;
        }
        match word.rfind([':', '@']).map(|place| word.split_at(place)) {
            Some((plain, rest)) if !plain.is_empty() && !rest.contains('/') => match rest.split_at(1) {
                (":", name) => (plain, Self::Profile(name.to_owned())),
                (_, name) => (plain, Self::Agent(name.to_owned())),
            },
            _ => whole,
        }
    }

    /// The tiers asked for; `None` if the recipe has none of them.
    fn tiers(&self, recipe: &Recipe) -> Option<Vec<Tier>> {
        let tiers: Vec<Tier> = recipe
            .tiers()
            .filter(|tier| match (self, tier) {
                (Self::Runtime, Tier::Runtime) => true,
                (Self::Profile(asked), Tier::Profile(name)) | (Self::Agent(asked), Tier::Agent(name)) => {
                    asked == ALL || asked == name.as_str()
                }
                _ => false,
            })
            .collect();
        (!tiers.is_empty()).then_some(tiers)
    }
}

/// How a tier is asked for, after the word for its recipe.
pub(crate) fn tier_word(recipe: &str, tier: &Tier) -> String {
    match tier {
        Tier::Runtime => recipe.to_owned(),
        Tier::Profile(name) => format!("{recipe}:{name}"),
        Tier::Agent(name) => format!("{recipe}@{name}"),
    }
}

fn is_path(word: &str) -> bool {
    word.contains('/') || word.starts_with('.') || word.ends_with(".toml")
}

/// The path without `.` components; links are left alone.
fn normal(path: &Path) -> std::path::PathBuf {
    path.components().filter(|component| !matches!(component, std::path::Component::CurDir)).collect()
}
