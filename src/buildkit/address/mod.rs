//! Addresses of builders, as users write them in `BUILDKIT_HOST` and `--builder`.
//!
//! Spec: BuildKit's `client` and `client/connhelper` packages, which give the schemes their meaning.

mod argument;
mod error;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

pub use argument::{BuilderArgument, BuilderPlace};
pub use error::{AddressError, AddressProblem};

pub(crate) use argument::tls;
pub(crate) use parse::{parse_host, ssh_args, without_password};

use crate::transport::Tls;

/// Where a buildkitd is and how its byte stream is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix://PATH`: a socket of this machine.
    Unix(PathBuf),
    /// `tcp://HOST:PORT`.
    Tcp(TcpAddress),
    /// `docker-container://NAME`, `podman-container://NAME`, `nerdctl-container://NAME`: inside a container, by the
    /// standard streams of `buildctl dial-stdio` run there.
    Container(ContainerAddress),
    /// `kube-pod://NAME`: inside a pod, likewise, by `kubectl exec`.
    Pod(PodAddress),
    /// `ssh://[USER@]HOST[:PORT][/SOCKET]`: on another machine, likewise, by `ssh`.
    Ssh(SshAddress),
}

/// A buildkitd behind a TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpAddress {
    /// A name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whose certificates count; `None` is a port without TLS.
    pub tls: Option<Tls>,
}

/// A buildkitd in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerAddress {
    /// What runs the container.
    pub runtime: ContainerRuntime,
    /// The container's name or id.
    pub container: String,
    /// The Docker context to ask; `None` is the current one. Only Docker has contexts.
    pub context: Option<String>,
}

/// What runs a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerRuntime {
    /// Docker, asked over its API.
    Docker,
    /// Podman, by its program.
    Podman,
    /// containerd, by nerdctl.
    Nerdctl,
}

/// A buildkitd in a Kubernetes pod. Names and namespaces are DNS labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// The pod.
    pub pod: String,
    /// The pod's namespace; `None` is the one of the kubectl context.
    pub namespace: Option<String>,
    /// The container in the pod; `None` is the one kubectl takes.
    pub container: Option<String>,
    /// The kubectl context; `None` is the current one.
    pub context: Option<String>,
}

/// A buildkitd on another machine, reached by ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshAddress {
    /// The user there; `None` leaves it to ssh.
    pub user: Option<String>,
    /// The host, or its alias in ssh's configuration.
    pub host: String,
    /// The port; `None` leaves it to ssh.
    pub port: Option<u16>,
    /// buildkitd's socket there; `None` leaves it to buildctl.
    pub socket: Option<String>,
}

impl ContainerRuntime {
    /// The scheme of such addresses.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Docker => "docker-container",
            Self::Podman => "podman-container",
            Self::Nerdctl => "nerdctl-container",
        }
    }
}

/// The address as a URL, without what says how to authenticate.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(tcp) => write!(f, "tcp://{}:{}", Bracketed(&tcp.host), tcp.port),
            Self::Container(address) => {
                write!(f, "{}://{}", address.runtime.scheme(), address.container)?;
                query(f, &[("context", &address.context)])
            }
            Self::Pod(PodAddress { pod, namespace, container, context }) => {
                write!(f, "kube-pod://{pod}")?;
                query(f, &[("context", context), ("namespace", namespace), ("container", container)])
            }
            Self::Ssh(ssh) => {
                f.write_str("ssh://")?;
                if let Some(user) = &ssh.user {
                    write!(f, "{user}@")?;
                }
                write!(f, "{}", Bracketed(&ssh.host))?;
                if let Some(port) = ssh.port {
                    write!(f, ":{port}")?;
                }
                f.write_str(ssh.socket.as_deref().unwrap_or_default())
            }
        }
    }
}

fn query(f: &mut fmt::Formatter<'_>, fields: &[(&str, &Option<String>)]) -> fmt::Result {
    let given = fields.iter().filter_map(|(key, value)| value.as_ref().map(|value| (key, value)));
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    given.for_each(|(key, value)| _ = pairs.append_pair(key, value));
    match pairs.finish() {
        none if none.is_empty() => Ok(()),
        pairs => write!(f, "?{pairs}"),
    }
}

/// A host as URLs write it.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}
