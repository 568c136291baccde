//! Credentials for registries, from where docker and podman keep them.

mod file;
mod helper;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use oci::Repository;
use secrecy::SecretString;

use file::AuthFile;
pub use helper::HelperError;

/// Who asks.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A user and a password, or a token in its place.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A token that is exchanged for others.
    Identity(SecretString),
}

/// Credentials are there, but cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// A file is no credentials file.
    #[error("`{path}` is not a file of registry credentials")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Arc<serde_json::Error>,
    },
    /// A file's entry for a registry is not `base64(user:password)`.
    #[error("the entry for `{registry}` in `{path}` is not understood")]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        registry: String,
    },
    /// A credential helper failed.
    #[error(transparent)]
    Helper(#[from] HelperError),
}

/// Where credentials are looked for. Nothing is read before a registry asks for them.
#[derive(Clone, Debug, Default)]
pub struct Keychain(Vec<Source>);

#[derive(Clone, Debug)]
enum Source {
    /// One registry's, given.
    Given { registry: String, credential: Credential },
    /// A file as docker and podman write it.
    File(AuthFile),
}

/// What a search came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) credential: Option<Credential>,
    /// What went wrong in places searched before: told if the registry refuses.
    pub(super) problem: Option<CredentialError>,
}

impl Keychain {
    /// No credentials: every registry is asked anonymously.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// What the environment points at, first match first:
    ///
    /// 1. the file `REGISTRY_AUTH_FILE`,
    /// 2. docker's `config.json` in `DOCKER_CONFIG` or `~/.docker`, with its credential helpers,
    /// 3. podman's `auth.json` in `XDG_RUNTIME_DIR/containers` or `~/.config/containers`,
    /// 4. `GITHUB_TOKEN` for `ghcr.io`, as the user `GITHUB_ACTOR`.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| set(name).map(PathBuf::from);
        let home = path("HOME");
        let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        let config = path("XDG_CONFIG_HOME").or_else(|| below_home(".config"));

        let docker = path("DOCKER_CONFIG").or_else(|| below_home(".docker")).map(|path| path.join("config.json"));
        let files = [
            path("REGISTRY_AUTH_FILE"),
            docker,
            path("XDG_RUNTIME_DIR").map(|path| path.join("containers/auth.json")),
            config.map(|path| path.join("containers/auth.json")),
        ];
        let mut sources: Vec<Source> =
            files.into_iter().flatten().map(|path| Source::File(AuthFile::new(path, set("PATH")))).collect();
        if let Some(token) = set("GITHUB_TOKEN").and_then(|token| token.into_string().ok()) {
            let user = set("GITHUB_ACTOR").and_then(|user| user.into_string().ok());
            sources.push(Source::Given {
                registry: "ghcr.io".to_owned(),
                credential: Credential::Password {
                    user: user.unwrap_or_else(|| "x-access-token".to_owned()),
                    password: SecretString::from(token),
                },
            });
        }
        Self(sources)
    }

    /// These credentials for `registry`, before any others.
    #[must_use]
    pub fn with(mut self, registry: impl Into<String>, credential: Credential) -> Self {
        self.0.insert(0, Source::Given { registry: registry.into(), credential });
        self
    }

    /// The credentials for a registry as a whole, which is reached at this host and port, for a program that asks on
    /// its own; and what went wrong where they were looked for.
    pub async fn credential(&self, host: &str) -> (Option<Credential>, Option<CredentialError>) {
        let registry = if file::is_docker_hub(host) { "docker.io" } else { host };
        let Found { credential, problem } = self.search(registry, "").await;
        (credential, problem)
    }

    /// The credentials for a repository in `registry`, which is the repository's own unless a mirror stands in for it.
    pub(super) async fn find(&self, registry: &str, repository: &Repository) -> Found {
        self.search(registry, repository.path()).await
    }

    async fn search(&self, registry: &str, path: &str) -> Found {
        let mut found = Found::default();
        for source in &self.0 {
            let credential = match source {
                Source::Given { registry: given, credential } => Ok((given == registry).then(|| credential.clone())),
                Source::File(file) => file.find(registry, path).await,
            };
            match credential {
                Ok(None) => {}
                Ok(credential) => {
                    found.credential = credential;
                    break;
                }
                Err(error) => found.problem = found.problem.or(Some(error)),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn keychain(variables: &[(&str, &Path)]) -> Keychain {
        let variables: BTreeMap<_, _> = variables.iter().map(|(name, path)| (*name, path.as_os_str())).collect();
        Keychain::from_environment(|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    async fn found(keychain: &Keychain, repository: &str) -> Result<String, String> {
        let repository: Repository = repository.parse().expect("a repository");
        let found = keychain.find(repository.registry(), &repository).await;
        match (found.credential, found.problem) {
            (Some(Credential::Password { user, password }), _) => Ok(format!("{user}:{}", password.expose_secret())),
            (Some(Credential::Identity(token)), _) => Ok(format!("identity {}", token.expose_secret())),
            (None, Some(problem)) => Err(problem.to_string()),
            (None, None) => Ok("nobody".to_owned()),
        }
    }

    #[tokio::test]
    async fn docker_s_file_is_read_as_docker_reads_it() {
        let home = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(home.path().join(".docker")).expect("creates");
        // me:pa:ss, and padding
        let auths = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6cGE6c3M="},
            "ghcr.io": {"auth": "", "identitytoken": "idt"},
            "http://127.0.0.1:5000/v2/": {"username": "u", "password": "p"},
            "quay.io/team": {"auth": "dGVhbTp0"},
            "quay.io": {"auth": "YWxsOmE="},
            "empty.example": {},
            "bad.example": {"auth": "%%%"}
        }, "HttpHeaders": {"X": "y"}}"#;
        fs::write(home.path().join(".docker/config.json"), auths).expect("writes");
        let keychain = keychain(&[("HOME", home.path())]);
        for (repository, expected) in [
            ("debian", "me:pa:ss"),
            ("ghcr.io/a/b", "identity idt"),
            ("127.0.0.1:5000/x", "u:p"),
            ("quay.io/team/x", "team:t"),
            ("quay.io/teamster/x", "all:a"),
            ("empty.example/x", "nobody"),
            ("other.example/x", "nobody"),
        ] {
            assert_eq!(found(&keychain, repository).await.as_deref(), Ok(expected), "{repository}");
        }
        assert!(found(&keychain, "bad.example/x").await.is_err_and(|text| text.contains("bad.example")));
    }

    #[tokio::test]
    async fn helpers_are_asked_by_docker_s_protocol() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let program = |name: &str, script: &str| {
            let path = home.path().join(format!("docker-credential-{name}"));
            fs::write(&path, format!("#!/bin/sh\nread server\n{script}\n")).expect("writes");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("sets");
        };
        program(
            "one",
            r#"test "$1" = get && printf '{"ServerURL":"%s","Username":"u","Secret":"s of %s"}' "$server" "$server""#,
        );
        program("token", r#"echo '{"Username":"<token>","Secret":"idt"}'"#);
        program("none", "echo 'credentials not found in native keychain'; exit 1");
        program("broken", "echo 'keychain is locked' >&2; exit 3");
        let config = r#"{"credsStore": "none", "credHelpers": {"docker.io": "one", "ghcr.io": "token",
            "broken.example": "broken", "gone.example": "gone", "evil.example": "../evil"},
            "auths": {"plain.example": {"auth": "dTpw"}}}"#;
        fs::write(home.path().join("config.json"), config).expect("writes");
        let keychain = keychain(&[("DOCKER_CONFIG", home.path()), ("PATH", Path::new(&search_path(home.path())))]);
        for (repository, expected) in [
            ("debian", "u:s of https://index.docker.io/v1/"),
            ("ghcr.io/a/b", "identity idt"),
            ("plain.example/x", "u:p"),
            ("other.example/x", "nobody"),
        ] {
            assert_eq!(found(&keychain, repository).await.as_deref(), Ok(expected), "{repository}");
        }
        for (repository, reason) in [
            ("broken.example/x", "keychain is locked"),
            ("gone.example/x", "docker-credential-gone"),
            ("evil.example/x", "../evil"),
        ] {
            let problem = found(&keychain, repository).await.expect_err(repository);
            assert!(problem.contains(reason), "{problem}");
        }
    }

    fn search_path(first: &Path) -> OsString {
        let mut path = first.as_os_str().to_owned();
        path.push(":/usr/bin:/bin");
        path
    }

    #[tokio::test]
    async fn github_s_token_is_for_ghcr_and_comes_last() {
        let github = keychain(&[("GITHUB_TOKEN", Path::new("tok"))]);
        assert_eq!(found(&github, "ghcr.io/a/b").await.as_deref(), Ok("x-access-token:tok"));
        assert_eq!(found(&github, "docker.io/a/b").await.as_deref(), Ok("nobody"));
        assert!(!format!("{github:?}").contains("tok\""), "no secret is shown");

        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), r#"{"auths":{"ghcr.io":{"auth":"dTpw"}}}"#).expect("writes");
        let both = keychain(&[
            ("GITHUB_TOKEN", Path::new("tok")),
            ("GITHUB_ACTOR", Path::new("me")),
            ("REGISTRY_AUTH_FILE", file.path()),
        ]);
        assert_eq!(found(&both, "ghcr.io/a/b").await.as_deref(), Ok("u:p"));
        let given = Credential::Password { user: "x".to_owned(), password: SecretString::from("y") };
        assert_eq!(found(&both.with("ghcr.io", given), "ghcr.io/a/b").await.as_deref(), Ok("x:y"));

        fs::write(file.path(), "{").expect("writes");
        let torn = keychain(&[("REGISTRY_AUTH_FILE", file.path())]);
        assert!(found(&torn, "ghcr.io/a/b").await.is_err());
    }
}
