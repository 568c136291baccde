//! What an engine is asked to do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use diag::{Diagnostic, Reported, codes};
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
    /// GitHub's cache service.
    Gha,
}

impl CacheKind {
    const ALL: [Self; 3] = [Self::Registry, Self::Local, Self::Gha];

    /// BuildKit's name of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Local => "local",
            Self::Gha => "gha",
        }
    }
}

/// What a cache is named for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUse {
    /// Results are looked for in it.
    Import,
    /// Results are put into it.
    Export,
}

/// What Docker calls a cache inside of an image.
const INLINE: &str = "inline";

/// A text that is no cache.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheSpecError {
    /// A part is not `name=value`.
    #[error("`{0}` is not `type=TYPE[,NAME=VALUE…]`")]
    Form(String),
    /// The type is not known.
    #[error("`{0}` is not a type of cache")]
    Kind(String),
    /// It lacks what says where it is.
    #[error("a cache of `type={0}` needs `{1}=…`")]
    Lacks(&'static str, &'static str),
    /// It would change the image, which is the same wherever and whenever it is built.
    #[error("a cache cannot be put into the image itself")]
    Inline,
}

impl Reported for CacheSpecError {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::new(codes::cli::USAGE, self.to_string());
        match self {
            Self::Inline => diagnostic
                .cause(
                    "the image would hold what its builder knew and when it was built: each would have another digest",
                )
                .help("put the cache beside it: `--cache-to type=registry,ref=REGISTRY/NAME:cache`"),
            Self::Form(_) | Self::Kind(_) | Self::Lacks(..) => {
                diagnostic.help("caches are `type=registry,ref=NAME`, `type=local,src=DIR` (or `dest=DIR`), `type=gha`")
            }
        }
    }
}

impl CacheSpec {
    /// Reads what docker and buildctl take, such as `type=registry,ref=ghcr.io/owner/cache`. A word alone is the name
    /// of a cache in a registry. One inside an image is read from the registry that has the image.
    ///
    /// # Errors
    /// [`CacheSpecError`].
    pub fn parse(text: &str, cache_use: CacheUse) -> Result<Self, CacheSpecError> {
        if !text.is_empty() && !text.contains(['=', ',']) {
            let attributes = BTreeMap::from([("ref".to_owned(), text.to_owned())]);
            return Ok(Self { kind: CacheKind::Registry, attributes });
        }
        let parts =
            text.split(',').map(|part| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mut attributes =
            parts.collect::<Option<BTreeMap<_, _>>>().ok_or_else(|| CacheSpecError::Form(text.to_owned()))?;
        let kind = attributes.remove("type").ok_or_else(|| CacheSpecError::Form(text.to_owned()))?;
        let kind = match (kind.as_str(), cache_use) {
            (INLINE, CacheUse::Export) => return Err(CacheSpecError::Inline),
            (INLINE, CacheUse::Import) => CacheKind::Registry,
            (name, _) => match CacheKind::ALL.into_iter().find(|known| known.as_str() == name) {
                Some(kind) => kind,
                None => return Err(CacheSpecError::Kind(kind)),
            },
        };
        let needed = match kind {
            CacheKind::Registry => Some("ref"),
            CacheKind::Local => Some(match cache_use {
                CacheUse::Import => "src",
                CacheUse::Export => "dest",
            }),
            CacheKind::Gha => None,
        };
        match needed.filter(|needed| attributes.get(*needed).is_none_or(String::is_empty)) {
            Some(needed) => Err(CacheSpecError::Lacks(kind.as_str(), needed)),
            None => Ok(Self { kind, attributes }),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_written_as_docker_has_them() {
        let parse = |text: &str| CacheSpec::parse(text, CacheUse::Import);
        let registry = |name: &str| CacheSpec {
            kind: CacheKind::Registry,
            attributes: BTreeMap::from([("ref".to_owned(), name.to_owned())]),
        };
        assert_eq!(parse("ghcr.io/a/b:cache"), Ok(registry("ghcr.io/a/b:cache")));
        assert_eq!(parse("ref=a/b,type=registry"), Ok(registry("a/b")));
        assert_eq!(parse("type=inline,ref=a/b"), Ok(registry("a/b")));
        assert_eq!(CacheSpec::parse("type=inline", CacheUse::Export), Err(CacheSpecError::Inline));
        assert_eq!(parse("type=local,dest=x"), Err(CacheSpecError::Lacks("local", "src")));
        assert_eq!(parse("type=s3"), Err(CacheSpecError::Kind("s3".to_owned())));
        assert_eq!(parse("a=b"), Err(CacheSpecError::Form("a=b".to_owned())));
        assert_eq!(parse(""), Err(CacheSpecError::Form(String::new())));
    }
}
