//! Messages of the file transfer. Source: tonistiigi/fsutil `types/wire.proto`, `types/stat.proto`.
//!
//! Paths are bytes here, for names need not be text; on the wire both are the same.

use std::os::unix::ffi::OsStrExt as _;

use bytes::Bytes;
use engine::context::Entry;
use rustix::fs::FileType;

use super::times::Times;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Packet {
    #[prost(enumeration = "Kind", tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) stat: Option<Stat>,
    /// Which file it is about: its place among the stats sent.
    #[prost(uint32, tag = "3")]
    pub(super) id: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) data: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    /// A file; without one, the end of the list.
    Stat = 0,
    /// The receiver wants a file's content.
    Request = 1,
    /// Some of a file's content; when empty, its end.
    Data = 2,
    /// The receiver has all it wants; the answer is the same.
    Finish = 3,
    /// One side gives up; the data says why.
    Error = 4,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Stat {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) path: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(super) mode: u32,
    #[prost(uint32, tag = "3")]
    pub(super) uid: u32,
    #[prost(uint32, tag = "4")]
    pub(super) gid: u32,
    #[prost(int64, tag = "5")]
    pub(super) size: i64,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "6")]
    pub(super) modified: i64,
    #[prost(bytes = "vec", tag = "7")]
    pub(super) target: Vec<u8>,
}

/// Go's `os.FileMode`: the permission bits, and these.
pub(super) mod mode {
    pub(in super::super) const DIRECTORY: u32 = 1 << 31;
    pub(in super::super) const SYMLINK: u32 = 1 << 27;
    pub(in super::super) const SETUID: u32 = 1 << 23;
    pub(in super::super) const SETGID: u32 = 1 << 22;
    pub(in super::super) const STICKY: u32 = 1 << 20;
}

impl Packet {
    /// Lists a file.
    pub(super) fn stat(entry: &Entry, times: &Times) -> Self {
        let target = entry.target().map(|target| target.as_bytes().to_vec()).unwrap_or_default();
        // As `lstat` has it: a link is as long as what it says.
        let size = if target.is_empty() { entry.size() } else { target.len() as u64 };
        let stat = Stat {
            path: entry.path().as_os_str().as_bytes().to_vec(),
            mode: go_mode(entry),
            uid: 0,
            gid: 0,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            modified: times.modified(entry),
            target,
        };
        Self { kind: Kind::Stat.into(), stat: Some(stat), ..Self::default() }
    }

    /// Ends the list.
    pub(super) fn end_of_list() -> Self {
        Self { kind: Kind::Stat.into(), ..Self::default() }
    }

    /// Some of a file's content.
    pub(super) fn data(id: u32, data: Bytes) -> Self {
        Self { kind: Kind::Data.into(), id, data, ..Self::default() }
    }

    /// Ends the transfer.
    pub(super) fn finish() -> Self {
        Self { kind: Kind::Finish.into(), ..Self::default() }
    }
}

fn go_mode(entry: &Entry) -> u32 {
    let kind = match entry.file_type() {
        FileType::Directory => mode::DIRECTORY,
        FileType::Symlink => mode::SYMLINK,
        _ => 0,
    };
    let special = [(0o4000, mode::SETUID), (0o2000, mode::SETGID), (0o1000, mode::STICKY)];
    let special = special.into_iter().filter(|(bit, _)| entry.mode() & bit != 0);
    special.fold(kind | (entry.mode() & 0o777), |mode, (_, bit)| mode | bit)
}
