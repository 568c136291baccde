//! A session inside the control channel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::Stream as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::{Request, Status, Streaming};

use super::Builder;

/// Bytes of one message, and messages on the way.
const PIECE: usize = 64 << 10;
const PIECES: usize = 16;

/// A byte stream whose bytes are messages of `Control.Session`.
pub(super) struct Carrier {
    incoming: Streaming<BytesMessage>,
    piece: Vec<u8>,
    taken: usize,
    outgoing: PollSender<BytesMessage>,
}

impl Carrier {
    /// Opens the stream with a session's metadata.
    pub(super) async fn open(builder: &Builder, metadata: &[(&'static str, String)]) -> Result<Self, Status> {
        let (outgoing, messages) = mpsc::channel(PIECES);
        let mut request = Request::new(ReceiverStream::new(messages));
        for (name, value) in metadata {
            let value: AsciiMetadataValue =
                value.parse().map_err(|_| Status::invalid_argument("a session's metadata is ASCII"))?;
            request.metadata_mut().append(AsciiMetadataKey::from_static(name), value);
        }
        let incoming = builder.client().session(request).await?.into_inner();
        Ok(Self { incoming, piece: Vec::new(), taken: 0, outgoing: PollSender::new(outgoing) })
    }
}

impl AsyncRead for Carrier {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.taken == self.piece.len() {
            match ready!(Pin::new(&mut self.incoming).poll_next(cx)) {
                Some(Ok(message)) => {
                    self.piece = message.data;
                    self.taken = 0;
                }
                Some(Err(status)) => return Poll::Ready(Err(io::Error::other(status))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let rest = &self.piece[self.taken..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.outgoing.poll_reserve(cx)).map_err(closed)?;
        let piece = &buf[..buf.len().min(PIECE)];
        self.outgoing.send_item(BytesMessage { data: piece.to_vec() }).map_err(closed)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}

fn closed<E>(_: E) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}
