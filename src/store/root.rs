//! Opening the store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Bucket, Lease, Lock, StoreError};

const FORMAT: &str = "clawbuild store 1\n";

/// An open store. Cheap to clone; the last clone dropped removes the process's temporary directory.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    // Dropped in this order: the temporary directory goes before the locks that protect it.
    temp: tempfile::TempDir,
    _temp_lock: Lock,
    _lease: Lease,
}

impl Store {
    /// Opens the store at `root`, making it if it is not there, and sweeps what dead processes left.
    ///
    /// # Errors
    /// [`StoreError::Format`] for a store of another version, [`StoreError::Io`].
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let make = |path: &Path| fs::create_dir_all(path).map_err(StoreError::io("create", path));
        make(root)?;
        let root = fs::canonicalize(root).map_err(StoreError::io("open", root))?;
        let lease = Lease::shared(&root.join("lease"))?;
        let format = root.join("format");
        match fs::read_to_string(&format) {
            Ok(text) if text == FORMAT => {}
            Ok(text) => {
                return Err(StoreError::Format { path: root, found: text.trim().to_owned(), expected: FORMAT.trim() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::initialise(&root)?,
            Err(error) => return Err(StoreError::io("read", &format)(error)),
        }
        let tmp = root.join("tmp");
        sweep(&tmp)?;
        let temp = tempfile::Builder::new()
            .prefix(&format!("{}-", std::process::id()))
            .tempdir_in(&tmp)
            .map_err(StoreError::io("create a directory in", &tmp))?;
        let temp_lock = Lock::exclusive(&lock_beside(temp.path()))?;
        Ok(Self(Arc::new(Inner { root, temp, _temp_lock: temp_lock, _lease: lease })))
    }

    fn initialise(root: &Path) -> Result<(), StoreError> {
        for directory in ["blobs/sha256", "snapshots", "cache", "locks", "tmp"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
        }
        for bucket in Bucket::ALL {
            let path = root.join("records").join(bucket.directory());
            fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
        }
        for (name, text) in [("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#), ("format", FORMAT)] {
            let path = root.join(name);
            let temp = tempfile::NamedTempFile::new_in(root).map_err(StoreError::io("create a file in", root))?;
            fs::write(temp.path(), text).map_err(StoreError::io("write", temp.path()))?;
            temp.persist(&path).map_err(|error| StoreError::io("write", &path)(error.error))?;
        }
        Ok(())
    }

    /// The store's root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// A directory of this process's own, on the store's filesystem, gone when the process ends.
    #[must_use]
    pub fn temp(&self) -> &Path {
        self.0.temp.path()
    }

    /// Where snapshots lie.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.0.root.join("snapshots")
    }

    /// Where cache mounts lie.
    #[must_use]
    pub fn caches(&self) -> PathBuf {
        self.0.root.join("cache")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.0.root.join("blobs/sha256")
    }

    /// Waits until nobody else holds `name`, then holds it. Blocks the thread; `name` must be a file name.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn lock(&self, name: &str) -> Result<Lock, StoreError> {
        Lock::exclusive(&self.0.root.join("locks").join(name))
    }

    /// Holds `name` if nobody else does.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        Lock::try_exclusive(&self.0.root.join("locks").join(name))
    }
}

fn lock_beside(directory: &Path) -> PathBuf {
    directory.with_extension("lock")
}

/// Removes the temporary directories of processes that are gone: those whose lock can be had.
fn sweep(tmp: &Path) -> Result<(), StoreError> {
    let entries = fs::read_dir(tmp).map_err(StoreError::io("read", tmp))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "lock") {
            if let Some(_lock) = Lock::try_exclusive(&path)? {
                // Failing to remove is no reason not to build: the next process tries again.
                let directory = path.with_extension("");
                if fs::remove_dir_all(&directory).is_ok() || !directory.exists() {
                    let _ = fs::remove_file(&path);
                }
            }
        }
    }
    Ok(())
}
