//! What a tar holds.

use std::collections::BTreeMap;

/// What a whiteout's name starts with. Spec: OCI image-spec layer.md §Whiteouts.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The extended attribute that holds a file's capabilities.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// One member of a layer.
///
/// Paths are bytes: relative, without `.`, `..` and empty components, without a slash at either end. Only a
/// directory that was read may have the empty path: it is the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: the low twelve bits of a file's mode.
    pub mode: u32,
    /// The owner's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds of it, which layers do not hold ([`super::TarWriter::with_nanoseconds`]).
    pub nanoseconds: u32,
    /// Extended attributes by their whole name, such as `security.capability`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it points to, verbatim.
        target: Vec<u8>,
    },
    /// Another name for a file that came before.
    HardLink {
        /// The path of that file in this layer.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
}

/// A device's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// The driver.
    pub major: u32,
    /// The instance.
    pub minor: u32,
}

impl Entry {
    fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Self {
        Self { path: path.into(), kind, mode, uid: 0, gid: 0, mtime: 0, nanoseconds: 0, xattrs: BTreeMap::new() }
    }

    /// A regular file of `size` bytes: root's, mode 0644, from 1970.
    pub fn file(path: impl Into<Vec<u8>>, size: u64) -> Self {
        Self::new(path, Kind::File { size }, 0o644)
    }

    /// A directory: root's, mode 0755, from 1970.
    pub fn directory(path: impl Into<Vec<u8>>) -> Self {
        Self::new(path, Kind::Directory, 0o755)
    }

    /// A symbolic link: root's, mode 0777, from 1970.
    pub fn symlink(path: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Self::new(path, Kind::Symlink { target: target.into() }, 0o777)
    }

    /// Another name for the file at `target`: root's, mode 0644, from 1970.
    pub fn hard_link(path: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Self::new(path, Kind::HardLink { target: target.into() }, 0o644)
    }

    /// The mark that says `path` is removed from the layers below.
    pub fn whiteout(path: impl AsRef<[u8]>) -> Self {
        let path = path.as_ref();
        let (parent, name) = split(path);
        let mut marked = Vec::with_capacity(path.len() + WHITEOUT_PREFIX.len());
        if !parent.is_empty() {
            marked.extend_from_slice(parent);
            marked.push(b'/');
        }
        marked.extend_from_slice(WHITEOUT_PREFIX);
        marked.extend_from_slice(name);
        Self::new(marked, Kind::File { size: 0 }, 0)
    }

    /// With these permission bits.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// With this owner.
    #[must_use]
    pub fn with_owner(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// Modified at this time, seconds since 1970.
    #[must_use]
    pub fn with_mtime(mut self, mtime: i64) -> Self {
        self.mtime = mtime;
        self
    }

    /// With these file capabilities, as the kernel's attribute holds them.
    #[must_use]
    pub fn with_capability(mut self, capability: impl Into<Vec<u8>>) -> Self {
        self.xattrs.insert(CAPABILITY.to_vec(), capability.into());
        self
    }

    /// The path for people.
    #[must_use]
    pub fn display_path(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// A path's parent (empty for the root) and last name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}
