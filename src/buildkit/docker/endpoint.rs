//! Where a Docker daemon is.

use std::fmt;
use std::path::PathBuf;

use super::error::EndpointProblem;
use crate::address::{SshAddress, parse_host};
use crate::transport::{Dial as _, DialError, Process, Purpose, Stream, Tcp, Tls, Unix};

/// The ports dockerd listens on by convention.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// Where a Docker daemon's API is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// A name or an IP address; IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whose certificates count; `None` is a port without TLS.
        tls: Option<Tls>,
    },
    /// Another machine's, by `docker system dial-stdio` run there. The socket is the one Docker's program takes there
    /// unless it is named.
    Ssh(SshAddress),
}

impl Endpoint {
    /// The endpoint of a `DOCKER_HOST`, or of a context's `Host`. `tls` counts for TCP alone.
    ///
    /// # Errors
    /// [`EndpointProblem`].
    pub(crate) fn parse(text: &str, tls: Option<Tls>) -> Result<Self, EndpointProblem> {
        let (scheme, rest) = match text.split_once("://") {
            Some(parts) => parts,
            // As Docker has it, `host:2375` is TCP.
            None if text.contains(':') && !text.contains('/') => ("tcp", text),
            None => return Err(EndpointProblem::NoScheme),
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => Err(EndpointProblem::RelativePath),
            "tcp" | "http" | "https" => {
                let (host, port) = parse_host(rest).map_err(EndpointProblem::Address)?;
                let port = port.unwrap_or(if tls.is_some() { TLS_PORT } else { PLAIN_PORT });
                let tls = tls.or_else(|| (scheme == "https").then(Tls::default));
                Ok(Self::Tcp { host, port, tls })
            }
            "ssh" => match text.parse() {
                Ok(crate::address::Address::Ssh(ssh)) => Ok(Self::Ssh(ssh)),
                Ok(_) => Err(EndpointProblem::Scheme("ssh".to_owned())),
                Err(error) => Err(EndpointProblem::Address(error.problem)),
            },
            scheme => Err(EndpointProblem::Scheme(scheme.to_owned())),
        }
    }

    /// Connects; what is spoken is HTTP/1.
    ///
    /// # Errors
    /// [`DialError`].
    pub(crate) async fn connect(&self) -> Result<Box<dyn Stream>, DialError> {
        match self {
            Self::Unix(path) => Unix { path: path.clone() }.dial(Purpose::Control).await,
            Self::Tcp { host, port, tls } => {
                Tcp { host: host.clone(), port: *port, tls: tls.clone() }.dial_for(b"http/1.1").await
            }
            Self::Ssh(ssh) => self.over_ssh(ssh).dial(Purpose::Control).await,
        }
    }

    fn over_ssh(&self, ssh: &SshAddress) -> Process {
        let mut command = vec!["docker".to_owned()];
        if let Some(socket) = &ssh.socket {
            command.extend(["--host".to_owned(), format!("unix://{socket}")]);
        }
        command.extend(["system", "dial-stdio"].map(str::to_owned));
        let args = crate::address::ssh_args(ssh, command);
        Process { address: self.to_string(), program: "ssh".to_owned(), args, greets: false }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "tcp://{host}:{port}"),
            Self::Ssh(ssh) => crate::address::Address::Ssh(ssh.clone()).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_as_docker_writes_them() {
        let tls = || Some(Tls { authority: Some(PathBuf::from("/ca.pem")), ..Tls::default() });
        let tcp = |host: &str, port, tls| Endpoint::Tcp { host: host.to_owned(), port, tls };
        for (text, given, expected, shown) in [
            ("unix:///run/d.sock", tls(), Endpoint::Unix(PathBuf::from("/run/d.sock")), "unix:///run/d.sock"),
            ("tcp://h", None, tcp("h", 2375, None), "tcp://h:2375"),
            ("tcp://h", tls(), tcp("h", 2376, tls()), "tcp://h:2376"),
            ("tcp://[fe80::1]:1", None, tcp("fe80::1", 1, None), "tcp://[fe80::1]:1"),
            ("h:2375", None, tcp("h", 2375, None), "tcp://h:2375"),
            ("https://h:1", None, tcp("h", 1, Some(Tls::default())), "tcp://h:1"),
        ] {
            let endpoint = Endpoint::parse(text, given).expect(text);
            assert_eq!(endpoint, expected);
            assert_eq!(endpoint.to_string(), shown);
        }
        for text in ["", "h", "npipe:////./pipe/docker_engine", "fd://", "unix://x", "tcp://", "tcp://h/v1"] {
            assert!(Endpoint::parse(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn ssh_runs_docker_there() {
        let args = |text: &str| match Endpoint::parse(text, None).expect(text) {
            Endpoint::Ssh(ssh) => {
                let process = Endpoint::Ssh(ssh.clone()).over_ssh(&ssh);
                assert!(!process.greets, "HTTP servers wait for a request");
                process.command_line()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(args("ssh://host"), "ssh -o BatchMode=yes -- host docker system dial-stdio");
        assert_eq!(
            args("ssh://me@host:22/run/d.sock"),
            "ssh -o BatchMode=yes -l me -p 22 -- host docker --host unix:///run/d.sock system dial-stdio"
        );
    }
}
