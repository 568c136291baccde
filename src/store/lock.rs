//! Advisory locks, held by open file descriptions and so released by the kernel however a process ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::StoreError;

/// A process's right to use the store. Held for as long as the [`crate::Store`] is open.
#[derive(Debug)]
pub struct Lease {
    _file: File,
}

impl Lease {
    /// A shared lease; waits while another process prunes.
    pub(crate) fn shared(path: &Path) -> Result<Self, StoreError> {
        let file = create(path)?;
        file.lock_shared().map_err(StoreError::io("lock", path))?;
        Ok(Self { _file: file })
    }

    /// The only lease there is, or `None` while anybody uses the store.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = create(path)?;
        Ok(try_lock(&file, path)?.then_some(Self { _file: file }))
    }
}

/// An exclusive lock on one name, between threads and processes alike.
///
/// Its file goes when the lock does, so that locks on names that never come again do not pile up. A file that was
/// removed between being opened and being locked protects nothing: whoever finds that opens it anew.
#[derive(Debug)]
pub struct Lock {
    // Removed while still locked: nobody else can hold the name at that moment.
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for the lock. Blocks the thread.
    pub(crate) fn exclusive(path: &Path) -> Result<Self, StoreError> {
        loop {
            let file = create(path)?;
            file.lock().map_err(StoreError::io("lock", path))?;
            if is_at(&file, path)? {
                return Ok(Self { path: path.to_owned(), _file: file });
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Self>, StoreError> {
        loop {
            let file = create(path)?;
            if !try_lock(&file, path)? {
                return Ok(None);
            }
            if is_at(&file, path)? {
                return Ok(Some(Self { path: path.to_owned(), _file: file }));
            }
        }
    }

    /// As [`Lock::try_exclusive`], for a name nobody may have: `None` if it exists, or was taken away at once.
    pub(crate) fn try_new(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = match OpenOptions::new().create_new(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            result => result.map_err(StoreError::io("create", path))?,
        };
        let held = try_lock(&file, path)? && is_at(&file, path)?;
        Ok(held.then(|| Self { path: path.to_owned(), _file: file }))
    }

    /// Takes over the lock of someone who is gone: `None` if there is no such lock, or its holder lives.
    pub(crate) fn try_existing(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = match OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(StoreError::io("open", path))?,
        };
        let held = try_lock(&file, path)? && is_at(&file, path)?;
        Ok(held.then(|| Self { path: path.to_owned(), _file: file }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A file left behind is harmless: it is locked by nobody.
        let _ = fs::remove_file(&self.path);
    }
}

fn create(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(StoreError::io("open", path))
}

fn try_lock(file: &File, path: &Path) -> Result<bool, StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(StoreError::io("lock", path)(source)),
    }
}

/// Whether `path` still names this very file.
fn is_at(file: &File, path: &Path) -> Result<bool, StoreError> {
    let open = file.metadata().map_err(StoreError::io("read", path))?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_and_leaves_no_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("name");
        let lock = Lock::exclusive(&path).expect("locks");
        assert!(Lock::try_exclusive(&path).expect("tries").is_none());
        assert!(Lock::try_existing(&path).expect("tries").is_none());
        drop(lock);
        assert!(!path.exists());
        assert!(Lock::try_existing(&path).expect("tries").is_none());
        assert!(Lock::try_exclusive(&path).expect("tries").is_some());
    }

    #[test]
    fn waiters_on_a_removed_file_do_not_share_the_name() {
        // Every holder increments without atomicity; a waiter that kept a removed file would run beside another.
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, counter) = (directory.path().join("name"), directory.path().join("counter"));
        fs::write(&counter, "0").expect("writes");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = Lock::exclusive(&path).expect("locks");
                        let count: u32 = fs::read_to_string(&counter).expect("reads").parse().expect("a number");
                        fs::write(&counter, (count + 1).to_string()).expect("writes");
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(&counter).expect("reads"), "400");
    }
}
