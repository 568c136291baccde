//! What is remembered of a context between runs: the stamps and digests of its files.
//!
//! Two records of the store's `Files` bucket, both under the context's root and selection. The small one says which
//! digest the whole tree had and a digest over all stamps it had then; most of the time nothing else is read. The
//! large one has the files one by one, for when some of them changed.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use oci::{Digest, Hasher};
use serde::{Deserialize, Serialize};
use store::{Bucket, Key, Store};

use super::Filters;
use super::entry::{Entry, Kind, Stamp};
use std::os::unix::ffi::OsStrExt as _;

/// A handle on what the store remembers of one context.
pub(super) struct Memory<'a> {
    store: &'a Store,
    whole: Key,
    files: Key,
}

#[derive(Serialize, Deserialize)]
struct Whole {
    stamps: Digest,
    tree: Digest,
}

/// Rows of path, stamp and digest, as Base64 of bytes: a tenth of the time that lists of numbers take to read.
#[derive(Serialize, Deserialize)]
struct Files {
    rows: String,
}

/// Digests of files by path, valid as long as the stamp is the same.
pub(super) type Known = HashMap<Vec<u8>, (Stamp, Digest)>;

impl<'a> Memory<'a> {
    pub(super) fn new(store: &'a Store, root: &Path, filters: &Filters) -> Self {
        let key = |what: &[u8]| {
            let mut parts = vec![b"context".to_vec(), what.to_vec(), root.as_os_str().as_bytes().to_vec()];
            for list in [&filters.include, &filters.exclude, &filters.follow_paths] {
                parts.push(list.len().to_le_bytes().to_vec());
                parts.extend(list.iter().map(|pattern| pattern.clone().into_bytes()));
            }
            Key::of(parts.iter().map(Vec::as_slice))
        };
        Self { store, whole: key(b"whole"), files: key(b"files") }
    }

    /// The tree's digest if it is known for exactly these stamps.
    pub(super) fn tree(&self, stamps: &Digest) -> Option<Digest> {
        let whole: Whole = self.store.record(Bucket::Files, &self.whole)?;
        (whole.stamps == *stamps).then_some(whole.tree)
    }

    pub(super) fn files(&self) -> Known {
        let record: Option<Files> = self.store.record(Bucket::Files, &self.files);
        let bytes = record.and_then(|record| BASE64_STANDARD_NO_PAD.decode(record.rows).ok());
        // Whatever cannot be read was not remembered.
        bytes.and_then(|bytes| rows(&bytes)).unwrap_or_default()
    }

    /// Remembers what was found, as far as it will hold: `now` is a time before any content was read.
    ///
    /// A store that cannot be written costs time at the next build and nothing else.
    pub(super) fn remember(&self, entries: &[Entry], tree: Digest, now: i64) {
        let mut bytes = Vec::new();
        let mut is_settled = true;
        for entry in entries {
            match &entry.kind {
                Kind::File(Some(digest)) if entry.stamp.is_settled(now) => push_row(&mut bytes, entry, digest),
                Kind::File(_) => is_settled = false,
                Kind::Directory | Kind::Symlink(_) => {}
            }
        }
        let files = Files { rows: BASE64_STANDARD_NO_PAD.encode(bytes) };
        let _ = self.store.put_record_unsynced(Bucket::Files, &self.files, &files);
        if is_settled {
            let whole = Whole { stamps: stamps(entries), tree };
            let _ = self.store.put_record_unsynced(Bucket::Files, &self.whole, &whole);
        }
    }
}

/// A digest over everything that `stat` and `readlink` say about a tree, as far as it tells whether the tree changed.
pub(super) fn stamps(entries: &[Entry]) -> Digest {
    let mut hasher = Hasher::new(std::io::sink());
    let mut row = Vec::new();
    for entry in entries {
        row.clear();
        push_bytes(&mut row, &entry.path);
        match &entry.kind {
            // A directory's times change with what lies in it, selected or not.
            Kind::Directory => {
                row.push(b'd');
                row.extend(entry.stamp.mode.to_le_bytes());
            }
            Kind::File(_) => {
                row.push(b'f');
                push_stamp(&mut row, &entry.stamp);
            }
            Kind::Symlink(target) => {
                row.push(b'l');
                push_bytes(&mut row, target);
            }
        }
        hasher.write_all(&row).expect("writing to a sink cannot fail");
    }
    hasher.finish().0
}

fn push_bytes(row: &mut Vec<u8>, bytes: &[u8]) {
    row.extend((bytes.len() as u64).to_le_bytes());
    row.extend(bytes);
}

fn push_stamp(row: &mut Vec<u8>, stamp: &Stamp) {
    let Stamp { device, inode, mode, size, mtime, ctime } = stamp;
    row.extend(device.to_le_bytes());
    row.extend(inode.to_le_bytes());
    row.extend(mode.to_le_bytes());
    row.extend(size.to_le_bytes());
    row.extend(mtime.to_le_bytes());
    row.extend(ctime.to_le_bytes());
}

fn push_row(bytes: &mut Vec<u8>, entry: &Entry, digest: &Digest) {
    push_bytes(bytes, &entry.path);
    push_stamp(bytes, &entry.stamp);
    bytes.extend(digest.as_bytes());
}

fn rows(mut bytes: &[u8]) -> Option<Known> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (taken, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*taken)
    }
    let mut known = Known::new();
    while !bytes.is_empty() {
        let length = usize::try_from(u64::from_le_bytes(take(&mut bytes)?)).ok()?;
        let (path, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        let stamp = Stamp {
            device: u64::from_le_bytes(take(&mut bytes)?),
            inode: u64::from_le_bytes(take(&mut bytes)?),
            mode: u32::from_le_bytes(take(&mut bytes)?),
            size: u64::from_le_bytes(take(&mut bytes)?),
            mtime: i64::from_le_bytes(take(&mut bytes)?),
            ctime: i64::from_le_bytes(take(&mut bytes)?),
        };
        known.insert(path.to_vec(), (stamp, Digest::from_bytes(take(&mut bytes)?)));
    }
    Some(known)
}
