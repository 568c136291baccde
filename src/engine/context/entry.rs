//! What a context holds.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use oci::Digest;
use rustix::fs::{FileType, Stat};

/// One file, directory or symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative path, without `.` or `..`.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) stamp: Stamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// The content's digest; `None` when the digest of the whole tree is known without it.
    File(Option<Digest>),
    /// What the link says.
    Symlink(Vec<u8>),
}

/// What `stat` says of a file. As long as it stays, the content is taken to stay; see [`Stamp::is_settled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Permission bits, setuid, setgid and sticky included.
    pub(super) mode: u32,
    /// Bytes.
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) mtime: i64,
    /// Nanoseconds since 1970.
    pub(super) ctime: i64,
}

/// Coarsest step of file times (FAT's two seconds). Within one step a file can change without its times changing.
const TIME_STEP: i64 = 2_000_000_000;

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        // Seconds that nanoseconds in 64 bits cannot say (before 1677, after 2262) are as good as any other time.
        let time = |seconds: i64, nanoseconds: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode & 0o7777,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec.cast_signed()),
        }
    }

    /// Whether a content read at `now` (nanoseconds since 1970) or later belongs to this stamp for good.
    ///
    /// Git's racy check: a file that was changed just before it was read can be changed again without its times
    /// moving. Only the change time counts, for nobody can set it.
    pub(super) fn is_settled(&self, now: i64) -> bool {
        self.ctime.saturating_add(TIME_STEP) <= now
    }
}

impl Entry {
    /// Relative path, without `.` or `..`.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// Permission bits, setuid, setgid and sticky included.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.stamp.mode
    }

    /// Length of a file in bytes; of anything else 0.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File(_) => self.stamp.size,
            Kind::Directory | Kind::Symlink(_) => 0,
        }
    }

    /// Modification time, in nanoseconds since 1970.
    #[must_use]
    pub fn modified(&self) -> i64 {
        self.stamp.mtime
    }

    /// The digest of a file's content, if it is known; see [`Context::scan_files`](super::Context::scan_files).
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match &self.kind {
            Kind::File(digest) => *digest,
            Kind::Directory | Kind::Symlink(_) => None,
        }
    }

    /// What a symbolic link says; of anything else nothing.
    #[must_use]
    pub fn target(&self) -> Option<&OsStr> {
        match &self.kind {
            Kind::Symlink(target) => Some(OsStr::from_bytes(target)),
            Kind::Directory | Kind::File(_) => None,
        }
    }

    /// What kind of file it is.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        match self.kind {
            Kind::Directory => FileType::Directory,
            Kind::File(_) => FileType::RegularFile,
            Kind::Symlink(_) => FileType::Symlink,
        }
    }
}
