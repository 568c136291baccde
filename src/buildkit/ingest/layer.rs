//! Layers of a builder, written anew.

use std::io::{self, BufReader, Read};
use std::num::NonZeroUsize;
use std::sync::Arc;

use engine::SolvedLayer;
use engine::meter::{Meter, Metered};
use oci::layer::compress::{Compression, LayerWriter};
use oci::layer::rewrite::rewrite;
use oci::layer::tar::{Limits, TarReader, TarWriter};
use oci::{Descriptor, DiffId};
use serde::{Deserialize, Serialize};
use store::{Bucket, Key, Store};
use tokio_util::sync::CancellationToken;

use super::ExportTask;

/// What became of a builder's layer: ours, or nothing where it changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) layer: Option<SolvedLayer>,
    /// Bytes of the builder's tar.
    pub(super) size: u64,
}

/// How layers are written.
#[derive(Clone, Copy, Debug)]
pub struct LayerRules {
    /// How they are compressed.
    pub compression: Compression,
    /// Newest time in them, seconds since 1970.
    pub epoch: Option<i64>,
    /// Threads that compress one.
    pub threads: NonZeroUsize,
}

/// Writes layers.
#[derive(Debug)]
pub(super) struct Press {
    pub(super) store: Store,
    pub(super) rules: LayerRules,
    pub(super) task: Arc<ExportTask>,
    pub(super) cancel: CancellationToken,
}

impl Press {
    /// What became of a layer in this or an earlier solve.
    pub(super) fn find(&self, theirs: &DiffId) -> Option<Record> {
        let record: Record = self.store.record(Bucket::Layers, &self.key(theirs))?;
        let whole = record.layer.as_ref().is_none_or(|layer| {
            let Descriptor { digest, size, .. } = &layer.descriptor;
            self.store.blob_size(digest) == Some(*size)
        });
        whole.then_some(record)
    }

    /// Reads a layer's tar to its end, writes it in our form and remembers what became of it.
    pub(super) fn write(&self, theirs: &DiffId, tar: &mut dyn Read) -> io::Result<Record> {
        let short: String = theirs.0.hex().chars().take(12).collect();
        let meter = Meter::new(self.task.progress(), self.task.id(), format!("layer {short}"), None);
        let mut source = BufReader::with_capacity(1 << 17, Metered::new(tar, meter, &self.cancel));
        let writer = self.store.blob_writer().map_err(io::Error::other)?;
        let mut ours = TarWriter::new(LayerWriter::new(writer, self.rules.compression, self.rules.threads));
        let mut reader = TarReader::new(&mut source, Limits::default());
        let entries = rewrite(&mut reader, self.rules.epoch, &mut ours).map_err(io::Error::other)?;
        // Whether all of it was right is known at its end only.
        io::copy(&mut source, &mut io::sink())?;
        let layer = match entries {
            0 => None,
            _ => {
                let (blob, file) = ours.finish().map_err(io::Error::other)?.finish()?;
                file.commit(Some(&blob.descriptor.digest)).map_err(io::Error::other)?;
                Some(SolvedLayer { descriptor: blob.descriptor, diff_id: blob.diff_id })
            }
        };
        let record = Record { layer, size: source.get_ref().moved() };
        // Should a power failure take the record away, the layer is sent again.
        self.store.put_record_unsynced(Bucket::Layers, &self.key(theirs), &record).map_err(io::Error::other)?;
        Ok(record)
    }

    fn key(&self, theirs: &DiffId) -> Key {
        let epoch = self.rules.epoch.map_or_else(|| "none".to_owned(), |seconds| seconds.to_string());
        let parts = ["builder's layer", &theirs.to_string(), self.rules.compression.identity(), &epoch];
        Key::of(parts.map(str::as_bytes))
    }
}
