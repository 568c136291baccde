//! The process that solves: what clawbuild is to the engine.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use diag::Reported as _;
use diag::progress::{Event, Outcome, Progress, Sink};
use engine::embedded::{Embedded, EmbeddedOptions};
use engine::userns::{self, Ids};
use engine::{
    ContextSpec, Engine as _, FilesOutput, ImageOutput, Layout, Output, SecretId, SolveError, SolveOutcome,
    SolveRequest, Solved,
};
use oci::layer::compress::Compression;
use oci::{ContainerConfig, Platform};
use registry::download::Downloader;
use registry::http::{Http, HttpSettings};
use registry::image::{ImageSettings, Images};
use secrecy::SecretSlice;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Failure, Job, Report, WORKER, Wanted};
use crate::graphs;

/// What steps may be dated at the latest.
const EPOCH: i64 = 1_700_000_000;

pub(crate) fn main() {
    if std::env::var(WORKER).as_deref() == Ok("identity") {
        let identity = userns::enter(Ids::Widest).expect("namespaces");
        return say(&format!("{identity:?}"));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("a job");
    let job: Job = serde_json::from_str(&text).expect("a job");
    userns::enter(if job.single { Ids::Single } else { Ids::Widest }).expect("namespaces");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let reports = runtime.expect("a runtime").block_on(solve(&job));
    say(&serde_json::to_string(&reports).expect("serialises"));
}

fn say(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).expect("standard output");
}

async fn solve(job: &Job) -> Vec<Report> {
    let store = Store::open(&job.store).expect("a store");
    let downloader = Downloader::new(Http::new(HttpSettings { offline: true, ..Default::default() }), store.clone());
    let images = Images::new(downloader.clone(), ImageSettings::default());
    let jobs = NonZeroUsize::new(4).expect("not zero");
    let engine = Embedded::new(store, EmbeddedOptions { jobs, downloader, images, helper: None }).expect("an engine");
    let cancel = CancellationToken::new();
    if let Some(delay) = job.cancel_after {
        let cancel = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            cancel.cancel();
        });
    }
    let solves = job.graphs.iter().map(|name| async {
        let collector = Collector::default();
        let started = Instant::now();
        let result = engine.solve(request(job, name), Progress::new(collector.clone()), cancel.clone()).await;
        collector.report(result, started.elapsed())
    });
    futures::future::join_all(solves).await
}

fn request(job: &Job, graph: &str) -> SolveRequest {
    let output = match &job.output {
        Wanted::Image => Output::Image(Box::new(ImageOutput {
            compression: Compression::Gzip,
            config: ContainerConfig { cmd: vec!["/app".to_owned()], ..ContainerConfig::default() },
            created: Some(job.created.clone()),
            author: None,
            history: Vec::new(),
            annotations: BTreeMap::new(),
        })),
        Wanted::Directory(path) => Output::Files(FilesOutput::Directory(path.clone())),
        Wanted::Tar(path) => Output::Files(FilesOutput::Tar(path.clone())),
    };
    let contexts = job.contexts.iter().map(|(name, root)| (name.clone(), ContextSpec { root: root.clone() }));
    let secrets =
        job.secrets.iter().map(|(id, value)| (SecretId(id.clone()), SecretSlice::from(value.clone().into_bytes())));
    SolveRequest {
        definition: Arc::new(graphs::definition(graph, job.base)),
        platform: Platform::host().expect("a known platform"),
        contexts: contexts.collect(),
        layouts: BTreeMap::from([("base".to_owned(), Layout::Directory(job.layout.clone()))]),
        secrets: secrets.collect(),
        agents: BTreeMap::new(),
        cache_from: Vec::new(),
        cache_to: Vec::new(),
        output,
        no_cache: job.no_cache,
        source_date_epoch: Some(EPOCH),
    }
}

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    names: BTreeMap<String, String>,
    open: BTreeMap<String, u32>,
    report: Report,
}

impl Sink for Collector {
    fn emit(&self, event: Event) {
        let mut collected = self.0.lock().expect("a lock");
        match event {
            Event::Started { task, name } => {
                *collected.open.entry(task.to_string()).or_default() += 1;
                collected.names.insert(task.to_string(), name);
            }
            Event::Finished { task, outcome, .. } => {
                *collected.open.entry(task.to_string()).or_default() -= 1;
                let name = collected.names[task.as_str()].clone();
                match outcome {
                    Outcome::Done => collected.report.ran.push(name),
                    Outcome::Cached => collected.report.cached.push(name),
                    Outcome::Failed(_) | Outcome::Canceled => {}
                }
            }
            Event::Log { data, .. } => collected.report.log.push_str(&String::from_utf8_lossy(&data)),
            Event::Transfer { .. } | Event::Warning { .. } => {}
        }
    }
}

impl Collector {
    fn report(self, result: Result<SolveOutcome, SolveError>, elapsed: Duration) -> Report {
        let mut collected = self.0.lock().expect("a lock");
        assert!(collected.open.values().all(|open| *open == 0), "every task ends: {:?}", collected.names);
        let mut report = std::mem::take(&mut collected.report);
        report.microseconds = u64::try_from(elapsed.as_micros()).expect("it took less");
        match result {
            Ok(outcome) => {
                (report.hits, report.misses) = (outcome.cache.hits, outcome.cache.misses);
                if let Solved::Image(image) = outcome.result {
                    let layers = image.layers.iter().map(|layer| (layer.descriptor.digest, layer.diff_id.0));
                    report.layers = layers.collect();
                    report.manifest = Some(image.manifest);
                }
            }
            Err(error) => {
                let diagnostic = error.diagnostic();
                let label = |label: &diag::Label| format!("{} {:?}", label.source.name(), label.span);
                report.error = Some(Failure {
                    code: diagnostic.code.to_string(),
                    message: diagnostic.message,
                    related: diagnostic.related.into_iter().flat_map(|related| related.lines).collect(),
                    labels: diagnostic.labels.iter().map(label).collect(),
                });
            }
        }
        report
    }
}
