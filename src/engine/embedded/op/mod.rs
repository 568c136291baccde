//! What each kind of vertex does.

mod exec;
mod file;

pub(crate) use exec::exec;
pub(crate) use file::file;

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _, Write as _};
use std::sync::Arc;

use llb::{DiffOp, InputIndex, MergeOp};
use oci::layer::apply::{self, Options};
use oci::layer::diff::{DiffError, write_difference, write_tree};
use oci::layer::tar::{Limits, TarReader, TarWriter};

use super::chain::Chain;
use super::snapshot::Draft;
use super::solver::Solve;
use super::{Workshop, unpack};
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
    let below = unpack::snapshots(solve, lower.parts()).await?;
    let upper = unpack::snapshots(solve, upper.parts()).await?;
    let workshop = solve.workshop.clone();
    solve
        .blocking(move || {
            let whole = Draft::new(&workshop.store)?;
            through_archive(&workshop, &whole, |tar| write_tree(&upper, None, tar))?;
            let changes = Draft::new(&workshop.store)?;
            through_archive(&workshop, &changes, |tar| write_difference(&below, whole.snapshot(), tar))?;
            Ok(Chain::of_changes(&lower, changes.commit()?))
        })
        .await
}

/// Unpacks into a draft what is written as an archive. It is not kept in memory, and takes no more space on disk than
/// what comes of it.
fn through_archive(
    workshop: &Workshop,
    draft: &Draft,
    write: impl FnOnce(&mut TarWriter<BufWriter<&File>>) -> Result<u64, DiffError>,
) -> Result<(), VertexError> {
    let temp = workshop.store.temp();
    let archive = tempfile::tempfile_in(temp).map_err(VertexError::io("create a file in", temp))?;
    let mut tar = TarWriter::new(BufWriter::new(&archive)).with_nanoseconds();
    write(&mut tar)?;
    let mut buffer = tar.finish().map_err(DiffError::from)?;
    buffer.flush().and_then(|()| (&archive).rewind()).map_err(VertexError::io("write to", temp))?;
    drop(buffer);
    let options = Options {
        ownership: workshop.ownership(),
        overlay: workshop.overlay_xattrs(),
        limits: Limits::default(),
        lower: &[],
    };
    apply::apply(&mut TarReader::new(BufReader::new(&archive), Limits::default()), draft.snapshot(), &options)?;
    Ok(())
}
