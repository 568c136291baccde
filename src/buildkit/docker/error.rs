//! What can be wrong with where Docker is said to be, and with what it answers.

use diag::{Diagnostic, Reported, codes};

use super::Endpoint;
use crate::address::AddressProblem;
use crate::transport::DialError;

/// Why a text is no Docker daemon's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointProblem {
    /// There is no `://` in it.
    #[error("it has no scheme")]
    NoScheme,
    /// A scheme that is not supported.
    #[error("`{0}` is not supported, only unix, tcp and ssh are")]
    Scheme(String),
    /// A socket's path does not begin at the root.
    #[error("the socket's path is not absolute")]
    RelativePath,
    /// A part of it is not well formed.
    #[error(transparent)]
    Address(AddressProblem),
    /// Certificates are not to be checked.
    #[error("it switches off that the daemon's certificate is checked, which clawbuild does not do")]
    Unverified,
}

/// Docker did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// It cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It saved an image that cannot be understood.
    #[error("the image {image} that Docker saved cannot be read")]
    Saved {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It made something else than it was asked for.
    #[error("Docker at {endpoint} made {found}, not {expected}")]
    Unexpected {
        /// Where it is.
        endpoint: String,
        /// What it made.
        found: String,
        /// What it should have made.
        expected: String,
    },
    /// It answered with an error, or not as Docker does.
    #[error("Docker at {endpoint} does not {action}")]
    Api {
        /// Where it is.
        endpoint: String,
        /// What was asked, as an infinitive.
        action: String,
        /// What it answered.
        #[source]
        source: bollard::errors::Error,
    },
}

impl DockerError {
    /// Docker's answer to what it was asked, or the way to it that failed.
    pub(crate) fn api(endpoint: &Endpoint, action: impl Into<String>, error: bollard::errors::Error) -> Self {
        let source = match error {
            bollard::errors::Error::IOError { err } => match err.downcast::<DialError>() {
                Ok(error) => return Self::Dial(error),
                Err(err) => bollard::errors::Error::IOError { err },
            },
            error => error,
        };
        Self::Api { endpoint: endpoint.to_string(), action: action.into(), source }
    }
}

impl Reported for DockerError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Dial(error) => error.diagnostic(),
            Self::Api { .. } | Self::Saved { .. } | Self::Unexpected { .. } => {
                Diagnostic::new(codes::engine::BUILDER, self.to_string()).caused_by(self)
            }
        }
    }
}
