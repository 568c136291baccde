//! Running a command. Spec: BuildKit `solver/pb/ops.proto` `ExecOp`.

use std::collections::BTreeSet;

use crate::caps::Cap;
use crate::mount::{Mount, MountKind};

/// Runs a command in a sandbox whose files are its mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOp {
    /// The program and its arguments; no shell is implied. Never empty.
    pub args: Vec<String>,
    /// The environment, in order. No name occurs twice, and none holds `=`.
    pub env: Vec<EnvVar>,
    /// The absolute working directory; made if it is not there.
    pub cwd: String,
    /// `user`, `user:group`, names or numbers, looked up in the root filesystem. `None` is root.
    pub user: Option<String>,
    /// The host name seen inside. `None` leaves the choice to the engine (BuildKit: `buildkitsandbox`).
    pub hostname: Option<String>,
    /// What of the network can be reached.
    pub network: NetworkMode,
    /// Everything the command sees; one is mounted at `/`.
    pub mounts: Vec<Mount>,
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvVar {
    /// The name: not empty, without `=`.
    pub name: String,
    /// The value.
    pub value: String,
}

/// What of the network a command can reach. Spec: ops.proto `NetMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// The engine's ordinary network for steps (`UNSET` on the wire).
    Sandbox,
    /// The host's own network. BuildKit wants an entitlement for it.
    Host,
    /// Loopback only.
    None,
}

impl ExecOp {
    /// The mount at `/`.
    #[must_use]
    pub fn rootfs(&self) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.dest == "/")
    }

    pub(crate) fn add_caps(&self, caps: &mut BTreeSet<Cap>) {
        caps.insert(Cap::ExecMetaBase);
        match self.network {
            NetworkMode::Sandbox => {}
            NetworkMode::Host | NetworkMode::None => _ = caps.insert(Cap::ExecMetaNetwork),
        }
        for mount in &self.mounts {
            if mount.selector.is_some() {
                caps.insert(Cap::ExecMountSelector);
            }
            match &mount.kind {
                MountKind::Bind => {
                    caps.insert(Cap::ExecMountBind);
                    if mount.output.is_none() && !mount.readonly {
                        caps.insert(Cap::ExecMountBindReadWriteNoOutput);
                    }
                }
                MountKind::Cache { .. } => caps.extend([Cap::ExecMountCache, Cap::ExecMountCacheSharing]),
                MountKind::Tmpfs { size } => {
                    caps.insert(Cap::ExecMountTmpfs);
                    if size.is_some() {
                        caps.insert(Cap::ExecMountTmpfsSize);
                    }
                }
                MountKind::Secret(_) => _ = caps.insert(Cap::ExecMountSecret),
                MountKind::Ssh(_) => _ = caps.insert(Cap::ExecMountSsh),
            }
        }
    }
}
