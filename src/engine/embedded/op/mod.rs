//! What each kind of vertex does.

mod exec;
mod file;

pub use exec::StepFailure;
pub(crate) use exec::exec;
pub(crate) use file::file;

use std::sync::Arc;

use llb::{DiffOp, InputIndex, MergeOp};

use super::chain::Chain;
use super::snapshot::Draft;
use super::solver::Solve;
use super::unpack;
use crate::error::VertexError;

/// Trees over each other are their changes one after the other: nothing is copied.
pub(crate) fn merge(op: &MergeOp, trees: &[Chain]) -> Chain {
    Chain::merged(op.inputs.iter().map(|InputIndex(input)| &trees[*input]))
}

/// What one tree has that another has not. Where the one was made on top of the other, those are its uppermost changes;
/// otherwise the two are compared.
pub(crate) async fn diff(solve: &Arc<Solve>, op: &DiffOp, trees: &[Chain]) -> Result<Chain, VertexError> {
    let tree = |input: Option<InputIndex>| input.map_or_else(Chain::default, |InputIndex(input)| trees[input].clone());
    let (lower, upper) = (tree(op.lower), tree(op.upper));
    if let Some(above) = upper.above(&lower) {
        return Ok(above);
    }
    let lower = unpack::directories(solve, lower.parts()).await?;
    let upper = unpack::directories(solve, upper.parts()).await?;
    let workshop = solve.workshop.clone();
    solve
        .blocking(move || {
            let draft = Draft::new(&workshop.store)?;
            let (lower, upper) = (workshop.mounter.read_only(&lower)?, workshop.mounter.read_only(&upper)?);
            workshop.compare(lower.path(), upper.path(), draft.directory())?;
            Ok(Chain::default().with(draft.commit()?))
        })
        .await
}
