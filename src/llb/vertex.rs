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
pub struct Vertex(Arc<Inner>);

struct Inner {
    digest: Digest,
    op: Op,
    inputs: Vec<Edge>,
    platform: Option<Platform>,
    encoded: Vec<u8>,
    metadata: Metadata,
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
        Self(Arc::new(Inner { digest: Digest::of(&encoded), op, inputs, platform, encoded, metadata }))
    }

    /// Its identity.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// What it does.
    #[must_use]
    pub fn op(&self) -> &Op {
        &self.0.op
    }

    /// Its inputs, in the order ops count them; none twice.
    #[must_use]
    pub fn inputs(&self) -> &[Edge] {
        &self.0.inputs
    }

    /// The input at an index; `None` past the end, which [`crate::Definition`] rules out for its vertices.
    #[must_use]
    pub fn input(&self, index: InputIndex) -> Option<Edge> {
        self.0.inputs.get(index.0).copied()
    }

    /// The platform it is for, where that matters.
    #[must_use]
    pub fn platform(&self) -> Option<Platform> {
        self.0.platform
    }

    /// The encoded `pb::Op`.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.0.encoded
    }

    /// What is known of it besides.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// What people see: the name given, or a short form of the op.
    #[must_use]
    pub fn name(&self) -> String {
        match self.0.metadata.description.get(CUSTOM_NAME) {
            Some(name) => name.clone(),
            None => crate::dump::summary(&self.0.op),
        }
    }

    /// The same vertex with what another one of the same digest knows added: the first description of a key stays,
    /// capabilities add up, and `ignore_cache` of either holds.
    #[must_use]
    pub(crate) fn merged(&self, other: &Metadata) -> Self {
        let mut metadata = self.0.metadata.clone();
        for (key, text) in &other.description {
            metadata.description.entry(key.clone()).or_insert_with(|| text.clone());
        }
        metadata.caps.extend(&other.caps);
        metadata.ignore_cache |= other.ignore_cache;
        metadata.export_cache = metadata.export_cache.or(other.export_cache);
        if metadata == self.0.metadata {
            return self.clone();
        }
        let Inner { digest, op, inputs, platform, encoded, metadata: _ } = &*self.0;
        Self(Arc::new(Inner {
            digest: *digest,
            op: op.clone(),
            inputs: inputs.clone(),
            platform: *platform,
            encoded: encoded.clone(),
            metadata,
        }))
    }
}

impl PartialEq for Vertex {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest && self.0.metadata == other.0.metadata
    }
}

impl Eq for Vertex {}

impl fmt::Debug for Vertex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vertex")
            .field("digest", &self.0.digest)
            .field("op", &self.0.op)
            .field("inputs", &self.0.inputs)
            .field("platform", &self.0.platform)
            .field("metadata", &self.0.metadata)
            .finish_non_exhaustive()
    }
}
