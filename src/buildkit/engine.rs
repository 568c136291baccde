//! A builder as an engine.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use diag::progress::Progress;
use diag::{Diagnostic, Reported as _};
use engine::{Engine, MissingCapability, SolveError, SolveOutcome, SolveRequest, Unavailable};
use llb::Cap;
use oci::Platform;
use registry::image::Keychain;
use store::Store;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::control::{Builder, Failure};
use crate::random_id;
use crate::solve::Solve;
use crate::transport::{Dial, DialError};

/// What users call it.
const NAME: &str = "buildkit";

/// A buildkitd as an engine. It is connected to when it is first needed; any number of solves share the connection.
#[derive(Debug)]
pub struct BuildKit {
    dial: Arc<dyn Dial>,
    store: Store,
    options: BuildKitOptions,
    builder: OnceCell<Builder>,
    /// Tells the directories of this client from those that another one offers the same builder by the same name.
    client: String,
}

/// What belongs to the client, whatever it builds.
#[derive(Clone, Debug)]
pub struct BuildKitOptions {
    /// Threads that compress one layer.
    pub threads: NonZeroUsize,
    /// Credentials for the registries the builder talks to.
    pub keychain: Keychain,
}

impl BuildKit {
    /// The builder that `dial` leads to. Images are written to `store`, and what is known of builders is kept there.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, store: Store, options: BuildKitOptions) -> Self {
        Self { dial, store, options, builder: OnceCell::new(), client: random_id() }
    }

    /// What it says it is.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn version(&self) -> Result<String, Unavailable> {
        match self.builder().await.map_err(|error| unavailable(error.diagnostic()))?.version() {
            "" => Ok("BuildKit before v0.11".to_owned()),
            version => Ok(format!("BuildKit {version}")),
        }
    }

    /// The builder, connected.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn builder(&self) -> Result<&Builder, DialError> {
        self.builder.get_or_try_init(|| Builder::connect(Arc::clone(&self.dial))).await
    }
}

#[async_trait]
impl Engine for BuildKit {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn check_usable(&self) -> Result<(), Unavailable> {
        self.builder().await.map(drop).map_err(|error| unavailable(error.diagnostic()))
    }

    async fn capabilities(&self) -> Result<BTreeSet<Cap>, Unavailable> {
        let builder = self.builder().await.map_err(|error| unavailable(error.diagnostic()))?;
        builder.capabilities(&self.store).await.map_err(|failure| unavailable(SolveError::from(failure).diagnostic()))
    }

    async fn platforms(&self) -> Result<Vec<Platform>, Unavailable> {
        let builder = self.builder().await.map_err(|error| unavailable(error.diagnostic()))?;
        let workers = builder.workers().await;
        let workers = workers.map_err(|failure| unavailable(SolveError::from(failure).diagnostic()))?;
        // What a worker emulates comes after what it runs itself.
        let mut native = Vec::new();
        for platform in workers.iter().filter_map(|worker| worker.platforms.first()) {
            if !native.contains(platform) {
                native.push(*platform);
            }
        }
        Ok(native)
    }

    async fn solve(
        &self,
        request: SolveRequest,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<SolveOutcome, SolveError> {
        let preparing = async {
            let builder = self.builder().await.map_err(Failure::from)?;
            let caps = builder.capabilities(&self.store).await?;
            Ok::<_, SolveError>((builder, caps))
        };
        let (builder, caps) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(SolveError::Canceled),
            prepared = preparing => prepared?,
        };
        MissingCapability::check(NAME, &request.definition, &caps)?;
        let solve = Solve::new(builder, &self.store, &self.options, &self.client, request, progress, cancel);
        solve.run().await
    }
}

fn unavailable(diagnostic: Diagnostic) -> Unavailable {
    Unavailable::of(NAME, diagnostic)
}
