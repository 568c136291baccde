//! A blob read, decompressed and hashed on one thread while another takes the bytes.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::{ApplyError, Unpacked};
use crate::layer::compress::{Decompressor, HashingReader};
use crate::layer::tar::TarError;
use crate::{DiffId, Digest, Hasher};

const PIECE: usize = 256 * 1024;
/// Pieces that may wait.
const QUEUE: usize = 8;

/// Hands `take` the tar inside `blob`; `take` must read all of it, and gives the number of entries.
pub(super) fn with_decompressed(
    blob: impl Read + Send,
    take: impl FnOnce(&mut Pieces) -> Result<u64, ApplyError>,
) -> Result<Unpacked, ApplyError> {
    let (pieces, incoming) = sync_channel(QUEUE);
    let (emptied, spare) = sync_channel(QUEUE + 2);
    thread::scope(|scope| {
        let decompress = thread::Builder::new().name("layer-decompress".to_owned());
        let decompress = decompress.spawn_scoped(scope, move || decompress_into(blob, &pieces, &spare));
        let decompress = decompress.map_err(TarError::Read)?;
        let mut pieces = Pieces { incoming, emptied, current: Vec::new(), position: 0 };
        let taken = take(&mut pieces);
        // Where that failed, the thread may still be waiting to hand something over.
        drop(pieces);
        let read =
            decompress.join().map_err(|_| TarError::Read(io::Error::other("the decompressing thread has died")))?;
        let entries = taken?;
        let (blob, blob_size, diff_id) = read.map_err(TarError::Read)?;
        Ok(Unpacked { blob, blob_size, diff_id: DiffId(diff_id), entries })
    })
}

fn decompress_into(
    blob: impl Read,
    pieces: &SyncSender<io::Result<Vec<u8>>>,
    spare: &Receiver<Vec<u8>>,
) -> io::Result<(Digest, u64, Digest)> {
    let mut tar = Hasher::new(io::sink());
    let mut source = Decompressor::new(HashingReader::new(blob))?;
    loop {
        let mut piece = spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        piece.clear();
        if let Err(error) = source.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
            // The taker learns of it in its place; the error itself cannot be copied.
            let _ = pieces.send(Err(error));
            return Err(io::ErrorKind::InvalidData.into());
        }
        if piece.is_empty() {
            break;
        }
        io::Write::write_all(&mut tar, &piece)?;
        if pieces.send(Ok(piece)).is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
    let mut blob = source.into_inner();
    io::copy(&mut blob, &mut io::sink())?;
    let (digest, size) = blob.finish();
    Ok((digest, size, tar.finish().0))
}

/// The pieces as one stream.
pub(super) struct Pieces {
    incoming: Receiver<io::Result<Vec<u8>>>,
    emptied: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() {
            match self.incoming.recv() {
                Ok(piece) => {
                    let empty = std::mem::replace(&mut self.current, piece?);
                    // There is room for as many as there are.
                    let _ = self.emptied.try_send(empty);
                    self.position = 0;
                }
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.current[self.position..];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}
