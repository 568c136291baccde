//! What is known about vertices: cache key to result.
//!
//! A result lies in files that were not synced one by one, which would cost more than many a step. After a power
//! failure they may be torn although they are there. So a record says in which boot it was written, and until
//! [`Records::make_durable`] has synced the filesystem it counts in that boot only.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use llb::OutputIndex;
use serde::{Deserialize, Serialize};
use store::{Bucket, Key, Store, StoreError};

use super::chain::Chain;

/// The result of a vertex: a tree for each output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outputs(pub(crate) Vec<Chain>);

impl Outputs {
    /// The tree of one output. A valid definition asks for none that its vertex has not.
    pub(crate) fn take(mut self, output: OutputIndex) -> Chain {
        self.0.swap_remove(output.0)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    outputs: Vec<Chain>,
    boot: String,
    durable: bool,
}

/// The records of one store, as one way of keeping file ownership sees them.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    store: Store,
    boot: Arc<str>,
    // Records written or found since the last sync that are not durable yet.
    fresh: Arc<Mutex<BTreeMap<Key, Record>>>,
}

impl Records {
    /// # Errors
    /// [`StoreError::Io`] where the kernel does not say which boot this is.
    pub(crate) fn new(store: Store) -> Result<Self, StoreError> {
        let path = std::path::Path::new("/proc/sys/kernel/random/boot_id");
        let boot = fs::read_to_string(path).map_err(StoreError::io("read", path))?;
        Ok(Self { store, boot: Arc::from(boot.trim()), fresh: Arc::default() })
    }

    /// The result under `key`, if it has so many outputs, can be relied on and everything it is made of is there.
    pub(crate) fn find(&self, key: &Key, outputs: usize) -> Option<Outputs> {
        let record: Record = self.store.record(Bucket::Vertices, key)?;
        let reliable = record.durable || record.boot == *self.boot;
        let whole = record.outputs.len() == outputs && record.outputs.iter().all(|chain| chain.is_present(&self.store));
        if !reliable || !whole {
            return None;
        }
        let found = Outputs(record.outputs.clone());
        if !record.durable {
            // Whoever made it may have been killed before it could sync.
            self.fresh.lock().expect("nothing panics while holding it").insert(*key, record);
        }
        Some(found)
    }

    /// Notes that the result under `key`, if there is one, is of use still.
    pub(crate) fn mark_used(&self, key: &Key) {
        let _: Option<serde::de::IgnoredAny> = self.store.record(Bucket::Vertices, key);
    }

    /// Writes the result down under each of `keys`.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn keep(&self, keys: impl IntoIterator<Item = Key>, outputs: &Outputs) -> Result<(), StoreError> {
        for key in keys {
            let record = Record { outputs: outputs.0.clone(), boot: self.boot.to_string(), durable: false };
            self.store.put_record_unsynced(Bucket::Vertices, &key, &record)?;
            self.fresh.lock().expect("nothing panics while holding it").insert(key, record);
        }
        Ok(())
    }

    /// Syncs the filesystem, then marks what was written since the last time as good for every boot. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn make_durable(&self) -> Result<(), StoreError> {
        let fresh = std::mem::take(&mut *self.fresh.lock().expect("nothing panics while holding it"));
        if fresh.is_empty() {
            return Ok(());
        }
        let root = self.store.root();
        let directory = fs::File::open(root).map_err(StoreError::io("open", root))?;
        rustix::fs::syncfs(&directory).map_err(|errno| StoreError::io("sync", root)(errno.into()))?;
        for (key, record) in fresh {
            self.store.put_record_unsynced(Bucket::Vertices, &key, &Record { durable: true, ..record })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::snapshot::{self, Draft};

    #[test]
    fn records_survive_a_boot_only_when_durable_and_never_outlive_their_snapshots() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("a store");
        let id = Draft::new(&store).expect("a draft").commit().expect("commits");
        let outputs = Outputs(vec![Chain::default().with(id)]);
        let key = Key::of([&b"key"[..]]);

        let records = Records::new(store.clone()).expect("this boot");
        let rebooted = Records { boot: Arc::from("another"), fresh: Arc::default(), ..records.clone() };
        records.keep([key], &outputs).expect("writes");
        assert_eq!(records.find(&key, 1), Some(outputs.clone()));
        assert_eq!(rebooted.find(&key, 1), None);
        records.make_durable().expect("syncs");
        assert_eq!(rebooted.find(&key, 1), Some(outputs));

        fs::remove_dir_all(snapshot::at(&store, id).directory()).expect("removes");
        assert_eq!(records.find(&key, 1), None);
    }
}
