//! Advisory locks, held by open file descriptions and so released by the kernel however a process ends.

use std::fs::{File, OpenOptions};
use std::path::Path;

use crate::StoreError;

/// A process's right to use the store. Held for as long as the [`crate::Store`] is open.
#[derive(Debug)]
pub struct Lease {
    _file: File,
}

/// An exclusive lock on one name, between threads and processes alike.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().create(true).truncate(false).write(true).read(true).open(path).map_err(StoreError::io("open", path))
}

impl Lease {
    /// A shared lease; waits while another process prunes.
    pub(crate) fn shared(path: &Path) -> Result<Self, StoreError> {
        let file = open(path)?;
        file.lock_shared().map_err(StoreError::io("lock", path))?;
        Ok(Self { _file: file })
    }
}

impl Lock {
    /// Waits for the lock. Blocks the thread.
    pub(crate) fn exclusive(path: &Path) -> Result<Self, StoreError> {
        let file = open(path)?;
        file.lock().map_err(StoreError::io("lock", path))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock if nobody holds it.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(source)) => Err(StoreError::io("lock", path)(source)),
        }
    }
}
