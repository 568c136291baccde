//! Requests, and what comes of them on each engine.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use buildkit::transport::{Dial, Unix};
use buildkit::{BuildKit, BuildKitOptions};
use diag::progress::{Event, Outcome, Progress, Sink};
use diag::{Diagnostic, Reported as _};
use engine::embedded::{Embedded, EmbeddedOptions};
use engine::{
    ContextSpec, Engine, ImageOutput, Layout, Output, SecretId, SolveError, SolveOutcome, SolveRequest, Solved,
    SolvedImage,
};
use llb::Definition;
use oci::layer::compress::{Compression, Decompressor};
use oci::layer::tar::{Entry, Limits, TarReader};
use oci::{ContainerConfig, Digest, Platform};
use registry::download::Downloader;
use registry::http::{Http, HttpSettings};
use registry::image::{ImageSettings, Images, Keychain};
use secrecy::SecretSlice;
use store::Store;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::base::{Parents, write_base};

/// What steps may be dated at the latest.
pub(crate) const EPOCH: i64 = 1_700_000_000;

/// A directory of a test's own, with a context, a base image, and a store for each engine.
pub(crate) struct Site {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) base: Digest,
    pub(crate) runtime: Runtime,
}

/// What came of a request.
pub(crate) struct Solution {
    pub(crate) result: Result<SolveOutcome, SolveError>,
    pub(crate) events: Vec<Event>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::on(Parents::Written)
    }

    /// With such a base.
    pub(crate) fn on(parents: Parents) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let context = directory.path().join("context");
        fs::create_dir_all(context.join("sub")).expect("a context");
        for (path, text) in [("app", "#!/bin/sh\necho app\n"), ("sub/data", "data\n"), ("other", "unused\n")] {
            fs::write(context.join(path), text).expect("a file");
            fs::set_permissions(context.join(path), fs::Permissions::from_mode(0o644)).expect("permissions");
        }
        let base = write_base(&directory.path().join("base"), parents);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self { directory, base, runtime: runtime.expect("a runtime") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn base(&self) -> Digest {
        self.base
    }

    pub(crate) fn definition(&self, graph: &str) -> Definition {
        crate::graphs::definition(graph, self.base)
    }

    pub(crate) fn request(&self, graph: &str) -> SolveRequest {
        self.request_of(self.definition(graph))
    }

    pub(crate) fn request_of(&self, definition: Definition) -> SolveRequest {
        SolveRequest {
            definition: Arc::new(definition),
            platform: Platform::host().expect("a known platform"),
            contexts: BTreeMap::from([("context".to_owned(), ContextSpec { root: self.path("context") })]),
            layouts: BTreeMap::from([("base".to_owned(), Layout::Directory(self.path("base")))]),
            secrets: BTreeMap::from([(SecretId("token".to_owned()), SecretSlice::from(b"hush".to_vec()))]),
            agents: BTreeMap::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            output: Output::Image(Box::new(ImageOutput {
                compression: Compression::Gzip,
                config: ContainerConfig { cmd: vec!["/app".to_owned()], ..ContainerConfig::default() },
                created: Some("2026-01-01T00:00:00Z".to_owned()),
                author: None,
                history: Vec::new(),
                annotations: BTreeMap::new(),
            })),
            no_cache: false,
            source_date_epoch: Some(EPOCH),
        }
    }

    pub(crate) fn store(&self, name: &str) -> Store {
        Store::open(&self.path(name)).expect("a store")
    }

    pub(crate) fn embedded(&self) -> Embedded {
        let store = self.store("embedded");
        let http = Http::new(HttpSettings { offline: true, ..HttpSettings::default() });
        let downloader = Downloader::new(http, store.clone());
        let images = Images::new(downloader.clone(), ImageSettings::default());
        let jobs = NonZeroUsize::new(2).expect("not zero");
        Embedded::new(store, EmbeddedOptions { jobs, downloader, images, helper: None }).expect("an engine")
    }

    pub(crate) fn buildkit(&self) -> BuildKit {
        self.buildkit_at(Arc::new(buildkitd()))
    }

    pub(crate) fn buildkit_at(&self, dial: Arc<dyn Dial>) -> BuildKit {
        self.buildkit_of(dial, Keychain::default())
    }

    pub(crate) fn buildkit_of(&self, dial: Arc<dyn Dial>, keychain: Keychain) -> BuildKit {
        let threads = NonZeroUsize::new(2).expect("not zero");
        BuildKit::new(dial, self.store("buildkit"), BuildKitOptions { threads, keychain })
    }

    pub(crate) fn solve(&self, engine: &dyn Engine, request: SolveRequest) -> Solution {
        self.solve_until(engine, request, CancellationToken::new())
    }

    pub(crate) fn solve_until(
        &self,
        engine: &dyn Engine,
        request: SolveRequest,
        cancel: CancellationToken,
    ) -> Solution {
        self.solve_watched(engine, request, cancel, Watch::default())
    }

    pub(crate) fn solve_watched(
        &self,
        engine: &dyn Engine,
        request: SolveRequest,
        cancel: CancellationToken,
        watch: Watch,
    ) -> Solution {
        let kept = Kept { events: Arc::default(), watch: Arc::new(Mutex::new(watch)) };
        let result = self.runtime.block_on(engine.solve(request, Progress::new(kept.clone()), cancel));
        let kept = kept.events;
        let events = std::mem::take(&mut *kept.lock().expect("a lock"));
        Solution { result, events }
    }

    /// What an image's layers hold, entry by entry.
    pub(crate) fn contents(&self, store: &str, image: &SolvedImage) -> Vec<String> {
        let layers = image.layers.iter().map(|layer| format!("layer {} {}", layer.diff_id, layer.descriptor.digest));
        let mut lines: Vec<String> = layers.collect();
        self.each_entry(store, image, |entry| lines.push(format!("{} {entry:?}", entry.display_path())));
        lines
    }

    /// Looks at the entries of an image's layers.
    pub(crate) fn each_entry(&self, store: &str, image: &SolvedImage, mut look: impl FnMut(&Entry)) {
        let store = self.store(store);
        for layer in &image.layers {
            let blob = store.open_blob(&layer.descriptor.digest).expect("a blob");
            let mut reader = TarReader::new(Decompressor::new(blob).expect("a layer"), Limits::default());
            while let Some(entry) = reader.next_entry().expect("a layer") {
                look(&entry);
            }
        }
    }
}

impl Solution {
    #[track_caller]
    pub(crate) fn outcome(self) -> SolveOutcome {
        self.result.unwrap_or_else(|error| panic!("it fails: {:#?}", error.diagnostic()))
    }

    #[track_caller]
    pub(crate) fn image(self) -> SolvedImage {
        match self.outcome().result {
            Solved::Image(image) => image,
            other => panic!("no image: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn diagnostic(self) -> Diagnostic {
        self.result.expect_err("it fails").diagnostic()
    }

    /// Names and outcomes of the tasks that ended.
    pub(crate) fn ended(&self) -> Vec<(String, Outcome)> {
        let name = |id: &diag::progress::TaskId| {
            let started = self.events.iter().find_map(|event| match event {
                Event::Started { task, name } if task == id => Some(name.clone()),
                _ => None,
            });
            started.unwrap_or_else(|| panic!("{id} never began"))
        };
        let ended = self.events.iter().filter_map(|event| match event {
            Event::Finished { task, outcome, .. } => Some((name(task), outcome.clone())),
            _ => None,
        });
        ended.collect()
    }
}

/// The buildkitd that the tests are given.
pub(crate) fn buildkitd() -> Unix {
    let address = std::env::var("CLAWBUILD_TEST_BUILDKIT").expect("CLAWBUILD_TEST_BUILDKIT is set");
    let path = address.strip_prefix("unix://").expect("a unix socket");
    Unix { path: Path::new(path).to_owned() }
}

/// Does something once a step has written a word.
#[derive(Default)]
pub(crate) struct Watch {
    word: &'static str,
    then: Option<Box<dyn FnOnce() + Send>>,
}

impl Watch {
    pub(crate) fn new(word: &'static str, then: impl FnOnce() + Send + 'static) -> Self {
        Self { word, then: Some(Box::new(then)) }
    }
}

#[derive(Clone)]
struct Kept {
    events: Arc<Mutex<Vec<Event>>>,
    watch: Arc<Mutex<Watch>>,
}

impl Sink for Kept {
    fn emit(&self, event: Event) {
        let mut watch = self.watch.lock().expect("a lock");
        if let Event::Log { data, .. } = &event
            && String::from_utf8_lossy(data).contains(watch.word)
            && let Some(then) = watch.then.take()
        {
            then();
        }
        self.events.lock().expect("a lock").push(event);
    }
}
