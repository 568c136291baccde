//! Credentials for the registries that the daemon talks to.

use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use registry::image::{Credential, Keychain};
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};

use super::journal::{Journal, Problem};

pub(super) const METHODS: [&str; 1] = ["/moby.filesync.v1.Auth/Credentials"];

/// Looks credentials up in the keychain.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) keychain: Keychain,
    pub(super) journal: Journal,
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

    async fn fetch_token(&self, _: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        Err(own_tokens())
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(own_tokens())
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(own_tokens())
    }
}

/// On this the daemon asks for credentials and fetches its tokens itself.
fn own_tokens() -> Status {
    Status::unimplemented("tokens are fetched by the daemon")
}
