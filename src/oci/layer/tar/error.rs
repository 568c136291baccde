//! What can be wrong with a tar.

use std::fmt;
use std::io;

use diag::{Diagnostic, Reported, codes};

/// A failure to write or read a tar.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The archive's own sink failed.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    /// The archive's own source failed.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// A file's content cannot be read while it is written to the archive.
    #[error("cannot read `{path}`")]
    Content {
        /// The entry.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file was shorter than its entry says.
    #[error("`{path}` changed while it was read: it ended after {found} of {expected} bytes")]
    Shrunk {
        /// The entry.
        path: String,
        /// The bytes its entry announced.
        expected: u64,
        /// The bytes there were.
        found: u64,
    },
    /// An entry that no tar can hold, or that must not be followed.
    #[error("`{path}` {problem}")]
    Path {
        /// The path, as far as it is text.
        path: String,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// A header that cannot be understood.
    #[error("the header at byte {offset} {problem}")]
    Header {
        /// Where in the uncompressed archive.
        offset: u64,
        /// What is wrong with it.
        problem: HeaderProblem,
    },
    /// The archive ends in the middle of something.
    #[error("the layer ends early, at byte {offset}")]
    Truncated {
        /// Where in the uncompressed archive.
        offset: u64,
    },
    /// A limit was reached.
    #[error("the layer has more than {limit} {kind}")]
    Limit {
        /// What there is too much of.
        kind: LimitKind,
        /// How much was allowed.
        limit: u64,
    },
}

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathProblem {
    /// There is none.
    Empty,
    /// It leads out of the root.
    Traversal,
    /// It is not in the form entries have: relative, no empty or `.` component, no slash at the end.
    NotNormal,
    /// It holds a NUL byte.
    Nul,
    /// It is longer than the limit.
    TooLong,
}

impl fmt::Display for PathProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "names nothing",
            Self::Traversal => "leads out of the layer's root",
            Self::NotNormal => "is not a normal relative path",
            Self::Nul => "holds a NUL byte",
            Self::TooLong => "is too long for a path",
        })
    }
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderProblem {
    /// Its checksum is wrong: this is no tar, or a damaged one.
    Checksum,
    /// A numeric field is no number, or out of range.
    Number(&'static str),
    /// A pax record is malformed.
    PaxRecord,
    /// An extended attribute's name is empty or holds `=` or NUL.
    XattrName,
    /// The entry is a sparse file, which layers must not hold.
    Sparse,
    /// The entry's type is not one that layers hold.
    Type(u8),
}

impl fmt::Display for HeaderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum => f.write_str("has a wrong checksum"),
            Self::Number(field) => write!(f, "has a {field} that is out of range"),
            Self::PaxRecord => f.write_str("has a malformed pax record"),
            Self::XattrName => f.write_str("has an extended attribute without a proper name"),
            Self::Sparse => f.write_str("is of a sparse file, which layers do not hold"),
            Self::Type(flag) => write!(f, "is of an unknown type `{}`", flag.escape_ascii()),
        }
    }
}

/// What there can be too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Members of the archive.
    Entries,
    /// Bytes of all files together.
    Bytes,
    /// Bytes of extended headers of one entry.
    ExtendedHeader,
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries => "entries",
            Self::Bytes => "bytes of files",
            Self::ExtendedHeader => "bytes in one extended header",
        })
    }
}

impl TarError {
    /// From an error that reading an entry's content gave.
    pub(crate) fn from_read(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::Read(error),
        }
    }
}

impl Reported for TarError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            // What decompressing damaged data gives.
            Self::Read(source)
                if matches!(
                    source.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Diagnostic::new(codes::oci::LAYER_INVALID, "the layer's compressed data is damaged").caused_by(self)
            }
            Self::Write(source) | Self::Read(source) | Self::Content { source, .. } => {
                crate::layer::io_diagnostic(self, source)
            }
            Self::Shrunk { .. } => Diagnostic::new(codes::oci::IO, self.to_string()),
            Self::Path { .. } | Self::Header { .. } | Self::Truncated { .. } => {
                Diagnostic::new(codes::oci::LAYER_INVALID, self.to_string())
            }
            Self::Limit { .. } => Diagnostic::new(codes::oci::LAYER_LIMIT, self.to_string()),
        }
    }
}
