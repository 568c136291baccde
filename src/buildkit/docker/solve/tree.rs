//! What the layers of an image amount to, without unpacking them.

use std::collections::BTreeMap;

use oci::Digest;
use oci::layer::tar::{Device, Entry, Kind};

/// The mark of an opaque directory: nothing below it in lower layers counts. Spec: OCI image-spec layer.md §Opaque
/// Whiteout.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// What the name of a mark starts with.
pub(super) const WHITEOUT: &[u8] = b".wh.";
const CAPABILITY: &[u8] = b"security.capability";

/// A path in the order trees are walked: a directory, what is in it, its next sibling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PathKey(Vec<u8>);

impl PathKey {
    pub(super) fn of(path: &[u8]) -> Self {
        // Names hold neither byte, and no byte is lower.
        Self(path.iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect())
    }

    pub(super) fn path(&self) -> Vec<u8> {
        self.0.iter().map(|&byte| if byte == 0 { b'/' } else { byte }).collect()
    }

    pub(super) fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|&byte| byte == 0)?;
        Some(Self(self.0[..slash].to_vec()))
    }

    pub(super) fn is_below(&self, directory: &Self) -> bool {
        self.0.len() > directory.0.len() && self.0.starts_with(&directory.0) && self.0[directory.0.len()] == 0
    }

    /// The range of what is below it.
    fn below(&self) -> std::ops::Range<Self> {
        let end = |byte: u8| Self([self.0.as_slice(), &[byte]].concat());
        end(0)..end(1)
    }
}

/// What is known of a file in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) form: Form,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) capability: Option<Vec<u8>>,
}

/// The kind of a file and what makes two of a kind differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    File { content: Digest },
    Directory,
    Symlink { target: Vec<u8> },
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
}

/// A tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(BTreeMap<PathKey, Node>);

impl Tree {
    pub(super) fn get(&self, key: &PathKey) -> Option<&Node> {
        self.0.get(key)
    }

    /// What is below a directory, in order.
    pub(super) fn below(&self, directory: &PathKey) -> impl Iterator<Item = (&PathKey, &Node)> {
        self.0.range(directory.below())
    }

    /// Lays a layer over the tree. `entries` are the layer's, in its order, with the content of each file.
    pub(super) fn apply(&mut self, entries: &[(Entry, Option<Digest>)]) {
        // Marks are about the layers below, wherever in the layer they stand.
        for (entry, _) in entries {
            let (parent, name) = split(&entry.path);
            if name == OPAQUE {
                self.clear(&PathKey::of(parent));
            } else if let Some(removed) = name.strip_prefix(WHITEOUT) {
                self.remove(&PathKey::of(&join(parent, removed)));
            }
        }
        for (entry, content) in entries {
            if entry.path.is_empty() || split(&entry.path).1.starts_with(WHITEOUT) {
                continue;
            }
            let key = PathKey::of(&entry.path);
            let node = match &entry.kind {
                // Links share what the entry does not repeat.
                Kind::HardLink { target } => match self.0.get(&PathKey::of(target)) {
                    Some(node) => node.clone(),
                    None => continue,
                },
                _ => match Node::of(entry, *content) {
                    Some(node) => node,
                    None => continue,
                },
            };
            if node.form != Form::Directory {
                self.clear(&key);
            }
            self.0.insert(key, node);
        }
    }

    fn remove(&mut self, key: &PathKey) {
        self.clear(key);
        self.0.remove(key);
    }

    fn clear(&mut self, directory: &PathKey) {
        let below: Vec<_> = self.0.range(directory.below()).map(|(key, _)| key.clone()).collect();
        for key in below {
            self.0.remove(&key);
        }
    }
}

impl Node {
    /// The node of an entry that is not a link; `None` for a file whose content is not known.
    pub(super) fn of(entry: &Entry, content: Option<Digest>) -> Option<Self> {
        let form = match &entry.kind {
            Kind::File { .. } => Form::File { content: content? },
            Kind::Directory => Form::Directory,
            Kind::Symlink { target } => Form::Symlink { target: target.clone() },
            Kind::CharDevice(device) => Form::CharDevice(*device),
            Kind::BlockDevice(device) => Form::BlockDevice(*device),
            Kind::Fifo => Form::Fifo,
            Kind::HardLink { .. } => return None,
        };
        let capability = entry.xattrs.get(CAPABILITY).filter(|value| !value.is_empty()).cloned();
        let Entry { mode, uid, gid, mtime, .. } = *entry;
        Some(Self { form, mode, uid, gid, mtime, capability })
    }

    /// Whether a layer need not say it, the other being below. Directories differ in time whenever something in them
    /// changes, which is no change of theirs.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let times = self.form == Form::Directory || self.mtime == other.mtime;
        times
            && (&self.form, self.mode, self.uid, self.gid, &self.capability)
                == (&other.form, other.mode, other.uid, other.gid, &other.capability)
    }
}

/// A path's parent, empty for the root, and last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}
