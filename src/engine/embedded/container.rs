//! Containers of finished images: long-lived commands in trees made of the images' layers.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use diag::progress::{Progress, Stream};
use oci::layer::Snapshot;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio_util::sync::CancellationToken;

use super::mount::{MountError, Tree};
pub use super::sandbox::Process;
use super::sandbox::{self, Cancel, ExitStatus, SandboxError, Spec};
use super::snapshot::Draft;
use super::solver::Solve;
use super::{Embedded, Workshop, unpack};
use crate::error::VertexError;
use crate::{SolveError, SolveRequest};

/// The address containers have in the network of their own. Spec: RFC 5737 (never anybody's).
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// What of a container's output is kept: more than anybody reads, and no more than memory has.
const LONGEST_LOG: usize = 16 << 20;
/// What of an answer over the network is kept.
const LONGEST_ANSWER: u64 = 64 << 10;

/// An image whose layers are unpacked, ready for containers.
#[derive(Clone, Debug)]
pub struct Unpacked {
    workshop: Workshop,
    snapshots: Arc<Vec<Snapshot>>,
}

impl Embedded {
    /// Unpacks what the request's definition stands for; what was unpacked before is used again.
    ///
    /// # Errors
    /// [`SolveError`].
    pub async fn unpacked(
        &self,
        request: SolveRequest,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<Unpacked, SolveError> {
        let contexts = self.scan(&request).await?;
        let solve = Arc::new(Solve::new(self.workshop().clone(), request, progress, cancel.child_token(), contexts));
        let unpacking = async {
            let chain = solve.run().await?;
            unpack::snapshots(&solve, chain.parts()).await.map_err(|error| solve.fail_head(error))
        };
        let snapshots = unpacking.await;
        let snapshots = Arc::new(solve.conclude(snapshots)?);
        Ok(Unpacked { workshop: self.workshop().clone(), snapshots })
    }
}

impl Unpacked {
    /// A copy of the tree that can be written to and is gone when dropped.
    ///
    /// # Errors
    /// The store's and the system's.
    pub fn copy(&self) -> Result<Copy, VertexError> {
        let draft = Draft::new(&self.workshop.store)?;
        let layers: Vec<PathBuf> = self.snapshots.iter().map(Snapshot::fs).collect();
        let tree = self.workshop.mounter()?.writable(&layers, &draft.fs())?;
        Ok(Copy { tree, draft, snapshots: Arc::clone(&self.snapshots) })
    }

    /// Whether every file belongs to the one user there is, whatever owner it goes by.
    #[must_use]
    pub fn has_one_owner(&self) -> bool {
        !self.workshop.identity.owns_all()
    }

    /// Starts a container and returns when its program runs. `spec.root` is that of a [`Copy`].
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn start(&self, spec: Spec) -> Result<Container, SandboxError> {
        Container::start(self.workshop.clone(), spec)
    }
}

/// A tree of a container's own.
#[derive(Debug)]
pub struct Copy {
    // Dropped in this order: what is mounted cannot be removed.
    tree: Tree,
    draft: Draft,
    snapshots: Arc<Vec<Snapshot>>,
}

impl Copy {
    /// Where it is seen.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.tree.path()
    }

    /// What was made, changed or removed in it, as sorted absolute paths. Nothing may run in it any more.
    ///
    /// # Errors
    /// The store's and the system's.
    pub fn changes(self) -> Result<Vec<PathBuf>, VertexError> {
        let Self { tree, draft, snapshots } = self;
        tree.finish()?;
        let mut changed = BTreeSet::new();
        let upper = draft.fs();
        let mut below = vec![PathBuf::new()];
        while let Some(directory) = below.pop() {
            let path = upper.join(&directory);
            let entries = fs::read_dir(&path).map_err(|source| MountError::Io { action: "read", path, source })?;
            for entry in entries.flatten() {
                let path = directory.join(entry.file_name());
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let was_there = || snapshots.iter().any(|below| below.fs().join(&path).is_dir());
                if is_directory && was_there() {
                    // It may be there only because of what lies in it.
                    below.push(path);
                } else {
                    changed.insert(Path::new("/").join(path));
                }
            }
        }
        Ok(changed.into_iter().collect())
    }
}

/// What a command left: how it ended and what it wrote, both streams in the order they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote.
    pub output: Vec<u8>,
}

/// A running container. Dropped, it is killed.
#[derive(Debug)]
pub struct Container {
    workshop: Workshop,
    spec: Spec,
    process: Process,
    log: Arc<Mutex<Vec<u8>>>,
    end: Mutex<Receiver<Result<ExitStatus, SandboxError>>>,
    // How it ended, once that is known.
    ended: OnceLock<Option<ExitStatus>>,
    cancel: Cancel,
}

impl Container {
    fn start(workshop: Workshop, spec: Spec) -> Result<Self, SandboxError> {
        let (sandbox, cancel) = (workshop.sandbox()?, Cancel::new()?);
        let log = Arc::new(Mutex::new(Vec::new()));
        let (begin, begun) = mpsc::sync_channel(1);
        let (finish, end) = mpsc::sync_channel(1);
        let running = (spec.clone(), Arc::clone(&log), cancel.clone());
        // The kernel ends what a thread started with the thread, so this one lives as long as the container.
        std::thread::spawn(move || {
            let (spec, log, cancel) = running;
            let mut write = |_: Stream, data: &[u8]| append(&log, data);
            // Nobody listens any more when the container was given up.
            let mut started = |process| _ = begin.send(process);
            _ = finish.send(sandbox.run_noticed(spec, &mut write, &mut started, &cancel));
        });
        // The channel closes when the command has ended.
        let process = match begun.recv() {
            Ok(process) => process,
            Err(_) => {
                let ended = end.recv().unwrap_or(Err(SandboxError::Cancelled))?;
                return Err(SandboxError::NeverBegan { code: ended.code });
            }
        };
        Ok(Self { workshop, spec, process, log, end: Mutex::new(end), ended: OnceLock::new(), cancel })
    }

    /// Its first process, as this machine numbers it.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }

    /// What it wrote so far, both streams in the order they came.
    #[must_use]
    pub fn log(&self) -> Vec<u8> {
        self.log.lock().expect("nothing panics while holding it").clone()
    }

    /// Runs a further command in it, with the same environment and user, to its end.
    ///
    /// # Errors
    /// [`SandboxError`]; also where the container has ended.
    pub fn exec(&self, args: &[String]) -> Result<Ran, SandboxError> {
        let spec = Spec { args: args.to_vec(), ..self.spec.clone() };
        let output = Mutex::new(Vec::new());
        let mut write = |_: Stream, data: &[u8]| append(&output, data);
        let status = self.workshop.sandbox()?.enter_blocking(self.process, spec, &mut write, &Cancel::new()?)?;
        Ok(Ran { status, output: output.into_inner().expect("nothing panics while holding it") })
    }

    /// Sends bytes to a port at [`ADDRESS`], from inside the container's network, and reads what comes back until
    /// the other side closes or there is nothing for so long.
    ///
    /// # Errors
    /// The system's.
    pub fn ask(&self, port: u16, request: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
        ask_in_network(self.process, SocketAddr::from((ADDRESS, port)), request, patience)
    }

    /// Sends a signal to its first process.
    ///
    /// # Errors
    /// The system's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match Pid::from_raw(self.process.0) {
            Some(process) if self.ended.get().is_none() => Ok(kill_process(process, signal)?),
            _ => Err(rustix::io::Errno::SRCH.into()),
        }
    }

    /// Waits until it has ended, at most so long. `None` while it runs.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn ended(&self, patience: Duration) -> Result<Option<ExitStatus>, SandboxError> {
        let end = self.end.lock().expect("nothing panics while holding it");
        if let Some(Some(status)) = self.ended.get() {
            return Ok(Some(*status));
        }
        match end.recv_timeout(patience) {
            Ok(end) => {
                let _ = self.ended.set(end.as_ref().ok().copied());
                end.map(Some)
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(SandboxError::Cancelled),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let (None, Ok(end)) = (self.ended.get(), self.end.get_mut()) {
            // Its tree is in use until it has ended.
            let _ = end.recv();
        }
    }
}

fn append(log: &Mutex<Vec<u8>>, data: &[u8]) {
    let mut log = log.lock().expect("nothing panics while holding it");
    let room = LONGEST_LOG.saturating_sub(log.len()).min(data.len());
    log.extend_from_slice(&data[..room]);
}

/// Sends bytes to an address, from inside the network a process is in.
///
/// # Errors
/// The system's: joining another's network takes root, or root of the namespace it belongs to.
pub fn ask_in_network(
    process: Process,
    address: SocketAddr,
    request: &[u8],
    patience: Duration,
) -> io::Result<Vec<u8>> {
    let network = fs::File::open(format!("/proc/{}/ns/net", process.0))?;
    let connecting = std::thread::spawn(move || -> io::Result<TcpStream> {
        // Only this thread goes there; the connection stays when it ends.
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        TcpStream::connect_timeout(&address, patience)
    });
    let mut stream = connecting.join().expect("connecting does not panic")?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    match stream.take(LONGEST_ANSWER).read_to_end(&mut answer) {
        // Some keep the connection open; what came is the answer.
        Err(error) if answer.is_empty() => Err(error),
        Ok(_) | Err(_) => Ok(answer),
    }
}

/// Gives the network a process is in the address [`ADDRESS`], beside those it has.
///
/// # Errors
/// The system's, as for [`ask_in_network`].
pub fn give_address(process: Process) -> io::Result<()> {
    let network = fs::File::open(format!("/proc/{}/ns/net", process.0))?;
    let giving = std::thread::spawn(move || -> io::Result<()> {
        // Only this thread goes there.
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        sandbox::add_address(ADDRESS)
    });
    giving.join().expect("giving an address does not panic")
}

/// The inode of a process's namespace of process ids: the same for all processes of a container.
///
/// # Errors
/// The system's.
pub fn process_namespace(process: Process) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{}/ns/pid", process.0))?.ino())
}
