//! An exported image, blob by blob.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use engine::SolvedLayer;
use oci::layer::compress::Decompressor;
use oci::{Descriptor, DiffId, Digest, media_type};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use store::Store;
use tokio_util::sync::CancellationToken;

use super::base::Layered;
use super::layer::{LayerRules, Press, Record};
use super::{BaseLayers, ExportTask, IngestError};
use crate::session::{ContentSink, IncomingBlob};

/// The longest document that is read.
const DOCUMENT: u64 = 32 << 20;

/// Takes the blobs of an image: layers into the store, manifest and config into memory.
#[derive(Debug)]
pub struct ImageSink {
    press: Press,
    bases: BaseLayers,
    documents: Mutex<HashMap<Digest, Vec<u8>>>,
    failure: Mutex<Option<IngestError>>,
}

impl ImageSink {
    /// Writes layers to `store`; tells `task` of them.
    pub fn new(
        store: Store,
        rules: LayerRules,
        bases: BaseLayers,
        task: Arc<ExportTask>,
        cancel: CancellationToken,
    ) -> Self {
        let press = Press { store, rules, task, cancel };
        Self { press, bases, documents: Mutex::default(), failure: Mutex::default() }
    }

    /// The first failure to take something, with which the builder only says that it failed.
    pub fn take_failure(&self) -> Option<IngestError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The layers of the image with this manifest, lowest first, when all has come. Blocks.
    ///
    /// # Errors
    /// [`IngestError`].
    pub fn layers(&self, manifest: &Digest) -> Result<Vec<SolvedLayer>, IngestError> {
        let digest = *manifest;
        let manifest: Listed = self.document("manifest", &digest)?;
        let config: Layered = self.document("config", &manifest.config.digest)?;
        let (layers, diff_ids) = (manifest.layers.unwrap_or_default(), config.rootfs.diff_ids.unwrap_or_default());
        if layers.len() != diff_ids.len() {
            return Err(IngestError::LayerCount { layers: layers.len(), diff_ids: diff_ids.len() });
        }
        let layers = layers.into_iter().zip(diff_ids).map(|(layer, diff_id)| self.layer(layer, diff_id));
        let layers: Vec<Option<SolvedLayer>> = layers.collect::<Result<_, _>>()?;
        Ok(layers.into_iter().flatten().collect())
    }

    fn layer(&self, theirs: Descriptor, diff_id: DiffId) -> Result<Option<SolvedLayer>, IngestError> {
        let store = &self.press.store;
        if let Some(descriptor) = self.bases.present(&diff_id) {
            return Ok(Some(SolvedLayer { descriptor: descriptor.clone(), diff_id }));
        }
        let missing = || IngestError::Missing { what: "the layer", digest: theirs.digest };
        if self.bases.contains(&diff_id) {
            let size = store.blob_size(&theirs.digest).ok_or_else(missing)?;
            let descriptor = Descriptor::new(plain(&theirs.media_type), theirs.digest, size);
            return Ok(Some(SolvedLayer { descriptor, diff_id }));
        }
        if let Some(record) = self.press.find(&diff_id) {
            return Ok(record.layer);
        }
        // The builder had it compressed, or the store had it: its tar lies here.
        let fail = |source| IngestError::Layer { digest: theirs.digest, source };
        let blob = match store.open_blob(&theirs.digest) {
            Ok(blob) => blob,
            Err(store::StoreError::Missing(_)) => return Err(missing()),
            Err(error) => return Err(error.into()),
        };
        let mut tar = Decompressor::new(blob).map_err(fail)?;
        Ok(self.press.write(&diff_id, &mut tar).map_err(fail)?.layer)
    }

    fn document<T: DeserializeOwned>(&self, what: &'static str, digest: &Digest) -> Result<T, IngestError> {
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let parse = |bytes: &[u8]| {
            serde_json::from_slice(bytes).map_err(|source| IngestError::Document { what, digest: *digest, source })
        };
        match documents.get(digest) {
            Some(bytes) => parse(bytes),
            // What the store has is not sent.
            None => match self.press.store.read_blob(digest) {
                Ok(bytes) => parse(&bytes),
                Err(store::StoreError::Missing(_)) => Err(IngestError::Missing { what, digest: *digest }),
                Err(error) => Err(error.into()),
            },
        }
    }

    fn failed(&self, digest: Digest, source: io::Error) -> io::Error {
        let told = io::Error::new(source.kind(), source.to_string());
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(IngestError::Layer { digest, source });
        told
    }

    /// What the builder made is written anew; what came with a base, and what is compressed and so may have, is kept
    /// as it is.
    fn receive_layer(&self, digest: &Digest, content: &mut dyn Read) -> io::Result<()> {
        let mut magic = Vec::with_capacity(4);
        (&mut *content).take(4).read_to_end(&mut magic)?;
        let is_compressed = magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd];
        let mut whole = (&magic[..]).chain(content);
        if is_compressed || self.bases.contains(&DiffId(*digest)) {
            let mut writer = self.press.store.blob_writer().map_err(io::Error::other)?;
            io::copy(&mut whole, &mut writer)?;
            writer.commit(Some(digest)).map_err(io::Error::other)?;
            return Ok(());
        }
        self.press.write(&DiffId(*digest), &mut whole).map(drop)
    }
}

impl ContentSink for ImageSink {
    fn size(&self, digest: &Digest) -> Option<u64> {
        let press = &self.press;
        press.find(&DiffId(*digest)).map(|Record { size, .. }| size).or_else(|| press.store.blob_size(digest))
    }

    fn receive(&self, blob: &IncomingBlob, content: &mut dyn Read) -> io::Result<()> {
        self.press.task.begin();
        if blob.reference.starts_with("layer-") {
            return self.receive_layer(&blob.digest, content).map_err(|source| self.failed(blob.digest, source));
        }
        let mut bytes = Vec::new();
        content.take(DOCUMENT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > DOCUMENT {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a manifest or config is too long"));
        }
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest, bytes);
        Ok(())
    }
}

/// As much of a manifest as says what an image is made of. An image of nothing has no list at all.
#[derive(Debug, Deserialize)]
struct Listed {
    config: Descriptor,
    layers: Option<Vec<Descriptor>>,
}

/// Docker's media types mean the same bytes.
fn plain(kind: &str) -> &str {
    if kind == media_type::DOCKER_LAYER_GZIP { media_type::LAYER_GZIP } else { kind }
}
