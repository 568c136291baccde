//! Content by digest: containerd's content service, as far as BuildKit uses it.
//!
//! Several stores stand behind it; a header says which is meant. Images in layouts are read from, exported images are
//! written to, caches of type `local` are both. Source: BuildKit `session/content`, containerd
//! `plugins/services/content/contentserver`.

mod blobs;
mod cache;
mod checked;
mod messages;
mod receive;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, stream};
use oci::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Request, Response, Status, Streaming};

use super::journal::{Journal, Problem};
use super::offer::{ContentSink, Offer, Receive};
use super::rpc::{self, HttpRequest, HttpResponse};
use blobs::Blobs;
use cache::CacheDirectory;
use messages::{
    AbortRequest, Empty, Info, InfoRequest, InfoResponse, ReadRequest, ReadResponse, StatusRequest, StatusResponse,
    WriteRequest, WriteResponse,
};
use receive::{Receiver, Transfers};

pub use cache::LocalCache;

const INFO: &str = "/containerd.services.content.v1.Content/Info";
const READ: &str = "/containerd.services.content.v1.Content/Read";
const STATUS: &str = "/containerd.services.content.v1.Content/Status";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";
const ABORT: &str = "/containerd.services.content.v1.Content/Abort";

/// The methods of the service that are answered.
pub(super) const METHODS: [&str; 5] = [INFO, READ, STATUS, WRITE, ABORT];

/// The header that says which store is meant. Source: BuildKit `session/content/attachable.go`.
const STORE: &str = "buildkit-attachable-store-id";

/// The store that exporters write to. Source: BuildKit `exporter/oci/export.go`.
const EXPORT: &str = "export";

/// Bytes of a blob sent at once.
const CHUNK: usize = 1 << 20;

/// The stores that are offered, by the ids the daemon has for them.
#[derive(Clone, Debug)]
pub(super) struct Content(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stores: BTreeMap<String, Served>,
    transfers: Transfers,
    journal: Journal,
    tasks: TaskTracker,
}

/// One store: what is read from it, and what is written to it.
#[derive(Clone, Debug)]
struct Served {
    blobs: Option<Blobs>,
    sink: Option<Arc<dyn ContentSink>>,
    /// Whether a blob that is missing is a fault: an image is whole, a cache need not be.
    is_whole: bool,
}

impl Content {
    pub(super) fn new(offer: &Offer, journal: Journal, tasks: TaskTracker) -> Self {
        let mut stores = BTreeMap::new();
        for (id, layout) in &offer.layouts {
            let served = Served { blobs: Some(Blobs::from(layout.clone())), sink: None, is_whole: true };
            stores.insert(format!("oci:{id}"), served);
        }
        for path in &offer.caches {
            let sink = Arc::new(CacheDirectory(path.clone()));
            let served = Served { blobs: Some(Blobs::Directory(path.clone())), sink: Some(sink), is_whole: false };
            stores.insert(format!("local:{}", path.display()), served);
        }
        if let Receive::Content(sink) = &offer.receive {
            let served = Served { blobs: None, sink: Some(Arc::clone(sink)), is_whole: false };
            stores.insert(EXPORT.to_owned(), served);
        }
        Self(Arc::new(Inner { stores, transfers: Transfers::default(), journal, tasks }))
    }

    /// The store a request is about.
    fn store(&self, metadata: &MetadataMap) -> Result<(String, Served), Status> {
        let id =
            metadata.get(STORE).ok_or_else(|| Status::invalid_argument(format!("the header `{STORE}` is missing")))?;
        let id = String::from_utf8_lossy(id.as_bytes()).into_owned();
        match self.0.stores.get(&id) {
            Some(served) => Ok((id, served.clone())),
            None => {
                let status = Status::not_found(format!("there is no store `{id}`"));
                self.0.journal.problem(Problem::NoSuchStore { id });
                Err(status)
            }
        }
    }

    async fn open(&self, id: String, served: &Served, digest: Digest) -> Result<(File, u64), Status> {
        let not_found = || Status::not_found(format!("{digest} is not there"));
        let Some(blobs) = served.blobs.clone() else { return Err(not_found()) };
        let opened = self.0.tasks.spawn_blocking(move || blobs.open(&digest)).await;
        opened.map_err(|error| Status::internal(error.to_string()))?.map_err(|source| {
            let is_missing = source.kind() == io::ErrorKind::NotFound;
            let status = if is_missing { not_found() } else { Status::internal(format!("{digest}: {source}")) };
            if served.is_whole || !is_missing {
                self.0.journal.problem(Problem::Blob { id, digest, source });
            }
            status
        })
    }

    async fn info(self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let (id, served) = self.store(request.metadata())?;
        let digest = parse(&request.get_ref().digest)?;
        let size = match (&served.blobs, &served.sink) {
            (None, Some(sink)) => {
                let sink = Arc::clone(sink);
                let size = self.0.tasks.spawn_blocking(move || sink.size(&digest)).await;
                let size = size.map_err(|error| Status::internal(error.to_string()))?;
                size.ok_or_else(|| Status::not_found(format!("{digest} is not there")))?
            }
            _ => self.open(id, &served, digest).await?.1,
        };
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        Ok(Response::new(InfoResponse { info: Some(Info { digest: digest.to_string(), size }) }))
    }

    async fn read(
        self,
        request: Request<ReadRequest>,
    ) -> Result<Response<impl Stream<Item = Result<ReadResponse, Status>> + use<>>, Status> {
        let (id, served) = self.store(request.metadata())?;
        let ReadRequest { digest, offset, size } = request.into_inner();
        let digest = parse(&digest)?;
        let (file, length) = self.open(id, &served, digest).await?;
        let start = u64::try_from(offset).unwrap_or(0);
        let rest = length
            .checked_sub(start)
            .ok_or_else(|| Status::out_of_range(format!("{digest} has only {length} bytes")))?;
        let size = u64::try_from(size).ok().filter(|size| *size > 0).map_or(rest, |size| size.min(rest));
        let (file, tasks) = (Arc::new(file), self.0.tasks.clone());
        let pieces = stream::try_unfold(0, move |done| {
            let (file, tasks) = (Arc::clone(&file), tasks.clone());
            async move {
                let room = usize::try_from(size - done).map_or(CHUNK, |left| left.min(CHUNK));
                if room == 0 {
                    return Ok(None);
                }
                let piece = tasks.spawn_blocking(move || read_piece(&file, start + done, room)).await;
                let data = piece
                    .map_err(|error| Status::internal(error.to_string()))?
                    .map_err(|error| Status::data_loss(format!("{digest}: {error}")))?;
                let response = ReadResponse { offset: i64::try_from(done).unwrap_or(i64::MAX), data };
                Ok(Some((response, done + room as u64)))
            }
        });
        Ok(Response::new(pieces))
    }

    async fn status(self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let (id, _) = self.store(request.metadata())?;
        let reference = request.into_inner().reference;
        let status = self.0.transfers.status(&id, &reference);
        let status = status.ok_or_else(|| Status::not_found(format!("there is no transfer `{reference}`")))?;
        Ok(Response::new(StatusResponse { status: Some(status) }))
    }

    async fn abort(self, request: Request<AbortRequest>) -> Result<Response<Empty>, Status> {
        let (id, _) = self.store(request.metadata())?;
        let reference = request.into_inner().reference;
        if self.0.transfers.abort(&id, &reference) {
            Ok(Response::new(Empty {}))
        } else {
            Err(Status::not_found(format!("there is no transfer `{reference}`")))
        }
    }

    async fn write(
        self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<ReceiverStream<Result<WriteResponse, Status>>>, Status> {
        let (store, served) = self.store(request.metadata())?;
        let sink = served.sink.ok_or_else(|| Status::permission_denied(format!("`{store}` cannot be written to")))?;
        let Inner { transfers, journal, tasks, .. } = &*self.0;
        let receiver =
            Receiver { store, sink, transfers: transfers.clone(), journal: journal.clone(), tasks: tasks.clone() };
        let (responses, sent) = mpsc::channel(1);
        tasks.spawn(async move {
            if let Err(status) = receiver.receive(request.into_inner(), &responses).await {
                // Nobody listens any more if it cannot be said.
                let _ = responses.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(sent)))
    }
}

fn parse(digest: &str) -> Result<Digest, Status> {
    digest.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}

fn read_piece(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(Bytes::from(bytes))
}

impl NamedService for Content {
    const NAME: &'static str = "containerd.services.content.v1.Content";
}

impl tower::Service<HttpRequest> for Content {
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<HttpResponse, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest) -> Self::Future {
        let content = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                INFO => rpc::unary(request, move |request| content.clone().info(request)).await,
                READ => rpc::server_streaming(request, move |request| content.clone().read(request)).await,
                STATUS => rpc::unary(request, move |request| content.clone().status(request)).await,
                WRITE => rpc::streaming(request, move |request| content.clone().write(request)).await,
                ABORT => rpc::unary(request, move |request| content.clone().abort(request)).await,
                other => rpc::unimplemented(other),
            })
        })
    }
}
