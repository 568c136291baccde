//! What can go wrong, how it is told in one line, and the exit status it leads to.

use alloc::string::String;
use core::fmt;

use crate::sys::Errno;

/// A failure that ends the program.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is not understood.
    Usage(String),
    /// The manifest cannot be used.
    Manifest {
        /// The manifest.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A variable's value cannot be used.
    Variable {
        /// The variable.
        name: String,
        /// What is wrong with it; never its value where that is secret.
        problem: String,
    },
    /// A configuration file cannot be rendered.
    Config {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The operating system refused something.
    System {
        /// What was to be done, as in "cannot …".
        doing: String,
        /// Its reason.
        source: Errno,
    },
    /// A program could not be started.
    Start {
        /// The program.
        program: String,
        /// The reason.
        source: Errno,
    },
}

impl Failure {
    /// A refusal of the operating system.
    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let doing = doing.into();
        move |source| Self::System { doing, source }
    }

    /// The exit status, from `sysexits.h` and, for programs that do not start, from the shell.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::System { .. } => 71,
            Self::Manifest { .. } | Self::Variable { .. } | Self::Config { .. } => 78,
            Self::Start { source, .. } if *source == Errno::ENOENT => 127,
            Self::Start { .. } => 126,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(problem) => write!(f, "{problem}\n{}", crate::USAGE),
            Self::Manifest { path, problem } | Self::Config { path, problem } => {
                write!(f, "{}: {problem}", path)
            }
            Self::Variable { name, problem } => write!(f, "{name}: {problem}"),
            Self::System { doing, source } => write!(f, "cannot {doing}: {source}"),
            Self::Start { program, source } => write!(f, "cannot start `{program}`: {source}"),
        }
    }
}
