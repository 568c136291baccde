//! What all solves of a process share.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use oci::layer::apply::OverlayXattrs;
use oci::layer::ownership::Ownership;
use registry::download::Downloader;
use registry::image::Images;
use store::{Key, Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::flight::Flights;
use super::mount::{MountError, Mounter};
use super::record::Records;
use super::sandbox::{Sandbox, SandboxError};
use crate::Unavailable;
use crate::userns::{self, Identity};

/// Layers written at a time. Together with the next it bounds the memory that takes, whatever the machine has.
const WRITERS: usize = 2;
const MOST_THREADS: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not 0");

/// What the embedded engine works with.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Pieces of work done at a time: steps, copies, layers. Downloads have limits of their own.
    pub jobs: NonZeroUsize,
    /// Fetches files.
    pub downloader: Downloader,
    /// Fetches images.
    pub images: Images,
    /// The program run as the sandbox's helper; `None` is this very program, whose `main` has to begin with
    /// [`crate::embedded::sandbox::helper_main_if_requested`].
    pub helper: Option<PathBuf>,
}

/// Tools and places. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Workshop {
    pub(crate) store: Store,
    pub(crate) records: Records,
    pub(crate) flights: Flights,
    pub(crate) downloader: Downloader,
    pub(crate) images: Images,
    pub(crate) identity: Identity,
    pub(crate) jobs: NonZeroUsize,
    /// Says how files are owned here. Trees made under one way of owning files mean something else under another.
    pub(crate) domain: Arc<str>,
    places: Arc<Semaphore>,
    writers: Arc<Semaphore>,
    tools: Arc<Mutex<Tools>>,
}

/// What needs directories of its own, and so is made when first used: a build that has nothing to do writes nothing.
#[derive(Debug)]
struct Tools {
    helper: Option<PathBuf>,
    mounter: Option<Mounter>,
    sandbox: Option<Sandbox>,
}

impl Workshop {
    /// # Errors
    /// [`Unavailable`] where the store or the system does not let this process work.
    pub(crate) fn new(store: Store, options: EmbeddedOptions) -> Result<Self, Unavailable> {
        let EmbeddedOptions { jobs, downloader, images, helper } = options;
        let identity = userns::identity();
        Ok(Self {
            records: Records::new(store.clone()).map_err(unavailable)?,
            flights: Flights::new(store.clone()),
            downloader,
            images,
            identity,
            jobs,
            domain: domain(identity).map_err(unavailable)?.into(),
            places: Arc::new(Semaphore::new(jobs.get())),
            writers: Arc::new(Semaphore::new(WRITERS)),
            tools: Arc::new(Mutex::new(Tools { helper, mounter: None, sandbox: None })),
            store,
        })
    }

    /// A place among those who write layers, which take much memory.
    pub(crate) async fn writer(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.writers).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Threads one layer is compressed on.
    pub(crate) fn threads(&self) -> NonZeroUsize {
        self.jobs.min(MOST_THREADS)
    }

    /// Makes trees of snapshots.
    ///
    /// # Errors
    /// [`MountError`].
    pub(crate) fn mounter(&self) -> Result<Mounter, MountError> {
        let mut tools = self.tools.lock().expect("nothing panics while holding it");
        if let Some(mounter) = &tools.mounter {
            return Ok(mounter.clone());
        }
        let mounter = Mounter::new(&self.store.temp().join("mounts"), self.identity)?;
        Ok(tools.mounter.insert(mounter).clone())
    }

    /// Runs steps.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub(crate) fn sandbox(&self) -> Result<Sandbox, SandboxError> {
        let mut tools = self.tools.lock().expect("nothing panics while holding it");
        if let Some(sandbox) = &tools.sandbox {
            return Ok(sandbox.clone());
        }
        let directory = self.store.temp().join("steps");
        let sandbox = match &tools.helper {
            Some(helper) => Sandbox::with_helper(&directory, self.identity, helper.clone()),
            None => Sandbox::new(&directory, self.identity),
        };
        Ok(tools.sandbox.insert(sandbox?).clone())
    }

    /// How files are given owners here.
    pub(crate) fn ownership(&self) -> Ownership {
        if self.identity.owns_all() { Ownership::Real } else { Ownership::Recorded }
    }

    /// What marks opaque directories in the overlays mounted here.
    pub(crate) fn overlay_xattrs(&self) -> OverlayXattrs {
        if self.identity.is_rootless() { OverlayXattrs::User } else { OverlayXattrs::Trusted }
    }

    /// Does work that blocks, when one of the jobs is free. Dropped while it waits, it is never begun; begun, it is
    /// done to its end, so whoever calls has to wait for it.
    pub(crate) async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        match done.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => unreachable!("blocking work is never aborted"),
            },
        }
    }
}

fn unavailable(error: impl std::error::Error) -> Unavailable {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    Unavailable { engine: super::NAME, code: diag::codes::engine::UNAVAILABLE, why, fix: Vec::new() }
}

/// Who owns the files of a tree is kept as the kernel of this user namespace sees it, or in attributes beside the files.
fn domain(identity: Identity) -> Result<String, StoreError> {
    let read = |path: &str| {
        let path = Path::new(path);
        fs::read_to_string(path).map_err(StoreError::io("read", path))
    };
    let form = match identity {
        Identity::Root => "root",
        Identity::RootlessRange => "range",
        Identity::RootlessSingle => "single",
    };
    let (uids, gids) = (read("/proc/self/uid_map")?, read("/proc/self/gid_map")?);
    Ok(Key::of([form, &uids, &gids].map(str::as_bytes)).hex())
}
