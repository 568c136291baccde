//! What can be wrong with a package.

use std::io;

use diag::{Diagnostic, Reported, codes};
use oci::layer::tar::TarError;

/// A package that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// Reading or decompressing failed.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// It does not begin as an ar archive does.
    #[error("it is not a Debian package")]
    NotAnArchive,
    /// A member's header is malformed.
    #[error("the header of a member is malformed")]
    Header,
    /// It ends early.
    #[error("it ends early")]
    Truncated,
    /// A member has bytes that belong to nothing.
    #[error("`{0}` has bytes after its end")]
    Trailing(String),
    /// A member is not there, or not where it must be.
    #[error("`{0}` is missing, or not where it must be")]
    Missing(&'static str),
    /// It is of another format version.
    #[error("it has format version `{0}`, 2 is understood")]
    Format(String),
    /// A member is compressed in another way.
    #[error("`{0}` is compressed in a way that is not understood; gzip, xz and zstd are")]
    Compression(String),
    /// The control data is malformed.
    #[error("its control data is malformed: {0}")]
    Control(&'static str),
    /// One of its tars is malformed, leads out of the root, or exceeds a limit.
    #[error("the archive in it is refused")]
    Tar(#[from] TarError),
}

impl Reported for DebError {
    fn diagnostic(&self) -> Diagnostic {
        Diagnostic::new(codes::debian::PACKAGE, format!("a package cannot be used: {self}")).caused_by(self)
    }
}
