//! The gRPC channel to a builder.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::{fmt, io};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{Dial, DialError, Purpose, Stream};

/// What a failed step's message may take: with it come its stack traces and the recipe it is from.
const HEADERS: u32 = 16 << 20;
/// Bytes that may be under way without being asked for again. HTTP/2's own 64 KiB would make every layer wait for the
/// round trip.
const WINDOW: u32 = 8 << 20;
const FRAME: u32 = 1 << 20;

/// A channel on which this side calls. Cheap to clone; all calls share one HTTP/2 connection.
#[derive(Clone)]
pub struct Connection {
    dial: Arc<dyn Dial>,
    channel: Channel,
    trouble: Troubles,
}

/// Why there is no stream: what speaks HTTP/2 over it only says that it ended.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It broke.
    Broken(io::Error),
    /// No other one could be made.
    Dial(DialError),
}

type Troubles = Arc<Mutex<Option<Trouble>>>;

/// Says what is known already, for whoever only hears that something is wrong.
#[derive(Debug, thiserror::Error)]
#[error("there is no connection")]
struct NoConnection;

/// A stream that notes why it broke.
struct Watched {
    stream: Box<dyn Stream>,
    trouble: Troubles,
}

impl Connection {
    /// Connects. Nothing is said yet but HTTP/2's preface, so what answers may still turn out not to be BuildKit.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn open(dial: Arc<dyn Dial>) -> Result<Self, DialError> {
        let address = dial.describe();
        // Dialed here for the sake of its error, which tonic would only hand on as text.
        let first = Arc::new(Mutex::new(Some(dial.dial(Purpose::Control).await?)));
        let trouble = Troubles::default();
        let connector = {
            let (dial, trouble) = (Arc::clone(&dial), Arc::clone(&trouble));
            service_fn(move |_: Uri| {
                let (first, dial, trouble) = (Arc::clone(&first), Arc::clone(&dial), Arc::clone(&trouble));
                async move {
                    let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let stream = match ready {
                        Some(stream) => stream,
                        None => match dial.dial(Purpose::Control).await {
                            Ok(stream) => stream,
                            Err(error) => {
                                note(&trouble, Trouble::Dial(error));
                                return Err(NoConnection);
                            }
                        },
                    };
                    Ok(TokioIo::new(Watched { stream, trouble }))
                }
            })
        };
        // The name is only what the requests say they are for; where they go the connector knows.
        let endpoint = Endpoint::from_static("http://buildkit")
            .http2_max_header_list_size(HEADERS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(2 * WINDOW)
            .max_frame_size(FRAME);
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => Ok(Self { dial, channel, trouble }),
            Err(error) => Err(DialError::Protocol { address, source: Some(Box::new(error)) }),
        }
    }

    /// The channel, for the generated clients.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Why there is no stream, where there is none.
    pub(crate) fn take_trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How streams to this builder are made.
    #[must_use]
    pub fn dial(&self) -> &Arc<dyn Dial> {
        &self.dial
    }

    /// The address, as the user knows it.
    #[must_use]
    pub fn describe(&self) -> String {
        self.dial.describe()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("dial", &self.dial).finish_non_exhaustive()
    }
}

fn note(troubles: &Troubles, trouble: Trouble) {
    *troubles.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        Poll::Ready(read.map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            note(&self.trouble, Trouble::Broken(error));
            told
        }))
    }
}

impl Watched {
    /// Notes a write that failed for a reason of TLS's; others say no more than that the stream is gone.
    fn refused(&self, error: io::Error) -> io::Error {
        let told = io::Error::new(error.kind(), error.to_string());
        if DialError::of_tls("", &error).is_some() {
            note(&self.trouble, Trouble::Broken(error));
        }
        told
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(written.map_err(|error| self.refused(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.refused(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        Poll::Ready(written.map_err(|error| self.refused(error)))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
