//! Mounts of an exec. Spec: BuildKit `solver/pb/ops.proto` `Mount`.

use crate::op::{InputIndex, OutputIndex};

/// One filesystem a command sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path in the sandbox. Mounts go on in list order, so an outer one stands before an inner one.
    pub dest: String,
    /// The tree mounted. `None` is an empty one. Only binds and caches (as their first content) have inputs.
    pub input: Option<InputIndex>,
    /// The file or directory of the tree that is mounted; `None` is all of it.
    pub selector: Option<String>,
    /// Whether the command can only read it.
    pub readonly: bool,
    /// Where the changed tree comes out. `None` discards changes; always `None` for anything but binds.
    pub output: Option<OutputIndex>,
    /// What is mounted.
    pub kind: MountKind,
}

/// What a [`Mount`] holds. Spec: ops.proto `MountType` and its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A tree of the graph, copy on write.
    Bind,
    /// A directory that outlives the build and enters no cache key.
    Cache {
        /// Caches of the same id are the same directory.
        id: CacheId,
        /// What happens when two steps want it at once.
        sharing: CacheSharing,
    },
    /// Memory, gone after the step.
    Tmpfs {
        /// Upper limit in bytes, where there is one.
        size: Option<u64>,
    },
    /// A file with a secret's value. Only the id enters the graph.
    Secret(SecretMount),
    /// A socket to an SSH agent.
    Ssh(SecretMount),
}

/// Names a cache directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheId(pub String);

/// Names a secret or an SSH agent; the value is the session's business.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretId(pub String);

/// What happens when two steps want the same cache at once. Spec: ops.proto `CacheSharingOpt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheSharing {
    /// Both use it.
    Shared,
    /// The second gets a directory of its own.
    Private,
    /// The second waits.
    Locked,
}

/// A secret's file or an agent's socket. Spec: ops.proto `SecretOpt`, `SSHOpt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMount {
    /// Which one.
    pub id: SecretId,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Permission bits of the file.
    pub mode: u32,
    /// Whether the step runs without it when the session has none.
    pub optional: bool,
}
