//! Docker's own BuildKit as an engine.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use diag::progress::{Event, Progress};
use diag::{Diagnostic, Reported as _};
use engine::{Engine, SolveError, SolveOutcome, SolveRequest, Unavailable};
use llb::Cap;
use oci::Platform;
use registry::image::{Images, Keychain};
use store::Store;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::{DockerDial, DockerError, Endpoint, solve};
use crate::control::{Builder, Failure};
use crate::random_id;
use crate::{BuildKit, BuildKitOptions};

/// What users call it.
pub(super) const NAME: &str = "docker";
/// What a daemon whose images lie in containerd says its driver is. Source: moby `daemon/containerd`.
const CONTAINERD: &str = "io.containerd.snapshotter.v1";

/// The BuildKit in a Docker daemon as an engine.
///
/// A daemon that keeps its images in containerd has all of BuildKit and is used as any buildkitd, as long as its BuildKit
/// is not too old for the graph. One with a graph driver (every Docker up to 22, most up to 28) lacks merges, diffs,
/// layouts and the export of images; Docker 20.10 lacks more. For those the graph is changed before it is sent, and
/// images are taken over the Engine API:
///
/// - Images of layouts, and results of merges and diffs, are loaded as images `clawbuild.local/tree:…`, layer by layer
///   what BuildKit makes of them. They stay there for the next build.
/// - What is left out of a copy is removed from a copy of its own first, and symbolic links are copied from an image
///   that has them, where the daemon cannot do either.
/// - Steps with network get the host's where the daemon has no bridge (`--bridge=none`), as buildkitd's do without CNI.
/// - Layers are compared with what is below them and written anew as BuildKit writes them, so they get the same diff
///   IDs, but where files come with times that the epoch does not cut down: see [`solve`].
#[derive(Debug)]
pub struct DockerEngine {
    endpoint: Endpoint,
    store: Store,
    options: DockerOptions,
    buildkit: BuildKit,
    /// Tells this client's directories from those of others.
    client: String,
    storage: OnceCell<Storage>,
    /// Whether the daemon has a network that steps can be put into.
    is_bridged: OnceCell<bool>,
}

/// What belongs to the client, whatever it builds.
#[derive(Clone, Debug)]
pub struct DockerOptions {
    /// Threads that compress one layer.
    pub threads: NonZeroUsize,
    /// Fetches images that results stand on.
    pub images: Images,
    /// Credentials for the registries the daemon talks to.
    pub keychain: Keychain,
}

/// Where a daemon keeps its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In containerd: BuildKit as it is everywhere.
    Containerd,
    /// In a graph driver, such as `overlay2`.
    GraphDriver,
}

impl DockerEngine {
    /// The BuildKit of the daemon there. Images are written to `store`.
    #[must_use]
    pub fn new(endpoint: Endpoint, store: Store, options: DockerOptions) -> Self {
        let dial = Arc::new(DockerDial::new(endpoint.clone()));
        let theirs = BuildKitOptions { threads: options.threads, keychain: options.keychain.clone() };
        let buildkit = BuildKit::new(dial, store.clone(), theirs);
        Self {
            endpoint,
            store,
            options,
            buildkit,
            client: random_id(),
            storage: OnceCell::new(),
            is_bridged: OnceCell::new(),
        }
    }

    /// Where the daemon keeps its images, and with that how it is used.
    ///
    /// # Errors
    /// [`DockerError`].
    pub async fn storage(&self) -> Result<Storage, DockerError> {
        let asking = || async {
            let client = self.endpoint.client();
            let fail = |source| DockerError::api(&self.endpoint, "say what it is", source);
            let info = client.info().await.map_err(fail)?;
            let mut status = info.driver_status.unwrap_or_default().into_iter();
            let is_containerd = status
                .any(|pair| matches!(pair.as_slice(), [key, value] if key == "driver-type" && value == CONTAINERD));
            Ok(if is_containerd { Storage::Containerd } else { Storage::GraphDriver })
        };
        self.storage.get_or_try_init(asking).await.copied()
    }

    /// What it says it is, and where its images lie.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn version(&self) -> Result<String, Unavailable> {
        let (_, storage) = self.builder().await.map_err(|error| unavailable(error.diagnostic()))?;
        let asked = self.endpoint.client().version().await;
        let asked = asked.map_err(|error| DockerError::api(&self.endpoint, "say its version", error));
        let version = asked.map_err(|error| unavailable(error.diagnostic()))?.version.unwrap_or_default();
        let storage = match storage {
            Storage::Containerd => "containerd",
            Storage::GraphDriver => "a graph driver",
        };
        Ok(format!("Docker {version}, images in {storage}"))
    }

    /// Whether steps get a network of their own. A daemon that was told to make no bridge has none to give.
    async fn is_bridged(&self) -> Result<bool, DockerError> {
        let asking = || async {
            match self.endpoint.client().inspect_network("bridge", None).await {
                Ok(_) => Ok(true),
                Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
                Err(error) => Err(DockerError::api(&self.endpoint, "say which networks it has", error)),
            }
        };
        self.is_bridged.get_or_try_init(asking).await.copied()
    }

    async fn builder(&self) -> Result<(&Builder, Storage), SolveError> {
        let builder = self.buildkit.builder().await.map_err(Failure::from)?;
        let storage = self.storage().await.map_err(|error| SolveError::Engine(Box::new(error)))?;
        Ok((builder, storage))
    }
}

#[async_trait]
impl Engine for DockerEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn check_usable(&self) -> Result<(), Unavailable> {
        match self.builder().await {
            Ok(_) => Ok(()),
            Err(error) => Err(unavailable(error.diagnostic())),
        }
    }

    /// Those of the daemon, and those that are made up for.
    async fn capabilities(&self) -> Result<BTreeSet<Cap>, Unavailable> {
        let asking = async {
            let (builder, _) = self.builder().await?;
            Ok::<_, SolveError>(builder.capabilities(&self.store).await?)
        };
        let mut caps = asking.await.map_err(|error| unavailable(error.diagnostic()))?;
        caps.extend(solve::MADE_UP_FOR);
        Ok(caps)
    }

    async fn platforms(&self) -> Result<Vec<Platform>, Unavailable> {
        self.buildkit.platforms().await
    }

    async fn solve(
        &self,
        request: SolveRequest,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<SolveOutcome, SolveError> {
        let preparing = async {
            let (builder, storage) = self.builder().await?;
            let is_bridged = self.is_bridged().await.map_err(|error| SolveError::Engine(Box::new(error)))?;
            Ok::<_, SolveError>((builder, storage, is_bridged, builder.capabilities(&self.store).await?))
        };
        let (builder, storage, is_bridged, caps) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(SolveError::Canceled),
            prepared = preparing => prepared?,
        };
        let is_enough = is_bridged && request.definition.required_caps().is_subset(&caps);
        match storage {
            Storage::Containerd if is_enough => self.buildkit.solve(request, progress, cancel).await,
            Storage::Containerd | Storage::GraphDriver => {
                if !request.cache_to.is_empty() {
                    let message = "this Docker cannot write caches as clawbuild uses it: `--cache-to` does nothing; \
                                   use a buildkitd, or a Docker with containerd's image store";
                    progress.emit(Event::Warning { task: None, message: message.to_owned() });
                }
                let tools = solve::Tools {
                    endpoint: &self.endpoint,
                    store: &self.store,
                    options: &self.options,
                    client: &self.client,
                    builder,
                    caps: &caps,
                    is_bridged,
                };
                solve::solve(tools, request, progress, cancel).await
            }
        }
    }
}

fn unavailable(diagnostic: Diagnostic) -> Unavailable {
    Unavailable::of(NAME, diagnostic)
}
