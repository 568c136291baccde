//! Bringing content into the graph.

mod git;
mod http;
mod image;
mod local;

pub use git::GitError;

pub(crate) use git::redacted;
pub(crate) use http::{DEFAULT_FILE_MODE, file_name};

use std::sync::Arc;

use diag::progress::Task;
use llb::{SourceOp, Vertex};

use super::chain::Chain;
use super::solver::Solve;
use crate::error::VertexError;

/// The tree of a source.
pub(crate) async fn take(
    solve: &Arc<Solve>,
    vertex: &Vertex,
    source: &SourceOp,
    task: &Task,
) -> Result<Chain, VertexError> {
    match source {
        SourceOp::Image(image) => image::from_registry(solve, image, vertex.platform(), task).await,
        SourceOp::OciLayout(image) => image::from_layout(solve, image, vertex.platform()).await,
        SourceOp::Local(_) => local::take(solve, vertex).await,
        SourceOp::Http(http) => http::take(solve, http, task).await,
        SourceOp::Git(source) => {
            let http = solve.workshop.downloader.http().settings();
            let remote = match url::Url::parse(&source.remote) {
                Ok(url) => http.mirrors.rewrite(&url).to_string(),
                // What ssh takes (`git@host:path`) is no URL, and no mirror is either.
                Err(_) => source.remote.clone(),
            };
            let (store, cancel) = (&solve.workshop.store, &solve.cancel);
            let git = git::Git { store, remote: &remote, offline: http.offline, task, cancel };
            let draft = super::snapshot::Draft::new(store)?;
            git.check_out(source, &draft.fs()).await?;
            Ok(Chain::default().with(draft.commit()?))
        }
    }
}
