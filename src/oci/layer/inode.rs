//! One file of an overlay's upper directory, as layers see it: with what is recorded put in the place of what is real.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::ownership::{CAPABILITY, CAPABILITY_RECORD, DEVICE, OWNER, Owner, SymlinkOwners};
use super::tar::Device;

/// Which of the two kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Read byte by byte.
    Char,
    /// Read block by block.
    Block,
}

impl DeviceKind {
    pub(super) const fn file_type(self) -> FileType {
        match self {
            Self::Char => FileType::CharacterDevice,
            Self::Block => FileType::BlockDevice,
        }
    }

    pub(super) const fn letter(self) -> char {
        match self {
            Self::Char => 'c',
            Self::Block => 'b',
        }
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InodeKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    Device(DeviceKind, Device),
    /// What lies here in lower layers is removed.
    Whiteout,
}

/// A file and what is said about it.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) kind: InodeKind,
    /// The low twelve bits.
    pub(super) mode: u32,
    pub(super) owner: Owner,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) mtime_nanoseconds: u32,
    /// The inode's number; all files of a snapshot are on one filesystem.
    pub(super) number: u64,
    /// Whether it has more than one name.
    linked: bool,
    pub(super) capability: Option<Vec<u8>>,
    /// Whether what lower layers have in this directory is hidden.
    pub(super) opaque: bool,
    /// An overlay feature used here that layers cannot express.
    pub(super) feature: Option<OverlayFeature>,
}

/// A form of change that overlayfs makes only when allowed to, and that layers have no words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayFeature {
    /// A directory that was renamed without being copied.
    Redirect,
    /// A file whose metadata was copied up without its content.
    Metacopy,
}

impl Inode {
    /// What lies under `name`, not followed; `path` is its place in the tree, for the records.
    pub(super) fn read(
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        records: &SymlinkOwners,
    ) -> io::Result<Option<Self>> {
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let device = Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => InodeKind::File,
            FileType::Directory => InodeKind::Directory,
            FileType::Symlink => InodeKind::Symlink,
            FileType::Fifo => InodeKind::Fifo,
            FileType::Socket => InodeKind::Socket,
            FileType::CharacterDevice if device == WHITEOUT => InodeKind::Whiteout,
            FileType::CharacterDevice => InodeKind::Device(DeviceKind::Char, device),
            FileType::BlockDevice => InodeKind::Device(DeviceKind::Block, device),
            FileType::Unknown => return Err(io::Error::new(io::ErrorKind::InvalidData, "a file of no known type")),
        };
        let mut inode = Self {
            kind,
            mode: stat.st_mode & 0o7777,
            owner: Owner { uid: stat.st_uid, gid: stat.st_gid },
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            mtime: stat.st_mtime,
            mtime_nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            number: stat.st_ino,
            linked: stat.st_nlink > 1,
            capability: None,
            opaque: false,
            feature: None,
        };
        match kind {
            InodeKind::File | InodeKind::Directory => inode.read_xattrs(directory, name)?,
            InodeKind::Symlink | InodeKind::Fifo | InodeKind::Socket => {
                inode.owner = records.get(path).unwrap_or(inode.owner);
            }
            InodeKind::Device(..) | InodeKind::Whiteout => {}
        }
        Ok(Some(inode))
    }

    fn read_xattrs(&mut self, directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        let path = proc_path(directory, name);
        let mut recorded_capability = None;
        for name in list(&path)?.split(|&byte| byte == 0) {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            match name {
                CAPABILITY => self.capability = get(&path, name)?,
                CAPABILITY_RECORD => recorded_capability = get(&path, name)?,
                OWNER => {
                    let value = get(&path, name)?.unwrap_or_default();
                    self.owner = Owner::parse(&value).ok_or_else(|| malformed(OWNER))?;
                }
                DEVICE if self.kind == InodeKind::File => {
                    let value = get(&path, name)?.unwrap_or_default();
                    self.kind = parse_device(&value).ok_or_else(|| malformed(DEVICE))?;
                    self.size = 0;
                }
                _ => match name.strip_prefix("trusted.").or(name.strip_prefix("user.")) {
                    Some("overlay.opaque") => self.opaque |= get(&path, name)?.is_some_and(|value| value == b"y"),
                    Some("overlay.redirect") => self.feature = Some(OverlayFeature::Redirect),
                    Some("overlay.metacopy") => self.feature = Some(OverlayFeature::Metacopy),
                    _ => {}
                },
            }
        }
        if recorded_capability.is_some() {
            self.capability = recorded_capability;
        }
        Ok(())
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == InodeKind::Directory
    }

    /// Whether other names may lead to the same inode.
    pub(super) fn is_linked(&self) -> bool {
        !self.is_directory() && self.linked
    }
}

pub(super) const WHITEOUT: Device = Device { major: 0, minor: 0 };

fn malformed(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the attribute {name} is malformed"))
}

fn parse_device(text: &[u8]) -> Option<InodeKind> {
    let mut parts = std::str::from_utf8(text).ok()?.split(':');
    let kind = match parts.next()? {
        "c" => DeviceKind::Char,
        "b" => DeviceKind::Block,
        _ => return None,
    };
    let device = Device { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? };
    parts.next().is_none().then_some(InodeKind::Device(kind, device))
}

/// A path to `name` in an open directory for the calls that take none: the last component is not followed by those
/// that begin with `l`.
pub(super) fn proc_path(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// The names of all extended attributes, each followed by NUL.
fn list(path: &[u8]) -> io::Result<Vec<u8>> {
    let mut buffer = [0_u8; 512];
    match rustix::fs::llistxattr(path, &mut buffer[..]) {
        Ok(length) => Ok(buffer[..length].to_vec()),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        // The kernel's own limit on such a list.
        Err(Errno::RANGE) => {
            let mut buffer = vec![0_u8; 64 * 1024];
            let length = rustix::fs::llistxattr(path, &mut buffer[..])?;
            buffer.truncate(length);
            Ok(buffer)
        }
        Err(error) => Err(error.into()),
    }
}

fn get(path: &[u8], name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0_u8; 1024];
    loop {
        match rustix::fs::lgetxattr(path, name, &mut buffer[..]) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(Errno::RANGE) if buffer.len() < 64 * 1024 => buffer = vec![0; 64 * 1024],
            Err(error) => return Err(error.into()),
        }
    }
}
