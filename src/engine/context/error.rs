//! What can go wrong with a context.

use std::path::PathBuf;

use diag::{Diagnostic, Reported, codes};

use super::pattern::PatternError;

/// Why a local directory could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The directory is not there, or is none.
    #[error("`{}` is not a directory", .path.display())]
    NotADirectory {
        /// Where it should be.
        path: PathBuf,
    },
    /// A pattern is not one.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A file operation failed.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something that is neither a file, a directory nor a symbolic link.
    #[error("`{}` is a {kind}, which cannot be part of a build", .path.display())]
    SpecialFile {
        /// Where.
        path: PathBuf,
        /// What it is: `FIFO` or `device`.
        kind: &'static str,
    },
    /// A file was changed while it was read, again and again, or between being read and being copied.
    #[error("`{}` changed while it was read", .path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
}

impl ContextError {
    /// Makes a closure for `map_err` on file operations.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |errno| Self::Io { action, path, source: errno.into() }
    }
}

impl Reported for ContextError {
    fn diagnostic(&self) -> Diagnostic {
        let message = self.to_string();
        match self {
            Self::NotADirectory { .. } => Diagnostic::new(codes::engine::CONTEXT_MISSING, message)
                .help("check the path of the build context; it must be a directory on this machine"),
            Self::Pattern(_) => Diagnostic::new(codes::engine::CONTEXT_PATTERN, message)
                .help("patterns are those of `.dockerignore`: `*`, `?`, `[a-z]`, `**`, and `!` to take files in again"),
            Self::Io { source, .. } => {
                let diagnostic = Diagnostic::new(codes::engine::CONTEXT_READ, message).cause(source.to_string());
                match source.kind() {
                    std::io::ErrorKind::PermissionDenied => {
                        diagnostic.help("make it readable, or leave it out with a line in `.dockerignore`")
                    }
                    _ => diagnostic,
                }
            }
            Self::SpecialFile { .. } => Diagnostic::new(codes::engine::CONTEXT_FILE, message)
                .help("leave it out with a line in `.dockerignore`"),
            Self::Changed { .. } => Diagnostic::new(codes::engine::CONTEXT_CHANGED, message)
                .help("build again; if something always writes to it, leave it out with a line in `.dockerignore`"),
        }
    }
}
