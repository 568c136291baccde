//! Changing files without running anything. Spec: BuildKit `solver/pb/ops.proto` `FileOp`.

use std::collections::BTreeSet;

use crate::caps::Cap;
use crate::op::{InputIndex, OutputIndex, Timestamp};

/// A list of actions, each on a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOp {
    /// In order; an action can take up what an earlier one made. Never empty.
    pub actions: Vec<FileAction>,
}

/// One action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAction {
    /// The tree it changes.
    pub input: ActionInput,
    /// The tree a copy takes from. [`ActionInput::Scratch`] for everything but copies.
    pub secondary_input: ActionInput,
    /// The vertex output its result is; `None` when only later actions use it.
    pub output: Option<OutputIndex>,
    /// What it does.
    pub kind: FileActionKind,
}

/// A tree an action works with. On the wire one number: -1, an input, or inputs + action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActionInput {
    /// The empty tree.
    Scratch,
    /// An input of the vertex.
    Input(InputIndex),
    /// The result of an earlier action of the same op, by its position.
    Action(usize),
}

/// What a [`FileAction`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileActionKind {
    /// Copies from the secondary input.
    Copy(CopyAction),
    /// Writes a file.
    Mkfile(MkfileAction),
    /// Makes a directory.
    Mkdir(MkdirAction),
    /// Removes files.
    Rm(RmAction),
    /// Makes a symbolic link.
    Symlink(SymlinkAction),
}

/// Copies files. Spec: ops.proto `FileActionCopy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyAction {
    /// Absolute path in the secondary input.
    pub src: String,
    /// Absolute path in the input. With a trailing slash it is a directory to copy into.
    pub dest: String,
    /// The copies' owner; `None` keeps each file's own.
    pub owner: Option<Owner>,
    /// The copies' permission bits; `None` keeps each file's own.
    pub mode: Option<u32>,
    /// If `src` itself is a symbolic link, copy what it points to.
    pub follow_symlink: bool,
    /// If `src` is a directory, copy what is in it rather than the directory.
    pub dir_copy_contents: bool,
    /// If `src` is a tar archive, possibly compressed, unpack it instead (Docker's ADD).
    pub attempt_unpack: bool,
    /// Make the directories above `dest`.
    pub create_dest_path: bool,
    /// `src` is a pattern (Go `filepath.Match`).
    pub allow_wildcard: bool,
    /// A pattern that matches nothing is no error.
    pub allow_empty_wildcard: bool,
    /// The copies' modification time; `None` keeps each file's own.
    pub timestamp: Option<Timestamp>,
    /// Copy only what matches one of these (`.dockerignore` syntax), unless empty.
    pub include: Vec<String>,
    /// Copy nothing that matches one of these (`.dockerignore` syntax).
    pub exclude: Vec<String>,
    /// Replace a destination of another file type instead of failing.
    pub always_replace: bool,
}

/// Writes a file. Spec: ops.proto `FileActionMkFile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MkfileAction {
    /// Absolute path; the directory above must exist.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The content.
    pub data: Vec<u8>,
    /// The owner; `None` is root.
    pub owner: Option<Owner>,
    /// The modification time; `None` is the time of the build.
    pub timestamp: Option<Timestamp>,
}

/// Makes a directory. Spec: ops.proto `FileActionMkDir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MkdirAction {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Make the directories above it too, and do not mind if it is there.
    pub make_parents: bool,
    /// The owner; `None` is root.
    pub owner: Option<Owner>,
    /// The modification time; `None` is the time of the build.
    pub timestamp: Option<Timestamp>,
}

/// Removes files. Spec: ops.proto `FileActionRm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RmAction {
    /// Absolute path.
    pub path: String,
    /// A path that is not there is no error.
    pub allow_not_found: bool,
    /// `path` is a pattern (Go `filepath.Match`).
    pub allow_wildcard: bool,
}

/// Makes a symbolic link. Spec: ops.proto `FileActionSymlink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymlinkAction {
    /// What the link says (`oldpath`), not looked at.
    pub target: String,
    /// Absolute path of the link (`newpath`).
    pub path: String,
    /// The owner; `None` is root.
    pub owner: Option<Owner>,
    /// The modification time; `None` is the time of the build.
    pub timestamp: Option<Timestamp>,
}

/// Who owns what an action makes. Spec: ops.proto `ChownOpt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user; `None` is root.
    pub user: Option<Account>,
    /// The group; `None` is the user's own group where the user is given by name, root otherwise.
    pub group: Option<Account>,
}

/// A user or a group. Spec: ops.proto `UserOpt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// By number.
    Id(u32),
    /// By name, looked up in `/etc/passwd` or `/etc/group` of an input.
    Name {
        /// The name.
        name: String,
        /// The tree whose files are asked; `None` is the empty one, where the lookup fails.
        input: Option<InputIndex>,
    },
}

impl Account {
    /// An account by name, looked up in the tree worked on.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self::Name { name: name.into(), input: None }
    }
}

impl Owner {
    /// An owner by numbers.
    #[must_use]
    pub const fn id(uid: u32, gid: u32) -> Self {
        Self { user: Some(Account::Id(uid)), group: Some(Account::Id(gid)) }
    }
}

impl CopyAction {
    /// Copies one path as it is: owner, mode and times kept, nothing followed, unpacked or made, no patterns.
    #[must_use]
    pub fn new(src: impl Into<String>, dest: impl Into<String>) -> Self {
        Self {
            src: src.into(),
            dest: dest.into(),
            owner: None,
            mode: None,
            follow_symlink: false,
            dir_copy_contents: false,
            attempt_unpack: false,
            create_dest_path: false,
            allow_wildcard: false,
            allow_empty_wildcard: false,
            timestamp: None,
            include: Vec::new(),
            exclude: Vec::new(),
            always_replace: false,
        }
    }
}

impl MkfileAction {
    /// Writes a file that is 0644 and root's.
    #[must_use]
    pub fn new(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o644, data: data.into(), owner: None, timestamp: None }
    }
}

impl MkdirAction {
    /// Makes a directory that is 0755 and root's, in one that is there.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), mode: 0o755, make_parents: false, owner: None, timestamp: None }
    }
}

impl RmAction {
    /// Removes a path that is there.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), allow_not_found: false, allow_wildcard: false }
    }
}

impl SymlinkAction {
    /// Makes a link at `path` to `target`.
    #[must_use]
    pub fn new(target: impl Into<String>, path: impl Into<String>) -> Self {
        Self { target: target.into(), path: path.into(), owner: None, timestamp: None }
    }
}

impl FileOp {
    pub(crate) fn add_caps(&self, caps: &mut BTreeSet<Cap>) {
        caps.insert(Cap::FileBase);
        for action in &self.actions {
            match &action.kind {
                FileActionKind::Copy(copy) => {
                    if !copy.include.is_empty() || !copy.exclude.is_empty() {
                        caps.insert(Cap::FileCopyIncludeExcludePatterns);
                    }
                    if copy.always_replace {
                        caps.insert(Cap::FileCopyAlwaysReplaceExistingDestPaths);
                    }
                }
                FileActionKind::Rm(rm) => {
                    if rm.allow_wildcard {
                        caps.insert(Cap::FileRmWildcard);
                    }
                }
                FileActionKind::Symlink(_) => _ = caps.insert(Cap::FileSymlinkCreate),
                FileActionKind::Mkfile(_) | FileActionKind::Mkdir(_) => {}
            }
        }
    }
}
