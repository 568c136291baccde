//! What a layer holds that is worth a look. A layer is read once: what was seen is kept in the store.

use std::collections::BTreeMap;
use std::io::Read;

use diag::{Diagnostic, codes};
use engine::SolvedLayer;
use oci::layer::compress::Decompressor;
use oci::layer::tar::{Entry, Kind, Limits, TarReader};
use serde::{Deserialize, Serialize};
use store::{Bucket, Key, Store};

use super::elf::Elf;
use crate::cli::Failure;

/// Changes with what is looked at.
const VERSION: &str = "check 1";
/// No program is as large.
const LARGEST: u64 = 1 << 30;
/// Private keys are small.
const KEY_SIZE: u64 = 64 << 10;

/// What a layer holds, by absolute path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Facts {
    /// Programs and libraries.
    pub(super) programs: BTreeMap<String, Elf>,
    /// Files that may be executed, and all files that are called like libraries.
    pub(super) files: BTreeMap<String, u32>,
    /// Symbolic links, with their targets.
    pub(super) links: BTreeMap<String, String>,
    /// Directories: mode, owner and group.
    pub(super) directories: BTreeMap<String, (u32, u32, u32)>,
    /// What is removed from the layers below.
    pub(super) removed: Vec<String>,
    /// Files that run as their owner or group, whoever starts them.
    pub(super) privileged: Vec<String>,
    /// Files, and directories without the sticky bit, that anybody may write to.
    pub(super) writable: Vec<String>,
    /// Files that hold a private key.
    pub(super) keys: Vec<String>,
    /// Files in caches of package managers.
    pub(super) cached: Vec<String>,
}

/// Caches that no image needs.
const CACHES: [&str; 8] = [
    "/var/cache/apt/",
    "/var/lib/apt/lists/",
    "/root/.npm/",
    "/root/.cache/",
    "/root/.cargo/registry/",
    "/root/go/pkg/",
    "/usr/local/share/.cache/",
    "/var/cache/apk/",
];

const KEY_MARKS: [&[u8]; 5] = [
    b"-----BEGIN PRIVATE KEY-----",
    b"-----BEGIN RSA PRIVATE KEY-----",
    b"-----BEGIN EC PRIVATE KEY-----",
    b"-----BEGIN OPENSSH PRIVATE KEY-----",
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----",
];

/// Looks at a layer, or at what was seen before.
pub(super) fn facts(store: &Store, layer: &SolvedLayer) -> Result<Facts, Failure> {
    let key = Key::of([VERSION.as_bytes(), layer.diff_id.0.hex().as_bytes()]);
    if let Some(facts) = store.record(Bucket::Checks, &key) {
        return Ok(facts);
    }
    let unreadable = |error: &(dyn std::error::Error + 'static)| {
        Diagnostic::new(codes::check::LAYER, format!("the layer {} cannot be read", layer.descriptor.digest))
            .caused_by(error)
    };
    let blob = store.open_blob(&layer.descriptor.digest)?;
    let tar = Decompressor::new(blob).map_err(|error| unreadable(&error))?;
    let mut reader = TarReader::new(tar, Limits::default());
    let mut facts = Facts::default();
    while let Some(entry) = reader.next_entry().map_err(|error| unreadable(&error))? {
        facts.note(&entry, &mut reader).map_err(|error| unreadable(&error))?;
    }
    store.put_record(Bucket::Checks, &key, &facts)?;
    Ok(facts)
}

impl Facts {
    fn note(&mut self, entry: &Entry, content: &mut impl Read) -> std::io::Result<()> {
        let path = format!("/{}", String::from_utf8_lossy(&entry.path));
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if let Some(removed) = name.strip_prefix(".wh.") {
            self.removed.push(if removed == ".wh..opq" {
                format!("{directory}/")
            } else {
                format!("{directory}/{removed}")
            });
            return Ok(());
        }
        match &entry.kind {
            Kind::File { size } => self.file(&path, entry, *size, content)?,
            Kind::Directory => {
                if entry.mode & 0o1002 == 0o002 {
                    self.writable.push(path.clone());
                }
                self.directories.insert(path, (entry.mode, entry.uid, entry.gid));
            }
            Kind::Symlink { target } => {
                self.links.insert(path, String::from_utf8_lossy(target).into_owned());
            }
            Kind::HardLink { target } => {
                let target = format!("/{}", String::from_utf8_lossy(target));
                if let Some(mode) = self.files.get(&target).copied() {
                    self.files.insert(path.clone(), mode);
                }
                if let Some(elf) = self.programs.get(&target).cloned() {
                    self.programs.insert(path, elf);
                }
            }
            Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo => {}
        }
        Ok(())
    }

    fn file(&mut self, path: &str, entry: &Entry, size: u64, content: &mut impl Read) -> std::io::Result<()> {
        if entry.mode & 0o6000 != 0 {
            self.privileged.push(path.to_owned());
        }
        if entry.mode & 0o002 != 0 {
            self.writable.push(path.to_owned());
        }
        if CACHES.iter().any(|cache| path.starts_with(cache)) {
            self.cached.push(path.to_owned());
        }
        if entry.mode & 0o111 != 0 || path.contains(".so") {
            self.files.insert(path.to_owned(), entry.mode);
        }
        let mut head = [0; 4];
        let mut filled = 0;
        while filled < head.len() {
            match content.read(&mut head[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        let is_program = head == *b"\x7fELF" && size <= LARGEST;
        if is_program || (size <= KEY_SIZE && head == *b"----") {
            let mut bytes = head.to_vec();
            content.read_to_end(&mut bytes)?;
            if let Some(elf) = Elf::read(&bytes) {
                self.programs.insert(path.to_owned(), elf);
            }
            if KEY_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
                self.keys.push(path.to_owned());
            }
        }
        Ok(())
    }

    /// What is there when `upper` lies on this.
    pub(super) fn under(mut self, upper: Self) -> Self {
        for removed in &upper.removed {
            // A directory's mark removes what is in it, a file's mark the file, or a directory and all.
            let inside = if removed.ends_with('/') { removed.clone() } else { format!("{removed}/") };
            self.keep(|path| path != removed && !path.starts_with(&inside));
        }
        let replaced = |path: &String| {
            upper.files.contains_key(path) || upper.programs.contains_key(path) || upper.links.contains_key(path)
        };
        self.keep(|path| !replaced(&path.to_owned()));
        self.programs.extend(upper.programs);
        self.files.extend(upper.files);
        self.links.extend(upper.links);
        self.directories.extend(upper.directories);
        for (own, new) in [
            (&mut self.privileged, upper.privileged),
            (&mut self.writable, upper.writable),
            (&mut self.keys, upper.keys),
            (&mut self.cached, upper.cached),
        ] {
            own.extend(new);
        }
        self
    }

    fn keep(&mut self, keeps: impl Fn(&str) -> bool) {
        self.programs.retain(|path, _| keeps(path));
        self.files.retain(|path, _| keeps(path));
        self.links.retain(|path, _| keeps(path));
        self.directories.retain(|path, _| keeps(path));
        for list in [&mut self.privileged, &mut self.writable, &mut self.keys, &mut self.cached] {
            list.retain(|path| keeps(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_top_hides_and_removes() {
        let facts = |files: &[&str], removed: &[&str]| Facts {
            files: files.iter().map(|path| ((*path).to_owned(), 0o755)).collect(),
            writable: files.iter().map(|path| (*path).to_owned()).collect(),
            removed: removed.iter().map(|path| (*path).to_owned()).collect(),
            ..Facts::default()
        };
        let lower = facts(&["/a", "/b/c", "/b/d", "/bb", "/o/x"], &[]);
        let seen = lower.under(facts(&["/a", "/o/y"], &["/b", "/o/"]));
        let files: Vec<&str> = seen.files.keys().map(String::as_str).collect();
        assert_eq!(files, ["/a", "/bb", "/o/y"]);
        assert_eq!(seen.writable, ["/bb", "/a", "/o/y"]);
    }

    #[test]
    fn entries_are_told_apart() {
        let mut facts = Facts::default();
        let mut note = |path: &str, mode, content: &[u8]| {
            let entry = Entry { mode, ..Entry::file(path, content.len() as u64) };
            facts.note(&entry, &mut &*content).expect("memory can be read");
        };
        note("usr/bin/su", 0o4755, b"x");
        note("srv/id", 0o600, b"-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n");
        note("var/cache/apt/pkgcache.bin", 0o644, b"");
        note("srv/open", 0o666, b"text");
        note("srv/cert.pem", 0o644, b"-----BEGIN CERTIFICATE-----\n");
        assert_eq!(facts.privileged, ["/usr/bin/su"]);
        assert_eq!(facts.keys, ["/srv/id"]);
        assert_eq!(facts.cached, ["/var/cache/apt/pkgcache.bin"]);
        assert_eq!(facts.writable, ["/srv/open"]);
    }
}
