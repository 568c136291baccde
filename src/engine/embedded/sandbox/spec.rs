//! What a step is given to run in.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::emulation::Emulator;

/// BuildKit's name for the host a step sees, kept so that steps that record it record the same.
pub const DEFAULT_HOSTNAME: &str = "buildkitsandbox";

/// The search path where a step's environment has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One command and all it can see. Crosses to the helper process as JSON, over a socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The root filesystem: a directory that can be written to, even where the step cannot, because mount points are made
    /// in it. They are gone when the step ends.
    pub root: PathBuf,
    /// Whether the step may only read the root filesystem.
    pub read_only_root: bool,
    /// What is mounted besides, in this order. Later ones may lie on earlier ones.
    pub mounts: Vec<Mount>,
    /// The program, looked up in the environment's `PATH`, and its arguments.
    pub args: Vec<String>,
    /// The environment, as given. `HOME` is added from the user's entry in `/etc/passwd` if it is not here, as runc does.
    pub env: Vec<Variable>,
    /// The absolute working directory. Made, with the user as its owner, if it is not there.
    pub cwd: String,
    /// `user` or `user:group`, by name or number, looked up in the root filesystem. Empty is root.
    pub user: String,
    /// The name of the host.
    pub hostname: String,
    /// Lines for `/etc/hosts` besides those for the step itself.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// What of the network can be reached.
    pub network: Network,
    /// What the step may do.
    pub security: Security,
    /// What runs programs of another architecture, where it is to.
    pub emulator: Option<Emulator>,
    /// Limits, where there are any.
    pub limits: Limits,
    /// Whether directories made above a mount point go away with it. BuildKit's LLB says so by
    /// `removeMountStubsRecursive`; without, they stay in the layer.
    pub remove_parents: bool,
}

impl Spec {
    /// A spec for root running `args` in `root` with nothing but the defaults.
    pub fn new(root: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            root: root.into(),
            read_only_root: false,
            mounts: Vec::new(),
            args: args.into_iter().map(Into::into).collect(),
            env: vec![Variable::new("PATH", DEFAULT_PATH)],
            cwd: "/".to_owned(),
            user: String::new(),
            hostname: DEFAULT_HOSTNAME.to_owned(),
            extra_hosts: Vec::new(),
            network: Network::None,
            security: Security::Sandbox,
            emulator: None,
            limits: Limits::default(),
            remove_parents: true,
        }
    }
}

/// One environment variable. Its value is not shown in debug output: it may come from a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name, without `=`.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Variable {
    /// A variable.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

/// One thing mounted into the root filesystem.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// The absolute path in the step's tree. Links in it are followed, inside the tree. Made if it is not there.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of this machine: a tree's, a cache's, an agent's socket.
    Bind {
        /// The directory or file.
        path: PathBuf,
        /// What of it: a path inside the directory, links followed inside of it. Empty for all.
        selector: String,
        /// Whether the step may only read it.
        read_only: bool,
    },
    /// Memory that is gone when the step ends.
    Tmpfs {
        /// The most it may hold, in bytes.
        size: Option<u64>,
    },
    /// A file that holds a secret, in memory only.
    Secret {
        /// What it holds.
        content: Secret,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// A secret's bytes. Not shown in debug output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What of the network a step can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A loopback interface of its own.
    None,
    /// A network of its own, in which it has this address besides those of loopback, and is alone.
    Private(Ipv4Addr),
    /// What this machine can reach.
    Host,
}

/// What a step may do. Spec: BuildKit `solver/pb/ops.proto` `SecurityMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Security {
    /// What a container may: few capabilities, no new privileges, no dangerous system calls.
    Sandbox,
    /// Whatever clawbuild itself may.
    Insecure,
}

/// Upper limits of what a step may use, enforced where a cgroup can be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}
