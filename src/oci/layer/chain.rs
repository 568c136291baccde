//! Snapshots read as overlayfs shows them, without a mount. Symbolic links are never followed.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::inode::{Inode, InodeKind};
use super::ownership::SymlinkOwners;
use super::snapshot::Snapshot;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// One snapshot, open.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    records: SymlinkOwners,
}

impl Tree {
    pub(super) fn open(snapshot: &Snapshot) -> io::Result<Self> {
        let root = rustix::fs::openat(CWD, snapshot.fs(), DIRECTORY, Mode::empty())?;
        Ok(Self { root, records: SymlinkOwners::load(snapshot)? })
    }

    /// The directory at `path`, which must be one and be reached through directories alone.
    pub(super) fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(rustix::fs::openat2(&self.root, path, DIRECTORY, Mode::empty(), resolve)?)
    }

    pub(super) fn inode(&self, directory: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> io::Result<Option<Inode>> {
        Inode::read(directory, name, path, &self.records)
    }
}

/// The names in a directory, sorted bytewise.
pub(super) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<Box<[u8]>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.into());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens a regular file for reading; never waits, never follows.
pub(super) fn open_file(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?.into())
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    if !directory.is_empty() {
        path.extend_from_slice(directory);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Snapshots over each other, lowest first.
#[derive(Debug)]
pub(super) struct Chain {
    trees: Vec<Tree>,
}

/// What the chain shows at some path.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) inode: Inode,
    /// The snapshot it comes from.
    pub(super) tree: usize,
    /// Where it is a directory: the snapshots whose directories merge here.
    pub(super) level: Level,
}

/// The snapshots that have a part in one directory, topmost first.
#[derive(Clone, Debug, Default)]
pub(super) struct Level(Vec<usize>);

/// A directory of the chain, open in every snapshot that has a part in it.
#[derive(Debug, Default)]
pub(super) struct OpenLevel(Vec<(usize, OwnedFd)>);

impl Chain {
    pub(super) const fn new(trees: Vec<Tree>) -> Self {
        Self { trees }
    }

    /// The root directory's level.
    pub(super) fn root(&self) -> Level {
        Level((0..self.trees.len()).rev().collect())
    }

    /// Opens the directory at `path`, which the level was found for.
    pub(super) fn enter(&self, level: &Level, path: &[u8]) -> io::Result<OpenLevel> {
        level
            .0
            .iter()
            .map(|&tree| Ok((tree, self.trees[tree].directory(path)?)))
            .collect::<io::Result<_>>()
            .map(OpenLevel)
    }

    /// What `name` is in an open directory; `path` is the whole path.
    pub(super) fn lookup(&self, level: &OpenLevel, name: &[u8], path: &[u8]) -> io::Result<Option<Found>> {
        let mut found: Option<Found> = None;
        for (tree, directory) in &level.0 {
            let inode = match self.trees[*tree].inode(directory.as_fd(), name, path) {
                Ok(Some(inode)) => inode,
                Ok(None) => continue,
                Err(error) => return Err(error),
            };
            if inode.kind == InodeKind::Whiteout {
                break;
            }
            let (opaque, is_directory) = (inode.opaque, inode.is_directory());
            match &mut found {
                // A file below a directory has no part in it, and hides what is still further down.
                Some(_) if !is_directory => break,
                Some(found) => found.level.0.push(*tree),
                none => {
                    let level = if is_directory { Level(vec![*tree]) } else { Level::default() };
                    *none = Some(Found { inode, tree: *tree, level });
                }
            }
            if opaque || !is_directory {
                break;
            }
        }
        Ok(found)
    }

    /// What the chain shows at `path`.
    pub(super) fn find(&self, path: &[u8]) -> io::Result<Option<Found>> {
        let mut level = self.root();
        let mut end = 0;
        loop {
            let parent = &path[..end];
            let start = if end == 0 { 0 } else { end + 1 };
            end = path[start..].iter().position(|&byte| byte == b'/').map_or(path.len(), |slash| start + slash);
            let found = self.lookup(&self.enter(&level, parent)?, &path[start..end], &path[..end])?;
            match found {
                Some(found) if end < path.len() => level = found.level,
                found => return Ok(found),
            }
        }
    }

    /// Every name any snapshot has in an open directory, sorted; not all of them need be visible.
    pub(super) fn names(level: &OpenLevel) -> io::Result<Vec<Box<[u8]>>> {
        let mut all = Vec::new();
        for (_, directory) in &level.0 {
            all.append(&mut names(directory.as_fd())?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Opens a file that was found, for reading.
    pub(super) fn open_file(&self, level: &OpenLevel, found: &Found, name: &[u8]) -> io::Result<std::fs::File> {
        open_file(level.directory(found)?, name)
    }

    /// The target of a symbolic link that was found.
    pub(super) fn read_link(level: &OpenLevel, found: &Found, name: &[u8]) -> io::Result<Vec<u8>> {
        read_link(level.directory(found)?, name)
    }
}

impl OpenLevel {
    pub(super) fn directory(&self, found: &Found) -> io::Result<BorrowedFd<'_>> {
        let at = self.0.iter().find(|(tree, _)| *tree == found.tree);
        at.map(|(_, directory)| directory.as_fd()).ok_or_else(|| Errno::NOENT.into())
    }
}

pub(super) fn read_link(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes())
}
