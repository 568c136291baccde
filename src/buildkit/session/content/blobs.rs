//! Where the blobs lie that are served.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use engine::Layout;
use oci::Digest;
use rustix::fs::{CWD, Mode, OFlags};
use store::{Store, StoreError};

/// A place that holds blobs.
#[derive(Clone, Debug)]
pub(super) enum Blobs {
    /// clawbuild's own store.
    Store(Store),
    /// The directory of an OCI layout.
    Directory(PathBuf),
}

impl From<Layout> for Blobs {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::Store(store) => Self::Store(store),
            Layout::Directory(path) => Self::Directory(path),
        }
    }
}

impl Blobs {
    /// Opens a blob, and gives its length. It is not checked: who reads it does that.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] for one that is not there, and what the system says.
    pub(super) fn open(&self, digest: &Digest) -> io::Result<(File, u64)> {
        let file = match self {
            Self::Store(store) => store.open_blob(digest).map_err(|error| match error {
                StoreError::Io { source, .. } => source,
                error => io::Error::new(io::ErrorKind::NotFound, error.to_string()),
            })?,
            Self::Directory(path) => {
                // Whoever made the layout may have put a link there that leads to something else, or a pipe.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let path = path.join("blobs/sha256").join(digest.hex());
                File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
            }
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file"));
        }
        Ok((file, metadata.len()))
    }
}
