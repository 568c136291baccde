//! File operations under construction.

use super::{Description, Inputs, Tree};
use crate::file::{
    Account, ActionInput, CopyAction, FileAction, FileActionKind, FileOp, MkdirAction, MkfileAction, Owner, RmAction,
    SymlinkAction,
};
use crate::op::{InputIndex, Op, OutputIndex, Timestamp};
use crate::path;
use crate::source_map::Location;

/// Actions on a tree, one after the other. The result of the last is the output.
#[derive(Debug)]
pub struct File {
    inputs: Inputs,
    base: Option<InputIndex>,
    actions: Vec<(FileActionKind, Option<InputIndex>)>,
    timestamp: Option<Timestamp>,
    description: Description,
}

impl File {
    /// Works on a tree.
    #[must_use]
    pub fn on(tree: impl Into<Tree>) -> Self {
        let mut inputs = Inputs::default();
        let base = inputs.tree(&tree.into());
        Self { inputs, base, actions: Vec::new(), timestamp: None, description: Description::default() }
    }

    /// The modification time of everything the following actions make and give no time of their own. Copies keep
    /// their files' times unless given one.
    #[must_use]
    pub fn timestamp(self, timestamp: Timestamp) -> Self {
        Self { timestamp: Some(timestamp), ..self }
    }

    /// Copies `src` of `tree` to `dest`, as `cp -a` would: no patterns, no links followed, directories made above it.
    #[must_use]
    pub fn copy(self, tree: impl Into<Tree>, src: &str, dest: &str) -> Self {
        self.copy_with(tree, CopyAction { create_dest_path: true, ..CopyAction::new(src, dest) })
    }

    /// Copies as the action says.
    #[must_use]
    pub fn copy_with(mut self, tree: impl Into<Tree>, mut action: CopyAction) -> Self {
        action.src = path::clean(&action.src);
        action.dest = path::clean_destination(&action.dest);
        self.name_owner(&mut action.owner);
        let from = self.inputs.tree(&tree.into());
        self.actions.push((FileActionKind::Copy(action), from));
        self
    }

    /// Writes a file.
    #[must_use]
    pub fn mkfile(mut self, mut action: MkfileAction) -> Self {
        action.path = path::clean(&action.path);
        action.timestamp = action.timestamp.or(self.timestamp);
        self.name_owner(&mut action.owner);
        self.act(FileActionKind::Mkfile(action))
    }

    /// Makes a directory.
    #[must_use]
    pub fn mkdir(mut self, mut action: MkdirAction) -> Self {
        action.path = path::clean(&action.path);
        action.timestamp = action.timestamp.or(self.timestamp);
        self.name_owner(&mut action.owner);
        self.act(FileActionKind::Mkdir(action))
    }

    /// Makes a symbolic link.
    #[must_use]
    pub fn symlink(mut self, mut action: SymlinkAction) -> Self {
        action.path = path::clean(&action.path);
        action.timestamp = action.timestamp.or(self.timestamp);
        self.name_owner(&mut action.owner);
        self.act(FileActionKind::Symlink(action))
    }

    /// Removes files.
    #[must_use]
    pub fn rm(self, mut action: RmAction) -> Self {
        action.path = path::clean(&action.path);
        self.act(FileActionKind::Rm(action))
    }

    /// Names the operation for people.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.description.name(name.into());
        self
    }

    /// Says where it comes from.
    #[must_use]
    pub fn with_location(mut self, location: Location) -> Self {
        self.description.locations.push(location);
        self
    }

    /// Whether nothing was asked for yet; such an operation cannot be added to a graph.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    fn act(mut self, kind: FileActionKind) -> Self {
        self.actions.push((kind, None));
        self
    }

    /// Owners by name are looked up in the tree worked on.
    fn name_owner(&mut self, owner: &mut Option<Owner>) {
        for account in owner.iter_mut().flat_map(|owner| [&mut owner.user, &mut owner.group]).flatten() {
            match account {
                Account::Name { input, .. } => *input = input.or(self.base),
                Account::Id(_) => {}
            }
        }
    }

    pub(super) fn into_op(self) -> (Op, Inputs, Description) {
        let last = self.actions.len().saturating_sub(1);
        let tree = |input: Option<InputIndex>| input.map_or(ActionInput::Scratch, ActionInput::Input);
        let actions = self.actions.into_iter().enumerate().map(|(position, (kind, from))| FileAction {
            input: if position == 0 { tree(self.base) } else { ActionInput::Action(position - 1) },
            secondary_input: tree(from),
            output: (position == last).then_some(OutputIndex(0)),
            kind,
        });
        (Op::File(FileOp { actions: actions.collect() }), self.inputs, self.description)
    }
}
