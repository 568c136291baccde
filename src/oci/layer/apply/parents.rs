//! Finding, and where need be making, the directory an entry belongs in.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::create::Unpacker;
use super::{ApplyError, text};
use crate::layer::chain::join;
use crate::layer::inode::{Inode, WHITEOUT};
use crate::layer::ownership::{Owner, Place};
use crate::layer::tar::{Device, split};

const PATH_DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory in the snapshot, open as a path.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    pub(super) fd: Rc<OwnedFd>,
    /// Where it really lies: without any symbolic links the entry's own path may have gone through.
    pub(super) path: Rc<[u8]>,
}

impl Parent {
    /// Where `name` lies in it, given the whole path it has.
    pub(super) fn place<'a>(&'a self, name: &'a [u8], path: &'a [u8]) -> Place<'a> {
        Place { directory: self.fd.as_fd(), name, path }
    }
}

/// What is in the way, or not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Present {
    Nothing,
    Directory,
    Symlink,
    Whiteout,
    Other,
}

/// What lies under a name, not followed.
pub(super) fn present(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Present> {
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Present::Nothing),
        Err(error) => return Err(error.into()),
    };
    let device = Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Present::Directory,
        FileType::Symlink => Present::Symlink,
        FileType::CharacterDevice if device == WHITEOUT => Present::Whiteout,
        _ => Present::Other,
    })
}

impl Unpacker {
    /// The directory at `path`, made where it is not there. `entry` is what it is wanted for.
    pub(super) fn parent(&mut self, path: &[u8], entry: &[u8]) -> Result<Parent, ApplyError> {
        if let Some((last, parent)) = &self.last_parent
            && last == path
        {
            return Ok(parent.clone());
        }
        let parent = match self.open(path) {
            Ok(fd) => Parent { fd: Rc::new(fd), path: path.into() },
            // Not there, or reached through links.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => self.make_parents(path, entry)?,
            Err(error) => return Err(ApplyError::io(path, error)),
        };
        self.last_parent = Some((path.to_vec(), parent.clone()));
        Ok(parent)
    }

    /// The directory at `path` if it is there; symbolic links are followed inside the snapshot.
    pub(super) fn existing_parent(&self, path: &[u8]) -> Result<Option<Parent>, ApplyError> {
        match self.open(path) {
            Ok(fd) => Ok(Some(Parent { fd: Rc::new(fd), path: path.into() })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => match self.follow(path) {
                Ok(parent) => Ok(Some(parent)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                Err(error) => Err(ApplyError::io(path, error)),
            },
            Err(error) => Err(ApplyError::io(path, error)),
        }
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.root, path, PATH_DIRECTORY, Mode::empty(), resolve)
    }

    /// Opens a directory through symbolic links, all of which are taken to start at the snapshot's root.
    fn follow(&self, path: &[u8]) -> Result<Parent, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(&self.root, path, PATH_DIRECTORY, Mode::empty(), resolve)?;
        let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let real = real.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let below = real.strip_prefix(&self.root_path).map_err(|_| Errno::XDEV)?;
        Ok(Parent { fd: Rc::new(fd), path: below.as_os_str().as_bytes().into() })
    }

    /// Goes down one name at a time.
    fn make_parents(&mut self, path: &[u8], entry: &[u8]) -> Result<Parent, ApplyError> {
        let root = self.open(b"").map_err(|error| ApplyError::io(path, error))?;
        let mut parent = Parent { fd: Rc::new(root), path: Rc::from(&b""[..]) };
        for name in path.split(|&byte| byte == b'/') {
            let here = join(&parent.path, name);
            let fail = |error: io::Error| ApplyError::io(&here, error);
            let blocked = || ApplyError::Parent { path: text(entry), parent: text(&here) };
            match present(parent.fd.as_fd(), name).map_err(fail)? {
                Present::Directory => {}
                Present::Symlink => {
                    parent = self.follow(&here).map_err(|_| blocked())?;
                    continue;
                }
                Present::Nothing => self.make_parent(&parent, name, &here)?,
                Present::Whiteout => {
                    rustix::fs::unlinkat(&parent.fd, name, AtFlags::empty()).map_err(|error| fail(error.into()))?;
                    self.make_parent(&parent, name, &here)?;
                    self.make_opaque(parent.place(name, &here)).map_err(fail)?;
                }
                Present::Other => return Err(blocked()),
            }
            let fd = rustix::fs::openat(&parent.fd, name, PATH_DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
            let fd = fd.map_err(|error| fail(error.into()))?;
            parent = Parent { fd: Rc::new(fd), path: here.as_slice().into() };
        }
        Ok(parent)
    }

    /// Makes a directory that has no entry, like the one below that it stands for.
    fn make_parent(&mut self, parent: &Parent, name: &[u8], path: &[u8]) -> Result<(), ApplyError> {
        let below = self.lower.find(path).map_err(ApplyError::Lower)?.filter(|found| found.inode.is_directory());
        let (mode, owner, mtime) = match &below {
            Some(found) => {
                let Inode { mode, owner, mtime, mtime_nanoseconds, .. } = &found.inode;
                (*mode, *owner, (*mtime, *mtime_nanoseconds))
            }
            None => (0o755, Owner::ROOT, (0, 0)),
        };
        let place = parent.place(name, path);
        let made = rustix::fs::mkdirat(place.directory, name, Mode::RWXU).map_err(io::Error::from);
        made.and_then(|()| self.owners.set(place, owner))
            .and_then(|()| Ok(rustix::fs::chmodat(place.directory, name, Mode::from_raw_mode(mode), AtFlags::empty())?))
            .map_err(|error| ApplyError::io(path, error))?;
        self.directory_times.insert(path.to_vec(), mtime);
        Ok(())
    }

    /// Sets the times of all directories, which only now nothing is added to any more.
    pub(super) fn set_directory_times(&mut self) -> Result<(), ApplyError> {
        for (path, &mtime) in &self.directory_times {
            let (above, name) = split(path);
            let set = self
                .open(above)
                .map_err(io::Error::from)
                .and_then(|fd| super::create::set_mtime(fd.as_fd(), name, mtime));
            set.map_err(|error| ApplyError::io(path, error))?;
        }
        // The root has no entry: its time must not tell when it was unpacked.
        super::create::set_mtime(self.root.as_fd(), b".", (0, 0)).map_err(|error| ApplyError::io(b"", error))
    }
}
