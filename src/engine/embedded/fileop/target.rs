//! The tree that actions change: making things in it, with owners and times as they have to be.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use oci::layer::Snapshot;
use oci::layer::ownership::{OWNER, Owner, Owners, Ownership, Place};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::error::{FileOpError, shown};
use super::file::{copy_attributes, copy_content, is_refusal, proc_path, times};
use super::share::Sharing;
use crate::embedded::mount::{Root, is, xattr};

/// A tree being changed.
pub(super) struct Target<'a> {
    pub(super) root: Root<'a>,
    pub(super) owners: Owners,
    /// The modification time of what has none of its own, and the latest a directory keeps.
    pub(super) epoch: Timespec,
    /// Where copies may be further names of files of snapshots.
    pub(super) sharing: Option<Sharing>,
    ownership: Ownership,
    snapshot: &'a Snapshot,
    /// Directories in which something appeared or disappeared, which moved their modification time to now.
    touched: BTreeSet<PathBuf>,
}

/// How a directory is made where it is not there.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewDirectory {
    pub(super) mode: u32,
    pub(super) owner: Option<Owner>,
    pub(super) time: Option<Timespec>,
}

impl<'a> Target<'a> {
    pub(super) fn open(
        root: Root<'a>,
        snapshot: &'a Snapshot,
        ownership: Ownership,
        epoch: Timespec,
    ) -> Result<Self, FileOpError> {
        let owners = Owners::open(snapshot, ownership).map_err(FileOpError::io("read the owners of", Path::new("")))?;
        Ok(Self { root, owners, epoch, sharing: None, ownership, snapshot, touched: BTreeSet::new() })
    }

    /// Whether owners are carried by files or recorded beside them.
    pub(super) fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// Where an action's path leads when all its links are followed.
    pub(super) fn resolve(&self, path: &str) -> Result<PathBuf, FileOpError> {
        self.root.resolve(Path::new(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => FileOpError::NotDirectory(self.file_on(Path::new(path))),
            _ => FileOpError::io("look for", Path::new(path))(error),
        })
    }

    /// The part of a path that leads to a file instead of a directory.
    fn file_on(&self, path: &Path) -> String {
        let leads_to_file = |path: &&Path| {
            let stat = self.root.resolve(path).and_then(|path| self.root.stat(&path));
            stat.is_ok_and(|stat| !is(&stat, FileType::Directory))
        };
        shown(path.ancestors().find(leads_to_file).unwrap_or(path))
    }

    /// Settles directory times, and writes down owners that files cannot carry.
    pub(super) fn finish(mut self) -> Result<(), FileOpError> {
        self.settle()?;
        self.owners.save(self.snapshot).map_err(FileOpError::io("record the owners of", Path::new("")))
    }

    /// Takes directories whose time has moved back to the epoch: when this ran is nobody's business.
    pub(super) fn settle(&mut self) -> Result<(), FileOpError> {
        for path in std::mem::take(&mut self.touched) {
            let Ok(stat) = self.root.stat(&path) else { continue };
            if is(&stat, FileType::Directory) && stat.st_mtime >= self.epoch.tv_sec {
                self.set_time(&path, self.epoch)?;
            }
        }
        Ok(())
    }

    /// Notes that something appears or disappears in a directory.
    pub(super) fn touch(&mut self, directory: &Path) {
        if !self.touched.contains(directory) {
            self.touched.insert(directory.to_owned());
        }
    }

    /// The directory's time is set by somebody else.
    pub(super) fn untouch(&mut self, directory: &Path) {
        self.touched.remove(directory);
    }

    /// What lies at a resolved path, links not followed.
    pub(super) fn stat(&self, path: &Path) -> Result<Option<Stat>, FileOpError> {
        match self.root.stat(path) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileOpError::io("look at", path)(error)),
        }
    }

    /// The directory of a resolved path, opened, and the path's last name. The root is `.` in itself.
    pub(super) fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), FileOpError> {
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent, name),
            _ => (Path::new(""), OsStr::new(".")),
        };
        Ok((self.directory(parent)?, name))
    }

    /// A resolved directory, opened as a path.
    pub(super) fn directory(&self, path: &Path) -> Result<OwnedFd, FileOpError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        self.root.open(path, flags, Mode::empty()).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => FileOpError::NotDirectory(shown(path)),
            io::ErrorKind::NotFound => FileOpError::NotFound(shown(path)),
            _ => FileOpError::io("open", path)(error),
        })
    }

    /// Makes a directory and those above it where they are not there. Gives those made, outermost first.
    pub(super) fn make_directories(&mut self, path: &Path, new: NewDirectory) -> Result<Vec<PathBuf>, FileOpError> {
        let mut missing = Vec::new();
        for path in path.ancestors() {
            match self.root.stat(path) {
                Ok(stat) if is(&stat, FileType::Directory) => break,
                Ok(_) => return Err(FileOpError::NotDirectory(shown(path))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(path.to_owned()),
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                Err(error) => return Err(FileOpError::io("look at", path)(error)),
            }
        }
        missing.reverse();
        for path in &missing {
            self.make_directory(path, new)?;
        }
        Ok(missing)
    }

    /// Makes one directory.
    pub(super) fn make_directory(&mut self, path: &Path, new: NewDirectory) -> Result<(), FileOpError> {
        let (parent, name) = self.parent(path)?;
        let mode = Mode::from_raw_mode(new.mode & 0o777);
        rustix::fs::mkdirat(&parent, name, mode).map_err(FileOpError::io("create", path))?;
        let made = self.directory_for_reading(path)?;
        // Whatever the umask, but with the set-group-id bit that comes from the directory above.
        let inherited = rustix::fs::fstat(&made).map_err(FileOpError::io("look at", path))?;
        let inherited = Mode::from_raw_mode(inherited.st_mode) & Mode::SGID;
        rustix::fs::fchmod(&made, mode | inherited).map_err(FileOpError::io("set the mode of", path))?;
        if let Some(owner) = new.owner {
            self.set_owner(parent.as_fd(), name, path, owner)?;
        }
        self.touch(path.parent().unwrap_or(Path::new("")));
        self.set_time(path, new.time.unwrap_or(self.epoch))
    }

    pub(super) fn directory_for_reading(&self, path: &Path) -> Result<OwnedFd, FileOpError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        self.root.open(path, flags, Mode::empty()).map_err(FileOpError::io("open", path))
    }

    pub(super) fn set_owner(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        owner: Owner,
    ) -> Result<(), FileOpError> {
        let place = Place { directory, name: name.as_bytes(), path: path.as_os_str().as_bytes() };
        self.owners.set(place, owner).map_err(FileOpError::io("set the owner of", path))
    }

    /// Sets both times of what lies at a resolved path, links not followed.
    pub(super) fn set_time(&self, path: &Path, time: Timespec) -> Result<(), FileOpError> {
        let (parent, name) = self.parent(path)?;
        set_times(parent.as_fd(), name, path, &Timestamps { last_access: time, last_modification: time })
    }

    /// Makes a file that is about to be changed in place the tree's own, if it is a snapshot's as well.
    pub(super) fn unshare(&mut self, path: &Path) -> Result<(), FileOpError> {
        let Some(stat) = self.stat(path)? else { return Ok(()) };
        if !self.sharing.as_ref().is_some_and(|sharing| sharing.is_shared(&stat)) {
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        let mut copy = name.to_owned();
        copy.push(".clawbuild-copy");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut replace = || -> io::Result<()> {
            let from =
                rustix::fs::openat(&parent, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let to = rustix::fs::openat(&parent, &copy, flags, Mode::from_raw_mode(0o600))?;
            copy_content(&from, &to, stat.st_size.cast_unsigned())?;
            let place = Place { directory: parent.as_fd(), name: copy.as_bytes(), path: path.as_os_str().as_bytes() };
            let reachable = proc_path(parent.as_fd(), name);
            let owner = recorded_owner(&reachable)?.unwrap_or(Owner { uid: stat.st_uid, gid: stat.st_gid });
            self.owners.set(place, owner)?;
            rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
            copy_attributes(&reachable, &mut self.owners, place)?;
            rustix::fs::futimens(&to, &times(&stat))?;
            Ok(rustix::fs::renameat(&parent, &copy, &parent, name)?)
        };
        replace().map_err(FileOpError::io("copy", path))
    }

    /// Removes what lies at a resolved path, and everything below it. Nothing there is fine.
    pub(super) fn remove(&mut self, path: &Path) -> Result<(), FileOpError> {
        let (parent, name) = self.parent(path)?;
        remove_below(parent.as_fd(), name).map_err(FileOpError::io("remove", path))?;
        self.owners.forget(path.as_os_str().as_bytes());
        self.touch(path.parent().unwrap_or(Path::new("")));
        Ok(())
    }
}

/// The owner that is recorded on a file.
pub(super) fn recorded_owner(reachable: &Path) -> io::Result<Option<Owner>> {
    let name = std::ffi::CString::new(OWNER)?;
    match xattr::read(reachable, &name) {
        Ok(value) => Ok(Owner::parse(&value)),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn set_times(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    times: &Timestamps,
) -> Result<(), FileOpError> {
    rustix::fs::utimensat(directory, name, times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(FileOpError::io("set the times of", path))
}

fn remove_below(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // `PERM` is what some filesystems say for a directory.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&inside)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove_below(inside.as_fd(), OsStr::from_bytes(entry.file_name().to_bytes()))?;
        }
    }
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}
