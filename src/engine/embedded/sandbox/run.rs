//! Running a step from clawbuild's side: starts the helper, passes on the step's output, waits.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diag::progress::Stream;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio_util::sync::CancellationToken;

use super::cgroup::Groups;
use super::error::{Refusal, SandboxError};
use super::helper;
use super::message::{Entry, Order, Report, Request, receive, send};
use super::spec::Spec;
use crate::userns::Identity;

/// As much output as is passed on at once.
const CHUNK: usize = 64 << 10;

/// How long the helper may take to end a cancelled step before it is killed itself, which ends the step too.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stops a running step from another thread.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<OwnedFd>);

impl Cancel {
    /// A handle nobody has pulled yet.
    ///
    /// # Errors
    /// [`SandboxError::Helper`] if the process has no descriptors left.
    pub fn new() -> Result<Self, SandboxError> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let event = event.map_err(|error| SandboxError::Helper { action: "make an event", source: error.into() })?;
        Ok(Self(Arc::new(event)))
    }

    /// Kills every step run with it, now or later.
    pub fn cancel(&self) {
        // Fails only when it was pulled 2^64 times before.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// The process of a running command, by its number on this machine. It is process 1 where the command sees itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub i32);

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus {
    /// Its exit status, or 128 and the number of the signal that ended it.
    pub code: i32,
    /// Whether the kernel ended one of its processes because the step's memory limit was reached.
    pub out_of_memory: bool,
}

impl ExitStatus {
    /// Whether it is 0.
    #[must_use]
    pub const fn success(self) -> bool {
        self.code == 0
    }
}

/// Runs steps. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sandbox {
    helper: PathBuf,
    staging: PathBuf,
    identity: Identity,
    next: Arc<AtomicU64>,
}

impl Sandbox {
    /// Runs steps with this very program as the helper: its `main` has to call [`super::helper_main_if_requested`].
    /// `directory` belongs to this process; an empty directory is made in it.
    ///
    /// # Errors
    /// [`SandboxError::Helper`].
    pub fn new(directory: &Path, identity: Identity) -> Result<Self, SandboxError> {
        Self::with_helper(directory, identity, PathBuf::from("/proc/self/exe"))
    }

    /// As [`Self::new`], with another program as the helper.
    ///
    /// # Errors
    /// [`SandboxError::Helper`].
    pub fn with_helper(directory: &Path, identity: Identity, helper: PathBuf) -> Result<Self, SandboxError> {
        let staging = directory.join("staging");
        let made = std::fs::create_dir_all(&staging);
        made.map_err(|source| SandboxError::Helper { action: "make a directory for the sandbox", source })?;
        Ok(Self { helper, staging, identity, next: Arc::default() })
    }

    /// Runs one command to its end, on a thread of tokio's for blocking work. `output` gets what it writes as it comes.
    ///
    /// # Errors
    /// [`SandboxError`] if the command could not be run or was cancelled. A command that fails is no error.
    pub async fn run(
        &self,
        spec: Spec,
        mut output: impl FnMut(Stream, &[u8]) + Send + 'static,
        token: &CancellationToken,
    ) -> Result<ExitStatus, SandboxError> {
        let cancel = Cancel::new()?;
        // Also kills the step when this future is dropped.
        let _guard = CancelOnDrop(cancel.clone());
        let mut running = tokio::task::spawn_blocking({
            let (sandbox, cancel) = (self.clone(), cancel.clone());
            move || sandbox.run_blocking(spec, &mut output, &cancel)
        });
        let ended = tokio::select! {
            ended = &mut running => ended,
            () = token.cancelled() => {
                cancel.cancel();
                running.await
            }
        };
        match ended {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down.
                Err(_) => Err(SandboxError::Cancelled),
            },
        }
    }

    /// Runs one command to its end. Blocks the thread, which has to live as long: the kernel ends helpers with it.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub fn run_blocking(
        &self,
        spec: Spec,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
    ) -> Result<ExitStatus, SandboxError> {
        self.run_noticed(spec, output, &mut |_| {}, cancel)
    }

    /// As [`Self::run_blocking`], and tells when the command has begun to run.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub fn run_noticed(
        &self,
        spec: Spec,
        output: &mut dyn FnMut(Stream, &[u8]),
        started: &mut dyn FnMut(Process),
        cancel: &Cancel,
    ) -> Result<ExitStatus, SandboxError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let groups = Groups::make(&format!("{}-{number}", std::process::id()), &spec.limits);
        let request =
            Request { spec, identity: self.identity, staging: self.staging.clone(), cgroups: groups.process_files() };
        let code = self.order(Order::Run(request), output, started, cancel)?;
        Ok(ExitStatus { code, out_of_memory: groups.ran_out_of_memory() })
    }

    /// Runs a command to its end beside one that runs, in that one's namespaces: `spec` says what to run and as whom,
    /// its mounts and network are not looked at. Blocks the thread, as [`Self::run_blocking`] does.
    ///
    /// # Errors
    /// Those of [`Self::run`]; also where the other command has ended.
    pub fn enter_blocking(
        &self,
        process: Process,
        spec: Spec,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
    ) -> Result<ExitStatus, SandboxError> {
        let entry = Entry { process: process.0, spec, identity: self.identity };
        let code = self.order(Order::Enter(entry), output, &mut |_| {}, cancel)?;
        Ok(ExitStatus { code, out_of_memory: false })
    }

    /// Has a helper do it, and gives the command's exit status.
    fn order(
        &self,
        order: Order,
        output: &mut dyn FnMut(Stream, &[u8]),
        started: &mut dyn FnMut(Process),
        cancel: &Cancel,
    ) -> Result<i32, SandboxError> {
        let mut running = Running::start(&self.helper)?;
        let sent = send(&running.socket, &order);
        // Secrets are not kept longer than needed.
        drop(order);
        if let Err(error) = sent {
            // It is gone already; how it ended says more than that nobody listens.
            return Err(match error.kind() {
                io::ErrorKind::BrokenPipe => running.end().err().unwrap_or(SandboxError::Cancelled),
                _ => SandboxError::Helper { action: "talk to the sandbox helper", source: error },
            });
        }
        let end = running.follow(output, started, cancel)?;
        let status = running.end()?;
        match end {
            Some(End::Exited(code)) => Ok(code),
            Some(End::Refused(refusal)) => Err(refusal.into()),
            None => Err(SandboxError::HelperDied { status }),
        }
    }
}

/// What became of a command.
enum End {
    Exited(i32),
    Refused(Refusal),
}

struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A helper at work.
struct Running {
    child: Child,
    socket: UnixStream,
    ended: bool,
}

impl Running {
    fn start(helper: &Path) -> Result<Self, SandboxError> {
        let failed = |source| SandboxError::Helper { action: "start the sandbox helper", source };
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        let child = Command::new(helper)
            .arg0(helper::NAME)
            // A terminal's Ctrl-C goes to clawbuild, which then decides.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        Ok(Self { child, socket, ended: false })
    }

    /// Passes on output until both streams and the socket have closed. Of what the helper says about the end, its first
    /// word counts.
    fn follow(
        &mut self,
        output: &mut dyn FnMut(Stream, &[u8]),
        started: &mut dyn FnMut(Process),
        cancel: &Cancel,
    ) -> Result<Option<End>, SandboxError> {
        let failed = |source| SandboxError::Helper { action: "follow the step's output", source };
        let mut stdout = self.child.stdout.take();
        let mut stderr = self.child.stderr.take();
        let mut socket = Some(self.socket.try_clone().map_err(failed)?);
        let mut end = None;
        let mut cancelled: Option<Instant> = None;
        let mut buffer = vec![0; CHUNK];
        while stdout.is_some() || stderr.is_some() || socket.is_some() {
            let [out, err, word, cancelling] = {
                let streams = [stdout.as_ref().map(|s| s.as_fd()), stderr.as_ref().map(|s| s.as_fd())];
                let others = [socket.as_ref().map(|s| s.as_fd()), cancelled.is_none().then(|| cancel.0.as_fd())];
                let [out, err] = streams;
                let [word, cancelling] = others;
                wait([out, err, word, cancelling], cancelled).map_err(failed)?
            };
            if cancelling {
                cancelled = Some(Instant::now());
                // The helper kills the step when it sees this. Errors mean that it is gone.
                let _ = self.socket.shutdown(Shutdown::Write);
            }
            if cancelled.is_some_and(|since| since.elapsed() > PATIENCE) {
                let _ = self.child.kill();
            }
            if out && pass_on(stdout.as_mut(), &mut buffer, |data| output(Stream::Stdout, data)).map_err(failed)? {
                stdout = None;
            }
            if err && pass_on(stderr.as_mut(), &mut buffer, |data| output(Stream::Stderr, data)).map_err(failed)? {
                stderr = None;
            }
            if word {
                match socket.as_ref().map(receive::<Report>) {
                    Some(Ok(Report::Started(number))) if end.is_none() => started(Process(number)),
                    Some(Ok(Report::Started(_))) => {}
                    Some(Ok(Report::Exited(code))) => _ = end.get_or_insert(End::Exited(code)),
                    Some(Ok(Report::Refused(refusal))) => _ = end.get_or_insert(End::Refused(refusal)),
                    Some(Err(_)) | None => socket = None,
                }
            }
        }
        if cancelled.is_some() { Err(SandboxError::Cancelled) } else { Ok(end) }
    }

    fn end(&mut self) -> Result<std::process::ExitStatus, SandboxError> {
        let status = self.child.wait();
        self.ended = true;
        status.map_err(|source| SandboxError::Helper { action: "wait for the sandbox helper", source })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.socket.shutdown(Shutdown::Both);
            let _ = self.child.wait();
        }
    }
}

/// Waits until one of these can be read; while cancelling, at most until patience ends.
fn wait<const N: usize>(
    descriptors: [Option<std::os::fd::BorrowedFd<'_>>; N],
    cancelled: Option<Instant>,
) -> io::Result<[bool; N]> {
    let mut polled: Vec<PollFd<'_>> =
        descriptors.iter().flatten().map(|descriptor| PollFd::new(descriptor, PollFlags::IN)).collect();
    let timeout = cancelled.map(|_| Timespec { tv_sec: 1, tv_nsec: 0 });
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut events = polled.iter().map(|polled| !polled.revents().is_empty());
    Ok(descriptors.map(|descriptor| descriptor.is_some() && events.next().unwrap_or(false)))
}

/// Reads once. Says whether the stream has ended.
fn pass_on(stream: Option<&mut impl io::Read>, buffer: &mut [u8], mut to: impl FnMut(&[u8])) -> io::Result<bool> {
    let Some(stream) = stream else { return Ok(true) };
    match stream.read(buffer) {
        Ok(0) => Ok(true),
        Ok(length) => {
            to(buffer.get(..length).unwrap_or_default());
            Ok(false)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}
