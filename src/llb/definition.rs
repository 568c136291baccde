//! Whole graphs, ready to be solved.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard_buildkit_proto::pb;
use diag::{Diagnostic, Reported};
use oci::Digest;
use prost::Message;

use crate::caps::Cap;
use crate::decode::{self, FieldError};
use crate::encode;
use crate::op::Op;
use crate::source::SourceOp;
use crate::source_map::{Location, SourceMap};
use crate::validate::{self, DefinitionError};
use crate::vertex::{Edge, Vertex};

/// A graph with one result: every vertex the result needs and no other, inputs before what uses them, none twice.
///
/// The order depends on the graph alone (depth first from the result, inputs in their own order), so equal graphs
/// have equal bytes however they were put together. Vertices are known by digests over their inputs' digests, hence
/// there are no cycles. Whatever exists of this type has passed [`Definition::new`]'s checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    vertices: Vec<Vertex>,
    positions: HashMap<Digest, usize>,
    head: Edge,
    source_map: SourceMap,
}

/// Why bytes are no definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not the protobuf message they should be.
    #[error("the definition is not a protobuf message")]
    Protobuf(#[from] prost::DecodeError),
    /// There is no op at all.
    #[error("the definition is empty")]
    Empty,
    /// An op cannot be taken over.
    #[error("vertex {vertex} cannot be decoded")]
    Vertex {
        /// Digest of its bytes.
        vertex: Digest,
        /// What is wrong with it.
        #[source]
        source: FieldError,
    },
    /// The last op does not end the definition.
    #[error("the last op does not point to the result")]
    Terminal(#[source] FieldError),
    /// An op occurs twice.
    #[error("vertex {vertex} occurs twice")]
    Duplicate {
        /// Which.
        vertex: Digest,
    },
    /// An op stands before one of its inputs, or an input is missing.
    #[error("vertex {vertex} stands before its input {input}")]
    Order {
        /// The one that uses the input.
        vertex: Digest,
        /// The input.
        input: Digest,
    },
    /// An op that the result does not need.
    #[error("vertex {vertex} is not needed for the result")]
    Unreachable {
        /// Which.
        vertex: Digest,
    },
    /// Metadata of something that is no vertex here.
    #[error("there is metadata for `{0}`, which is not a vertex of the definition")]
    Metadata(String),
    /// The source map cannot be taken over.
    #[error("the source map cannot be decoded")]
    SourceMap(#[source] FieldError),
    /// The ops do not make a valid graph.
    #[error(transparent)]
    Invalid(#[from] DefinitionError),
}

impl Definition {
    /// The graph of everything `head` needs out of `vertices`, in which order and how often they may come. Vertices
    /// of one digest become one that knows what either did.
    ///
    /// # Errors
    /// [`DefinitionError`] if an input is missing or an op is not well formed.
    pub fn new(
        head: Edge,
        vertices: impl IntoIterator<Item = Vertex>,
        mut source_map: SourceMap,
    ) -> Result<Self, DefinitionError> {
        let mut known: BTreeMap<Digest, Vertex> = BTreeMap::new();
        for vertex in vertices {
            let merged = match known.get(&vertex.digest()) {
                Some(known) => known.merged(&vertex),
                None => vertex,
            };
            known.insert(merged.digest(), merged);
        }
        let vertices = sorted(head, &known)?;
        let positions: HashMap<_, _> =
            vertices.iter().enumerate().map(|(position, vertex)| (vertex.digest(), position)).collect();
        source_map.retain(|vertex| positions.contains_key(vertex));
        let definition = Self { vertices, positions, head, source_map };
        definition.validate()?;
        Ok(definition)
    }

    /// Checks every rule a graph must keep. What [`Definition::new`] gave always passes.
    ///
    /// # Errors
    /// The first rule broken, as a [`DefinitionError`].
    pub fn validate(&self) -> Result<(), DefinitionError> {
        let check = |user: Digest, edge: &Edge| match self.vertex(&edge.vertex) {
            None => Err(DefinitionError::DanglingInput { vertex: user, input: edge.vertex }),
            Some(producer) if edge.output.0 >= producer.op().outputs() => Err(DefinitionError::NoSuchOutput {
                vertex: user,
                input: edge.vertex,
                output: edge.output.0,
                outputs: producer.op().outputs(),
            }),
            Some(_) => Ok(()),
        };
        for vertex in &self.vertices {
            for edge in vertex.inputs() {
                check(vertex.digest(), edge)?;
            }
            validate::vertex(vertex)?;
        }
        check(self.digest(), &self.head)
    }

    /// The vertices, inputs first.
    #[must_use]
    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// The vertex with this digest.
    #[must_use]
    pub fn vertex(&self, digest: &Digest) -> Option<&Vertex> {
        self.positions.get(digest).map(|position| &self.vertices[*position])
    }

    /// The result.
    #[must_use]
    pub fn head(&self) -> Edge {
        self.head
    }

    /// The digest of the op that ends the definition: the identity of the whole graph, metadata aside.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(encode::terminal(&self.head))
    }

    /// Where in the recipes vertices come from.
    #[must_use]
    pub fn source_map(&self) -> &SourceMap {
        &self.source_map
    }

    /// The same graph that also knows a vertex's place.
    #[must_use]
    pub fn with_location(mut self, vertex: Digest, location: Location) -> Self {
        if self.positions.contains_key(&vertex) {
            self.source_map.add(vertex, location);
        }
        self
    }

    /// Every capability an engine must have to solve it.
    #[must_use]
    pub fn required_caps(&self) -> BTreeSet<Cap> {
        self.vertices.iter().flat_map(|vertex| vertex.metadata().caps.iter().copied()).chain(self.own_caps()).collect()
    }

    /// The first vertex that needs a capability, to say where a missing one is used.
    #[must_use]
    pub fn user_of(&self, cap: Cap) -> Option<&Vertex> {
        self.vertices.iter().find(|vertex| vertex.metadata().caps.contains(&cap))
    }

    /// What the definition itself needs, recorded at the op that ends it as BuildKit's client does.
    fn own_caps(&self) -> impl Iterator<Item = Cap> {
        let uses = |used: fn(&Vertex) -> bool| self.vertices.iter().any(used);
        [
            (true, Cap::Constraints),
            (true, Cap::Platform),
            (uses(|vertex| vertex.metadata().ignore_cache), Cap::MetaIgnoreCache),
            (uses(|vertex| !vertex.metadata().description.is_empty()), Cap::MetaDescription),
            (uses(|vertex| vertex.metadata().export_cache.is_some()), Cap::MetaExportCache),
        ]
        .into_iter()
        .filter_map(|(used, cap)| used.then_some(cap))
    }

    /// The same graph with other sources, such as one client's session put in for a daemon shared by many. Digests of
    /// everything above a changed source change; metadata and places stay.
    ///
    /// # Errors
    /// [`DefinitionError`] if a new source is not well formed.
    pub fn map_sources(&self, mut change: impl FnMut(&SourceOp) -> SourceOp) -> Result<Self, DefinitionError> {
        let mut renamed: HashMap<Digest, Digest> = HashMap::new();
        let mut vertices = Vec::with_capacity(self.vertices.len());
        let mut source_map = SourceMap::default();
        let moved = |renamed: &HashMap<Digest, Digest>, edge: &Edge| Edge {
            vertex: renamed[&edge.vertex],
            output: edge.output,
        };
        for vertex in &self.vertices {
            let op = match vertex.op() {
                Op::Source(source) => Op::Source(change(source)),
                op @ (Op::Exec(_) | Op::File(_) | Op::Merge(_) | Op::Diff(_)) => op.clone(),
            };
            let inputs = vertex.inputs().iter().map(|edge| moved(&renamed, edge)).collect();
            let new = Vertex::new(op, inputs, vertex.platform(), vertex.metadata().clone());
            for location in self.source_map.locations(&vertex.digest()) {
                source_map.add(new.digest(), location.clone());
            }
            renamed.insert(vertex.digest(), new.digest());
            vertices.push(new);
        }
        Self::new(moved(&renamed, &self.head), vertices, source_map)
    }

    /// The same graph with these vertices executed even where the cache has their results. No digest changes.
    #[must_use]
    pub fn ignoring_cache(mut self, is_ignored: impl Fn(&Vertex) -> bool) -> Self {
        for vertex in &mut self.vertices {
            if is_ignored(vertex) {
                *vertex = vertex.described(|metadata| metadata.ignore_cache = true);
            }
        }
        self
    }

    /// The message BuildKit takes.
    #[must_use]
    pub fn to_pb(&self) -> pb::Definition {
        let caps = |caps: &mut dyn Iterator<Item = Cap>| caps.map(|cap| (cap.as_str().to_owned(), true)).collect();
        let mut def: Vec<_> = self.vertices.iter().map(|vertex| vertex.encoded().to_vec()).collect();
        def.push(encode::terminal(&self.head));
        let mut metadata: BTreeMap<_, _> = self
            .vertices
            .iter()
            .map(|vertex| {
                let known = vertex.metadata();
                let encoded = pb::OpMetadata {
                    ignore_cache: known.ignore_cache,
                    description: known.description.clone(),
                    export_cache: known.export_cache.map(|value| pb::ExportCache { value }),
                    caps: caps(&mut known.caps.iter().copied()),
                    progress_group: None,
                };
                (vertex.digest().to_string(), encoded)
            })
            .collect();
        let own = pb::OpMetadata { caps: caps(&mut self.own_caps()), ..Default::default() };
        metadata.insert(self.digest().to_string(), own);
        pb::Definition { def, metadata, source: Some(self.source_map.to_pb()) }
    }

    /// The bytes of [`Definition::to_pb`]: the same for the same graph, always.
    #[must_use]
    pub fn marshal(&self) -> Vec<u8> {
        self.to_pb().encode_to_vec()
    }

    /// The definition in these bytes.
    ///
    /// # Errors
    /// As [`Definition::from_pb`].
    pub fn unmarshal(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::from_pb(&pb::Definition::decode(bytes)?)
    }

    /// The definition in this message. Strict: what the model cannot say exactly is refused rather than dropped, so
    /// vertices keep their digests.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_pb(encoded: &pb::Definition) -> Result<Self, DecodeError> {
        let (last, ops) = encoded.def.split_last().ok_or(DecodeError::Empty)?;
        let head = decode::terminal(last).map_err(DecodeError::Terminal)?;
        let mut seen = BTreeSet::new();
        let mut vertices = Vec::with_capacity(ops.len());
        for bytes in ops {
            let digest = Digest::of(bytes);
            let metadata = encoded.metadata.get(&digest.to_string());
            let vertex =
                decode::vertex(bytes, metadata).map_err(|source| DecodeError::Vertex { vertex: digest, source })?;
            if let Some(input) = vertex.inputs().iter().find(|input| !seen.contains(&input.vertex)) {
                return Err(DecodeError::Order { vertex: digest, input: input.vertex });
            }
            if !seen.insert(digest) {
                return Err(DecodeError::Duplicate { vertex: digest });
            }
            vertices.push(vertex);
        }
        seen.insert(Digest::of(last));
        for (vertex, metadata) in &encoded.metadata {
            match vertex.parse().ok().filter(|digest| seen.contains(digest)) {
                None => return Err(DecodeError::Metadata(vertex.clone())),
                Some(vertex) => {
                    decode::metadata(metadata).map_err(|source| DecodeError::Vertex { vertex, source })?;
                }
            }
        }
        let source_map = encoded.source.as_ref().map(SourceMap::from_pb).transpose().map_err(DecodeError::SourceMap)?;
        let all: Vec<_> = vertices.iter().map(Vertex::digest).collect();
        let definition = Self::new(head, vertices, source_map.unwrap_or_default())?;
        match all.into_iter().find(|digest| definition.vertex(digest).is_none()) {
            Some(vertex) => Err(DecodeError::Unreachable { vertex }),
            None => Ok(definition),
        }
    }
}

/// Depth first from the head, inputs in their own order, each vertex after its inputs.
fn sorted(head: Edge, known: &BTreeMap<Digest, Vertex>) -> Result<Vec<Vertex>, DefinitionError> {
    let find = |user: Digest, edge: &Edge| match known.get(&edge.vertex) {
        Some(vertex) => Ok(vertex),
        None => Err(DefinitionError::DanglingInput { vertex: user, input: edge.vertex }),
    };
    let mut placed = BTreeSet::new();
    let mut order = Vec::with_capacity(known.len());
    // A stack of vertices with the number of inputs already looked at, since graphs can be deeper than call stacks.
    let mut stack = vec![(find(Digest::of(encode::terminal(&head)), &head)?, 0)];
    while let Some((vertex, looked_at)) = stack.pop() {
        match vertex.inputs().get(looked_at) {
            Some(input) => {
                stack.push((vertex, looked_at + 1));
                if !placed.contains(&input.vertex) {
                    stack.push((find(vertex.digest(), input)?, 0));
                }
            }
            None => {
                if placed.insert(vertex.digest()) {
                    order.push(vertex.clone());
                }
            }
        }
    }
    Ok(order)
}

impl Reported for DecodeError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Invalid(invalid) => invalid.diagnostic(),
            Self::Protobuf(_)
            | Self::Empty
            | Self::Vertex { .. }
            | Self::Terminal(_)
            | Self::Duplicate { .. }
            | Self::Order { .. }
            | Self::Unreachable { .. }
            | Self::Metadata(_)
            | Self::SourceMap(_) => {
                let diagnostic = Diagnostic::new(diag::codes::llb::DECODE, self.to_string());
                match std::error::Error::source(self) {
                    Some(source) => diagnostic.caused_by(source),
                    None => diagnostic,
                }
            }
        }
    }
}
