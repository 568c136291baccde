//! Calls of the daemon.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::buildkit::v1::{apicaps, frontend};
use bollard_buildkit_proto::pb;
use llb::{Cap, Definition};
use oci::{Digest, ImageConfig, Platform};
use tonic::transport::Channel;

use super::environment::platform;
use super::{FrontendResult, GatewayError, Status};
use crate::transport::{Connection, Dial};

/// The daemon's own limit on messages, in bytes.
const MESSAGE: usize = 16 << 20;
/// Spec: BuildKit `client/llb/sourceresolver`, `ResolverTypeOCILayout`.
const OCI_LAYOUT: i32 = 1;

/// The daemon, as a frontend calls it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    client: LlbBridgeClient<Channel>,
    /// What its gateway knows.
    frontend_caps: BTreeSet<String>,
    /// What its solver knows.
    llb_caps: BTreeSet<String>,
    platforms: Vec<Platform>,
}

/// What a definition came to, kept by the daemon while the frontend runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    id: String,
}

/// An image by name.
#[derive(Clone, Copy, Debug)]
pub struct ImageName<'a> {
    /// Repository, and tag or digest.
    pub name: &'a str,
    /// The OCI layout it is in, if not in a registry: the client's name of the layout, and the client's session.
    pub layout: Option<(&'a str, &'a str)>,
}

/// An image the daemon found.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// The digest of its manifest, or of the index the name stands for.
    pub digest: Digest,
    /// Its config.
    pub config: ImageConfig,
}

/// A cache the client wants looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheImport {
    /// `registry`, `local` or another kind.
    pub kind: String,
    /// What belongs to it.
    pub attributes: BTreeMap<String, String>,
}

/// Something the user should know although the build goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// One line.
    pub message: String,
    /// More, line by line.
    pub detail: Vec<String>,
    /// The vertex it is shown at.
    pub vertex: Digest,
}

impl Reference {
    pub(super) fn new(id: String) -> Self {
        Self { id }
    }

    pub(super) fn into_pb(self) -> frontend::Ref {
        frontend::Ref { id: self.id, def: None }
    }
}

impl Gateway {
    /// Connects, and asks what the daemon can do.
    ///
    /// # Errors
    /// Nobody answers, or not as BuildKit does.
    pub async fn open(dial: Arc<dyn Dial>) -> Result<Self, GatewayError> {
        let connection = Connection::open(dial).await?;
        let mut client = LlbBridgeClient::new(connection.channel())
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE);
        let answer = client.ping(frontend::PingRequest {}).await.map_err(GatewayError::call("Ping"))?.into_inner();
        let ids = |caps: Vec<apicaps::ApiCap>| caps.into_iter().filter(|cap| cap.enabled).map(|cap| cap.id).collect();
        let platforms = answer.workers.first().map(|worker| worker.platforms.as_slice()).unwrap_or_default();
        let known = |place: &pb::Platform| platform(&place.os, &place.architecture, &place.variant);
        let platforms = platforms.iter().filter_map(known).collect();
        let (frontend_caps, llb_caps) = (ids(answer.frontend_api_caps), ids(answer.llb_caps));
        Ok(Self { client, frontend_caps, llb_caps, platforms })
    }

    /// What the daemon's default worker runs, its own platform first. Old daemons do not say.
    #[must_use]
    pub fn platforms(&self) -> &[Platform] {
        &self.platforms
    }

    /// The capabilities a definition needs and the daemon has not.
    #[must_use]
    pub fn missing_caps(&self, definition: &Definition) -> Vec<Cap> {
        definition.required_caps().into_iter().filter(|cap| !self.llb_caps.contains(cap.as_str())).collect()
    }

    /// Hands over a definition. With `imports` the daemon looks for results in these caches too.
    ///
    /// # Errors
    /// The daemon refuses it, or has to execute something and fails.
    pub async fn solve(&self, definition: &Definition, imports: &[CacheImport]) -> Result<Reference, GatewayError> {
        let imports = match self.frontend_caps.contains("importcaches") {
            true => imports,
            false => &[],
        };
        let request = frontend::SolveRequest {
            definition: Some(definition.to_pb()),
            allow_result_return: true,
            allow_result_array_ref: true,
            cache_imports: imports.iter().map(CacheImport::to_pb).collect(),
            ..Default::default()
        };
        let answer = self.client.clone().solve(request).await.map_err(GatewayError::call("Solve"))?.into_inner();
        match answer.result.and_then(|result| result.result) {
            Some(frontend::result::Result::Ref(reference)) => Ok(Reference::new(reference.id)),
            Some(frontend::result::Result::RefDeprecated(id)) => Ok(Reference::new(id)),
            _ => Err(GatewayError::Answer { method: "Solve", what: "single result" }),
        }
    }

    /// A file's content.
    ///
    /// # Errors
    /// It is not there, or above the daemon's limit of 16 MiB.
    pub async fn read_file(&self, reference: &Reference, path: &str) -> Result<Vec<u8>, GatewayError> {
        let request =
            frontend::ReadFileRequest { r#ref: reference.id.clone(), file_path: path.to_owned(), ..Default::default() };
        let answer = self.client.clone().read_file(request).await.map_err(GatewayError::call("ReadFile"))?;
        Ok(answer.into_inner().data)
    }

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// It is not there, or no directory.
    pub async fn read_dir(&self, reference: &Reference, path: &str) -> Result<Vec<String>, GatewayError> {
        let request =
            frontend::ReadDirRequest { r#ref: reference.id.clone(), dir_path: path.to_owned(), ..Default::default() };
        let answer = self.client.clone().read_dir(request).await.map_err(GatewayError::call("ReadDir"))?;
        let mut names: Vec<String> = answer.into_inner().entries.into_iter().map(|entry| entry.path).collect();
        names.sort();
        Ok(names)
    }

    /// What an image's name stands for now.
    ///
    /// # Errors
    /// The image cannot be found.
    pub async fn resolve_image(
        &self,
        image: &ImageName<'_>,
        platform: Platform,
        log_name: String,
    ) -> Result<ResolvedImage, GatewayError> {
        let (resolver_type, store_id, session_id) = match image.layout {
            None => (0, "", ""),
            Some((store, session)) => (OCI_LAYOUT, store, session),
        };
        let request = frontend::ResolveImageConfigRequest {
            r#ref: image.name.to_owned(),
            platform: Some(pb::Platform {
                architecture: platform.architecture.as_str().to_owned(),
                os: "linux".to_owned(),
                ..Default::default()
            }),
            log_name,
            resolver_type,
            store_id: store_id.to_owned(),
            session_id: session_id.to_owned(),
            ..Default::default()
        };
        let method = "ResolveImageConfig";
        let answer = self.client.clone().resolve_image_config(request).await.map_err(GatewayError::call(method))?;
        let answer = answer.into_inner();
        let missing = |what| GatewayError::Answer { method, what };
        let digest = answer.digest.parse().map_err(|_| missing("digest"))?;
        let config = serde_json::from_slice(&answer.config).map_err(|_| missing("config"))?;
        Ok(ResolvedImage { digest, config })
    }

    /// The commit a reference of a git repository stands for now.
    ///
    /// # Errors
    /// The repository or the reference cannot be found, or the daemon is too old to be asked.
    pub async fn resolve_git(&self, remote: &str, reference: &str) -> Result<String, GatewayError> {
        let place = remote.split_once("://").map_or(remote, |(_, rest)| rest);
        let source = pb::SourceOp {
            identifier: format!("git://{place}#{reference}"),
            attrs: BTreeMap::from([("git.fullurl".to_owned(), remote.to_owned())]),
        };
        let request = frontend::ResolveSourceMetaRequest {
            source: Some(source),
            log_name: format!("resolve {remote}#{reference}"),
            ..Default::default()
        };
        let method = "ResolveSourceMeta";
        let answer = self.client.clone().resolve_source_meta(request).await.map_err(GatewayError::call(method))?;
        let git = answer.into_inner().git.ok_or(GatewayError::Answer { method, what: "commit" })?;
        // An annotated tag has a checksum of its own.
        Ok(if git.commit_checksum.is_empty() { git.checksum } else { git.commit_checksum })
    }

    /// Tells the user something. Daemons that cannot show warnings drop it.
    ///
    /// # Errors
    /// The daemon is gone.
    pub async fn warn(&self, warning: Warning) -> Result<(), GatewayError> {
        if !self.frontend_caps.contains("gateway.warnings") {
            return Ok(());
        }
        let request = frontend::WarnRequest {
            digest: warning.vertex.to_string(),
            level: 1,
            short: warning.message.into_bytes(),
            detail: warning.detail.into_iter().map(String::into_bytes).collect(),
            ..Default::default()
        };
        self.client.clone().warn(request).await.map_err(GatewayError::call("Warn"))?;
        Ok(())
    }

    /// Hands over the result. The last call.
    ///
    /// # Errors
    /// The daemon does not take it.
    pub async fn finish(&self, result: FrontendResult) -> Result<(), GatewayError> {
        self.end(frontend::ReturnRequest { result: Some(result.into_pb()), error: None }).await
    }

    /// Says why there is no result. The last call.
    ///
    /// # Errors
    /// The daemon is gone.
    pub async fn fail(&self, status: Status) -> Result<(), GatewayError> {
        self.end(frontend::ReturnRequest { result: None, error: Some(status.into_pb()) }).await
    }

    async fn end(&self, request: frontend::ReturnRequest) -> Result<(), GatewayError> {
        self.client.clone().r#return(request).await.map_err(GatewayError::call("Return"))?;
        Ok(())
    }
}

impl CacheImport {
    fn to_pb(&self) -> frontend::CacheOptionsEntry {
        let attrs: HashMap<String, String> = self.attributes.clone().into_iter().collect();
        frontend::CacheOptionsEntry { r#type: self.kind.clone(), attrs }
    }
}
