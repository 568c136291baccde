//! Making the links of a chain visible as directories: image layers are unpacked when somebody has to see their files.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use diag::progress::{Outcome, TaskId};
use futures::future::join_all;
use llb::OutputIndex;
use store::Key;

use super::chain::{Chain, ImageLayer, Part};
use super::key;
use super::record::Outputs;
use super::snapshot::{Draft, Snapshot, SnapshotId};
use super::solver::Solve;
use crate::error::VertexError;

/// The directories of these changes, in their order. Every image layer among them is unpacked, once for the whole store.
///
/// # Errors
/// [`VertexError::Layer`], [`VertexError::Store`], [`VertexError::Canceled`].
pub(crate) async fn directories(
    solve: &Arc<Solve>,
    parts: impl IntoIterator<Item = &Part>,
) -> Result<Vec<PathBuf>, VertexError> {
    let ids = parts.into_iter().map(|part| async move {
        match part {
            Part::Snapshot(id) => Ok(*id),
            Part::Layer(layer) => unpacked(solve, layer).await,
        }
    });
    // All are waited for even when one fails: what still runs must not outlive this.
    let ids = join_all(ids).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(topmost(&ids).into_iter().map(|id| Snapshot::of(&solve.workshop.store, id).fs()).collect())
}

/// Each snapshot once, where it lies highest: what it says there hides what it said below, and overlayfs refuses to
/// take a directory twice.
fn topmost(ids: &[SnapshotId]) -> Vec<SnapshotId> {
    let mut seen = HashSet::new();
    let mut kept: Vec<SnapshotId> = ids.iter().rev().filter(|id| seen.insert(**id)).copied().collect();
    kept.reverse();
    kept
}

async fn unpacked(solve: &Arc<Solve>, layer: &ImageLayer) -> Result<SnapshotId, VertexError> {
    let workshop = &solve.workshop;
    let key = Key::of([&b"unpacked"[..], layer.diff_id.to_string().as_bytes()]);
    let key = key::in_domain(&workshop.domain, &key);
    if let Some(id) = find(solve, &key) {
        return Ok(id);
    }
    let Some(_flight) = workshop.flights.board(&key, &solve.cancel).await? else { return Err(VertexError::Canceled) };
    if let Some(id) = find(solve, &key) {
        return Ok(id);
    }
    let hex = layer.blob.digest.hex();
    let task = solve.progress.task(TaskId::new(format!("unpack {hex}")), format!("unpacking layer {}", &hex[..12]));
    let result = unpack(solve, layer, &key).await;
    match &result {
        Ok(_) => task.finish(Outcome::Done),
        Err(VertexError::Canceled) => task.finish(Outcome::Canceled),
        Err(error) => task.finish(Outcome::Failed(error.to_string())),
    }
    result
}

fn find(solve: &Solve, key: &Key) -> Option<SnapshotId> {
    match solve.workshop.records.find(key, 1)?.take(OutputIndex(0)).parts().next()? {
        Part::Snapshot(id) => Some(*id),
        Part::Layer(_) => None,
    }
}

async fn unpack(solve: &Arc<Solve>, layer: &ImageLayer, key: &Key) -> Result<SnapshotId, VertexError> {
    let (workshop, layer, key) = (solve.workshop.clone(), layer.clone(), *key);
    let cancel = solve.cancel.clone();
    solve
        .blocking(move || {
            let draft = Draft::new(&workshop.store)?;
            let blob = workshop.store.open_blob(&layer.blob.digest)?;
            workshop.apply(blob, &layer, draft.directory(), &cancel)?;
            let id = draft.commit()?;
            workshop.records.keep([key], &Outputs(vec![Chain::default().with(id)]))?;
            Ok(id)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_snapshot_counts_where_it_lies_highest() {
        let [a, b, c] = [(); 3].map(|()| SnapshotId::random().expect("random"));
        assert_eq!(topmost(&[a, b, a, c, b]), [a, c, b]);
        assert_eq!(topmost(&[]), []);
    }
}
