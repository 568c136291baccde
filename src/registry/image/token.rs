//! Tokens. Spec: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use oci::Repository;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::ImageError;
use super::challenge::Bearer;
use super::endpoint::{Direction, Endpoint};
use super::keychain::Credential;
use crate::http::{Http, Trust, is_loopback, status_error};

/// What a token must allow: `repository:a/b:pull,push` and more of the kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope(BTreeSet<String>);

impl Scope {
    /// What it takes to move images of `repository` in this direction, with blobs mounted from others.
    pub(super) fn new<'a>(
        repository: &Repository,
        direction: Direction,
        mount_from: impl IntoIterator<Item = &'a Repository>,
    ) -> Self {
        let actions = match direction {
            Direction::Pull => "pull",
            Direction::Push => "pull,push",
        };
        let own = format!("repository:{}:{actions}", repository.path());
        let others = mount_from.into_iter().map(|other| format!("repository:{}:pull", other.path()));
        Self(others.chain([own]).collect())
    }

    /// These, as a token server understands them.
    pub(super) fn of(scopes: impl IntoIterator<Item = String>) -> Self {
        Self(scopes.into_iter().collect())
    }

    /// This and more.
    pub(super) fn with(&self, more: Option<&str>) -> Self {
        let more = more.into_iter().flat_map(str::split_whitespace).map(str::to_owned);
        Self(self.0.iter().cloned().chain(more).collect())
    }

    pub(super) fn only_pulls(&self) -> bool {
        self.0.iter().all(|scope| scope.ends_with(":pull"))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scopes: Vec<_> = self.0.iter().map(String::as_str).collect();
        f.write_str(&scopes.join(" "))
    }
}

/// A token, as a header.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) until: Instant,
}

/// What a token server answers.
#[derive(Deserialize)]
struct Answer {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
    expires_in: Option<u64>,
}

/// What stands before a token in a header.
const SCHEME: &str = "Bearer ";

/// What tokens are good for when the server does not say.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token that ends so soon is not begun with.
const MARGIN: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: u64 = 1 << 20;

impl Token {
    pub(super) fn is_fresh(&self) -> bool {
        self.until > Instant::now() + MARGIN
    }

    /// The token itself.
    pub(super) fn into_secret(self) -> SecretString {
        // It was made of text.
        let header = self.header.to_str().unwrap_or_default();
        SecretString::from(header.strip_prefix(SCHEME).unwrap_or_default())
    }

    /// Asks the token server, once. `None`: it does not believe the credentials, or gives nothing to strangers.
    pub(super) async fn fetch(
        http: &Http,
        endpoint: &Endpoint,
        bearer: &Bearer,
        scope: &Scope,
        credential: Option<&Credential>,
    ) -> Result<Option<Self>, ImageError> {
        let protocol = |problem| ImageError::Protocol { registry: endpoint.name.clone(), problem };
        let trust = if endpoint.owns(&bearer.realm) { endpoint.trust } else { Trust::Verified };
        let in_clear = bearer.realm.scheme() != "https" && !is_loopback(&bearer.realm) && trust != Trust::Anyone;
        if in_clear && credential.is_some() {
            return Err(protocol("it wants credentials sent to a token server without TLS"));
        }
        let asked = Instant::now();
        let request = token_request(http, trust, bearer, scope, credential)?;
        let response = http.send(&bearer.realm, request).await?;
        match response.status() {
            status if status.is_success() => {
                let body = http.download(&bearer.realm, response).bytes(ANSWER_LIMIT).await?;
                token(&body, asked).map(Some).ok_or_else(|| protocol("its token server gives no token"))
            }
            // 400 is what OAuth2 says to a refresh token it does not know.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => Ok(None),
            _ => Err(status_error(&bearer.realm, response).await.into()),
        }
    }
}

const CLIENT_ID: &str = "clawbuild";

fn token_request(
    http: &Http,
    trust: Trust,
    bearer: &Bearer,
    scope: &Scope,
    credential: Option<&Credential>,
) -> Result<reqwest::RequestBuilder, ImageError> {
    let client = http.client(&bearer.realm, trust)?;
    if let Some(Credential::Identity(token)) = credential {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        form.append_pair("service", bearer.service.as_deref().unwrap_or_default());
        form.append_pair("scope", &scope.to_string()).append_pair("refresh_token", token.expose_secret());
        let request = client.post(bearer.realm.clone());
        return Ok(request.header("content-type", "application/x-www-form-urlencoded").body(form.finish()));
    }
    let mut url = bearer.realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = &bearer.service {
            query.append_pair("service", service);
        }
        for scope in &scope.0 {
            query.append_pair("scope", scope);
        }
    }
    let request = client.get(url);
    Ok(match credential {
        Some(Credential::Password { user, password }) => request.header("authorization", basic(user, password)),
        Some(Credential::Identity(_)) | None => request,
    })
}

/// Reads the answer to a question asked at that time.
fn token(body: &[u8], asked: Instant) -> Option<Token> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.expose_secret().is_empty())?;
    let mut header = HeaderValue::from_str(&format!("{SCHEME}{}", token.expose_secret())).ok()?;
    header.set_sensitive(true);
    // Counted from before the question, so that no clock needs to agree with the server's.
    let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs).max(DEFAULT_LIFETIME);
    Some(Token { header, until: asked + lifetime })
}

pub(super) fn basic(user: &str, password: &SecretString) -> HeaderValue {
    let encoded = BASE64_STANDARD.encode(format!("{user}:{}", password.expose_secret()));
    let mut header = HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 is a header value");
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_name_every_repository() {
        let repository = |text: &str| text.parse::<Repository>().expect("a repository");
        let (own, base) = (repository("ghcr.io/o/app"), repository("ghcr.io/o/base"));
        assert_eq!(Scope::new(&own, Direction::Pull, []).to_string(), "repository:o/app:pull");
        let push = Scope::new(&own, Direction::Push, [&base]);
        assert_eq!(push.to_string(), "repository:o/app:pull,push repository:o/base:pull");
        assert!(!push.only_pulls());
        assert!(Scope::new(&own, Direction::Pull, [&base]).only_pulls());
        assert_eq!(push.with(Some("repository:o/app:pull,push")), push);
    }

    #[test]
    fn token_answers_come_in_two_forms_and_are_never_shown() {
        let now = Instant::now();
        let first = token(br#"{"token":"abc","expires_in":300}"#, now).expect("a token");
        assert_eq!(first.header.to_str().expect("text"), "Bearer abc");
        assert_eq!(first.until, now + Duration::from_secs(300));
        assert!(!format!("{first:?}").contains("abc"));
        let second = token(br#"{"access_token":"def"}"#, now).expect("a token");
        assert_eq!(second.until, now + DEFAULT_LIFETIME);
        for none in [&b"{}"[..], b"", br#"{"token":""}"#, b"{\"token\":\"a\\nb\"}"] {
            assert!(token(none, now).is_none());
        }
    }
}
