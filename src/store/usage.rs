//! What the store holds, in bytes.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::inventory::{Inventory, Kind};
use crate::{Store, StoreError};

/// A number of things and the disk space they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Bytes of disk space, which is more than their lengths; what is linked several times counts once.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What the store holds, each thing under one heading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs that are downloads: packages, archives.
    pub downloads: Amount,
    /// All other blobs: layers, configs, manifests.
    pub blobs: Amount,
    /// Snapshots.
    pub snapshots: Amount,
    /// Cache mounts.
    pub caches: Amount,
    /// Records by bucket directory.
    pub records: BTreeMap<String, Amount>,
    /// What running processes are making, and what dead ones left.
    pub temporary: Amount,
}

impl Usage {
    /// Everything.
    #[must_use]
    pub fn total(&self) -> Amount {
        let parts = [self.downloads, self.blobs, self.snapshots, self.caches, self.temporary];
        parts.iter().chain(self.records.values()).fold(Amount::default(), |sum, part| Amount {
            count: sum.count + part.count,
            bytes: sum.bytes + part.bytes,
        })
    }
}

impl Store {
    /// Measures the store. Walks all of it.
    ///
    /// # Errors
    /// [`StoreError::Io`], though not for what others remove meanwhile.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let inventory = Inventory::take(self.root())?;
        let mut usage = Usage::default();
        for thing in &inventory.things {
            match &thing.kind {
                Kind::Blob if thing.is_download => usage.downloads.add(thing.bytes),
                Kind::Blob => usage.blobs.add(thing.bytes),
                Kind::Snapshot => usage.snapshots.add(thing.bytes),
                Kind::Cache => usage.caches.add(thing.bytes),
                Kind::Record { bucket } => usage.records.entry(bucket.clone()).or_default().add(thing.bytes),
            }
        }
        let tmp = self.root().join("tmp");
        let mut measure = Measure::default();
        for entry in fs::read_dir(&tmp).map_err(StoreError::io("read", &tmp))?.flatten() {
            let path = entry.path();
            if path.extension().is_none() {
                usage.temporary.add(measure.tree(&path).map_err(StoreError::io("read", &path))?);
            }
        }
        Ok(usage)
    }
}

/// Adds up disk space; a file with several names counts where it is met first.
#[derive(Debug, Default)]
pub(crate) struct Measure {
    linked: HashSet<(u64, u64)>,
}

impl Measure {
    /// The space of everything below `path`, and of `path`. What is gone when it is looked at counts nothing.
    pub(crate) fn tree(&mut self, path: &Path) -> io::Result<u64> {
        let meta = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            result => result?,
        };
        let mut bytes = self.file(&meta);
        if meta.is_dir() {
            match fs::read_dir(path) {
                // Packages have directories nobody may read; those are small.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
                entries => {
                    for entry in entries? {
                        bytes += self.tree(&entry?.path())?;
                    }
                }
            }
        }
        Ok(bytes)
    }

    pub(crate) fn file(&mut self, meta: &Metadata) -> u64 {
        let counted = meta.nlink() > 1 && !meta.is_dir() && !self.linked.insert((meta.dev(), meta.ino()));
        // The unit of `st_blocks`, whatever the filesystem's own blocks are.
        if counted { 0 } else { meta.blocks() * 512 }
    }
}
