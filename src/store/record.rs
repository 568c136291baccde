//! Small facts derived from content, by key.
//!
//! A record names a blob by its digest and a snapshot by its directory's name, each as a JSON string of its own. That
//! is how pruning finds what records need, without knowing their types: what a used record names counts as used, and
//! a record goes with what it names.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};

use oci::Digest;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Store, StoreError, used};

/// A family of records. The version in a bucket's directory name changes with the records' meaning, so old ones become misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Where a URL's content lies: URL and expected digest to blob.
    Downloads,
    /// The result of an LLB vertex by its cache key.
    Vertices,
    /// Content digests of file selections in snapshots.
    Contents,
    /// The blob and diff ID of a snapshot's layer.
    Layers,
    /// Assembled bases: definition digest to manifest.
    Bases,
    /// Stat data and digests of local files.
    Files,
    /// Finished images by plan digest.
    Images,
    /// What builders can do, by their version.
    Builders,
    /// What was seen in a layer by its diff ID.
    Checks,
}

impl Bucket {
    pub(crate) const ALL: [Self; 9] = [
        Self::Downloads,
        Self::Vertices,
        Self::Contents,
        Self::Layers,
        Self::Bases,
        Self::Files,
        Self::Images,
        Self::Builders,
        Self::Checks,
    ];

    /// The directory's name.
    #[must_use]
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Downloads => "downloads-v1",
            Self::Vertices => "vertices-v1",
            Self::Contents => "contents-v1",
            Self::Layers => "layers-v1",
            Self::Bases => "bases-v1",
            Self::Files => "files-v1",
            Self::Images => "images-v1",
            Self::Builders => "builders-v1",
            Self::Checks => "checks-v1",
        }
    }
}

/// A record's key: a digest over everything the fact depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Digest);

impl Key {
    /// The key over these parts, in order. Parts are length-prefixed, so they cannot run into each other.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = oci::Hasher::new(std::io::sink());
        for part in parts {
            for bytes in [&(part.len() as u64).to_le_bytes()[..], part] {
                hasher.write_all(bytes).expect("writing to a sink cannot fail");
            }
        }
        Self(hasher.finish().0)
    }

    /// The key as hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.hex()
    }
}

impl From<Digest> for Key {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

/// A record is one line. The newline at its end tells a whole number from the beginning of a longer one.
fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("records serialise");
    bytes.push(b'\n');
    bytes
}

/// Reads a record; `None` for one that is torn or means something else.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes.strip_suffix(b"\n")?).ok()
}

impl Store {
    fn record_path(&self, bucket: Bucket, key: &Key) -> std::path::PathBuf {
        let hex = key.hex();
        self.root().join("records").join(bucket.directory()).join(&hex[..2]).join(&hex[2..])
    }

    /// The record under `key`. Missing, torn and unreadable ones are all a miss. Counts as a use of it, and so of the
    /// blobs and snapshots it names.
    pub fn record<T: DeserializeOwned>(&self, bucket: Bucket, key: &Key) -> Option<T> {
        let path = self.record_path(bucket, key);
        let mut file = File::open(&path).ok()?;
        let meta = file.metadata().ok()?;
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).ok()?.checked_add(1)?);
        file.read_to_end(&mut bytes).ok()?;
        let record = parse(&bytes)?;
        used::mark(&path, &meta);
        Some(record)
    }

    /// Writes a record, replacing what was there.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_record<T: Serialize>(&self, bucket: Bucket, key: &Key, value: &T) -> Result<(), StoreError> {
        let path = self.record_path(bucket, key);
        self.replace(&path, &to_bytes(value), true)
    }

    /// Writes a record without waiting for the disk. Whoever reads it never sees half of it while the system runs; after
    /// a power failure it may be gone or torn, which is a miss.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_record_unsynced<T: Serialize>(&self, bucket: Bucket, key: &Key, value: &T) -> Result<(), StoreError> {
        let path = self.record_path(bucket, key);
        self.replace(&path, &to_bytes(value), false)
    }

    /// Forgets a record.
    ///
    /// # Errors
    /// [`StoreError::Io`], but not for one that is not there.
    pub fn remove_record(&self, bucket: Bucket, key: &Key) -> Result<(), StoreError> {
        let path = self.record_path(bucket, key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_a_whole_record_is_a_miss() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("opens");
        let key = Key::of([&b"key"[..]]);
        assert_eq!(store.record::<u64>(Bucket::Files, &key), None);
        store.put_record(Bucket::Files, &key, &1234_u64).expect("puts");
        assert_eq!(store.record(Bucket::Files, &key), Some(1234_u64));
        assert_eq!(store.record::<u64>(Bucket::Layers, &key), None, "buckets are apart");
        assert_eq!(store.record::<String>(Bucket::Files, &key), None, "another meaning");

        let path = store.record_path(Bucket::Files, &key);
        let whole = fs::read(&path).expect("reads");
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).expect("writes");
            assert_eq!(store.record::<u64>(Bucket::Files, &key), None, "cut to {length} bytes");
        }
        fs::write(&path, vec![0; whole.len()]).expect("writes");
        assert_eq!(store.record::<u64>(Bucket::Files, &key), None, "zeros");
        store.put_record_unsynced(Bucket::Files, &key, &5_u64).expect("puts");
        assert_eq!(store.record(Bucket::Files, &key), Some(5_u64));
        store.remove_record(Bucket::Files, &key).expect("removes");
        store.remove_record(Bucket::Files, &key).expect("removes what is not there");
        assert_eq!(store.record::<u64>(Bucket::Files, &key), None);
    }

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        assert_ne!(Key::of([&b"ab"[..], b"c"]), Key::of([&b"a"[..], b"bc"]));
        assert_ne!(Key::of([&b"a"[..]]), Key::of([&b"a"[..], b""]));
    }
}
