//! The operations of a graph. Spec: BuildKit `solver/pb/ops.proto`.

use crate::caps::Cap;
use crate::exec::ExecOp;
use crate::file::FileOp;
use crate::source::SourceOp;

/// Position in a vertex's list of inputs, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InputIndex(pub usize);

/// Position among a vertex's outputs, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputIndex(pub usize);

/// A time in nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole seconds since the epoch, as `SOURCE_DATE_EPOCH` counts; clamped to what nanoseconds can say (year 2262).
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }
}

/// What a vertex does. Spec: ops.proto `Op`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Brings content in from outside. No inputs, one output.
    Source(SourceOp),
    /// Runs a command. One output per writable bind mount that asks for one.
    Exec(ExecOp),
    /// Changes files without running anything.
    File(FileOp),
    /// Lays trees over each other. One output.
    Merge(MergeOp),
    /// What one tree has that another has not. One output.
    Diff(DiffOp),
}

/// Lays its inputs over each other, the first lowest. Spec: ops.proto `MergeOp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeOp {
    /// The trees, lowest first; at least two.
    pub inputs: Vec<InputIndex>,
}

/// The changes that lead from one tree to another. Spec: ops.proto `DiffOp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffOp {
    /// The tree to start from; `None` is the empty one.
    pub lower: Option<InputIndex>,
    /// The tree to arrive at; `None` is the empty one.
    pub upper: Option<InputIndex>,
}

impl Op {
    /// How many outputs the vertex has: every valid edge's index is below it.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match self {
            Self::Source(_) | Self::Merge(_) | Self::Diff(_) => 1,
            Self::Exec(exec) => exec.mounts.iter().filter(|mount| mount.output.is_some()).count(),
            Self::File(file) => file.actions.iter().filter(|action| action.output.is_some()).count(),
        }
    }

    /// The capabilities a daemon needs to execute this op as meant.
    #[must_use]
    pub fn caps(&self) -> std::collections::BTreeSet<Cap> {
        let mut caps = std::collections::BTreeSet::new();
        match self {
            Self::Source(source) => source.add_caps(&mut caps),
            Self::Exec(exec) => exec.add_caps(&mut caps),
            Self::File(file) => file.add_caps(&mut caps),
            Self::Merge(_) => _ = caps.insert(Cap::MergeOp),
            Self::Diff(_) => _ = caps.insert(Cap::DiffOp),
        }
        caps
    }
}
