//! What an engine gives back.

use std::path::PathBuf;

use oci::{Descriptor, DiffId, Digest};

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
