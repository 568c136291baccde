//! What every engine can do, whichever way it does it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use diag::progress::Progress;
use diag::{Code, Diagnostic, Reported};
use oci::Platform;
use tokio_util::sync::CancellationToken;

use crate::{SolveError, SolveOutcome, SolveRequest};

/// Something that solves LLB: runs the vertices a result needs, and exports the result.
#[async_trait]
pub trait Engine: Send + Sync {
    /// What the user calls it: `embedded`, `docker`, `buildkit`.
    fn name(&self) -> &'static str;

    /// Finds out, without running anything, whether this engine works here.
    ///
    /// # Errors
    /// [`Unavailable`], with the reason and what would mend it.
    async fn check_usable(&self) -> Result<(), Unavailable>;

    /// The LLB capabilities it understands.
    ///
    /// # Errors
    /// [`Unavailable`] where the engine has to be asked and does not answer.
    async fn capabilities(&self) -> Result<BTreeSet<llb::Cap>, Unavailable>;

    /// The platforms whose steps it runs natively, the one it prefers first.
    ///
    /// # Errors
    /// [`Unavailable`] where the engine has to be asked and does not answer.
    async fn platforms(&self) -> Result<Vec<Platform>, Unavailable>;

    /// Solves a request. Facts go to `progress`, one task for each vertex; work stops soon after `cancel` is
    /// triggered, and nothing of it is left running when this returns.
    ///
    /// # Errors
    /// [`SolveError`].
    async fn solve(
        &self,
        request: SolveRequest,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<SolveOutcome, SolveError>;
}

/// Why an engine cannot be used on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {engine} engine cannot be used: {why}")]
pub struct Unavailable {
    /// The engine's name.
    pub engine: &'static str,
    /// What kind of failure it is, such as [`diag::codes::engine::UNREACHABLE`].
    pub code: Code,
    /// What is missing, one line.
    pub why: String,
    /// How to mend it, one line each; may be empty.
    pub fix: Vec<String>,
}

impl Unavailable {
    /// The engine cannot be used for what this diagnostic says: its kind, words and help are kept, and the last line
    /// of whatever else is shown, such as what a program wrote before it ended.
    #[must_use]
    pub fn of(engine: &'static str, diagnostic: Diagnostic) -> Self {
        let Diagnostic { code, message, causes, help, related, .. } = diagnostic;
        let said = related.into_iter().filter_map(|mut related| related.lines.pop());
        let why = std::iter::once(message).chain(causes).chain(said).collect::<Vec<_>>().join(": ");
        Self { engine, code, why, fix: help }
    }
}

impl Reported for Unavailable {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::new(self.code, self.to_string());
        self.fix.iter().fold(diagnostic, Diagnostic::help)
    }
}
