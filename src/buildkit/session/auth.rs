//! Who asks, for the registries that the daemon talks to.
//!
//! Where a registry has tokens, they are fetched here and only they are handed out; passwords go to the daemon for
//! registries that want nothing else. Source: BuildKit `util/resolver/authorizer.go`, `session/auth`.

use std::sync::OnceLock;

use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use registry::http::{Http, HttpSettings};
use registry::image::{Credential, Keychain, TokenIssuer};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};

use super::journal::{Journal, Problem};

pub(super) const METHODS: [&str; 4] = [
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.filesync.v1.Auth/FetchToken",
    "/moby.filesync.v1.Auth/GetTokenAuthority",
    "/moby.filesync.v1.Auth/VerifyTokenAuthority",
];

/// Looks credentials up in the keychain.
#[derive(Debug)]
pub(super) struct Credentials {
    keychain: Keychain,
    issuer: TokenIssuer,
    journal: Journal,
}

impl Credentials {
    pub(super) fn new(keychain: Keychain, journal: Journal) -> Self {
        // Mirrors are for what is fetched from here.
        let issuer = TokenIssuer::new(Http::new(HttpSettings::default()), keychain.clone());
        Self { keychain, issuer, journal }
    }

    /// The key by which the daemon knows for whom it keeps a token: the same for the same credentials and for as long
    /// as this process and the daemon run, and nothing that could be guessed from outside.
    async fn key(&self, host: &str, salt: &[u8]) -> Result<Ed25519KeyPair, Status> {
        // On this the daemon goes on by itself: it asks for credentials, or asks the registry anonymously.
        let own = || Status::unavailable(format!("tokens for {host} are not fetched here"));
        let credential = self.issuer.credential(host).await.ok_or_else(own)?;
        let (user, secret) = match &credential {
            Credential::Password { user, password } => (user.as_str(), password),
            Credential::Identity(token) => ("", token),
        };
        let mut context = hmac::Context::with_key(process_key());
        for part in [salt, host.as_bytes(), user.as_bytes(), secret.expose_secret().as_bytes()] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        Ed25519KeyPair::from_seed_unchecked(context.sign().as_ref()).map_err(|_| Status::internal("no key"))
    }
}

/// A key that nobody else has.
fn process_key() -> &'static hmac::Key {
    static KEY: OnceLock<hmac::Key> = OnceLock::new();
    KEY.get_or_init(|| hmac::Key::new(hmac::HMAC_SHA256, &super::random_bytes::<32>()))
}

#[tonic::async_trait]
impl Auth for Credentials {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let (credential, problem) = self.keychain.credential(&host).await;
        if let Some(error) = problem {
            // Many registries let anybody in: that is for the daemon to find out.
            self.journal.problem(Problem::Credentials { registry: host, error });
        }
        Ok(Response::new(match credential {
            Some(Credential::Password { user, password }) => {
                CredentialsResponse { username: user, secret: password.expose_secret().to_owned() }
            }
            Some(Credential::Identity(token)) => {
                CredentialsResponse { username: String::new(), secret: token.expose_secret().to_owned() }
            }
            None => CredentialsResponse { username: String::new(), secret: String::new() },
        }))
    }

    async fn fetch_token(&self, request: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        let FetchTokenRequest { host, realm, service, scopes, client_id: _ } = request.into_inner();
        let issued = self.issuer.fetch(&host, &realm, &service, scopes).await;
        match issued.map_err(|error| Status::failed_precondition(error.to_string()))? {
            Some(issued) => Ok(Response::new(FetchTokenResponse {
                token: issued.token.expose_secret().to_owned(),
                expires_in: i64::try_from(issued.lifetime.as_secs()).unwrap_or(i64::MAX),
                // From now on: the clocks of both sides need not agree.
                issued_at: 0,
            })),
            None => Err(Status::permission_denied(format!("{host} refuses the credentials it is given"))),
        }
    }

    async fn get_token_authority(
        &self,
        request: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        let GetTokenAuthorityRequest { host, salt } = request.into_inner();
        let key = self.key(&host, &salt).await?;
        Ok(Response::new(GetTokenAuthorityResponse { public_key: key.public_key().as_ref().to_vec() }))
    }

    async fn verify_token_authority(
        &self,
        request: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        let VerifyTokenAuthorityRequest { host, payload, salt } = request.into_inner();
        let key = self.key(&host, &salt).await?;
        // As NaCl has it: the signature, then what was signed.
        let signed = [key.sign(&payload).as_ref(), &payload].concat();
        Ok(Response::new(VerifyTokenAuthorityResponse { signed }))
    }
}
