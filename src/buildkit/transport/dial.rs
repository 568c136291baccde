//! The seam between a builder's address and what is spoken with it.

use std::fmt;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use super::DialError;

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// This side calls: HTTP/2 with the builder as the server.
    Control,
    /// The builder calls: HTTP/2 with this side as the server. Only asked for by [`SessionRoute::Dialed`].
    Session {
        /// The session's metadata, such as `x-docker-expose-session-uuid`, which go where the builder expects them.
        metadata: &'a [(&'static str, String)],
    },
}

/// How a session gets to the builder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionRoute {
    /// Inside the control channel, by the method `Control.Session`: buildkitd.
    #[default]
    Control,
    /// In a stream of its own: Docker.
    Dialed,
}

/// Makes streams to one builder.
#[async_trait]
pub trait Dial: fmt::Debug + Send + Sync {
    /// The address, as the user knows it; without credentials.
    fn describe(&self) -> String;

    /// How sessions get there.
    fn session_route(&self) -> SessionRoute {
        SessionRoute::Control
    }

    /// Makes a stream, ready for HTTP/2's preface.
    ///
    /// # Errors
    /// [`DialError`].
    async fn dial(&self, purpose: Purpose<'_>) -> Result<Box<dyn Stream>, DialError>;
}
