//! Commands under construction.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Bind, Description, Graph, Inputs, MountSpec, Output};
use crate::exec::{EnvVar, ExecOp, NetworkMode};
use crate::mount::{Mount, MountKind};
use crate::op::{Op, OutputIndex};
use crate::path;
use crate::source_map::Location;

/// A command to run. The working directory is `/` and the network the engine's own unless said otherwise.
#[derive(Clone, Debug)]
pub struct Exec {
    args: Vec<String>,
    env: Vec<EnvVar>,
    cwd: String,
    user: Option<String>,
    hostname: Option<String>,
    network: NetworkMode,
    /// By destination: one place, one mount, and outer ones before inner ones.
    mounts: BTreeMap<String, MountSpec>,
    description: Description,
}

/// A command that was added to a graph.
#[derive(Clone, Debug)]
pub struct Executed {
    rootfs: Output,
    outputs: BTreeMap<String, Output>,
}

impl Exec {
    /// Runs a program with arguments on a root filesystem, which it can change.
    #[must_use]
    pub fn on<A: Into<String>>(rootfs: &Output, args: impl IntoIterator<Item = A>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: None,
            hostname: None,
            network: NetworkMode::Sandbox,
            mounts: BTreeMap::from([("/".to_owned(), Bind::new(rootfs).into())]),
            description: Description::default(),
        }
    }

    /// Sets an environment variable. Setting one again moves it to the end.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.env.retain(|var| var.name != name);
        self.env.push(EnvVar { name, value: value.into() });
        self
    }

    /// Sets several environment variables, in order.
    #[must_use]
    pub fn envs<N: Into<String>, V: Into<String>>(self, vars: impl IntoIterator<Item = (N, V)>) -> Self {
        vars.into_iter().fold(self, |exec, (name, value)| exec.env(name, value))
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(self, path: &str) -> Self {
        Self { cwd: path::clean(path), ..self }
    }

    /// Who runs it: `user` or `user:group`, names or numbers.
    #[must_use]
    pub fn user(self, user: impl Into<String>) -> Self {
        Self { user: Some(user.into()), ..self }
    }

    /// The host name it sees.
    #[must_use]
    pub fn hostname(self, hostname: impl Into<String>) -> Self {
        Self { hostname: Some(hostname.into()), ..self }
    }

    /// What of the network it reaches.
    #[must_use]
    pub fn network(self, network: NetworkMode) -> Self {
        Self { network, ..self }
    }

    /// Mounts something. At `/` it replaces the root filesystem's mount; elsewhere it replaces what was mounted there.
    #[must_use]
    pub fn mount(mut self, dest: &str, mount: impl Into<MountSpec>) -> Self {
        self.mounts.insert(path::clean(dest), mount.into());
        self
    }

    /// Makes the root filesystem read-only; it then has no output of its own.
    #[must_use]
    pub fn read_only_rootfs(mut self) -> Self {
        if let Some(rootfs) = self.mounts.get_mut("/") {
            rootfs.readonly = true;
            rootfs.has_output = false;
        }
        self
    }

    /// Runs it even if the cache has its result.
    #[must_use]
    pub fn ignore_cache(mut self) -> Self {
        self.description.metadata.ignore_cache = true;
        self
    }

    /// Names it for people.
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

    pub(super) fn build(self, graph: &Graph) -> Executed {
        let Self { args, mut env, cwd, user, hostname, network, mounts, description } = self;
        // Trees first, then secrets, then agents, each by destination: the order of BuildKit's client.
        let class = |spec: &MountSpec| match spec.kind {
            MountKind::Bind | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => 0,
            MountKind::Secret(_) => 1,
            MountKind::Ssh(_) => 2,
        };
        let mut specs: Vec<(String, MountSpec)> = mounts.into_iter().collect();
        specs.sort_by_key(|(_, spec)| class(spec));
        let agent = specs.iter().find(|(_, spec)| matches!(spec.kind, MountKind::Ssh(_)));
        if let Some((socket, _)) = agent
            && !env.iter().any(|var| var.name == "SSH_AUTH_SOCK")
        {
            env.push(EnvVar { name: "SSH_AUTH_SOCK".to_owned(), value: socket.clone() });
        }
        let mut inputs = Inputs::default();
        let mut places = Vec::new();
        let mut rootfs = None;
        let mut mounts = Vec::with_capacity(specs.len());
        for (dest, spec) in specs {
            let input = inputs.tree(&spec.tree);
            if dest == "/" {
                rootfs = Some(spec.tree);
            }
            let output = spec.has_output.then(|| {
                places.push(dest.clone());
                OutputIndex(places.len() - 1)
            });
            mounts.push(Mount {
                dest,
                input,
                selector: spec.selector,
                readonly: spec.readonly,
                output,
                kind: spec.kind,
            });
        }
        let op = Op::Exec(ExecOp { args, env, cwd, user, hostname, network, mounts });
        let node = graph.node(op, inputs, description);
        let outputs: BTreeMap<_, _> = places
            .into_iter()
            .enumerate()
            .map(|(index, dest)| (dest, Output { node: Arc::clone(&node), index: OutputIndex(index) }))
            .collect();
        let unchanged = match rootfs {
            Some(super::Tree::Output(rootfs)) => rootfs,
            // Mounted over by something without a tree: validation refuses the vertex whichever output is used.
            Some(super::Tree::Scratch) | None => Output { node, index: OutputIndex(0) },
        };
        Executed { rootfs: outputs.get("/").cloned().unwrap_or(unchanged), outputs }
    }
}

impl Executed {
    /// The root filesystem after the command; the very tree it ran on if it could only read it.
    #[must_use]
    pub fn rootfs(&self) -> &Output {
        &self.rootfs
    }

    /// What the command left in the writable bind at `dest`; `None` if there is no such mount.
    #[must_use]
    pub fn output(&self, dest: &str) -> Option<&Output> {
        self.outputs.get(&path::clean(dest))
    }
}
