//! What every step of a run shares: the store, the transport, the engine, where facts go, and when to stop.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use diag::progress::Progress;
use diag::{Diagnostic, codes};
use engine::embedded::{Embedded, EmbeddedOptions};
use engine::{Engine, SecretId};
use oci::Platform;
use registry::download::Downloader;
use registry::http::{Http, HttpSettings, Mirrors};
use registry::image::{ImageSettings, Images, Keychain};
use secrecy::SecretSlice;
use store::Store;
use tokio_util::sync::CancellationToken;

use super::engines::{self, Seat};
use crate::cli::Failure;
use crate::settings::Settings;

/// One run of the program.
pub struct Session {
    settings: Settings,
    store: Store,
    downloader: Downloader,
    progress: Progress,
    cancel: CancellationToken,
    engine: Arc<dyn Engine>,
    /// What the engine runs natively; never empty.
    platforms: Vec<Platform>,
    scratch: OnceLock<PathBuf>,
}

impl Session {
    /// Opens the store and readies the engine. Touches no network but for an engine that is elsewhere.
    ///
    /// # Errors
    /// A store that cannot be used, a bad mirror, no engine that works.
    pub async fn open(
        settings: &Settings,
        seat: Seat,
        progress: Progress,
        cancel: CancellationToken,
        jobs: Option<u16>,
    ) -> Result<Self, Failure> {
        let store = Store::open(&settings.store)?;
        let mirrors = Mirrors::new(settings.mirrors.clone()).map_err(|error| {
            Failure::from(
                Diagnostic::new(codes::cli::SETTINGS, error.to_string()).help("mirrors are `PREFIX = REPLACEMENT`"),
            )
        })?;
        let http = Http::new(HttpSettings { mirrors, offline: settings.offline, ..HttpSettings::default() });
        let downloader = Downloader::new(http, store.clone());
        let keychain = Keychain::from_environment(|name| std::env::var_os(name));
        let images =
            Images::new(downloader.clone(), ImageSettings { keychain: keychain.clone(), ..ImageSettings::default() });
        let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let jobs = jobs.and_then(|jobs| NonZeroUsize::new(usize::from(jobs))).unwrap_or(processors);
        let engine: Arc<dyn Engine> = match seat {
            Seat::Here => {
                let options = EmbeddedOptions { jobs, downloader: downloader.clone(), images, helper: None };
                Arc::new(Embedded::new(store.clone(), options)?)
            }
            Seat::Elsewhere { why } => {
                let client = engines::Client { store: store.clone(), images, keychain };
                let connecting = client.connect(&settings.engine, why);
                tokio::select! {
                    engine = connecting => engine?,
                    () = cancel.cancelled() => return Err(super::interrupted()),
                }
            }
        };
        let platforms = engine.platforms().await?;
        if platforms.is_empty() {
            let message = "the engine builds for no platform that clawbuild knows";
            let help = "use one for Linux on x86-64, 64-bit Arm or 64-bit RISC-V";
            return Err(Diagnostic::new(codes::engine::UNAVAILABLE, message).help(help).into());
        }
        Ok(Self {
            settings: settings.clone(),
            store,
            downloader,
            progress,
            cancel,
            engine,
            platforms,
            scratch: OnceLock::new(),
        })
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether inputs may come from elsewhere than the network.
    #[must_use]
    pub(crate) fn has_mirrors(&self) -> bool {
        self.settings.mirrors.values().any(|replacement| replacement.starts_with("file:"))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The transport.
    #[must_use]
    pub fn http(&self) -> &Http {
        self.downloader.http()
    }

    /// Downloads into the store.
    #[must_use]
    pub fn downloader(&self) -> &Downloader {
        &self.downloader
    }

    /// Where facts go.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Triggered when the run is to stop.
    #[must_use]
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// What solves LLB.
    #[must_use]
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// The platform images are for unless told otherwise: the engine's own.
    #[must_use]
    pub fn platform(&self) -> Platform {
        self.platforms[0]
    }

    /// The platform whose steps make an image for `target`: that itself where the engine runs it natively; nothing is
    /// emulated.
    #[must_use]
    pub fn build_platform(&self, target: Platform) -> Platform {
        if self.platforms.contains(&target) { target } else { self.platform() }
    }

    /// A directory for files laid out for this run, on the store's filesystem.
    #[must_use]
    pub fn scratch(&self) -> &std::path::Path {
        self.scratch.get_or_init(|| self.store.temp().join("files"))
    }

    /// The certificates this machine trusts, as the secret that steps with network see.
    #[must_use]
    pub fn certificates(&self) -> BTreeMap<SecretId, SecretSlice<u8>> {
        const BUNDLES: [&str; 4] = [
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/ca-bundle.pem",
            "/etc/ssl/cert.pem",
        ];
        let own = self.settings.variables.certificates.iter().cloned();
        let bundle = own.chain(BUNDLES.map(PathBuf::from)).find_map(|path| std::fs::read(path).ok());
        bundle.map(|bytes| (SecretId(plan::CA_SECRET.to_owned()), SecretSlice::from(bytes))).into_iter().collect()
    }
}
