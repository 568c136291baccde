//! Credential files: docker's `config.json` and podman's `auth.json`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use serde::Deserialize;

use super::{Credential, CredentialError, helper};

/// A file that may be there.
#[derive(Clone, Debug)]
pub(super) struct AuthFile {
    path: PathBuf,
    /// Where credential helpers are looked for.
    search_path: Option<OsString>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

/// Not `Debug`: it holds secrets.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<SecretString>,
    identitytoken: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry")
    }
}

impl AuthFile {
    pub(super) fn new(path: PathBuf, search_path: Option<OsString>) -> Self {
        Self { path, search_path }
    }

    /// The credentials for the repository `path` in `registry`. A helper named for the registry comes first, then the
    /// file's general helper, then what the file itself holds.
    pub(super) async fn find(&self, registry: &str, path: &str) -> Result<Option<Credential>, CredentialError> {
        let bytes = match tokio::fs::read(&self.path).await {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            result => {
                result.map_err(|source| CredentialError::Read { path: self.path.clone(), source: source.into() })?
            }
        };
        let document: Document = serde_json::from_slice(&bytes)
            .map_err(|source| CredentialError::Malformed { path: self.path.clone(), source: Arc::new(source) })?;

        let named = document.cred_helpers.iter().find(|(key, _)| is_for(key, registry, path).is_some());
        let helpers = named.map(|(_, helper)| helper).into_iter().chain(&document.creds_store);
        for name in helpers.filter(|name| !name.is_empty()) {
            if let Some(credential) = helper::get(name, server_url(registry), self.search_path.as_deref()).await? {
                return Ok(Some(credential));
            }
        }
        let entry = document
            .auths
            .into_iter()
            .filter_map(|(key, entry)| Some((is_for(&key, registry, path)?, key, entry)))
            .max_by_key(|(specific, ..)| *specific);
        entry.map_or(Ok(None), |(_, key, entry)| {
            entry.credential().map_err(|()| CredentialError::Entry { path: self.path.clone(), registry: key })
        })
    }
}

impl Entry {
    fn credential(self) -> Result<Option<Credential>, ()> {
        use secrecy::ExposeSecret as _;
        let given = |secret: &Option<SecretString>| secret.as_ref().is_some_and(|s| !s.expose_secret().is_empty());
        if given(&self.identitytoken) {
            return Ok(self.identitytoken.map(Credential::Identity));
        }
        if let (Some(user), Some(password)) = (self.username, self.password) {
            return Ok(Some(Credential::Password { user, password }));
        }
        // Docker leaves an empty entry where a helper has the password.
        let Some(auth) = self.auth.filter(|auth| !auth.expose_secret().is_empty()) else { return Ok(None) };
        let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
        let text = engine.decode(auth.expose_secret()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(())?;
        let (user, password) = text.split_once(':').ok_or(())?;
        let password = SecretString::from(password.trim_end_matches('\0'));
        Ok(Some(Credential::Password { user: user.to_owned(), password }))
    }
}

/// What docker's helpers know Docker Hub by.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

fn server_url(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB } else { registry }
}

/// Whether this is one of the hosts that Docker Hub is.
pub(super) fn is_docker_hub(host: &str) -> bool {
    matches!(host, "index.docker.io" | "registry-1.docker.io" | "docker.io")
}

/// Whether a file's key is for this repository, and how specifically: the length of the path it names.
///
/// Keys are hosts, URLs as old dockers wrote them, or, in podman's files, hosts with the beginning of a path.
fn is_for(key: &str, registry: &str, path: &str) -> Option<usize> {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (host, below) = bare.split_once('/').unwrap_or((bare, ""));
    let host = if is_docker_hub(host) { "docker.io" } else { host };
    let below = if matches!(below, "v1" | "v2") { "" } else { below };
    let rest = path.strip_prefix(below)?;
    let whole = below.is_empty() || rest.is_empty() || rest.starts_with('/');
    (host == registry && whole).then_some(below.len())
}
