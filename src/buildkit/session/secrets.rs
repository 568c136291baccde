//! Secrets, by name.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use engine::SecretId;
use secrecy::{ExposeSecret as _, SecretSlice};
use tonic::{Request, Response, Status};

use super::journal::{Journal, Problem};

pub(super) const METHODS: [&str; 1] = ["/moby.buildkit.secrets.v1.Secrets/GetSecret"];

/// Hands out the secrets that are offered.
#[derive(Debug)]
pub(super) struct OfferedSecrets {
    pub(super) secrets: BTreeMap<SecretId, SecretSlice<u8>>,
    pub(super) journal: Journal,
}

#[tonic::async_trait]
impl Secrets for OfferedSecrets {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let id = SecretId(request.into_inner().id);
        match self.secrets.get(&id) {
            Some(secret) => Ok(Response::new(GetSecretResponse { data: secret.expose_secret().to_vec() })),
            None => {
                let status = Status::not_found(format!("the secret `{}` was not given", id.0));
                self.journal.problem(Problem::NoSuchSecret { id: id.0 });
                Err(status)
            }
        }
    }
}
