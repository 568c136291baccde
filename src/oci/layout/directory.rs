//! Layouts written as directories.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Images, LayoutError, MARK, blob_path};
use crate::{Digest, Document as _};

impl Images<'_> {
    /// Writes a layout directory that holds these images and nothing else. It appears, or changes, in one step; one
    /// that is right already is left alone. Blobs are links to the source's files where that has any on this disk.
    ///
    /// # Errors
    /// [`LayoutError::Foreign`] rather than replacing anything but a layout, and those of reading and writing.
    pub fn write_directory(&self, destination: &Path) -> Result<(), LayoutError> {
        let index = self.index().to_bytes();
        if self.is_at(destination, &index) {
            return Ok(());
        }
        if destination.symlink_metadata().is_ok() && !is_replaceable(destination) {
            return Err(LayoutError::Foreign { path: destination.display().to_string() });
        }
        let parent = parent(destination);
        fs::create_dir_all(parent).map_err(LayoutError::io("create", parent))?;
        let made = tempfile::Builder::new().prefix(".clawbuild-").tempdir_in(parent);
        let made = made.map_err(LayoutError::io("create a directory in", parent))?;
        self.fill(made.path(), &index)?;
        fs::set_permissions(made.path(), fs::Permissions::from_mode(0o755))
            .map_err(LayoutError::io("write", made.path()))?;
        let fail = LayoutError::io("write", destination);
        if destination.exists() {
            // What was there takes the new one's place, and is removed with it.
            return renameat_with(CWD, made.path(), CWD, destination, RenameFlags::EXCHANGE)
                .map_err(|error| fail(error.into()));
        }
        fs::rename(made.path(), destination).map_err(fail)?;
        // It has its name now: there is nothing to remove any more.
        let _ = made.keep();
        Ok(())
    }

    fn fill(&self, directory: &Path, index: &[u8]) -> Result<(), LayoutError> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(LayoutError::io("create", &blobs))?;
        for (digest, &size) in &self.blobs {
            self.place(digest, size, &blobs.join(digest.hex()))?;
        }
        for (name, bytes) in [(MARK.0, MARK.1.as_bytes()), ("index.json", index)] {
            let path = directory.join(name);
            let written = File::create(&path).and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            });
            written.map_err(LayoutError::io("write", &path))?;
        }
        let synced = File::open(&blobs).and_then(|blobs| blobs.sync_all());
        synced.map_err(LayoutError::io("write", &blobs))
    }

    fn place(&self, digest: &Digest, size: u64, to: &Path) -> Result<(), LayoutError> {
        let linked = self.source.path(digest).is_some_and(|from| fs::hard_link(from, to).is_ok());
        if linked {
            return Ok(());
        }
        let mut file = File::create(to).map_err(LayoutError::io("create", to))?;
        self.copy(digest, size, &mut file)?;
        let finish = || {
            file.set_permissions(fs::Permissions::from_mode(0o444))?;
            file.sync_all()
        };
        finish().map_err(LayoutError::io("write", to))
    }

    fn is_at(&self, directory: &Path, index: &[u8]) -> bool {
        let whole = |(digest, size): (&Digest, &u64)| {
            fs::metadata(directory.join(blob_path(digest))).is_ok_and(|metadata| metadata.len() == *size)
        };
        fs::read(directory.join("index.json")).is_ok_and(|found| found == index)
            && directory.join(MARK.0).is_file()
            && self.blobs.iter().all(whole)
    }
}

/// Only layouts and empty directories are: a mistyped destination must not cost anybody their files.
fn is_replaceable(directory: &Path) -> bool {
    let empty = || fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    !directory.is_symlink() && directory.is_dir() && (directory.join(MARK.0).is_file() || empty())
}

pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
