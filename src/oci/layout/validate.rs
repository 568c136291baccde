//! The check of everything an image consists of.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};

use diag::{Diagnostic, Reported, codes};

use super::images::{Document, read_document};
use super::{BlobSource, LayoutError};
use crate::layer::compress::{Compression, Decompressor, HashingReader};
use crate::{Descriptor, DiffId, Digest, ImageConfig, Manifest, media_type};

/// What the check found.
#[derive(Debug, Default)]
pub struct Report {
    /// Image manifests looked at.
    pub images: usize,
    /// Blobs read, each once.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Something that is wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A document or layer is missing, damaged or malformed.
    #[error(transparent)]
    Content(#[from] LayoutError),
    /// The tar in a layer is not the one the config names.
    #[error("layer {number} ({layer}) holds {found}, the config says {expected}")]
    DiffId {
        /// Counted from 0, the lowest.
        number: usize,
        /// The layer's digest.
        layer: Digest,
        /// What the config says.
        expected: DiffId,
        /// What is there.
        found: DiffId,
    },
    /// Manifest and config have different numbers of layers.
    #[error("the manifest {manifest} has {layers} layers, its config {diff_ids}")]
    LayerCount {
        /// The manifest.
        manifest: Digest,
        /// Layers in the manifest.
        layers: usize,
        /// Diff IDs in the config.
        diff_ids: usize,
    },
    /// A layer is compressed in another way than its media type says.
    #[error("layer {layer} is of type `{media_type}`, but its compression is {}", Named(*.found))]
    Compression {
        /// The layer.
        layer: Digest,
        /// What its descriptor says.
        media_type: String,
        /// What it is.
        found: Compression,
    },
}

struct Named(Compression);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

impl Reported for Problem {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Content(error) => error.diagnostic(),
            Self::DiffId { .. } | Self::LayerCount { .. } | Self::Compression { .. } => {
                Diagnostic::new(codes::oci::MISMATCH, self.to_string())
            }
        }
    }
}

/// Reads all there is of an image or index and computes every digest, length and diff ID anew. Nothing of what the
/// documents say is taken for granted.
#[must_use]
pub fn validate(source: &dyn BlobSource, root: &Descriptor) -> Report {
    let mut validator = Validator { source, report: Report::default(), layers: BTreeMap::new() };
    validator.document(root);
    validator.report
}

struct Validator<'a> {
    source: &'a dyn BlobSource,
    report: Report,
    /// Layers read so far, by digest and length: many images share one. None where it cannot be read.
    layers: BTreeMap<(Digest, u64), Option<(DiffId, Compression)>>,
}

impl Validator<'_> {
    fn document(&mut self, descriptor: &Descriptor) {
        let parsed = self.read(descriptor).and_then(|bytes| {
            Document::parse(descriptor, &bytes).map_err(|error| self.report.problems.push(error.into())).ok()
        });
        match parsed {
            Some(Document::Index(index)) => index.manifests.iter().for_each(|entry| self.document(entry)),
            Some(Document::Manifest(manifest)) => self.manifest(descriptor, &manifest),
            None => {}
        }
    }

    fn read(&mut self, descriptor: &Descriptor) -> Option<Vec<u8>> {
        match read_document(self.source, descriptor) {
            Ok(bytes) => {
                self.report.blobs += 1;
                self.report.bytes += descriptor.size;
                Some(bytes)
            }
            Err(error) => {
                self.report.problems.push(error.into());
                None
            }
        }
    }

    fn manifest(&mut self, descriptor: &Descriptor, manifest: &Manifest) {
        self.report.images += 1;
        let config = self.read(&manifest.config);
        let layers: Vec<_> = manifest.layers.iter().map(|layer| self.layer(layer)).collect();
        if !matches!(manifest.config.media_type.as_str(), media_type::CONFIG | media_type::DOCKER_CONFIG) {
            // An artifact: its layers are no file trees.
            return;
        }
        let Some(config) = config else { return };
        let diff_ids = match serde_json::from_slice::<ImageConfig>(&config) {
            Ok(config) => config.rootfs.diff_ids,
            Err(source) => {
                let what = manifest.config.digest.to_string();
                self.report.problems.push(LayoutError::Document { what, source }.into());
                return;
            }
        };
        if diff_ids.len() != layers.len() {
            self.report.problems.push(Problem::LayerCount {
                manifest: descriptor.digest,
                layers: layers.len(),
                diff_ids: diff_ids.len(),
            });
            return;
        }
        for (number, ((expected, found), layer)) in diff_ids.into_iter().zip(layers).zip(&manifest.layers).enumerate() {
            let Some((found, compression)) = found else { continue };
            if found != expected {
                self.report.problems.push(Problem::DiffId { number, layer: layer.digest, expected, found });
            }
            if declared(&layer.media_type).is_some_and(|declared| declared != compression) {
                let media_type = layer.media_type.clone();
                self.report.problems.push(Problem::Compression { layer: layer.digest, media_type, found: compression });
            }
        }
    }

    fn layer(&mut self, layer: &Descriptor) -> Option<(DiffId, Compression)> {
        let key = (layer.digest, layer.size);
        if let Some(known) = self.layers.get(&key) {
            return *known;
        }
        let read = self.read_layer(layer).map_err(|error| self.report.problems.push(error.into())).ok();
        self.layers.insert(key, read);
        read
    }

    fn read_layer(&mut self, layer: &Descriptor) -> Result<(DiffId, Compression), LayoutError> {
        let digest = layer.digest;
        let fail = |source| LayoutError::Blob { digest, source };
        // One byte more than there should be is enough to know.
        let blob = self.source.open(&digest).map_err(fail)?.take(layer.size.saturating_add(1));
        let mut tar = Decompressor::new(HashingReader::new(blob)).map_err(fail)?;
        let compression = tar.compression();
        let content = Digest::of_reader(&mut tar);
        let mut blob = tar.into_inner();
        io::copy(&mut blob, &mut io::sink()).map_err(fail)?;
        let (found, size) = blob.finish();
        // Damage shows in the digest first, whatever the decompressor made of it.
        if found != digest || size != layer.size {
            return Err(LayoutError::Mismatch { expected: digest, found, size });
        }
        self.report.blobs += 1;
        self.report.bytes += size;
        Ok((DiffId(content.map_err(fail)?.0), compression))
    }
}

/// The compression a media type stands for; none where it says nothing about it.
fn declared(media_type: &str) -> Option<Compression> {
    match media_type {
        media_type::LAYER => Some(Compression::None),
        media_type::LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Some(Compression::Gzip),
        media_type::LAYER_ZSTD => Some(Compression::Zstd),
        _ => None,
    }
}
