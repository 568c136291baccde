//! The gateway: what a builder answers in the course of a build.

use std::future::Future;

use bollard_buildkit_proto::moby::buildkit::v1::SolveRequest;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    self, PingRequest, ResolveImageConfigRequest, ReturnRequest,
};
use bollard_buildkit_proto::pb;
use llb::ImageSource;
use oci::{Os, Platform};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::Builder;
use super::builder::MESSAGE;
use super::failure::Failure;
use crate::ingest::UnknownImage;
use crate::random_id;

/// Says which build a call belongs to. Source: BuildKit `client/buildid`.
const BUILD_ID: &str = "buildkit-controlapi-buildid";

/// The gateway of one build.
#[derive(Clone, Debug)]
pub struct Gateway {
    client: LlbBridgeClient<Channel>,
    build: AsciiMetadataValue,
}

impl Gateway {
    /// The gateway of the build of this name, which was begun without a definition and without a frontend.
    ///
    /// # Errors
    /// A name that no header can hold.
    pub fn of_build(builder: &Builder, build: &str) -> Result<Self, Status> {
        let client = LlbBridgeClient::new(builder.connection().channel())
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE);
        let build = build.parse().map_err(|_| Status::invalid_argument("the build's name is not ASCII"))?;
        Ok(Self { client, build })
    }

    /// The ids of the LLB capabilities the builder has.
    ///
    /// # Errors
    /// What the builder says.
    pub async fn capabilities(&self) -> Result<Vec<String>, Status> {
        let pong = self.client.clone().ping(self.request(PingRequest {})).await?.into_inner();
        Ok(pong.llb_caps.into_iter().filter(|cap| cap.enabled).map(|cap| cap.id).collect())
    }

    /// The config of an image in a registry, as it lies there.
    ///
    /// # Errors
    /// What the builder says.
    pub async fn image_config(&self, image: &ImageSource, platform: Platform) -> Result<Vec<u8>, Status> {
        let os = match platform.os {
            Os::Linux => "linux".to_owned(),
        };
        let architecture = platform.architecture.to_string();
        let platform = pb::Platform { architecture, os, ..pb::Platform::default() };
        let request = ResolveImageConfigRequest {
            r#ref: image.repository.with_digest(image.digest).to_string(),
            platform: Some(platform),
            resolve_mode: "default".to_owned(),
            ..ResolveImageConfigRequest::default()
        };
        Ok(self.client.clone().resolve_image_config(self.request(request)).await?.into_inner().config)
    }

    /// Solves a graph; gives a reference to its result.
    ///
    /// # Errors
    /// What the builder says.
    pub async fn solve(&self, request: frontend::SolveRequest) -> Result<frontend::Result, Status> {
        let solved = self.client.clone().solve(self.request(request)).await?.into_inner();
        Ok(solved.result.unwrap_or_default())
    }

    /// Ends the build with this result.
    ///
    /// # Errors
    /// What the builder says.
    pub async fn end(&self, result: frontend::Result) -> Result<(), Status> {
        let request = ReturnRequest { result: Some(result), error: None };
        self.client.clone().r#return(self.request(request)).await.map(drop)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(BUILD_ID, self.build.clone());
        request
    }
}

impl Builder {
    /// Begins a build that has no other purpose than questions to its gateway. What needs credentials gets them from
    /// the session of that id.
    pub(crate) async fn ask_gateway<T, F>(&self, session: &str, ask: impl FnOnce(Gateway) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let build = random_id();
        let gateway = Gateway::of_build(self, &build)?;
        let mut client = self.client();
        let request = SolveRequest {
            r#ref: build,
            session: session.to_owned(),
            // Nobody wants to find this among their builds.
            internal: true,
            ..SolveRequest::default()
        };
        let building = client.solve(request);
        let asking = async {
            let answer = ask(gateway.clone()).await;
            gateway.end(frontend::Result::default()).await.and(answer)
        };
        tokio::pin!(building, asking);
        tokio::select! {
            biased;
            answer = &mut asking => {
                // The answer is there; how the build ends does not matter any more.
                let _ = building.await;
                answer
            }
            ended = &mut building => {
                ended?;
                asking.await
            }
        }
    }

    /// The configs of images in registries.
    pub(crate) async fn image_configs(&self, session: &str, images: &[UnknownImage]) -> Result<Vec<Vec<u8>>, Failure> {
        let ask = |gateway: Gateway| async move {
            let mut configs = Vec::with_capacity(images.len());
            for UnknownImage { source, platform } in images {
                configs.push(gateway.image_config(source, *platform).await?);
            }
            Ok(configs)
        };
        self.ask_gateway(session, ask).await.map_err(|status| self.failure(status))
    }
}
