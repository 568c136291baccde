//! Every way a run can fail.

use std::fmt;

use diag::{Diagnostic, Reported};

/// One failure or several, ready to be shown. The first decides the exit status.
#[derive(Debug)]
pub struct Failure {
    diagnostics: Vec<Diagnostic>,
    superseded: Option<String>,
}

impl Failure {
    /// The archive no longer has what the lock pins for `owner`, a set of packages. Resolving it anew would help.
    #[must_use]
    pub fn superseded(owner: &str, diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic], superseded: Some(owner.to_owned()) }
    }

    /// Several failures of the same kind.
    #[must_use]
    pub fn several(diagnostics: Vec<Diagnostic>) -> Self {
        Self { diagnostics, superseded: None }
    }

    /// Whose packages would have to be resolved anew for another try to succeed.
    #[must_use]
    pub fn superseded_owner(&self) -> Option<&str> {
        self.superseded.as_deref()
    }

    /// What is shown, to be added to.
    #[must_use]
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }

    /// What is shown, the most important first.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.diagnostics.first() {
            Some(first) => f.write_str(&first.message),
            None => f.write_str("failed"),
        }
    }
}

impl<E: Reported> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::several(vec![error.diagnostic()])
    }
}
