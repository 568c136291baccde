//! Copying a file by giving it another name.
//!
//! Files of snapshots never change, so where a copy is to have the very content, owner, mode, times and attributes of a
//! file of a snapshot, it can be that file. A big tree is then copied at the price of its directories. What has to hold:
//!
//! - The name is made in the upper directory itself, past the overlay, and so only in directories that this operation has
//!   made, of which the overlay knows nothing yet but that they are there.
//! - Nothing changes the file while it lies in an upper directory ([`super::target::Target::unshare`]). Once it is in a
//!   lower one, overlayfs copies it first.
//! - No snapshot has two names for it unless the one it was copied from has: layers would say that they are hard links.
//!   Nor is it given a second name in the tree it came from. In other trees it can come to be seen twice, in two snapshots,
//!   so names are taken for hard links only when they are in the same snapshot.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

use crate::embedded::mount::{Tree, is, xattr};

/// As many directories of snapshots as are looked at for one directory of a source: all take descriptors. What lies only in
/// those below is copied.
const MOST_ORIGINS: usize = 32;

/// What is known of the changed tree's own directories.
#[derive(Debug)]
pub(super) struct Sharing {
    upper: PathBuf,
    device: u64,
    /// The snapshots the changed tree is made of: what they hold, it sees already.
    below: HashSet<PathBuf>,
    /// Files of snapshots that were given a name in the upper directory.
    shared: HashSet<u64>,
}

/// A directory of a snapshot that a directory of a source tree is, in part.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    directory: Rc<OwnedFd>,
    layer: usize,
}

/// Where a file of a source tree lies.
pub(super) struct Located<'o> {
    origin: &'o Origin,
    stat: Stat,
}

impl Located<'_> {
    /// The position of its snapshot among those of the source.
    pub(super) fn layer(&self) -> usize {
        self.origin.layer
    }
}

impl Sharing {
    /// For a tree whose changes appear in a directory at once, on the filesystem it is made of. None for others.
    pub(super) fn of(tree: &Tree) -> Option<Self> {
        let upper = tree.upper()?.to_owned();
        let device = rustix::fs::stat(&upper).ok()?.st_dev;
        // Otherwise the numbers the tree shows are not those of the files.
        let same = tree.layers().iter().all(|layer| rustix::fs::stat(layer).is_ok_and(|stat| stat.st_dev == device));
        let below = tree.layers().iter().cloned().collect();
        same.then(|| Self { upper, device, below, shared: HashSet::new() })
    }

    /// A directory of the tree that this operation has made, past the overlay.
    pub(super) fn directory(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, self.upper.join(path), flags, Mode::empty())
    }

    /// Whether a file was given a second name here, so that to change it would change a snapshot.
    pub(super) fn is_shared(&self, stat: &Stat) -> bool {
        self.shared.contains(&stat.st_ino)
    }

    /// Notes the files that were given a second name by an operation that has ended. Until then one name could lead to
    /// several copies, as hard links do.
    pub(super) fn note(&mut self, inodes: impl IntoIterator<Item = u64>) {
        self.shared.extend(inodes);
    }

    /// Gives a file of a snapshot in `layer`, seen in the source as `stat`, another name. Says whether that could be done.
    pub(super) fn link(
        &self,
        layer: &Path,
        found: &Located<'_>,
        stat: &Stat,
        name: &OsStr,
        to: BorrowedFd<'_>,
    ) -> bool {
        let Located { origin, stat: real } = found;
        let same = real.st_dev == self.device && real.st_ino == stat.st_ino && is(real, FileType::RegularFile);
        let free = !self.below.contains(layer) && !self.shared.contains(&real.st_ino);
        let (from, flags) = (&*origin.directory, AtFlags::empty());
        same && free && !is_tied(from, name) && rustix::fs::linkat(from, name, to, name, flags).is_ok()
    }
}

/// Where the root of a source made of these snapshots, lowest first, comes from: uppermost first.
pub(super) fn origins(layers: &[PathBuf]) -> Vec<Origin> {
    let open = |(layer, path): (usize, &PathBuf)| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = Rc::new(rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?);
        Some(Origin { directory, layer })
    };
    // One that cannot be opened could hide what is below it.
    layers.iter().enumerate().rev().take(MOST_ORIGINS).map(open).collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// Where the file `name` of a directory that comes from `origins` lies: the uppermost is the one that is seen.
pub(super) fn locate<'o>(origins: &'o [Origin], name: &OsStr) -> Option<Located<'o>> {
    origins.iter().find_map(|origin| {
        let stat = rustix::fs::statat(&*origin.directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Located { origin, stat })
    })
}

/// Whether overlayfs has tied a file to one in a lower directory, which means something only where it lies.
fn is_tied(directory: &OwnedFd, name: &OsStr) -> bool {
    let path = super::file::proc_path(directory.as_fd(), name);
    xattr::names(&path).map_or(true, |names| names.iter().any(|name| xattr::is_overlay(name)))
}

/// Where a directory inside of one that comes from `origins` comes from.
pub(super) fn descend(origins: &[Origin], name: &OsStr) -> Vec<Origin> {
    if name == "." {
        return origins.to_vec();
    }
    let mut found = Vec::new();
    for origin in origins {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&*origin.directory, name, flags, Mode::empty());
        let directory = match opened {
            Ok(directory) => directory,
            Err(rustix::io::Errno::NOENT) => continue,
            // A whiteout, or a file that was there before: what is below is hidden.
            Err(_) => break,
        };
        let opaque = is_opaque(directory.as_fd());
        found.push(Origin { directory: Rc::new(directory), layer: origin.layer });
        if opaque {
            break;
        }
    }
    found
}

fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let path = PathBuf::from(format!("/proc/self/fd/{}/.", directory.as_raw_fd()));
    let opaque = |name| xattr::read(&path, name).is_ok_and(|value| value == b"y");
    opaque(c"trusted.overlay.opaque") || opaque(c"user.overlay.opaque")
}
