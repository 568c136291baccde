//! The helper: clawbuild's own program executed anew, with one thread, so that it can be forked and put into namespaces.
//!
//! It stays outside of the step's namespaces, waits for the step's first process, which the kernel ends all others with,
//! and kills it when its socket closes: that is what cancelling does, and what happens when clawbuild itself is killed.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::error::Refusal;
use super::message::{Order, Report, Request, receive, send};
use super::spec::Network;
use super::stubs::Stubs;
use super::{enter, init, rootfs};
use crate::embedded::mount::Root;

/// What the helper is called, by which the program knows that it is one.
pub(super) const NAME: &str = "clawbuild-sandbox";

/// If this process was started as a helper, is one and ends. The first thing `main` does.
pub fn helper_main_if_requested() {
    if std::env::args_os().next().as_deref() == Some(OsStr::new(NAME)) {
        let status = match serve() {
            Ok(()) => 0,
            // There is nobody left to tell.
            Err(_) => 1,
        };
        std::process::exit(status);
    }
}

fn serve() -> io::Result<()> {
    let socket = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let ended = match receive(&socket)? {
        Order::Run(request) => run(&request, &socket),
        Order::Enter(entry) => enter::enter(&entry, &socket),
    };
    let report = match ended {
        Ok(code) => Report::Exited(code),
        Err(refusal) => Report::Refused(refusal),
    };
    // If the step's first process could not execute the command it has said so already, and only the first word counts.
    send(&socket, &report)
}

fn run(request: &Request, socket: &UnixStream) -> Result<i32, Refusal> {
    let spec = &request.spec;
    for file in &request.cgroups {
        // A limit that cannot be had is none.
        let _ = fs::write(file, "0");
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, &spec.root, flags, Mode::empty())
        .map_err(Refusal::setup("open the root filesystem"))?;
    let root = Root::new(root.as_fd());
    let stubs = Stubs::note(root, rootfs::targets(spec), spec.remove_parents);
    let namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWCGROUP;
    let network = match spec.network {
        Network::None | Network::Private(_) => libc::CLONE_NEWNET,
        Network::Host => 0,
    };
    let code = attend(namespaces | network, socket, || init::run(request));
    stubs.remove(root);
    code
}

/// Forks, the child into new namespaces where there are any, becoming the command; sees to it until it ends.
pub(super) fn attend(
    namespaces: libc::c_int,
    socket: &UnixStream,
    become_command: impl FnOnce() -> Result<Infallible, Refusal>,
) -> Result<i32, Refusal> {
    // Open in the child until it executes the command, or ends.
    let (executed, not_yet) = io::pipe().map_err(Refusal::setup("make a pipe"))?;
    match clone(namespaces).map_err(Refusal::setup("make namespaces"))? {
        Side::Parent { process, number } => {
            drop(not_yet);
            wait(&process, number, executed, socket).map_err(Refusal::setup("wait for the step"))
        }
        Side::Child => {
            drop(executed);
            let Err(refusal) = become_command();
            let _ = send(socket, &Report::Refused(refusal));
            #[expect(unsafe_code, reason = "leaving without running what belongs to the helper")]
            // SAFETY: `_exit` ends the process at once and touches no memory.
            unsafe {
                libc::_exit(255)
            }
        }
    }
}

enum Side {
    Parent { process: OwnedFd, number: i32 },
    Child,
}

/// Forks, the child into new namespaces.
fn clone(namespaces: libc::c_int) -> io::Result<Side> {
    let mut pidfd: libc::c_int = -1;
    let flags = namespaces | libc::CLONE_PIDFD;
    #[expect(unsafe_code, reason = "clone3(2) has no safe form")]
    // SAFETY: all fields of clone_args are numbers, for which zero means absent.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(flags.cast_unsigned());
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    #[expect(unsafe_code, reason = "clone3(2) has no safe form")]
    // SAFETY: without CLONE_VM this is a fork. The process has one thread, so the child's copy is as sound as the original;
    // `pidfd` outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match result {
        0 => Ok(Side::Child),
        1.. => {
            #[expect(unsafe_code, reason = "taking over a descriptor the kernel has just made")]
            // SAFETY: CLONE_PIDFD put an open descriptor there that nobody else has.
            let process = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent { process, number: i32::try_from(result).map_err(io::Error::other)? })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for the command's process, and kills it as soon as the socket's other end closes. Tells when the command's
/// program runs, which is when `executed` ends.
fn wait(first: &OwnedFd, number: i32, executed: PipeReader, socket: &UnixStream) -> io::Result<i32> {
    let (mut attached, mut executed) = (true, Some(executed));
    loop {
        let [ended, begun, left] = {
            let watched = [
                Some(PollFd::new(first, PollFlags::IN)),
                executed.as_ref().map(|executed| PollFd::new(executed, PollFlags::IN)),
                attached.then(|| PollFd::new(socket, PollFlags::IN | PollFlags::RDHUP)),
            ];
            let present = watched.each_ref().map(Option::is_some);
            let mut polled: Vec<PollFd<'_>> = watched.into_iter().flatten().collect();
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut events = polled.iter().map(|polled| !polled.revents().is_empty());
            present.map(|present| present && events.next().unwrap_or(false))
        };
        // What has ended has begun, however short it was.
        if (begun || ended) && executed.take().is_some() {
            // Whoever does not listen has no need of it.
            let _ = send(socket, &Report::Started(number));
        }
        if ended {
            break;
        }
        if left {
            attached = false;
            pidfd_send_signal(first, Signal::KILL)?;
        }
    }
    let status = waitid(WaitId::PidFd(first.as_fd()), WaitIdOptions::EXITED)?;
    let code =
        status.and_then(|status| status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal)));
    code.ok_or_else(|| io::Error::other("the step ended neither by exit nor by signal"))
}
