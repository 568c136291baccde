//! The buildkitd the tests have for themselves, by the clients its users have.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::Output;

/// A handle on the tests' own daemon. Needs [`crate::Capability::BuildKit`].
#[derive(Clone, Debug)]
pub struct BuildKit {
    address: String,
}

impl BuildKit {
    /// The daemon `tests/run` started.
    ///
    /// # Panics
    /// When there is none: a test that did not declare its need.
    pub fn new() -> Self {
        Self { address: std::env::var("CLAWBUILD_TEST_BUILDKIT").expect("the test needs Capability::BuildKit") }
    }

    /// Its address, `unix://…`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A command of buildctl, run in this directory.
    pub fn buildctl<S: AsRef<OsStr>>(&self, directory: &Path, arguments: impl IntoIterator<Item = S>) -> Output {
        let mut command = Command::new(crate::tool("buildctl"));
        Output::of(command.current_dir(directory).args(["--addr", &self.address]).args(arguments))
    }

    /// A command of buildx, run in this directory, with the daemon as its only builder. Its settings go to
    /// `configuration`. Needs [`crate::Capability::Buildx`].
    ///
    /// # Panics
    /// When buildx does not take the daemon as a builder.
    pub fn buildx<S: AsRef<OsStr>>(
        &self,
        configuration: &Path,
        directory: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Output {
        let command = || {
            let mut command = Command::new(crate::tool("buildx"));
            command.current_dir(directory).env("BUILDX_CONFIG", configuration).env_remove("BUILDX_BUILDER");
            command.env("DOCKER_CONFIG", configuration);
            command
        };
        let known = configuration.join("instances/tests").is_file();
        if !known {
            let words = ["create", "--name", "tests", "--driver", "remote", "--use", &self.address];
            Output::of(command().args(words)).success();
        }
        Output::of(command().args(["--builder", "tests"]).args(arguments))
    }
}

impl Default for BuildKit {
    fn default() -> Self {
        Self::new()
    }
}
