//! Pruning: what is used least goes first.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::inventory::{Inventory, Kind, Thing, entries};
use crate::temp::{Leftover, Temp};
use crate::{Amount, Lease, Store, StoreError, remove_tree, root};

/// What pruning removes. Each limit that is given is kept to; without any, only what is of no use to anybody goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunePolicy {
    /// Remove everything.
    pub all: bool,
    /// Remove what was not used for so long. Uses are known to the hour.
    pub max_age: Option<Duration>,
    /// Remove the least recently used until the store takes at most so many bytes.
    pub max_used: Option<u64>,
    /// Remove the least recently used until so many bytes are free on the store's filesystem.
    pub min_free: Option<u64>,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What pruning removed, or would have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Blobs.
    pub blobs: Amount,
    /// Snapshots.
    pub snapshots: Amount,
    /// Cache mounts.
    pub caches: Amount,
    /// Records.
    pub records: Amount,
    /// What is still there.
    pub kept: Amount,
}

impl Pruned {
    /// Bytes of disk space freed.
    #[must_use]
    pub fn freed(&self) -> u64 {
        self.blobs.bytes + self.snapshots.bytes + self.caches.bytes + self.records.bytes
    }
}

impl Store {
    /// Prunes the store at `root`, which nobody may have open, this process included. A directory that is not there
    /// is an empty store.
    ///
    /// Records go before what they name, and what they name is moved away before it is taken apart: killed at any
    /// moment, pruning leaves a store in which everything found is whole.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if somebody uses the store, except in a dry run; [`StoreError::Format`],
    /// [`StoreError::NotAStore`], [`StoreError::Io`].
    pub fn prune(root: &Path, policy: &PrunePolicy) -> Result<Pruned, StoreError> {
        let root = match fs::canonicalize(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pruned::default()),
            result => result.map_err(StoreError::io("open", root))?,
        };
        if !root::is_store(&root)? {
            root::refuse_other_things(&root)?;
            return Ok(Pruned::default());
        }
        let lease_path = root.join("lease");
        let _lease =
            if policy.dry_run { Some(Lease::shared(&lease_path)?) } else { Lease::try_exclusive(&lease_path)? }
                .ok_or_else(|| StoreError::Busy { path: root.clone() })?;

        let inventory = Inventory::take(&root)?;
        let free = free_space(&root)?;
        let victims = victims(&inventory, policy, free, SystemTime::now());
        let mut pruned = Pruned::default();
        for (thing, goes) in inventory.things.iter().zip(&victims) {
            let amount = match (&thing.kind, goes) {
                (_, false) => &mut pruned.kept,
                (Kind::Blob, true) => &mut pruned.blobs,
                (Kind::Snapshot, true) => &mut pruned.snapshots,
                (Kind::Cache, true) => &mut pruned.caches,
                (Kind::Record { .. }, true) => &mut pruned.records,
            };
            amount.add(thing.bytes);
        }
        if !policy.dry_run {
            remove(&root, &inventory, &victims)?;
        }
        Ok(pruned)
    }
}

/// Which things go: one flag for each.
fn victims(inventory: &Inventory, policy: &PrunePolicy, free: u64, now: SystemTime) -> Vec<bool> {
    let things = &inventory.things;
    let too_old = |thing: &Thing| {
        let age = now.duration_since(thing.used).unwrap_or_default();
        policy.max_age.is_some_and(|max_age| age > max_age)
    };
    let mut goes: Vec<bool> = things.iter().map(|thing| policy.all || too_old(thing)).collect();

    let held: u64 = things.iter().map(|thing| thing.bytes).sum();
    let mut freed: u64 = things.iter().zip(&goes).filter(|(_, goes)| **goes).map(|(thing, _)| thing.bytes).sum();
    let enough = |freed: u64| {
        policy.max_used.is_none_or(|max_used| held - freed <= max_used)
            && policy.min_free.is_none_or(|min_free| free.saturating_add(freed) >= min_free)
    };
    let mut order: Vec<usize> = (0..things.len()).filter(|i| !goes[*i]).collect();
    // What a record names was used no earlier than the record, so with records first among equals a record never
    // outlives what it names. Documents may: a manifest stays true when its layer is fetched anew.
    order.sort_by_key(|i| {
        let thing = &things[*i];
        let is_record = matches!(thing.kind, Kind::Record { .. });
        (thing.used, !is_record, Reverse(thing.names.len()), &thing.path)
    });
    for victim in order {
        if enough(freed) {
            break;
        }
        goes[victim] = true;
        freed += things[victim].bytes;
    }
    goes
}

fn remove(root: &Path, inventory: &Inventory, victims: &[bool]) -> Result<(), StoreError> {
    let tmp = root.join("tmp");
    // Nobody else is alive in here.
    Leftover::find(&tmp)?.into_iter().for_each(Leftover::remove);
    for lock in entries(&root.join("locks"))? {
        remove_file(&lock)?;
    }
    for path in &inventory.rubbish {
        if path.is_dir() {
            remove_tree(path).map_err(StoreError::io("remove", path))?;
        } else {
            remove_file(path)?;
        }
    }
    let chosen = inventory.things.iter().zip(victims).filter(|(_, goes)| **goes).map(|(thing, _)| thing);
    let (records, content): (Vec<_>, Vec<_>) = chosen.partition(|thing| matches!(thing.kind, Kind::Record { .. }));
    // Made when first needed: on a full disk there is no place for it before something is removed.
    let mut away = None;
    for (i, thing) in records.into_iter().chain(content).enumerate() {
        match thing.kind {
            Kind::Record { .. } | Kind::Blob => remove_file(&thing.path)?,
            Kind::Snapshot | Kind::Cache => {
                let away = match &mut away {
                    Some(away) => away,
                    none => none.insert(Temp::reserve(&tmp)?),
                };
                let place = away.directory()?.join(i.to_string());
                // A directory its owner may not write cannot be moved by him; then it goes where it lies.
                let place = if fs::rename(&thing.path, &place).is_ok() { &place } else { &thing.path };
                remove_tree(place).map_err(StoreError::io("remove", &thing.path))?;
            }
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn free_space(root: &Path) -> Result<u64, StoreError> {
    let filesystem =
        rustix::fs::statvfs(root).map_err(|errno| StoreError::io("measure", root)(io::Error::from(errno)))?;
    Ok(filesystem.f_bavail.saturating_mul(filesystem.f_frsize))
}

#[cfg(test)]
mod tests {
    use oci::Digest;
    use serde_json::json;

    use super::*;
    use crate::{Bucket, Key};

    const HOUR: Duration = Duration::from_secs(60 * 60);

    struct World {
        directory: tempfile::TempDir,
        store: Option<Store>,
    }

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let store = Store::open(directory.path()).expect("opens");
            Self { directory, store: Some(store) }
        }

        fn store(&self) -> &Store {
            self.store.as_ref().expect("the store is open")
        }

        fn age(&self, path: &Path, age: Duration) {
            let file = fs::File::open(path).expect("opens");
            file.set_modified(SystemTime::now() - age).expect("sets");
        }

        /// A blob last used so many hours ago.
        fn blob(&self, bytes: &[u8], hours: u32) -> Digest {
            let digest = self.store().put_blob(bytes).expect("puts").digest;
            self.age(&self.store().blob_path(&digest), HOUR * hours);
            digest
        }

        fn snapshot(&self, name: &str, hours: u32) -> std::path::PathBuf {
            let path = self.store().snapshots().join(name);
            fs::create_dir_all(path.join("fs/etc")).expect("creates");
            fs::write(path.join("fs/etc/file"), [7; 5000]).expect("writes");
            self.age(&path, HOUR * hours);
            path
        }

        fn record(&self, key: &str, value: &serde_json::Value, hours: u32) -> Key {
            let key = Key::of([key.as_bytes()]);
            self.store().put_record(Bucket::Vertices, &key, value).expect("puts");
            let hex = key.hex();
            let path = self.directory.path().join("records/vertices-v1").join(&hex[..2]).join(&hex[2..]);
            self.age(&path, HOUR * hours);
            key
        }

        /// Prunes, and opens the store again.
        fn prune(&mut self, policy: &PrunePolicy) -> Pruned {
            self.store = None;
            let pruned = Store::prune(self.directory.path(), policy).expect("prunes");
            self.store = Some(Store::open(self.directory.path()).expect("opens"));
            pruned
        }

        fn has(&self, key: &Key) -> bool {
            self.store().record::<serde_json::Value>(Bucket::Vertices, key).is_some()
        }

        fn holds(&self, digest: &Digest) -> bool {
            self.store().blob_path(digest).exists()
        }
    }

    #[test]
    fn nobody_may_have_the_store_open() {
        let world = World::new();
        let digest = world.blob(b"x", 9);
        let policy = PrunePolicy { all: true, ..PrunePolicy::default() };
        assert!(matches!(Store::prune(world.directory.path(), &policy), Err(StoreError::Busy { .. })));
        assert!(world.holds(&digest));
        let dry = PrunePolicy { dry_run: true, ..policy };
        assert_eq!(Store::prune(world.directory.path(), &dry).expect("looks").blobs.count, 1);
        assert!(world.holds(&digest));
    }

    #[test]
    fn only_stores_are_pruned() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let policy = PrunePolicy { all: true, ..PrunePolicy::default() };
        fs::create_dir_all(directory.path().join("cache/mine")).expect("creates");
        fs::write(directory.path().join("notes"), "").expect("writes");
        assert!(matches!(Store::prune(directory.path(), &policy), Err(StoreError::NotAStore { .. })));
        assert!(directory.path().join("cache/mine").exists());
        assert_eq!(Store::prune(&directory.path().join("nowhere"), &policy).expect("nothing"), Pruned::default());
    }

    #[test]
    fn age_counts_from_the_last_use_of_whatever_names_a_thing() {
        let mut world = World::new();
        let (layer, stray) = (world.blob(b"layer", 100), world.blob(b"stray", 100));
        let config = world.blob(format!(r#"{{"rootfs":"{}"}}"#, Digest::of("no blob")).as_bytes(), 100);
        let manifest = world
            .blob(json!({"config": {"digest": config}, "layers": [{"digest": layer}]}).to_string().as_bytes(), 100);
        let (used, unused) = (world.snapshot("aa", 100), world.snapshot("bb", 100));
        let fresh = world.record("fresh", &json!({"manifest": manifest, "chain": [{"snapshot": "aa"}]}), 2);
        let stale = world.record("stale", &json!({"blob": stray}), 100);

        let pruned = world.prune(&PrunePolicy { max_age: Some(HOUR * 50), ..PrunePolicy::default() });
        assert_eq!((pruned.blobs.count, pruned.snapshots.count, pruned.records.count), (1, 1, 1));
        assert_eq!(pruned.kept.count, 5);
        for digest in [&layer, &config, &manifest] {
            assert!(world.holds(digest));
        }
        assert!(world.has(&fresh) && used.join("fs/etc/file").exists());
        assert!(!world.has(&stale) && !world.holds(&stray) && !unused.exists());
    }

    #[test]
    fn a_record_never_outlives_what_it_names() {
        let mut world = World::new();
        world.snapshot("aa", 1);
        // All used at the same time, and the snapshot since.
        let blob = world.blob(&[1; 50_000], 30);
        let manifest = world.blob(json!({"layers": [blob, blob]}).to_string().as_bytes(), 30);
        let stale = world.record("r", &json!({"names": {"aa": manifest}}), 30);
        let fresh = world.record("k", &json!({"names": ["aa"]}), 1);
        for _ in 0..3 {
            let kept = world.prune(&PrunePolicy { dry_run: true, ..PrunePolicy::default() }).kept.bytes;
            world.prune(&PrunePolicy { max_used: Some(kept - 1), ..PrunePolicy::default() });
            assert!(!world.has(&stale), "it goes first");
            assert!(world.has(&fresh), "it goes last");
        }
        assert!(!world.holds(&manifest) && !world.holds(&blob));
    }

    #[test]
    fn limits_take_the_least_recently_used_and_no_more() {
        let mut world = World::new();
        let blobs: Vec<_> = (0..5_u8).map(|i| world.blob(&[i; 100_000], 10 + u32::from(i))).collect();
        let each = world.store().usage().expect("measures").blobs.bytes / 5;
        let policy = PrunePolicy { max_used: Some(each * 3), dry_run: true, ..PrunePolicy::default() };
        let foreseen = world.prune(&policy);
        assert!(blobs.iter().all(|digest| world.holds(digest)));
        let pruned = world.prune(&PrunePolicy { dry_run: false, ..policy });
        assert_eq!(pruned, foreseen);
        assert_eq!((pruned.blobs.count, pruned.freed()), (2, each * 2));
        assert_eq!(
            blobs.iter().map(|digest| world.holds(digest)).collect::<Vec<_>>(),
            [true, true, true, false, false]
        );
        // More free space than a disk has means all of it.
        assert_eq!(world.prune(&PrunePolicy { min_free: Some(0), ..PrunePolicy::default() }).blobs.count, 0);
        assert_eq!(world.prune(&PrunePolicy { min_free: Some(u64::MAX), ..PrunePolicy::default() }).blobs.count, 3);
    }

    #[test]
    fn everything_goes_and_so_does_rubbish() {
        let mut world = World::new();
        world.blob(b"x", 1);
        world.snapshot("aa", 1);
        fs::create_dir_all(world.store().caches().join("npm/x")).expect("creates");
        let records = world.directory.path().join("records");
        fs::create_dir_all(records.join("vertices-v0/aa")).expect("creates");
        fs::create_dir_all(records.join("files-v1/aa")).expect("creates");
        fs::write(records.join("files-v1/aa/bb"), "torn").expect("writes");
        fs::write(world.directory.path().join("locks/left"), "").expect("writes");
        let usage = world.store().usage().expect("measures");
        assert_eq!((usage.blobs.count, usage.snapshots.count, usage.caches.count), (1, 1, 1));

        world.prune(&PrunePolicy::default());
        assert!(!records.join("vertices-v0").exists() && !records.join("files-v1/aa/bb").exists());
        assert!(!world.directory.path().join("locks/left").exists());
        assert_eq!(world.store().usage().expect("measures").blobs.count, 1);

        let pruned = world.prune(&PrunePolicy { all: true, ..PrunePolicy::default() });
        assert_eq!((pruned.blobs.count, pruned.snapshots.count, pruned.caches.count), (1, 1, 1));
        assert_eq!(pruned.kept.count, 0);
        let left = world.store().usage().expect("measures").total();
        assert_eq!(left.count, 0, "{left:?}");
    }
}
