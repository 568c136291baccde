//! Making the links of a chain visible as directories: image layers are unpacked when somebody has to see their files.

use std::collections::HashSet;
use std::sync::Arc;

use diag::progress::{Outcome, TaskId};
use llb::OutputIndex;
use oci::layer::Snapshot;
use oci::layer::apply::{self, Options};
use oci::layer::tar::Limits;
use store::{Key, StoreError};

use super::chain::{Chain, ImageLayer, Part};
use super::key;
use super::record::Outputs;
use super::snapshot::{self, Draft, SnapshotId};
use super::solver::Solve;
use crate::error::VertexError;
use crate::meter::{Meter, Metered};

/// The snapshots of these changes, in their order, each once. Every image layer among them is unpacked, once for the
/// whole store.
///
/// # Errors
/// [`VertexError::Layer`], [`VertexError::Store`], [`VertexError::Canceled`].
pub(crate) async fn snapshots(
    solve: &Arc<Solve>,
    parts: impl IntoIterator<Item = &Part>,
) -> Result<Vec<Snapshot>, VertexError> {
    let store = &solve.workshop.store;
    let mut ids = Vec::new();
    let mut unpacked: Vec<(&ImageLayer, SnapshotId)> = Vec::new();
    for part in parts {
        ids.push(match part {
            Part::Snapshot(id) => *id,
            Part::Layer(layer) => {
                let below = below(layer, &unpacked);
                let id = unpack(solve, layer, below.as_deref()).await?;
                unpacked.push((layer, id));
                id
            }
        });
    }
    Ok(topmost(&ids).into_iter().map(|id| snapshot::at(store, id)).collect())
}

/// Each snapshot once, where it lies highest: what it says there hides what it said below, and overlayfs refuses to
/// take a directory twice.
fn topmost(ids: &[SnapshotId]) -> Vec<SnapshotId> {
    let mut seen = HashSet::new();
    let mut kept: Vec<SnapshotId> = ids.iter().rev().filter(|id| seen.insert(**id)).copied().collect();
    kept.reverse();
    kept
}

/// The layers of its image below this one, lowest first; `None` if they are not at hand, as in a tree that is nothing
/// but an upper layer.
fn below(layer: &ImageLayer, unpacked: &[(&ImageLayer, SnapshotId)]) -> Option<Vec<SnapshotId>> {
    let mut ids = Vec::new();
    let mut layer = layer;
    while !layer.is_lowest() {
        let (parent, id) = unpacked.iter().find(|(parent, _)| layer.is_above(parent))?;
        ids.push(*id);
        layer = parent;
    }
    ids.reverse();
    Some(ids)
}

async fn unpack(
    solve: &Arc<Solve>,
    layer: &ImageLayer,
    below: Option<&[SnapshotId]>,
) -> Result<SnapshotId, VertexError> {
    let workshop = &solve.workshop;
    // Directories a layer has no entries for look as they do below.
    let (kind, id) = if below.is_some() { ("chain", layer.chain_id) } else { ("alone", layer.diff_id.0) };
    let key = key::in_domain(&workshop.domain, &Key::of(["unpacked", kind, &id.hex()].map(str::as_bytes)));
    if let Some(id) = find(solve, &key) {
        return Ok(id);
    }
    let Some(_flight) = workshop.flights.board(&key, &solve.cancel).await? else { return Err(VertexError::Canceled) };
    if let Some(id) = find(solve, &key) {
        return Ok(id);
    }
    let hex = layer.blob.digest.hex();
    let task = solve.progress.task(TaskId::new(format!("unpack {hex}")), format!("unpacking layer {}", &hex[..12]));
    let result = make(solve, layer, below.unwrap_or_default(), key, task.id()).await;
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

async fn make(
    solve: &Arc<Solve>,
    layer: &ImageLayer,
    below: &[SnapshotId],
    key: Key,
    task: &TaskId,
) -> Result<SnapshotId, VertexError> {
    let (workshop, layer, cancel) = (solve.workshop.clone(), layer.clone(), solve.cancel.clone());
    let lower: Vec<Snapshot> = below.iter().map(|id| snapshot::at(&workshop.store, *id)).collect();
    let meter = Meter::new(&solve.progress, task, "layer", Some(layer.blob.size));
    solve
        .blocking(move || {
            let draft = Draft::new(&workshop.store)?;
            let blob = Metered::new(workshop.store.open_blob(&layer.blob.digest)?, meter, &cancel);
            let options = Options {
                ownership: workshop.ownership(),
                overlay: workshop.overlay_xattrs(),
                limits: Limits::default(),
                lower: &lower,
            };
            let unpacked = match apply::unpack(blob, draft.snapshot(), &options) {
                Err(_) if cancel.is_cancelled() => return Err(VertexError::Canceled),
                Ok(unpacked) if unpacked.blob == layer.blob.digest => unpacked,
                result => {
                    // If the blob is not what its name says, that is what happened, and it is removed.
                    workshop.store.verify_blob(&layer.blob.digest)?;
                    result?
                }
            };
            if unpacked.diff_id != layer.diff_id {
                return Err(StoreError::Mismatch { expected: layer.diff_id.0, found: unpacked.diff_id.0 }.into());
            }
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
