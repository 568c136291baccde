//! Changes as entries of a layer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};
use std::os::fd::{AsFd as _, BorrowedFd};

use super::{DiffError, failed};
use crate::layer::chain::{self, Tree};
use crate::layer::inode::{DeviceKind, Inode, InodeKind};
use crate::layer::ownership::CAPABILITY;
use crate::layer::tar::{Entry, Kind, TarWriter, split};

/// A file of the upper directory.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) inode: &'a Inode,
}

/// Writes changes, their parents first, and keeps track of hard links.
pub(super) struct ChangeWriter<'a, W> {
    upper: &'a Tree,
    epoch: Option<i64>,
    tar: &'a mut TarWriter<W>,
    written: u64,
    /// Directories that are in the layer.
    directories: HashSet<Vec<u8>>,
    /// Inodes of several names that are in the layer, by the name they have there.
    links: HashMap<u64, Vec<u8>>,
    /// Names of unchanged inodes that are written only if another of their names is.
    held: HashMap<u64, Vec<Vec<u8>>>,
}

impl<'a, W: Write> ChangeWriter<'a, W> {
    pub(super) fn new(upper: &'a Tree, epoch: Option<i64>, tar: &'a mut TarWriter<W>) -> Self {
        let (directories, links, held) = (HashSet::new(), HashMap::new(), HashMap::new());
        Self { upper, epoch, tar, written: 0, directories, links, held }
    }

    pub(super) const fn upper(&self) -> &'a Tree {
        self.upper
    }

    /// Entries so far.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Something that is below is gone.
    pub(super) fn removed(&mut self, path: &[u8]) -> Result<(), DiffError> {
        self.append(&Entry::whiteout(path), &mut io::empty())
    }

    /// Something is new, or not what it was.
    pub(super) fn changed(&mut self, source: &Source<'_>) -> Result<(), DiffError> {
        let Some(mut entry) = self.entry(source)? else { return Ok(()) };
        if !source.inode.is_linked() {
            return self.append_from(&entry, source);
        }
        let number = source.inode.number;
        if let Some(original) = self.links.get(&number) {
            entry.kind = Kind::HardLink { target: original.clone() };
            return self.append(&entry, &mut io::empty());
        }
        self.links.insert(number, source.path.to_vec());
        self.append_from(&entry, source)?;
        entry.kind = Kind::HardLink { target: source.path.to_vec() };
        for path in self.held.remove(&number).unwrap_or_default() {
            entry.path = path;
            self.append(&entry, &mut io::empty())?;
        }
        Ok(())
    }

    /// A name of a file with several of them is what it was; but should the file be written under another name, this
    /// one must lead to it.
    pub(super) fn unchanged_link(&mut self, source: &Source<'_>) -> Result<(), DiffError> {
        let number = source.inode.number;
        if self.links.contains_key(&number) {
            return self.changed(source);
        }
        if source.inode.kind != InodeKind::Socket {
            self.held.entry(number).or_default().push(source.path.to_vec());
        }
        Ok(())
    }

    /// The entry for a file; none for a socket.
    fn entry(&self, source: &Source<'_>) -> Result<Option<Entry>, DiffError> {
        let inode = source.inode;
        let kind = match inode.kind {
            InodeKind::File => Kind::File { size: inode.size },
            InodeKind::Directory => Kind::Directory,
            InodeKind::Symlink => {
                let target = chain::read_link(source.directory, source.name);
                Kind::Symlink { target: target.map_err(|error| failed(source.path, error))? }
            }
            InodeKind::Fifo => Kind::Fifo,
            InodeKind::Device(DeviceKind::Char, device) => Kind::CharDevice(device),
            InodeKind::Device(DeviceKind::Block, device) => Kind::BlockDevice(device),
            InodeKind::Socket | InodeKind::Whiteout => return Ok(None),
        };
        let capability = inode.capability.iter().filter(|capability| !capability.is_empty());
        let xattrs = capability.map(|capability| (CAPABILITY.as_bytes().to_vec(), capability.clone()));
        Ok(Some(Entry {
            path: source.path.to_vec(),
            kind,
            mode: inode.mode,
            uid: inode.owner.uid,
            gid: inode.owner.gid,
            mtime: self.epoch.map_or(inode.mtime, |epoch| inode.mtime.min(epoch)),
            nanoseconds: if self.epoch.is_none() { inode.mtime_nanoseconds } else { 0 },
            xattrs: xattrs.collect::<BTreeMap<_, _>>(),
        }))
    }

    fn append_from(&mut self, entry: &Entry, source: &Source<'_>) -> Result<(), DiffError> {
        match entry.kind {
            Kind::File { size } if size > 0 => {
                let file = chain::open_file(source.directory, source.name);
                self.append(entry, &mut file.map_err(|error| failed(source.path, error))?)
            }
            _ => self.append(entry, &mut io::empty()),
        }
    }

    fn append(&mut self, entry: &Entry, content: &mut dyn io::Read) -> Result<(), DiffError> {
        self.append_parents(&entry.path)?;
        self.tar.append(entry, content)?;
        self.written += 1;
        if entry.kind == Kind::Directory {
            self.directories.insert(entry.path.clone());
        }
        Ok(())
    }

    fn append_parents(&mut self, path: &[u8]) -> Result<(), DiffError> {
        let (parent, _) = split(path);
        if parent.is_empty() || self.directories.contains(parent) {
            return Ok(());
        }
        let (above, name) = split(parent);
        let fail = |error| failed(parent, error);
        let directory = self.upper.directory(above).map_err(fail)?;
        let inode = self.upper.inode(directory.as_fd(), name, parent).map_err(fail)?;
        let inode = inode.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
        let source = Source { directory: directory.as_fd(), name, path: parent, inode: &inode };
        let Some(entry) = self.entry(&source)? else { return Ok(()) };
        self.append(&entry, &mut io::empty())
    }
}
