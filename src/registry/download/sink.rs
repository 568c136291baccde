//! Writing and hashing beside the transfer.

use std::io::Write as _;

use bytes::Bytes;
use sha2::Digest as _;
use store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Checks, DownloadError, Fetched};
use crate::integrity::Sha512;

/// Chunks that may wait to be written. One is up to a few hundred kilobytes on a fast connection.
const QUEUE: usize = 8;

/// Takes chunks to a blob. Writing and hashing happen on a thread that may block, while the next chunk arrives.
/// Dropped before [`Sink::finish`], it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Sink {
    chunks: mpsc::Sender<Message>,
    writer: JoinHandle<Option<Result<Fetched, DownloadError>>>,
}

#[derive(Debug)]
enum Message {
    Chunk(Bytes),
    Finish(Checks),
}

impl Sink {
    pub(super) fn open(store: &Store, with_sha512: bool) -> Result<Self, StoreError> {
        let mut blob = store.blob_writer()?;
        let temp = store.temp().to_owned();
        let (chunks, mut messages) = mpsc::channel(QUEUE);
        let writer = tokio::task::spawn_blocking(move || {
            let mut sha512 = with_sha512.then(sha2::Sha512::new);
            let mut size = 0;
            loop {
                match messages.blocking_recv()? {
                    Message::Chunk(chunk) => {
                        if let Err(source) = blob.write_all(&chunk) {
                            return Some(Err(StoreError::io("write to", &temp)(source).into()));
                        }
                        size += chunk.len() as u64;
                        if let Some(state) = &mut sha512 {
                            state.update(&chunk);
                        }
                    }
                    Message::Finish(checks) => {
                        let sha512 = sha512.map(|state| Sha512::from_bytes(state.finalize().into()));
                        return Some(checks.commit(blob, size, sha512));
                    }
                }
            }
        });
        Ok(Self { chunks, writer })
    }

    /// Hands a chunk over; waits while the disk is slower than the network. `false`: the writer has failed, and
    /// [`Sink::finish`] says how.
    pub(super) async fn write(&self, chunk: Bytes) -> bool {
        self.chunks.send(Message::Chunk(chunk)).await.is_ok()
    }

    /// Checks the content and gives it its name.
    pub(super) async fn finish(self, checks: Checks) -> Result<Fetched, DownloadError> {
        // A writer that failed takes no more messages; its result says why.
        let _ = self.chunks.send(Message::Finish(checks)).await;
        match self.writer.await {
            Ok(result) => result.expect("the writer ends without a result only when the sink is dropped"),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
