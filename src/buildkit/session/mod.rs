//! The session: the gRPC server that answers what a daemon asks for during a solve.
//!
//! The daemon is the client here. It reaches the server through a stream inside its own connection (BuildKit) or one
//! that was upgraded for it (Docker). It finds the services by the headers the stream was opened with, and gets
//! nothing but what is in the [`Offer`].

mod agents;
mod auth;
mod connection;
mod content;
mod export;
mod files;
mod health;
mod journal;
mod offer;
mod pipe;
mod rpc;
mod secrets;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use std::os::unix::ffi::OsStrExt as _;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSendServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use futures::{StreamExt as _, stream};
use oci::Digest;
use store::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::Router;

use agents::Agents;
use auth::Credentials;
use connection::Connection;
use content::Content;
use export::Exports;
use files::Files;
use health::AlwaysServing;
use secrets::OfferedSecrets;

pub use content::LocalCache;
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
    offer: Offer,
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

    /// What happens in it; to be kept, for [`Session::serve`] consumes the session.
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
        metadata.extend(METHODS.into_iter().flatten().map(|method| (header::METHOD, (*method).to_owned())));
        metadata
    }

    /// Answers on a stream until the daemon closes it or `cancel` is triggered. Nothing is left running when this
    /// returns.
    pub async fn serve<IO>(self, io: IO, cancel: CancellationToken)
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let tasks = TaskTracker::new();
        let closed = CancellationToken::new();
        let connection = Connection::new(io, &cancel, closed.clone());
        let incoming = stream::iter([Ok::<_, std::io::Error>(connection)]).chain(stream::pending());
        // It fails when the connection breaks, which the solve on the other side is told too.
        let _ = self.router(&tasks).serve_with_incoming_shutdown(incoming, closed.cancelled()).await;
        tasks.close();
        tasks.wait().await;
    }

    fn router(self, tasks: &TaskTracker) -> Router {
        let Self { offer, store, journal, .. } = self;
        let content = Content::new(&offer, journal.clone(), tasks.clone());
        let Offer { contexts, secrets, agents, keychain, receive, layouts: _, caches: _ } = offer;
        let stream_sink = match receive {
            Receive::Stream(sink) => Some(sink),
            Receive::Nothing | Receive::Content(_) => None,
        };
        let agents = Agents { sockets: agents, journal: journal.clone(), tasks: tasks.clone() };
        Server::builder()
            // What is exported comes in large pieces, and patterns of a context can be many.
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .http2_max_header_list_size(HEADER_LIMIT)
            .add_service(HealthServer::new(AlwaysServing))
            .add_service(Files::new(contexts, store, journal.clone(), tasks.clone()))
            .add_service(content)
            .add_service(FileSendServer::new(Exports::new(stream_sink, journal.clone(), tasks.clone())))
            .add_service(SecretsServer::new(OfferedSecrets { secrets, journal: journal.clone() }))
            .add_service(SshServer::new(agents))
            .add_service(AuthServer::new(Credentials::new(keychain, journal)))
    }
}

/// Bytes that may be under way in one stream.
const WINDOW: u32 = 4 << 20;
/// The longest headers of a request.
const HEADER_LIMIT: u32 = 4 << 20;

/// Methods the daemon may call, as it wants to hear of them.
const METHODS: [&[&str]; 7] = [
    &["/grpc.health.v1.Health/Check"],
    &files::METHODS,
    &content::METHODS,
    &export::METHODS,
    &secrets::METHODS,
    &agents::METHODS,
    &auth::METHODS,
];

/// An id nobody can guess: who knows it can ask for everything that is offered.
pub(crate) fn random_id() -> String {
    hex::encode(random_bytes::<16>())
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).expect("Linux gives up to 256 bytes");
    bytes
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
