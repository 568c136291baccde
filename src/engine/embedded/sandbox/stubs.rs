//! Mount points that had to be made in the root filesystem, and that must not stay in its layer.
//!
//! BuildKit's rules (`executor/stubs.go`): what was not there before the step goes away after it, if it is still empty.
//! Removing it leaves the times of the directory above as they are; making it does not.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps};

use crate::embedded::mount::{Root, is};

/// Paths that were not there when the step began, in the order in which they can be removed.
#[derive(Debug, Default)]
pub(super) struct Stubs(Vec<PathBuf>);

impl Stubs {
    /// Notes which of the targets, and with `parents` which directories above them, are not there.
    pub(super) fn note<'a>(root: Root<'_>, targets: impl IntoIterator<Item = &'a str>, parents: bool) -> Self {
        let mut missing = Vec::new();
        for target in targets {
            let Ok(resolved) = root.resolve(Path::new(target)) else { continue };
            let levels = if parents { usize::MAX } else { 1 };
            for path in resolved.ancestors().filter(|path| !path.as_os_str().is_empty()).take(levels) {
                match root.stat(path) {
                    Err(error) if is_missing(&error) => missing.push(path.to_owned()),
                    Ok(_) | Err(_) => break,
                }
            }
        }
        // What is inside comes before what it is in.
        missing.sort_by(|a, b| b.cmp(a));
        missing.dedup();
        Self(missing)
    }

    /// Removes those that are there now and empty. What cannot be removed stays, as in BuildKit.
    pub(super) fn remove(&self, root: Root<'_>) {
        for path in &self.0 {
            let _ = remove(root, path);
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn remove(root: Root<'_>, path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    // The step may have put a link somewhere on the way.
    if root.resolve(parent)? != parent {
        return Ok(());
    }
    let stat = root.stat(path)?;
    let directory = is(&stat, FileType::Directory);
    let empty = if directory { is_empty(root, path)? } else { stat.st_size == 0 };
    if !empty {
        return Ok(());
    }
    let parent = root.open(parent, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let times = rustix::fs::fstat(&parent)?;
    rustix::fs::unlinkat(&parent, name, if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() })?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: times.st_atime, tv_nsec: times.st_atime_nsec.cast_signed() },
        last_modification: Timespec { tv_sec: times.st_mtime, tv_nsec: times.st_mtime_nsec.cast_signed() },
    };
    Ok(rustix::fs::futimens(&parent, &times)?)
}

fn is_empty(root: Root<'_>, path: &Path) -> io::Result<bool> {
    let directory = root.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    for entry in Dir::new(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
