//! The session: the gRPC server that answers what a daemon asks for during a solve.
//!
//! The daemon is the client here. It reaches the server through a stream inside its own connection (BuildKit) or one
//! that was upgraded for it (Docker). It finds the services by the headers the stream was opened with.

mod connection;
mod health;
mod journal;
mod offer;

use std::os::unix::ffi::OsStrExt as _;

use bollard_buildkit_proto::health::health_server::HealthServer;
use futures::{StreamExt as _, stream};
use oci::Digest;
use store::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use connection::Connection;
use health::AlwaysServing;

pub use journal::{Journal, Problem};
pub use offer::{ContentSink, IncomingBlob, Offer, Receive, StreamSink};

/// Headers a session's stream is opened with. Source: BuildKit `session/session.go`.
mod header {
    pub(super) const ID: &str = "x-docker-expose-session-uuid";
    pub(super) const NAME: &str = "x-docker-expose-session-name";
    pub(super) const SHARED_KEY: &str = "x-docker-expose-session-sharedkey";
    /// Once for each method.
    pub(super) const METHOD: &str = "x-docker-expose-session-grpc-method";
}

/// One session: an offer, and who answers for it.
#[derive(Debug)]
pub struct Session {
    id: String,
    shared_key: String,
    #[expect(dead_code, reason = "the services that read it follow")]
    offer: Offer,
    #[expect(dead_code, reason = "the services that read it follow")]
    store: Store,
    journal: Journal,
}

impl Session {
    /// A session under a new random id. `store` remembers the digests of context files.
    #[must_use]
    pub fn new(offer: Offer, store: Store) -> Self {
        let shared_key = shared_key(&offer, &store);
        Self { id: random_id(), shared_key, offer, store, journal: Journal::default() }
    }

    /// What a solve names the session by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What happened in it; to be kept, for [`Session::serve`] consumes the session.
    #[must_use]
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// The headers its stream is opened with. A name may come several times.
    #[must_use]
    pub fn metadata(&self) -> Vec<(&'static str, String)> {
        let mut metadata = vec![
            (header::ID, self.id.clone()),
            (header::NAME, "clawbuild".to_owned()),
            (header::SHARED_KEY, self.shared_key.clone()),
        ];
        metadata.extend(METHODS.iter().map(|method| (header::METHOD, (*method).to_owned())));
        metadata
    }

    /// Answers on a stream until the daemon closes it or `cancel` is triggered. Nothing is left running when this
    /// returns.
    pub async fn serve<IO>(self, io: IO, cancel: CancellationToken)
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let closed = CancellationToken::new();
        let connection = Connection::new(io, &cancel, closed.clone());
        let incoming = stream::iter([Ok::<_, std::io::Error>(connection)]).chain(stream::pending());
        let router = Server::builder().add_service(HealthServer::new(AlwaysServing));
        // It fails when the connection breaks, which the solve on the other side is told too.
        let _ = router.serve_with_incoming_shutdown(incoming, closed.cancelled()).await;
    }
}

/// Methods the daemon may call, as it wants to hear of them.
const METHODS: [&str; 1] = ["/grpc.health.v1.Health/Check"];

/// An id nobody can guess: who knows it can ask for everything that is offered.
fn random_id() -> String {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).expect("Linux gives up to 256 bytes");
    hex::encode(bytes)
}

/// By this the daemon finds what it got of the same directories last time, so that only changes travel.
fn shared_key(offer: &Offer, store: &Store) -> String {
    let mut text = store.blob_path(&Digest::of("")).into_os_string().into_encoded_bytes();
    for (name, root) in &offer.contexts {
        for part in [name.as_bytes(), root.as_os_str().as_bytes()] {
            text.push(0);
            text.extend_from_slice(part);
        }
    }
    Digest::of(text).hex()
}
