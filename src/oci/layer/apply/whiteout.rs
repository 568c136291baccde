//! What removes things below.

use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, FileType, Mode, XattrFlags};

use super::ApplyError;
use super::create::Unpacker;
use super::parents::{Parent, Present, present};
use crate::layer::chain::{Chain, join};
use crate::layer::inode;
use crate::layer::ownership::Place;

impl Unpacker {
    /// Hides what the layers below have under a name. What this layer itself has there stays: a whiteout is about
    /// the layers below only, wherever in the archive it comes.
    pub(super) fn whiteout(&mut self, parent: &Parent, name: &[u8]) -> Result<(), ApplyError> {
        let path = join(&parent.path, name);
        let place = parent.place(name, &path);
        let result = present(place.directory, name).and_then(|found| match found {
            Present::Nothing => {
                Ok(rustix::fs::mknodat(place.directory, name, FileType::CharacterDevice, Mode::empty(), 0)?)
            }
            Present::Directory => self.make_opaque(place),
            // A file hides all below it by itself.
            Present::Whiteout | Present::Symlink | Present::Other => Ok(()),
        });
        result.map_err(|error| ApplyError::io(&path, error))
    }

    /// Hides what the layers below have in a directory.
    pub(super) fn opaque(&mut self, parent: &Parent) -> Result<(), ApplyError> {
        if parent.path.is_empty() {
            // Overlayfs merges roots whatever they are marked with.
            self.opaque_root = true;
            return Ok(());
        }
        self.make_opaque(parent.place(b".", &parent.path)).map_err(|error| ApplyError::io(&parent.path, error))
    }

    /// Marks a directory as hiding all below.
    pub(super) fn make_opaque(&self, place: Place<'_>) -> io::Result<()> {
        let path = inode::proc_path(place.directory, place.name);
        Ok(rustix::fs::lsetxattr(&path, self.overlay.opaque(), b"y", XattrFlags::empty())?)
    }

    /// Does for the root, name by name, what an opaque mark does for other directories.
    pub(super) fn hide_root(&mut self) -> Result<(), ApplyError> {
        if !self.opaque_root {
            return Ok(());
        }
        let level = self.lower.enter(&self.lower.root(), b"").map_err(ApplyError::Lower)?;
        let root = self.parent(b"", b"")?;
        for name in Chain::names(&level).map_err(ApplyError::Lower)? {
            if self.lower.lookup(&level, &name, &name).map_err(ApplyError::Lower)?.is_some() {
                self.whiteout(&root, &name)?;
            }
        }
        Ok(())
    }

    /// Removes what an earlier entry of this layer made, with all in it.
    pub(super) fn remove(&mut self, place: Place<'_>) -> io::Result<()> {
        self.last_parent = None;
        self.owners.forget(place.path);
        self.directory_times.remove(place.path);
        let (first, end) = ([place.path, b"/"].concat(), [place.path, b"0"].concat());
        // `0` follows `/`: the range is all that lies below.
        let gone: Vec<_> = self.directory_times.range(first..end).map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.directory_times.remove(&path);
        }
        remove_all(place.directory, place.name)
    }
}

fn remove_all(directory: std::os::fd::BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    use rustix::fs::OFlags;
    use rustix::io::Errno;

    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        result => return Ok(result?),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    for child in crate::layer::chain::names(inside.as_fd())? {
        remove_all(inside.as_fd(), &child)?;
    }
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}
