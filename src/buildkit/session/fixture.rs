//! A daemon for tests: a client at the other end of a pipe.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use futures::Stream;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use store::Store;
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::connection::Connection;
use super::{Journal, Offer, Session};

/// A directory to work in, and a store.
pub(super) struct Scene {
    directory: TempDir,
    pub(super) store: Store,
}

/// What the daemon holds of a session.
pub(super) struct Daemon {
    pub(super) channel: Channel,
    pub(super) journal: Journal,
    pub(super) cancel: CancellationToken,
    pub(super) served: JoinHandle<()>,
    hang_up: CancellationToken,
}

impl Scene {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&directory.path().join("store")).expect("opens");
        Self { directory, store }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Serves an offer, and connects to it.
    pub(super) async fn serve(&self, offer: Offer) -> Daemon {
        let session = Session::new(offer, self.store.clone());
        let (journal, cancel) = (session.journal(), CancellationToken::new());
        let (ours, theirs) = tokio::io::duplex(256 << 10);
        let served = tokio::spawn(session.serve(ours, cancel.clone()));
        let hang_up = CancellationToken::new();
        let theirs = Connection::new(theirs, &hang_up, CancellationToken::new());
        Daemon { channel: connect(theirs).await, journal, cancel, served, hang_up }
    }
}

async fn connect(io: Connection<DuplexStream>) -> Channel {
    let io = Mutex::new(Some(io));
    let connector = tower::service_fn(move |_| {
        let io = io.lock().expect("nobody panics").take().ok_or(std::io::ErrorKind::ConnectionRefused.into());
        async move { io.map(TokioIo::new).map_err(|error: std::io::Error| error) }
    });
    Endpoint::from_static("http://session").connect_with_connector(connector).await.expect("connects")
}

impl Daemon {
    /// Calls a method that takes one message and gives one.
    pub(super) async fn unary<Q, A>(&self, method: &'static str, request: Request<Q>) -> Result<A, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc().await;
        let codec = ProstCodec::<Q, A>::default();
        Ok(grpc.unary(request, PathAndQuery::from_static(method), codec).await?.into_inner())
    }

    /// Calls a method that takes one message and gives many.
    pub(super) async fn server_streaming<Q, A>(
        &self,
        method: &'static str,
        request: Request<Q>,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc().await;
        let codec = ProstCodec::<Q, A>::default();
        Ok(grpc.server_streaming(request, PathAndQuery::from_static(method), codec).await?.into_inner())
    }

    /// Calls a method that takes many messages and gives many.
    pub(super) async fn streaming<Q, A>(
        &self,
        method: &'static str,
        request: Request<impl Stream<Item = Q> + Send + 'static>,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc().await;
        let codec = ProstCodec::<Q, A>::default();
        Ok(grpc.streaming(request, PathAndQuery::from_static(method), codec).await?.into_inner())
    }

    async fn grpc(&self) -> Grpc<Channel> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.expect("the session answers");
        grpc
    }

    /// Hangs up, and waits until nothing of the session is left.
    pub(super) async fn hang_up(self) {
        self.hang_up.cancel();
        within(self.served).await.expect("it does not panic");
    }
}

/// Waits, but not for ever.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it does not take so long")
}
