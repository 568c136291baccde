//! The file tree of a layer, before it is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};

use super::error::AssembleError;
use super::installed::{Installed, Placed};
use super::path::TreePath;
use super::unpack::{Spooled, Spools};

/// The tree: what this layer adds, seen together with the layers below.
pub(super) struct Tree<'a> {
    pub(super) below: &'a Installed,
    pub(super) spools: &'a Spools,
    /// No file is younger.
    pub(super) epoch: i64,
    pub(super) nodes: BTreeMap<TreePath, Node>,
    pub(super) inodes: Vec<Content>,
    /// Symbolic links of this layer and those below, for paths that lead through them.
    pub(super) links: BTreeMap<TreePath, String>,
    /// Directories with no links on the way, by how they were asked for. Emptied when links change.
    canonical: HashMap<TreePath, TreePath>,
    /// Directories that lost something to the filter.
    pub(super) thinned: BTreeSet<TreePath>,
}

/// Something of this layer.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    /// The package it comes from, as a position in this layer's packages.
    pub(super) owner: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    Directory,
    Symlink(String),
    /// A position in the inodes: nodes with equal ones are hard links.
    File(usize),
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Spooled(Spooled),
    Bytes(Vec<u8>),
}

/// Permissions and owner of a file that no package ships.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ownership {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Ownership {
    /// Root's, with these permissions.
    pub(super) const fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

/// Links on the way from one path to another: the kernel's limit.
const MAX_LINKS: usize = 40;
/// Names in the root that are links into `/usr` in the merged-usr layout.
pub(super) const USR_MERGED: [&str; 7] = ["bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin"];
/// Files larger than this are never looked into.
const MAX_READ: u64 = 64 << 20;

impl<'a> Tree<'a> {
    pub(super) fn new(below: &'a Installed, spools: &'a Spools, epoch: i64, merged_usr: bool) -> Self {
        let mut links = BTreeMap::new();
        for (path, placed) in &below.paths {
            if let Placed::Link(target, _) = placed {
                links.insert(TreePath::from(path.as_str()), target.clone());
            }
        }
        if merged_usr {
            links.extend(USR_MERGED.map(|name| (TreePath::from(name), format!("usr/{name}"))));
        }
        Self {
            below,
            spools,
            epoch,
            nodes: BTreeMap::new(),
            inodes: Vec::new(),
            links,
            canonical: HashMap::new(),
            thinned: BTreeSet::new(),
        }
    }

    /// The same place without links in its directory part; the last name may be a link.
    pub(super) fn canonical(&mut self, path: &TreePath) -> TreePath {
        self.resolve(&path.parent()).join(path.name())
    }

    /// The same place without any links.
    pub(super) fn resolve(&mut self, path: &TreePath) -> TreePath {
        self.resolve_within(path, MAX_LINKS)
    }

    fn resolve_within(&mut self, path: &TreePath, links: usize) -> TreePath {
        if path.is_root() {
            return TreePath::ROOT;
        }
        if let Some(known) = self.canonical.get(path) {
            return known.clone();
        }
        let parent = self.resolve_within(&path.parent(), links);
        let here = parent.join(path.name());
        let resolved = match (self.links.get(&here), links) {
            (Some(target), 1..) => {
                let next = parent.follow(target);
                self.resolve_within(&next, links - 1)
            }
            (Some(_), 0) | (None, _) => here,
        };
        self.canonical.insert(path.clone(), resolved.clone());
        resolved
    }

    /// Whether there is something at a path, here or below. Links are followed.
    pub(super) fn exists(&mut self, path: &str) -> bool {
        let path = self.resolve(&path.into());
        self.nodes.contains_key(&path) || self.below.paths.contains_key(path.as_str())
    }

    /// Whether this layer has a file at a path. Links are followed.
    pub(super) fn has_file(&mut self, path: &str) -> bool {
        let path = self.resolve(&path.into());
        matches!(self.nodes.get(&path), Some(Node { kind: NodeKind::File(_), .. }))
    }

    /// The file of this layer at a path, with its modification time. Links are followed.
    pub(super) fn file(&mut self, path: &str) -> Option<(&Content, i64)> {
        let path = self.resolve(&path.into());
        match self.nodes.get(&path) {
            Some(Node { kind: NodeKind::File(inode), mtime, .. }) => Some((&self.inodes[*inode], *mtime)),
            _ => None,
        }
    }

    /// The content of this layer's file at a path. Links are followed.
    ///
    /// # Errors
    /// [`AssembleError::Io`] where the spool cannot be read.
    pub(super) fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, AssembleError> {
        let spools = self.spools;
        let Some((content, _)) = self.file(path) else { return Ok(None) };
        let bytes = content.bytes(spools).map_err(AssembleError::io("read the spooled file", path))?;
        Ok(Some(bytes))
    }

    /// As [`Tree::read`], for text; what is not UTF-8 is replaced.
    pub(super) fn read_text(&mut self, path: &str) -> Result<Option<String>, AssembleError> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Paths of this layer in a directory and below it, in order.
    pub(super) fn below_directory(&self, directory: &TreePath) -> impl Iterator<Item = (&TreePath, &Node)> {
        let prefix = format!("{}/", directory.as_str());
        self.nodes
            .range(directory.clone()..)
            .skip_while({
                let directory = directory.clone();
                move |(path, _)| **path == directory
            })
            .take_while(move |(path, _)| path.as_str().starts_with(&prefix))
    }

    /// Puts a file at a path, in place of what is there.
    pub(super) fn put_file(&mut self, path: &str, bytes: impl Into<Vec<u8>>, ownership: Ownership) {
        self.inodes.push(Content::Bytes(bytes.into()));
        self.put(path, NodeKind::File(self.inodes.len() - 1), ownership, self.epoch);
    }

    /// Copies a file of this layer, time and all, unless something is there already.
    pub(super) fn copy_default(&mut self, from: &str, to: &str) {
        if self.exists(to) {
            return;
        }
        if let Some((content, mtime)) = self.file(from) {
            let content = content.clone();
            self.inodes.push(content);
            self.put(to, NodeKind::File(self.inodes.len() - 1), Ownership::root(0o644), mtime);
        }
    }

    /// Puts a symbolic link at a path, in place of what is there.
    pub(super) fn put_link(&mut self, path: &str, target: &str) {
        self.put(path, NodeKind::Symlink(target.to_owned()), Ownership::root(0o777), self.epoch);
    }

    /// Makes a directory, unless something is there already.
    pub(super) fn put_directory(&mut self, path: &str, ownership: Ownership) {
        if !self.exists(path) {
            self.put(path, NodeKind::Directory, ownership, self.epoch);
        }
    }

    fn put(&mut self, path: &str, kind: NodeKind, Ownership { mode, uid, gid }: Ownership, mtime: i64) {
        let path = self.canonical(&path.into());
        if let NodeKind::Symlink(target) = &kind {
            self.links.insert(path.clone(), target.clone());
            self.canonical.clear();
        }
        self.nodes.insert(path, Node { kind, mode, uid, gid, mtime, owner: None });
    }
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Spooled(spooled) => spooled.size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    pub(super) fn bytes(&self, spools: &Spools) -> io::Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Spooled(spooled) if spooled.size > MAX_READ => Err(io::ErrorKind::FileTooLarge.into()),
            Self::Spooled(spooled) => {
                let mut bytes = Vec::with_capacity(usize::try_from(spooled.size).unwrap_or(0));
                spools.reader(*spooled).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// Reads at a position; fewer bytes than asked only at the end.
    pub(super) fn read_at(&self, spools: &Spools, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Spooled(spooled) => spools.read_at(*spooled, at, buf),
            Self::Bytes(bytes) => {
                let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                let length = rest.len().min(buf.len());
                buf[..length].copy_from_slice(&rest[..length]);
                Ok(length)
            }
        }
    }
}
