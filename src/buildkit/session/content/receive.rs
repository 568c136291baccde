//! Receiving blobs: the method `Write`.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::Digest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use super::super::journal::{Journal, Problem};
use super::super::offer::{ContentSink, IncomingBlob};
use super::super::pipe::{PipeWriter, pipe};
use super::checked::Checked;
use super::messages::{self, Action, WriteRequest, WriteResponse};

pub(super) type Responses = mpsc::Sender<Result<WriteResponse, Status>>;

/// The transfers under way, by store and digest: none comes twice at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Transfers(Arc<Mutex<UnderWay>>);

type UnderWay = BTreeMap<(String, Digest), Arc<Transfer>>;

#[derive(Debug)]
struct Transfer {
    reference: String,
    total: Option<u64>,
    offset: AtomicU64,
    abort: CancellationToken,
}

/// The right to receive one blob; given back when the last clone is gone.
#[derive(Debug)]
struct Claim {
    transfers: Transfers,
    key: (String, Digest),
    transfer: Arc<Transfer>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.transfers.lock().remove(&self.key);
    }
}

impl Transfers {
    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        // The map is whole whenever the lock is free, even if a thread died holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self, store: &str, blob: &IncomingBlob) -> Option<Arc<Claim>> {
        let key = (store.to_owned(), blob.digest);
        let mut transfers = self.lock();
        if transfers.contains_key(&key) {
            return None;
        }
        let transfer = Arc::new(Transfer {
            reference: blob.reference.clone(),
            total: blob.size,
            offset: AtomicU64::new(0),
            abort: CancellationToken::new(),
        });
        transfers.insert(key.clone(), Arc::clone(&transfer));
        drop(transfers);
        Some(Arc::new(Claim { transfers: self.clone(), key, transfer }))
    }

    /// How far a transfer is.
    pub(super) fn status(&self, store: &str, reference: &str) -> Option<messages::Status> {
        let transfers = self.lock();
        let ((_, digest), transfer) =
            transfers.iter().find(|((id, _), transfer)| id == store && transfer.reference == reference)?;
        Some(messages::Status {
            reference: reference.to_owned(),
            offset: signed(transfer.offset.load(Ordering::Relaxed)),
            total: signed(transfer.total.unwrap_or(0)),
            expected: digest.to_string(),
        })
    }

    /// Breaks a transfer off; false if there is none.
    pub(super) fn abort(&self, store: &str, reference: &str) -> bool {
        let transfers = self.lock();
        let found = transfers.iter().find(|((id, _), transfer)| id == store && transfer.reference == reference);
        found.inspect(|(_, transfer)| transfer.abort.cancel()).is_some()
    }
}

/// One call of the method.
pub(super) struct Receiver {
    pub(super) store: String,
    pub(super) sink: Arc<dyn ContentSink>,
    pub(super) transfers: Transfers,
    pub(super) journal: Journal,
    pub(super) tasks: TaskTracker,
}

/// A blob that is being received.
struct Receiving<'a> {
    receiver: &'a Receiver,
    blob: IncomingBlob,
    claim: Arc<Claim>,
    offset: u64,
    /// Begun with the first byte.
    feed: Option<Feed>,
}

struct Feed {
    writer: PipeWriter,
    end: JoinHandle<io::Result<()>>,
}

impl Receiver {
    /// Receives one blob. Breaking off is no failure: nothing is kept then.
    pub(super) async fn receive(
        &self,
        mut requests: Streaming<WriteRequest>,
        responses: &Responses,
    ) -> Result<(), Status> {
        let Some(first) = requests.message().await? else { return Ok(()) };
        let blob = announced(&first)?;
        self.refuse_known(&blob.digest).await?;
        let Some(claim) = self.transfers.claim(&self.store, &blob) else {
            return Err(Status::unavailable(format!("{} is being received already", blob.digest)));
        };
        // It may have arrived in the meantime.
        self.refuse_known(&blob.digest).await?;
        let abort = claim.transfer.abort.clone();
        let mut receiving = Receiving { receiver: self, blob, claim, offset: 0, feed: None };
        let mut request = first;
        loop {
            let response = receiving.take(&request).await?;
            let is_last = response.action() == Action::Commit;
            if responses.send(Ok(response)).await.is_err() || is_last {
                return Ok(());
            }
            let next = tokio::select! {
                next = requests.message() => next?,
                () = responses.closed() => None,
                () = abort.cancelled() => return Err(Status::aborted("the transfer was aborted")),
            };
            let Some(next) = next else { return Ok(()) };
            request = next;
        }
    }

    async fn refuse_known(&self, digest: &Digest) -> Result<(), Status> {
        let (sink, digest) = (Arc::clone(&self.sink), *digest);
        let size = self.tasks.spawn_blocking(move || sink.size(&digest)).await;
        match size.map_err(|error| Status::internal(error.to_string()))? {
            Some(_) => Err(Status::already_exists(format!("{digest} is there already"))),
            None => Ok(()),
        }
    }
}

/// What the first message says of the blob.
fn announced(first: &WriteRequest) -> Result<IncomingBlob, Status> {
    if first.reference.is_empty() {
        return Err(Status::invalid_argument("the first message must name the transfer"));
    }
    if first.expected.is_empty() {
        return Err(Status::failed_precondition("the first message must say the digest"));
    }
    let digest = first.expected.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
    let size = u64::try_from(first.total).ok().filter(|total| *total > 0);
    Ok(IncomingBlob { digest, size, reference: first.reference.clone() })
}

impl Receiving<'_> {
    async fn take(&mut self, request: &WriteRequest) -> Result<WriteResponse, Status> {
        self.check(request)?;
        let action = request.action();
        if action != Action::Stat {
            self.seek(request.offset).await?;
            if !request.data.is_empty() {
                self.write(request).await?;
            }
            if action == Action::Commit {
                self.commit().await?;
            }
        }
        Ok(WriteResponse {
            action: request.action,
            offset: signed(self.offset),
            total: signed(self.blob.size.unwrap_or(0)),
            digest: if action == Action::Commit { self.blob.digest.to_string() } else { String::new() },
        })
    }

    /// What was announced once cannot become something else.
    fn check(&self, request: &WriteRequest) -> Result<(), Status> {
        if !request.expected.is_empty() && request.expected != self.blob.digest.to_string() {
            return Err(Status::invalid_argument("the digest is not the one that was announced"));
        }
        let offset = u64::try_from(request.offset).ok();
        let end = offset.and_then(|offset| offset.checked_add(request.data.len() as u64));
        let total = u64::try_from(request.total).ok().filter(|total| *total > 0);
        if total.is_some_and(|total| self.blob.size.is_some_and(|size| size != total)) {
            return Err(Status::invalid_argument("the length is not the one that was announced"));
        }
        let length = self.blob.size.or(total).unwrap_or(u64::MAX);
        if end.is_none_or(|end| end > length) {
            return Err(Status::out_of_range(format!("there are more than {length} bytes")));
        }
        Ok(())
    }

    /// Goes on where the transfer is, or begins anew.
    async fn seek(&mut self, offset: i64) -> Result<(), Status> {
        if signed(self.offset) == offset {
            return Ok(());
        }
        if offset != 0 {
            return Err(Status::out_of_range(format!("the transfer is at byte {}, not {offset}", self.offset)));
        }
        if let Some(Feed { writer, end }) = self.feed.take() {
            drop(writer);
            // It fails, as it should: what it was given so far is void.
            let _ = end.await;
        }
        self.advance_to(0);
        Ok(())
    }

    async fn write(&mut self, request: &WriteRequest) -> Result<(), Status> {
        let feed = self.feed.take().unwrap_or_else(|| self.begin());
        if feed.writer.write(request.data.clone()).await.is_err() {
            let result = feed.end.await;
            return Err(self.failure(result, "it was not read to its end"));
        }
        self.feed = Some(feed);
        self.advance_to(self.offset + request.data.len() as u64);
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Status> {
        let Feed { writer, end } = self.feed.take().unwrap_or_else(|| self.begin());
        // If nobody reads it any more, the result says why.
        let _ = writer.finish().await;
        match end.await {
            Ok(Ok(())) => Ok(()),
            result => Err(self.failure(result, "it was not taken")),
        }
    }

    /// Has the sink take what comes, on a thread of its own.
    fn begin(&self) -> Feed {
        let (writer, reader) = pipe();
        let (sink, blob, claim) = (Arc::clone(&self.receiver.sink), self.blob.clone(), Arc::clone(&self.claim));
        let end = self.receiver.tasks.spawn_blocking(move || {
            // Given back only when the sink is done, whatever becomes of the call.
            let _claim = claim;
            let mut content = Checked::new(reader, blob.digest, blob.size);
            sink.receive(&blob, &mut content)?;
            content.drain()
        });
        Feed { writer, end }
    }

    fn failure(&self, result: Result<io::Result<()>, tokio::task::JoinError>, otherwise: &str) -> Status {
        let (kind, message) = match result {
            Ok(Err(error)) => (error.kind(), error.to_string()),
            Ok(Ok(())) => (io::ErrorKind::Other, otherwise.to_owned()),
            Err(error) => (io::ErrorKind::Other, error.to_string()),
        };
        let what = self.blob.digest.to_string();
        let status = match kind {
            io::ErrorKind::InvalidData => Status::data_loss(message.clone()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Status::resource_exhausted(message.clone()),
            _ => Status::internal(format!("{what}: {message}")),
        };
        self.receiver.journal.problem(Problem::Receive { what, message });
        status
    }

    fn advance_to(&mut self, offset: u64) {
        self.offset = offset;
        self.claim.transfer.offset.store(offset, Ordering::Relaxed);
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
