//! What can go wrong before a command runs. What the command itself does is an exit status, never an error.

use std::io;

use diag::{Diagnostic, Reported, codes};
use serde::{Deserialize, Serialize};

/// A step that could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It was cancelled.
    #[error("the step was cancelled")]
    Cancelled,
    /// The helper process could not be started or talked to.
    #[error("cannot {action}")]
    Helper {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The command was gone before it ran.
    #[error("the command ended with status {code} before it ran")]
    NeverBegan {
        /// Its exit status.
        code: i32,
    },
    /// The helper process ended without a word.
    #[error("the sandbox helper ended unexpectedly: {status}")]
    HelperDied {
        /// How.
        status: std::process::ExitStatus,
    },
    /// The helper could not run the command.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why the helper could not run the command. Crosses from the helper as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// A part of the sandbox could not be set up.
    #[error("cannot {action}")]
    Setup {
        /// What was tried, as an infinitive.
        action: String,
        /// What the system said.
        source: SystemError,
    },
    /// The user is not in the root filesystem's `/etc/passwd`.
    #[error("no user `{0}` in the step's /etc/passwd")]
    UnknownUser(String),
    /// The group is not in the root filesystem's `/etc/group`.
    #[error("no group `{0}` in the step's /etc/group")]
    UnknownGroup(String),
    /// What a mount's source selects does not exist.
    #[error("`{selector}`, to be mounted at `{target}`, does not exist")]
    NoMountSource {
        /// Where it was to be mounted.
        target: String,
        /// What was to be mounted.
        selector: String,
    },
    /// The working directory is something else.
    #[error("the working directory `{0}` is not a directory")]
    WorkingDirectory(String),
    /// The program is not there.
    #[error("program `{program}` not found{}", if path.is_empty() { String::new() } else { format!(" in `{path}`") })]
    ProgramNotFound {
        /// What was asked for.
        program: String,
        /// The search path, if one was used.
        path: String,
    },
    /// The program is there, but what interprets it is not.
    #[error("`{program}` needs `{interpreter}`, which is not there")]
    InterpreterNotFound {
        /// The program.
        program: String,
        /// Its `#!` interpreter or dynamic loader.
        interpreter: String,
    },
    /// The program may not be executed.
    #[error("`{0}` may not be executed")]
    NotExecutable(String),
    /// The program is for another processor.
    #[error("`{program}` is a program for {machine}, which this machine cannot run")]
    ForeignArchitecture {
        /// The program.
        program: String,
        /// The processor, as its ELF header says.
        machine: String,
    },
    /// The kernel does not let a user namespace say what runs programs of another architecture.
    #[error("this kernel does not let a container have emulation of its own")]
    NoBinfmt(#[source] SystemError),
    /// The program is nothing the kernel can execute.
    #[error("`{0}` is neither a program nor a script with a `#!` line")]
    NotAProgram(String),
}

/// An error number, across processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SystemError(pub i32);

impl std::fmt::Display for SystemError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for SystemError {}

impl From<io::Error> for SystemError {
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl Refusal {
    /// Makes a closure for `map_err` on system calls.
    pub(super) fn setup<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |error| Self::Setup { action: action.into(), source: error.into().into() }
    }
}

impl Reported for SandboxError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Cancelled => Diagnostic::new(codes::cli::INTERRUPTED, self.to_string()),
            Self::Helper { .. } | Self::HelperDied { .. } | Self::NeverBegan { .. } => {
                Diagnostic::new(codes::engine::SANDBOX, "the sandbox of a step could not be made").caused_by(self)
            }
            Self::Refused(refusal) => refusal.diagnostic(),
        }
    }
}

impl Reported for Refusal {
    fn diagnostic(&self) -> Diagnostic {
        let message = self.to_string();
        match self {
            Self::Setup { .. } => Diagnostic::new(codes::engine::SANDBOX, "the sandbox of a step could not be made")
                .caused_by(self)
                .help("`clawbuild doctor` shows what works here"),
            Self::UnknownUser(_) | Self::UnknownGroup(_) => Diagnostic::new(codes::engine::UNKNOWN_USER, message)
                .help("name one that the step's root filesystem has, or use a number"),
            Self::NoMountSource { .. } => Diagnostic::new(codes::engine::NO_MOUNT_SOURCE, message),
            Self::WorkingDirectory(_) => Diagnostic::new(codes::engine::WORKING_DIRECTORY, message),
            Self::ProgramNotFound { .. } => Diagnostic::new(codes::engine::PROGRAM_NOT_FOUND, message)
                .help("add the package that has it to the step's root filesystem, or give its absolute path"),
            Self::InterpreterNotFound { .. } => Diagnostic::new(codes::engine::PROGRAM_NOT_FOUND, message)
                .help("add the package that has it to the step's root filesystem"),
            Self::NotExecutable(_) | Self::NotAProgram(_) => {
                Diagnostic::new(codes::engine::NOT_EXECUTABLE, message).help("give scripts a `#!` line and mode 0755")
            }
            Self::NoBinfmt(_) => Diagnostic::new(codes::engine::EMULATION, message)
                .caused_by(self)
                .help("it takes Linux 6.7 or newer with the module binfmt_misc: `modprobe binfmt_misc`, as root"),
            Self::ForeignArchitecture { .. } => Diagnostic::new(codes::engine::FOREIGN_ARCHITECTURE, message).help(
                "build on a machine of that platform, or let the step run on the build platform and cross-compile",
            ),
        }
    }
}
