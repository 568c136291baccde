//! Vertices: ops with their inputs, known by the digest of their encoding.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use oci::{Digest, Platform};

use crate::caps::Cap;
use crate::encode;
use crate::op::{InputIndex, Op, OutputIndex};

/// The description key BuildKit shows as a vertex's name.
pub const CUSTOM_NAME: &str = "llb.customname";

/// One output of one vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The vertex.
    pub vertex: Digest,
    /// Which of its outputs.
    pub output: OutputIndex,
}

/// A vertex: immutable, content-addressed, cheap to clone.
///
/// Its identity is the SHA-256 of the encoded `pb::Op`, which covers the op, the inputs and the platform. Metadata is
/// no part of it.
#[derive(Clone)]
pub struct Vertex {
    content: Arc<Content>,
    metadata: Arc<Metadata>,
}

/// What the digest covers.
struct Content {
    digest: Digest,
    op: Op,
    inputs: Vec<Edge>,
    platform: Option<Platform>,
    encoded: Vec<u8>,
}

/// What is known of a vertex besides what it does: nothing here changes its digest. Spec: ops.proto `OpMetadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Free texts; [`CUSTOM_NAME`] is the one engines show.
    pub description: BTreeMap<String, String>,
    /// What a daemon must know. Filled in from the op by [`Vertex::new`].
    pub caps: BTreeSet<Cap>,
    /// Execute it even if the cache has its result.
    pub ignore_cache: bool,
    /// Whether exported caches hold it; `None` leaves the choice to the exporter.
    pub export_cache: Option<bool>,
}

impl Vertex {
    /// The vertex of this op.
    ///
    /// The platform is kept only where it is part of the op's meaning, as in BuildKit: commands and image sources.
    /// Nothing is checked here; see [`crate::Definition`].
    #[must_use]
    pub fn new(op: Op, inputs: Vec<Edge>, platform: Option<Platform>, mut metadata: Metadata) -> Self {
        let platform = platform.filter(|_| match &op {
            Op::Source(source) => source.is_platform_specific(),
            Op::Exec(_) => true,
            Op::File(_) | Op::Merge(_) | Op::Diff(_) => false,
        });
        metadata.caps.extend(op.caps());
        let encoded = encode::op(&op, &inputs, platform);
        let content = Content { digest: Digest::of(&encoded), op, inputs, platform, encoded };
        Self { content: Arc::new(content), metadata: Arc::new(metadata) }
    }

    /// Its identity.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.content.digest
    }

    /// What it does.
    #[must_use]
    pub fn op(&self) -> &Op {
        &self.content.op
    }

    /// Its inputs, in the order ops count them; none twice.
    #[must_use]
    pub fn inputs(&self) -> &[Edge] {
        &self.content.inputs
    }

    /// The input at an index; `None` past the end, which [`crate::Definition`] rules out for its vertices.
    #[must_use]
    pub fn input(&self, index: InputIndex) -> Option<Edge> {
        self.content.inputs.get(index.0).copied()
    }

    /// The platform it is for, where that matters.
    #[must_use]
    pub fn platform(&self) -> Option<Platform> {
        self.content.platform
    }

    /// The encoded `pb::Op`.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.content.encoded
    }

    /// What is known of it besides.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What people see: the name given, or a short form of the op.
    #[must_use]
    pub fn name(&self) -> String {
        match self.metadata.description.get(CUSTOM_NAME) {
            Some(name) => name.clone(),
            None => crate::dump::summary(&self.content.op),
        }
    }

    /// The same vertex, described by `change`.
    #[must_use]
    pub(crate) fn described(&self, change: impl FnOnce(&mut Metadata)) -> Self {
        let mut metadata = Metadata::clone(&self.metadata);
        change(&mut metadata);
        Self { content: Arc::clone(&self.content), metadata: Arc::new(metadata) }
    }

    /// The same vertex with what another one of the same digest knows added: the first description of a key stays,
    /// capabilities add up, and `ignore_cache` of either holds.
    #[must_use]
    pub(crate) fn merged(&self, other: &Self) -> Self {
        if Arc::ptr_eq(&self.metadata, &other.metadata) || self.metadata == other.metadata {
            return self.clone();
        }
        self.described(|metadata| {
            for (key, text) in &other.metadata.description {
                metadata.description.entry(key.clone()).or_insert_with(|| text.clone());
            }
            metadata.caps.extend(&other.metadata.caps);
            metadata.ignore_cache |= other.metadata.ignore_cache;
            metadata.export_cache = metadata.export_cache.or(other.metadata.export_cache);
        })
    }
}

impl PartialEq for Vertex {
    fn eq(&self, other: &Self) -> bool {
        self.content.digest == other.content.digest && self.metadata == other.metadata
    }
}

impl Eq for Vertex {}

impl fmt::Debug for Vertex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vertex")
            .field("digest", &self.content.digest)
            .field("op", &self.content.op)
            .field("inputs", &self.content.inputs)
            .field("platform", &self.content.platform)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}
