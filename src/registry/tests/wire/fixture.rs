//! Stores, transports and images for the tests.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diag::progress::{Event, Progress, Sink, Task, TaskId};
use oci::{Descriptor, DiffId, Digest, Document as _, ImageConfig, Index, Manifest, Platform, RootFs, media_type};
use registry::download::Downloader;
use registry::http::{Http, HttpSettings, RetryPolicy};
use registry::image::{ImageSettings, Images, Keychain};
use store::Store;

/// Tries follow each other quickly in tests.
pub(crate) fn settings() -> HttpSettings {
    HttpSettings {
        retry: RetryPolicy { tries: 4, pause: Duration::from_millis(5), ..RetryPolicy::default() },
        silence_timeout: Duration::from_secs(5),
        ..HttpSettings::default()
    }
}

pub(crate) fn http() -> Http {
    Http::new(settings())
}

/// A store in a directory of its own.
pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) store: Store,
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("opens");
        Self { directory, store }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn downloader(&self) -> Downloader {
        self.downloader_over(http())
    }

    pub(crate) fn downloader_over(&self, http: Http) -> Downloader {
        Downloader::new(http, self.store.clone())
    }

    pub(crate) fn images(&self, keychain: Keychain) -> Images {
        self.images_with(ImageSettings { keychain, ..ImageSettings::default() })
    }

    pub(crate) fn images_with(&self, settings: ImageSettings) -> Images {
        Images::new(self.downloader(), settings)
    }

    /// How many files lie in the process's temporary directory: half-written ones.
    pub(crate) fn half_written(&self) -> usize {
        std::fs::read_dir(self.store.temp()).expect("lists").count()
    }

    /// Puts an image with layers of these lengths into the store.
    pub(crate) fn image(&self, seed: u64, layers: &[usize]) -> Descriptor {
        self.image_for(Platform::LINUX_AMD64, seed, layers)
    }

    pub(crate) fn image_for(&self, platform: Platform, seed: u64, layers: &[usize]) -> Descriptor {
        let layers: Vec<Descriptor> = layers
            .iter()
            .zip(1..)
            .map(|(length, i)| {
                let bytes = noise(seed * 1000 + i, *length);
                self.put(media_type::LAYER_GZIP, &bytes)
            })
            .collect();
        let config = ImageConfig {
            created: None,
            author: None,
            architecture: platform.architecture,
            os: platform.os,
            config: oci::ContainerConfig::default(),
            rootfs: RootFs::new(layers.iter().map(|layer| DiffId(layer.digest)).collect()),
            history: Vec::new(),
        };
        let config = self.put(media_type::CONFIG, &config.to_bytes());
        self.put(media_type::MANIFEST, &Manifest::new(config, layers).to_bytes())
    }

    /// Puts an image for two platforms into the store.
    pub(crate) fn index(&self, seed: u64) -> Descriptor {
        let platforms = [Platform::LINUX_AMD64, Platform::LINUX_ARM64];
        let manifests = platforms.iter().zip(seed..).map(|(platform, seed)| {
            let manifest = self.image_for(*platform, seed, &[2000, 300]);
            Descriptor { platform: Some(*platform), ..manifest }
        });
        self.put(media_type::INDEX, &Index::new(manifests.collect()).to_bytes())
    }

    fn put(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        self.store.put_blob(bytes).expect("puts");
        Descriptor::of(media_type, bytes)
    }
}

/// Bytes that look random and are the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::of(bytes)
}

/// Keeps what is told of progress.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    pub(crate) fn task(&self) -> Task {
        Progress::new(self.clone()).task(TaskId::new("t"), "test")
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().expect("no panic").clone()
    }
}

impl Sink for Told {
    fn emit(&self, event: Event) {
        self.0.lock().expect("no panic").push(event);
    }
}

pub(crate) fn quiet() -> Task {
    Told::default().task()
}
