//! Layouts read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::images::{Document, read_document};
use super::{BlobSource, IMAGE_NAME, LayoutError, MARK, REF_NAME, blob_path};
use crate::layer::tar::{Kind, Limits, TarReader};
use crate::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform};

/// A layout on disk, open for reading. Its content is checked by whoever takes it, not here.
#[derive(Debug)]
pub struct Layout {
    index: Index,
    blobs: Blobs,
}

#[derive(Debug)]
enum Blobs {
    Directory(PathBuf),
    /// Where in the archive each blob begins, and its length.
    Archive {
        file: File,
        members: HashMap<Digest, (u64, u64)>,
    },
}

/// An image that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The image's manifest.
    pub descriptor: Descriptor,
    /// What is in it.
    pub manifest: Manifest,
}

/// `index.json` and `oci-layout` are a few lines.
const SMALL: u64 = 4 << 20;

impl Layout {
    /// Opens a layout directory or archive.
    ///
    /// # Errors
    /// [`LayoutError::NotALayout`], [`LayoutError::Document`], [`LayoutError::Io`].
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let metadata = fs::metadata(path).map_err(LayoutError::io("open", path))?;
        let lacks = |name: &str| LayoutError::NotALayout {
            path: path.display().to_string(),
            why: format!("it has no `{name}`"),
        };
        if metadata.is_dir() {
            let read = |name: &str| match fs::read(path.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(lacks(name)),
                result => result.map_err(LayoutError::io("read", &path.join(name))),
            };
            let index = parse(path, &read(MARK.0)?, &read("index.json")?)?;
            return Ok(Self { index, blobs: Blobs::Directory(path.to_owned()) });
        }
        let file = File::open(path).map_err(LayoutError::io("open", path))?;
        let mut reader = TarReader::new(BufReader::with_capacity(256 * 1024, &file), Limits::default());
        let mut members = HashMap::new();
        let (mut mark, mut index) = (None, None);
        while let Some(entry) = reader.next_entry()? {
            let Kind::File { size } = entry.kind else { continue };
            let document = match &entry.path[..] {
                b"oci-layout" => &mut mark,
                b"index.json" => &mut index,
                other => {
                    let digits = other.strip_prefix(b"blobs/sha256/").and_then(|hex| std::str::from_utf8(hex).ok());
                    if let Some(digest) = digits.and_then(|digits| Digest::from_hex(digits).ok()) {
                        members.insert(digest, (reader.position(), size));
                    }
                    continue;
                }
            };
            let mut bytes = Vec::new();
            reader.by_ref().take(SMALL).read_to_end(&mut bytes).map_err(LayoutError::io("read", path))?;
            *document = Some(bytes);
        }
        let mark = mark.ok_or_else(|| lacks(MARK.0))?;
        let index = parse(path, &mark, &index.ok_or_else(|| lacks("index.json"))?)?;
        Ok(Self { index, blobs: Blobs::Archive { file, members } })
    }

    /// What the layout lists.
    #[must_use]
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// The image with this tag (or whole name), or the only one, for this platform, where it is for several.
    ///
    /// # Errors
    /// [`LayoutError::NotFound`] if there is none, or several where one was not named; those of reading.
    pub fn find(&self, tag: Option<&str>, platform: Option<Platform>) -> Result<Found, LayoutError> {
        let root = self.root(tag)?;
        let mut candidates = Vec::new();
        self.collect(root, &mut candidates)?;
        let mut matching = Vec::new();
        for found in &candidates {
            if platform.is_none() || self.platform(found)? == platform {
                matching.push(found);
            }
        }
        match matching[..] {
            [found] => Ok(found.clone()),
            // The first, as where an index lists the same image twice.
            [found, ..] if platform.is_some() => Ok(found.clone()),
            _ => {
                let mut available = Vec::new();
                for found in &candidates {
                    available.extend(self.platform(found)?.map(|platform| platform.to_string()));
                }
                let wanted = platform
                    .map_or_else(|| "without a platform to choose by".to_owned(), |platform| format!("for {platform}"));
                Err(LayoutError::NotFound { wanted, available })
            }
        }
    }

    /// The manifest or index with this tag (or whole name), or the only one.
    ///
    /// # Errors
    /// [`LayoutError::NotFound`].
    pub fn root(&self, tag: Option<&str>) -> Result<&Descriptor, LayoutError> {
        let names = |entry: &Descriptor| {
            [IMAGE_NAME, REF_NAME].into_iter().filter_map(|key| entry.annotations.get(key)).cloned().collect::<Vec<_>>()
        };
        let all = &self.index.manifests;
        let found = match tag {
            Some(tag) => all.iter().find(|entry| names(entry).iter().any(|name| name == tag)),
            None => all.first().filter(|first| all.iter().all(|entry| entry.digest == first.digest)),
        };
        found.ok_or_else(|| LayoutError::NotFound {
            wanted: tag.map_or_else(|| "without a tag to choose by".to_owned(), |tag| format!("tagged `{tag}`")),
            available: all.iter().filter_map(|entry| names(entry).pop()).map(|name| format!("`{name}`")).collect(),
        })
    }

    fn collect(&self, descriptor: &Descriptor, found: &mut Vec<Found>) -> Result<(), LayoutError> {
        let bytes = read_document(self, descriptor)?;
        match Document::parse(descriptor, &bytes)? {
            Document::Index(index) => index.manifests.iter().try_for_each(|entry| self.collect(entry, found)),
            Document::Manifest(manifest) => {
                found.push(Found { descriptor: descriptor.clone(), manifest });
                Ok(())
            }
        }
    }

    /// What an image runs on: as the index has it, or else its config. None for what is no image.
    fn platform(&self, found: &Found) -> Result<Option<Platform>, LayoutError> {
        if found.descriptor.platform.is_some() || found.manifest.artifact_type.is_some() {
            return Ok(found.descriptor.platform);
        }
        let config = read_document(self, &found.manifest.config)?;
        let config = serde_json::from_slice::<ImageConfig>(&config).ok();
        Ok(config.map(|config| Platform { architecture: config.architecture, os: config.os }))
    }
}

fn parse(path: &Path, mark: &[u8], index: &[u8]) -> Result<Index, LayoutError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Mark {
        image_layout_version: String,
    }
    let malformed = |name: &str| {
        let what = format!("`{}` in `{}`", name, path.display());
        move |source| LayoutError::Document { what, source }
    };
    let mark: Mark = serde_json::from_slice(mark).map_err(malformed(MARK.0))?;
    if mark.image_layout_version != "1.0.0" {
        let why = format!("its version is {}, not 1.0.0", mark.image_layout_version);
        return Err(LayoutError::NotALayout { path: path.display().to_string(), why });
    }
    serde_json::from_slice(index).map_err(malformed("index.json"))
}

impl BlobSource for Layout {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send + '_>> {
        match &self.blobs {
            Blobs::Directory(path) => Ok(Box::new(File::open(path.join(blob_path(digest)))?)),
            Blobs::Archive { file, members } => {
                let &(offset, length) = members.get(digest).ok_or(io::ErrorKind::NotFound)?;
                Ok(Box::new(Member { file, offset, left: length }))
            }
        }
    }
}

/// Part of a file, read without moving its cursor.
struct Member<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Member<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let count = self.file.read_at(&mut buf[..room], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
