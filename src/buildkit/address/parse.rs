//! Texts to addresses.

use std::path::PathBuf;
use std::str::FromStr;

use url::{Host, Url};

use super::{
    Address, AddressError, AddressProblem, ContainerAddress, ContainerRuntime, PodAddress, SshAddress, TcpAddress,
};

/// Every scheme, the usual ones first.
pub(super) const SCHEMES: [&str; 7] =
    ["unix", "tcp", "docker-container", "kube-pod", "ssh", "podman-container", "nerdctl-container"];

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).map_err(|problem| AddressError { text: without_password(text), problem })
    }
}

fn parse(text: &str) -> Result<Address, AddressProblem> {
    let (scheme, rest) = text.split_once("://").ok_or(AddressProblem::NoScheme)?;
    match scheme {
        // Paths are taken as they are: a URL's rules on escapes are not those of file names.
        "unix" => match rest {
            "" => Err(AddressProblem::Missing("socket")),
            path if !path.starts_with('/') => Err(AddressProblem::RelativePath),
            path => Ok(Address::Unix(PathBuf::from(path))),
        },
        "tcp" => tcp(&Parts::of(text)?),
        "docker-container" => container(&Parts::of(text)?, ContainerRuntime::Docker),
        "podman-container" => container(&Parts::of(text)?, ContainerRuntime::Podman),
        "nerdctl-container" => container(&Parts::of(text)?, ContainerRuntime::Nerdctl),
        "kube-pod" => pod(&Parts::of(text)?),
        "ssh" => ssh(&Parts::of(text)?),
        scheme => Err(AddressProblem::Scheme { scheme: scheme.to_owned() }),
    }
}

/// A URL, taken apart. Parts that are asked for count as meaning something; the others must not be there.
struct Parts(Url);

impl Parts {
    fn of(text: &str) -> Result<Self, AddressProblem> {
        let url = Url::parse(text).map_err(|error| match error {
            url::ParseError::EmptyHost => AddressProblem::Missing("host"),
            error => AddressProblem::Url(error),
        })?;
        match url.fragment() {
            Some(_) => Err(AddressProblem::Surplus("fragment")),
            None => Ok(Self(url)),
        }
    }

    /// The host, which may not look like an option to a program it is handed to.
    fn host(&self, what: &'static str) -> Result<String, AddressProblem> {
        let host = match self.0.host() {
            // Of schemes it does not know, the parser leaves escapes in hosts alone.
            Some(Host::Domain(name)) => percent_decoded(name),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => String::new(),
        };
        match host {
            none if none.is_empty() => Err(AddressProblem::Missing(what)),
            host if host.starts_with('-') => Err(AddressProblem::Hyphen(host)),
            host => Ok(host),
        }
    }

    fn port(&self) -> Option<u16> {
        self.0.port()
    }

    fn user(&self) -> Result<Option<String>, AddressProblem> {
        if self.0.password().is_some() {
            return Err(AddressProblem::Password);
        }
        match percent_decoded(self.0.username()) {
            none if none.is_empty() => Ok(None),
            user if user.starts_with('-') => Err(AddressProblem::Hyphen(user)),
            user => Ok(Some(user)),
        }
    }

    fn path(&self) -> Option<String> {
        Some(percent_decoded(self.0.path())).filter(|path| !matches!(path.as_str(), "" | "/"))
    }

    fn no_user(&self) -> Result<(), AddressProblem> {
        match self.user()? {
            Some(_) => Err(AddressProblem::Surplus("user")),
            None => Ok(()),
        }
    }

    fn no_port(&self) -> Result<(), AddressProblem> {
        match self.port() {
            Some(_) => Err(AddressProblem::Surplus("port")),
            None => Ok(()),
        }
    }

    fn no_path(&self) -> Result<(), AddressProblem> {
        match self.path() {
            Some(_) => Err(AddressProblem::Surplus("path")),
            None => Ok(()),
        }
    }

    /// The values of these parameters, in their order; empty ones count as not given.
    fn parameters<const N: usize>(&self, known: [&str; N]) -> Result<[Option<String>; N], AddressProblem> {
        let mut values = [const { None }; N];
        for (key, value) in self.0.query_pairs() {
            let place = known.iter().position(|name| *name == key);
            let place = place.ok_or_else(|| AddressProblem::Parameter(key.into_owned()))?;
            values[place] = Some(value.into_owned()).filter(|value| !value.is_empty());
        }
        Ok(values)
    }
}

fn tcp(parts: &Parts) -> Result<Address, AddressProblem> {
    parts.no_user()?;
    parts.no_path()?;
    parts.parameters([])?;
    let host = parts.host("host")?;
    let port = parts.port().ok_or(AddressProblem::Missing("port"))?;
    Ok(Address::Tcp(TcpAddress { host, port, tls: None }))
}

fn container(parts: &Parts, runtime: ContainerRuntime) -> Result<Address, AddressProblem> {
    parts.no_user()?;
    parts.no_port()?;
    parts.no_path()?;
    let container = parts.host("container")?;
    let context = match runtime {
        ContainerRuntime::Docker => {
            let [context] = parts.parameters(["context"])?;
            context
        }
        ContainerRuntime::Podman | ContainerRuntime::Nerdctl => {
            parts.parameters([])?;
            None
        }
    };
    Ok(Address::Container(ContainerAddress { runtime, container, context }))
}

fn pod(parts: &Parts) -> Result<Address, AddressProblem> {
    parts.no_user()?;
    parts.no_port()?;
    parts.no_path()?;
    let pod = parts.host("pod")?;
    let [context, namespace, container] = parts.parameters(["context", "namespace", "container"])?;
    for name in [Some(&pod), namespace.as_ref(), container.as_ref()].into_iter().flatten() {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if name.starts_with('-') || !name.bytes().all(is_allowed) {
            return Err(AddressProblem::KubernetesName(name.clone()));
        }
    }
    Ok(Address::Pod(PodAddress { pod, namespace, container, context }))
}

fn ssh(parts: &Parts) -> Result<Address, AddressProblem> {
    parts.parameters([])?;
    let host = parts.host("host")?;
    Ok(Address::Ssh(SshAddress { user: parts.user()?, host, port: parts.port(), socket: parts.path() }))
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = escaped.and_then(|digits| hex::decode(digits).ok()).and_then(|bytes| bytes.first().copied());
        decoded.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The text with anything that might be a password taken out: errors are printed.
pub(crate) fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#', ',']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((user, _)) => {
            let name = user.split(':').next().unwrap_or_default();
            let hidden = if user.contains(':') { ":***" } else { "" };
            format!("{scheme}://{name}{hidden}{}", &rest[user.len()..])
        }
        None => text.to_owned(),
    }
}

/// `HOST[:PORT]` with nothing else, as in a Docker daemon's address.
pub(crate) fn parse_host(text: &str) -> Result<(String, Option<u16>), AddressProblem> {
    let parts = Parts::of(&format!("tcp://{text}"))?;
    parts.no_user()?;
    parts.no_path()?;
    parts.parameters([])?;
    Ok((parts.host("host")?, parts.port()))
}

/// The arguments by which ssh runs `command` on the host. It asks nobody anything: there is no terminal to ask at.
pub(crate) fn ssh_args(ssh: &SshAddress, command: Vec<String>) -> Vec<String> {
    let mut args = vec!["-o".to_owned(), "BatchMode=yes".to_owned()];
    if let Some(user) = &ssh.user {
        args.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(port) = ssh.port {
        args.extend(["-p".to_owned(), port.to_string()]);
    }
    args.extend(["--".to_owned(), ssh.host.clone()]);
    args.extend(command);
    args
}
