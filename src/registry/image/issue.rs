//! Tokens for other programs: those that talk to registries on our behalf and are not to see our credentials.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::sync::OnceCell;
use url::Url;

use super::ImageError;
use super::challenge::{Bearer, Challenge};
use super::endpoint::Endpoint;
use super::keychain::{Credential, Keychain};
use super::token::{Scope, Token};
use crate::http::Http;

/// Fetches tokens for the registries that the keychain has credentials for. Cheap to clone; clones share what they
/// found out.
///
/// Credentials go only where the registry itself says, whatever the program that asks for a token says.
#[derive(Clone, Debug)]
pub struct TokenIssuer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Http,
    keychain: Keychain,
    registries: Mutex<BTreeMap<String, Arc<OnceCell<Option<Source>>>>>,
}

/// Where a registry's tokens come from, and what they are given for.
#[derive(Debug)]
struct Source {
    endpoint: Endpoint,
    bearer: Bearer,
    credential: Credential,
}

/// A token for somebody else.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: SecretString,
    /// For how long it is good.
    pub lifetime: Duration,
}

/// How long a registry may take to say where its tokens come from. Those it takes longer fetch them themselves.
const PATIENCE: Duration = Duration::from_secs(10);

impl TokenIssuer {
    /// An issuer with these credentials. Does no IO.
    #[must_use]
    pub fn new(http: Http, keychain: Keychain) -> Self {
        Self(Arc::new(Inner { http, keychain, registries: Mutex::default() }))
    }

    /// The credentials that tokens for the registry at this host and port are fetched with; `None` where no token can
    /// be fetched: without credentials, or from a registry that cannot be reached from here or has no tokens.
    pub async fn credential(&self, host: &str) -> Option<Credential> {
        let registry = self.registry(host);
        Some(self.source(&registry, host).await?.credential.clone())
    }

    /// Fetches a token for the registry at this host and port that allows `scopes`. `realm` and `service` are what the
    /// program that asks was told; a registry may name another path for each repository, but no other server. `None`
    /// where the credentials are not believed.
    ///
    /// # Errors
    /// [`ImageError::NoEndpoint`] where [`TokenIssuer::credential`] gives none, [`ImageError::Protocol`] if the
    /// `realm` is at a server the registry does not send its clients to, and those of the transport.
    pub async fn fetch(
        &self,
        host: &str,
        realm: &str,
        service: &str,
        scopes: impl IntoIterator<Item = String>,
    ) -> Result<Option<IssuedToken>, ImageError> {
        let registry = self.registry(host);
        let Some(Source { endpoint, bearer, credential }) = self.source(&registry, host).await else {
            return Err(ImageError::NoEndpoint { registry: host.to_owned() });
        };
        let known = |realm: &Url| realm.origin() == bearer.realm.origin() || endpoint.owns(realm);
        let Some(realm) = Url::parse(realm).ok().filter(known) else {
            let problem = "its tokens come from elsewhere than the builder says";
            return Err(ImageError::Protocol { registry: endpoint.name.clone(), problem });
        };
        let service = Some(service).filter(|service| !service.is_empty()).map(str::to_owned);
        let bearer = &Bearer { realm, service: service.or_else(|| bearer.service.clone()), ..bearer.clone() };
        let scope = Scope::of(scopes);
        let mut token = Token::fetch(&self.0.http, endpoint, bearer, &scope, Some(credential)).await?;
        if token.is_none() && scope.only_pulls() {
            // Credentials that are refused must not bar what everyone may read.
            token = Token::fetch(&self.0.http, endpoint, bearer, &scope, None).await?;
        }
        let issued = |token: Token| IssuedToken {
            lifetime: token.until.saturating_duration_since(Instant::now()),
            token: token.into_secret(),
        };
        Ok(token.map(issued))
    }

    fn registry(&self, host: &str) -> Arc<OnceCell<Option<Source>>> {
        let mut registries = self.0.registries.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(registries.entry(host.to_owned()).or_default())
    }

    async fn source<'a>(&self, registry: &'a OnceCell<Option<Source>>, host: &str) -> Option<&'a Source> {
        let found = registry.get_or_init(|| async {
            let credential = self.0.keychain.credential(host).await.0?;
            let endpoint = tokio::time::timeout(PATIENCE, Endpoint::at(&self.0.http, host)).await.ok()?.ok()?;
            match endpoint.challenge.clone() {
                Some(Challenge::Bearer(bearer)) => Some(Source { endpoint, bearer, credential }),
                Some(Challenge::Basic) | None => None,
            }
        });
        found.await.as_ref()
    }
}
