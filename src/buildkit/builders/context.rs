//! Docker's contexts: names for daemons.
//!
//! Spec: docker/cli `cli/context/store` (`contexts/meta/<sha256 of the name>/meta.json`, `contexts/tls/…`) and
//! `cli/command/cli.go` (which context is the current one).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;
use serde::Deserialize;

use super::{BuilderError, Environment};
use crate::docker::{Endpoint, EndpointProblem};
use crate::transport::{Identity, Tls};

/// The context that is no file: `DOCKER_HOST`, or the local socket.
pub const DEFAULT_CONTEXT: &str = "default";
/// The local daemon's socket.
const SOCKET: &str = "/var/run/docker.sock";

/// A named daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerContext {
    /// The name.
    pub name: String,
    /// Where the daemon is.
    pub endpoint: Endpoint,
}

/// What of `config.json` matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    #[serde(default)]
    current_context: String,
}

/// `meta.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    endpoints: BTreeMap<String, EndpointMeta>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EndpointMeta {
    #[serde(default)]
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

impl Environment {
    /// The context Docker's own programs would use now.
    ///
    /// # Errors
    /// [`BuilderError::Read`] and [`BuilderError::Malformed`] for `config.json`.
    pub fn current_context(&self) -> Result<String, BuilderError> {
        if self.docker_host.is_some() {
            return Ok(DEFAULT_CONTEXT.to_owned());
        }
        if let Some(name) = &self.docker_context {
            return Ok(name.clone());
        }
        let Some(directory) = &self.docker_config else { return Ok(DEFAULT_CONTEXT.to_owned()) };
        let config: Option<ConfigFile> = read(&directory.join("config.json"), "Docker's configuration")?;
        Ok(config.map(|config| config.current_context).filter(|name| !name.is_empty()).unwrap_or_else(default))
    }

    /// The daemon Docker's own programs would use now.
    ///
    /// # Errors
    /// [`BuilderError`].
    pub fn docker(&self) -> Result<DockerContext, BuilderError> {
        let name = self.current_context()?;
        self.context(&name).map_err(|error| match error {
            BuilderError::UnknownContext { name, known, .. } => {
                let by = if self.docker_context.is_some() { "DOCKER_CONTEXT" } else { "Docker's config.json" };
                BuilderError::UnknownContext { name, known, by: Some(by) }
            }
            error => error,
        })
    }

    /// The context of this name.
    ///
    /// # Errors
    /// [`BuilderError`].
    pub fn context(&self, name: &str) -> Result<DockerContext, BuilderError> {
        if name == DEFAULT_CONTEXT {
            return Ok(DockerContext { name: default(), endpoint: self.default_endpoint()? });
        }
        let id = Digest::of(name).hex();
        let unknown = || BuilderError::UnknownContext { name: name.to_owned(), by: None, known: self.context_names() };
        let contexts = self.contexts_directory().ok_or_else(unknown)?;
        let path = contexts.join("meta").join(&id).join("meta.json");
        let meta: Meta = read(&path, "a Docker context")?.ok_or_else(unknown)?;
        let endpoint = meta.endpoints.get("docker").filter(|endpoint| !endpoint.host.is_empty());
        let endpoint = endpoint.ok_or_else(|| BuilderError::NoEndpoint { name: name.to_owned() })?;
        let origin = || format!("the context `{name}`, `{}`,", crate::address::without_password(&endpoint.host));
        let fail = |problem| BuilderError::Endpoint { origin: origin(), problem };
        if endpoint.skip_tls_verify && endpoint.host.starts_with("tcp") {
            return Err(fail(EndpointProblem::Unverified));
        }
        let tls = certificates(&contexts.join("tls").join(&id).join("docker"));
        let endpoint = Endpoint::parse(&endpoint.host, tls).map_err(fail)?;
        Ok(DockerContext { name: name.to_owned(), endpoint })
    }

    /// The names of all contexts, `default` first, the others sorted. What cannot be read is left out.
    #[must_use]
    pub fn context_names(&self) -> Vec<String> {
        let meta = self.contexts_directory().map(|contexts| contexts.join("meta"));
        let entries = meta.and_then(|meta| fs::read_dir(meta).ok()).into_iter().flatten().filter_map(Result::ok);
        let read = |entry: fs::DirEntry| read::<Meta>(&entry.path().join("meta.json"), "a context").ok().flatten();
        let mut names: Vec<_> = entries.filter_map(read).map(|meta| meta.name).collect();
        names.retain(|name| !name.is_empty() && name != DEFAULT_CONTEXT);
        names.sort_unstable();
        std::iter::once(default()).chain(names).collect()
    }

    fn contexts_directory(&self) -> Option<PathBuf> {
        Some(self.docker_config.as_ref()?.join("contexts"))
    }

    fn default_endpoint(&self) -> Result<Endpoint, BuilderError> {
        let Some(host) = &self.docker_host else { return Ok(Endpoint::Unix(PathBuf::from(SOCKET))) };
        let tls = self.docker_certificates.as_deref().map(|directory| Tls {
            authority: Some(directory.join("ca.pem")),
            identity: pair(directory),
            server_name: None,
        });
        Endpoint::parse(host, tls).map_err(|problem| BuilderError::Endpoint {
            origin: format!("DOCKER_HOST, `{}`,", crate::address::without_password(host)),
            problem,
        })
    }
}

fn default() -> String {
    DEFAULT_CONTEXT.to_owned()
}

/// TLS by the files of a context; `None` where it has none.
fn certificates(directory: &Path) -> Option<Tls> {
    let authority = Some(directory.join("ca.pem")).filter(|path| path.exists());
    let identity = pair(directory);
    (authority.is_some() || identity.is_some()).then_some(Tls { authority, identity, server_name: None })
}

fn pair(directory: &Path) -> Option<Identity> {
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    (certificate.exists() && key.exists()).then_some(Identity { certificate, key })
}

/// The JSON in a file; `None` where there is no such file.
pub(super) fn read<T: serde::de::DeserializeOwned>(path: &Path, what: &'static str) -> Result<Option<T>, BuilderError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(BuilderError::Read { path: path.to_owned(), source }),
    };
    let malformed = |source| BuilderError::Malformed { path: path.to_owned(), what, source };
    serde_json::from_slice(&bytes).map(Some).map_err(malformed)
}
