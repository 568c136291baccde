//! A directory taken as the root of everything: no path leads out of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// As many symbolic links as the kernel follows in one path (`MAXSYMLINKS` is 40), and then some: BuildKit's limit.
const LINK_LIMIT: usize = 255;

/// A file tree seen as from inside: absolute paths and links, and `..`, end at its root.
#[derive(Clone, Copy, Debug)]
pub struct Root<'fd>(BorrowedFd<'fd>);

impl<'fd> Root<'fd> {
    /// The tree whose root is this directory.
    #[must_use]
    pub const fn new(directory: BorrowedFd<'fd>) -> Self {
        Self(directory)
    }

    /// The root directory itself.
    #[must_use]
    pub const fn directory(&self) -> BorrowedFd<'fd> {
        self.0
    }

    /// Where the path leads when every link on the way, and at its end, is followed. What does not exist is taken as
    /// written. The result is relative to the root and empty for the root itself, and has neither links nor `..` in it.
    ///
    /// # Errors
    /// `ELOOP` for too many links, `ENOTDIR` for a path through a file, and whatever reading a link gives.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.walk(path, true)
    }

    /// As [`Self::resolve`], but a link at the very end of the path stays one.
    ///
    /// # Errors
    /// Those of [`Self::resolve`].
    pub fn resolve_parent(&self, path: &Path) -> io::Result<PathBuf> {
        self.walk(path, false)
    }

    fn walk(&self, path: &Path, follow_last: bool) -> io::Result<PathBuf> {
        let mut ahead: VecDeque<OsString> = components(path.as_os_str());
        let mut resolved = PathBuf::new();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                resolved.pop();
                continue;
            }
            resolved.push(&name);
            if ahead.is_empty() && !follow_last {
                break;
            }
            match self.stat(&resolved) {
                Ok(stat) if is(&stat, FileType::Symlink) => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(Errno::LOOP.into());
                    }
                    let target = self.read_link(&resolved)?;
                    resolved.pop();
                    if target.as_bytes().starts_with(b"/") {
                        resolved.clear();
                    }
                    for name in components(&target).into_iter().rev() {
                        ahead.push_front(name);
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(resolved)
    }

    /// What `lstat(2)` says of a resolved path.
    ///
    /// # Errors
    /// The system's.
    pub fn stat(&self, resolved: &Path) -> io::Result<Stat> {
        if resolved.as_os_str().is_empty() {
            return Ok(rustix::fs::fstat(self.0)?);
        }
        Ok(rustix::fs::statat(self.0, resolved, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// What a link says.
    ///
    /// # Errors
    /// The system's.
    pub fn read_link(&self, resolved: &Path) -> io::Result<OsString> {
        Ok(OsString::from_vec(rustix::fs::readlinkat(self.0, resolved, Vec::new())?.into_bytes()))
    }

    /// Opens a path without leaving the root, whatever is in it.
    ///
    /// # Errors
    /// The system's.
    pub fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(self.0, path, flags | OFlags::CLOEXEC, mode, resolve) {
                // Something was renamed meanwhile, so the kernel could not tell whether the path stayed inside.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Reads a file, following links. `None` if there is none, or something that is no regular file.
    ///
    /// # Errors
    /// The system's; `EFBIG` for a file longer than `limit`.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let stat = rustix::fs::fstat(file.as_fd())?;
        if !is(&stat, FileType::RegularFile) {
            return Ok(None);
        }
        if u64::try_from(stat.st_size).is_ok_and(|size| size > limit) {
            return Err(Errno::FBIG.into());
        }
        let mut content = Vec::new();
        io::Read::read_to_end(&mut File::from(file), &mut content)?;
        Ok(Some(content))
    }
}

/// Whether a file has this type.
#[must_use]
pub fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn components(path: &OsStr) -> VecDeque<OsString> {
    let names = path.as_bytes().split(|byte| *byte == b'/');
    names.filter(|name| !name.is_empty() && *name != b".").map(|name| OsStr::from_bytes(name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn follows_links_inside_only() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        fs::create_dir_all(path.join("real/deep")).expect("a directory");
        symlink("/real", path.join("absolute")).expect("a link");
        symlink("../../../../real/deep", path.join("up")).expect("a link");
        symlink("missing/below", path.join("dangling")).expect("a link");
        symlink("b", path.join("a")).expect("a link");
        symlink("a", path.join("b")).expect("a link");
        fs::write(path.join("file"), "x").expect("a file");
        let opened = File::open(path).expect("the directory opens");
        let root = Root::new(opened.as_fd());
        let resolve = |path: &str| root.resolve(Path::new(path)).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(resolve("/absolute/deep/../new/x").expect("resolves"), "real/new/x");
        assert_eq!(resolve("up/../..//..").expect("resolves"), "");
        assert_eq!(resolve("/../../etc/passwd").expect("resolves"), "etc/passwd");
        assert_eq!(resolve("dangling/more").expect("resolves"), "missing/below/more");
        assert_eq!(resolve("a").expect_err("a loop").raw_os_error(), Some(libc::ELOOP));
        assert_eq!(resolve("file/x/y").expect_err("no directory").kind(), io::ErrorKind::NotADirectory);
        assert_eq!(root.resolve_parent(Path::new("/absolute/deep")).expect("resolves"), Path::new("real/deep"));
        assert_eq!(root.resolve_parent(Path::new("/absolute")).expect("resolves"), Path::new("absolute"));
        assert_eq!(root.read(Path::new("/../file"), 10).expect("reads").as_deref(), Some(&b"x"[..]));
        assert_eq!(root.read(Path::new("/real"), 10).expect("reads"), None);
    }
}
