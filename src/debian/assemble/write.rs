//! From the tree to a layer's tar, and to the record of what is in place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;

use oci::layer::tar::{Entry, Kind, TarError, TarWriter};

use super::installed::Placed;
use super::path::TreePath;
use super::tree::{Content, Node, NodeKind, Tree, USR_MERGED};

impl Tree<'_> {
    /// Completes the tree: links into `/usr`, parents of everything, no directories that the filter emptied.
    pub(super) fn complete(&mut self, merged_usr: bool) {
        self.prune();
        self.add_parents();
        if merged_usr {
            for name in USR_MERGED {
                let inside = TreePath::from("usr").join(name);
                let is_there = self.nodes.contains_key(&inside) && !self.below.paths.contains_key(name);
                if is_there && !self.nodes.contains_key(&TreePath::from(name)) {
                    self.put_link(name, &format!("usr/{name}"));
                }
            }
        }
    }

    /// A path that lies in something other than a directory, and the package it comes from.
    pub(super) fn misplaced(&self) -> Option<(&TreePath, Option<usize>)> {
        let lies_in_directory = |path: &TreePath| {
            let parent = path.parent();
            match (self.nodes.get(&parent), self.below.paths.get(parent.as_str())) {
                _ if parent.is_root() => true,
                (Some(node), _) => node.kind == NodeKind::Directory,
                (None, placed) => matches!(placed, Some(Placed::Directory(..))),
            }
        };
        self.nodes.iter().find(|(path, _)| !lies_in_directory(path)).map(|(path, node)| (path, node.owner))
    }

    fn prune(&mut self) {
        let mut used: BTreeSet<TreePath> = BTreeSet::new();
        let mut empty = Vec::new();
        // From the leaves up: children sort after their directory.
        for (path, node) in self.nodes.iter().rev() {
            if node.kind == NodeKind::Directory && self.thinned.contains(path) && !used.contains(path) {
                empty.push(path.clone());
            } else {
                used.insert(path.parent());
            }
        }
        for path in empty {
            self.nodes.remove(&path);
        }
    }

    /// Every parent is written, as the layers below have it where they do.
    fn add_parents(&mut self) {
        let mut missing = BTreeMap::new();
        for path in self.nodes.keys() {
            let mut above = path.parent();
            while !above.is_root() && !self.nodes.contains_key(&above) && !missing.contains_key(&above) {
                let (mode, uid, gid, mtime) = match self.below.paths.get(above.as_str()) {
                    Some(Placed::Directory(mode, uid, gid, mtime)) => (*mode, *uid, *gid, *mtime),
                    _ => (0o755, 0, 0, self.epoch),
                };
                let next = above.parent();
                missing.insert(above, Node { kind: NodeKind::Directory, mode, uid, gid, mtime, owner: None });
                above = next;
            }
        }
        self.nodes.extend(missing);
    }

    /// Writes the layer.
    pub(super) fn write<W: Write>(&self, out: W) -> Result<W, TarError> {
        let mut writer = TarWriter::new(out);
        let mut first: HashMap<usize, &TreePath> = HashMap::new();
        for (path, node) in &self.nodes {
            let bytes = path.as_str();
            let attributes =
                |entry: Entry| entry.with_mode(node.mode).with_owner(node.uid, node.gid).with_mtime(node.mtime);
            match &node.kind {
                NodeKind::Directory => writer.append_empty(&attributes(Entry::directory(bytes)))?,
                NodeKind::Symlink(target) => {
                    writer.append_empty(&attributes(Entry::symlink(bytes, target.as_bytes())).with_mode(0o777))?;
                }
                NodeKind::File(inode) => match first.get(inode) {
                    Some(original) => writer.append_empty(&attributes(Entry::hard_link(bytes, original.as_str())))?,
                    None => {
                        first.insert(*inode, path);
                        let content = &self.inodes[*inode];
                        let entry = attributes(Entry::file(bytes, content.size()));
                        debug_assert!(matches!(entry.kind, Kind::File { .. }));
                        match content {
                            Content::Spooled(spooled) => writer.append(&entry, &mut self.spools.reader(*spooled))?,
                            Content::Bytes(bytes) => writer.append_bytes(&entry, bytes)?,
                        }
                    }
                },
            }
        }
        writer.finish()
    }

    /// What is in place now, here and below. Packages of this layer come after those below.
    pub(super) fn placed(&self) -> BTreeMap<String, Placed> {
        let mut paths = self.below.paths.clone();
        for (path, node) in &self.nodes {
            let owner = node.owner.and_then(|at| u32::try_from(self.below.packages.len() + at).ok());
            let placed = match &node.kind {
                NodeKind::Directory => Placed::Directory(node.mode, node.uid, node.gid, node.mtime),
                NodeKind::Symlink(target) => Placed::Link(target.clone(), owner),
                NodeKind::File(_) => Placed::File(owner),
            };
            paths.insert(path.as_str().to_owned(), placed);
        }
        paths
    }
}
