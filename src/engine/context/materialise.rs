//! Copying a context into a directory of clawbuild's own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::Context;
use super::entry::{Entry, Kind, Stamp};
use super::error::ContextError;
use super::hash;

/// How often a file that changes while it is copied is copied again.
const ATTEMPTS: usize = 5;

impl Context {
    /// Copies the tree into `into`, an empty directory: contents, permission bits and modification times as they were
    /// found, owners as whoever runs this makes files (0:0 in a build). Where the filesystem can, contents are shared
    /// rather than copied.
    ///
    /// What is copied is what the digest says: a file that changed since the scan is noticed.
    ///
    /// # Errors
    /// [`ContextError::Changed`] if a file is no longer what it was when scanned, [`ContextError::Io`].
    pub fn materialise(&self, into: &Path) -> Result<(), ContextError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target = rustix::fs::open(into, flags, Mode::empty()).map_err(ContextError::io("open", into))?;
        let copy = Copy { context: self, target: &target, into };
        let mut files = Vec::new();
        for entry in &self.entries {
            match &entry.kind {
                Kind::Directory => copy.directory(entry)?,
                Kind::Symlink(link) => copy.symlink(entry, link)?,
                Kind::File(_) => files.push(entry),
            }
        }
        hash::in_parallel(files, |entry| copy.file(entry))?;
        // Last and from the inside out: making entries needs write permission and moves the times.
        for entry in self.entries.iter().rev().filter(|entry| entry.kind == Kind::Directory) {
            copy.finish_directory(entry)?;
        }
        Ok(())
    }
}

struct Copy<'a> {
    context: &'a Context,
    target: &'a OwnedFd,
    into: &'a Path,
}

impl Copy<'_> {
    fn directory(&self, entry: &Entry) -> Result<(), ContextError> {
        rustix::fs::mkdirat(self.target, name(entry), Mode::RWXU).map_err(self.failed("create", entry))
    }

    fn finish_directory(&self, entry: &Entry) -> Result<(), ContextError> {
        let mode = Mode::from_raw_mode(entry.stamp.mode);
        rustix::fs::utimensat(self.target, name(entry), &times(&entry.stamp), AtFlags::empty())
            .and_then(|()| rustix::fs::chmodat(self.target, name(entry), mode, AtFlags::empty()))
            .map_err(self.failed("set times and mode of", entry))
    }

    fn symlink(&self, entry: &Entry, link: &[u8]) -> Result<(), ContextError> {
        rustix::fs::symlinkat(OsStr::from_bytes(link), self.target, name(entry))
            .and_then(|()| {
                rustix::fs::utimensat(self.target, name(entry), &times(&entry.stamp), AtFlags::SYMLINK_NOFOLLOW)
            })
            .map_err(self.failed("create", entry))
    }

    fn file(&self, entry: &Entry) -> Result<(), ContextError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let copy = rustix::fs::openat(self.target, name(entry), flags, Mode::RUSR | Mode::WUSR)
            .map_err(self.failed("create", entry))?;
        let mut copy = File::from(copy);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                copy.set_len(0).and_then(|()| copy.rewind()).map_err(self.stopped(entry))?;
            }
            let opened = hash::open(&self.context.directory, &entry.path);
            let source = File::from(opened.map_err(self.context.lost(entry))?);
            copy_content(&source, &copy).map_err(self.stopped(entry))?;
            if self.is_faithful(entry, &source, &mut copy)? {
                // What the source says now; it may have been touched, with the same content, since the scan.
                return rustix::fs::futimens(&copy, &times(&entry.stamp))
                    .and_then(|()| rustix::fs::fchmod(&copy, Mode::from_raw_mode(entry.stamp.mode)))
                    .map_err(self.failed("set times and mode of", entry));
            }
        }
        Err(ContextError::Changed { path: self.context.source_path(entry) })
    }

    /// Whether a copy has the content that was scanned. Known without reading it if the source's stamp still is the
    /// scanned one and old enough to tell; otherwise the copy is read.
    fn is_faithful(&self, entry: &Entry, source: &File, copy: &mut File) -> Result<bool, ContextError> {
        let stamp = hash::stamp(source).map_err(self.context.lost(entry))?;
        if stamp == Some(entry.stamp) && entry.stamp.is_settled(self.context.scanned_at) {
            return Ok(true);
        }
        match entry.kind {
            Kind::File(Some(digest)) => {
                copy.rewind().map_err(self.stopped(entry))?;
                Ok(hash::digest(copy).map_err(self.stopped(entry))? == digest)
            }
            Kind::File(None) | Kind::Directory | Kind::Symlink(_) => Ok(false),
        }
    }

    /// For failures on the copy's side.
    fn failed(&self, action: &'static str, entry: &Entry) -> impl FnOnce(Errno) -> ContextError {
        ContextError::io(action, self.into.join(entry.path()))
    }

    fn stopped(&self, entry: &Entry) -> impl FnOnce(std::io::Error) -> ContextError {
        let path = self.context.source_path(entry);
        move |source| ContextError::Io { action: "copy", path, source }
    }
}

fn name(entry: &Entry) -> &OsStr {
    OsStr::from_bytes(&entry.path)
}

fn times(stamp: &Stamp) -> Timestamps {
    let (seconds, nanoseconds) = (stamp.mtime.div_euclid(1_000_000_000), stamp.mtime.rem_euclid(1_000_000_000));
    let mtime = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps { last_access: mtime, last_modification: mtime }
}

/// Copies everything from one file to another, in the kernel where it can (which shares blocks where the filesystem
/// can).
fn copy_content(mut source: &File, mut copy: &File) -> std::io::Result<()> {
    /// As much as one call takes.
    const MOST: usize = 0x7fff_f000;
    loop {
        match rustix::fs::copy_file_range(source, None, copy, None, MOST) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::INTR) => {}
            // Not between these filesystems, or not for such files: the rest by hand.
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM | Errno::IO) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    // Also the end of what the kernel copied: some filesystems report an end where there is none.
    std::io::copy(&mut source, &mut copy)?;
    copy.flush()
}

/// Opens the root of a context, following links to it.
pub(super) fn open_root(root: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
