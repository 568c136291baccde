//! Graphs in the words of the wire: what a daemon is sent may differ from what the user asked for.

use std::collections::{BTreeMap, HashSet};

use bollard_buildkit_proto::pb;
use llb::OutputIndex;
use oci::Digest;
use prost::Message;

/// One output of an op of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) op: Digest,
    pub(super) output: i64,
}

/// What a vertex of the user's became.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lowered {
    pub(super) digest: Digest,
    /// The output of everything of it, where it became something with one output.
    pub(super) only: Option<i64>,
}

impl Lowered {
    /// What an output of the vertex became.
    pub(super) fn output(&self, output: OutputIndex) -> i64 {
        self.only.unwrap_or_else(|| i64::try_from(output.0).expect("indexes count elements of a list in memory"))
    }
}

/// Ops that were put together, each after its inputs.
#[derive(Debug, Default)]
pub(super) struct Graph {
    ops: BTreeMap<Digest, Known>,
}

#[derive(Debug)]
struct Known {
    bytes: Vec<u8>,
    inputs: Vec<Place>,
    metadata: pb::OpMetadata,
}

impl Graph {
    /// Adds an op with these inputs, whose own list of inputs is not looked at.
    pub(super) fn add(&mut self, op: pb::Op, inputs: Vec<Place>, metadata: pb::OpMetadata) -> Digest {
        let bytes = encode(op, &inputs);
        let digest = Digest::of(&bytes);
        self.ops.entry(digest).or_insert(Known { bytes, inputs, metadata });
        digest
    }

    /// The definition of everything one output needs. `caps` are those it needs itself.
    pub(super) fn definition(&self, head: Place, caps: BTreeMap<String, bool>) -> pb::Definition {
        let mut definition = pb::Definition::default();
        let mut placed = HashSet::new();
        // A stack of ops with the number of inputs already looked at: graphs can be deeper than call stacks.
        let mut stack = vec![(head.op, 0)];
        while let Some((digest, looked_at)) = stack.pop() {
            let Some(known) = self.ops.get(&digest) else { continue };
            match known.inputs.get(looked_at) {
                Some(input) => {
                    stack.push((digest, looked_at + 1));
                    if !placed.contains(&input.op) {
                        stack.push((input.op, 0));
                    }
                }
                None => {
                    if placed.insert(digest) {
                        definition.def.push(known.bytes.clone());
                        definition.metadata.insert(digest.to_string(), known.metadata.clone());
                    }
                }
            }
        }
        let last = encode(pb::Op::default(), &[head]);
        definition.metadata.insert(Digest::of(&last).to_string(), pb::OpMetadata { caps, ..Default::default() });
        definition.def.push(last);
        definition
    }
}

/// In the order Go's encoder writes: what is one of several last.
fn encode(op: pb::Op, inputs: &[Place]) -> Vec<u8> {
    let inputs = inputs.iter().map(|place| pb::Input { digest: place.op.to_string(), index: place.output }).collect();
    let mut bytes = pb::Op { inputs, ..Default::default() }.encode_to_vec();
    let pb::Op { op, platform, constraints, .. } = op;
    bytes.extend(pb::Op { platform, constraints, ..Default::default() }.encode_to_vec());
    bytes.extend(pb::Op { op, ..Default::default() }.encode_to_vec());
    bytes
}

#[cfg(test)]
mod tests {
    use llb::{CopyAction, Exec, File, Graph as Built, MkfileAction, Tree};
    use oci::Platform;

    use super::*;

    #[test]
    fn ops_that_are_taken_over_keep_their_digests() {
        let built = Built::new(Platform::LINUX_AMD64);
        let base = built.image("docker.io/library/debian".parse().expect("a repository"), Digest::of("base"));
        let made = built.file(File::on(Tree::Scratch).mkfile(MkfileAction::new("/x", "x")));
        let run = built.exec(Exec::on(&base, ["true"])).rootfs().clone();
        let all = built.file(File::on(Tree::Output(run)).copy_with(&made, CopyAction::new("/x", "/y")));
        let definition = built.definition(&all).expect("a graph");

        let mut graph = Graph::default();
        let metadata = definition.to_pb().metadata;
        for vertex in definition.vertices() {
            let op = pb::Op::decode(vertex.encoded()).expect("an op");
            let place = |edge: &llb::Edge| Place { op: edge.vertex, output: edge.output.0 as i64 };
            let inputs = vertex.inputs().iter().map(place).collect();
            let digest = graph.add(op, inputs, metadata[&vertex.digest().to_string()].clone());
            assert_eq!(digest, vertex.digest());
        }
        let head = Place { op: definition.head().vertex, output: definition.head().output.0 as i64 };
        let own = metadata[&definition.digest().to_string()].caps.clone();
        let taken = graph.definition(head, own);
        assert_eq!(taken, pb::Definition { source: None, ..definition.to_pb() });
    }
}
