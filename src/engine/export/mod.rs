//! Exporting a result, which is the same whichever engine made it.

mod files;
mod image;

pub use files::{archive, directory, files};
pub use image::assemble;

use std::io;
use std::path::{Path, PathBuf};

use diag::{Diagnostic, Reported, codes};
use oci::layer::tar::TarError;
use store::StoreError;

use crate::error::VertexError;

/// A result that was made but could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A layer could not be made of a snapshot.
    #[error("cannot make a layer")]
    Layer(#[source] oci::layer::diff::DiffError),
    /// The result's tree could not be had.
    #[error(transparent)]
    Tree(VertexError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// It was stopped before its end.
    #[error("interrupted")]
    Canceled,
}

impl ExportError {
    /// Makes a closure for `map_err` on file operations.
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl From<TarError> for ExportError {
    fn from(error: TarError) -> Self {
        Self::Layer(error.into())
    }
}

impl From<VertexError> for ExportError {
    fn from(error: VertexError) -> Self {
        match error {
            VertexError::Canceled => Self::Canceled,
            VertexError::Store(error) => Self::Store(error),
            error => Self::Tree(error),
        }
    }
}

impl Reported for ExportError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Layer(error) => error.diagnostic(),
            Self::Tree(error) => error.diagnostic(),
            Self::Store(error) => error.diagnostic(),
            Self::Io { source, path, .. } if crate::error::is_full(source) => {
                Diagnostic::new(codes::engine::EXPORT, format!("no space is left to write `{}`", path.display()))
                    .caused_by(self)
                    .help("free space, or write the result somewhere else")
            }
            Self::Io { .. } => Diagnostic::new(codes::engine::EXPORT, self.to_string()).caused_by(self),
            Self::Canceled => Diagnostic::new(codes::cli::INTERRUPTED, self.to_string()),
        }
    }
}
