//! Containers in the embedded engine's sandbox.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diag::{Diagnostic, codes};
use engine::embedded::Embedded;
use engine::embedded::container::{self, Copy, Unpacked};
use engine::embedded::sandbox::{Emulator, Mount, MountSource, Network, Process, Secret, Spec, Variable};
use engine::{Layout, Output, SolveRequest};
use oci::{ContainerConfig, Platform};
use rustix::process::Signal;

use super::container::{Boot, Container, Runner, command, environment};
use super::execution::Execution;
use crate::cli::Failure;
use crate::pipeline::Session;
use crate::pipeline::solve::STORE_NAME;

/// Where containers find secrets, as Docker and Kubernetes users mount them.
const SECRETS: &str = "/run/secrets";

/// An image unpacked by the embedded engine.
pub(super) struct EmbeddedRunner {
    unpacked: Unpacked,
    image: ContainerConfig,
    tmpfs: Vec<String>,
    stop_signal: Signal,
    emulator: Option<Emulator>,
}

impl EmbeddedRunner {
    /// Unpacks the image's layers; what was unpacked before is used again.
    pub(super) async fn new(
        session: &Session,
        engine: &Embedded,
        manifest: oci::Digest,
        platform: Platform,
        image: ContainerConfig,
        tmpfs: Vec<String>,
    ) -> Result<Self, Failure> {
        let stop_signal = signal(&image.stop_signal)?;
        let graph = llb::Graph::new(platform);
        let source = graph.oci_layout("image", manifest, Some(STORE_NAME)).with_name("the finished image");
        let definition = graph.definition(&source).expect("a graph of one source is sound");
        let request = SolveRequest {
            definition: Arc::new(definition),
            platform,
            contexts: BTreeMap::new(),
            layouts: BTreeMap::from([(STORE_NAME.to_owned(), Layout::Store(session.store().clone()))]),
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            output: Output::Tree,
            no_cache: false,
            source_date_epoch: None,
        };
        let unpacked = engine.unpacked(request, session.progress().clone(), session.cancel().clone()).await?;
        Ok(Self { unpacked, image, tmpfs, stop_signal, emulator: None })
    }

    /// Runs the containers this way.
    pub(super) fn running(self, execution: &Execution) -> Self {
        Self { emulator: execution.emulator().cloned(), ..self }
    }

    /// The mounts of a container: volumes and, where they are kept, temporary directories lie in a tree of their own,
    /// which holds what the image has there, as Docker fills new volumes.
    fn mounts(&self, boot: &Boot) -> Result<(Vec<Mount>, Option<Kept>), Failure> {
        let mut kept: Vec<&str> = self.image.volumes.iter().map(String::as_str).collect();
        let mut mounts = Vec::new();
        if boot.keep_temporary {
            kept.extend(self.tmpfs.iter().map(String::as_str));
        } else {
            let mount = |target: &String| Mount { target: target.clone(), source: MountSource::Tmpfs { size: None } };
            mounts.extend(self.tmpfs.iter().map(mount));
        }
        let tree = if kept.is_empty() { None } else { Some(self.unpacked.copy().map_err(unready)?) };
        if let Some(tree) = &tree {
            for path in &kept {
                let temporary = self.tmpfs.iter().any(|tmpfs| tmpfs == path);
                let place = tree.path().join(path.trim_start_matches('/'));
                self.prepare(&place, temporary, boot).map_err(|error| volume(path, &error))?;
                let source = MountSource::Bind { path: tree.path(), selector: (*path).to_owned(), read_only: false };
                mounts.push(Mount { target: (*path).to_owned(), source });
            }
        }
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
        mounts.extend(boot.secrets.iter().map(|(name, value)| Mount {
            target: format!("{SECRETS}/{name}"),
            // As orchestrators mount them.
            source: MountSource::Secret { content: Secret(value.clone().into_bytes()), mode: 0o444, uid: 0, gid: 0 },
        }));
        let paths = kept.into_iter().map(str::to_owned).collect();
        Ok((mounts, tree.map(|tree| Kept { tree, paths })))
    }

    fn prepare(&self, place: &Path, temporary: bool, boot: &Boot) -> io::Result<()> {
        std::fs::create_dir_all(place)?;
        if temporary {
            std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o1777))?;
        } else if boot.shared_volumes && !self.unpacked.has_one_owner() {
            share(place)?;
        }
        Ok(())
    }
}

/// Lets group 0 write to what is at a path and below.
fn share(path: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return std::os::unix::fs::lchown(path, None, Some(0));
    }
    chown(path, Some(0), Some(0))?;
    let mode = metadata.permissions().mode();
    let owners = (mode >> 6) & 0o7;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | owners << 3))?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            share(&entry?.path())?;
        }
    }
    Ok(())
}

#[async_trait]
impl Runner for EmbeddedRunner {
    fn name(&self) -> String {
        match self.emulator {
            None => "embedded sandbox".to_owned(),
            Some(_) => "embedded sandbox, emulated".to_owned(),
        }
    }

    fn lets_root_change(&self) -> bool {
        !self.unpacked.has_one_owner()
    }

    async fn start(&self, boot: &Boot) -> Result<Box<dyn Container>, Failure> {
        let root = self.unpacked.copy().map_err(unready)?;
        let (mounts, kept) = self.mounts(boot)?;
        let mut spec = Spec::new(root.path(), command(&self.image, boot));
        spec.read_only_root = boot.read_only_root;
        spec.mounts = mounts;
        spec.env = environment(&self.image, boot).iter().map(|(name, value)| Variable::new(name, value)).collect();
        spec.cwd = if self.image.working_dir.is_empty() { "/".to_owned() } else { self.image.working_dir.clone() };
        spec.user = format!("{}:{}", boot.user.uid, boot.user.gid);
        spec.emulator.clone_from(&self.emulator);
        spec.hostname = "contract".to_owned();
        spec.network = Network::Private(container::ADDRESS);
        let unpacked = self.unpacked.clone();
        let running = blocking(move || unpacked.start(spec)).await?;
        Ok(Box::new(Sandboxed { running: Arc::new(running), root, kept, stop_signal: self.stop_signal }))
    }
}

/// What is mounted from a tree of its own.
struct Kept {
    tree: Copy,
    paths: Vec<String>,
}

struct Sandboxed {
    // Dropped in this order: the container uses the trees.
    running: Arc<container::Container>,
    root: Copy,
    kept: Option<Kept>,
    stop_signal: Signal,
}

#[async_trait]
impl Container for Sandboxed {
    async fn exec(&self, args: &[String]) -> Result<i32, String> {
        let (running, args) = (Arc::clone(&self.running), args.to_vec());
        match blocking(move || running.exec(&args)).await {
            Ok(ran) => Ok(ran.status.code),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn ask(&self, port: u16, request: Vec<u8>, patience: Duration) -> io::Result<Vec<u8>> {
        let running = Arc::clone(&self.running);
        blocking(move || running.ask(port, &request, patience)).await
    }

    fn process(&self) -> Option<Process> {
        Some(self.running.process())
    }

    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let kept = self.kept.iter().flat_map(|kept| kept.paths.iter().map(|volume| (&kept.tree, volume)));
        let within = |volume: &str| path.strip_prefix(volume).is_some_and(|rest| rest.starts_with('/'));
        let tree = kept.filter(|(_, volume)| within(volume)).map(|(tree, _)| tree.path()).next();
        let running = || PathBuf::from(format!("/proc/{}/root", self.running.process().0));
        let file = tree.unwrap_or_else(running).join(path.trim_start_matches('/'));
        match std::fs::read(&file) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(volume(path, &error)),
        }
    }

    async fn log(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.running.log())
    }

    async fn description(&self) -> Result<String, Failure> {
        // Nobody outside of this process can ask.
        Ok(String::new())
    }

    async fn stop(&self) -> Result<(), Failure> {
        match self.running.signal(self.stop_signal) {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(()),
            Err(error) => Err(Diagnostic::new(codes::contract::RUN, "the container cannot be told to stop")
                .caused_by(&error)
                .into()),
        }
    }

    async fn ended(&self, patience: Duration) -> Result<Option<i32>, Failure> {
        let running = Arc::clone(&self.running);
        Ok(blocking(move || running.ended(patience)).await?.map(|status| status.code))
    }

    async fn changes(self: Box<Self>) -> Result<Vec<PathBuf>, Failure> {
        let Self { running, root, kept, .. } = *self;
        drop(running);
        drop(kept);
        blocking(move || root.changes()).await.map_err(unready)
    }
}

/// Work that only waits.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("containers do not panic")
}

fn unready(error: engine::VertexError) -> Failure {
    let mut diagnostic = diag::Reported::diagnostic(&error);
    diagnostic.causes.insert(0, "while a container's files were made ready".to_owned());
    diagnostic.into()
}

fn volume(path: &str, error: &io::Error) -> Failure {
    Diagnostic::new(codes::contract::RUN, format!("`{path}` of a container cannot be used")).caused_by(error).into()
}

/// The signal a container is stopped with; SIGTERM where the image names none.
fn signal(name: &str) -> Result<Signal, Failure> {
    Ok(match name.trim_start_matches("SIG") {
        "" | "TERM" | "15" => Signal::TERM,
        "INT" | "2" => Signal::INT,
        "QUIT" | "3" => Signal::QUIT,
        "HUP" | "1" => Signal::HUP,
        "USR1" | "10" => Signal::USR1,
        "USR2" | "12" => Signal::USR2,
        "WINCH" | "28" => Signal::WINCH,
        "KILL" | "9" => Signal::KILL,
        _ => {
            let message = format!("the image's stop signal `{name}` is none that a program waits for");
            return Err(Diagnostic::new(codes::contract::RUN, message)
                .help("write `stop_signal = \"SIGTERM\"` in `[image]`, or leave it out")
                .into());
        }
    })
}
