//! What can go wrong on the way to a builder.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use diag::{Diagnostic, Reported, codes};

/// A builder that was not reached, or does not answer as one.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing answers there.
    #[error("the builder at {address} cannot be reached")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// One side does not accept the other's certificate, or they cannot agree on how to encrypt.
    #[error("no secure connection to the builder at {address} can be made")]
    Tls {
        /// Where.
        address: String,
        /// What is wrong.
        source: io::Error,
    },
    /// A file with a certificate or a key cannot be used.
    #[error("`{path}` cannot be used as {what}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something answers, but not in gRPC.
    #[error("what answers at {address} does not speak gRPC")]
    Protocol {
        /// Where.
        address: String,
        /// What is wrong.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Something answers in gRPC, but it is not BuildKit.
    #[error("what answers at {address} is not BuildKit")]
    NotBuildKit {
        /// Where.
        address: String,
    },
    /// The builder was reached and then went away.
    #[error("the connection to the builder at {address} broke off")]
    Lost {
        /// Where.
        address: String,
        /// What was noticed.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The program that connects to the builder failed.
    #[error("`{command}` does not connect to the builder at {address}")]
    Command {
        /// Where.
        address: String,
        /// The program and what it was told.
        command: String,
        /// The last lines it wrote.
        last_lines: Vec<String>,
        /// What the system said, where it did not even start.
        source: Option<io::Error>,
    },
}

impl DialError {
    /// What a TLS connection that was not made, or broke before anything was said, comes from: certificates, or something
    /// on the other side that speaks no TLS at all. `None` where TLS has no part in it.
    pub(crate) fn of_tls(address: &str, error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            // Errors of the system wrap others without being their sources.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).map(|inner| inner as &dyn Error);
            if let Some(tls) = inner.into_iter().chain([error]).find_map(|error| error.downcast_ref::<rustls::Error>())
            {
                let (address, source) = (address.to_owned(), tls.clone());
                return Some(match source {
                    rustls::Error::InvalidMessage(_) => Self::Protocol { address, source: Some(Box::new(source)) },
                    _ => Self::Tls { address, source: io::Error::other(source) },
                });
            }
            next = inner.or_else(|| error.source());
        }
        None
    }

    /// Makes a closure for `map_err` on what the system refuses.
    pub(crate) fn unreachable(address: &str) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Unreachable { address: address.to_owned(), source }
    }
}

impl Reported for DialError {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = |code| Diagnostic::new(code, self.to_string()).caused_by(self);
        match self {
            Self::Unreachable { .. } => diagnostic(codes::engine::UNREACHABLE)
                .help("start the builder, or name another: `--builder URL`, `--engine embedded`"),
            Self::Tls { .. } => diagnostic(codes::engine::TLS)
                .help("give the certificates that belong to the builder: `cacert`, `cert`, `key`, `servername`"),
            Self::Certificate { .. } => diagnostic(codes::engine::TLS).help("it has to be a PEM file"),
            Self::Protocol { .. } => diagnostic(codes::engine::PROTOCOL)
                .help("a builder that listens with TLS needs its certificates named; one without does not take any"),
            Self::NotBuildKit { .. } => diagnostic(codes::engine::NOT_BUILDKIT)
                .help("give the address of a buildkitd, such as `unix:///run/buildkit/buildkitd.sock`"),
            Self::Lost { .. } => diagnostic(codes::engine::CONNECTION_LOST).help("try again"),
            Self::Command { last_lines, .. } => {
                let diagnostic = diagnostic(codes::engine::UNREACHABLE)
                    .help("run the command by hand: it has to connect and wait for input");
                match last_lines.as_slice() {
                    [] => diagnostic,
                    lines => diagnostic.related("what it wrote", lines.to_vec()),
                }
            }
        }
    }
}
