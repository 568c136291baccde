//! Walking a directory, as BuildKit's client does when it sends one.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::entry::{Entry, Kind, Stamp};
use super::error::ContextError;
use super::patterns::{Inherited, Patterns};

/// Which files of a directory count.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    /// Only what matches, unless there are none.
    pub(super) include: Patterns,
    /// And none of what matches.
    pub(super) exclude: Patterns,
}

/// What the patterns say of a path.
enum Verdict {
    /// It does not count, nor does anything below it.
    LeftOut,
    /// A directory that counts only if something below it does.
    Waits(Level),
    /// It counts.
    Counts(Level),
}

/// What a directory hands down to what lies in it.
#[derive(Default)]
struct Level {
    include: Inherited,
    exclude: Inherited,
}

impl Selection {
    fn judge(&self, path: &[u8], is_directory: bool, level: &Level) -> Verdict {
        if self.include.is_empty() && self.exclude.is_empty() {
            return Verdict::Counts(Level::default());
        }
        let path = String::from_utf8_lossy(path);
        if !is_directory {
            let counts = (self.include.is_empty() || self.include.is_match(&path, &level.include))
                && !self.exclude.is_match(&path, &level.exclude);
            return if counts { Verdict::Counts(Level::default()) } else { Verdict::LeftOut };
        }
        let (included, include) = self.include.matches(&path, &level.include);
        let included = included || self.include.is_empty();
        let (excluded, exclude) = self.exclude.matches(&path, &level.exclude);
        let level = Level { include, exclude };
        if included && !excluded {
            return Verdict::Counts(level);
        }
        let can_be_included = included || self.include.can_match_below(&path);
        let can_escape = !excluded || self.exclude.can_unmatch_below(&path);
        if can_be_included && can_escape { Verdict::Waits(level) } else { Verdict::LeftOut }
    }
}

/// Everything selected below `root`, parents first, names of one directory in byte order.
pub(super) fn walk(root: &Path, directory: &OwnedFd, selection: &Selection) -> Result<Vec<Entry>, ContextError> {
    let mut walk = Walk { root, selection, entries: Vec::new(), path: Vec::new(), waiting: Vec::new() };
    let top = open_directory(directory.as_fd(), c".").map_err(ContextError::io("read the directory", root))?;
    walk.directory(&top, &Level::default())?;
    Ok(walk.entries)
}

/// Opens a directory, not following a link in its place.
fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Bytes of directory entries read at once.
const CHUNK: usize = 32 * 1024;

struct Walk<'a> {
    root: &'a Path,
    selection: &'a Selection,
    entries: Vec<Entry>,
    /// Where the walk is, relative to the root.
    path: Vec<u8>,
    /// Directories on the way here that do not match themselves; they count once something below them does.
    waiting: Vec<Entry>,
}

impl Walk<'_> {
    fn directory(&mut self, fd: &OwnedFd, level: &Level) -> Result<(), ContextError> {
        // One buffer for all names, each with its NUL: directories can be long.
        let mut names = Vec::new();
        let mut starts = Vec::new();
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut listing = RawDir::new(fd, chunk.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(|errno| self.failed("read the directory", errno))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                starts.push((names.len(), entry.file_type()));
                names.extend_from_slice(entry.file_name().to_bytes_with_nul());
            }
        }
        let name = |start: usize| CStr::from_bytes_until_nul(&names[start..]).expect("names are stored with their NUL");
        starts.sort_unstable_by_key(|(start, _)| name(*start));
        for (start, kind) in starts {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name(start).to_bytes());
            self.entry(fd.as_fd(), name(start), kind, level)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    /// `listed` is the kind the directory gave, which may be unknown or have changed since.
    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        listed: FileType,
        level: &Level,
    ) -> Result<(), ContextError> {
        // What is left out by its name alone is not even looked at.
        if !matches!(listed, FileType::Directory | FileType::Unknown)
            && matches!(self.selection.judge(&self.path, false, level), Verdict::LeftOut)
        {
            return Ok(());
        }
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed since its name was read.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.failed("read", errno)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_known_to_count = kind == listed && kind != FileType::Directory;
        let (counts, below) = if is_known_to_count {
            (true, Level::default())
        } else {
            match self.selection.judge(&self.path, kind == FileType::Directory, level) {
                Verdict::LeftOut => return Ok(()),
                Verdict::Waits(below) => (false, below),
                Verdict::Counts(below) => (true, below),
            }
        };
        let entry = |path: &[u8], kind| Entry { path: path.to_vec(), kind, stamp: Stamp::of(&stat) };
        match kind {
            FileType::Directory => {
                let depth = self.waiting.len();
                self.waiting.push(entry(&self.path, Kind::Directory));
                if counts {
                    self.entries.append(&mut self.waiting);
                }
                match open_directory(parent, name) {
                    Ok(fd) => self.directory(&fd, &below)?,
                    // Gone or replaced since; or left out anyway, and nobody can look for exceptions in it.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(Errno::ACCESS) if !counts => {}
                    Err(errno) => return Err(self.failed("read the directory", errno)),
                }
                self.waiting.truncate(depth);
            }
            FileType::RegularFile => self.select(entry(&self.path, Kind::File(None))),
            FileType::Symlink => match rustix::fs::readlinkat(parent, name, Vec::new()) {
                Ok(target) => self.select(entry(&self.path, Kind::Symlink(target.into_bytes()))),
                Err(Errno::NOENT | Errno::INVAL) => {}
                Err(errno) => return Err(self.failed("read the link", errno)),
            },
            // A socket means nothing without who listens on it, and no layer can hold one.
            FileType::Socket => {}
            FileType::Fifo => return Err(ContextError::SpecialFile { path: self.here(), kind: "FIFO" }),
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
                return Err(ContextError::SpecialFile { path: self.here(), kind: "device" });
            }
        }
        Ok(())
    }

    /// Takes an entry, and the directories it needs before it.
    fn select(&mut self, entry: Entry) {
        self.entries.append(&mut self.waiting);
        self.entries.push(entry);
    }

    fn here(&self) -> PathBuf {
        self.root.join(OsStr::from_bytes(&self.path))
    }

    fn failed(&self, action: &'static str, errno: Errno) -> ContextError {
        ContextError::io(action, self.here())(errno)
    }
}
