//! Content by digest.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci::{Digest, Hasher};

use crate::{Store, StoreError, used};

/// Content that is whole and in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Writes one blob. Dropped without [`BlobWriter::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: PathBuf,
    file: Hasher<tempfile::NamedTempFile>,
}

impl BlobWriter {
    /// Gives the content its name, after checking it against `expected` where that is known.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`], [`StoreError::Io`].
    pub fn commit(self, expected: Option<&Digest>) -> Result<Committed, StoreError> {
        let (file, digest, size) = self.file.into_parts();
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(StoreError::Mismatch { expected: *expected, found: digest });
        }
        let path = self.blobs.join(digest.hex());
        // One of another length was cut short by a crash or a failing disk: it is replaced.
        let there = fs::metadata(&path).is_ok_and(|meta| meta.len() == size);
        if !there {
            file.as_file().sync_data().map_err(StoreError::io("sync", file.path()))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o444);
            file.as_file().set_permissions(mode).map_err(StoreError::io("write", file.path()))?;
            file.persist(&path).map_err(|error| StoreError::io("write", &path)(error.error))?;
        }
        Ok(Committed { digest, size })
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Store {
    /// Where the blob lies, or would.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// The length of a blob that is there. Counts as a use of it.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        let path = self.blob_path(digest);
        let meta = fs::metadata(&path).ok()?;
        used::mark(&path, &meta);
        Some(meta.len())
    }

    /// Opens a blob for reading. Counts as a use of it.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Io`].
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.blob_path(digest);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Missing(*digest),
            _ => StoreError::io("open", &path)(error),
        })?;
        if let Ok(meta) = file.metadata() {
            used::mark(&path, &meta);
        }
        Ok(file)
    }

    /// Reads a small blob and checks it. One that is not what its digest says is removed, so that it is made or
    /// fetched anew.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Mismatch`], [`StoreError::Io`].
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let path = self.blob_path(digest);
        io::copy(&mut self.open_blob(digest)?, &mut bytes).map_err(StoreError::io("read", &path))?;
        let found = Digest::of(&bytes);
        if found == *digest { Ok(bytes) } else { Err(self.discard(digest, found)) }
    }

    /// Reads a blob through and checks it; gives its length. One that is not what its digest says is removed.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Mismatch`], [`StoreError::Io`].
    pub fn verify_blob(&self, digest: &Digest) -> Result<u64, StoreError> {
        let path = self.blob_path(digest);
        let (found, size) = Digest::of_reader(&mut self.open_blob(digest)?).map_err(StoreError::io("read", &path))?;
        if found == *digest { Ok(size) } else { Err(self.discard(digest, found)) }
    }

    fn discard(&self, digest: &Digest, found: Digest) -> StoreError {
        // Should it stay, the error says the same when it is read again.
        let _ = fs::remove_file(self.blob_path(digest));
        StoreError::Mismatch { expected: *digest, found }
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let temp = self.temp_directory()?;
        let file = tempfile::NamedTempFile::new_in(temp).map_err(StoreError::io("create a file in", temp))?;
        Ok(BlobWriter { blobs: self.blobs(), file: Hasher::new(file) })
    }

    /// Stores these bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Committed, StoreError> {
        let digest = Digest::of(bytes);
        if self.blob_size(&digest) == Some(bytes.len() as u64) {
            return Ok(Committed { digest, size: bytes.len() as u64 });
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(StoreError::io("write to", self.temp()))?;
        writer.commit(Some(&digest))
    }

    /// Writes `bytes` to `path` so that either the old content or the new is there, whatever happens to the process.
    /// Without `sync`, a power failure may leave the file torn.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8], sync: bool) -> Result<(), StoreError> {
        let parent = path.parent().expect("paths in the store have a parent");
        fs::create_dir_all(parent).map_err(StoreError::io("create", parent))?;
        let temp = self.temp_directory()?;
        let mut file = tempfile::NamedTempFile::new_in(temp).map_err(StoreError::io("create a file in", temp))?;
        file.write_all(bytes).map_err(StoreError::io("write", path))?;
        if sync {
            file.as_file().sync_data().map_err(StoreError::io("sync", path))?;
        }
        file.persist(path).map_err(|error| StoreError::io("write", path)(error.error))?;
        Ok(())
    }
}

/// What layouts and archives are written from. Blobs are read-only files that never change, so a layout on the same
/// disk may link to them.
impl oci::layout::BlobSource for Store {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn io::Read + Send + '_>> {
        match self.open_blob(digest) {
            Ok(file) => Ok(Box::new(file)),
            Err(StoreError::Io { source, .. }) => Err(source),
            Err(error) => Err(io::Error::new(io::ErrorKind::NotFound, error.to_string())),
        }
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.blob_path(digest))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("opens");
        (directory, store)
    }

    /// Puts other bytes where a blob lies.
    fn damage(store: &Store, digest: &Digest, bytes: &[u8]) {
        let path = store.blob_path(digest);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("sets");
        fs::write(&path, bytes).expect("writes");
    }

    #[test]
    fn only_what_matches_is_committed_and_nothing_else_stays() {
        let (_directory, store) = store();
        let mut writer = store.blob_writer().expect("begins");
        writer.write_all(b"other").expect("writes");
        let expected = Digest::of("content");
        assert!(matches!(writer.commit(Some(&expected)), Err(StoreError::Mismatch { .. })));
        let mut dropped = store.blob_writer().expect("begins");
        dropped.write_all(b"half").expect("writes");
        drop(dropped);
        assert_eq!(fs::read_dir(store.temp()).expect("lists").count(), 0);
        assert_eq!(store.blob_size(&expected), None);
        assert!(matches!(store.open_blob(&expected), Err(StoreError::Missing(missing)) if missing == expected));

        let committed = store.put_blob(b"content").expect("puts");
        assert_eq!(committed, Committed { digest: expected, size: 7 });
        assert_eq!(store.read_blob(&expected).expect("reads"), b"content");
        assert_eq!(store.verify_blob(&expected).expect("verifies"), 7);
    }

    #[test]
    fn a_truncated_blob_is_replaced_and_a_corrupt_one_removed() {
        let (_directory, store) = store();
        let digest = store.put_blob(b"content").expect("puts").digest;
        damage(&store, &digest, b"con");
        store.put_blob(b"content").expect("puts");
        assert_eq!(store.read_blob(&digest).expect("reads"), b"content");

        damage(&store, &digest, b"c0ntent");
        assert!(matches!(store.read_blob(&digest), Err(StoreError::Mismatch { .. })));
        assert_eq!(store.blob_size(&digest), None);
        store.put_blob(b"content").expect("puts");
        damage(&store, &digest, b"c0ntent");
        assert!(matches!(store.verify_blob(&digest), Err(StoreError::Mismatch { .. })));
        assert_eq!(store.blob_size(&digest), None);
    }
}
