//! Walking a directory, as BuildKit's client does when it sends one.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
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

/// Everything selected below `root`, parents first, names of one directory in byte order.
pub(super) fn walk(root: &Path, directory: &OwnedFd, selection: &Selection) -> Result<Vec<Entry>, ContextError> {
    let mut walk = Walk { root, selection, entries: Vec::new(), path: Vec::new(), waiting: Vec::new() };
    let top = open_directory(directory.as_fd(), c".").map_err(ContextError::io("read the directory", root))?;
    walk.directory(top, &Inherited::default(), &Inherited::default())?;
    Ok(walk.entries)
}

/// Opens a directory, not following a link in its place.
fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

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
    fn directory(&mut self, fd: OwnedFd, included: &Inherited, excluded: &Inherited) -> Result<(), ContextError> {
        let mut directory = Dir::new(fd).map_err(|errno| self.failed("read the directory", errno))?;
        let mut names: Vec<CString> = Vec::new();
        while let Some(entry) = directory.read() {
            let entry = entry.map_err(|errno| self.failed("read the directory", errno))?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        let fd = directory.fd().map_err(|errno| self.failed("read the directory", errno))?;
        for name in names {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            self.entry(fd, &name, included, excluded)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        included: &Inherited,
        excluded: &Inherited,
    ) -> Result<(), ContextError> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed since its name was read.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.failed("read", errno)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_directory = kind == FileType::Directory;
        let selection = self.selection;
        let (mut is_selected, mut below_included, mut below_excluded) =
            (true, Inherited::default(), Inherited::default());
        if !(selection.include.is_empty() && selection.exclude.is_empty()) {
            let path = String::from_utf8_lossy(&self.path);
            if !selection.include.is_empty() {
                let (is_match, hands_down) = selection.include.matches(&path, included);
                if !is_match && !(is_directory && selection.include.can_match_below(&path)) {
                    return Ok(());
                }
                is_selected = is_match;
                below_included = hands_down;
            }
            if !selection.exclude.is_empty() {
                let (is_match, hands_down) = selection.exclude.matches(&path, excluded);
                if is_match && !(is_directory && selection.exclude.can_unmatch_below(&path)) {
                    return Ok(());
                }
                is_selected &= !is_match;
                below_excluded = hands_down;
            }
        }
        let stamp = Stamp::of(&stat);
        let entry = |kind| Entry { path: self.path.clone(), kind, stamp };
        match kind {
            FileType::Directory => {
                let entry = entry(Kind::Directory);
                let level = self.waiting.len();
                if is_selected {
                    self.select(entry);
                } else {
                    self.waiting.push(entry);
                }
                match open_directory(parent, name) {
                    Ok(fd) => self.directory(fd, &below_included, &below_excluded)?,
                    // Gone or replaced since; or left out anyway, and nobody can look for exceptions in it.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(Errno::ACCESS) if !is_selected => {}
                    Err(errno) => return Err(self.failed("read the directory", errno)),
                }
                self.waiting.truncate(level);
            }
            _ if !is_selected => {}
            FileType::RegularFile => {
                let entry = entry(Kind::File(None));
                self.select(entry);
            }
            FileType::Symlink => match rustix::fs::readlinkat(parent, name, Vec::new()) {
                Ok(target) => {
                    let entry = entry(Kind::Symlink(target.into_bytes()));
                    self.select(entry);
                }
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
        use std::os::unix::ffi::OsStrExt as _;
        self.root.join(std::ffi::OsStr::from_bytes(&self.path))
    }

    fn failed(&self, action: &'static str, errno: Errno) -> ContextError {
        ContextError::io(action, self.here())(errno)
    }
}
