//! What of a process' environment says where Docker and builders are.

use std::ffi::OsString;
use std::path::PathBuf;

/// The places and variables Docker's own programs go by. Nothing in this crate reads the process' environment itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Docker's directory: `DOCKER_CONFIG`, or `~/.docker`. `None` where there is no home either.
    pub docker_config: Option<PathBuf>,
    /// buildx's directory: `BUILDX_CONFIG`, or `buildx` in Docker's.
    pub buildx_config: Option<PathBuf>,
    /// `DOCKER_HOST`, if it says anything.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`, if it says anything.
    pub docker_context: Option<String>,
    /// `BUILDX_BUILDER`, if it says anything.
    pub buildx_builder: Option<String>,
    /// The directory with `ca.pem`, `cert.pem` and `key.pem` if the default endpoint is one with TLS:
    /// `DOCKER_TLS_VERIFY` says whether, `DOCKER_CERT_PATH` where.
    pub docker_certificates: Option<PathBuf>,
}

impl Environment {
    /// The environment that `variable` gives the values of, such as `std::env::var_os`.
    #[must_use]
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let docker_config =
            set("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(PathBuf::from(set("HOME")?).join(".docker")));
        let buildx_config =
            set("BUILDX_CONFIG").map(PathBuf::from).or_else(|| Some(docker_config.as_ref()?.join("buildx")));
        // Set at all it means yes, whatever its value.
        let docker_certificates = set("DOCKER_TLS_VERIFY")
            .and_then(|_| set("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| docker_config.clone()));
        Self {
            docker_config,
            buildx_config,
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            buildx_builder: text("BUILDX_BUILDER"),
            docker_certificates,
        }
    }

    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var_os(name))
    }
}
