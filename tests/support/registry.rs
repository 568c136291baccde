//! The registries the tests have for themselves.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;

/// A user name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Credentials {
    /// As HTTP's basic authentication and Docker's config file carry them: `user:password` in base64.
    pub fn to_base64(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", self.user, self.password))
    }
}

/// A handle on one of the registries. Needs [`crate::Capability::Registry`].
#[derive(Clone, Debug)]
pub struct Registry {
    address: String,
    credentials: Option<Credentials>,
    ca: Option<PathBuf>,
    name: &'static str,
}

impl Registry {
    /// Plain HTTP, anyone may do anything.
    pub fn anonymous() -> Self {
        Self { address: variable("CLAWBUILD_TEST_REGISTRY"), credentials: None, ca: None, name: "registry" }
    }

    /// TLS by a certificate authority of the tests' own, user and password for everything.
    pub fn basic() -> Self {
        Self {
            address: variable("CLAWBUILD_TEST_REGISTRY_BASIC"),
            credentials: Some(credentials()),
            ca: Some(variable("CLAWBUILD_TEST_REGISTRY_CA").into()),
            name: "registry-basic",
        }
    }

    /// Plain HTTP, tokens from a token server: anyone may pull `public/…`, the user may do anything.
    pub fn token() -> Self {
        Self {
            address: variable("CLAWBUILD_TEST_REGISTRY_TOKEN"),
            credentials: Some(credentials()),
            ca: None,
            name: "registry-token",
        }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Who may do everything, if not everybody.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The certificate authority that signed its certificate, if it speaks TLS.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// A directory with that authority as `ca.crt`, as skopeo and docker want it.
    pub fn certificates(&self) -> PathBuf {
        Path::new(&variable("CLAWBUILD_TEST_SERVICES")).join("certs")
    }

    /// Its log, with a line for each request.
    pub fn log(&self) -> PathBuf {
        Path::new(&variable("CLAWBUILD_TEST_SERVICES")).join(format!("{}.log", self.name))
    }

    /// A repository nobody else uses: `host:port/prefix/…`.
    pub fn repository(&self, prefix: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("{}/{prefix}/{}-{number}", self.address, std::process::id())
    }
}

fn credentials() -> Credentials {
    Credentials {
        user: variable("CLAWBUILD_TEST_REGISTRY_USER"),
        password: variable("CLAWBUILD_TEST_REGISTRY_PASSWORD"),
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: the test needs Capability::Registry"))
}
