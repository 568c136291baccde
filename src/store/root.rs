//! Opening the store.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::temp::{self, Temp};
use crate::{Bucket, Lease, Lock, StoreError};

const FORMAT: &str = "clawbuild store 1\n";
/// Everything that lies in a store's root, and what a filesystem of its own has there.
const ENTRIES: [&str; 11] = [
    "blobs",
    "cache",
    "format",
    "index.json",
    "lease",
    "locks",
    "lost+found",
    "oci-layout",
    "records",
    "snapshots",
    "tmp",
];

/// An open store. Cheap to clone; the last clone dropped removes the process's temporary directory.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    // Dropped in this order: the temporary directory goes while the store may still be used.
    temp: Temp,
    _lease: Lease,
}

impl Store {
    /// Opens the store at `root`, making it if it is not there, and sweeps what dead processes left.
    ///
    /// Costs a dozen system calls: this is on the path of a build that has nothing to do.
    ///
    /// # Errors
    /// [`StoreError::Format`] for a store of another version, [`StoreError::NotAStore`] for a directory that holds
    /// other things, [`StoreError::Io`].
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(root).map_err(StoreError::io("create", root))?;
        let root = fs::canonicalize(root).map_err(StoreError::io("open", root))?;
        if !is_store(&root)? {
            refuse_other_things(&root)?;
        }
        let lease = Lease::shared(&root.join("lease"))?;
        if !is_store(&root)? {
            initialise(&root)?;
        }
        let tmp = root.join("tmp");
        temp::sweep(&tmp)?;
        let temp = Temp::reserve(&tmp)?;
        Ok(Self(Arc::new(Inner { root, temp, _lease: lease })))
    }

    /// The store's root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// A directory of this process's own, on the store's filesystem, gone when the process ends. It is made by the
    /// first call; should that fail, whatever is done in it fails.
    #[must_use]
    pub fn temp(&self) -> &Path {
        self.temp_directory().unwrap_or_else(|_| self.0.temp.path())
    }

    /// As [`Store::temp`], saying why it cannot be made.
    pub(crate) fn temp_directory(&self) -> Result<&Path, StoreError> {
        self.0.temp.directory()
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

/// Whether a whole store of this version lies at `root`.
pub(crate) fn is_store(root: &Path) -> Result<bool, StoreError> {
    let format = root.join("format");
    match fs::read_to_string(&format) {
        Ok(text) if text == FORMAT => Ok(true),
        // What a power failure in the very first run leaves.
        Ok(text) if text.is_empty() => Ok(false),
        Ok(text) => {
            Err(StoreError::Format { path: root.to_owned(), found: text.trim().to_owned(), expected: FORMAT.trim() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("read", &format)(error)),
    }
}

/// Someone's own directory must not become a store, since pruning removes what lies in one.
pub(crate) fn refuse_other_things(root: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(root).map_err(StoreError::io("read", root))? {
        let name = entry.map_err(StoreError::io("read", root))?.file_name();
        // A first run that was killed leaves these, and temporary files that begin with a dot.
        let ours = name.to_str().is_some_and(|name| ENTRIES.contains(&name) || name.starts_with(".tmp"));
        if !ours {
            return Err(StoreError::NotAStore { path: root.to_owned(), found: name.to_string_lossy().into_owned() });
        }
    }
    Ok(())
}

/// Makes a store. Several processes may do so at once: they all write the same. The format comes last, so a store
/// that has one is whole.
fn initialise(root: &Path) -> Result<(), StoreError> {
    for directory in ["blobs/sha256", "locks"] {
        let path = root.join(directory);
        fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
    }
    // Images hold set-user-id programs, some of them old: nobody else may start one from here.
    for directory in ["snapshots", "cache", "tmp"] {
        let path = root.join(directory);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(StoreError::io("create", &path))?;
    }
    for bucket in Bucket::ALL {
        let path = root.join("records").join(bucket.directory());
        fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
    }
    let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    for (name, text) in [("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", index), ("format", FORMAT)]
    {
        let path = root.join(name);
        let mut file = tempfile::NamedTempFile::new_in(root).map_err(StoreError::io("create a file in", root))?;
        file.write_all(text.as_bytes()).map_err(StoreError::io("write", &path))?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(StoreError::io("write", &path))?;
        file.as_file().sync_all().map_err(StoreError::io("sync", &path))?;
        file.persist(&path).map_err(|error| StoreError::io("write", &path)(error.error))?;
        // The names above must not come after this one.
        File::open(root).and_then(|root| root.sync_all()).map_err(StoreError::io("sync", root))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_other_things_is_no_store() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("thesis.txt"), "").expect("writes");
        match Store::open(directory.path()) {
            Err(StoreError::NotAStore { found, .. }) => assert_eq!(found, "thesis.txt"),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_dir(directory.path()).expect("lists").count(), 1, "nothing was made in it");
    }

    #[test]
    fn a_first_run_that_was_killed_is_taken_up() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(directory.path().join("blobs/sha256")).expect("creates");
        fs::write(directory.path().join(".tmpXYZ"), "").expect("writes");
        fs::write(directory.path().join("format"), "").expect("writes");
        drop(Store::open(directory.path()).expect("opens"));
        assert!(is_store(directory.path()).expect("reads"));
    }

    #[test]
    fn another_format_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        drop(Store::open(directory.path()).expect("opens"));
        fs::write(directory.path().join("format"), "clawbuild store 99\n").expect("writes");
        assert!(matches!(Store::open(directory.path()), Err(StoreError::Format { .. })));
    }

    #[test]
    fn what_a_dead_process_left_is_swept() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        drop(Store::open(directory.path()).expect("opens"));
        let tmp = directory.path().join("tmp");
        fs::create_dir(tmp.join("1-dead")).expect("creates");
        fs::write(tmp.join("1-dead.lock"), "").expect("writes");
        let store = Store::open(directory.path()).expect("opens");
        // Sweeping goes on beside us.
        let patience = std::time::Instant::now();
        while tmp.join("1-dead.lock").exists() || tmp.join("1-dead").exists() {
            assert!(patience.elapsed().as_secs() < 5, "not swept");
            std::thread::yield_now();
        }
        assert!(store.temp().is_dir());
    }
}
