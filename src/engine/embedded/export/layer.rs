//! Layers of snapshots.

use std::sync::Arc;

use diag::progress::Task;
use oci::Descriptor;
use oci::layer::Snapshot;
use oci::layer::compress::{Compression, LayerWriter};
use oci::layer::diff::write_layer;
use oci::layer::tar::TarWriter;
use serde::{Deserialize, Serialize};
use store::{Bucket, Key, Store};

use super::ExportError;
use crate::SolvedLayer;
use crate::embedded::chain::{Chain, Part};
use crate::embedded::snapshot::{self, SnapshotId};
use crate::embedded::solver::Solve;
use crate::embedded::{Workshop, unpack};

/// What became of a snapshot: its layer, or nothing where it changed nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    layer: Option<SolvedLayer>,
}

/// The layer of one link of a chain; `None` if it changed nothing.
pub(super) async fn layer(
    solve: &Arc<Solve>,
    chain: &Chain,
    position: usize,
    compression: Compression,
    task: &Task,
) -> Result<Option<SolvedLayer>, ExportError> {
    let id = match chain.parts().nth(position) {
        Some(Part::Snapshot(id)) => *id,
        Some(Part::Layer(layer)) => {
            return Ok(Some(SolvedLayer { descriptor: layer.blob.clone(), diff_id: layer.diff_id }));
        }
        None => return Ok(None),
    };
    let (workshop, epoch) = (&solve.workshop, solve.request.source_date_epoch);
    let key = key(id, compression, epoch);
    if let Some(layer) = find(&workshop.store, &key) {
        return Ok(layer);
    }
    let Some(_flight) = workshop.flights.board(&key, &solve.cancel).await? else { return Err(ExportError::Canceled) };
    if let Some(layer) = find(&workshop.store, &key) {
        return Ok(layer);
    }
    let lower = unpack::snapshots(solve, &chain.lower(position)).await?;
    let _place = workshop.writer().await;
    let (work, canceled) = (Arc::clone(solve), solve.cancel.clone());
    let written = solve
        .blocking(move || {
            if canceled.is_cancelled() {
                return Err(ExportError::Canceled);
            }
            write(&work.workshop, id, &lower, compression, epoch)
        })
        .await?;
    if let Some(layer) = &written {
        let hex = layer.descriptor.digest.hex();
        task.transfer(format!("layer {}", &hex[..12]), layer.descriptor.size, Some(layer.descriptor.size));
    }
    Ok(written)
}

fn key(id: SnapshotId, compression: Compression, epoch: Option<i64>) -> Key {
    let epoch = epoch.map_or_else(|| "none".to_owned(), |seconds| seconds.to_string());
    let parts = ["layer", &id.to_string(), compression.identity(), &epoch];
    Key::of(parts.map(str::as_bytes))
}

fn find(store: &Store, key: &Key) -> Option<Option<SolvedLayer>> {
    let Record { layer } = store.record(Bucket::Layers, key)?;
    let whole = layer.as_ref().is_none_or(|layer| {
        let Descriptor { digest, size, .. } = &layer.descriptor;
        store.blob_size(digest) == Some(*size)
    });
    whole.then_some(layer)
}

fn write(
    workshop: &Workshop,
    id: SnapshotId,
    lower: &[Snapshot],
    compression: Compression,
    epoch: Option<i64>,
) -> Result<Option<SolvedLayer>, ExportError> {
    let store = &workshop.store;
    let threads = workshop.threads();
    let mut tar = TarWriter::new(LayerWriter::new(store.blob_writer()?, compression, threads));
    let entries = write_layer(lower, &snapshot::at(store, id), epoch, &mut tar).map_err(ExportError::Layer)?;
    let layer = if entries == 0 {
        None
    } else {
        let writer = tar.finish().map_err(|error| ExportError::Layer(error.into()))?;
        let (blob, file) = writer.finish().map_err(ExportError::io("write a layer to", store.temp()))?;
        file.commit(Some(&blob.descriptor.digest))?;
        Some(SolvedLayer { descriptor: blob.descriptor, diff_id: blob.diff_id })
    };
    // Should a power failure take the record away, the layer is made again.
    store.put_record_unsynced(Bucket::Layers, &key(id, compression, epoch), &Record { layer: layer.clone() })?;
    Ok(layer)
}
