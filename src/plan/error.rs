//! What can go wrong while planning.

use diag::{Diagnostic, Reported};
use recipe::{RecipeError, Stale};

/// A recipe that cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The recipe or a base is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The lock does not answer a request.
    #[error("{}", .0.request)]
    Stale(Box<Stale>),
}

impl From<Stale> for PlanError {
    fn from(stale: Stale) -> Self {
        Self::Stale(Box::new(stale))
    }
}

impl Reported for PlanError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Recipe(error) => error.diagnostic(),
            Self::Stale(stale) => stale.diagnostic(),
        }
    }
}
