//! Entries made into files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::parents::{Parent, Present, present};
use super::{ApplyError, Meaning, Options, OverlayXattrs, text};
use crate::layer::chain::{Chain, Tree, join};
use crate::layer::inode::{self, DeviceKind};
use crate::layer::ownership::{CAPABILITY, Owner, Owners, Place};
use crate::layer::snapshot::Snapshot;
use crate::layer::tar::{Entry, Kind, TarError, split};

/// A layer being unpacked.
pub(super) struct Unpacker {
    pub(super) root: OwnedFd,
    /// The root as the kernel names it.
    pub(super) root_path: PathBuf,
    pub(super) lower: Chain,
    pub(super) owners: Owners,
    pub(super) overlay: OverlayXattrs,
    /// Times of directories, to be set when all is in them.
    pub(super) directory_times: BTreeMap<Vec<u8>, Time>,
    /// The directory the last entry lay in: the next one's, mostly.
    pub(super) last_parent: Option<(Vec<u8>, Parent)>,
    pub(super) opaque_root: bool,
    buffer: Vec<u8>,
}

const COPY_BUFFER: usize = 128 * 1024;

impl Unpacker {
    pub(super) fn new(snapshot: &Snapshot, options: &Options<'_>) -> Result<Self, ApplyError> {
        let lower = options.lower.iter().map(Tree::open).collect::<io::Result<_>>().map_err(ApplyError::Lower)?;
        let open = || -> io::Result<_> {
            let fs_path = snapshot.fs();
            match rustix::fs::mkdirat(CWD, &fs_path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let root = rustix::fs::openat(CWD, &fs_path, flags, Mode::empty())?;
            rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755))?;
            Ok((root, fs::canonicalize(&fs_path)?, Owners::open(snapshot, options.ownership)?))
        };
        let (root, root_path, owners) = open().map_err(|error| ApplyError::io(b"/", error))?;
        Ok(Self {
            root,
            root_path,
            lower: Chain::new(lower),
            owners,
            overlay: options.overlay,
            directory_times: BTreeMap::new(),
            last_parent: None,
            opaque_root: false,
            buffer: vec![0; COPY_BUFFER],
        })
    }

    /// Unpacks one entry; `content` is a file's.
    pub(super) fn unpack(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), ApplyError> {
        let (parent, meaning) = Meaning::of(entry)?;
        match meaning {
            Meaning::Ignored => Ok(()),
            Meaning::Opaque => {
                let parent = self.parent(parent, &entry.path)?;
                self.opaque(&parent)
            }
            Meaning::Whiteout(name) => {
                let parent = self.parent(parent, &entry.path)?;
                self.whiteout(&parent, name)
            }
            Meaning::Member(name) => {
                let parent = self.parent(parent, &entry.path)?;
                self.member(&parent, name, entry, content)
            }
        }
    }

    /// Ends the layer: what had to wait until everything is there.
    pub(super) fn finish(mut self, snapshot: &Snapshot) -> Result<(), ApplyError> {
        self.hide_root()?;
        self.set_directory_times()?;
        self.owners.save(snapshot).map_err(|error| ApplyError::io(b"/", error))
    }

    fn member(
        &mut self,
        parent: &Parent,
        name: &[u8],
        entry: &Entry,
        content: &mut dyn Read,
    ) -> Result<(), ApplyError> {
        let path = join(&parent.path, name);
        let place = parent.place(name, &path);
        let fail = |error: io::Error| ApplyError::io(&path, error);
        let before = present(place.directory, name).map_err(fail)?;
        let merges = before == Present::Directory && entry.kind == Kind::Directory;
        if before != Present::Nothing && !merges {
            self.remove(place).map_err(fail)?;
        }
        match &entry.kind {
            Kind::File { .. } => return self.file(place, entry, content),
            Kind::HardLink { target } => return self.hard_link(place, entry, target),
            Kind::Directory if merges => Ok(()),
            Kind::Directory => self.directory(place, before),
            Kind::Symlink { target } => {
                let made = rustix::fs::symlinkat(&target[..], place.directory, name).map_err(io::Error::from);
                let owner = Owner { uid: entry.uid, gid: entry.gid };
                let owned = made.and_then(|()| self.owners.set(place, owner));
                return owned.and_then(|()| set_mtime(place.directory, name, time(entry))).map_err(fail);
            }
            Kind::CharDevice(device) => self.owners.make_device(place, DeviceKind::Char, *device, 0o600),
            Kind::BlockDevice(device) => self.owners.make_device(place, DeviceKind::Block, *device, 0o600),
            Kind::Fifo => rustix::fs::mkfifoat(place.directory, name, Mode::empty()).map_err(io::Error::from),
        }
        .and_then(|()| self.attributes(place, entry))
        .map_err(fail)?;
        if entry.kind == Kind::Directory {
            self.directory_times.insert(path, time(entry));
        }
        Ok(())
    }

    fn directory(&self, place: Place<'_>, before: Present) -> io::Result<()> {
        rustix::fs::mkdirat(place.directory, place.name, Mode::RWXU)?;
        match before {
            Present::Nothing | Present::Directory => Ok(()),
            // What this layer had here hid the lower layers' directory, and so must this.
            Present::Whiteout | Present::Symlink | Present::Other => self.make_opaque(place),
        }
    }

    fn file(&mut self, place: Place<'_>, entry: &Entry, content: &mut dyn Read) -> Result<(), ApplyError> {
        let fail = |error: io::Error| ApplyError::io(place.path, error);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(place.directory, place.name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(file.map_err(|error| fail(error.into()))?);
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(TarError::from_read(error).into()),
            };
            file.write_all(&self.buffer[..count]).map_err(fail)?;
        }
        self.attributes(place, entry).and_then(|()| Ok(rustix::fs::futimens(&file, &times(time(entry)))?)).map_err(fail)
    }

    fn hard_link(&mut self, place: Place<'_>, entry: &Entry, target: &[u8]) -> Result<(), ApplyError> {
        let fail = |error: io::Error| ApplyError::io(place.path, error);
        let missing = || ApplyError::HardLink { path: text(&entry.path), target: text(target) };
        let (above, name) = split(target);
        if name.is_empty() {
            return Err(missing());
        }
        let parent = self.existing_parent(above)?.ok_or_else(missing)?;
        let kind = present(parent.fd.as_fd(), name).map_err(fail)?;
        match kind {
            Present::Symlink | Present::Other => {}
            Present::Nothing | Present::Directory | Present::Whiteout => return Err(missing()),
        }
        let linked = rustix::fs::linkat(&parent.fd, name, place.directory, place.name, AtFlags::empty());
        linked.map_err(|error| fail(error.into()))?;
        self.owners.link(&join(&parent.path, name), place.path);
        let set = if kind == Present::Symlink {
            self.owners.set(place, Owner { uid: entry.uid, gid: entry.gid })
        } else {
            self.attributes(place, entry)
        };
        set.and_then(|()| set_mtime(place.directory, place.name, time(entry))).map_err(fail)
    }

    /// Owner, extended attributes and mode, in the order in which one does not undo the other; then the time of all
    /// but directories.
    fn attributes(&mut self, place: Place<'_>, entry: &Entry) -> io::Result<()> {
        self.owners.set(place, Owner { uid: entry.uid, gid: entry.gid })?;
        for (name, value) in &entry.xattrs {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            if name == CAPABILITY {
                self.owners.set_capability(place, value)?;
            } else if is_restored(name) {
                set_user_xattr(place, name, value)?;
            }
        }
        rustix::fs::chmodat(place.directory, place.name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        match entry.kind {
            // A directory's is set at the end, a file's on its descriptor, a link's after this.
            Kind::Directory | Kind::File { .. } | Kind::HardLink { .. } => Ok(()),
            Kind::Symlink { .. } | Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo => {
                set_mtime(place.directory, place.name, time(entry))
            }
        }
    }
}

/// Attributes that belong to the file and not to the machine, and that steer nobody.
fn is_restored(name: &str) -> bool {
    name.starts_with("user.") && !name.starts_with("user.overlay.") && !name.starts_with("user.clawbuild.")
}

fn set_user_xattr(place: Place<'_>, name: &str, value: &[u8]) -> io::Result<()> {
    let path = inode::proc_path(place.directory, place.name);
    match rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty()) {
        // The filesystem has none, or not on pipes and devices.
        Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        result => Ok(result?),
    }
}

/// Seconds since 1970, and nanoseconds after them.
pub(super) type Time = (i64, u32);

fn time(entry: &Entry) -> Time {
    (entry.mtime, entry.nanoseconds)
}

/// Both times: an access time would tell when the layer was unpacked.
fn times((seconds, nanoseconds): Time) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

pub(super) fn set_mtime(directory: BorrowedFd<'_>, name: &[u8], mtime: Time) -> io::Result<()> {
    Ok(rustix::fs::utimensat(directory, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}
