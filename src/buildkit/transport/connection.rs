//! The gRPC channel to a builder.

use std::fmt;
use std::sync::{Arc, Mutex};

use http::Uri;
use hyper_util::rt::TokioIo;
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
        let connector = {
            let dial = Arc::clone(&dial);
            service_fn(move |_: Uri| {
                let (first, dial) = (Arc::clone(&first), Arc::clone(&dial));
                async move {
                    let ready: Option<Box<dyn Stream>> = first.lock().expect("nothing panics while holding it").take();
                    match ready {
                        Some(stream) => Ok(TokioIo::new(stream)),
                        None => dial.dial(Purpose::Control).await.map(TokioIo::new),
                    }
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
            Ok(channel) => Ok(Self { dial, channel }),
            Err(error) => Err(DialError::Protocol { address, source: Some(Box::new(error)) }),
        }
    }

    /// The channel, for the generated clients.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
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
