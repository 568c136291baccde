//! Unpacking packages in parallel: contents into temporary files, everything else into memory.
//!
//! A layer is written in the order of its paths, packages come in the order of theirs, and decompression is what takes
//! time. So every package is decoded once, on whatever thread is free, and its files' contents are appended to that
//! thread's spool; the layer is then written from the spools. The spools have no names, so nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use diag::progress::Task;
use md5::Digest as _;
use oci::layer::tar::{Entry, Kind};

use super::error::AssembleError;
use super::filter::Filter;
use super::path::TreePath;
use crate::deb::{Control, Deb, Limits};
use crate::{DebError, LockedPackage};

/// A package, unpacked.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    pub(super) control: Control,
    /// What is kept of it, in its own order.
    pub(super) entries: Vec<PackageEntry>,
    /// Every path in it, kept or not, in its own order.
    pub(super) listing: Vec<TreePath>,
    /// Directories that lost something to the filter.
    pub(super) thinned: BTreeSet<TreePath>,
    /// MD5 sums of its configuration files, hexadecimal, by path: dpkg's database has no better ones.
    pub(super) conffiles: BTreeMap<TreePath, String>,
}

/// One file, directory or link of a package.
#[derive(Clone, Debug)]
pub(super) struct PackageEntry {
    pub(super) path: TreePath,
    pub(super) kind: PackageEntryKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
}

#[derive(Clone, Debug)]
pub(super) enum PackageEntryKind {
    File(Spooled),
    Directory,
    Symlink(String),
    HardLink(TreePath),
}

/// Bytes in a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spooled {
    spool: usize,
    offset: u64,
    pub(super) size: u64,
}

/// The spools.
#[derive(Debug)]
pub(super) struct Spools(Vec<File>);

impl Spools {
    /// A reader of some spooled bytes.
    pub(super) fn reader(&self, spooled: Spooled) -> SpoolReader<'_> {
        SpoolReader { file: &self.0[spooled.spool], offset: spooled.offset, left: spooled.size }
    }

    /// Reads at a position of some spooled bytes. Fewer bytes than asked are read only at their end.
    pub(super) fn read_at(&self, spooled: Spooled, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(spooled.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = buf.len().min(left);
        if length == 0 {
            return Ok(0);
        }
        self.0[spooled.spool].read_exact_at(&mut buf[..length], spooled.offset + at)?;
        Ok(length)
    }
}

/// Reads some spooled bytes.
pub(super) struct SpoolReader<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for SpoolReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let count = self.file.read_at(&mut buf[..length], self.offset)?;
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

const COPY_BUFFER: usize = 128 << 10;
/// Each thread has a decoder with a dictionary of several MiB; beyond this, memory grows and nothing else.
const MAX_THREADS: usize = 8;

/// Unpacks all packages; the result is in their order.
pub(super) fn unpack(
    packages: &[(LockedPackage, PathBuf)],
    filter: &Filter,
    directory: &Path,
    threads: NonZeroUsize,
    progress: Option<&Task>,
) -> Result<(Vec<Unpacked>, Spools), AssembleError> {
    // The largest first, so that no thread begins with it when the others are done.
    let mut order: Vec<usize> = (0..packages.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(packages[*at].0.size));
    let threads = threads.get().min(MAX_THREADS).min(packages.len());
    let spools = (0..threads)
        .map(|_| tempfile::tempfile_in(directory).map_err(AssembleError::io("create a temporary file in", directory)))
        .collect::<Result<Vec<File>, _>>()?;
    let results: Vec<Mutex<Option<Result<Unpacked, AssembleError>>>> =
        packages.iter().map(|_| Mutex::default()).collect();
    let shared = Shared {
        packages,
        filter,
        directory,
        order,
        next: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        progress,
        done: Mutex::new(0),
    };
    std::thread::scope(|scope| {
        for (at, file) in spools.iter().enumerate() {
            let (shared, results) = (&shared, &results);
            scope.spawn(move || {
                shared.work(Spool { at, length: 0, file: BufWriter::with_capacity(COPY_BUFFER, file) }, results)
            });
        }
    });
    let mut unpacked = Vec::with_capacity(packages.len());
    for result in results {
        // Packages not begun because another had failed are missing; the failure comes first in some order.
        match result.into_inner().expect("no thread panicked while it held a result") {
            Some(result) => unpacked.push(result?),
            None => continue,
        }
    }
    Ok((unpacked, Spools(spools)))
}

/// What the threads share.
struct Shared<'a> {
    packages: &'a [(LockedPackage, PathBuf)],
    filter: &'a Filter,
    directory: &'a Path,
    order: Vec<usize>,
    next: AtomicUsize,
    failed: AtomicBool,
    progress: Option<&'a Task>,
    done: Mutex<u64>,
}

/// One thread's spool.
struct Spool<'a> {
    at: usize,
    length: u64,
    file: BufWriter<&'a File>,
}

impl Shared<'_> {
    fn work(&self, mut spool: Spool<'_>, results: &[Mutex<Option<Result<Unpacked, AssembleError>>>]) {
        while !self.failed.load(Ordering::Relaxed) {
            let Some(at) = self.order.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            let result = self.unpack_one(&self.packages[*at], &mut spool);
            self.failed.fetch_or(result.is_err(), Ordering::Relaxed);
            *results[*at].lock().expect("results are set once") = Some(result);
        }
        if let Err(source) = spool.file.flush() {
            let error =
                AssembleError::Io { action: "write a temporary file in", path: self.directory.to_owned(), source };
            if let Some(first) = self.order.first() {
                *results[*first].lock().expect("results are set once") = Some(Err(error));
            }
        }
    }

    fn unpack_one(
        &self,
        (locked, path): &(LockedPackage, PathBuf),
        spool: &mut Spool<'_>,
    ) -> Result<Unpacked, AssembleError> {
        let mut wanted = BTreeSet::new();
        loop {
            let (unpacked, missing) = self.pass(locked, path, &wanted, spool)?;
            if missing.is_empty() {
                self.advance(locked.size);
                return Ok(unpacked);
            }
            // A hard link that is kept leads to a file that is not: it needs that file's content after all.
            wanted.extend(missing);
        }
    }

    /// Tells how far all threads together have come, in bytes of packages.
    fn advance(&self, size: u64) {
        let Some(progress) = self.progress else { return };
        let mut done = self.done.lock().expect("nothing panics while it is held");
        *done += size;
        progress.transfer("unpacking", *done, Some(self.packages.iter().map(|(package, _)| package.size).sum()));
    }

    fn pass(
        &self,
        locked: &LockedPackage,
        path: &Path,
        wanted: &BTreeSet<TreePath>,
        spool: &mut Spool<'_>,
    ) -> Result<(Unpacked, BTreeSet<TreePath>), AssembleError> {
        let failed = |source| AssembleError::Package { package: locked.to_string(), source };
        let file = File::open(path).map_err(AssembleError::io("open", path))?;
        let deb = Deb::open(file, Limits::default()).map_err(failed)?;
        identify(locked, deb.control())?;
        let conffiles = conffile_paths(deb.control());
        let mut pass = Pass {
            shared: self,
            locked,
            wanted,
            conffiles,
            unpacked: Unpacked::default(),
            dropped: BTreeSet::new(),
            hidden: BTreeMap::new(),
            missing: BTreeSet::new(),
        };
        let (control, digest, _) =
            deb.unpack(|entry, content| pass.entry(entry, content, spool)).map_err(|stop| match stop {
                Stop::Package(source) => failed(source),
                Stop::Here(error) => error,
            })?;
        if digest != locked.sha256 {
            return Err(AssembleError::Digest { package: locked.to_string(), expected: locked.sha256, found: digest });
        }
        let Pass { mut unpacked, missing, .. } = pass;
        unpacked.control = control;
        Ok((unpacked, missing))
    }
}

/// One reading of one package.
struct Pass<'a> {
    shared: &'a Shared<'a>,
    locked: &'a LockedPackage,
    /// Files not kept whose content is needed all the same.
    wanted: &'a BTreeSet<TreePath>,
    conffiles: BTreeSet<TreePath>,
    unpacked: Unpacked,
    /// Files left out so far.
    dropped: BTreeSet<TreePath>,
    /// The content of wanted files, and the first kept link to each.
    hidden: BTreeMap<TreePath, (Spooled, Option<TreePath>)>,
    /// Files left out that a kept hard link leads to.
    missing: BTreeSet<TreePath>,
}

/// Why a pass ends early.
enum Stop {
    Package(DebError),
    Here(AssembleError),
}

impl From<DebError> for Stop {
    fn from(error: DebError) -> Self {
        Self::Package(error)
    }
}

impl Pass<'_> {
    fn entry(&mut self, entry: Entry, content: &mut dyn Read, spool: &mut Spool<'_>) -> Result<(), Stop> {
        let path = String::from_utf8(entry.path).map_err(|error| {
            self.strange(String::from_utf8_lossy(error.as_bytes()).into_owned(), "a name that is not UTF-8")
        })?;
        let path = TreePath::from_normal(path);
        self.unpacked.listing.push(path.clone());
        if path.is_root() {
            return Ok(());
        }
        let keep = matches!(entry.kind, Kind::Directory) || self.shared.filter.keeps(path.as_str());
        if !keep {
            let mut above = path.parent();
            while !above.is_root() && self.unpacked.thinned.insert(above.clone()) {
                above = above.parent();
            }
        }
        let kind = match entry.kind {
            Kind::Directory => PackageEntryKind::Directory,
            Kind::File { size } if keep || self.wanted.contains(&path) => {
                let spooled = self.spool(&path, size, content, spool)?;
                if !keep {
                    self.hidden.insert(path, (spooled, None));
                    return Ok(());
                }
                PackageEntryKind::File(spooled)
            }
            Kind::File { .. } => {
                self.dropped.insert(path);
                return Ok(());
            }
            _ if !keep => return Ok(()),
            Kind::Symlink { target } => match String::from_utf8(target) {
                Ok(target) => PackageEntryKind::Symlink(target),
                Err(_) => return Err(self.strange(path.as_str().to_owned(), "a link target that is not UTF-8")),
            },
            Kind::HardLink { target } => {
                let target = String::from_utf8(target)
                    .map_err(|_| self.strange(path.as_str().to_owned(), "a link target that is not UTF-8"))?;
                let Some(kind) = self.hard_link(&path, TreePath::from_normal(target)) else { return Ok(()) };
                kind
            }
            Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo => {
                return Err(self.strange(path.as_str().to_owned(), "a device or pipe"));
            }
        };
        let Entry { mode, uid, gid, mtime, .. } = entry;
        self.unpacked.entries.push(PackageEntry { path, kind, mode, uid, gid, mtime });
        Ok(())
    }

    /// What a kept hard link becomes; nothing, if this pass cannot say.
    fn hard_link(&mut self, path: &TreePath, target: TreePath) -> Option<PackageEntryKind> {
        if self.dropped.contains(&target) {
            self.missing.insert(target);
            return None;
        }
        match self.hidden.get_mut(&target) {
            Some((_, Some(first))) => Some(PackageEntryKind::HardLink(first.clone())),
            Some((spooled, first)) => {
                *first = Some(path.clone());
                Some(PackageEntryKind::File(*spooled))
            }
            None => Some(PackageEntryKind::HardLink(target)),
        }
    }

    fn spool(
        &mut self,
        path: &TreePath,
        size: u64,
        content: &mut dyn Read,
        spool: &mut Spool<'_>,
    ) -> Result<Spooled, Stop> {
        let spooled = Spooled { spool: spool.at, offset: spool.length, size };
        let mut md5 = self.conffiles.contains(path).then(md5::Md5::new);
        let mut buffer = vec![0; COPY_BUFFER.min(usize::try_from(size).unwrap_or(COPY_BUFFER))];
        let mut left = size;
        while left > 0 {
            let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let count = match content.read(&mut buffer[..room]) {
                Ok(0) => return Err(Stop::Package(DebError::Truncated)),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Package(DebError::Read(error))),
            };
            spool.file.write_all(&buffer[..count]).map_err(|source| {
                let path = self.shared.directory.to_owned();
                Stop::Here(AssembleError::Io { action: "write a temporary file in", path, source })
            })?;
            if let Some(md5) = &mut md5 {
                md5.update(&buffer[..count]);
            }
            left -= count as u64;
        }
        spool.length += size;
        if let Some(md5) = md5 {
            self.unpacked.conffiles.insert(path.clone(), hex::encode(md5.finalize()));
        }
        Ok(spooled)
    }

    fn strange(&self, path: String, what: &'static str) -> Stop {
        Stop::Here(AssembleError::Entry { package: self.locked.to_string(), path: format!("/{path}"), what })
    }
}

/// A package must be the one that is locked.
fn identify(locked: &LockedPackage, control: &Control) -> Result<(), AssembleError> {
    let field = |name| control.fields.get(name).unwrap_or_default();
    let same = field("Package") == locked.name
        && field("Version") == locked.version
        && field("Architecture") == locked.architecture;
    if same {
        return Ok(());
    }
    let found = format!("{}:{} {}", field("Package"), field("Architecture"), field("Version"));
    Err(AssembleError::Identity { locked: locked.to_string(), found })
}

fn conffile_paths(control: &Control) -> BTreeSet<TreePath> {
    let text = control.files.get("conffiles").map(Vec::as_slice).unwrap_or_default();
    String::from_utf8_lossy(text).lines().filter(|line| line.starts_with('/')).map(TreePath::from).collect()
}
