//! Credential helpers: `docker-credential-NAME get`. Spec: docker-credential-helpers' README, "Development".

use std::ffi::OsStr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::Credential;

/// A credential helper failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HelperError {
    /// Its name is no part of a file name.
    #[error("`{0}` is not the name of a credential helper")]
    Name(String),
    /// It cannot be run.
    #[error("cannot run the credential helper `docker-credential-{name}`")]
    Run {
        /// Its name.
        name: String,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// It says that it failed.
    #[error("the credential helper `docker-credential-{name}` failed: {message}")]
    Failed {
        /// Its name.
        name: String,
        /// Its own words.
        message: String,
    },
    /// It does not end.
    #[error("the credential helper `docker-credential-{name}` did not answer within {} s", PATIENCE.as_secs())]
    Silent {
        /// Its name.
        name: String,
    },
    /// What it says is not understood.
    #[error("the credential helper `docker-credential-{name}` gave an answer that is not understood")]
    Answer {
        /// Its name.
        name: String,
    },
}

/// A helper may have to ask the user for a password.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: SecretString,
}

/// The credentials the helper has for `server`.
pub(super) async fn get(
    name: &str,
    server: &str,
    search_path: Option<&OsStr>,
) -> Result<Option<Credential>, HelperError> {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(HelperError::Name(name.to_owned()));
    }
    let output = match tokio::time::timeout(PATIENCE, run(name, server, search_path)).await {
        Ok(output) => output.map_err(|source| HelperError::Run { name: name.to_owned(), source: Arc::new(source) })?,
        Err(_) => return Err(HelperError::Silent { name: name.to_owned() }),
    };
    if !output.status.success() {
        // The protocol puts its messages on stdout, but not every helper does.
        let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        if said[0].contains("credentials not found") {
            return Ok(None);
        }
        let message = said.into_iter().find(|text| !text.is_empty()).unwrap_or_else(|| output.status.to_string());
        return Err(HelperError::Failed { name: name.to_owned(), message });
    }
    // The answer itself is not kept in the error: it holds the secret.
    let Answer { username, secret } =
        serde_json::from_slice(&output.stdout).map_err(|_| HelperError::Answer { name: name.to_owned() })?;
    Ok(Some(match username.as_str() {
        "<token>" => Credential::Identity(secret),
        _ => Credential::Password { user: username, password: secret },
    }))
}

async fn run(name: &str, server: &str, search_path: Option<&OsStr>) -> std::io::Result<std::process::Output> {
    let mut command = Command::new(format!("docker-credential-{name}"));
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    if let Some(search_path) = search_path {
        command.env("PATH", search_path);
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may answer without reading all of its input.
        let _ = stdin.write_all(format!("{server}\n").as_bytes()).await;
    }
    child.wait_with_output().await
}
