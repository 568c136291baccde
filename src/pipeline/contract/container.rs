//! What the boot contract needs of whatever runs containers.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use engine::embedded::sandbox::Process;
use oci::ContainerConfig;

use crate::cli::Failure;

/// Whom a container runs as: uid and gid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What a container is given beyond what its image says.
#[derive(Clone, Debug)]
pub(super) struct Boot {
    /// Arguments instead of the image's own.
    pub(super) args: Option<Vec<String>>,
    pub(super) user: Ids,
    pub(super) env: BTreeMap<String, String>,
    /// Files in `/run/secrets`.
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) read_only_root: bool,
    /// Whether volumes can be written to by group 0, as OpenShift and Kubernetes' `fsGroup` have it, rather than belong
    /// to whom the image says.
    pub(super) shared_volumes: bool,
    /// Whether temporary directories are volumes, so that they can be read when the container has ended.
    pub(super) keep_temporary: bool,
}

/// An image, ready for containers.
#[async_trait]
pub(super) trait Runner: Send + Sync {
    /// What runs the containers, for people.
    fn name(&self) -> String;

    /// Whether a container started as root may become another user: it takes capabilities, and that there are others.
    fn lets_root_change(&self) -> bool;

    /// Starts a container and returns when its program runs.
    async fn start(&self, boot: &Boot) -> Result<Box<dyn Container>, Failure>;
}

/// A container. Dropped, it is killed and removed.
#[async_trait]
pub(super) trait Container: Send + Sync {
    /// Runs a command in it, as its user. Gives the exit status, or why it could not be run.
    async fn exec(&self, args: &[String]) -> Result<i32, String>;

    /// Sends bytes to a port at an address of the container that is not loopback's, and reads the answer.
    async fn ask(&self, port: u16, request: Vec<u8>, patience: Duration) -> io::Result<Vec<u8>>;

    /// Its first process, where this machine can look at it.
    fn process(&self) -> Option<Process>;

    /// Reads a file of it, running or ended. `None` if there is none.
    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Failure>;

    /// What it wrote to its standard streams.
    async fn log(&self) -> Result<Vec<u8>, Failure>;

    /// What anybody who may ask is told about it: environment, arguments and labels.
    async fn description(&self) -> Result<String, Failure>;

    /// Asks it to stop, with the image's signal.
    async fn stop(&self) -> Result<(), Failure>;

    /// Waits for its end, at most so long. Gives the exit status; `None` while it runs.
    async fn ended(&self, patience: Duration) -> Result<Option<i32>, Failure>;

    /// What it changed of its root filesystem, when it has ended.
    async fn changes(self: Box<Self>) -> Result<Vec<PathBuf>, Failure>;
}

/// The whole command of a container.
pub(super) fn command(image: &ContainerConfig, boot: &Boot) -> Vec<String> {
    let args = boot.args.as_ref().unwrap_or(&image.cmd);
    image.entrypoint.iter().chain(args).cloned().collect()
}

/// The whole environment of a container.
pub(super) fn environment(image: &ContainerConfig, boot: &Boot) -> BTreeMap<String, String> {
    let own = image.env.iter().filter_map(|variable| variable.split_once('='));
    let mut variables: BTreeMap<String, String> =
        own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    variables.extend(boot.env.clone());
    variables
}
