//! Small facts derived from content, by key.

use std::fs;
use std::io::Write as _;

use oci::Digest;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Store, StoreError};

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
}

impl Bucket {
    pub(crate) const ALL: [Self; 7] =
        [Self::Downloads, Self::Vertices, Self::Contents, Self::Layers, Self::Bases, Self::Files, Self::Images];

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

impl Store {
    fn record_path(&self, bucket: Bucket, key: &Key) -> std::path::PathBuf {
        let hex = key.hex();
        self.root().join("records").join(bucket.directory()).join(&hex[..2]).join(&hex[2..])
    }

    /// The record under `key`. Missing, torn and unreadable ones are all a miss.
    pub fn record<T: DeserializeOwned>(&self, bucket: Bucket, key: &Key) -> Option<T> {
        let bytes = fs::read(self.record_path(bucket, key)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes a record, replacing what was there.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_record<T: Serialize>(&self, bucket: Bucket, key: &Key, value: &T) -> Result<(), StoreError> {
        let path = self.record_path(bucket, key);
        let bytes = serde_json::to_vec(value).expect("records serialise");
        self.write_atomically(&path, &bytes)
    }

    /// Writes a record without waiting for the disk. Whoever reads it never sees half of it while the system runs; after
    /// a power failure it may be gone or torn, which is a miss.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_record_unsynced<T: Serialize>(&self, bucket: Bucket, key: &Key, value: &T) -> Result<(), StoreError> {
        let path = self.record_path(bucket, key);
        let bytes = serde_json::to_vec(value).expect("records serialise");
        self.replace(&path, &bytes, false)
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
