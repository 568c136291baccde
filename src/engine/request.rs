//! What an engine is asked to do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use oci::layer::compress::Compression;
use oci::{ContainerConfig, History, Platform};
use secrecy::SecretSlice;
use store::Store;

/// One thing to build.
#[derive(Clone, Debug)]
pub struct SolveRequest {
    /// The graph; its terminal vertex is what is wanted.
    pub definition: Arc<llb::Definition>,
    /// The platform the image config names, and which manifest is taken from an index.
    pub platform: Platform,
    /// Directories behind `local://NAME` sources.
    pub contexts: BTreeMap<String, ContextSpec>,
    /// Where the manifests behind `oci-layout://NAME@sha256:…` sources lie.
    pub layouts: BTreeMap<String, Layout>,
    /// Secrets that steps may mount. Their values never enter a key, a record, a layer or a log.
    pub secrets: BTreeMap<llb::SecretId, SecretSlice<u8>>,
    /// Sockets of the SSH agents that steps may talk to, by the id they mount them under.
    pub agents: BTreeMap<String, PathBuf>,
    /// Where results made elsewhere may be found. What cannot be read is a miss, told as a warning.
    pub cache_from: Vec<CacheSpec>,
    /// Where results go, for others to find.
    pub cache_to: Vec<CacheSpec>,
    /// What becomes of the result.
    pub output: Output,
    /// Whether steps run although their results are known. Sources are still taken from where they are cached.
    pub no_cache: bool,
    /// Newest time, in seconds since 1970, that a layer's entries may carry; later ones become this.
    pub source_date_epoch: Option<i64>,
}

/// A directory behind a `local://` source. Which of its files count is said by the source's own patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextSpec {
    /// The directory.
    pub root: PathBuf,
}

/// A cache that several machines share. Spec: BuildKit's README §Export cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheSpec {
    /// Where it lies.
    pub kind: CacheKind,
    /// The rest of it by BuildKit's names: `ref`, `src`, `dest`, `mode`, `scope` and so on. Those of [`CacheKind::Gha`]
    /// hold a token.
    pub attributes: BTreeMap<String, String>,
}

/// Kinds of shared caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CacheKind {
    /// A reference of an image registry.
    Registry,
    /// A directory of this machine, an OCI layout.
    Local,
    /// Inside the image that is made.
    Inline,
    /// GitHub's cache service.
    Gha,
}

impl CacheKind {
    /// BuildKit's name of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Local => "local",
            Self::Inline => "inline",
            Self::Gha => "gha",
        }
    }
}

/// A place that holds manifests and their blobs.
#[derive(Clone, Debug)]
pub enum Layout {
    /// clawbuild's own store.
    Store(Store),
    /// An OCI image layout directory.
    Directory(PathBuf),
}

/// What becomes of a result.
#[derive(Clone, Debug)]
pub enum Output {
    /// An image: layers, config and manifest, written to the store.
    Image(Box<ImageOutput>),
    /// Nothing: the result is only made, so that later solves find it.
    Tree,
    /// The files of the result.
    Files(FilesOutput),
}

/// How a result becomes an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOutput {
    /// How new layers are compressed. Layers that come from an image keep their blob.
    pub compression: Compression,
    /// The complete container config, labels included; the engine adds nothing to it.
    pub config: ContainerConfig,
    /// The image's creation time, RFC 3339.
    pub created: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// History, oldest first. Should there be more layers than entries that made one, plain entries are added at the
    /// end; should there be fewer, the last entries are marked as having made none.
    pub history: Vec<History>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// Where a result's files go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilesOutput {
    /// Into a directory, which is made if it is not there. Files already there are replaced, others are kept.
    Directory(PathBuf),
    /// Into a tar archive at this path.
    Tar(PathBuf),
}
