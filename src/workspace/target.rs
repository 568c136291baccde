//! What is asked for on the command line.

use std::path::Path;

use recipe::Name;

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
    /// Finds what a word names: `base/NAME`, a recipe's name, or a path to a recipe or its directory.
    ///
    /// # Errors
    /// Nothing has the name, or the recipe is wrong.
    pub fn find(workspace: &Workspace, word: &str) -> Result<Self, WorkspaceError> {
        if let Some(name) = word.strip_prefix("base/")
            && let Ok(name) = name.parse::<Name>()
            && workspace.project()?.base(&name).is_some()
        {
            return Ok(Self::Base { name, workspace: workspace.clone() });
        }
        let is_path = word.contains('/') || word.starts_with('.') || word.ends_with(".toml");
        if !is_path && let Some(loaded) = workspace.recipe(word)? {
            return Ok(Self::Recipe { loaded: Box::new(loaded), workspace: workspace.clone() });
        }
        let path = workspace.here.join(word);
        if is_path || path.join(RECIPE_FILE).is_file() {
            let file = if path.is_dir() { path.join(RECIPE_FILE) } else { path };
            let file = normal(&file);
            let loaded = workspace.recipe_file(&file)?;
            let directory = file.parent().unwrap_or(Path::new("/"));
            return Ok(Self::Recipe { loaded: Box::new(loaded), workspace: workspace.around(directory) });
        }
        let mut known = workspace.recipe_names();
        known.extend(workspace.project()?.bases().map(|base| format!("base/{}", base.name.value)));
        Err(WorkspaceError::UnknownTarget { name: word.to_owned(), known })
    }
}

/// The path without `.` components; links are left alone.
fn normal(path: &Path) -> std::path::PathBuf {
    path.components().filter(|component| !matches!(component, std::path::Component::CurDir)).collect()
}
