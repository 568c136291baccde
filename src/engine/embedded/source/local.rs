//! Local directories.

use std::sync::Arc;

use llb::Vertex;

use crate::embedded::chain::Chain;
use crate::embedded::snapshot::Draft;
use crate::embedded::solver::Solve;
use crate::error::VertexError;

/// The tree of a directory that was scanned when the solve began.
pub(super) async fn take(solve: &Arc<Solve>, vertex: &Vertex) -> Result<Chain, VertexError> {
    let (solve, digest) = (Arc::clone(solve), vertex.digest());
    let workshop = solve.workshop.clone();
    workshop
        .blocking(move || {
            let context = solve.contexts.get(&digest).expect("every local source was scanned");
            let draft = Draft::new(&solve.workshop.store)?;
            context.materialise(&draft.fs())?;
            Ok(Chain::default().with(draft.commit()?))
        })
        .await
}
