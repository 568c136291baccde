//! Directories that outlive the build and enter no cache key: the cache mounts of steps.

use std::fs;
use std::path::{Path, PathBuf};

use llb::{CacheId, CacheSharing};
use store::{Key, Lock, Store};

use super::MountError;

/// A cache directory in use.
#[derive(Debug)]
pub struct CacheDirectory {
    path: PathBuf,
    _lock: Option<Lock>,
}

impl CacheDirectory {
    /// The directory of this cache, made if it is not there; `None` while somebody else uses a locked one.
    ///
    /// # Errors
    /// [`MountError::Io`], [`MountError::Store`].
    pub fn try_acquire(store: &Store, id: &CacheId, sharing: CacheSharing) -> Result<Option<Self>, MountError> {
        let key = key(id);
        let (path, lock) = match sharing {
            CacheSharing::Shared => (store.caches().join(&key), None),
            CacheSharing::Locked => match store.try_lock(&format!("cache-{key}"))? {
                Some(lock) => (store.caches().join(&key), Some(lock)),
                None => return Ok(None),
            },
            CacheSharing::Private => private(store, &key)?,
        };
        fs::create_dir_all(&path).map_err(MountError::io("create", &path))?;
        Ok(Some(Self { path, _lock: lock }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn key(id: &CacheId) -> String {
    Key::of([b"cache mount".as_slice(), id.0.as_bytes()]).hex()
}

/// The first directory of this cache nobody uses.
fn private(store: &Store, key: &str) -> Result<(PathBuf, Option<Lock>), MountError> {
    let mut number = 0_u32;
    loop {
        let name = if number == 0 { key.to_owned() } else { format!("{key}-{number}") };
        if let Some(lock) = store.try_lock(&format!("cache-{name}"))? {
            return Ok((store.caches().join(name), Some(lock)));
        }
        number += 1;
    }
}
