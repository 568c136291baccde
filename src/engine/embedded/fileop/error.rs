//! What can go wrong with a file operation.

use std::io;
use std::path::{Path, PathBuf};

use diag::{Diagnostic, Reported, codes};
use oci::layer::tar::TarError;

use crate::context::PatternError;

/// A file operation that failed. Paths are those inside the tree.
#[derive(Debug, thiserror::Error)]
pub enum FileOpError {
    /// Nothing is there.
    #[error("`{0}` does not exist")]
    NotFound(String),
    /// A pattern matches nothing.
    #[error("nothing matches `{0}`")]
    NoMatch(String),
    /// A pattern is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A directory is where a file is to be put.
    #[error("`{0}` is a directory, which a file cannot replace")]
    IsDirectory(String),
    /// Something else is where a directory is to be put, or to be gone through.
    #[error("`{0}` is not a directory")]
    NotDirectory(String),
    /// The root directory is not to be removed.
    #[error("the root directory cannot be removed")]
    RemovesRoot,
    /// The user is not in the tree's `/etc/passwd`.
    #[error("no user `{0}` in /etc/passwd")]
    UnknownUser(String),
    /// The group is not in the tree's `/etc/group`.
    #[error("no group `{0}` in /etc/group")]
    UnknownGroup(String),
    /// An archive to be unpacked is compressed in a way that is not understood.
    #[error("`{path}` is compressed with {format}, which cannot be unpacked")]
    Compression {
        /// The archive.
        path: String,
        /// How it is compressed.
        format: &'static str,
    },
    /// An archive to be unpacked is damaged, or means to write outside of where it is unpacked.
    #[error("cannot unpack `{path}`")]
    Archive {
        /// The archive.
        path: String,
        /// What is wrong with it.
        source: TarError,
    },
    /// A file operation failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// On what, inside the tree.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl FileOpError {
    /// Makes a closure for `map_err` on operations on a path inside the tree.
    pub(super) fn io<'a, E: Into<io::Error>>(action: &'static str, path: &'a Path) -> impl FnOnce(E) -> Self + 'a {
        move |error| Self::Io { action, path: shown(path), source: error.into() }
    }
}

/// A path relative to the root, as people write it.
pub(super) fn shown(path: &Path) -> String {
    PathBuf::from("/").join(path).display().to_string()
}

impl Reported for FileOpError {
    fn diagnostic(&self) -> Diagnostic {
        let message = self.to_string();
        match self {
            Self::NotFound(_) | Self::NoMatch(_) => Diagnostic::new(codes::engine::FILE_NOT_FOUND, message).help(
                "look at what the step or source it comes from leaves there: `-o type=local,dest=DIR` writes it out",
            ),
            Self::Pattern(_) => Diagnostic::new(codes::engine::BAD_PATTERN, message),
            Self::IsDirectory(_) | Self::NotDirectory(_) | Self::RemovesRoot => {
                Diagnostic::new(codes::engine::FILE_CONFLICT, message)
            }
            Self::UnknownUser(_) | Self::UnknownGroup(_) => Diagnostic::new(codes::engine::UNKNOWN_USER, message)
                .help("name one that the tree has, or use a number"),
            Self::Compression { .. } => Diagnostic::new(codes::engine::BAD_ARCHIVE, message)
                .help("compress it with gzip, xz or zstd, or not at all"),
            Self::Archive { .. } => Diagnostic::new(codes::engine::BAD_ARCHIVE, message).caused_by(self),
            Self::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                Diagnostic::new(codes::store::FULL, "the disk that holds the store is full")
                    .caused_by(self)
                    .help("free space, or run `clawbuild cache prune`; nothing half-written was kept")
            }
            Self::Io { .. } => Diagnostic::new(codes::engine::FILE_OPERATION, message).caused_by(self),
        }
    }
}
