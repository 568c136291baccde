//! Connections to the BuildKit inside Docker.

use async_trait::async_trait;

use super::{Endpoint, http};
use crate::transport::{Dial, DialError, Purpose, SessionRoute, Stream};

/// The BuildKit in a Docker daemon. Calls and sessions are connections of their own, both upgraded from HTTP/1.
///
/// Spec: moby `api/server/router/grpc` and `router/session`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerDial {
    endpoint: Endpoint,
}

impl DockerDial {
    /// The BuildKit of the daemon there.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

#[async_trait]
impl Dial for DockerDial {
    fn describe(&self) -> String {
        format!("docker at {}", self.endpoint)
    }

    fn session_route(&self) -> SessionRoute {
        SessionRoute::Dialed
    }

    async fn dial(&self, purpose: Purpose<'_>) -> Result<Box<dyn Stream>, DialError> {
        match purpose {
            Purpose::Control => http::upgrade(&self.endpoint, "/grpc", &[]).await,
            Purpose::Session { metadata } => http::upgrade(&self.endpoint, "/session", metadata).await,
        }
    }
}
