//! buildx's files: instances, which one is in use.
//!
//! Spec: buildx `store/nodegroup.go` and `store/store.go`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use oci::{Digest, Platform};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::context::read;
use super::{Builder, BuilderError, DEFAULT_CONTEXT, Driver, Environment, Node, PodsDial, Reach};
use crate::address::{Address, AddressError, AddressProblem, tls};
use crate::docker::{ContainerDial, Endpoint};

/// What buildx puts in front of a node's name to name its container.
const CONTAINER_PREFIX: &str = "buildx_buildkit_";

/// A file of `instances`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    name: String,
    #[serde(default)]
    driver: String,
    #[serde(default)]
    nodes: Option<Vec<InstanceNode>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceNode {
    name: String,
    #[serde(default)]
    endpoint: String,
    #[serde(default)]
    platforms: Option<Vec<InstancePlatform>>,
    #[serde(default)]
    driver_opts: Option<BTreeMap<String, String>>,
    /// Configuration files of the buildkitd that buildx started. It has them.
    #[serde(default)]
    #[expect(dead_code, reason = "named so that its absence is no question")]
    files: Option<IgnoredAny>,
}

/// Spec: OCI image-spec image-index.md §platform.
#[derive(Debug, Deserialize)]
struct InstancePlatform {
    architecture: String,
    os: String,
}

/// The file `current`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Current {
    #[serde(default)]
    key: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    global: bool,
}

impl Environment {
    /// The builder of this name: an instance of buildx's, or else the BuildKit of a Docker context.
    ///
    /// # Errors
    /// [`BuilderError`].
    pub fn builder(&self, name: &str) -> Result<Builder, BuilderError> {
        if let Some(instance) = self.instance(name)? {
            return self.resolve(instance);
        }
        match self.context(name) {
            Ok(context) => Ok(of_docker(context.name, context.endpoint)),
            Err(BuilderError::UnknownContext { name, known, .. }) => {
                let mut known: Vec<_> = self.instance_names().into_iter().chain(known).collect();
                known.dedup();
                Err(BuilderError::Unknown { name, known })
            }
            Err(error) => Err(error),
        }
    }

    /// The builder `docker buildx build` would use now: that of `BUILDX_BUILDER`, the one chosen with
    /// `docker buildx use`, or the BuildKit of the current context.
    ///
    /// # Errors
    /// [`BuilderError`].
    pub fn current_builder(&self) -> Result<Builder, BuilderError> {
        if let Some(name) = &self.buildx_builder {
            return self.builder(name);
        }
        let context = self.current_context()?;
        match self.chosen(&context)? {
            Some(instance) => self.resolve(instance),
            None => {
                let context = self.docker()?;
                Ok(of_docker(context.name, context.endpoint))
            }
        }
    }

    /// The names of buildx's instances, sorted.
    #[must_use]
    pub fn instance_names(&self) -> Vec<String> {
        let directory = self.buildx_config.as_ref().map(|directory| directory.join("instances"));
        let entries = directory.and_then(|directory| fs::read_dir(directory).ok()).into_iter().flatten();
        let names = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| file_name(name).is_some()).collect();
        names.sort_unstable();
        names
    }

    fn instance(&self, name: &str) -> Result<Option<Instance>, BuilderError> {
        let file = file_name(name).and_then(|file| Some(self.buildx_config.as_ref()?.join("instances").join(file)));
        file.map_or(Ok(None), |path| read(&path, "a buildx builder"))
    }

    /// The instance in use while `context` is the current one.
    fn chosen(&self, context: &str) -> Result<Option<Instance>, BuilderError> {
        let Some(directory) = &self.buildx_config else { return Ok(None) };
        let key = self.key(context);
        if let Some(current) = read::<Current>(&directory.join("current"), "buildx's choice of a builder")?
            && !current.name.is_empty()
        {
            let instance = self.instance(&current.name)?;
            if instance.is_some() && current.global || current.key == key {
                return Ok(instance);
            }
        }
        let default = directory.join("defaults").join(&Digest::of(&key).hex()[..20]);
        let Ok(name) = fs::read_to_string(default) else { return Ok(None) };
        self.instance(name.trim())
    }

    /// What buildx knows a context by: the default one by its host, others by their name.
    fn key(&self, context: &str) -> String {
        match (context, &self.docker_host) {
            (DEFAULT_CONTEXT, Some(host)) => host.clone(),
            (DEFAULT_CONTEXT, None) => "unix:///var/run/docker.sock".to_owned(),
            (name, _) => name.to_owned(),
        }
    }

    fn resolve(&self, instance: Instance) -> Result<Builder, BuilderError> {
        let Instance { name: builder, driver, nodes } = instance;
        let driver = match driver.as_str() {
            "docker" | "" => Driver::Docker,
            "docker-container" => Driver::DockerContainer,
            "kubernetes" => Driver::Kubernetes,
            "remote" => Driver::Remote,
            _ => return Err(BuilderError::Driver { builder, driver }),
        };
        let nodes = nodes.unwrap_or_default();
        if nodes.is_empty() {
            return Err(BuilderError::NoNodes { builder });
        }
        let nodes = nodes.into_iter().map(|node| self.node(&builder, driver, node)).collect::<Result<_, _>>()?;
        Ok(Builder { name: builder, driver, nodes })
    }

    fn node(&self, builder: &str, driver: Driver, node: InstanceNode) -> Result<Node, BuilderError> {
        let InstanceNode { name, endpoint, platforms, driver_opts, .. } = node;
        let options = driver_opts.unwrap_or_default();
        let platforms = known_platforms(platforms.unwrap_or_default());
        let reach = match driver {
            Driver::Docker => Reach::Docker(self.endpoint(&endpoint)?),
            Driver::DockerContainer => {
                let container = format!("{CONTAINER_PREFIX}{name}");
                Reach::BuildKit(std::sync::Arc::new(ContainerDial::new(self.endpoint(&endpoint)?, container)))
            }
            Driver::Kubernetes => {
                let fail = |source| BuilderError::Node { builder: builder.to_owned(), node: name.clone(), source };
                let pods = PodsDial::of_node(&name, &endpoint, &options).map_err(fail)?;
                return Ok(Node::of_pods(name, platforms, pods));
            }
            Driver::Remote => {
                let address = remote(builder, &name, &endpoint, &options)?;
                Reach::BuildKit(address.dial(self)?)
            }
        };
        Ok(Node { name, platforms, reach })
    }

    /// The daemon of a node: a context's, or that of an address.
    fn endpoint(&self, text: &str) -> Result<Endpoint, BuilderError> {
        if !text.contains("://") {
            return Ok(self.context(if text.is_empty() { DEFAULT_CONTEXT } else { text })?.endpoint);
        }
        // The address the default context had when the node was made. With it go the same certificates.
        if self.docker_host.as_deref() == Some(text) {
            return Ok(self.context(DEFAULT_CONTEXT)?.endpoint);
        }
        Endpoint::parse(text, None).map_err(|problem| BuilderError::Endpoint {
            origin: format!("`{}`", crate::address::without_password(text)),
            problem,
        })
    }
}

fn of_docker(name: String, endpoint: Endpoint) -> Builder {
    let node = Node { name: name.clone(), platforms: Vec::new(), reach: Reach::Docker(endpoint) };
    Builder { name, driver: Driver::Docker, nodes: vec![node] }
}

/// The address of a node of the remote driver, with what its options say of TLS.
fn remote(
    builder: &str,
    node: &str,
    endpoint: &str,
    options: &BTreeMap<String, String>,
) -> Result<Address, BuilderError> {
    let fail = |source| BuilderError::Node { builder: builder.to_owned(), node: node.to_owned(), source };
    let option = |option: &str, problem| BuilderError::Option {
        builder: builder.to_owned(),
        node: node.to_owned(),
        option: option.to_owned(),
        problem,
    };
    let mut address: Address = endpoint.parse().map_err(fail)?;
    for key in options.keys() {
        // Where results go is said on the command line here.
        if !matches!(key.as_str(), "cacert" | "cert" | "key" | "servername" | "default-load") {
            return Err(option(key, "is not one of the remote driver's"));
        }
    }
    let file = |key: &str| options.get(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    for key in ["cacert", "cert", "key"] {
        if file(key).is_some_and(|path| !path.is_absolute()) {
            return Err(option(key, "is not an absolute path"));
        }
    }
    let name = options.get("servername").filter(|name| !name.is_empty()).cloned();
    let problem = |problem| fail(AddressError { text: endpoint.to_owned(), problem });
    if let Some(given) = tls(file("cacert"), file("cert"), file("key"), name).map_err(problem)? {
        match &mut address {
            Address::Tcp(tcp) => tcp.tls = Some(given),
            _ => return Err(problem(AddressProblem::Certificates)),
        }
    }
    Ok(address)
}

/// Those of a node's platforms that clawbuild builds for. A variant says what else the node can run.
fn known_platforms(platforms: Vec<InstancePlatform>) -> Vec<Platform> {
    let mut known = Vec::new();
    for InstancePlatform { architecture, os } in platforms {
        if let Ok(platform) = format!("{os}/{architecture}").parse()
            && !known.contains(&platform)
        {
            known.push(platform);
        }
    }
    known
}

/// The file of an instance; `None` for names buildx does not allow. It knows no upper case.
fn file_name(name: &str) -> Option<String> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (first && name.bytes().all(is_allowed)).then(|| name.to_ascii_lowercase())
}
