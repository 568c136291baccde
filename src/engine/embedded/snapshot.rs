//! Snapshots: sets of changes, as directories of the store.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::chain::Chain;
use oci::layer::Snapshot;
use serde::{Deserialize, Serialize};
use store::{Store, StoreError};

/// Names a directory under `snapshots/`.
///
/// It is random: a snapshot is known by having been made, not by what it holds, so that running a step anew never
/// changes what an earlier run made. Nothing that is hashed into an image depends on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SnapshotId([u8; 16]);

impl SnapshotId {
    /// An id nobody has.
    pub(crate) fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SnapshotId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for SnapshotId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SnapshotId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a whole snapshot lies.
pub(crate) fn at(store: &Store, id: SnapshotId) -> Snapshot {
    Snapshot::at(store.snapshots().join(id.to_string()))
}

/// A snapshot being made in the process's temporary directory. Dropped before [`Draft::commit`], it is removed.
#[derive(Debug)]
pub(crate) struct Draft {
    id: SnapshotId,
    store: Store,
    snapshot: Snapshot,
    open: bool,
}

impl Draft {
    /// Begins an empty snapshot.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn new(store: &Store) -> Result<Self, StoreError> {
        let id = SnapshotId::random().map_err(StoreError::io("name a snapshot in", store.temp()))?;
        let snapshot = Snapshot::at(store.temp().join(format!("snapshot-{id}")));
        let draft = Self { id, store: store.clone(), snapshot, open: true };
        for path in [draft.snapshot.directory(), &draft.fs()] {
            fs::create_dir(path).map_err(StoreError::io("create", path))?;
        }
        // The root directory of every tree: not what the umask happens to leave.
        set_mode(&draft.fs(), 0o755)?;
        Ok(draft)
    }

    /// Where the changes go.
    pub(crate) fn fs(&self) -> PathBuf {
        self.snapshot.fs()
    }

    /// The snapshot as it is now.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Gives the snapshot its place. Nothing may have it mounted any more.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn commit(mut self) -> Result<SnapshotId, StoreError> {
        let place = at(&self.store, self.id);
        let moved = fs::rename(self.snapshot.directory(), place.directory());
        moved.map_err(StoreError::io("move a snapshot to", place.directory()))?;
        self.open = false;
        Ok(self.id)
    }
}

impl Draft {
    /// The tree that these changes make of `before`. Where nothing was changed, that is `before` itself.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn commit_onto(self, before: &Chain) -> Result<Chain, StoreError> {
        let fs = self.fs();
        let mut entries = fs::read_dir(&fs).map_err(StoreError::io("read", &fs))?;
        match entries.next() {
            None => Ok(before.clone()),
            Some(_) => Ok(before.with(self.commit()?)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.open {
            // What cannot be removed now goes with the temporary directory, or is swept by the next process.
            let _ = store::remove_tree(self.snapshot.directory());
        }
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(path, permissions).map_err(StoreError::io("change the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("a store");
        (directory, store)
    }

    #[test]
    fn a_draft_appears_whole_or_not_at_all() {
        let (_directory, store) = store();
        let abandoned = Draft::new(&store).expect("a draft");
        fs::write(abandoned.fs().join("file"), "x").expect("writes");
        let place = abandoned.snapshot().directory().to_owned();
        drop(abandoned);
        assert!(!place.exists());
        assert_eq!(fs::read_dir(store.snapshots()).expect("lists").count(), 0);

        let draft = Draft::new(&store).expect("a draft");
        fs::write(draft.fs().join("file"), "x").expect("writes");
        let id = draft.commit().expect("commits");
        let snapshot = at(&store, id);
        assert_eq!(fs::read(snapshot.fs().join("file")).expect("reads"), b"x");
    }
}
