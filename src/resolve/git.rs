//! Commits: a tag or branch to what it names now.

use diag::progress::Task;
use diag::{Diagnostic, Reported as _};
use engine::git::Repository;
use recipe::{GitReference, GitRequest, LockedCommit};

use crate::cli::Failure;
use crate::pipeline::Session;

/// Resolves a request. The commit is fetched too: its tree and time belong to the answer.
pub(crate) async fn commit(session: &Session, request: &GitRequest, task: &Task) -> Result<LockedCommit, Failure> {
    let place = |diagnostic: Diagnostic| diagnostic.label(&request.place.0, request.place.1, "asked for here");
    let repository = Repository::new(session.store(), session.http(), &request.url, task, session.cancel());
    let resolved = async {
        let commit = match &request.reference {
            GitReference::Commit(commit) => commit.clone(),
            reference @ (GitReference::Tag(_) | GitReference::Branch(_)) => {
                let name = reference.full_name().expect("tags and branches have names");
                repository.resolve(&name).await?
            }
        };
        let described = repository.describe(&commit).await?;
        Ok(LockedCommit {
            url: request.url.clone(),
            reference: request.reference.to_string(),
            commit,
            tree: described.tree,
            committed: described.committed,
        })
    };
    resolved.await.map_err(|error: engine::git::GitError| place(error.diagnostic()).into())
}
