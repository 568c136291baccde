//! Chains of snapshots made visible as one file tree.
//!
//! A [`Tree`] is an overlay mount, or a full copy where overlays are not to be had. Mounts lie below a directory of the
//! process's own, in its private mount namespace (see [`crate::userns::enter`]), so the kernel removes what a killed
//! process leaves.

mod cache;
mod copied;
mod overlay;
mod root;
pub(crate) mod xattr;

pub use cache::CacheDirectory;
pub use root::{Root, is};

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use diag::{Diagnostic, Reported, codes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};

use crate::userns::Identity;

/// A failure to make a tree visible, or to take it away.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The overlay could not be mounted.
    #[error("cannot mount {layers} snapshots as one tree")]
    Overlay {
        /// How many.
        layers: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A file operation beside a mount failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store's locks could not be had.
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

impl MountError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl Reported for MountError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Diagnostic::new(codes::store::FULL, "the disk that holds the store is full")
                    .caused_by(self)
                    .help("free space, or run `clawbuild cache prune`; nothing half-written was kept")
            }
            Self::Store(error) => error.diagnostic(),
            Self::Overlay { .. } | Self::Io { .. } => {
                Diagnostic::new(codes::engine::MOUNT, "a file tree cannot be mounted").caused_by(self)
            }
        }
    }
}

/// How trees are made here. Found out on first use, by trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Overlay mounts, set up by file descriptors: any number of layers. Linux 6.5 and later.
    Overlay,
    /// Overlay mounts by `mount(2)`, whose options must fit into a page.
    OverlayByOptions,
    /// Full copies.
    Copy,
}

/// Makes trees. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mounter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    rootless: bool,
    method: OnceLock<Method>,
    next: AtomicU64,
}

impl Mounter {
    /// Makes trees below `directory`, which has to be on the filesystem of the snapshots, belong to this process alone and
    /// not be looked into by anybody else.
    ///
    /// # Errors
    /// [`MountError::Io`].
    pub fn new(directory: &Path, identity: Identity) -> Result<Self, MountError> {
        Self::make(directory, identity, OnceLock::new())
    }

    /// As [`Self::new`], with the method given rather than found out.
    ///
    /// # Errors
    /// [`MountError::Io`].
    pub fn with_method(directory: &Path, identity: Identity, method: Method) -> Result<Self, MountError> {
        Self::make(directory, identity, OnceLock::from(method))
    }

    fn make(directory: &Path, identity: Identity, method: OnceLock<Method>) -> Result<Self, MountError> {
        let empty = directory.join("empty");
        fs::create_dir_all(&empty).map_err(MountError::io("create", &empty))?;
        let inner = Inner {
            directory: directory.to_owned(),
            rootless: identity.is_rootless(),
            method,
            next: AtomicU64::new(0),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// How trees are made here.
    #[must_use]
    pub fn method(&self) -> Method {
        *self.0.method.get_or_init(|| {
            [Method::Overlay, Method::OverlayByOptions]
                .into_iter()
                .find(|method| overlay::works(self, *method))
                .unwrap_or(Method::Copy)
        })
    }

    /// The tree of these snapshots, lowest first, to read only. None at all is an empty tree.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn read_only(&self, layers: &[impl AsRef<Path>]) -> Result<Tree, MountError> {
        self.tree(&paths(layers), None)
    }

    /// The tree of these snapshots, lowest first. What is changed in it comes to lie in `upper`, an empty directory on the
    /// same filesystem, in the form of a snapshot: at once or, for copies, on [`Tree::finish`]. Nothing of it is synced to
    /// disk, even when asked for from inside: whoever keeps `upper` has to do so.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn writable(&self, layers: &[impl AsRef<Path>], upper: &Path) -> Result<Tree, MountError> {
        self.tree(&paths(layers), Some(upper))
    }

    fn tree(&self, layers: &[&Path], upper: Option<&Path>) -> Result<Tree, MountError> {
        let place = Place::new(&self.0)?;
        match (self.method(), layers, upper) {
            (_, [], None) => Tree::plain(place),
            (method @ (Method::Overlay | Method::OverlayByOptions), layers, upper) => {
                Tree::overlaid(self, place, method, layers, upper)
            }
            (Method::Copy, layers, None) => Tree::copied(place, layers, None),
            (Method::Copy, layers, Some(upper)) => Tree::copied(place, layers, Some(upper)),
        }
    }

    fn empty(&self) -> PathBuf {
        self.0.directory.join("empty")
    }
}

fn paths(layers: &[impl AsRef<Path>]) -> Vec<&Path> {
    layers.iter().map(AsRef::as_ref).collect()
}

/// A directory of one tree's own: `tree` is where it is seen, `work` is overlayfs's.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
}

impl Place {
    fn new(inner: &Inner) -> Result<Self, MountError> {
        let number = inner.next.fetch_add(1, Ordering::Relaxed);
        let directory = inner.directory.join(format!("t{number}"));
        let place = Self { directory };
        for path in [&place.directory, &place.tree()] {
            fs::create_dir(path).map_err(MountError::io("create", path))?;
        }
        Ok(place)
    }

    fn tree(&self) -> PathBuf {
        self.directory.join("tree")
    }

    fn work(&self) -> Result<PathBuf, MountError> {
        let work = self.directory.join("work");
        fs::create_dir(&work).map_err(MountError::io("create", &work))?;
        Ok(work)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed now is removed with the process's temporary directory.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[derive(Debug)]
enum Form {
    /// Mounted on the place's `tree`.
    Mounted,
    /// The place's `tree` itself.
    Directory,
    /// The place's `tree` itself, full of copies whose changes are yet to be found.
    Copied(copied::Baseline),
}

/// A file tree, visible at a path of this process's mount namespace until dropped.
#[derive(Debug)]
pub struct Tree {
    // Dropped in this order: the descriptor would keep the mount alive.
    root: OwnedFd,
    form: Form,
    place: Place,
    layers: Vec<PathBuf>,
    upper: Option<PathBuf>,
}

impl Tree {
    /// Where it is seen, by this process and those it starts afterwards.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.place.tree()
    }

    /// Its root directory, opened with `O_PATH`.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The snapshots it is made of, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[PathBuf] {
        &self.layers
    }

    /// Where its changes lie as soon as they are made. `None` if it has none, or they are only found in the end.
    #[must_use]
    pub fn upper(&self) -> Option<&Path> {
        match self.form {
            Form::Mounted => self.upper.as_deref(),
            Form::Directory | Form::Copied(_) => None,
        }
    }

    /// Takes the tree away, after everything changed has arrived in `upper`.
    ///
    /// # Errors
    /// [`MountError::Io`].
    pub fn finish(mut self) -> Result<(), MountError> {
        match std::mem::replace(&mut self.form, Form::Directory) {
            Form::Mounted => {
                self.form = Form::Mounted;
                Ok(())
            }
            Form::Directory => Ok(()),
            Form::Copied(baseline) => baseline.collect(&self.place.tree()),
        }
    }

    fn new(place: Place, form: Form, layers: &[&Path], upper: Option<&Path>) -> Result<Self, MountError> {
        let path = place.tree();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, &path, flags, Mode::empty())
            .map_err(|error| MountError::io("open", &path)(error.into()))?;
        let layers = layers.iter().map(|&layer| layer.to_owned()).collect();
        Ok(Self { root, form, place, layers, upper: upper.map(Path::to_owned) })
    }

    fn plain(place: Place) -> Result<Self, MountError> {
        Self::new(place, Form::Directory, &[], None)
    }

    fn overlaid(
        mounter: &Mounter,
        place: Place,
        method: Method,
        layers: &[&Path],
        upper: Option<&Path>,
    ) -> Result<Self, MountError> {
        overlay::mount(mounter, &place, method, layers, upper)?;
        Self::new(place, Form::Mounted, layers, upper)
    }

    fn copied(place: Place, layers: &[&Path], upper: Option<&Path>) -> Result<Self, MountError> {
        let form = match upper {
            None => {
                copied::flatten(layers, &place.tree())?;
                Form::Directory
            }
            Some(upper) => {
                copied::flatten(layers, &place.tree())?;
                Form::Copied(copied::Baseline::take(&place.tree(), upper)?)
            }
        };
        Self::new(place, form, layers, upper)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        match self.form {
            Form::Mounted => _ = unmount(self.place.tree(), UnmountFlags::DETACH),
            Form::Directory | Form::Copied(_) => {}
        }
    }
}
