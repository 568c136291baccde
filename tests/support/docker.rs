//! The Docker daemon the tests have for themselves.

use std::ffi::OsStr;
use std::process::Command;

use crate::Output;

/// A handle on the tests' own daemon. Needs [`crate::Capability::Docker`].
#[derive(Clone, Debug)]
pub struct Docker {
    host: String,
}

impl Docker {
    /// The daemon `tests/run` started.
    ///
    /// # Panics
    /// When there is none: a test that did not declare its need.
    pub fn new() -> Self {
        Self { host: std::env::var("CLAWBUILD_TEST_DOCKER_HOST").expect("the test needs Capability::Docker") }
    }

    /// Its address, `unix://…`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A command of its client.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        let mut command = Command::new(crate::tool("docker"));
        Output::of(command.env("DOCKER_BUILDKIT", "1").args(["--host", &self.host]).args(arguments))
    }

    /// A command of its client that must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.command(arguments).success()
    }
}

impl Default for Docker {
    fn default() -> Self {
        Self::new()
    }
}
