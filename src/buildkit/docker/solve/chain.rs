//! What trees consist of: which layers, and which vertices have to be asked for them.

use std::collections::{BTreeSet, HashMap, HashSet};

use engine::{MissingCapability, SolveError};
use llb::{ActionInput, Cap, Definition, DiffOp, Edge, FileOp, MergeOp, Op, OutputIndex, Vertex};
use oci::Digest;

use super::images::ImageLayer;
use super::is_image;
use crate::docker::engine::NAME;

/// The layers of a tree, lowest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain(pub(super) Vec<ImageLayer>);

/// What is wanted of each vertex.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Those that the daemon needs to have.
    pub(super) trees: HashSet<Digest>,
    /// Those whose layers have to be known.
    pub(super) chains: HashMap<Digest, BTreeSet<OutputIndex>>,
}

impl Demand {
    /// What a definition's result takes: its layers, or a tree on the daemon.
    pub(super) fn of(definition: &Definition, of_layers: bool) -> Self {
        let mut demand = Self::default();
        match of_layers {
            true => demand.chain(definition.head()),
            false => _ = demand.trees.insert(definition.head().vertex),
        }
        // Users before what they use.
        for vertex in definition.vertices().iter().rev() {
            let layers = demand.chains.get(&vertex.digest()).cloned().unwrap_or_default();
            if layers.is_empty() && !demand.trees.contains(&vertex.digest()) {
                continue;
            }
            match vertex.op() {
                Op::Source(_) => {}
                Op::Exec(_) | Op::File(_) => {
                    demand.trees.extend(vertex.inputs().iter().map(|input| input.vertex));
                    for output in layers {
                        let root = root(definition, Edge { vertex: vertex.digest(), output });
                        if let Some(root) = root.filter(|root| has_layers(definition, root)) {
                            demand.chain(root);
                        }
                    }
                }
                Op::Merge(_) | Op::Diff(_) => vertex.inputs().iter().for_each(|input| demand.chain(*input)),
            }
        }
        demand
    }

    fn chain(&mut self, edge: Edge) {
        self.chains.entry(edge.vertex).or_default().insert(edge.output);
    }
}

/// The tree a step changes: what the output was before it. `None` is the empty one.
pub(super) fn base(vertex: &Vertex, output: OutputIndex) -> Option<Edge> {
    let input = match vertex.op() {
        Op::Exec(exec) => exec.mounts.iter().find(|mount| mount.output == Some(output))?.input,
        Op::File(file) => first_input(file, output),
        Op::Source(_) | Op::Merge(_) | Op::Diff(_) => None,
    };
    vertex.input(input?)
}

fn first_input(file: &FileOp, output: OutputIndex) -> Option<llb::InputIndex> {
    let mut action = file.actions.iter().find(|action| action.output == Some(output))?;
    loop {
        match action.input {
            ActionInput::Input(index) => return Some(index),
            ActionInput::Scratch => return None,
            ActionInput::Action(earlier) => action = file.actions.get(earlier)?,
        }
    }
}

/// What the steps that lead to a tree begin with: the first tree that no step made. `None` is the empty one.
pub(super) fn root(definition: &Definition, edge: Edge) -> Option<Edge> {
    let mut next = Some(edge);
    while let Some(edge) = next {
        let vertex = definition.vertex(&edge.vertex)?;
        match vertex.op() {
            Op::Exec(_) | Op::File(_) => next = base(vertex, edge.output),
            Op::Source(_) | Op::Merge(_) | Op::Diff(_) => return Some(edge),
        }
    }
    None
}

/// Whether a tree that no step made has layers of its own, so that they lie under those of the steps.
pub(super) fn has_layers(definition: &Definition, edge: &Edge) -> bool {
    definition
        .vertex(&edge.vertex)
        .is_some_and(|vertex| matches!(vertex.op(), Op::Merge(_) | Op::Diff(_)) || is_image(vertex.op()))
}

/// The steps between a tree and its root, the last first.
pub(super) fn steps(definition: &Definition, edge: Edge) -> Vec<Edge> {
    let mut steps = Vec::new();
    let mut next = Some(edge);
    while let Some(edge) = next {
        let Some(vertex) = definition.vertex(&edge.vertex) else { break };
        if !matches!(vertex.op(), Op::Exec(_) | Op::File(_)) {
            break;
        }
        steps.push(edge);
        next = base(vertex, edge.output);
    }
    steps
}

/// The layers of a merge: those of its inputs, one after the other.
pub(super) fn merged(vertex: &Vertex, merge: &MergeOp, chains: &HashMap<Edge, Chain>) -> Chain {
    let inputs = merge.inputs.iter().filter_map(|index| vertex.input(*index));
    Chain(inputs.filter_map(|edge| chains.get(&edge)).flat_map(|chain| chain.0.iter().cloned()).collect())
}

/// The layers of a difference: those of the upper tree that the lower one has not.
pub(super) fn difference(vertex: &Vertex, diff: &DiffOp, chains: &HashMap<Edge, Chain>) -> Chain {
    let of = |index: Option<llb::InputIndex>| {
        index.and_then(|index| vertex.input(index)).and_then(|edge| chains.get(&edge)).cloned().unwrap_or_default()
    };
    let (lower, upper) = (of(diff.lower), of(diff.upper));
    Chain(upper.0.into_iter().skip(lower.0.len()).collect())
}

/// Differences can be had where one tree stands on the other, for then they are layers. All others would have to be
/// computed by the daemon, which cannot.
pub(super) fn check_diffs(definition: &Definition) -> Result<(), SolveError> {
    let stands_on = |upper: Option<Edge>, lower: Option<Edge>| match (upper, lower) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(upper), Some(lower)) => {
            upper == lower || {
                let steps = steps(definition, upper);
                steps.contains(&lower) || root(definition, upper) == Some(lower)
            }
        }
    };
    let is_lost = |vertex: &&Vertex| match vertex.op() {
        Op::Diff(diff) => {
            let of = |index: Option<llb::InputIndex>| index.and_then(|index| vertex.input(index));
            !stands_on(of(diff.upper), of(diff.lower))
        }
        _ => false,
    };
    let missing = definition.vertices().iter().filter(is_lost).map(|vertex| MissingCapability {
        cap: Cap::DiffOp,
        vertex: vertex.name(),
        locations: definition.source_map().locations(&vertex.digest()).to_vec(),
    });
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() { Ok(()) } else { Err(SolveError::MissingCapabilities { engine: NAME, missing }) }
}
