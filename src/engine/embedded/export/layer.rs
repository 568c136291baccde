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
use tokio_util::sync::CancellationToken;

use crate::SolvedLayer;
use crate::embedded::chain::{Chain, Part};
use crate::embedded::snapshot::{self, SnapshotId};
use crate::embedded::solver::Solve;
use crate::embedded::{Workshop, unpack};
use crate::export::ExportError;
use crate::meter::{Meter, Metered};

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
    let meter = Meter::new(&solve.progress, task.id(), format!("layer {}", position + 1), None);
    let work = Work { id, lower, compression, epoch, key };
    let (workshop, cancel) = (workshop.clone(), solve.cancel.clone());
    solve
        .blocking(move || match work.write(&workshop, meter, &cancel) {
            Err(_) if cancel.is_cancelled() => Err(ExportError::Canceled),
            result => result,
        })
        .await
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

/// A layer to be written.
struct Work {
    id: SnapshotId,
    lower: Vec<Snapshot>,
    compression: Compression,
    epoch: Option<i64>,
    key: Key,
}

impl Work {
    fn write(
        &self,
        workshop: &Workshop,
        meter: Meter,
        cancel: &CancellationToken,
    ) -> Result<Option<SolvedLayer>, ExportError> {
        let store = &workshop.store;
        let writer = LayerWriter::new(store.blob_writer()?, self.compression, workshop.threads());
        let mut tar = TarWriter::new(Metered::new(writer, meter, cancel));
        let entries = write_layer(&self.lower, &snapshot::at(store, self.id), self.epoch, &mut tar);
        let layer = if entries.map_err(ExportError::Layer)? == 0 {
            None
        } else {
            let writer = tar.finish().map_err(|error| ExportError::Layer(error.into()))?.into_inner();
            let (blob, file) = writer.finish().map_err(ExportError::io("write a layer to", store.temp()))?;
            file.commit(Some(&blob.descriptor.digest))?;
            Some(SolvedLayer { descriptor: blob.descriptor, diff_id: blob.diff_id })
        };
        // Should a power failure take the record away, the layer is made again.
        store.put_record_unsynced(Bucket::Layers, &self.key, &Record { layer: layer.clone() })?;
        Ok(layer)
    }
}
