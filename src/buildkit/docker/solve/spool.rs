//! Images as Docker saves them, kept in a file while they are looked at.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use oci::layer::compress::{Compression, Decompressor};
use oci::layer::tar::{Entry, Kind, Limits, TarError, TarReader};
use oci::{DiffId, Digest, Hasher};
use serde::Deserialize;

const BUFFER: usize = 1 << 20;
/// Bytes of the document that lists an image's layers.
const LISTING: u64 = 16 << 20;

/// A saved image.
#[derive(Debug)]
pub(super) struct Spool {
    /// The layers' archives, lowest first.
    layers: Vec<Slice>,
}

/// A saved image that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("cannot read it back")]
    Read(#[from] io::Error),
    #[error("it does not list its layers")]
    Listing(#[source] Option<serde_json::Error>),
    #[error("it lacks the layer `{0}`")]
    Missing(String),
    #[error("the layer {expected} has the content of {found}")]
    Content { expected: DiffId, found: DiffId },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    layers: Vec<String>,
}

/// One entry of a layer.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) entry: Entry,
    /// Where its content begins in the layer.
    pub(super) offset: u64,
    /// The digest of its content, for a file.
    pub(super) content: Option<Digest>,
}

/// A part of the file.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    file: Arc<File>,
    start: u64,
    length: u64,
}

impl Spool {
    /// Makes a file for an image in a directory. It has no name, and so goes with the process.
    pub(super) fn file(directory: &Path) -> io::Result<File> {
        tempfile::tempfile_in(directory)
    }

    /// Finds the layers in what was written to the file. Those that are compressed, as daemons save them whose images
    /// lie in containerd, get files of their own in the directory.
    pub(super) fn open(file: File, directory: &Path) -> Result<Self, SpoolError> {
        let file = Arc::new(file);
        let whole = Slice { start: 0, length: file.metadata()?.len(), file: Arc::clone(&file) };
        let mut reader = TarReader::new(BufReader::with_capacity(BUFFER, whole.at(0)), Limits::default());
        let (mut found, mut links, mut listing) = (BTreeMap::new(), BTreeMap::new(), None);
        while let Some(entry) = reader.next_entry()? {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            match &entry.kind {
                Kind::File { size } if path == "manifest.json" && *size <= LISTING => {
                    let mut bytes = Vec::new();
                    reader.read_to_end(&mut bytes)?;
                    listing = Some(bytes);
                }
                Kind::File { size } => _ = found.insert(path, (reader.position(), *size)),
                // A layer that occurs twice is there once.
                Kind::Symlink { target } => _ = links.insert(path, String::from_utf8_lossy(target).into_owned()),
                _ => {}
            }
        }
        let listing = listing.ok_or(SpoolError::Listing(None))?;
        let listed: Vec<Listed> = serde_json::from_slice(&listing).map_err(|error| SpoolError::Listing(Some(error)))?;
        let [Listed { layers }] = <[Listed; 1]>::try_from(listed).map_err(|_| SpoolError::Listing(None))?;
        let layer = |path: String| {
            let target = links.get(&path).map(|target| beside(&path, target));
            let place = found.get(target.as_ref().unwrap_or(&path)).copied();
            let (start, length) = place.ok_or(SpoolError::Missing(path))?;
            Ok::<_, SpoolError>(Slice { file: Arc::clone(&file), start, length }.plain(directory)?)
        };
        Ok(Self { layers: layers.into_iter().map(layer).collect::<Result<_, _>>()? })
    }

    /// How many layers there are.
    pub(super) fn len(&self) -> usize {
        self.layers.len()
    }

    /// The archive of a layer.
    pub(super) fn layer(&self, position: usize) -> Option<Slice> {
        self.layers.get(position).cloned()
    }
}

/// Where a link beside `path` leads.
fn beside(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Slice {
    /// An archive from memory.
    #[cfg(test)]
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("a file takes it");
        Self { file: Arc::new(file), start: 0, length: bytes.len() as u64 }
    }

    /// The same without compression.
    fn plain(self, directory: &Path) -> io::Result<Self> {
        let mut source = Decompressor::new(self.at(0))?;
        if source.compression() == Compression::None {
            drop(source);
            return Ok(self);
        }
        let mut file = Spool::file(directory)?;
        let length = io::copy(&mut source, &mut file)?;
        Ok(Self { file: Arc::new(file), start: 0, length })
    }

    /// Reads from a place in it to its end.
    pub(super) fn at(&self, offset: u64) -> SliceReader<'_> {
        SliceReader { slice: self, at: offset }
    }

    /// Its length, bytes.
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// The entries of the archive it is, which has to be the one with this diff ID.
    pub(super) fn members(&self, expected: DiffId) -> Result<Vec<Member>, SpoolError> {
        let source = Hashed { inner: BufReader::with_capacity(BUFFER, self.at(0)), hasher: Hasher::new(io::sink()) };
        let mut reader = TarReader::new(source, Limits::default());
        let mut members = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let offset = reader.position();
            let content = match entry.kind {
                Kind::File { .. } => {
                    let mut hasher = Hasher::new(io::sink());
                    io::copy(&mut reader, &mut hasher)?;
                    Some(hasher.into_parts().1)
                }
                _ => None,
            };
            members.push(Member { entry, offset, content });
        }
        let found = DiffId(reader.drain()?.hasher.into_parts().1);
        if found == expected { Ok(members) } else { Err(SpoolError::Content { expected, found }) }
    }
}

/// Reads a slice without moving anybody else's place in the file.
#[derive(Debug)]
pub(super) struct SliceReader<'a> {
    slice: &'a Slice,
    at: u64,
}

impl Read for SliceReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.slice.length.saturating_sub(self.at);
        let room = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        let count = self.slice.file.read_at(&mut buf[..room], self.slice.start + self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Hashes what is read.
struct Hashed<R> {
    inner: R,
    hasher: Hasher<io::Sink>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.hasher.write_all(&buf[..count])?;
        Ok(count)
    }
}
