//! When things were last used.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::Store;

/// Uses closer together than this are one: marking costs a write to the disk, if an asynchronous one.
const GRANULARITY: Duration = Duration::from_secs(60 * 60);

/// Notes that the thing at `path` is used now. Its modification time is the mark: nothing in the store is ever
/// modified, and unlike the access time it means the same on every mount.
pub(crate) fn mark(path: &Path, meta: &Metadata) {
    let recent = match meta.modified().map(|then| SystemTime::now().duration_since(then)) {
        Ok(Ok(age)) => age < GRANULARITY,
        // A mark in the future is put right.
        Ok(Err(_)) | Err(_) => false,
    };
    if !recent {
        let time = |nsec| Timespec { tv_sec: 0, tv_nsec: nsec };
        let times = Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
        // A store that cannot be written still serves; it is merely pruned less well.
        let _ = rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    }
}

impl Store {
    /// Notes that a snapshot is used now. Reading a record that names it does the same.
    pub fn mark_snapshot_used(&self, name: &str) {
        mark_directory(&self.snapshots().join(name));
    }

    /// Notes that a cache is used now.
    pub fn mark_cache_used(&self, name: &str) {
        mark_directory(&self.caches().join(name));
    }
}

fn mark_directory(path: &Path) {
    if let Ok(meta) = fs::symlink_metadata(path) {
        mark(path, &meta);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_marked_once_an_hour() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("opens");
        let digest = store.put_blob(b"x").expect("puts").digest;
        let path = store.blob_path(&digest);
        let modified = || fs::metadata(&path).expect("stats").modified().expect("a time");
        let age = |age: Duration| {
            let file = fs::File::open(&path).expect("opens");
            file.set_modified(SystemTime::now() - age).expect("sets");
            modified()
        };
        let recent = age(Duration::from_secs(60 * 30));
        assert_eq!(store.blob_size(&digest), Some(1));
        assert_eq!(modified(), recent);
        let old = age(Duration::from_secs(60 * 90));
        assert_eq!(store.blob_size(&digest), Some(1));
        assert!(modified() > old + Duration::from_secs(60 * 80));
        age(Duration::from_secs(60 * 90));
        store.open_blob(&digest).expect("opens");
        assert!(modified() > old + Duration::from_secs(60 * 80));
    }
}
