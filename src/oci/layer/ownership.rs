//! Owners, devices and capabilities that a file really has, or that are only recorded.
//!
//! Root, and a user namespace with a whole range of ids, can give files their owners. A user namespace with a single
//! id cannot: there every file is 0:0 and what it should be is written beside it:
//!
//! - `user.clawbuild.owner` = `uid:gid`, on files and directories that are not 0:0;
//! - `user.clawbuild.device` = `c:major:minor` or `b:major:minor`, on an empty file that stands for a device;
//! - `user.clawbuild.capability`, the bytes of a `security.capability` that was refused;
//! - a line `uid:gid path` in the snapshot's `symlink-owners` for what cannot carry attributes: symbolic links, pipes
//!   and sockets. Sorted by path, with `\n` and `\\` for a line feed and a backslash in a path.
//!
//! The differ honours these records wherever it finds them, so both ways give the same layer bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::inode::{self, DeviceKind};
use super::snapshot::Snapshot;
use super::tar::Device;

/// The attribute that records an owner.
pub const OWNER: &str = "user.clawbuild.owner";
pub(super) const DEVICE: &str = "user.clawbuild.device";
pub(super) const CAPABILITY_RECORD: &str = "user.clawbuild.capability";
pub(super) const CAPABILITY: &str = "security.capability";

/// Whether files carry their owners themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ownership {
    /// They do: as root, or in a user namespace with a range of ids.
    Real,
    /// Their owners are recorded beside them: in a user namespace with a single id.
    Recorded,
}

/// Who owns a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The user's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
}

impl Owner {
    /// 0:0.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };

    /// Reads what [`OWNER`] holds: `uid:gid`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (uid, gid) = text.split_once(':')?;
        Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// Where something lies: in an open directory under a name, and in the snapshot under a path.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The directory, opened for reading or as a path.
    pub directory: BorrowedFd<'a>,
    /// One path component.
    pub name: &'a [u8],
    /// Relative to the snapshot's `fs`, normal.
    pub path: &'a [u8],
}

/// Gives owners, devices and capabilities to files of one snapshot.
#[derive(Debug)]
pub struct Owners {
    ownership: Ownership,
    by_path: SymlinkOwners,
}

impl Owners {
    /// For the snapshot as it is now.
    ///
    /// # Errors
    /// When its records cannot be read.
    pub fn open(snapshot: &Snapshot, ownership: Ownership) -> io::Result<Self> {
        Ok(Self { ownership, by_path: SymlinkOwners::load(snapshot)? })
    }

    /// Makes `owner` the owner of what lies there; symbolic links are not followed.
    ///
    /// Changing an owner clears setuid bits and capabilities, so it comes before those.
    ///
    /// # Errors
    /// Those of the system.
    pub fn set(&mut self, place: Place<'_>, owner: Owner) -> io::Result<()> {
        let stat = rustix::fs::statat(place.directory, place.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if self.ownership == Ownership::Real {
            if owner == (Owner { uid: stat.st_uid, gid: stat.st_gid }) {
                return Ok(());
            }
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            return Ok(rustix::fs::chownat(place.directory, place.name, Some(uid), Some(gid), flags)?);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory if owner == Owner::ROOT => remove(place, OWNER),
            FileType::RegularFile | FileType::Directory => set(place, OWNER, owner.to_string().as_bytes()),
            _ => {
                self.by_path.set(place.path, owner);
                Ok(())
            }
        }
    }

    /// Makes a device, or in its stead a file that says so. `mode` are permission bits; a real device's are subject to
    /// the umask.
    ///
    /// # Errors
    /// Those of the system; something must not lie there yet.
    pub fn make_device(&mut self, place: Place<'_>, kind: DeviceKind, device: Device, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        if self.ownership == Ownership::Real {
            let number = rustix::fs::makedev(device.major, device.minor);
            match rustix::fs::mknodat(place.directory, place.name, kind.file_type(), mode, number) {
                // A user namespace with a range of ids still makes no devices.
                Err(Errno::PERM) => {}
                result => return Ok(result?),
            }
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(place.directory, place.name, flags, Mode::RUSR | Mode::WUSR)?;
        set(place, DEVICE, format!("{}:{}:{}", kind.letter(), device.major, device.minor).as_bytes())?;
        Ok(rustix::fs::fchmod(file, mode)?)
    }

    /// Gives a file capabilities, or records them where the kernel refuses.
    ///
    /// # Errors
    /// Those of the system.
    pub fn set_capability(&mut self, place: Place<'_>, capability: &[u8]) -> io::Result<()> {
        let path = inode::proc_path(place.directory, place.name);
        match rustix::fs::lsetxattr(&path, CAPABILITY, capability, XattrFlags::empty()) {
            Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL) => set(place, CAPABILITY_RECORD, capability),
            result => Ok(result?),
        }
    }

    /// Gives `path` the record of `original`: for another name of a symbolic link or pipe.
    pub fn link(&mut self, original: &[u8], path: &[u8]) {
        let owner = self.by_path.of(original);
        self.by_path.set(path, owner);
    }

    /// Forgets the records of what was removed: of `path` and everything below it.
    pub fn forget(&mut self, path: &[u8]) {
        self.by_path.forget(path);
    }

    /// Writes the records that lie beside the tree.
    ///
    /// # Errors
    /// Those of the system.
    pub fn save(&self, snapshot: &Snapshot) -> io::Result<()> {
        self.by_path.save(snapshot)
    }
}

fn set(place: Place<'_>, name: &str, value: &[u8]) -> io::Result<()> {
    let path = inode::proc_path(place.directory, place.name);
    Ok(rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty())?)
}

fn remove(place: Place<'_>, name: &str) -> io::Result<()> {
    match rustix::fs::lremovexattr(inode::proc_path(place.directory, place.name), name) {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        result => Ok(result?),
    }
}

/// The owners in a snapshot's `symlink-owners`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymlinkOwners(BTreeMap<Vec<u8>, Owner>);

impl SymlinkOwners {
    /// Reads them; a snapshot without the file has none.
    ///
    /// # Errors
    /// Those of the system, and for a file of another form.
    pub fn load(snapshot: &Snapshot) -> io::Result<Self> {
        let path = snapshot.symlink_owners();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let owners = lines.map(|line| {
            let (owner, path) = line.split_at(line.iter().position(|&byte| byte == b' ')?);
            Some((unescape(&path[1..])?, Owner::parse(owner)?))
        });
        let owners = owners.collect::<Option<_>>();
        owners.map(Self).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a line is not `uid:gid path`"))
    }

    /// The recorded owner; what has no record is root's.
    #[must_use]
    pub fn of(&self, path: &[u8]) -> Owner {
        self.0.get(path).copied().unwrap_or_default()
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<Owner> {
        self.0.get(path).copied()
    }

    fn set(&mut self, path: &[u8], owner: Owner) {
        if owner == Owner::ROOT {
            self.0.remove(path);
        } else {
            self.0.insert(path.to_vec(), owner);
        }
    }

    fn forget(&mut self, path: &[u8]) {
        if self.0.is_empty() {
            return;
        }
        self.0.remove(path);
        let below = [path, b"/"].concat();
        let gone: Vec<_> = self
            .0
            .range(below.clone()..)
            .map(|(path, _)| path)
            .take_while(|p| p.starts_with(&below))
            .cloned()
            .collect();
        for path in gone {
            self.0.remove(&path);
        }
    }

    fn save(&self, snapshot: &Snapshot) -> io::Result<()> {
        let path = snapshot.symlink_owners();
        if self.0.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let mut file = tempfile::NamedTempFile::new_in(snapshot.directory())?;
        let mut text = Vec::new();
        for (path, owner) in &self.0 {
            write!(text, "{owner} ")?;
            text.extend(escape(path));
            text.push(b'\n');
        }
        file.write_all(&text)?;
        file.as_file().sync_data()?;
        file.persist(&path)?;
        Ok(())
    }
}

fn escape(path: &[u8]) -> impl Iterator<Item = u8> {
    path.iter()
        .flat_map(|&byte| match byte {
            b'\n' => [Some(b'\\'), Some(b'n')],
            b'\\' => [Some(b'\\'), Some(b'\\')],
            other => [Some(other), None],
        })
        .flatten()
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        path.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'\\' => b'\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use crate::layer::inode::{Inode, InodeKind};

    fn snapshot() -> (tempfile::TempDir, Snapshot) {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::at(directory.path());
        fs::create_dir(snapshot.fs()).unwrap();
        (directory, snapshot)
    }

    #[test]
    fn records_survive_odd_names() {
        let (_directory, snapshot) = snapshot();
        let mut owners = SymlinkOwners::default();
        let odd: &[&[u8]] = &[b"a b", b"line\nfeed", b"back\\slash\\n", b"\xff\xfe", b"dir/x", b"dir/y/z", b"dirt"];
        for (uid, path) in (1..).zip(odd) {
            owners.set(path, Owner { uid, gid: 7 });
        }
        owners.save(&snapshot).unwrap();
        assert_eq!(SymlinkOwners::load(&snapshot).unwrap(), owners);
        owners.forget(b"dir");
        assert_eq!((owners.of(b"dir/x"), owners.of(b"dir/y/z")), (Owner::ROOT, Owner::ROOT));
        assert_eq!(owners.of(b"dirt"), Owner { uid: 7, gid: 7 });
        for path in odd {
            owners.set(path, Owner::ROOT);
        }
        owners.save(&snapshot).unwrap();
        assert!(!snapshot.symlink_owners().exists(), "no records, no file");
        fs::write(snapshot.symlink_owners(), "1:2\n").unwrap();
        assert_eq!(SymlinkOwners::load(&snapshot).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// Needs no privileges, which is the point of recording.
    #[test]
    fn what_is_recorded_is_what_is_read() {
        let (_directory, snapshot) = snapshot();
        let fs_path = snapshot.fs();
        fs::write(fs_path.join("file"), "x").unwrap();
        fs::create_dir(fs_path.join("directory")).unwrap();
        std::os::unix::fs::symlink("nowhere", fs_path.join("link")).unwrap();
        let root = fs::File::open(&fs_path).unwrap();
        let place = |name| Place { directory: root.as_fd(), name, path: name };
        let mut owners = Owners::open(&snapshot, Ownership::Recorded).unwrap();
        let owner = Owner { uid: 1000, gid: 4_000_000 };
        for name in [&b"file"[..], b"directory", b"link"] {
            owners.set(place(name), owner).unwrap();
        }
        let device = Device { major: 1, minor: 300 };
        owners.make_device(place(b"device"), DeviceKind::Block, device, 0o600).unwrap();
        owners.save(&snapshot).unwrap();

        let records = SymlinkOwners::load(&snapshot).unwrap();
        let read = |name: &[u8]| Inode::read(root.as_fd(), name, name, &records).unwrap().unwrap();
        for name in [&b"file"[..], b"directory", b"link"] {
            assert_eq!(read(name).owner, owner, "{}", std::ffi::OsStr::from_bytes(name).display());
        }
        assert_eq!(read(b"device").kind, InodeKind::Device(DeviceKind::Block, device));
        owners.set(place(b"file"), Owner::ROOT).unwrap();
        owners.set(place(b"link"), Owner::ROOT).unwrap();
        owners.save(&snapshot).unwrap();
        let records = SymlinkOwners::load(&snapshot).unwrap();
        let stat = rustix::fs::stat(fs_path.join("file")).unwrap();
        let real = Owner { uid: stat.st_uid, gid: stat.st_gid };
        assert_eq!(Inode::read(root.as_fd(), b"file", b"file", &records).unwrap().unwrap().owner, real);
        assert_eq!(Inode::read(root.as_fd(), b"link", b"link", &records).unwrap().unwrap().owner, real);
    }
}
