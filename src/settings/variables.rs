//! The environment variables clawbuild reads, and the only place that reads them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use diag::{Diagnostic, codes};

use crate::cli::Failure;

/// The environment, read once at the start. Values that may be secret are not kept here.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// `CLAWBUILD_STORE`: as `--store`.
    pub store: Option<PathBuf>,
    /// `CLAWBUILD_ENGINE`: as `--engine`.
    pub engine: Option<String>,
    /// `BUILDKIT_HOST`: as `--builder`.
    pub buildkit_host: Option<String>,
    /// `CLAWBUILD_OFFLINE`: as `--offline`, unless empty or `0`.
    pub offline: bool,
    /// `CLAWBUILD_MIRRORS`: `PREFIX=REPLACEMENT` pairs separated by spaces.
    mirrors: Option<String>,
    /// `SOURCE_DATE_EPOCH`: the bound of all times in images, seconds since 1970.
    pub source_date_epoch: Option<String>,
    /// `GITHUB_REPOSITORY_OWNER`: whose packages are pushed from GitHub Actions.
    pub github_owner: Option<String>,
    /// `SSH_AUTH_SOCK`: the socket of the user's SSH agent.
    pub ssh_agent: Option<PathBuf>,
    /// `SSL_CERT_FILE`: the certificates this machine trusts.
    pub certificates: Option<PathBuf>,
    /// `PATH`: where this machine's programs are.
    pub path: Option<String>,
    home: Option<PathBuf>,
    xdg_cache: Option<PathBuf>,
    xdg_config: Option<PathBuf>,
}

impl Variables {
    /// Reads the environment of this process.
    #[must_use]
    pub fn from_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            store: path("CLAWBUILD_STORE"),
            engine: text("CLAWBUILD_ENGINE"),
            buildkit_host: text("BUILDKIT_HOST"),
            offline: text("CLAWBUILD_OFFLINE").is_some_and(|value| value != "0"),
            mirrors: text("CLAWBUILD_MIRRORS"),
            source_date_epoch: text("SOURCE_DATE_EPOCH"),
            github_owner: text("GITHUB_REPOSITORY_OWNER"),
            ssh_agent: path("SSH_AUTH_SOCK"),
            certificates: path("SSL_CERT_FILE"),
            path: text("PATH"),
            home: path("HOME"),
            // The specification tells to ignore relative ones.
            xdg_cache: path("XDG_CACHE_HOME").filter(|path| path.is_absolute()),
            xdg_config: path("XDG_CONFIG_HOME").filter(|path| path.is_absolute()),
        }
    }

    /// Spec: XDG Base Directory Specification.
    pub(super) fn cache_home(&self) -> Option<PathBuf> {
        self.xdg_cache.clone().or_else(|| Some(self.home.as_ref()?.join(".cache")))
    }

    pub(super) fn config_home(&self) -> Option<PathBuf> {
        self.xdg_config.clone().or_else(|| Some(self.home.as_ref()?.join(".config")))
    }

    pub(super) fn mirrors(&self) -> Result<BTreeMap<String, String>, Failure> {
        let pairs = self.mirrors.as_deref().unwrap_or_default().split_whitespace();
        pairs
            .map(|pair| {
                let (prefix, replacement) = pair.split_once('=').ok_or_else(|| {
                    Diagnostic::new(
                        codes::cli::SETTINGS,
                        format!("`{pair}` in CLAWBUILD_MIRRORS is not PREFIX=REPLACEMENT"),
                    )
                })?;
                Ok((prefix.to_owned(), replacement.to_owned()))
            })
            .collect()
    }
}
