//! Builders and their nodes.

use std::sync::Arc;

use oci::Platform;

use super::{BuilderError, Environment, PodsDial};
use crate::address::{Address, ContainerAddress, ContainerRuntime, PodAddress, SshAddress, ssh_args};
use crate::docker::{ContainerDial, Endpoint};
use crate::transport::{Dial, Process, Tcp, Unix};

/// A builder: one or several BuildKits that go by one name.
#[derive(Clone, Debug)]
pub struct Builder {
    /// Its name.
    pub name: String,
    /// How its nodes are reached.
    pub driver: Driver,
    /// Its nodes, in the order they were added; at least one.
    pub nodes: Vec<Node>,
}

/// How a builder's nodes are reached. Spec: Docker's documentation, Build drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The BuildKit inside a Docker daemon.
    Docker,
    /// buildkitd in a container that buildx made.
    DockerContainer,
    /// buildkitd in pods that buildx made.
    Kubernetes,
    /// A buildkitd somebody else runs.
    Remote,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, unique in its builder.
    pub name: String,
    /// The platforms it was given, of those clawbuild knows. Empty means what it says of itself.
    pub platforms: Vec<Platform>,
    /// How it is reached.
    pub reach: Reach,
}

/// How a BuildKit is reached.
#[derive(Clone, Debug)]
pub enum Reach {
    /// The one inside the Docker daemon there.
    Docker(Endpoint),
    /// A buildkitd.
    BuildKit(Arc<dyn Dial>),
}

impl Driver {
    /// buildx's name of it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::DockerContainer => "docker-container",
            Self::Kubernetes => "kubernetes",
            Self::Remote => "remote",
        }
    }
}

impl Reach {
    /// The address, as the user knows it; without credentials.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Docker(endpoint) => format!("docker at {endpoint}"),
            Self::BuildKit(dial) => dial.describe(),
        }
    }
}

impl Address {
    /// What makes streams to the builder there.
    ///
    /// # Errors
    /// [`BuilderError`] if the address names a Docker context that cannot be had.
    pub fn dial(&self, environment: &Environment) -> Result<Arc<dyn Dial>, BuilderError> {
        Ok(match self {
            Self::Unix(path) => Arc::new(Unix { path: path.clone() }),
            Self::Tcp(tcp) => Arc::new(Tcp { host: tcp.host.clone(), port: tcp.port, tls: tcp.tls.clone() }),
            Self::Container(container) => match container.runtime {
                ContainerRuntime::Docker => {
                    let context = match &container.context {
                        Some(name) => environment.context(name)?,
                        None => environment.docker()?,
                    };
                    Arc::new(ContainerDial::new(context.endpoint, &container.container))
                }
                ContainerRuntime::Podman => Arc::new(self.in_container("podman", container)),
                ContainerRuntime::Nerdctl => Arc::new(self.in_container("nerdctl", container)),
            },
            Self::Pod(pod) => Arc::new(self.in_pod(pod)),
            Self::Ssh(ssh) => Arc::new(self.over_ssh(ssh)),
        })
    }

    fn in_container(&self, program: &str, container: &ContainerAddress) -> Process {
        let args = ["exec", "-i", &container.container, "buildctl", "dial-stdio"];
        self.process(program, args.map(str::to_owned).to_vec())
    }

    fn in_pod(&self, pod: &PodAddress) -> Process {
        let mut args = Vec::new();
        for (option, value) in [("context", &pod.context), ("namespace", &pod.namespace)] {
            args.extend(value.as_ref().map(|value| format!("--{option}={value}")));
        }
        args.extend(["exec", "-i", &pod.pod].map(str::to_owned));
        args.extend(pod.container.as_ref().map(|container| format!("--container={container}")));
        args.extend(["--", "buildctl", "dial-stdio"].map(str::to_owned));
        self.process("kubectl", args)
    }

    fn over_ssh(&self, ssh: &SshAddress) -> Process {
        let mut command = vec!["buildctl".to_owned()];
        if let Some(socket) = &ssh.socket {
            command.extend(["--addr".to_owned(), format!("unix://{socket}")]);
        }
        command.push("dial-stdio".to_owned());
        self.process("ssh", ssh_args(ssh, command))
    }

    fn process(&self, program: &str, args: Vec<String>) -> Process {
        Process { address: self.to_string(), program: program.to_owned(), args, greets: true }
    }
}

impl Node {
    /// The node of pods.
    pub(super) fn of_pods(name: String, platforms: Vec<Platform>, pods: PodsDial) -> Self {
        Self { name, platforms, reach: Reach::BuildKit(Arc::new(pods)) }
    }
}
