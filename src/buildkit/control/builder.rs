//! A builder that answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::types::BuildkitVersion;
use bollard_buildkit_proto::moby::buildkit::v1::{InfoRequest, ListWorkersRequest};
use llb::Cap;
use oci::Platform;
use store::{Bucket, Key, Store};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::failure::{self, Failure};
use super::gateway::Gateway;
use crate::transport::{Connection, Dial, DialError, Trouble};

/// Bytes one message may have: results of big builds list thousands of steps at once.
pub(super) const MESSAGE: usize = 64 << 20;

/// A connection to something that was found to be BuildKit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Builder {
    connection: Connection,
    version: String,
    /// What names its very build; empty where it does not say.
    identity: String,
}

/// What runs steps behind a builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its id.
    pub id: String,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
    /// The platforms it runs, its own first, the others by emulation. Those clawbuild has no name for are left out.
    pub platforms: Vec<Platform>,
}

impl Builder {
    /// Connects, and asks what is there.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn connect(dial: Arc<dyn Dial>) -> Result<Self, DialError> {
        let mut builder =
            Self { connection: Connection::open(dial).await?, version: String::new(), identity: String::new() };
        match builder.client().info(InfoRequest {}).await {
            Ok(info) => {
                let BuildkitVersion { package, version, revision, .. } =
                    info.into_inner().buildkit_version.unwrap_or_default();
                if !revision.is_empty() {
                    builder.identity = format!("{package} {version} {revision}");
                }
                builder.version = version;
            }
            // Builders from before BuildKit 0.11 do not know the question, but they know this one.
            Err(status) if status.code() == Code::Unimplemented => {
                builder.list_workers().await.map_err(|status| builder.not_buildkit(status))?;
            }
            Err(status) => return Err(builder.not_buildkit(status)),
        }
        Ok(builder)
    }

    /// BuildKit's version, such as `v0.34.2`; empty where it is older than 0.11.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What runs steps there; the first one does unless asked otherwise.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn workers(&self) -> Result<Vec<Worker>, Failure> {
        self.list_workers().await.map_err(|status| self.failure(status))
    }

    async fn list_workers(&self) -> Result<Vec<Worker>, Status> {
        let listed = self.client().list_workers(ListWorkersRequest { filter: Vec::new() }).await?.into_inner();
        let workers = listed.record.into_iter().map(|record| {
            let named = |platform: &bollard_buildkit_proto::pb::Platform| {
                let variant = match platform.variant.as_str() {
                    "" => String::new(),
                    variant => format!("/{variant}"),
                };
                format!("{}/{}{variant}", platform.os, platform.architecture).parse().ok()
            };
            let mut platforms = Vec::new();
            for platform in record.platforms.iter().filter_map(named) {
                if !platforms.contains(&platform) {
                    platforms.push(platform);
                }
            }
            Worker { id: record.id, labels: record.labels.into_iter().collect(), platforms }
        });
        Ok(workers.collect())
    }

    /// The LLB capabilities it has, as far as clawbuild has a use for them. They are asked for once per version.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn capabilities(&self, store: &Store) -> Result<BTreeSet<Cap>, Failure> {
        let key = Key::of(["capabilities", &self.identity].map(str::as_bytes));
        let is_known = !self.identity.is_empty();
        if is_known && let Some(ids) = store.record::<Vec<String>>(Bucket::Builders, &key) {
            return Ok(ids.iter().filter_map(|id| Cap::from_id(id)).collect());
        }
        let ask = |gateway: Gateway| async move { gateway.capabilities().await };
        let ids = self.ask_gateway("", ask).await.map_err(|status| self.failure(status))?;
        if is_known {
            // Should it not be kept, it is asked for again.
            let _ = store.put_record_unsynced(Bucket::Builders, &key, &ids);
        }
        Ok(ids.iter().filter_map(|id| Cap::from_id(id)).collect())
    }

    pub(super) fn client(&self) -> ControlClient<Channel> {
        ControlClient::new(self.connection.channel())
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE)
    }

    /// What went wrong with the first question of all.
    fn not_buildkit(&self, status: Status) -> DialError {
        let address = self.connection.describe();
        match status.code() {
            Code::Unimplemented if !failure::is_local(&status) => DialError::NotBuildKit { address },
            // A certificate of this side is only looked at after the handshake.
            _ => match self.connection.take_trouble() {
                Some(Trouble::Dial(error)) => error,
                Some(Trouble::Broken(error)) => DialError::of_tls(&address, &error)
                    .unwrap_or(DialError::Protocol { address, source: Some(Box::new(error)) }),
                None => DialError::Protocol { address, source: Some(failure::root_cause(&status).into()) },
            },
        }
    }
}
