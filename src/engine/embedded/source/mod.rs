//! Bringing content into the graph.

mod http;
mod image;
mod local;

pub(crate) use http::{DEFAULT_FILE_MODE, file_name};

use std::sync::Arc;

use diag::progress::Task;
use llb::{SourceOp, Vertex};

use super::chain::Chain;
use super::solver::Solve;
use crate::error::VertexError;
use crate::git::Repository;

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
            let http = solve.workshop.downloader.http();
            let repository = Repository::new(&solve.workshop.store, http, &source.remote, task, &solve.cancel);
            let draft = super::snapshot::Draft::new(&solve.workshop.store)?;
            repository.check_out(source, &draft.fs()).await?;
            Ok(Chain::default().with(draft.commit()?))
        }
    }
}
