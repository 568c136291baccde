//! The rules a graph must keep.

use std::collections::BTreeSet;

use diag::{Diagnostic, Reported};
use oci::Digest;

use crate::exec::ExecOp;
use crate::file::{Account, ActionInput, FileAction, FileActionKind, FileOp, Owner};
use crate::mount::{Mount, MountKind};
use crate::op::{InputIndex, Op, OutputIndex};
use crate::path;
use crate::source::SourceOp;
use crate::vertex::Vertex;

/// A rule a graph breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// An input is not a vertex of the graph.
    #[error("vertex {vertex} uses {input}, which is not in the graph")]
    DanglingInput {
        /// The one that uses it.
        vertex: Digest,
        /// What is missing.
        input: Digest,
    },
    /// An edge asks for an output its vertex does not have.
    #[error("vertex {vertex} uses output {output} of {input}, which has {outputs}")]
    NoSuchOutput {
        /// The one that uses it.
        vertex: Digest,
        /// The vertex used.
        input: Digest,
        /// The output asked for.
        output: usize,
        /// How many there are.
        outputs: usize,
    },
    /// An op is not well formed.
    #[error("vertex {vertex} is not well formed")]
    Op {
        /// Which.
        vertex: Digest,
        /// How it is not.
        #[source]
        source: OpError,
    },
}

/// A rule an op breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// An index of an input is past the end.
    #[error("input {index} is used, but there are {inputs}")]
    InputIndex {
        /// The index.
        index: usize,
        /// How many inputs there are.
        inputs: usize,
    },
    /// Outputs are not numbered 0, 1, 2, … each once.
    #[error("the outputs are not numbered one after the other")]
    OutputIndexes,
    /// Nothing is to be run.
    #[error("a command is empty")]
    NoArgs,
    /// A command has no mount at `/`.
    #[error("a command has no root filesystem")]
    NoRootfs,
    /// A path is not absolute or not in its shortest form.
    #[error("`{0}` is not an absolute path in its shortest form")]
    Path(String),
    /// Two mounts are in the same place.
    #[error("two mounts are at `{0}`")]
    MountTwice(String),
    /// A mount stands before one it would be hidden by.
    #[error("the mount at `{inner}` stands before the one at `{outer}`, which hides it")]
    MountOrder {
        /// The mount hidden.
        inner: String,
        /// The mount that hides it.
        outer: String,
    },
    /// A mount has an input, selector or output that its kind does not take.
    #[error("the mount at `{dest}` has {what}, which mounts of its kind do not take")]
    Mount {
        /// Where.
        dest: String,
        /// What it has.
        what: &'static str,
    },
    /// A name is empty where it must not be.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// An environment variable's name cannot be one.
    #[error("`{0}` is not the name of an environment variable")]
    EnvName(String),
    /// An environment variable occurs twice.
    #[error("the environment variable `{0}` is set twice")]
    EnvTwice(String),
    /// A text holds a NUL byte, which no system call takes.
    #[error("{0} holds a NUL byte")]
    Nul(&'static str),
    /// A file op does nothing.
    #[error("a file operation has no actions")]
    NoActions,
    /// An action takes up a result that is not there before it.
    #[error("action {action} takes up the result of action {used}, which does not come before it")]
    ActionOrder {
        /// The one that takes it up.
        action: usize,
        /// The one taken up.
        used: usize,
    },
    /// An action that copies nothing has a tree to copy from.
    #[error("action {action} has a secondary input, which only copies take")]
    SecondaryInput {
        /// Which.
        action: usize,
    },
    /// Permission bits that are none.
    #[error("{0:o} is more than permission bits")]
    Mode(u32),
    /// Merging less than two trees.
    #[error("a merge has {0} inputs and needs two")]
    Merge(usize),
    /// A diff of nothing.
    #[error("a diff has neither a lower nor an upper tree")]
    Diff,
}

/// Checks what can be seen of a vertex alone.
pub(crate) fn vertex(vertex: &Vertex) -> Result<(), DefinitionError> {
    op(vertex.op(), vertex.inputs().len()).map_err(|source| DefinitionError::Op { vertex: vertex.digest(), source })
}

fn op(op: &Op, inputs: usize) -> Result<(), OpError> {
    match op {
        Op::Source(source) => {
            if inputs > 0 {
                return Err(OpError::InputIndex { index: 0, inputs: 0 });
            }
            source_op(source)
        }
        Op::Exec(exec) => exec_op(exec, inputs),
        Op::File(file) => file_op(file, inputs),
        Op::Merge(merge) => {
            if merge.inputs.len() < 2 {
                return Err(OpError::Merge(merge.inputs.len()));
            }
            merge.inputs.iter().try_for_each(|index| in_range(Some(*index), inputs))
        }
        Op::Diff(diff) => {
            if diff.lower.is_none() && diff.upper.is_none() {
                return Err(OpError::Diff);
            }
            in_range(diff.lower, inputs)?;
            in_range(diff.upper, inputs)
        }
    }
}

fn in_range(index: Option<InputIndex>, inputs: usize) -> Result<(), OpError> {
    match index {
        Some(InputIndex(index)) if index >= inputs => Err(OpError::InputIndex { index, inputs }),
        Some(_) | None => Ok(()),
    }
}

fn outputs(indexes: impl Iterator<Item = OutputIndex>) -> Result<(), OpError> {
    let mut indexes: Vec<_> = indexes.collect();
    indexes.sort_unstable();
    let counted = indexes.iter().enumerate().all(|(position, OutputIndex(index))| position == *index);
    if counted { Ok(()) } else { Err(OpError::OutputIndexes) }
}

fn absolute(path: &str) -> Result<(), OpError> {
    no_nul("a path", path)?;
    if path::is_clean(path) { Ok(()) } else { Err(OpError::Path(path.to_owned())) }
}

fn not_empty(what: &'static str, text: &str) -> Result<(), OpError> {
    if text.is_empty() { Err(OpError::Empty(what)) } else { no_nul(what, text) }
}

fn no_nul(what: &'static str, text: &str) -> Result<(), OpError> {
    if text.contains('\0') { Err(OpError::Nul(what)) } else { Ok(()) }
}

fn mode(mode: u32) -> Result<(), OpError> {
    if mode <= 0o7777 { Ok(()) } else { Err(OpError::Mode(mode)) }
}

fn source_op(source: &SourceOp) -> Result<(), OpError> {
    match source {
        SourceOp::Image(_) => Ok(()),
        SourceOp::OciLayout(layout) => not_empty("the name of an OCI layout", &layout.name),
        SourceOp::Local(local) => not_empty("the name of a local directory", &local.name),
        SourceOp::Git(git) => {
            not_empty("the URL of a git repository", &git.remote)?;
            match &git.subdir {
                Some(subdir) => not_empty("the directory in a git repository", subdir),
                None => Ok(()),
            }
        }
        SourceOp::Http(http) => {
            not_empty("a URL", &http.url)?;
            http.perm.map_or(Ok(()), mode)?;
            match &http.filename {
                Some(name) => not_empty("a file name", name),
                None => Ok(()),
            }
        }
    }
}

fn exec_op(exec: &ExecOp, inputs: usize) -> Result<(), OpError> {
    match exec.args.first() {
        None => return Err(OpError::NoArgs),
        Some(program) if program.is_empty() => return Err(OpError::NoArgs),
        Some(_) => {}
    }
    exec.args.iter().try_for_each(|arg| no_nul("an argument", arg))?;
    absolute(&exec.cwd)?;
    let mut names = BTreeSet::new();
    for var in &exec.env {
        if var.name.is_empty() || var.name.contains(['=', '\0']) {
            return Err(OpError::EnvName(var.name.clone()));
        }
        no_nul("an environment variable", &var.value)?;
        if !names.insert(&var.name) {
            return Err(OpError::EnvTwice(var.name.clone()));
        }
    }
    for (what, text) in [("the user", &exec.user), ("the host name", &exec.hostname)] {
        if let Some(text) = text {
            not_empty(what, text)?;
        }
    }
    for (position, this) in exec.mounts.iter().enumerate() {
        mount(this, inputs)?;
        for later in &exec.mounts[position + 1..] {
            if later.dest == this.dest {
                return Err(OpError::MountTwice(this.dest.clone()));
            }
            if is_below(&this.dest, &later.dest) {
                return Err(OpError::MountOrder { inner: this.dest.clone(), outer: later.dest.clone() });
            }
        }
    }
    outputs(exec.mounts.iter().filter_map(|mount| mount.output))?;
    match exec.rootfs() {
        Some(Mount { kind: MountKind::Bind, .. }) => Ok(()),
        Some(_) | None => Err(OpError::NoRootfs),
    }
}

/// Whether `path` lies inside the directory `outer`.
fn is_below(path: &str, outer: &str) -> bool {
    match path.strip_prefix(outer) {
        Some(rest) => outer == "/" || rest.starts_with('/'),
        None => false,
    }
}

fn mount(mount: &Mount, inputs: usize) -> Result<(), OpError> {
    absolute(&mount.dest)?;
    in_range(mount.input, inputs)?;
    if let Some(selector) = &mount.selector {
        absolute(selector)?;
    }
    let has_no_tree = match &mount.kind {
        MountKind::Bind => return Ok(()),
        MountKind::Cache { id, .. } => {
            not_empty("the id of a cache", &id.0)?;
            false
        }
        MountKind::Tmpfs { .. } => true,
        MountKind::Secret(secret) => {
            not_empty("the id of a secret", &secret.id.0)?;
            mode(secret.mode)?;
            true
        }
        MountKind::Ssh(socket) => {
            not_empty("the id of an SSH agent", &socket.id.0)?;
            mode(socket.mode)?;
            true
        }
    };
    for (bad, what) in [
        (mount.output.is_some(), "an output"),
        (has_no_tree && mount.input.is_some(), "an input"),
        (has_no_tree && mount.selector.is_some(), "a selector"),
    ] {
        if bad {
            return Err(OpError::Mount { dest: mount.dest.clone(), what });
        }
    }
    Ok(())
}

fn file_op(file: &FileOp, inputs: usize) -> Result<(), OpError> {
    if file.actions.is_empty() {
        return Err(OpError::NoActions);
    }
    for (position, action) in file.actions.iter().enumerate() {
        for input in [action.input, action.secondary_input] {
            match input {
                ActionInput::Scratch => {}
                ActionInput::Input(index) => in_range(Some(index), inputs)?,
                ActionInput::Action(used) if used < position => {}
                ActionInput::Action(used) => return Err(OpError::ActionOrder { action: position, used }),
            }
        }
        file_action(action, position, inputs)?;
    }
    outputs(file.actions.iter().filter_map(|action| action.output))
}

fn file_action(action: &FileAction, position: usize, inputs: usize) -> Result<(), OpError> {
    let owned_by = |owner: &Option<Owner>| {
        for account in owner.iter().flat_map(|owner| [&owner.user, &owner.group]).flatten() {
            match account {
                Account::Id(_) => {}
                Account::Name { name, input } => {
                    not_empty("the name of an owner", name)?;
                    in_range(*input, inputs)?;
                }
            }
        }
        Ok(())
    };
    let (owner, is_copy) = match &action.kind {
        FileActionKind::Copy(copy) => {
            absolute(&copy.src)?;
            if path::clean_destination(&copy.dest) != copy.dest {
                return Err(OpError::Path(copy.dest.clone()));
            }
            no_nul("a path", &copy.dest)?;
            copy.mode.map_or(Ok(()), mode)?;
            (&copy.owner, true)
        }
        FileActionKind::Mkfile(mkfile) => {
            absolute(&mkfile.path)?;
            mode(mkfile.mode)?;
            (&mkfile.owner, false)
        }
        FileActionKind::Mkdir(mkdir) => {
            absolute(&mkdir.path)?;
            mode(mkdir.mode)?;
            (&mkdir.owner, false)
        }
        FileActionKind::Rm(rm) => {
            absolute(&rm.path)?;
            (&None, false)
        }
        FileActionKind::Symlink(symlink) => {
            absolute(&symlink.path)?;
            not_empty("the target of a symbolic link", &symlink.target)?;
            (&symlink.owner, false)
        }
    };
    owned_by(owner)?;
    if is_copy || action.secondary_input == ActionInput::Scratch {
        Ok(())
    } else {
        Err(OpError::SecondaryInput { action: position })
    }
}

impl Reported for DefinitionError {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::new(diag::codes::llb::INVALID, self.to_string());
        match std::error::Error::source(self) {
            Some(source) => diagnostic.caused_by(source),
            None => diagnostic,
        }
    }
}
