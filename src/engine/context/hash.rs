//! Reading files to know their digests.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci::{Digest, Hasher};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::entry::{Entry, Kind, Stamp};
use super::error::ContextError;

/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 5;

/// Bytes read at once.
const CHUNK: usize = 128 * 1024;

/// Opens a file of the context to read it. Links are not followed on the way, so nothing outside can be reached even if
/// the directory changes meanwhile.
pub(super) fn open(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, OsStr::from_bytes(path), flags, Mode::empty(), resolve) {
        // Some sandboxes do not know the call yet.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(root, OsStr::from_bytes(path), flags, Mode::empty()),
        opened => opened,
    }
}

/// Reads every file that has no digest yet, several at once, and fills in digests and the stamps they belong to. Says
/// whether there were any.
pub(super) fn fill(root: &Path, directory: &OwnedFd, entries: &mut [Entry]) -> Result<bool, ContextError> {
    let unknown: Vec<_> = entries.iter_mut().filter(|entry| entry.kind == Kind::File(None)).collect();
    let is_any = !unknown.is_empty();
    in_parallel(unknown, |entry| {
        let (stamp, digest) = read(root, directory, &entry.path)?;
        entry.stamp = stamp;
        entry.kind = Kind::File(Some(digest));
        Ok::<_, ContextError>(())
    })?;
    Ok(is_any)
}

/// Does something to every item on as many threads as there are processors. The first failure ends it.
pub(super) fn in_parallel<T: Send, E: Send>(items: Vec<T>, work: impl Fn(T) -> Result<(), E> + Sync) -> Result<(), E> {
    // A thread takes longer to start than a few small files take to read.
    const ITEMS_PER_THREAD: usize = 16;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(items.len().div_ceil(ITEMS_PER_THREAD));
    if threads <= 1 {
        return items.into_iter().try_for_each(work);
    }
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(slot) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let item = slot.lock().expect("nobody panics while holding it").take();
                    if let Some(Err(error)) = item.map(&work) {
                        next.store(items.len(), Ordering::Relaxed);
                        failure.lock().expect("nobody panics while holding it").get_or_insert(error);
                    }
                }
            });
        }
    });
    match failure.into_inner().expect("nobody panics while holding it") {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// A file's digest, and the stamp it had before and after it was read.
fn read(root: &Path, directory: &OwnedFd, path: &[u8]) -> Result<(Stamp, Digest), ContextError> {
    let here = || root.join(OsStr::from_bytes(path));
    for _ in 0..ATTEMPTS {
        let file = File::from(open(directory, path).map_err(ContextError::io("open", here()))?);
        let before =
            stamp(&file).map_err(ContextError::io("read", here()))?.ok_or(ContextError::Changed { path: here() })?;
        let digest = digest(&file).map_err(|source| ContextError::Io { action: "read", path: here(), source })?;
        let after = stamp(&file).map_err(ContextError::io("read", here()))?;
        if after == Some(before) {
            return Ok((before, digest));
        }
    }
    Err(ContextError::Changed { path: here() })
}

/// The digest of what is left to read.
pub(super) fn digest(mut file: &File) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new(std::io::sink());
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finish().0),
            length => hasher.write_all(&chunk[..length])?,
        }
    }
}

/// The stamp of an open file; `None` if it is no regular file.
pub(super) fn stamp(file: &File) -> Result<Option<Stamp>, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok((FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| Stamp::of(&stat)))
}
