//! What can go wrong with a download.

use diag::{Diagnostic, Reported, codes};
use oci::Digest;
use store::StoreError;

use crate::http::retry::{Retryable, Verdict};
use crate::http::{HttpError, RedactedUrl};
use crate::integrity::Sha512;

/// A failed download. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// It could not be fetched.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It has another SHA-256.
    #[error("`{url}` has digest {found}, expected {expected}")]
    Sha256 {
        /// Where it came from.
        url: RedactedUrl,
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// It has another SHA-512.
    #[error("`{url}` has integrity {found}, expected {expected}")]
    Sha512 {
        /// Where it came from.
        url: RedactedUrl,
        /// What it should be.
        expected: Box<Sha512>,
        /// What it is.
        found: Box<Sha512>,
    },
    /// It has another length.
    #[error("`{url}` is {found} bytes long, expected {expected}")]
    Size {
        /// Where it came from.
        url: RedactedUrl,
        /// What it should be.
        expected: u64,
        /// What it is, or the first length that was too much.
        found: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DownloadError {
    /// Whether the server says that there is no such thing, so that another place may be tried.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_not_found())
    }
}

impl Retryable for DownloadError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Http(error) => error.verdict(),
            // Plain HTTP has no checksum of its own, and mirrors are seen half-updated: look a second time.
            Self::Sha256 { .. } | Self::Sha512 { .. } | Self::Size { .. } => Verdict::Once,
            Self::Store(_) => Verdict::Final,
        }
    }
}

impl Reported for DownloadError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Http(error) => error.diagnostic(),
            Self::Store(error) => error.diagnostic(),
            Self::Sha256 { .. } | Self::Sha512 { .. } | Self::Size { .. } => {
                Diagnostic::new(codes::registry::MISMATCH, self.to_string())
                    .help("the source, or something on the way, serves other content than was locked; compare it by hand before locking it anew")
            }
        }
    }
}
