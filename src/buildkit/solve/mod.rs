//! One request, solved by a builder.

mod caches;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use diag::progress::{Event, Outcome, Progress, TaskId};
use engine::context::{Context, Filters};
use engine::export::assemble;
use engine::{
    ContextSpec, FilesOutput, ImageOutput, Layout, Material, Output, SolveError, SolveOutcome, SolveRequest, Solved,
    VertexError,
};
use llb::{Definition, LocalSource, NetworkMode, OciLayoutSource, Op, SourceOp, Vertex};
use oci::Digest;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::control::{Builder, Exporter, Failure, Finished, Job, Names};
use crate::engine::BuildKitOptions;
use crate::ingest::{BaseLayers, ExportTask, FilesSink, ImageSink, IngestError, LayerRules};
use crate::session::{Journal, Offer, Receive, Session};

/// What exporters say the digest of the manifest is. Source: BuildKit `exporter/containerimage/exptypes`.
const MANIFEST_DIGEST: &str = "containerimage.digest";

/// A request and everything it is solved with.
pub(crate) struct Solve<'a> {
    builder: &'a Builder,
    store: &'a Store,
    options: &'a BuildKitOptions,
    client: &'a str,
    request: SolveRequest,
    progress: Progress,
    cancel: CancellationToken,
}

impl<'a> Solve<'a> {
    pub(crate) fn new(
        builder: &'a Builder,
        store: &'a Store,
        options: &'a BuildKitOptions,
        client: &'a str,
        request: SolveRequest,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Self {
        Self { builder, store, options, client, request, progress, cancel }
    }

    pub(crate) async fn run(self) -> Result<SolveOutcome, SolveError> {
        self.check()?;
        let sent = self.definition()?;
        let mut job = Job::new(Some(self.encode(&sent)), Names::of(&self.request.definition, &sent));
        job.entitlements = entitlements(&self.request.definition);
        job.cache_from = caches::imports(&self.request.cache_from, &self.progress);
        job.cache_to = caches::exports(&self.request.cache_to);
        let (result, journal, stats) = match self.request.output.clone() {
            Output::Image(output) => self.image(job, &output).await?,
            Output::Files(output) => self.files(job, output).await?,
            Output::Tree => {
                let (finished, journal) = self.build(job, Receive::Nothing).await?;
                (Solved::Tree, journal, finished.cache)
            }
        };
        let materials = self.materials(&journal).await?;
        Ok(SolveOutcome { result, materials, cache: stats })
    }

    /// The caches the builder is told to look into.
    pub(crate) fn imports(&self) -> Vec<engine::CacheSpec> {
        caches::imports(&self.request.cache_from, &self.progress)
    }

    /// What the builder would only find out later.
    pub(crate) fn check(&self) -> Result<(), SolveError> {
        for vertex in self.request.definition.vertices() {
            if let Op::Source(SourceOp::Local(LocalSource { name, .. })) = vertex.op()
                && !self.request.contexts.contains_key(name)
            {
                return Err(self.vertex(vertex, VertexError::NoSuchContext { name: name.clone() }));
            }
        }
        Ok(())
    }

    fn vertex(&self, vertex: &Vertex, error: VertexError) -> SolveError {
        SolveError::vertex(&self.request.definition, vertex, error)
    }

    /// The definition as the builder gets it: directories are this client's, and layouts have ids.
    fn definition(&self) -> Result<Definition, SolveError> {
        let change = |source: &SourceOp| match source {
            SourceOp::Local(local) if local.unique.is_none() && local.session.is_none() => {
                SourceOp::Local(LocalSource { unique: Some(self.client.to_owned()), ..local.clone() })
            }
            SourceOp::OciLayout(layout) => SourceOp::OciLayout(named(layout)),
            other => other.clone(),
        };
        let sent = self.request.definition.map_sources(change);
        Ok(sent.expect("sources stay as well formed as they were"))
    }

    fn encode(&self, sent: &Definition) -> bollard_buildkit_proto::pb::Definition {
        let mut encoded = sent.to_pb();
        // Places are looked up here, where the texts are.
        encoded.source = None;
        if self.request.no_cache {
            for vertex in sent.vertices().iter().filter(|vertex| !matches!(vertex.op(), Op::Source(_))) {
                if let Some(metadata) = encoded.metadata.get_mut(&vertex.digest().to_string()) {
                    metadata.ignore_cache = true;
                }
            }
        }
        encoded
    }

    async fn image(
        &self,
        mut job: Job,
        output: &ImageOutput,
    ) -> Result<(Solved, Journal, engine::CacheStats), SolveError> {
        let bases = self.bases().await?;
        let id = TaskId::new(format!("export {}", job.id));
        let task = Arc::new(ExportTask::new(self.progress.clone(), id, "exporting the image"));
        let (epoch, threads) = (self.request.source_date_epoch, self.options.threads);
        let rules = LayerRules { compression: output.compression, epoch, threads };
        let sink = ImageSink::new(self.store.clone(), rules, bases, Arc::clone(&task), self.cancel.clone());
        let sink = Arc::new(sink);
        job.exporter = Some(Exporter {
            kind: "oci",
            attributes: [("tar", "false"), ("compression", "uncompressed"), ("oci-mediatypes", "true")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        });
        let built = self.build(job, Receive::Content(sink.clone())).await;
        let (finished, journal) = match built {
            Ok(built) => built,
            Err(error) => {
                let (error, outcome) = match (sink.take_failure(), error) {
                    (_, SolveError::Canceled) => (SolveError::Canceled, Outcome::Canceled),
                    (Some(failure), _) => {
                        let outcome = Outcome::Failed(failure.to_string());
                        (SolveError::Engine(Box::new(failure)), outcome)
                    }
                    (None, error) => (error, Outcome::Canceled),
                };
                task.end(outcome);
                return Err(error);
            }
        };
        task.begin();
        let (store, platform, output) = (self.store.clone(), self.request.platform, output.clone());
        let manifest = finished.response.get(MANIFEST_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
        let assembled = blocking(move || {
            let layers = sink.layers(&manifest.ok_or(IngestError::NoImage)?)?;
            Ok::<_, IngestError>(assemble(&store, platform, &output, layers)?)
        });
        match assembled.await {
            Ok(image) => {
                task.end(Outcome::Done);
                Ok((Solved::Image(image), journal, finished.cache))
            }
            Err(error) => {
                task.end(Outcome::Failed(error.to_string()));
                Err(SolveError::Engine(Box::new(error)))
            }
        }
    }

    /// The layers that keep their blobs.
    async fn bases(&self) -> Result<BaseLayers, SolveError> {
        let (store, request) = (self.store.clone(), self.request.clone());
        let (mut bases, unknown) = blocking(move || BaseLayers::of(&store, &request)).await?;
        if unknown.is_empty() {
            return Ok(bases);
        }
        let session = Session::new(self.offer(Receive::Nothing), self.store.clone());
        let over = CancellationToken::new();
        let _guard = over.clone().drop_guard();
        let id = session.id().to_owned();
        let asking = async {
            let serving = self.builder.attach(session, over.clone()).await?;
            let configs = self.builder.image_configs(&id, &unknown).await;
            over.cancel();
            // It has nothing to say but that it is over.
            let _ = serving.await;
            configs
        };
        let configs = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(SolveError::Canceled),
            configs = asking => configs?,
        };
        for (image, config) in unknown.iter().zip(configs) {
            let learnt = bases.learn(self.store, image, &config);
            let digest = image.source.digest;
            let error = |source| IngestError::Document { what: "config of the image", digest, source };
            learnt.map_err(|source| SolveError::Engine(Box::new(error(source))))?;
        }
        Ok(bases)
    }

    pub(crate) async fn files(
        &self,
        mut job: Job,
        output: FilesOutput,
    ) -> Result<(Solved, Journal, engine::CacheStats), SolveError> {
        let (FilesOutput::Directory(path) | FilesOutput::Tar(path)) = output.clone();
        let name = format!("exporting to {}", path.display());
        let task = Arc::new(ExportTask::new(self.progress.clone(), TaskId::new(&name), &name));
        let epoch = self.request.source_date_epoch;
        let sink = Arc::new(FilesSink::new(output, epoch, Arc::clone(&task), self.cancel.clone()));
        job.exporter = Some(Exporter { kind: "tar", ..Exporter::default() });
        let built = self.build(job, Receive::Stream(sink.clone())).await;
        let written = sink.take_result();
        let (outcome, result) = match (built, written) {
            (Err(SolveError::Canceled), _) => (Outcome::Canceled, Err(SolveError::Canceled)),
            (_, Some(Err(error))) => (Outcome::Failed(error.to_string()), Err(Box::new(error).into())),
            (Err(error), _) => (Outcome::Canceled, Err(error)),
            (Ok((finished, journal)), _) => (Outcome::Done, Ok((Solved::Files(path), journal, finished.cache))),
        };
        task.end(outcome);
        result
    }

    pub(crate) async fn build(&self, job: Job, receive: Receive) -> Result<(Finished, Journal), SolveError> {
        let session = Session::new(self.offer(receive), self.store.clone());
        let journal = session.journal();
        let built = self.builder.run(job, session, self.progress.clone(), self.cancel.clone(), None).await;
        match built {
            Ok(finished) => {
                for warning in caches::tag(&self.request.cache_to, &finished.response) {
                    self.progress.emit(Event::Warning { task: None, message: warning });
                }
                Ok((finished, journal))
            }
            Err(Failure::Remote(failure)) => Err(report::explain(&self.request, failure, journal.take_problems())),
            Err(failure) => Err(failure.into()),
        }
    }

    fn offer(&self, receive: Receive) -> Offer {
        let request = &self.request;
        let contexts = request.contexts.iter().map(|(name, ContextSpec { root })| (name.clone(), root.clone()));
        let caches: Vec<PathBuf> = caches::directories(request);
        Offer {
            contexts: contexts.collect(),
            layouts: request
                .layouts
                .iter()
                .map(|(name, layout): (_, &Layout)| (name.clone(), layout.clone()))
                .collect(),
            secrets: request.secrets.clone(),
            agents: request.agents.clone(),
            caches,
            keychain: self.options.keychain.clone(),
            receive,
        }
    }

    pub(crate) async fn materials(&self, journal: &Journal) -> Result<Vec<Material>, SolveError> {
        let (store, request, journal) = (self.store.clone(), self.request.clone(), journal.clone());
        blocking(move || {
            let mut found = std::collections::BTreeMap::new();
            for vertex in request.definition.vertices() {
                let Op::Source(SourceOp::Local(local)) = vertex.op() else { continue };
                let filters = Filters::from(local);
                let digest = match journal.context(&local.name, &filters) {
                    Some(digest) => digest,
                    // The builder did not need to look at it.
                    None => Context::scan(&request.contexts[&local.name].root, &filters, &store)
                        .map_err(|error| SolveError::vertex(&request.definition, vertex, error.into()))?
                        .digest(),
                };
                found.insert(vertex.digest(), digest);
            }
            Ok(Material::of(&request.definition, |vertex, _| found[&vertex.digest()]))
        })
        .await
    }
}

/// The same source with the id its layout is offered by, and a name that daemons can parse: they want a host.
fn named(source: &OciLayoutSource) -> OciLayoutSource {
    let store = source.store.clone().or_else(|| Some(source.name.clone()));
    let name = match source.name.contains('/') {
        true => source.name.clone(),
        false => format!("clawbuild.local/{}", source.name),
    };
    OciLayoutSource { name, store, ..source.clone() }
}

/// What a builder only does when both it and the client allow it.
pub(crate) fn entitlements(definition: &Definition) -> Vec<String> {
    let is_host = |vertex: &Vertex| matches!(vertex.op(), Op::Exec(exec) if exec.network == NetworkMode::Host);
    let wants_host = definition.vertices().iter().any(is_host);
    wants_host.then(|| "network.host".to_owned()).into_iter().collect()
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work that has begun is only given up with the whole runtime, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}
