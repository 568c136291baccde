//! A registry, and how it knows who asks.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use oci::Repository;
use reqwest::header::HeaderValue;
use tokio::sync::{Mutex, OnceCell};

use super::ImageError;
use super::challenge::{Bearer, Challenge};
use super::endpoint::Endpoint;
use super::keychain::{Credential, Found, Keychain};
use super::token::{Scope, Token, basic};
use crate::http::Http;

/// The registry of one repository. Credentials can differ from repository to repository, so there is one for each.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) endpoint: Endpoint,
    repository: Repository,
    keychain: Keychain,
    /// Looked for when the registry first asks: a helper may have to ask the user.
    found: OnceCell<Found>,
    /// What the registry wants. Some want nothing at first and only ask those who write.
    challenge: RwLock<Option<Challenge>>,
    tokens: Mutex<BTreeMap<Scope, Token>>,
}

impl Peer {
    pub(super) fn new(endpoint: Endpoint, repository: Repository, keychain: Keychain) -> Self {
        let challenge = RwLock::new(endpoint.challenge.clone());
        Self { endpoint, repository, keychain, found: OnceCell::new(), challenge, tokens: Mutex::default() }
    }

    /// The `Authorization` for requests that need `scope`.
    pub(super) async fn authorization(&self, http: &Http, scope: &Scope) -> Result<Option<HeaderValue>, ImageError> {
        let challenge = self.challenge.read().unwrap_or_else(PoisonError::into_inner).clone();
        match challenge {
            None => Ok(None),
            Some(challenge) => self.answer(http, scope, &challenge).await,
        }
    }

    /// Another `Authorization`, after the registry refused this one; `wanted` says what it wants instead. `None` when
    /// there is nothing new to say.
    pub(super) async fn renewed(
        &self,
        http: &Http,
        scope: &Scope,
        refused: Option<&HeaderValue>,
        wanted: Option<Challenge>,
    ) -> Result<Option<HeaderValue>, ImageError> {
        let challenge = {
            let mut known = self.challenge.write().unwrap_or_else(PoisonError::into_inner);
            if known.is_none() {
                known.clone_from(&wanted);
            }
            wanted.or_else(|| known.clone())
        };
        let Some(challenge) = challenge else { return Ok(None) };
        if let Some(refused) = refused {
            // Somebody else may have renewed it meanwhile.
            self.tokens.lock().await.retain(|_, token| token.header != *refused);
        }
        let answer = self.answer(http, scope, &challenge).await?;
        // A password does not become better by being repeated; a token was fetched anew, and may well look the same.
        Ok(answer.filter(|answer| challenge != Challenge::Basic || Some(answer) != refused))
    }

    async fn answer(
        &self,
        http: &Http,
        scope: &Scope,
        challenge: &Challenge,
    ) -> Result<Option<HeaderValue>, ImageError> {
        match challenge {
            Challenge::Basic => Ok(match &self.found().await.credential {
                Some(Credential::Password { user, password }) => Some(basic(user, password)),
                Some(Credential::Identity(_)) | None => None,
            }),
            Challenge::Bearer(bearer) => self.token(http, bearer, scope).await.map(Some),
        }
    }

    async fn token(&self, http: &Http, bearer: &Bearer, scope: &Scope) -> Result<HeaderValue, ImageError> {
        let credential = self.found().await.credential.as_ref();
        // Held while fetching: whoever else needs the token waits for it instead of fetching another.
        let mut tokens = self.tokens.lock().await;
        if let Some(token) = tokens.get(scope).filter(|token| token.is_fresh()) {
            return Ok(token.header.clone());
        }
        let wanted = scope.with(bearer.scope.as_deref());
        let mut token = Token::fetch(http, &self.endpoint, bearer, &wanted, credential).await?;
        if token.is_none() && credential.is_some() && wanted.only_pulls() {
            // Credentials that lie about, and are refused, must not bar what everyone may read.
            token = Token::fetch(http, &self.endpoint, bearer, &wanted, None).await?;
        }
        let Some(token) = token else { return Err(self.unauthorized().await) };
        let header = token.header.clone();
        tokens.insert(scope.clone(), token);
        Ok(header)
    }

    async fn found(&self) -> &Found {
        self.found.get_or_init(|| self.keychain.find(&self.endpoint.name, &self.repository)).await
    }

    /// Whether there are credentials.
    pub(super) async fn has_credentials(&self) -> bool {
        self.found().await.credential.is_some()
    }

    /// That the registry refuses whoever asks.
    pub(super) async fn unauthorized(&self) -> ImageError {
        let found = self.found().await;
        ImageError::Unauthorized {
            repository: self.repository.clone(),
            refused: found.credential.is_some(),
            problem: found.problem.clone().map(Box::new),
        }
    }
}
