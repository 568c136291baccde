//! What can go wrong with layouts.

use std::io;

use diag::{Diagnostic, Reported, codes};

use crate::Digest;
use crate::layer::tar::TarError;

/// A failure to read or write a layout.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file operation failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// On what.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Content cannot be read.
    #[error("cannot read {digest}")]
    Blob {
        /// Which.
        digest: Digest,
        /// What the system said.
        source: io::Error,
    },
    /// Content is not what its descriptor says.
    #[error("{expected} is not what it should be: its digest is {found}, its length {size} bytes")]
    Mismatch {
        /// The digest it goes by.
        expected: Digest,
        /// The digest it has.
        found: Digest,
        /// The length it has.
        size: u64,
    },
    /// A document cannot be parsed.
    #[error("{what} cannot be read")]
    Document {
        /// Its name or digest.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Something in an image is of a kind that is not known.
    #[error("{digest} has the media type `{media_type}`, which is neither a manifest nor an index")]
    MediaType {
        /// Which.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// The path holds no layout.
    #[error("`{path}` is no OCI layout: {why}")]
    NotALayout {
        /// The path.
        path: String,
        /// What it lacks.
        why: String,
    },
    /// A path that would be replaced holds something else.
    #[error("`{path}` is there and is no OCI layout")]
    Foreign {
        /// The path.
        path: String,
    },
    /// The layout has no such image.
    #[error("the layout has no image {wanted}")]
    NotFound {
        /// What was asked for, as `tagged …` or `for …`.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// The archive is damaged, or cannot be written.
    #[error(transparent)]
    Archive(#[from] TarError),
}

impl LayoutError {
    pub(super) fn io<'a>(action: &'static str, path: &'a std::path::Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.display().to_string(), source }
    }
}

impl Reported for LayoutError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Io { source, .. } | Self::Blob { source, .. } => crate::layer::io_diagnostic(self, source),
            Self::Mismatch { .. } => Diagnostic::new(codes::oci::MISMATCH, self.to_string()),
            Self::Document { .. } => Diagnostic::new(codes::oci::LAYOUT_INVALID, self.to_string()).caused_by(self),
            Self::MediaType { .. } | Self::NotALayout { .. } => {
                Diagnostic::new(codes::oci::LAYOUT_INVALID, self.to_string())
            }
            Self::Foreign { .. } => Diagnostic::new(codes::oci::LAYOUT_INVALID, self.to_string())
                .help("name another destination, or remove what is there"),
            Self::NotFound { available, .. } => {
                let diagnostic = Diagnostic::new(codes::oci::NOT_FOUND, self.to_string());
                if available.is_empty() {
                    diagnostic
                } else {
                    diagnostic.help(format!("it has {}", available.join(", ")))
                }
            }
            Self::Archive(error) => error.diagnostic(),
        }
    }
}
