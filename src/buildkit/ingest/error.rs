//! What can go wrong with what a builder exports.

use diag::{Diagnostic, Reported, codes};
use oci::Digest;
use store::StoreError;

/// An exported result that cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The builder did not send something its result is made of.
    #[error("the builder did not export {what} {digest}")]
    Missing {
        /// What it is.
        what: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// The builder did not say what its result is.
    #[error("the builder does not name the image it exported")]
    NoImage,
    /// A document of the builder's is none.
    #[error("the builder's {what} {digest} cannot be read")]
    Document {
        /// What it should be.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Manifest and config disagree.
    #[error("the builder's manifest lists {layers} layers, its config {diff_ids}")]
    LayerCount {
        /// How many layers the manifest has.
        layers: usize,
        /// How many diff IDs the config has.
        diff_ids: usize,
    },
    /// A layer cannot be written anew.
    #[error("the builder's layer {digest} cannot be taken over")]
    Layer {
        /// As the builder sent it.
        digest: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reported for IngestError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Store(error) => error.diagnostic(),
            Self::Layer { source, .. } if matches!(source.kind(), std::io::ErrorKind::StorageFull) => {
                Diagnostic::new(codes::store::FULL, "the disk is full")
                    .caused_by(self)
                    .help("free space, or run `clawbuild cache prune`; nothing half-written was kept")
            }
            Self::Missing { .. }
            | Self::NoImage
            | Self::Document { .. }
            | Self::LayerCount { .. }
            | Self::Layer { .. } => Diagnostic::new(codes::engine::EXPORT, self.to_string()).caused_by(self),
        }
    }
}
