//! Bytes from a gRPC stream to a thread that reads them.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

/// Pieces that wait to be read.
const WAITING: usize = 8;

/// What comes through: bytes, and at last that it was all of them.
enum Piece {
    Bytes(Bytes),
    End,
}

/// The end that is written to. Dropped before [`PipeWriter::finish`], it makes reading fail.
#[derive(Debug)]
pub(super) struct PipeWriter(mpsc::Sender<Piece>);

/// The end that is read from.
#[derive(Debug)]
pub(super) struct PipeReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    is_finished: bool,
}

/// Nobody reads any more.
#[derive(Debug)]
pub(super) struct Unread;

pub(super) fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, pieces) = mpsc::channel(WAITING);
    (PipeWriter(sender), PipeReader { pieces, current: Bytes::new(), is_finished: false })
}

impl PipeWriter {
    /// Passes bytes on, once there is room for them.
    pub(super) async fn write(&self, bytes: Bytes) -> Result<(), Unread> {
        self.0.send(Piece::Bytes(bytes)).await.map_err(|_| Unread)
    }

    /// Says that this was all.
    pub(super) async fn finish(self) -> Result<(), Unread> {
        self.0.send(Piece::End).await.map_err(|_| Unread)
    }
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        while self.current.is_empty() && !self.is_finished {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.is_finished = true,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon broke the transfer off")),
            }
        }
        let length = self.current.len().min(buf.len());
        self.current.copy_to_slice(&mut buf[..length]);
        Ok(length)
    }
}
