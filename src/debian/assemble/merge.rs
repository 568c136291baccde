//! Putting packages into the tree, and what happens where two of them want the same path.
//!
//! Spec: Debian Policy §7.6 (Replaces); deb-control(5) on `Multi-Arch: same`.

use std::collections::HashMap;

use super::error::AssembleError;
use super::installed::{InstalledPackage, Placed};
use super::path::TreePath;
use super::tree::{Content, Node, NodeKind, Tree};
use super::unpack::{PackageEntry, PackageEntryKind, Unpacked};
use crate::control::Paragraph;
use crate::relation;

/// Whose a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// A package of this layer.
    Here(usize),
    /// A package of the layers below.
    Below(usize),
    /// No package: it was set up in a layer below.
    Nobody,
}

/// Something that is at a path already.
struct Present {
    directory: bool,
    owner: Owner,
}

/// Puts packages into a tree.
pub(super) struct Merge<'t, 'a> {
    tree: &'t mut Tree<'a>,
    packages: &'a [Unpacked],
    /// The present package's own files, for its hard links: what is in the tree may be another's.
    files: HashMap<&'a TreePath, usize>,
}

impl<'t, 'a> Merge<'t, 'a> {
    /// Puts them in, in their order.
    pub(super) fn run(tree: &'t mut Tree<'a>, packages: &'a [Unpacked]) -> Result<(), AssembleError> {
        let mut merge = Self { tree, packages, files: HashMap::new() };
        // All links first: any package's paths may lead through any other's.
        for entry in packages.iter().flat_map(|package| &package.entries) {
            if let PackageEntryKind::Symlink(target) = &entry.kind {
                merge.tree.links.entry(entry.path.clone()).or_insert_with(|| target.clone());
            }
        }
        for (owner, package) in packages.iter().enumerate() {
            merge.files.clear();
            package.entries.iter().try_for_each(|entry| merge.add(entry, owner))?;
            for directory in &package.thinned {
                let directory = merge.tree.resolve(directory);
                merge.tree.thinned.insert(directory);
            }
        }
        Ok(())
    }

    fn add(&mut self, entry: &'a PackageEntry, owner: usize) -> Result<(), AssembleError> {
        let path = match entry.kind {
            PackageEntryKind::Directory => self.tree.resolve(&entry.path),
            _ => self.tree.canonical(&entry.path),
        };
        let kind = match &entry.kind {
            PackageEntryKind::Directory => NodeKind::Directory,
            PackageEntryKind::Symlink(target) => NodeKind::Symlink(target.clone()),
            PackageEntryKind::File(spooled) => {
                self.tree.inodes.push(Content::Spooled(*spooled));
                NodeKind::File(self.tree.inodes.len() - 1)
            }
            PackageEntryKind::HardLink(target) => match self.files.get(target) {
                Some(inode) => NodeKind::File(*inode),
                None => {
                    let package = display(&self.packages[owner].control.fields);
                    return Err(AssembleError::Entry {
                        package,
                        path: path.to_string(),
                        what: "a hard link to nothing",
                    });
                }
            },
        };
        if let NodeKind::File(inode) = kind {
            self.files.insert(&entry.path, inode);
        }
        if !path.is_root() && self.may_put(&path, &kind, owner)? {
            let mtime = entry.mtime.min(self.tree.epoch);
            let node = Node { kind, mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime, owner: Some(owner) };
            self.tree.nodes.insert(path, node);
        }
        Ok(())
    }

    /// Whether a package's path goes in: it may also give way to what is there.
    fn may_put(&self, path: &TreePath, kind: &NodeKind, owner: usize) -> Result<bool, AssembleError> {
        let Some(present) = self.present(path) else { return Ok(true) };
        let directory = *kind == NodeKind::Directory;
        if directory && present.directory {
            // A directory may belong to many packages; the first says how it is.
            return Ok(false);
        }
        if present.owner == Owner::Here(owner) {
            return Ok(true);
        }
        let second = &self.packages[owner].control.fields;
        let first = match present.owner {
            Owner::Here(first) => Some(Claim::of(&self.packages[first].control.fields)),
            Owner::Below(first) => self.tree.below.packages.get(first).map(Claim::of_below),
            Owner::Nobody => None,
        };
        if !directory && !present.directory {
            match &first {
                Some(first) if self.is_shared(first, second, path, kind) => return Ok(false),
                Some(first) if replaces(second, first) => return Ok(true),
                Some(first) if first.fields.is_some_and(|fields| replaces(fields, &Claim::of(second))) => {
                    return Ok(false);
                }
                // What was set up below gives way to a package's own file.
                None => return Ok(true),
                Some(_) => {}
            }
        }
        Err(AssembleError::FileConflict {
            path: path.to_string(),
            one: first.map_or_else(|| "the layer below".to_owned(), |first| first.name.to_owned()),
            other: display(second),
        })
    }

    fn present(&self, path: &TreePath) -> Option<Present> {
        if let Some(node) = self.tree.nodes.get(path) {
            let owner = node.owner.map_or(Owner::Nobody, Owner::Here);
            return Some(Present { directory: node.kind == NodeKind::Directory, owner });
        }
        let below = |owner: &Option<u32>| owner.map_or(Owner::Nobody, |at| Owner::Below(at as usize));
        Some(match self.tree.below.paths.get(path.as_str())? {
            Placed::Directory(..) => Present { directory: true, owner: Owner::Nobody },
            Placed::Link(_, owner) | Placed::File(owner) => Present { directory: false, owner: below(owner) },
        })
    }

    /// Whether two architectures' packages of one name share a file, which must then be the same.
    fn is_shared(&self, first: &Claim<'_>, second: &Paragraph, path: &TreePath, kind: &NodeKind) -> bool {
        let field = |name| second.get(name).unwrap_or_default();
        if first.name != field("Package") || first.version != field("Version") || field("Multi-Arch") != "same" {
            return false;
        }
        match (self.tree.nodes.get(path).map(|node| &node.kind), kind) {
            (Some(NodeKind::Symlink(one)), NodeKind::Symlink(other)) => one == other,
            (Some(NodeKind::File(one)), NodeKind::File(other)) => {
                let (one, other) = (&self.tree.inodes[*one], &self.tree.inodes[*other]);
                let read = |content: &Content| content.bytes(self.tree.spools);
                one.size() == other.size() && matches!((read(one), read(other)), (Ok(one), Ok(other)) if one == other)
            }
            // It lies below, where nothing can be compared; the archive promises that they are equal.
            (None, _) => true,
            _ => false,
        }
    }
}

/// A package that has a path.
struct Claim<'a> {
    name: &'a str,
    version: &'a str,
    provides: &'a str,
    fields: Option<&'a Paragraph>,
}

impl<'a> Claim<'a> {
    fn of(fields: &'a Paragraph) -> Self {
        let field = |name| fields.get(name).unwrap_or_default();
        Self { name: field("Package"), version: field("Version"), provides: field("Provides"), fields: Some(fields) }
    }

    fn of_below(installed: &'a InstalledPackage) -> Self {
        let provides = installed.status.lines().find_map(|line| line.strip_prefix("Provides: ")).unwrap_or_default();
        Self { name: &installed.package.name, version: &installed.package.version, provides, fields: None }
    }
}

/// Whether one package declares that it replaces another's files.
fn replaces(one: &Paragraph, other: &Claim<'_>) -> bool {
    let Some(field) = one.get("Replaces") else { return false };
    let provided = relation::parse(other.provides).unwrap_or_default();
    relation::parse(field).unwrap_or_default().iter().flatten().any(|relation| {
        (relation.name == other.name && relation.admits(Some(other.version)))
            || provided
                .iter()
                .flatten()
                .any(|it| it.name == relation.name && relation.admits(it.version.map(|(_, v)| v)))
    })
}

fn display(fields: &Paragraph) -> String {
    let field = |name| fields.get(name).unwrap_or_default();
    format!("{}:{} {}", field("Package"), field("Architecture"), field("Version"))
}
