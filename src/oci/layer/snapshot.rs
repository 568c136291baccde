//! Where a snapshot's parts lie.

use std::path::{Path, PathBuf};

/// One step's changes on disk, in the format of an overlay's upper directory.
///
/// ```text
/// DIR/fs/             the changes: a whiteout is a character device 0:0, an opaque directory has
///                     `trusted.overlay.opaque=y` or, mounted with `userxattr`, `user.overlay.opaque=y`
/// DIR/symlink-owners  owners of what cannot carry attributes itself; see [`super::ownership`]
/// ```
/// A file tree is a chain of these, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    directory: PathBuf,
}

impl Snapshot {
    /// The snapshot in `directory`. Touches nothing.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory that is mounted.
    #[must_use]
    pub fn fs(&self) -> PathBuf {
        self.directory.join("fs")
    }

    pub(super) fn symlink_owners(&self) -> PathBuf {
        self.directory.join("symlink-owners")
    }
}
