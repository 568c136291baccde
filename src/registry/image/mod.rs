//! Images in registries: a client for the OCI distribution specification.
//!
//! Spec: OCI distribution-spec 1.1. Docker's media types and its token servers are understood too.

mod challenge;
mod document;
mod endpoint;
mod error;
mod issue;
mod keychain;
mod peer;
mod pull;
mod push;
mod session;
mod token;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use oci::Repository;
use tokio::sync::OnceCell;

pub use endpoint::Direction;
pub use error::ImageError;
pub use issue::{IssuedToken, TokenIssuer};
pub use keychain::{Credential, CredentialError, HelperError, Keychain};
pub use pull::Pulled;
pub use push::{Push, PushReceipt, Traffic};

use crate::download::Downloader;
use endpoint::Endpoint;
use peer::Peer;
use session::Session;
use token::Scope;

/// How images are fetched and sent.
#[derive(Clone, Debug, Default)]
pub struct ImageSettings {
    /// Who asks.
    pub keychain: Keychain,
    /// Registries (host and port) whose certificates are not checked, and that may be spoken to without TLS.
    pub insecure: BTreeSet<String>,
    /// Send blobs in pieces of so many bytes. By default a blob goes in one piece, and in smaller ones only to
    /// registries that refuse it so.
    pub chunk: Option<NonZeroU64>,
}

/// Fetches and sends images. Cheap to clone; clones share connections, tokens and downloads under way.
#[derive(Clone, Debug)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    downloader: Downloader,
    settings: ImageSettings,
    peers: Mutex<Peers>,
}

/// Registries that were found, or are being looked for.
type Peers = BTreeMap<(String, Direction), Arc<OnceCell<Arc<Peer>>>>;

impl Images {
    /// A client that keeps what it fetches, and finds what it sends, in the downloader's store. Does no IO.
    #[must_use]
    pub fn new(downloader: Downloader, settings: ImageSettings) -> Self {
        Self(Arc::new(Inner { downloader, settings, peers: Mutex::default() }))
    }

    /// Begins talking about one repository. Finds the registry, unless it is known already.
    async fn session<'a>(
        &self,
        repository: &Repository,
        direction: Direction,
        mount_from: impl IntoIterator<Item = &'a Repository>,
    ) -> Result<Session, ImageError> {
        let http = self.0.downloader.http();
        let slot = {
            let mut peers = self.0.peers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(peers.entry((repository.to_string(), direction)).or_default())
        };
        let find = || async {
            let insecure = self.0.settings.insecure.contains(repository.registry());
            let endpoint = Endpoint::discover(http, repository, direction, insecure).await?;
            let keychain = self.0.settings.keychain.clone();
            Ok::<_, ImageError>(Arc::new(Peer::new(endpoint, repository.clone(), keychain)))
        };
        let peer = slot.get_or_try_init(find).await?;
        Ok(Session {
            http: http.clone(),
            settings: self.0.settings.clone(),
            peer: Arc::clone(peer),
            repository: repository.clone(),
            direction,
            scope: Scope::new(repository, direction, mount_from),
        })
    }
}
