//! What can go wrong between a frontend and its daemon.

use diag::{Diagnostic, Reported, codes};
use tonic::Status;

use crate::transport::DialError;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// There is no daemon at the other end.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The daemon refused, or the build failed there.
    #[error("{}", .status.message())]
    Call {
        /// The method.
        method: &'static str,
        /// What the daemon said, with its details.
        status: Box<Status>,
    },
    /// An answer without what it should carry.
    #[error("the daemon's answer to {method} has no {what}")]
    Answer {
        /// The method.
        method: &'static str,
        /// What is missing.
        what: &'static str,
    },
}

impl GatewayError {
    /// Makes a closure for `map_err` on calls of a method.
    pub(crate) fn call(method: &'static str) -> impl FnOnce(Status) -> Self {
        move |status| Self::Call { method, status: Box::new(status) }
    }
}

impl Reported for GatewayError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Dial(error) => error.diagnostic(),
            Self::Call { method, .. } => {
                Diagnostic::new(codes::engine::GATEWAY, self.to_string()).cause(format!("in the daemon's {method}"))
            }
            Self::Answer { .. } => Diagnostic::new(codes::engine::GATEWAY, self.to_string())
                .help("use a newer BuildKit: what this one answers is not understood"),
        }
    }
}
