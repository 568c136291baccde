//! Local directories as sources of a build: `.dockerignore`, digests, copies.

mod content;
mod entry;
mod error;
mod follow;
mod hash;
mod ignore_file;
mod materialise;
mod memory;
mod path;
pub(crate) mod pattern;
pub(crate) mod patterns;
mod walk;

#[cfg(test)]
mod content_tests;
#[cfg(test)]
mod pattern_tests;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use oci::{Digest, Hasher};
use rustix::io::Errno;
use store::Store;

pub use content::Content;
pub use entry::Entry;
pub use error::ContextError;
pub use ignore_file::parse_ignore_file;
pub use pattern::PatternError;
pub use patterns::{Inherited, Patterns};

use entry::Kind;
use memory::Memory;
use walk::Selection;

/// Which files of a directory count, as a local source says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Only what matches one of these, unless empty.
    pub include: Vec<String>,
    /// Nothing that matches one of these.
    pub exclude: Vec<String>,
    /// Also these, and what they lead to if they are symbolic links.
    pub follow_paths: Vec<String>,
}

impl From<&llb::LocalSource> for Filters {
    fn from(source: &llb::LocalSource) -> Self {
        let llb::LocalSource { include, exclude, follow_paths, .. } = source;
        Self { include: include.clone(), exclude: exclude.clone(), follow_paths: follow_paths.clone() }
    }
}

/// What a local directory held at a moment.
///
/// Regular files, directories and symbolic links; sockets are left out. Links are taken as they are, wherever they
/// point. Owners, times, hard links and extended attributes are no part of it.
#[derive(Debug)]
pub struct Context {
    root: PathBuf,
    directory: OwnedFd,
    entries: Vec<Entry>,
    digest: Digest,
    /// Nanoseconds since 1970, read before anything else.
    scanned_at: i64,
}

impl Context {
    /// Looks at a directory. Files whose `stat` is what it was last time are not read again.
    ///
    /// # Errors
    /// [`ContextError`].
    pub fn scan(root: &Path, filters: &Filters, store: &Store) -> Result<Self, ContextError> {
        Self::scan_files(root, filters, store, |_| false)
    }

    /// As [`Context::scan`], and afterwards the own digest of each file that `is_wanted` holds for is known too.
    ///
    /// # Errors
    /// [`ContextError`].
    pub fn scan_files(
        root: &Path,
        filters: &Filters,
        store: &Store,
        is_wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Self, ContextError> {
        let scanned_at = now();
        let real = match std::fs::canonicalize(root) {
            Ok(real) => real,
            Err(source) if is_missing(&source) => return Err(ContextError::NotADirectory { path: root.to_owned() }),
            Err(source) => return Err(ContextError::Io { action: "open", path: root.to_owned(), source }),
        };
        let directory = match materialise::open_root(&real) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(ContextError::NotADirectory { path: root.to_owned() }),
            Err(errno) => return Err(ContextError::io("open", root)(errno)),
        };
        let selection = selection(&directory, filters)?;
        let mut entries = walk::walk(&real, &directory, &selection)?;
        let memory = Memory::new(store, &real, filters);
        let tree = memory.tree(&memory::stamps(&entries));
        if let Some(digest) = tree
            && !entries.iter().any(|entry| entry.kind == Kind::File(None) && is_wanted(entry))
        {
            return Ok(Self { root: real, directory, entries, digest, scanned_at });
        }
        let known = memory.files();
        for entry in &mut entries {
            if let Kind::File(digest) = &mut entry.kind
                && let Some((stamp, known)) = known.get(&entry.path)
                && *stamp == entry.stamp
            {
                *digest = Some(*known);
            }
        }
        let is_new = hash::fill(&real, &directory, &mut entries)?;
        let digest = match tree {
            Some(digest) if !is_new => digest,
            Some(_) | None => {
                let digest = tree_digest(&entries);
                memory.remember(&entries, digest, scanned_at);
                digest
            }
        };
        Ok(Self { root: real, directory, entries, digest, scanned_at })
    }

    /// The digest of the whole: of paths, kinds, permission bits, contents and link targets.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Everything in it: parents first, names of one directory in byte order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// Nanoseconds since 1970, to tell old stamps from new ones; enters no digest.
fn now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn selection(directory: &OwnedFd, filters: &Filters) -> Result<Selection, ContextError> {
    let parse = |list: &[String]| Patterns::parse(list.iter().map(String::as_str));
    let mut include = filters.include.clone();
    if !filters.follow_paths.is_empty()
        && let Some(followed) = follow::follow(directory, &filters.follow_paths)
    {
        include.extend(followed);
    }
    // A path that is the root takes in everything.
    if include.iter().any(|pattern| path::clean(pattern.trim()) == ".") && !filters.follow_paths.is_empty() {
        include.clear();
    }
    Ok(Selection { include: parse(&include)?, exclude: parse(&filters.exclude)? })
}

fn tree_digest(entries: &[Entry]) -> Digest {
    let mut hasher = Hasher::new(std::io::sink());
    let mut row = b"clawbuild context 1\n".to_vec();
    for entry in entries {
        row.extend((entry.path.len() as u64).to_le_bytes());
        row.extend(&entry.path);
        match &entry.kind {
            Kind::Directory => {
                row.push(b'd');
                row.extend(entry.stamp.mode.to_le_bytes());
            }
            Kind::File(digest) => {
                row.push(b'f');
                row.extend(entry.stamp.mode.to_le_bytes());
                row.extend(digest.expect("every file was read").as_bytes());
            }
            Kind::Symlink(target) => {
                row.push(b'l');
                row.extend((target.len() as u64).to_le_bytes());
                row.extend(target);
            }
        }
        hasher.write_all(&row).expect("writing to a sink cannot fail");
        row.clear();
    }
    // For an empty tree.
    hasher.write_all(&row).expect("writing to a sink cannot fail");
    hasher.finish().0
}
