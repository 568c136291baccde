//! What can be wrong with a user's builders.

use std::path::PathBuf;

use diag::{Diagnostic, Reported, codes};

use crate::address::AddressError;
use crate::docker::EndpointProblem;

/// A builder or a Docker context that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BuilderError {
    /// There is neither a builder nor a context of that name.
    #[error("there is no builder `{name}`")]
    Unknown {
        /// The name.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// There is no context of that name.
    #[error("there is no Docker context `{name}`{}", said_by(*.by))]
    UnknownContext {
        /// The name.
        name: String,
        /// What names it, where it is not the user directly.
        by: Option<&'static str>,
        /// Those there are.
        known: Vec<String>,
    },
    /// A context without a Docker endpoint.
    #[error("the context `{name}` has no Docker endpoint")]
    NoEndpoint {
        /// The context.
        name: String,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("`{path}` is not {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// An address of a Docker daemon that is none.
    #[error("{origin} is not where Docker can be: {problem}")]
    Endpoint {
        /// Where it is written: a variable, a context.
        origin: String,
        /// What is wrong with it.
        problem: EndpointProblem,
    },
    /// An address of a node that is none.
    #[error("the node `{node}` of the builder `{builder}` cannot be used")]
    Node {
        /// The builder.
        builder: String,
        /// The node.
        node: String,
        /// What is wrong with its address.
        source: AddressError,
    },
    /// An option of a node's driver that cannot be honoured.
    #[error("the node `{node}` of the builder `{builder}` has the option `{option}`, which {problem}")]
    Option {
        /// The builder.
        builder: String,
        /// The node.
        node: String,
        /// The option.
        option: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A driver that is not supported.
    #[error("the builder `{builder}` has the driver `{driver}`, which clawbuild does not know")]
    Driver {
        /// The builder.
        builder: String,
        /// Its driver.
        driver: String,
    },
    /// A builder of nothing.
    #[error("the builder `{builder}` has no nodes")]
    NoNodes {
        /// The builder.
        builder: String,
    },
}

fn said_by(by: Option<&'static str>) -> String {
    by.map(|by| format!(", which {by} names")).unwrap_or_default()
}

impl Reported for BuilderError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Unknown { name, known } => choose(
                Diagnostic::new(codes::engine::UNKNOWN_BUILDER, self.to_string()),
                name,
                known,
                "`docker buildx create` makes one, or give its address: `--builder tcp://host:1234`",
            ),
            Self::UnknownContext { name, known, .. } => choose(
                Diagnostic::new(codes::engine::UNKNOWN_BUILDER, self.to_string()),
                name,
                known,
                "`docker context create` makes one",
            ),
            Self::Node { source, .. } => Diagnostic {
                help: source.diagnostic().help,
                ..Diagnostic::new(codes::engine::BUILDER_CONFIG, self.to_string()).caused_by(self)
            },
            Self::Driver { .. } => Diagnostic::new(codes::engine::BUILDER_CONFIG, self.to_string())
                .help("known are docker, docker-container, kubernetes and remote"),
            Self::Malformed { .. } => Diagnostic::new(codes::engine::BUILDER_CONFIG, self.to_string())
                .caused_by(self)
                .help("make it anew: `docker buildx rm` and `docker buildx create`, or `docker context`"),
            Self::NoEndpoint { .. }
            | Self::Read { .. }
            | Self::Endpoint { .. }
            | Self::Option { .. }
            | Self::NoNodes { .. } => Diagnostic::new(codes::engine::BUILDER_CONFIG, self.to_string()).caused_by(self),
        }
    }
}

fn choose(diagnostic: Diagnostic, name: &str, known: &[String], otherwise: &str) -> Diagnostic {
    let diagnostic = match diag::did_you_mean(name, known.iter().map(String::as_str)) {
        Some(known) => diagnostic.help(format!("did you mean `{known}`?")),
        None => diagnostic,
    };
    match known {
        [] => diagnostic.help(otherwise),
        known => diagnostic.help(format!("there are {}", known.join(", "))).help(otherwise),
    }
}
