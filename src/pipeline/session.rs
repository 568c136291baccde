//! What every step of a run shares: the store, the transport, where facts go, when to stop; and what builds, its engine.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use diag::progress::Progress;
use diag::{Diagnostic, Reported as _, codes};
use engine::embedded::{Embedded, EmbeddedOptions};
use engine::{Engine, SecretId};
use oci::Platform;
use registry::download::Downloader;
use registry::http::{Http, HttpSettings, Mirrors};
use registry::image::{ImageSettings, Images, Keychain};
use secrecy::SecretSlice;
use store::Store;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::engines::{Client, Seat};
use crate::cli::Failure;
use crate::settings::Settings;

/// One run of the program: all that verbs share which build nothing.
pub struct Run {
    settings: Settings,
    store: Store,
    downloader: Downloader,
    keychain: Keychain,
    images: Images,
    progress: Progress,
    cancel: CancellationToken,
    scratch: OnceLock<PathBuf>,
}

/// A run that may build. Its engine is readied when it is first asked for, so that what is known already needs none.
pub struct Session {
    run: Run,
    seat: Seat,
    /// How many steps run at a time.
    jobs: NonZeroUsize,
    engine: OnceCell<Ready>,
}

/// An engine that works.
struct Ready {
    engine: Arc<dyn Engine>,
    /// The same, where it is the one in this process.
    embedded: Option<Embedded>,
    /// What it runs natively; never empty.
    platforms: Vec<Platform>,
}

impl Run {
    /// Opens the store. Touches no network.
    ///
    /// # Errors
    /// A store that cannot be used, a bad mirror.
    pub fn open(settings: &Settings, progress: Progress, cancel: CancellationToken) -> Result<Self, Failure> {
        let store = Store::open(&settings.store)?;
        let mirrors = Mirrors::new(settings.mirrors.clone()).map_err(|error| {
            Failure::from(
                Diagnostic::new(codes::cli::SETTINGS, error.to_string()).help("mirrors are `PREFIX = REPLACEMENT`"),
            )
        })?;
        let mirrors = mirrors.with_whole(settings.sources.clone());
        let http = Http::new(HttpSettings { mirrors, offline: settings.offline, ..HttpSettings::default() });
        let downloader = Downloader::new(http, store.clone());
        let keychain = Keychain::from_environment(|name| std::env::var_os(name));
        let images =
            Images::new(downloader.clone(), ImageSettings { keychain: keychain.clone(), ..ImageSettings::default() });
        let settings = settings.clone();
        Ok(Self { settings, store, downloader, keychain, images, progress, cancel, scratch: OnceLock::new() })
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
            || self.settings.sources.values().any(|replacement| replacement.scheme() == "file")
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

    /// What engines outside this process need of it.
    pub(crate) fn client(&self) -> Client {
        Client { store: self.store.clone(), images: self.images.clone(), keychain: self.keychain.clone() }
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

impl Session {
    /// The run, with a place for steps. `jobs` is how many run at a time, as many as there are processors unless told.
    #[must_use]
    pub fn new(run: Run, seat: Seat, jobs: Option<u16>) -> Self {
        let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let jobs = jobs.and_then(|jobs| NonZeroUsize::new(usize::from(jobs))).unwrap_or(processors);
        Self { run, seat, jobs, engine: OnceCell::new() }
    }

    /// What solves LLB.
    ///
    /// # Errors
    /// No engine works, or the run was stopped while one was asked.
    pub async fn engine(&self) -> Result<&dyn Engine, Failure> {
        Ok(&*self.ready().await?.engine)
    }

    /// The embedded engine, where that is what solves LLB.
    ///
    /// # Errors
    /// As [`Session::engine`].
    pub(crate) async fn embedded(&self) -> Result<Option<&Embedded>, Failure> {
        Ok(self.ready().await?.embedded.as_ref())
    }

    /// The platform images are for unless told otherwise: the engine's own.
    ///
    /// # Errors
    /// As [`Session::engine`].
    pub async fn platform(&self) -> Result<Platform, Failure> {
        Ok(self.ready().await?.platforms[0])
    }

    /// The platform whose steps make an image for `target`: that itself where the engine runs it natively; nothing is
    /// emulated.
    ///
    /// # Errors
    /// As [`Session::engine`].
    pub async fn build_platform(&self, target: Platform) -> Result<Platform, Failure> {
        let platforms = &self.ready().await?.platforms;
        Ok(if platforms.contains(&target) { target } else { platforms[0] })
    }

    async fn ready(&self) -> Result<&Ready, Failure> {
        let readying = self.engine.get_or_try_init(|| self.make_ready());
        tokio::select! {
            ready = readying => ready,
            () = self.cancel().cancelled() => Err(super::interrupted()),
        }
    }

    async fn make_ready(&self) -> Result<Ready, Failure> {
        let (engine, embedded): (Arc<dyn Engine>, _) = match &self.seat {
            Seat::Here => {
                let (downloader, images) = (self.downloader.clone(), self.images.clone());
                let options = EmbeddedOptions { jobs: self.jobs, downloader, images, helper: None };
                let embedded = Embedded::new(self.store.clone(), options)?;
                (Arc::new(embedded.clone()), Some(embedded))
            }
            Seat::Nowhere { why } => return Err(why.diagnostic().into()),
            Seat::Elsewhere { why } => (self.client().connect(&self.settings.engine, why.as_ref()).await?, None),
        };
        let platforms = engine.platforms().await?;
        if platforms.is_empty() {
            let message = "the engine builds for no platform that clawbuild knows";
            let help = "use one for Linux on x86-64, 64-bit Arm or 64-bit RISC-V";
            return Err(Diagnostic::new(codes::engine::UNAVAILABLE, message).help(help).into());
        }
        Ok(Ready { engine, embedded, platforms })
    }
}

/// What builds nothing takes the run alone.
impl Deref for Session {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.run
    }
}
