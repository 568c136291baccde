//! What an engine gives back.

use std::collections::BTreeSet;
use std::path::PathBuf;

use llb::{Definition, LocalSource, Op, SourceOp, Vertex};
use oci::{Descriptor, DiffId, Digest};

use crate::git::redacted;

/// A solved request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolveOutcome {
    /// What was made.
    pub result: Solved,
    /// The sources the definition names, for provenance: sorted, each once.
    pub materials: Vec<Material>,
    /// How much of it was known already.
    pub cache: CacheStats,
}

/// What was made of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one for a whole build")]
pub enum Solved {
    /// An image in the store.
    Image(SolvedImage),
    /// The result exists as snapshots, nothing else.
    Tree,
    /// The files lie here.
    Files(PathBuf),
}

/// An image whose manifest, config and layers are blobs of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolvedImage {
    /// The manifest, with the platform set.
    pub manifest: Descriptor,
    /// The config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<SolvedLayer>,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SolvedLayer {
    /// The blob, as compressed.
    pub descriptor: Descriptor,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
}

/// Something from outside that went into a result. Spec: SLSA provenance v1 §resolvedDependencies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// The source as the definition names it, without credentials.
    pub uri: String,
    /// What exactly was used.
    pub content: MaterialContent,
}

impl Material {
    /// What the sources of a definition are, sorted, each once. `local` says what the directory behind a local source
    /// held, by [`Context::digest`](crate::context::Context::digest).
    pub fn of(definition: &Definition, local: impl Fn(&Vertex, &LocalSource) -> Digest) -> Vec<Self> {
        let sources = definition.vertices().iter().filter_map(|vertex| match vertex.op() {
            Op::Source(source) => Some(Self::of_source(source, |source| local(vertex, source))),
            Op::Exec(_) | Op::File(_) | Op::Merge(_) | Op::Diff(_) => None,
        });
        sources.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn of_source(source: &SourceOp, local: impl FnOnce(&LocalSource) -> Digest) -> Self {
        let (uri, content) = match source {
            SourceOp::Image(image) => {
                (format!("docker-image://{}", image.repository), MaterialContent::Digest(image.digest))
            }
            SourceOp::OciLayout(image) => {
                (format!("oci-layout://{}", image.name), MaterialContent::Digest(image.digest))
            }
            SourceOp::Http(http) => (redacted(&http.url), MaterialContent::Digest(http.checksum)),
            SourceOp::Git(git) => (redacted(&git.remote), MaterialContent::Commit(git.commit.to_string())),
            SourceOp::Local(source) => (format!("local://{}", source.name), MaterialContent::Digest(local(source))),
        };
        Self { uri, content }
    }
}

/// What identifies a material's content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MaterialContent {
    /// An image manifest, a downloaded file or a directory's content, by digest.
    Digest(Digest),
    /// A git commit, as 40 hexadecimal digits.
    Commit(String),
}

/// How many vertices were looked up and what came of it. Vertices nothing needed are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Vertices whose result was known.
    pub hits: usize,
    /// Vertices that had to run.
    pub misses: usize,
}
