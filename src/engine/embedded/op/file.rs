//! Changing files without running anything.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use llb::{ActionInput, FileOp, InputIndex, Timestamp};
use oci::layer::Snapshot;

use crate::embedded::chain::Chain;
use crate::embedded::content::named_accounts;
use crate::embedded::fileop::{Source, TreeEditor};
use crate::embedded::mount::{Root, Tree};
use crate::embedded::snapshot::Draft;
use crate::embedded::solver::Solve;
use crate::embedded::{Workshop, unpack};
use crate::error::VertexError;

/// Applies the actions; gives the trees of the outputs.
pub(crate) async fn file(solve: &Arc<Solve>, op: &FileOp, trees: &[Chain]) -> Result<Vec<Chain>, VertexError> {
    let mut inputs = Vec::new();
    for chain in trees {
        let snapshots = unpack::snapshots(solve, chain.parts()).await?;
        inputs.push(State { chain: chain.clone(), layers: snapshots.iter().map(Snapshot::fs).collect() });
    }
    let (solve, op) = (Arc::clone(solve), op.clone());
    let workshop = solve.workshop.clone();
    workshop
        .blocking(move || {
            let epoch = Timestamp::from_seconds(solve.request.source_date_epoch.unwrap_or(0));
            let mut editor = Editor { workshop: &solve.workshop, op: &op, inputs, results: BTreeMap::new(), epoch };
            for line in lines(&op) {
                if solve.cancel.is_cancelled() {
                    return Err(VertexError::Canceled);
                }
                editor.apply(&line)?;
            }
            Ok(editor.outputs())
        })
        .await
}

/// A tree, and the directories it is made of.
#[derive(Clone, Debug, Default)]
struct State {
    chain: Chain,
    layers: Vec<PathBuf>,
}

struct Editor<'a> {
    workshop: &'a Workshop,
    op: &'a FileOp,
    inputs: Vec<State>,
    /// Trees by the last action that made them what they are.
    results: BTreeMap<usize, State>,
    epoch: Timestamp,
}

impl Editor<'_> {
    fn state(&self, input: ActionInput) -> Option<&State> {
        match input {
            ActionInput::Scratch => None,
            ActionInput::Input(InputIndex(index)) => Some(&self.inputs[index]),
            ActionInput::Action(index) => Some(&self.results[&index]),
        }
    }

    /// Applies actions of which each works on what the one before left: they make one snapshot together.
    fn apply(&mut self, line: &[usize]) -> Result<(), VertexError> {
        let (Some(first), Some(last)) = (line.first(), line.last()) else { return Ok(()) };
        let base = self.state(self.op.actions[*first].input).cloned().unwrap_or_default();
        let draft = Draft::new(&self.workshop.store)?;
        let tree = self.workshop.mounter()?.writable(&base.layers, &draft.fs())?;
        self.edit(line, &tree, draft.snapshot())?;
        tree.finish()?;
        let mut state = base;
        let before = state.chain.clone();
        state.chain = draft.commit_onto(&before)?;
        if let Some(changes) = state.chain.last_snapshot().filter(|_| state.chain != before) {
            state.layers.push(crate::embedded::snapshot::at(&self.workshop.store, changes).fs());
        }
        self.results.insert(*last, state);
        Ok(())
    }

    fn edit(&self, line: &[usize], tree: &Tree, snapshot: &Snapshot) -> Result<(), VertexError> {
        let editor = TreeEditor::open(Root::new(tree.root()), snapshot, self.workshop.ownership(), self.epoch)?;
        let mut editor = editor.sharing(tree);
        // Trees that are looked into, each mounted once.
        let mounter = self.workshop.mounter()?;
        let mut looked_into = BTreeMap::new();
        for index in line {
            let action = &self.op.actions[*index];
            let accounts = named_accounts(&action.kind).into_iter().map(|(input, _)| input);
            let copied = match action.secondary_input {
                ActionInput::Input(input) => Some(input),
                ActionInput::Action(_) | ActionInput::Scratch => None,
            };
            for InputIndex(input) in accounts.chain(copied) {
                if let Entry::Vacant(place) = looked_into.entry(input) {
                    place.insert(mounter.read_only(&self.inputs[input].layers)?);
                }
            }
        }
        for index in line {
            let action = &self.op.actions[*index];
            let of_action;
            let source = match action.secondary_input {
                ActionInput::Scratch => None,
                ActionInput::Input(InputIndex(input)) => Some((&looked_into[&input], &self.inputs[input].layers)),
                ActionInput::Action(made) => {
                    let state = &self.results[&made];
                    of_action = mounter.read_only(&state.layers)?;
                    Some((&of_action, &state.layers))
                }
            };
            let source = source.map(|(tree, layers)| Source { root: Root::new(tree.root()), layers });
            editor.apply(&action.kind, source, |InputIndex(input)| Some(Root::new(looked_into.get(&input)?.root())))?;
        }
        Ok(editor.finish()?)
    }

    /// The trees that come out, in the order of the outputs.
    fn outputs(&self) -> Vec<Chain> {
        let outputs = self.op.actions.iter().enumerate().filter_map(|(index, action)| {
            let output = action.output?;
            Some((output, self.results[&index].chain.clone()))
        });
        outputs.collect::<BTreeMap<_, _>>().into_values().collect()
    }
}

/// Puts actions into lines in which each works on what the one before left and nobody else sees that. Lines are in an
/// order in which each comes after those it takes from.
fn lines(op: &FileOp) -> Vec<Vec<usize>> {
    let mut uses = vec![0_usize; op.actions.len()];
    for action in &op.actions {
        for input in [action.input, action.secondary_input] {
            if let ActionInput::Action(index) = input {
                uses[index] += 1;
            }
        }
    }
    // By their last action.
    let mut lines: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, action) in op.actions.iter().enumerate() {
        let before = match action.input {
            ActionInput::Action(before) if uses[before] == 1 && op.actions[before].output.is_none() => {
                lines.remove(&before)
            }
            ActionInput::Action(_) | ActionInput::Input(_) | ActionInput::Scratch => None,
        };
        let mut line = before.unwrap_or_default();
        line.push(index);
        lines.insert(index, line);
    }
    // What a line takes from was made by an action before its last one, and so ends before it.
    lines.into_values().collect()
}

#[cfg(test)]
mod tests {
    use llb::{FileAction, FileActionKind, MkdirAction, OutputIndex};

    use super::*;

    fn action(input: ActionInput, secondary_input: ActionInput, output: Option<usize>) -> FileAction {
        let kind = FileActionKind::Mkdir(MkdirAction::new("/d"));
        FileAction { input, secondary_input, output: output.map(OutputIndex), kind }
    }

    #[test]
    fn actions_nobody_else_sees_make_one_snapshot() {
        use ActionInput::{Action, Input, Scratch};
        let input = Input(InputIndex(0));
        let op = FileOp {
            actions: vec![
                action(input, Scratch, None),
                action(Scratch, Scratch, None),
                action(Action(0), Action(1), None),
                action(Action(2), Scratch, Some(0)),
                action(Action(3), Scratch, Some(1)),
                action(Action(3), Scratch, Some(2)),
            ],
        };
        assert_eq!(lines(&op), [vec![1], vec![0, 2, 3], vec![4], vec![5]]);
    }
}
