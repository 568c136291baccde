//! Everything that images consist of.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{BlobSource, IMAGE_NAME, LayoutError, Named, REF_NAME};
use crate::layer::compress::HashingReader;
use crate::{Descriptor, Digest, Index, Manifest, Platform, Reference, media_type};

/// Images with all their content, ready to be written somewhere.
pub struct Images<'a> {
    pub(super) source: &'a dyn BlobSource,
    pub(super) roots: Vec<Named>,
    /// Every blob once, with its length.
    pub(super) blobs: BTreeMap<Digest, u64>,
    /// Every image manifest, in the order found, with the root that led to it.
    pub(super) manifests: Vec<FoundManifest>,
}

pub(super) struct FoundManifest {
    /// Its place in [`Images::roots`].
    pub(super) root: usize,
    pub(super) platform: Option<Platform>,
    pub(super) manifest: Manifest,
}

/// Documents are small; anything larger is something else.
const DOCUMENT_LIMIT: u64 = 16 << 20;

impl<'a> Images<'a> {
    /// Reads the documents of these images, and so learns what belongs to them. Documents are checked now, layers when
    /// they are written.
    ///
    /// # Errors
    /// [`LayoutError::Blob`], [`LayoutError::Mismatch`], [`LayoutError::Document`], [`LayoutError::MediaType`].
    pub fn read(source: &'a dyn BlobSource, roots: Vec<Named>) -> Result<Self, LayoutError> {
        let mut images = Self { source, roots: Vec::new(), blobs: BTreeMap::new(), manifests: Vec::new() };
        for (number, named) in roots.iter().enumerate() {
            images.add(&named.root, number)?;
        }
        images.roots = roots;
        Ok(images)
    }

    /// Bytes of all content.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blobs.values().sum()
    }

    /// All content, each once, with its length in bytes.
    pub fn blobs(&self) -> impl Iterator<Item = (&Digest, u64)> {
        self.blobs.iter().map(|(digest, &size)| (digest, size))
    }

    fn add(&mut self, descriptor: &Descriptor, root: usize) -> Result<(), LayoutError> {
        let bytes = read_document(self.source, descriptor)?;
        self.blobs.insert(descriptor.digest, descriptor.size);
        match Document::parse(descriptor, &bytes)? {
            Document::Index(index) => index.manifests.iter().try_for_each(|manifest| self.add(manifest, root)),
            Document::Manifest(manifest) => {
                for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    self.blobs.insert(blob.digest, blob.size);
                }
                self.manifests.push(FoundManifest { root, platform: descriptor.platform, manifest });
                Ok(())
            }
        }
    }

    /// The layout's index: each image once for each of its names.
    pub(super) fn index(&self) -> Index {
        let entry = |named: &Named, name: Option<&Reference>| {
            let mut descriptor = named.root.clone();
            if let Some(name) = name {
                if let Some(tag) = &name.tag {
                    descriptor.annotations.insert(REF_NAME.to_owned(), tag.to_string());
                }
                descriptor.annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
            }
            descriptor
        };
        let entries = self.roots.iter().flat_map(|named| match named.names.len() {
            0 => vec![entry(named, None)],
            _ => named.names.iter().map(|name| entry(named, Some(name))).collect(),
        });
        Index::new(entries.collect())
    }

    /// Copies content to `sink`, and checks it on the way.
    pub(super) fn copy(&self, digest: &Digest, size: u64, sink: &mut impl io::Write) -> Result<(), LayoutError> {
        let mut source = self.open(digest, size)?;
        io::copy(&mut source, sink).map_err(|source| LayoutError::Blob { digest: *digest, source })?;
        source.check()
    }

    /// Opens content, to be checked when it was read.
    pub(super) fn open(&self, digest: &Digest, size: u64) -> Result<Checked<'_>, LayoutError> {
        let open = self.source.open(digest).map_err(|source| LayoutError::Blob { digest: *digest, source })?;
        Ok(Checked { expected: (*digest, size), source: HashingReader::new(open) })
    }
}

impl std::fmt::Debug for Images<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("roots", &self.roots).field("blobs", &self.blobs).finish_non_exhaustive()
    }
}

/// Content being read, and what it should turn out to be.
pub(super) struct Checked<'a> {
    expected: (Digest, u64),
    source: HashingReader<Box<dyn Read + Send + 'a>>,
}

impl Checked<'_> {
    /// Whether all that was read is what it should be.
    pub(super) fn check(mut self) -> Result<(), LayoutError> {
        let expected = self.expected;
        let rest = io::copy(&mut self.source, &mut io::sink());
        rest.map_err(|source| LayoutError::Blob { digest: expected.0, source })?;
        let (found, size) = self.source.finish();
        if (found, size) == expected {
            Ok(())
        } else {
            Err(LayoutError::Mismatch { expected: expected.0, found, size })
        }
    }
}

impl Read for Checked<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.source.read(buf)
    }
}

/// A document that lists others.
pub(super) enum Document {
    Index(Index),
    Manifest(Manifest),
}

impl Document {
    pub(super) fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<Self, LayoutError> {
        let malformed = |source| LayoutError::Document { what: descriptor.digest.to_string(), source };
        match descriptor.media_type.as_str() {
            media_type::INDEX | media_type::DOCKER_INDEX => {
                serde_json::from_slice(bytes).map(Self::Index).map_err(malformed)
            }
            media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
                serde_json::from_slice(bytes).map(Self::Manifest).map_err(malformed)
            }
            other => Err(LayoutError::MediaType { digest: descriptor.digest, media_type: other.to_owned() }),
        }
    }
}

/// Reads a manifest, index or config, and checks it.
pub(super) fn read_document(source: &dyn BlobSource, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
    let digest = descriptor.digest;
    let fail = |source| LayoutError::Blob { digest, source };
    let mut bytes = Vec::new();
    source.open(&digest).map_err(fail)?.take(DOCUMENT_LIMIT).read_to_end(&mut bytes).map_err(fail)?;
    let (found, size) = (Digest::of(&bytes), bytes.len() as u64);
    if found != digest || size != descriptor.size {
        return Err(LayoutError::Mismatch { expected: digest, found, size });
    }
    Ok(bytes)
}
