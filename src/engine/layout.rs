//! Images of layouts.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use diag::{Diagnostic, Reported, codes};
use oci::{Descriptor, DiffId, Digest, ImageConfig, Manifest, Platform, media_type};
use serde::Deserialize;
use store::{Store, StoreError};

use crate::Layout;

/// An image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The layout has no such blob.
    #[error("the layout `{layout}` has no blob {digest}")]
    Missing {
        /// The layout's directory.
        layout: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// A blob is no manifest, index or config.
    #[error("{digest} is not an image {expected}")]
    Document {
        /// The blob.
        digest: Digest,
        /// What it should be.
        expected: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The index has no manifest for the platform.
    #[error("{digest} has no image for {platform}, it has: {}", .found.join(", "))]
    NoPlatform {
        /// The index.
        digest: Digest,
        /// The platform wanted.
        platform: Platform,
        /// Those it has.
        found: Vec<String>,
    },
    /// Manifest and config disagree.
    #[error("{digest} lists {layers} layers, its config {diff_ids}")]
    LayerCount {
        /// The manifest.
        digest: Digest,
        /// How many layers the manifest has.
        layers: usize,
        /// How many diff IDs the config has.
        diff_ids: usize,
    },
    /// A file of a layout could not be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] registry::image::ImageError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reported for ImageError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Missing { .. } => Diagnostic::new(codes::engine::IMAGE, self.to_string())
                .help("the layout is incomplete: make or fetch it again"),
            Self::Document { .. } | Self::LayerCount { .. } => {
                Diagnostic::new(codes::engine::IMAGE, self.to_string()).caused_by(self)
            }
            Self::NoPlatform { .. } => Diagnostic::new(codes::engine::IMAGE, self.to_string())
                .help("build for a platform the image has, or choose another base"),
            Self::Read { .. } => Diagnostic::new(codes::engine::IO, self.to_string()).caused_by(self),
            Self::Registry(error) => error.diagnostic(),
            Self::Store(error) => error.diagnostic(),
        }
    }
}

/// The layers of an image, lowest first, by diff ID and as an OCI manifest lists them. All its blobs are in `store`
/// afterwards. `digest` is that of its manifest, or of an index with one for the platform.
///
/// # Errors
/// [`ImageError`] of every kind but [`ImageError::Registry`].
pub fn layers(
    store: &Store,
    layout: &Layout,
    digest: &Digest,
    platform: Platform,
) -> Result<Vec<(DiffId, Descriptor)>, ImageError> {
    read(&Blobs { store, layout }, digest, platform)
}

/// Where blobs are and where they go.
struct Blobs<'a> {
    store: &'a Store,
    layout: &'a Layout,
}

impl Blobs<'_> {
    fn document(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        self.bring(digest, None)?;
        Ok(self.store.read_blob(digest)?)
    }

    /// Sees to it that the store has the blob, and all of it if its length is known.
    fn bring(&self, digest: &Digest, size: Option<u64>) -> Result<(), ImageError> {
        if self.store.blob_size(digest).is_some_and(|found| size.is_none_or(|size| size == found)) {
            return Ok(());
        }
        match self.layout {
            Layout::Store(other) => copy(self.store, &other.blob_path(digest), digest, other.root()),
            Layout::Directory(root) => copy(self.store, &root.join("blobs/sha256").join(digest.hex()), digest, root),
        }
    }
}

fn copy(store: &Store, from: &Path, digest: &Digest, layout: &Path) -> Result<(), ImageError> {
    let mut file = File::open(from).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ImageError::Missing { layout: layout.to_owned(), digest: *digest },
        _ => ImageError::Read { path: from.to_owned(), source },
    })?;
    let mut writer = store.blob_writer()?;
    io::copy(&mut file, &mut writer).map_err(|source| ImageError::Read { path: from.to_owned(), source })?;
    writer.commit(Some(digest))?;
    Ok(())
}

fn read(blobs: &Blobs<'_>, digest: &Digest, platform: Platform) -> Result<Vec<(DiffId, Descriptor)>, ImageError> {
    let bytes = blobs.document(digest)?;
    let document = |expected| move |source| ImageError::Document { digest: *digest, expected, source };
    if let Some(manifest) = select(&bytes, digest, platform)? {
        return read(blobs, &manifest, platform);
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(document("manifest"))?;
    let config = blobs.document(&manifest.config.digest)?;
    let config: ImageConfig = serde_json::from_slice(&config).map_err(|source| ImageError::Document {
        digest: manifest.config.digest,
        expected: "config",
        source,
    })?;
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let (layers, diff_ids) = (manifest.layers.len(), diff_ids.len());
        return Err(ImageError::LayerCount { digest: *digest, layers, diff_ids });
    }
    for layer in &manifest.layers {
        blobs.bring(&layer.digest, Some(layer.size))?;
    }
    let layers = manifest.layers.into_iter().map(plain);
    Ok(diff_ids.into_iter().zip(layers).collect())
}

/// An index, as far as it has to be understood. Others than clawbuild list platforms clawbuild has no name for.
#[derive(Deserialize)]
struct Listing {
    manifests: Option<Vec<Listed>>,
}

#[derive(Deserialize)]
struct Listed {
    digest: Digest,
    platform: Option<ListedPlatform>,
}

#[derive(Deserialize)]
struct ListedPlatform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl fmt::Display for ListedPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// The manifest an index has for the platform; `None` when it is no index.
fn select(bytes: &[u8], digest: &Digest, platform: Platform) -> Result<Option<Digest>, ImageError> {
    let listing: Listing = serde_json::from_slice(bytes).map_err(|source| ImageError::Document {
        digest: *digest,
        expected: "manifest",
        source,
    })?;
    let Some(manifests) = listing.manifests else { return Ok(None) };
    let named = |listed: &Listed| listed.platform.as_ref().map(ToString::to_string);
    let fits = |listed: &&Listed| named(listed).and_then(|text| text.parse().ok()) == Some(platform);
    match manifests.iter().find(fits) {
        Some(manifest) => Ok(Some(manifest.digest)),
        None => {
            let found = manifests.iter().filter_map(named).filter(|text| text != "unknown/unknown").collect();
            Err(ImageError::NoPlatform { digest: *digest, platform, found })
        }
    }
}

/// A layer's descriptor as OCI manifests write it: Docker's media types mean the same bytes.
fn plain(mut layer: Descriptor) -> Descriptor {
    if layer.media_type == media_type::DOCKER_LAYER_GZIP {
        media_type::LAYER_GZIP.clone_into(&mut layer.media_type);
    }
    layer.platform = None;
    layer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_searched_for_the_platform_among_strange_ones() {
        let (amd64, arm64) = (Digest::of("amd64"), Digest::of("arm64"));
        let entry = |digest: Digest, platform: &str| format!(r#"{{"digest":"{digest}","platform":{platform}}}"#);
        let entries = [
            entry(Digest::of("1"), r#"{"os":"unknown","architecture":"unknown"}"#),
            entry(Digest::of("2"), r#"{"os":"windows","architecture":"amd64","os.version":"10.0"}"#),
            entry(amd64, r#"{"os":"linux","architecture":"amd64"}"#),
            entry(arm64, r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#),
        ];
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let digest = Digest::of(&index);
        let select = |platform| select(index.as_bytes(), &digest, platform);
        assert_eq!(select(Platform::LINUX_AMD64).expect("selects"), Some(amd64));
        assert_eq!(select(Platform::LINUX_ARM64).expect("selects"), Some(arm64));
        let error = select(Platform::LINUX_RISCV64).expect_err("there is none").to_string();
        assert!(error.ends_with("for linux/riscv64, it has: windows/amd64, linux/amd64, linux/arm64/v8"), "{error}");
        assert_eq!(super::select(b"{\"config\":{}}", &digest, Platform::LINUX_AMD64).expect("parses"), None);
    }
}
