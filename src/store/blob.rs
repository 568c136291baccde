//! Content by digest.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci::{Digest, Hasher};

use crate::{Store, StoreError};

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
        if !path.exists() {
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

    /// The length of a blob that is there.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().map(|meta| meta.len())
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Io`].
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Missing(*digest),
            _ => StoreError::io("open", &path)(error),
        })
    }

    /// Reads a small blob and checks it.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Mismatch`], [`StoreError::Io`].
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let path = self.blob_path(digest);
        io::copy(&mut self.open_blob(digest)?, &mut bytes).map_err(StoreError::io("read", &path))?;
        let found = Digest::of(&bytes);
        if found == *digest { Ok(bytes) } else { Err(StoreError::Mismatch { expected: *digest, found }) }
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let file = tempfile::NamedTempFile::new_in(self.temp()).map_err(StoreError::io("create a file in", self.temp()))?;
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

    /// Writes `bytes` to `path` so that either the old content or the new is there, whatever happens.
    pub(crate) fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.replace(path, bytes, true)
    }

    /// As [`Store::write_atomically`]; without `sync`, a power failure may leave the file torn.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8], sync: bool) -> Result<(), StoreError> {
        let parent = path.parent().expect("paths in the store have a parent");
        fs::create_dir_all(parent).map_err(StoreError::io("create", parent))?;
        let mut file =
            tempfile::NamedTempFile::new_in(self.temp()).map_err(StoreError::io("create a file in", self.temp()))?;
        file.write_all(bytes).map_err(StoreError::io("write", path))?;
        if sync {
            file.as_file().sync_data().map_err(StoreError::io("sync", path))?;
        }
        file.persist(path).map_err(|error| StoreError::io("write", path)(error.error))?;
        Ok(())
    }
}
