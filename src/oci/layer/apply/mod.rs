//! A layer unpacked into an overlay's upper directory.
//!
//! The layer may be anybody's. Every name is looked up inside the snapshot by the kernel (`openat2`), links that lead
//! elsewhere stay inside, and whatever cannot be unpacked faithfully is refused. In particular:
//!
//! - An entry whose parent is a symbolic link of the same layer lands where the link leads inside the snapshot, as
//!   containerd has it. One whose parent is a file is refused.
//! - A parent that has no entry is made with the attributes it has in the layers below, or as root's with mode 0755.
//! - A later entry replaces an earlier one of its name; two directories merge.
//! - A device 0:0 is a whiteout, whichever way it comes; `.wh..wh.` marks other than the opaque one are passed over.
//! - Of extended attributes, `security.capability` and `user.*` are restored, the latter where the filesystem has them.
//!   Those by which overlayfs or clawbuild steer themselves are not, nor others, which belong to the machine.
//! - The root directory's own entry, and global pax records, are passed over.

use std::io::{self, Read};

use diag::{Diagnostic, Reported, codes};

use super::ownership::Ownership;
use super::snapshot::Snapshot;
use super::tar::{Entry, Limits, TarError, TarReader};
use crate::{DiffId, Digest};

mod create;
mod parents;
mod stream;
mod whiteout;

use create::Unpacker;

#[cfg(test)]
mod tests;

/// How to unpack.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Whether files get their owners or records of them.
    pub ownership: Ownership,
    /// Which attributes mark opaque directories.
    pub overlay: OverlayXattrs,
    /// What a layer may hold at most.
    pub limits: Limits,
    /// The layers below, lowest first: where parents without an entry take their attributes from.
    pub lower: &'a [Snapshot],
}

/// The family of extended attributes that an overlay mount reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`, which takes `CAP_SYS_ADMIN` on the machine.
    Trusted,
    /// `user.overlay.*`, for mounts with `userxattr` in a user namespace.
    User,
}

impl OverlayXattrs {
    const fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}

/// A layer that was unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The digest of the blob, where one was read.
    pub blob: Digest,
    /// The blob's length in bytes.
    pub blob_size: u64,
    /// The digest of the tar inside it.
    pub diff_id: DiffId,
    /// How many entries it had.
    pub entries: u64,
}

/// A failure to unpack a layer. What was unpacked until then is still there: the caller removes it.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The layer's form, or a limit.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The system refused something.
    #[error("cannot unpack `{path}`")]
    Io {
        /// The entry.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The layers below cannot be read.
    #[error("cannot read the layers below")]
    Lower(#[source] io::Error),
    /// An entry lies under something that is no directory.
    #[error("`{path}` cannot be unpacked: `{parent}` is not a directory")]
    Parent {
        /// The entry.
        path: String,
        /// What is in its way.
        parent: String,
    },
    /// A hard link to something that is not in the layer, or that cannot have other names.
    #[error("`{path}` is a hard link to `{target}`, which is not a file in this layer")]
    HardLink {
        /// The entry.
        path: String,
        /// Its target.
        target: String,
    },
    /// A whiteout that removes nothing that has a name.
    #[error("`{path}` is not a whiteout of anything")]
    Whiteout {
        /// The entry.
        path: String,
    },
}

impl Reported for ApplyError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Tar(error) => error.diagnostic(),
            Self::Io { source, .. } | Self::Lower(source) => super::io_diagnostic(self, source),
            Self::Parent { .. } | Self::HardLink { .. } | Self::Whiteout { .. } => {
                Diagnostic::new(codes::oci::LAYER_INVALID, self.to_string())
            }
        }
    }
}

impl ApplyError {
    fn io(path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io { path: text(path), source: source.into() }
    }
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Unpacks a layer's blob, compressed in whatever way, into the snapshot, whose directory is there and holds nothing
/// yet. Reading, decompressing and hashing run on a thread of their own beside the unpacking. The digests are the
/// caller's to compare: nothing here knows what they should be.
///
/// # Errors
/// [`ApplyError`].
pub fn unpack(blob: impl Read + Send, snapshot: &Snapshot, options: &Options<'_>) -> Result<Unpacked, ApplyError> {
    stream::with_decompressed(blob, |tar| {
        let mut reader = TarReader::new(tar, options.limits);
        let entries = apply(&mut reader, snapshot, options)?;
        // The hashes are over all there is, also behind the archive's end.
        reader.drain()?;
        Ok(entries)
    })
}

/// Unpacks a layer's tar into the snapshot, as [`unpack`] does. Gives the number of entries.
///
/// # Errors
/// [`ApplyError`].
pub fn apply<R: Read>(
    reader: &mut TarReader<R>,
    snapshot: &Snapshot,
    options: &Options<'_>,
) -> Result<u64, ApplyError> {
    let mut unpacker = Unpacker::new(snapshot, options)?;
    let mut entries = 0;
    while let Some(entry) = reader.next_entry()? {
        unpacker.unpack(&entry, reader)?;
        entries += 1;
    }
    unpacker.finish(snapshot)?;
    Ok(entries)
}

/// What an entry of a layer means.
enum Meaning<'a> {
    /// It is itself.
    Member(&'a [u8]),
    /// The name is removed from the layers below.
    Whiteout(&'a [u8]),
    /// The directory hides what the layers below have in it.
    Opaque,
    /// Nothing here.
    Ignored,
}

impl<'a> Meaning<'a> {
    fn of(entry: &'a Entry) -> Result<(&'a [u8], Self), ApplyError> {
        use super::tar::{Device, Kind, WHITEOUT_PREFIX, split};

        let (parent, name) = split(&entry.path);
        // What is below a mark can neither be a directory's content nor removed.
        if parent.split(|&byte| byte == b'/').any(|name| name.starts_with(WHITEOUT_PREFIX)) {
            return Err(ApplyError::Whiteout { path: text(&entry.path) });
        }
        let meaning = match name.strip_prefix(WHITEOUT_PREFIX) {
            None if name.is_empty() => Self::Ignored,
            None if entry.kind == Kind::CharDevice(Device { major: 0, minor: 0 }) => Self::Whiteout(name),
            None => Self::Member(name),
            Some(b".wh..opq") => Self::Opaque,
            Some(mark) if mark.starts_with(WHITEOUT_PREFIX) => Self::Ignored,
            Some(b"" | b"." | b"..") => return Err(ApplyError::Whiteout { path: text(&entry.path) }),
            Some(removed) => Self::Whiteout(removed),
        };
        Ok((parent, meaning))
    }
}
