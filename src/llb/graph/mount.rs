//! Mounts under construction.

use super::Tree;
use crate::mount::{CacheId, CacheSharing, MountKind, SecretId, SecretMount};
use crate::path;

/// What is to be mounted; made from [`Bind`], [`Cache`], [`Tmpfs`], [`Secret`] or [`Ssh`].
#[derive(Clone, Debug)]
pub struct MountSpec {
    pub(super) tree: Tree,
    pub(super) selector: Option<String>,
    pub(super) readonly: bool,
    pub(super) has_output: bool,
    pub(super) kind: MountKind,
}

impl MountSpec {
    fn treeless(kind: MountKind) -> Self {
        Self { tree: Tree::Scratch, selector: None, readonly: false, has_output: false, kind }
    }
}

/// A tree of the graph. Writable unless said otherwise, and what the command leaves there is an output.
#[derive(Clone, Debug)]
pub struct Bind(MountSpec);

impl Bind {
    /// Mounts a tree.
    #[must_use]
    pub fn new(tree: impl Into<Tree>) -> Self {
        let spec = MountSpec::treeless(MountKind::Bind);
        Self(MountSpec { tree: tree.into(), has_output: true, ..spec })
    }

    /// Mounts an empty directory, as a place for results.
    #[must_use]
    pub fn scratch() -> Self {
        Self::new(Tree::Scratch)
    }

    /// Mounts only a part of the tree: a directory or a file.
    #[must_use]
    pub fn selector(self, path: &str) -> Self {
        Self(MountSpec { selector: selector(path), ..self.0 })
    }

    /// The command can only read it; there is no output.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self(MountSpec { readonly: true, has_output: false, ..self.0 })
    }

    /// The command can write to it, and its changes are thrown away.
    #[must_use]
    pub fn discard_changes(self) -> Self {
        Self(MountSpec { readonly: false, has_output: false, ..self.0 })
    }
}

/// The whole tree needs no selector.
fn selector(path: &str) -> Option<String> {
    Some(path::clean(path)).filter(|path| path != "/")
}

/// A directory that outlives the build and enters no cache key.
#[derive(Clone, Debug)]
pub struct Cache(MountSpec);

impl Cache {
    /// The cache of this id.
    #[must_use]
    pub fn new(id: impl Into<String>, sharing: CacheSharing) -> Self {
        Self(MountSpec::treeless(MountKind::Cache { id: CacheId(id.into()), sharing }))
    }

    /// What the cache holds at first.
    #[must_use]
    pub fn seed(self, tree: impl Into<Tree>) -> Self {
        Self(MountSpec { tree: tree.into(), ..self.0 })
    }
}

/// Memory, gone after the step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tmpfs {
    size: Option<u64>,
}

impl Tmpfs {
    /// As large as the engine lets it be.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: None }
    }

    /// At most this many bytes.
    #[must_use]
    pub const fn size(self, bytes: u64) -> Self {
        Self { size: Some(bytes) }
    }
}

/// A secret as a file, 0400 and root's unless said otherwise.
#[derive(Clone, Debug)]
pub struct Secret(SecretMount);

impl Secret {
    /// The secret of this id.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(SecretMount { id: SecretId(id.into()), uid: 0, gid: 0, mode: 0o400, optional: false })
    }

    /// Run without it if there is none.
    #[must_use]
    pub fn optional(self) -> Self {
        Self(SecretMount { optional: true, ..self.0 })
    }

    /// The file's owner.
    #[must_use]
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        Self(SecretMount { uid, gid, ..self.0 })
    }

    /// The file's permission bits.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Self(SecretMount { mode, ..self.0 })
    }
}

/// An SSH agent's socket, 0600 and root's unless said otherwise.
#[derive(Clone, Debug)]
pub struct Ssh(SecretMount);

impl Ssh {
    /// The agent of this id; `default` is the user's own.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(SecretMount { id: SecretId(id.into()), uid: 0, gid: 0, mode: 0o600, optional: false })
    }

    /// Run without it if there is none.
    #[must_use]
    pub fn optional(self) -> Self {
        Self(SecretMount { optional: true, ..self.0 })
    }

    /// The socket's owner.
    #[must_use]
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        Self(SecretMount { uid, gid, ..self.0 })
    }
}

impl From<Bind> for MountSpec {
    fn from(Bind(spec): Bind) -> Self {
        spec
    }
}

impl From<Cache> for MountSpec {
    fn from(Cache(spec): Cache) -> Self {
        spec
    }
}

impl From<Tmpfs> for MountSpec {
    fn from(Tmpfs { size }: Tmpfs) -> Self {
        Self::treeless(MountKind::Tmpfs { size })
    }
}

impl From<Secret> for MountSpec {
    fn from(Secret(secret): Secret) -> Self {
        Self::treeless(MountKind::Secret(secret))
    }
}

impl From<Ssh> for MountSpec {
    fn from(Ssh(socket): Ssh) -> Self {
        Self::treeless(MountKind::Ssh(socket))
    }
}
