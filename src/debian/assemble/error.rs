//! Why a root filesystem cannot be assembled.

use std::io;
use std::path::PathBuf;

use diag::{Diagnostic, Reported, codes};
use oci::Digest;
use oci::layer::tar::TarError;

use crate::DebError;

/// A root filesystem that cannot be assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A package cannot be read.
    #[error("package `{package}` cannot be used")]
    Package {
        /// Which.
        package: String,
        /// What is wrong with it.
        source: DebError,
    },
    /// A package's file is not what is locked.
    #[error("the file of package `{package}` has digest {found}, locked is {expected}")]
    Digest {
        /// Which.
        package: String,
        /// The digest locked.
        expected: Digest,
        /// The digest of the file.
        found: Digest,
    },
    /// A package holds something that no package of Debian has.
    #[error("package `{package}` has {what} at `{path}`")]
    Entry {
        /// Which.
        package: String,
        /// Where.
        path: String,
        /// What is wrong there.
        what: &'static str,
    },
    /// A package says it is another.
    #[error("the file locked as `{locked}` is `{found}`")]
    Identity {
        /// What is locked.
        locked: String,
        /// What its control data says.
        found: String,
    },
    /// Two packages ship the same path.
    #[error("`{path}` is in both `{one}` and `{other}`")]
    FileConflict {
        /// Where.
        path: String,
        /// The package that was there first.
        one: String,
        /// The other one.
        other: String,
    },
    /// A user cannot be added.
    #[error("user `{name}` ({id}) cannot be added: {reason}")]
    User {
        /// The user.
        name: String,
        /// The number.
        id: u32,
        /// Why not.
        reason: String,
    },
    /// A package is in the layer below already.
    #[error("`{package}` is to be installed, but the layer below has `{present}`")]
    Below {
        /// Which.
        package: String,
        /// What is there.
        present: String,
    },
    /// A file operation failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing the layer failed.
    #[error("the layer cannot be written")]
    Layer(#[from] TarError),
}

impl AssembleError {
    /// Makes a closure for `map_err` on file operations.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl Reported for AssembleError {
    fn diagnostic(&self) -> Diagnostic {
        let with = |code| Diagnostic::new(code, self.to_string());
        match self {
            Self::Package { .. } => with(codes::debian::PACKAGE).caused_by(self),
            Self::Entry { .. } => with(codes::debian::PACKAGE),
            Self::Digest { .. } | Self::Identity { .. } => with(codes::debian::PACKAGE)
                .help("the download is damaged, or was changed since: remove it and try again"),
            Self::FileConflict { .. } => with(codes::debian::FILE_CONFLICT)
                .help("neither declares that it replaces the other: leave one of them out"),
            Self::User { .. } => with(codes::debian::USER).help("choose another name or number for it"),
            Self::Below { .. } => {
                with(codes::debian::BELOW).help("leave the package out here, or put this version into the set below")
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                with(codes::debian::IO).caused_by(self).help("free space and try again; nothing half-written was kept")
            }
            Self::Io { .. } => with(codes::debian::IO).caused_by(self),
            Self::Layer(source) => source.diagnostic(),
        }
    }
}
