//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

use diag::{Diagnostic, Reported, codes};
use oci::Digest;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, as an infinitive: `read`, `create`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store was written by another layout version.
    #[error("the store `{path}` has format `{found}`, this clawbuild reads `{expected}`")]
    Format {
        /// The store's root.
        path: PathBuf,
        /// What its `format` file says.
        found: String,
        /// What is understood.
        expected: &'static str,
    },
    /// The directory holds things that are not ours.
    #[error("`{path}` is no store and not empty: it holds `{found}`")]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// Another process, or another handle of this one, uses the store.
    #[error("the store `{path}` is in use")]
    Busy {
        /// The store's root.
        path: PathBuf,
    },
    /// Content is not what its digest says.
    #[error("content has digest {found}, expected {expected}")]
    Mismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// Content is not there.
    #[error("the store has no blob {0}")]
    Missing(Digest),
}

impl StoreError {
    /// Makes a closure for `map_err` on file operations.
    pub fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl Reported for StoreError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                Diagnostic::new(codes::store::FULL, "the disk that holds the store is full")
                    .caused_by(self)
                    .help("free space, or run `clawbuild cache prune`; nothing half-written was kept")
            }
            Self::Io { .. } => Diagnostic::new(codes::store::IO, self.to_string()).caused_by(self),
            Self::Format { path, .. } => Diagnostic::new(codes::store::FORMAT, self.to_string()).help(format!(
                "use another directory with `--store DIR`, or remove `{}`: it holds only what can be made again",
                path.display()
            )),
            Self::NotAStore { .. } => Diagnostic::new(codes::store::FORMAT, self.to_string())
                .help("name an empty directory, or one that does not exist yet, with `--store DIR`"),
            Self::Busy { .. } => Diagnostic::new(codes::store::BUSY, self.to_string())
                .help("wait for the builds that run to end, then try again"),
            Self::Mismatch { .. } => Diagnostic::new(codes::store::MISMATCH, self.to_string()),
            Self::Missing(_) => Diagnostic::new(codes::store::MISSING, self.to_string()),
        }
    }
}
