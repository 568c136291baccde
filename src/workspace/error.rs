//! What can go wrong with the workspace.

use std::io;
use std::path::PathBuf;

use diag::{Diagnostic, Reported, codes};
use plan::PlanError;
use recipe::{LockError, RecipeError};

/// A workspace that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// There is no working directory.
    #[error("the working directory cannot be found out")]
    WorkingDirectory(#[source] io::Error),
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write `{path}`")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no recipe at a path.
    #[error("there is no recipe at `{path}`")]
    NoRecipe {
        /// The path.
        path: String,
    },
    /// No recipe or base has the name.
    #[error("there is no target `{name}`")]
    UnknownTarget {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// One target is wanted, and the word names several.
    #[error("`{word}` names several targets, and this takes one")]
    Several {
        /// What was asked for.
        word: String,
    },
    /// A recipe or base is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Bases do not fit together.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The lock cannot be read.
    #[error("the lock cannot be read")]
    Lock(Box<LockError>),
}

impl Reported for WorkspaceError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::WorkingDirectory(_) | Self::Read { .. } | Self::Write { .. } => {
                Diagnostic::new(codes::cli::FILE, self.to_string()).caused_by(self)
            }
            Self::NoRecipe { .. } => Diagnostic::new(codes::cli::UNKNOWN_TARGET, self.to_string())
                .help("name a `recipe.toml`, or a directory that holds one"),
            Self::UnknownTarget { name, known } => {
                let diagnostic = Diagnostic::new(codes::cli::UNKNOWN_TARGET, self.to_string());
                match diag::did_you_mean(name, known.iter().map(String::as_str)) {
                    Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                    None => diagnostic
                        .help(format!("targets: {}; or a path to a recipe, such as `./{name}`", known.join(", "))),
                }
            }
            Self::Several { .. } => Diagnostic::new(codes::cli::USAGE, self.to_string())
                .help("name one of them; `clawbuild list` prints all"),
            Self::Recipe(error) => error.diagnostic(),
            Self::Plan(error) => error.diagnostic(),
            Self::Lock(error) => error.diagnostic(),
        }
    }
}
