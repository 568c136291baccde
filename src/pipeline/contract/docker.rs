//! Containers in Docker.

use std::collections::HashMap;
use std::fs::Permissions;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::Docker;
use bollard::exec::StartExecOptions;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ExecConfig, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, DownloadFromContainerOptions, InspectContainerOptions, InspectNetworkOptions,
    KillContainerOptions, LogsOptions, RemoveContainerOptions, StartContainerOptions,
};
use buildkit::builders::Environment;
use diag::{Diagnostic, codes};
use engine::embedded::container::{self, Process};
use futures::TryStreamExt as _;
use oci::ContainerConfig;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::container::{Boot, Container, Runner, environment};
use crate::cli::Failure;

/// How often Docker is asked whether something has ended.
const PAUSE: Duration = Duration::from_millis(50);
/// What of an answer over the network is read.
const LONGEST_ANSWER: u64 = 64 << 10;
/// Where containers find secrets.
const SECRETS: &str = "/run/secrets";
/// What Docker itself writes into containers.
const DOCKERS_OWN: [&str; 7] =
    ["/.dockerenv", "/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/run/secrets"];

/// An image that Docker has.
pub(super) struct DockerRunner {
    docker: Docker,
    /// What Docker knows the image by.
    name: String,
    image: ContainerConfig,
    tmpfs: Vec<String>,
    /// Where secrets and shared volumes lie while containers run.
    scratch: PathBuf,
    has_bridge: bool,
}

impl DockerRunner {
    /// `scratch` is a directory the daemon sees under the same path.
    pub(super) async fn new(
        name: String,
        image: ContainerConfig,
        tmpfs: Vec<String>,
        scratch: PathBuf,
    ) -> Result<Self, Failure> {
        let docker = Environment::of_process().docker()?.endpoint.client();
        let has_bridge = docker.inspect_network("bridge", None::<InspectNetworkOptions>).await.is_ok();
        Ok(Self { docker, name, image, tmpfs, scratch, has_bridge })
    }

    fn options(&self, boot: &Boot, given: Option<&TempDir>) -> ContainerCreateBody {
        let mut tmpfs = HashMap::new();
        let mut volumes = self.image.volumes.iter().cloned().collect::<Vec<_>>();
        if boot.keep_temporary {
            volumes.extend(self.tmpfs.iter().cloned());
        } else {
            tmpfs.extend(self.tmpfs.iter().map(|path| (path.clone(), "mode=1777".to_owned())));
        }
        // Docker gives volumes to whom the image says; these belong to everybody.
        let shared = if boot.shared_volumes { std::mem::take(&mut volumes) } else { Vec::new() };
        let place = |name: &str| given.map(|given| given.path().join(name).display().to_string()).unwrap_or_default();
        let secrets = boot.secrets.keys().map(|name| format!("{}:{SECRETS}/{name}:ro", place(name)));
        let shared = shared.iter().enumerate().map(|(number, path)| format!("{}:{path}", place(&volume(number))));
        let binds = secrets.chain(shared).collect();
        ContainerCreateBody {
            image: Some(self.name.clone()),
            user: Some(format!("{}:{}", boot.user.uid, boot.user.gid)),
            env: Some(environment(&self.image, boot).iter().map(|(name, value)| format!("{name}={value}")).collect()),
            cmd: boot.args.clone(),
            volumes: Some(volumes),
            host_config: Some(HostConfig {
                readonly_rootfs: Some(boot.read_only_root),
                tmpfs: Some(tmpfs),
                binds: Some(binds),
                cap_drop: Some(vec!["ALL".to_owned()]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                network_mode: Some(if self.has_bridge { "bridge" } else { "none" }.to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// A directory of this machine with what a container is given of it: secrets, and volumes that are shared.
    fn given(&self, boot: &Boot) -> io::Result<Option<TempDir>> {
        let shared = if boot.shared_volumes { self.image.volumes.len() } else { 0 };
        if boot.secrets.is_empty() && shared == 0 {
            return Ok(None);
        }
        std::fs::create_dir_all(&self.scratch)?;
        let directory = tempfile::tempdir_in(&self.scratch)?;
        for (name, value) in &boot.secrets {
            let path = directory.path().join(name);
            std::fs::write(&path, value)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o444))?;
        }
        for number in 0..shared {
            let path = directory.path().join(volume(number));
            std::fs::create_dir(&path)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o777))?;
        }
        Ok(Some(directory))
    }
}

/// What a shared volume's directory is called; no variable is called like that.
fn volume(number: usize) -> String {
    format!("volume-{number}")
}

#[async_trait]
impl Runner for DockerRunner {
    fn name(&self) -> String {
        "Docker".to_owned()
    }

    fn lets_root_change(&self) -> bool {
        // Containers here get no capability at all.
        false
    }

    async fn start(&self, boot: &Boot) -> Result<Box<dyn Container>, Failure> {
        let given = self.given(boot).map_err(|error| {
            Diagnostic::new(codes::contract::RUN, "a container's secrets and volumes cannot be written")
                .caused_by(&error)
        })?;
        let options = self.options(boot, given.as_ref());
        let created = self.docker.create_container(None::<CreateContainerOptions>, options).await.map_err(refused)?;
        let mut running = Dockered {
            docker: self.docker.clone(),
            id: created.id,
            process: None,
            address: None,
            stop_signal: self.image.stop_signal.clone(),
            _given: given,
        };
        self.docker.start_container(&running.id, None::<StartContainerOptions>).await.map_err(refused)?;
        let state = running.inspect().await?;
        // The daemon may be elsewhere: then its numbers mean nothing here.
        let number = state.state.as_ref().and_then(|state| i32::try_from(state.pid?).ok()).filter(|pid| *pid > 0);
        let process = number.map(Process).filter(|process| belongs_to(*process, &running.id));
        running.process = process;
        running.address = match (self.has_bridge, process) {
            (true, _) => address(&state).map(Place::Bridge),
            (false, Some(process)) => container::give_address(process).is_ok().then_some(Place::Inside(process)),
            (false, None) => None,
        };
        Ok(Box::new(running))
    }
}

/// Whether a process of this machine is that container's.
fn belongs_to(process: Process, id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/mountinfo", process.0)).is_ok_and(|mounts| mounts.contains(id))
        && container::process_namespace(process).is_ok()
}

fn address(container: &ContainerInspectResponse) -> Option<IpAddr> {
    let networks = container.network_settings.as_ref()?.networks.as_ref()?;
    networks.values().find_map(|network| network.ip_address.as_ref()?.parse().ok())
}

/// Where a container is reached.
enum Place {
    /// Over Docker's bridge.
    Bridge(IpAddr),
    /// In its own network, where Docker has no bridge.
    Inside(Process),
}

struct Dockered {
    docker: Docker,
    id: String,
    process: Option<Process>,
    address: Option<Place>,
    stop_signal: String,
    // What it sees of this machine, removed with it.
    _given: Option<TempDir>,
}

impl Dockered {
    async fn inspect(&self) -> Result<ContainerInspectResponse, Failure> {
        self.docker.inspect_container(&self.id, None::<InspectContainerOptions>).await.map_err(refused)
    }
}

#[async_trait]
impl Container for Dockered {
    async fn exec(&self, args: &[String]) -> Result<i32, String> {
        let text = |error: bollard::errors::Error| error.to_string();
        let config = ExecConfig { cmd: Some(args.to_vec()), ..ExecConfig::default() };
        let exec = self.docker.create_exec(&self.id, config).await.map_err(text)?.id;
        let options = StartExecOptions { detach: true, ..StartExecOptions::default() };
        self.docker.start_exec(&exec, Some(options)).await.map_err(text)?;
        loop {
            let state = self.docker.inspect_exec(&exec).await.map_err(text)?;
            match state.exit_code {
                Some(code) if state.running == Some(false) => return i32::try_from(code).map_err(|e| e.to_string()),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn ask(&self, port: u16, request: Vec<u8>, patience: Duration) -> io::Result<Vec<u8>> {
        match self.address {
            Some(Place::Bridge(address)) => {
                let asked = over_bridge(SocketAddr::new(address, port), request);
                tokio::time::timeout(patience, asked).await.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?
            }
            Some(Place::Inside(process)) => {
                let address = SocketAddr::from((container::ADDRESS, port));
                let asked = move || container::ask_in_network(process, address, &request, patience);
                tokio::task::spawn_blocking(asked).await.map_err(io::Error::other)?
            }
            None => Err(io::Error::other("Docker gives the container no address, and it runs on another machine")),
        }
    }

    fn process(&self) -> Option<Process> {
        self.process
    }

    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let archive: Result<Vec<_>, _> =
            self.docker.download_from_container(&self.id, Some(options)).try_collect().await;
        let archive = match archive {
            Ok(pieces) => pieces.concat(),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
            Err(error) => return Err(refused(error)),
        };
        let mut content = Vec::new();
        let read = || -> io::Result<Option<usize>> {
            let mut archive = tar::Archive::new(archive.as_slice());
            let file = archive.entries()?.next().transpose()?;
            file.map(|mut file| io::Read::read_to_end(&mut file, &mut content)).transpose()
        };
        let found = { read }().map_err(|error| {
            Diagnostic::new(codes::contract::RUN, format!("`{path}` of a container cannot be read")).caused_by(&error)
        })?;
        Ok(found.map(|_| content))
    }

    async fn log(&self) -> Result<Vec<u8>, Failure> {
        let options = LogsOptions { stdout: true, stderr: true, tail: "all".to_owned(), ..LogsOptions::default() };
        let pieces: Vec<_> = self.docker.logs(&self.id, Some(options)).try_collect().await.map_err(refused)?;
        Ok(pieces.into_iter().flat_map(|piece| piece.into_bytes()).collect())
    }

    async fn description(&self) -> Result<String, Failure> {
        Ok(serde_json::to_string(&self.inspect().await?).expect("what was JSON becomes JSON"))
    }

    async fn stop(&self) -> Result<(), Failure> {
        let signal = if self.stop_signal.is_empty() { "SIGTERM".to_owned() } else { self.stop_signal.clone() };
        match self.docker.kill_container(&self.id, Some(KillContainerOptions { signal })).await {
            // It has ended by itself.
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => Ok(()),
            result => result.map_err(refused),
        }
    }

    async fn ended(&self, patience: Duration) -> Result<Option<i32>, Failure> {
        let limit = Instant::now() + patience;
        loop {
            let state = self.inspect().await?.state.unwrap_or_default();
            if state.running == Some(false) {
                let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
                return Ok(Some(code.unwrap_or_default()));
            }
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            tokio::time::sleep(left.min(PAUSE)).await;
        }
    }

    async fn changes(self: Box<Self>) -> Result<Vec<PathBuf>, Failure> {
        let changes = self.docker.container_changes(&self.id).await.map_err(refused)?.unwrap_or_default();
        let paths: Vec<PathBuf> = changes.into_iter().map(|change| PathBuf::from(change.path)).collect();
        let is_dockers =
            |path: &Path| DOCKERS_OWN.iter().any(|own| path.starts_with(own) || Path::new(own).starts_with(path));
        // A directory counts as changed when what lies in it is.
        let is_above = |path: &Path| paths.iter().any(|other| other != path && other.starts_with(path));
        Ok(paths.iter().filter(|path| !is_dockers(path) && !is_above(path)).cloned().collect())
    }
}

impl Drop for Dockered {
    fn drop(&mut self) {
        let options = RemoveContainerOptions { v: true, force: true, ..RemoveContainerOptions::default() };
        let removing = self.docker.remove_container(&self.id, Some(options));
        // Should the daemon be gone, so is the container.
        let _ = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(removing));
    }
}

async fn over_bridge(address: SocketAddr, request: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&request).await?;
    let mut answer = Vec::new();
    match stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await {
        Err(error) if answer.is_empty() => Err(error),
        Ok(_) | Err(_) => Ok(answer),
    }
}

fn refused(error: bollard::errors::Error) -> Failure {
    Diagnostic::new(codes::contract::RUN, "Docker does not run a container of the image").caused_by(&error).into()
}
