//! Layers as Docker's graph drivers write them, made what BuildKit writes of the same changes.
//!
//! Docker's `overlay2` puts everything that lies in an upper directory into a layer: files that were copied up and
//! never changed, directories in which nothing is left, marks for files that were never there, and opaque directories
//! as such. BuildKit compares with what is below and writes changes alone, each removal on its own. What is below is
//! in the image's lower layers, so the same comparison can be made here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use oci::Digest;
use oci::layer::tar::{Entry, Kind, TarError, TarWriter};

use super::spool::{Member, Slice};
use super::tree::{Node, OPAQUE, PathKey, Tree, WHITEOUT, join, split};

/// A change to be written.
#[derive(Debug)]
enum Change<'a> {
    /// What lay there is gone.
    Removed,
    /// This lies there now.
    Put(&'a Member),
}

/// Writes a layer's changes over what is below it, times cut down to `epoch`. `stubs` are where things were mounted
/// while the layer was made: what is empty there was made for that. Gives the number of entries.
///
/// # Errors
/// [`TarError`].
pub(super) fn write<W: Write>(
    below: &Tree,
    members: &[Member],
    stubs: &BTreeSet<Vec<u8>>,
    epoch: Option<i64>,
    layer: &Slice,
    tar: &mut TarWriter<W>,
) -> Result<u64, TarError> {
    let upper = Upper::of(members);
    let mut changes = upper.changes(below);
    upper.drop_stubs(below, stubs, &mut changes);
    Writer { upper, below, epoch, layer, tar, parents: BTreeSet::new(), links: BTreeMap::new(), written: 0 }
        .write(&changes)
}

/// What a layer holds, by path.
#[derive(Debug, Default)]
struct Upper<'a> {
    members: BTreeMap<PathKey, &'a Member>,
    removed: BTreeSet<PathKey>,
    opaque: BTreeSet<PathKey>,
}

impl<'a> Upper<'a> {
    fn of(members: &'a [Member]) -> Self {
        let mut upper = Self::default();
        for member in members {
            let (parent, name) = split(&member.entry.path);
            if name == OPAQUE {
                upper.opaque.insert(PathKey::of(parent));
            } else if let Some(removed) = name.strip_prefix(WHITEOUT) {
                upper.removed.insert(PathKey::of(&join(parent, removed)));
            } else if !member.entry.path.is_empty() {
                upper.members.insert(PathKey::of(&member.entry.path), member);
            }
        }
        upper
    }

    /// What a member is, links being what they lead to.
    fn node(&self, member: &Member) -> Option<Node> {
        match &member.entry.kind {
            Kind::HardLink { target } => {
                let target = self.members.get(&PathKey::of(target))?;
                Node::of(&target.entry, target.content)
            }
            _ => Node::of(&member.entry, member.content),
        }
    }

    fn changes(&self, below: &Tree) -> BTreeMap<PathKey, Change<'a>> {
        let mut changes = BTreeMap::new();
        for key in self.removed.iter().filter(|key| below.get(key).is_some()) {
            changes.insert(key.clone(), Change::Removed);
        }
        for directory in &self.opaque {
            let mut gone: Option<&PathKey> = None;
            for (key, _) in below.below(directory) {
                if gone.is_some_and(|gone| key.is_below(gone)) {
                    continue;
                }
                match self.members.get(key) {
                    None => {
                        changes.insert(key.clone(), Change::Removed);
                        gone = Some(key);
                    }
                    // What was in a directory goes with it.
                    Some(member) if member.entry.kind != Kind::Directory => gone = Some(key),
                    Some(_) => {}
                }
            }
        }
        for (key, member) in &self.members {
            let is_same = match (self.node(member), below.get(key)) {
                (Some(node), Some(lower)) => node.is_same_as(lower),
                _ => false,
            };
            if !is_same {
                changes.insert(key.clone(), Change::Put(member));
            }
        }
        changes
    }

    /// Leaves out what was only there to be mounted on, and the directories made for it.
    fn drop_stubs(&self, below: &Tree, stubs: &BTreeSet<Vec<u8>>, changes: &mut BTreeMap<PathKey, Change<'a>>) {
        let is_new = |key: &PathKey| below.get(key).is_none();
        let has_children = |key: &PathKey, changes: &BTreeMap<PathKey, Change<'a>>| {
            changes.range(key.clone()..).nth(1).is_some_and(|(next, _)| next.is_below(key))
        };
        for stub in stubs {
            let point = PathKey::of(stub);
            let mut next = Some(point.clone());
            while let Some(key) = next {
                let is_stub = is_new(&key)
                    && match changes.get(&key) {
                        Some(Change::Put(member)) => match &member.entry.kind {
                            Kind::Directory => !has_children(&key, changes),
                            // Only the mount point itself may be a file.
                            Kind::File { size: 0 } => key == point,
                            _ => false,
                        },
                        // The daemon has removed the mount point already, but never what it made above it.
                        None => key == point,
                        Some(Change::Removed) => false,
                    };
                if !is_stub {
                    break;
                }
                changes.remove(&key);
                next = key.parent();
            }
        }
    }
}

struct Writer<'a, 't, W> {
    upper: Upper<'a>,
    below: &'a Tree,
    epoch: Option<i64>,
    layer: &'a Slice,
    tar: &'t mut TarWriter<W>,
    /// Directories that were written.
    parents: BTreeSet<PathKey>,
    /// Of files with several names, which one was written with the content.
    links: BTreeMap<PathKey, Vec<u8>>,
    written: u64,
}

impl<W: Write> Writer<'_, '_, W> {
    fn write(mut self, changes: &BTreeMap<PathKey, Change<'_>>) -> Result<u64, TarError> {
        for (key, change) in changes {
            self.parents_of(key)?;
            match change {
                Change::Removed => self.put(&Entry::whiteout(key.path()), None)?,
                Change::Put(member) => self.member(key, member)?,
            }
        }
        Ok(self.written)
    }

    /// Directories stand in front of what is in them, whether they changed or not.
    fn parents_of(&mut self, key: &PathKey) -> Result<(), TarError> {
        let Some(parent) = key.parent().filter(|parent| !self.parents.contains(parent)) else { return Ok(()) };
        self.parents_of(&parent)?;
        let node = match self.upper.members.get(&parent) {
            Some(member) => self.upper.node(member),
            None => self.below.get(&parent).cloned(),
        };
        if let Some(node) = node {
            let mut entry = Entry::directory(parent.path()).with_mode(node.mode).with_owner(node.uid, node.gid);
            entry.mtime = node.mtime;
            self.put(&entry, None)?;
        }
        self.parents.insert(parent);
        Ok(())
    }

    fn member(&mut self, key: &PathKey, member: &Member) -> Result<(), TarError> {
        let mut entry = member.entry.clone();
        let mut content = member;
        match &member.entry.kind {
            Kind::Directory if !self.parents.insert(key.clone()) => return Ok(()),
            Kind::HardLink { target } => {
                let file = PathKey::of(target);
                match (self.links.get(&file), self.upper.members.get(&file)) {
                    (Some(written), _) => entry.kind = Kind::HardLink { target: written.clone() },
                    // The name that came first is not among the changes: this one takes its place.
                    (None, Some(first)) => {
                        entry.kind = first.entry.kind.clone();
                        content = first;
                        self.links.insert(file, entry.path.clone());
                    }
                    (None, None) => return Ok(()),
                }
            }
            _ => match self.links.get(key) {
                Some(written) => entry.kind = Kind::HardLink { target: written.clone() },
                None => _ = self.links.insert(key.clone(), entry.path.clone()),
            },
        }
        self.put(&entry, Some(content))
    }

    fn put(&mut self, entry: &Entry, content: Option<&Member>) -> Result<(), TarError> {
        let mut entry = entry.clone();
        entry.mtime = self.epoch.map_or(entry.mtime, |epoch| entry.mtime.min(epoch));
        entry.xattrs.retain(|name, value| name == b"security.capability" && !value.is_empty());
        self.written += 1;
        match content {
            Some(member) => self.tar.append(&entry, &mut self.layer.at(member.offset)),
            None => self.tar.append(&entry, &mut io::empty()),
        }
    }
}

/// The content of the files of a layer, for [`Tree::apply`].
pub(super) fn contents(members: &[Member]) -> Vec<(Entry, Option<Digest>)> {
    members.iter().map(|member| (member.entry.clone(), member.content)).collect()
}

#[cfg(test)]
mod tests {
    use oci::DiffId;
    use oci::layer::tar::{Limits, TarReader};

    use super::*;

    fn tar(entries: &[(Entry, &str)]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for (entry, content) in entries {
            match entry.kind {
                Kind::File { .. } => tar.append_bytes(entry, content.as_bytes()).unwrap(),
                _ => tar.append_empty(entry).unwrap(),
            }
        }
        tar.finish().unwrap()
    }

    fn file(path: &str) -> Entry {
        Entry::file(path, 0).with_mtime(100)
    }

    fn directory(path: &str) -> Entry {
        Entry::directory(path).with_mtime(100)
    }

    /// The lines of the layer that becomes of one over another.
    fn written(lower: &[(Entry, &str)], upper: &[(Entry, &str)], stubs: &[&str]) -> Vec<String> {
        let members = |bytes: &[u8]| Slice::of(bytes).members(DiffId(Digest::of(bytes))).unwrap();
        let mut below = Tree::default();
        below.apply(&contents(&members(&tar(lower))));
        let layer = tar(upper);
        let stubs = stubs.iter().map(|stub| stub.as_bytes().to_vec()).collect();
        let mut output = TarWriter::new(Vec::new());
        write(&below, &members(&layer), &stubs, Some(500), &Slice::of(&layer), &mut output).unwrap();
        let output = output.finish().unwrap();
        let mut reader = TarReader::new(&output[..], Limits::default());
        let mut lines = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let what = match &entry.kind {
                Kind::File { .. } => format!("= {}", io::read_to_string(&mut reader).unwrap()),
                Kind::HardLink { target } => format!("-> {}", String::from_utf8_lossy(target)),
                _ => String::new(),
            };
            lines.push(format!("{} {} {what}", entry.display_path(), entry.mtime).trim_end().to_owned());
        }
        lines
    }

    #[test]
    fn what_did_not_change_is_left_out() {
        let lower = [(directory("d"), ""), (file("d/same"), "x"), (file("d/touched"), "x"), (file("e"), "e")];
        let upper = [
            (directory("d").with_mtime(900), ""),
            (Entry::whiteout("d/never-there"), ""),
            (file("d/same"), "x"),
            (file("d/touched").with_mtime(900), "x"),
            (Entry::whiteout("e"), ""),
            (directory("empty").with_mtime(900), ""),
        ];
        assert_eq!(written(&lower, &upper, &[]), ["d 500", "d/touched 500 = x", ".wh.e 0 =", "empty 500"]);
        assert!(written(&lower, &upper[..3], &[]).is_empty());
    }

    #[test]
    fn opaque_directories_become_removals_in_their_order() {
        let lower = [
            (directory("o"), ""),
            (file("o/a"), "a"),
            (file("o/b"), "b"),
            (directory("o/c"), ""),
            (file("o/c/deep"), "deep"),
            (directory("o/f"), ""),
            (file("o/f/x"), "x"),
        ];
        let upper = [
            (directory("o"), ""),
            (Entry::file("o/.wh..wh..opq", 0), ""),
            (file("o/b"), "b"),
            (file("o/f"), "a file now"),
            (file("o/new"), "new"),
        ];
        assert_eq!(
            written(&lower, &upper, &[]),
            ["o 100", "o/.wh.a 0 =", "o/.wh.c 0 =", "o/f 100 = a file now", "o/new 100 = new"]
        );
    }

    #[test]
    fn the_first_name_that_is_written_has_the_content() {
        let lower = [(file("a"), "x")];
        let upper = [
            (file("a"), "x"),
            (Entry::hard_link("b", "a").with_mtime(100), ""),
            (Entry::hard_link("c", "a").with_mtime(100), ""),
        ];
        assert_eq!(written(&lower, &upper, &[]), ["b 100 = x", "c 100 -> b"]);
    }

    #[test]
    fn mount_points_go_with_the_directories_made_for_them() {
        let lower = [(directory("run"), "")];
        let upper = [
            (directory("run"), ""),
            (directory("run/a"), ""),
            (directory("run/a/b"), ""),
            (file("run/a/b/token"), ""),
            (directory("used"), ""),
            (file("used/x"), "x"),
            (directory("gone"), ""),
        ];
        let stubs = ["run/a/b/token", "used", "gone/token", "run"];
        assert_eq!(written(&lower, &upper, &stubs), ["used 100", "used/x 100 = x"]);
    }
}
