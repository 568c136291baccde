//! What the engine is asked to do, whoever asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use engine::{
    CacheSpec, ContextSpec, FilesOutput, ImageOutput, Layout, Output, SecretId, SolveOutcome, SolveRequest, Solved,
    SolvedImage,
};
use oci::Platform;
use plan::{Epoch, Plan};
use secrecy::SecretSlice;

use super::Session;
use crate::cli::Failure;

/// The store's name in `oci-layout://` sources.
pub(crate) const STORE_NAME: &str = plan::STORE_LAYOUT;

/// Directories behind local sources, by name.
pub(crate) type Contexts = BTreeMap<String, PathBuf>;

/// What the user gives to steps, and says of results known already.
#[derive(Clone, Debug, Default)]
pub struct SolveOptions {
    /// Whether every step runs.
    pub no_cache: bool,
    /// Secrets for steps that ask for them.
    pub secrets: BTreeMap<SecretId, SecretSlice<u8>>,
    /// Sockets of SSH agents for steps that ask for them, by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// Where results may be found.
    pub cache_from: Vec<CacheSpec>,
    /// Where results go.
    pub cache_to: Vec<CacheSpec>,
}

/// A graph, and what it is about.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) definition: Arc<llb::Definition>,
    pub(crate) contexts: Contexts,
    pub(crate) platform: Platform,
    pub(crate) epoch: Epoch,
}

impl Work {
    /// A plan's graph. Of the directories given it takes those it uses.
    pub(crate) fn of(plan: &Plan, lowered: plan::Lowered, mut contexts: Contexts) -> Self {
        contexts.retain(|name, _| lowered.contexts.contains(name));
        let definition = Arc::new(lowered.definition);
        Self { definition, contexts, platform: plan.platform, epoch: plan.image.epoch }
    }

    /// Makes an image of it, in the store.
    pub(crate) async fn image(
        &self,
        session: &Session,
        output: ImageOutput,
        options: &SolveOptions,
    ) -> Result<SolvedImage, Failure> {
        let outcome = self.solve(session, Output::Image(Box::new(output)), options).await?;
        let Solved::Image(image) = outcome.result else { unreachable!("an image was asked for") };
        Ok(image)
    }

    /// Writes its files.
    pub(crate) async fn files(
        &self,
        session: &Session,
        output: FilesOutput,
        options: &SolveOptions,
    ) -> Result<(), Failure> {
        self.solve(session, Output::Files(output), options).await.map(drop)
    }

    async fn solve(&self, session: &Session, output: Output, options: &SolveOptions) -> Result<SolveOutcome, Failure> {
        let context = |(name, root): (&String, &PathBuf)| (name.clone(), ContextSpec { root: root.clone() });
        let mut secrets = session.certificates();
        secrets.extend(options.secrets.iter().map(|(id, value)| (id.clone(), value.clone())));
        let request = SolveRequest {
            definition: Arc::clone(&self.definition),
            platform: self.platform,
            contexts: self.contexts.iter().map(context).collect(),
            layouts: BTreeMap::from([(STORE_NAME.to_owned(), Layout::Store(session.store().clone()))]),
            secrets,
            agents: options.agents.clone(),
            cache_from: options.cache_from.clone(),
            cache_to: options.cache_to.clone(),
            output,
            no_cache: options.no_cache,
            source_date_epoch: Some(self.epoch.0),
        };
        Ok(session.engine().await?.solve(request, session.progress().clone(), session.cancel().clone()).await?)
    }
}
