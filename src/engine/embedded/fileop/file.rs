//! What a file consists of, and how it gets into another one.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use oci::layer::ownership::{OWNER, Owner, Owners, Ownership, Place, SymlinkOwners};
use oci::layer::{DeviceKind, Snapshot};
use rustix::fs::{FileType, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::Source;
use super::target::recorded_owner;
use crate::embedded::mount::xattr;

const CAPABILITY: &CStr = c"security.capability";

/// Copies a file's content. Where the filesystem can share it, nothing is copied.
pub(super) fn copy_content(from: &OwnedFd, to: &OwnedFd, size: u64) -> io::Result<()> {
    let mut left = size;
    let mut first = true;
    while left > 0 {
        let chunk = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, None, to, None, chunk) {
            // It has become shorter.
            Ok(0) => return Ok(()),
            Ok(copied) => {
                left = left.saturating_sub(copied as u64);
                first = false;
            }
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL | Errno::IO) if first => {
                let (mut from, mut to) = (File::from(from.try_clone()?), File::from(to.try_clone()?));
                return io::copy(&mut from, &mut to).map(drop);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Both of a file's times.
pub(super) fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec.cast_signed() },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() },
    }
}

/// The device a device file stands for.
pub(super) fn device(stat: &Stat) -> Option<(DeviceKind, oci::layer::tar::Device)> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => DeviceKind::Char,
        FileType::BlockDevice => DeviceKind::Block,
        FileType::RegularFile
        | FileType::Directory
        | FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::Unknown => return None,
    };
    let device =
        oci::layer::tar::Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) };
    Some((kind, device))
}

/// The path by which the kernel reaches a name in an open directory, for calls that take nothing else.
pub(super) fn proc_path(directory: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}

/// Copies extended attributes, but for the recorded owner. What the filesystem or the kernel does not allow is left out, as
/// in BuildKit.
pub(super) fn copy_attributes(from: &Path, owners: &mut Owners, place: Place<'_>) -> io::Result<()> {
    let to = proc_path(place.directory, OsStr::from_bytes(place.name));
    for name in xattr::names(from)? {
        if xattr::is_overlay(&name) || name.to_bytes() == OWNER.as_bytes() {
            continue;
        }
        let value = match xattr::read(from, &name) {
            Ok(value) => value,
            Err(error) if is_refusal(&error) => continue,
            Err(error) => return Err(error),
        };
        if name.as_c_str() == CAPABILITY {
            owners.set_capability(place, &value)?;
            continue;
        }
        match xattr::write(&to, &name, &value) {
            Ok(()) => {}
            Err(error) if is_refusal(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL | Errno::NODATA)
    )
}

/// Who owns the files of a source, whether they carry it or it is recorded beside them.
pub(super) struct SourceOwners<'a> {
    layers: &'a [PathBuf],
    /// Of each layer, lowest first. Empty where files carry their owners.
    by_path: Vec<SymlinkOwners>,
    ownership: Ownership,
}

impl<'a> SourceOwners<'a> {
    pub(super) fn read(source: Source<'a>, ownership: Ownership) -> io::Result<Self> {
        let by_path = match ownership {
            Ownership::Real => Vec::new(),
            Ownership::Recorded => source.layers.iter().map(|layer| by_path(layer)).collect::<Result<_, _>>()?,
        };
        Ok(Self { layers: source.layers, by_path, ownership })
    }

    /// The owner of what lies at a path of the source: `path` is where it lies in the tree, `reachable` how to get there.
    pub(super) fn of(&self, path: &Path, reachable: &Path, stat: &Stat) -> io::Result<Owner> {
        let carried = Owner { uid: stat.st_uid, gid: stat.st_gid };
        if self.ownership == Ownership::Real {
            return Ok(carried);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory => Ok(recorded_owner(reachable)?.unwrap_or(carried)),
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                // The uppermost snapshot that has it is the one it is seen from.
                let layers = self.layers.iter().zip(&self.by_path).rev();
                let seen = layers.into_iter().find(|(layer, _)| layer.join(path).symlink_metadata().is_ok());
                Ok(seen.map_or(carried, |(_, owners)| owners.of(path.as_os_str().as_bytes())))
            }
        }
    }
}

fn by_path(layer: &Path) -> io::Result<SymlinkOwners> {
    match layer.parent() {
        Some(snapshot) => SymlinkOwners::load(&Snapshot::at(snapshot)),
        None => Ok(SymlinkOwners::default()),
    }
}
