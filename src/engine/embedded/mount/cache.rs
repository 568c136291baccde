//! Directories that outlive the build and enter no cache key: the cache mounts of steps.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
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
        match fs::create_dir(&path) {
            // Whatever the umask: steps run as many users.
            Ok(()) => fs::set_permissions(&path, fs::Permissions::from_mode(0o755)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
        .map_err(MountError::io("create", &path))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing_decides_who_gets_what() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let id = |name: &str| CacheId(name.to_owned());
        let attempt = |name, sharing| CacheDirectory::try_acquire(&store, &id(name), sharing).expect("the store works");
        let acquire = |name, sharing| attempt(name, sharing).expect("a cache");
        let (one, two) = (acquire("npm", CacheSharing::Shared), acquire("npm", CacheSharing::Shared));
        assert!(one.path().is_dir());
        assert_eq!(one.path(), two.path());
        assert_ne!(one.path(), acquire("../npm", CacheSharing::Shared).path());

        let first = acquire("npm", CacheSharing::Private);
        let second = acquire("npm", CacheSharing::Private);
        assert_ne!(first.path(), second.path());
        let was = first.path().to_owned();
        drop(first);
        assert_eq!(acquire("npm", CacheSharing::Private).path(), was, "what nobody uses is used again");

        let held = acquire("go", CacheSharing::Locked);
        assert!(attempt("go", CacheSharing::Locked).is_none(), "a locked cache has one user");
        drop(held);
        assert!(attempt("go", CacheSharing::Locked).is_some());
    }
}
