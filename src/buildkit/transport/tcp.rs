//! Builders behind a TCP port.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Dial, DialError, Purpose, Stream, Tls};

/// How long a host may take to answer at all.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection may be silent before the other side is asked whether it is still there, and then how long and
/// how often: a host that vanished without a word is noticed within a minute.
const IDLE: Duration = Duration::from_secs(20);
const PROBE: Duration = Duration::from_secs(10);
const PROBES: u32 = 4;

/// A builder that listens on a TCP port.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whose certificates count, where the port is one with TLS.
    pub tls: Option<Tls>,
}

#[async_trait]
impl Dial for Tcp {
    fn describe(&self) -> String {
        match self.host.contains(':') {
            true => format!("tcp://[{}]:{}", self.host, self.port),
            false => format!("tcp://{}:{}", self.host, self.port),
        }
    }

    async fn dial(&self, _: Purpose<'_>) -> Result<Box<dyn Stream>, DialError> {
        self.dial_for(b"h2").await
    }
}

impl Tcp {
    /// Makes a stream for a protocol by its ALPN name. Spec: RFC 7301.
    ///
    /// # Errors
    /// [`DialError`].
    pub(crate) async fn dial_for(&self, protocol: &[u8]) -> Result<Box<dyn Stream>, DialError> {
        let address = self.describe();
        let connecting = timeout(CONNECT, TcpStream::connect((self.host.as_str(), self.port))).await;
        let stream = connecting
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time")))
            .and_then(prepare)
            .map_err(DialError::unreachable(&address))?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(tls) => {
                let shaking_hands = timeout(CONNECT, tls.connect(&address, &self.host, stream, protocol)).await;
                shaking_hands.unwrap_or_else(|_| {
                    let source = io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake does not come to an end");
                    Err(DialError::Tls { address, source })
                })
            }
        }
    }
}

fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, PROBE)?;
    sockopt::set_tcp_keepcnt(&stream, PROBES)?;
    Ok(stream)
}
