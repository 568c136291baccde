//! Connections to builders.
//!
//! A [`Dial`] makes byte streams to one builder; a [`Connection`] is the gRPC channel over them. How the stream comes
//! about (a socket, TLS, the standard streams of another program) is no business of what is above.

mod connection;
mod dial;
mod error;
mod process;
mod tcp;
mod tls;
mod unix;

pub use connection::Connection;
pub(crate) use connection::Trouble;
pub use dial::{Dial, Purpose, SessionRoute, Stream};
pub use error::DialError;
pub use process::Process;
pub use tcp::Tcp;
pub use tls::{Identity, Tls};
pub use unix::Unix;
