//! What can go wrong while solving.

use std::collections::BTreeSet;
use std::path::PathBuf;

use diag::{Diagnostic, Reported, codes};
use llb::{Cap, Definition, Location, Vertex};
use oci::Digest;
use store::StoreError;

use crate::context::ContextError;
use crate::embedded::fileop::FileOpError;
use crate::embedded::mount::MountError;
use crate::embedded::sandbox::SandboxError;
use crate::export::ExportError;
use crate::git::GitError;
use crate::layout::ImageError;
use crate::{StepFailure, Unavailable};

/// A request that was not solved.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The engine does not work here.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The engine does not know everything the definition needs. Nothing was run.
    #[error("the {engine} engine lacks what the build needs: {}", list(.missing))]
    MissingCapabilities {
        /// The engine's name.
        engine: &'static str,
        /// What it lacks.
        missing: Vec<MissingCapability>,
    },
    /// A vertex failed.
    #[error(transparent)]
    Vertex(#[from] Box<FailedVertex>),
    /// The result was made, but could not be exported.
    #[error(transparent)]
    Export(#[from] Box<ExportError>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine failed, not the build: it cannot be reached, or went away.
    #[error("{0}")]
    Engine(Box<dyn EngineError>),
    /// The caller wished it to stop.
    #[error("interrupted")]
    Canceled,
}

/// A failure of an engine that is its own.
pub trait EngineError: std::error::Error + Reported + Send + Sync {}

impl<E: std::error::Error + Reported + Send + Sync> EngineError for E {}

/// A capability that an engine lacks, and who needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingCapability {
    /// The capability.
    pub cap: Cap,
    /// The name of the first vertex that needs it.
    pub vertex: String,
    /// Where that vertex comes from.
    pub locations: Vec<Location>,
}

impl MissingCapability {
    /// Compares what a definition needs with what an engine has.
    ///
    /// # Errors
    /// [`SolveError::MissingCapabilities`] with everything that is missing.
    pub fn check(engine: &'static str, definition: &Definition, caps: &BTreeSet<Cap>) -> Result<(), SolveError> {
        let lacking = definition.required_caps().difference(caps).copied().collect::<Vec<_>>();
        if lacking.is_empty() {
            return Ok(());
        }
        let missing = lacking.into_iter().map(|cap| {
            let user = definition.user_of(cap);
            let locations = user.map_or(&[][..], |user| definition.source_map().locations(&user.digest()));
            Self { cap, vertex: user.map(Vertex::name).unwrap_or_default(), locations: locations.to_vec() }
        });
        Err(SolveError::MissingCapabilities { engine, missing: missing.collect() })
    }
}

fn list(missing: &[MissingCapability]) -> String {
    let caps: Vec<String> = missing.iter().map(|missing| format!("`{}`", missing.cap)).collect();
    caps.join(", ")
}

/// A vertex that failed.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {error}")]
pub struct FailedVertex {
    /// Which one.
    pub digest: Digest,
    /// What the user knows it by.
    pub name: String,
    /// Where in the recipe it comes from, the most important place first.
    pub locations: Vec<Location>,
    /// What happened.
    #[source]
    pub error: VertexError,
}

/// Why a vertex failed.
#[derive(Debug, thiserror::Error)]
pub enum VertexError {
    /// The command ran and did not succeed.
    #[error(transparent)]
    Step(#[from] StepFailure),
    /// The command could not be run.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileOpError),
    /// A tree could not be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The directory behind a local source could not be read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// An image could not be had.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A commit could not be had.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file could not be downloaded.
    #[error(transparent)]
    Download(#[from] registry::download::DownloadError),
    /// A layer could not be unpacked.
    #[error(transparent)]
    Layer(#[from] oci::layer::apply::ApplyError),
    /// Two trees could not be compared.
    #[error(transparent)]
    Diff(#[from] oci::layer::diff::DiffError),
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
        source: std::io::Error,
    },
    /// The request has no directory of that name.
    #[error("there is no local context `{name}`")]
    NoSuchContext {
        /// The name the definition uses.
        name: String,
    },
    /// The request has no layout of that name.
    #[error("there is no OCI layout `{name}`")]
    NoSuchLayout {
        /// The name the definition uses.
        name: String,
    },
    /// A step needs a secret that was not given.
    #[error("the step needs the secret `{id}`, which was not given")]
    NoSuchSecret {
        /// The secret's name.
        id: String,
    },
    /// A step needs an SSH agent, which this engine does not forward.
    #[error("the step needs the SSH agent `{id}`, which the embedded engine does not forward")]
    SshAgent {
        /// The agent's name.
        id: String,
    },
    /// A source's URL is none.
    #[error("`{url}` is not a URL")]
    Url {
        /// The text.
        url: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
    /// A step needs an SSH agent that was not given.
    #[error("the step needs the SSH agent `{id}`, which was not given")]
    NoSuchAgent {
        /// The agent's name.
        id: String,
    },
    /// A builder failed at it, and says why in its own words only.
    #[error("{message}")]
    Builder {
        /// Those words.
        message: String,
    },
    /// It was stopped before its end.
    #[error("interrupted")]
    Canceled,
}

impl VertexError {
    /// Makes a closure for `map_err` on file operations.
    pub(crate) fn io<'a>(action: &'static str, path: &'a std::path::Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl SolveError {
    /// A vertex of this definition failed.
    pub fn vertex(definition: &Definition, vertex: &Vertex, error: VertexError) -> Self {
        let locations = definition.source_map().locations(&vertex.digest()).to_vec();
        Self::Vertex(Box::new(FailedVertex { digest: vertex.digest(), name: vertex.name(), locations, error }))
    }
}

impl Reported for SolveError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Unavailable(error) => error.diagnostic(),
            Self::MissingCapabilities { missing, .. } => {
                let diagnostic = Diagnostic::new(codes::engine::MISSING_CAPABILITY, self.to_string()).help(
                    "use another engine, or a newer one of the same kind; `clawbuild doctor` lists what each can do",
                );
                missing.iter().fold(diagnostic, |diagnostic, missing| {
                    located(diagnostic, &missing.locations, &format!("`{}` needs `{}`", missing.vertex, missing.cap))
                })
            }
            Self::Vertex(failed) => failed.diagnostic(),
            Self::Export(error) => error.diagnostic(),
            Self::Store(error) => error.diagnostic(),
            Self::Engine(error) => error.diagnostic(),
            Self::Canceled => Diagnostic::new(codes::cli::INTERRUPTED, self.to_string()),
        }
    }
}

impl Reported for FailedVertex {
    fn diagnostic(&self) -> Diagnostic {
        let mut diagnostic = self.error.diagnostic();
        diagnostic.message = format!("{}: {}", self.name, diagnostic.message);
        located(diagnostic, &self.locations, "this step")
    }
}

impl Reported for VertexError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Step(error) => error.diagnostic(),
            Self::Sandbox(error) => error.diagnostic(),
            Self::File(error) => error.diagnostic(),
            Self::Mount(error) => error.diagnostic(),
            Self::Context(error) => error.diagnostic(),
            Self::Image(error) => error.diagnostic(),
            Self::Git(error) => error.diagnostic(),
            Self::Download(error) => error.diagnostic(),
            Self::Layer(error) => error.diagnostic(),
            Self::Diff(error) => error.diagnostic(),
            Self::Store(error) => error.diagnostic(),
            Self::Io { source, .. } if is_full(source) => Diagnostic::new(codes::store::FULL, "the disk is full")
                .caused_by(self)
                .help("free space, or run `clawbuild cache prune`; nothing half-written was kept"),
            Self::Io { .. } => Diagnostic::new(codes::engine::IO, self.to_string()).caused_by(self),
            Self::NoSuchContext { .. } | Self::NoSuchLayout { .. } | Self::Url { .. } => {
                Diagnostic::new(codes::engine::REQUEST, self.to_string())
            }
            Self::Canceled => Diagnostic::new(codes::cli::INTERRUPTED, self.to_string()),
            Self::NoSuchSecret { id } => Diagnostic::new(codes::engine::NO_SECRET, self.to_string())
                .help(format!("pass it: `--secret id={id},src=FILE` or `--secret id={id},env=NAME`")),
            Self::NoSuchAgent { id } => Diagnostic::new(codes::engine::NO_AGENT, self.to_string())
                .help(format!("pass it: `--ssh {id}`, with `SSH_AUTH_SOCK` set, or `--ssh {id}=SOCKET`")),
            Self::Builder { .. } => Diagnostic::new(codes::engine::BUILDER, self.to_string()),
            Self::SshAgent { .. } => Diagnostic::new(codes::engine::UNSUPPORTED, self.to_string())
                .help("use a BuildKit engine for steps that need an agent, or a secret with a key"),
        }
    }
}

pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

fn located(diagnostic: Diagnostic, locations: &[Location], text: &str) -> Diagnostic {
    locations.iter().enumerate().fold(diagnostic, |diagnostic, (index, place)| {
        diagnostic.label(&place.source, place.span, if index == 0 { text } else { "" })
    })
}
