//! The system calls the standard library does not offer, each behind a safe function.
//!
//! The declarations are written out because the program has no dependencies: it must compile with a bare `rustc`. Numbers
//! and layouts are those of Linux on x86-64, AArch64 and RISC-V, which agree on all of them.
#![expect(unsafe_code, reason = "system calls without a safe wrapper in the standard library")]

use std::ffi::{c_int, c_long, c_short, c_ulong};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::signal::Signal;

/// A set of signals, as large as both glibc and musl have it: 1024 bits.
#[repr(C)]
struct SignalSet([u64; 16]);

/// `struct pollfd`.
#[repr(C)]
struct PollFd {
    fd: RawFd,
    events: c_short,
    revents: c_short,
}

const POLLIN: c_short = 1;
const SIG_SETMASK: c_int = 2;
const WNOHANG: c_int = 1;
const O_NONBLOCK: c_int = 0o4000;
const O_CLOEXEC: c_int = 0o2_000_000;
const PR_SET_CHILD_SUBREAPER: c_int = 36;
const ECHILD: i32 = 10;

/// `struct signalfd_siginfo` has a fixed size, and its first four bytes are the signal's number.
const SIGINFO_SIZE: usize = 128;

unsafe extern "C" {
    safe fn geteuid() -> u32;
    safe fn setgid(gid: u32) -> c_int;
    safe fn setuid(uid: u32) -> c_int;
    fn setgroups(count: usize, groups: *const u32) -> c_int;
    safe fn kill(pid: c_int, signal: c_int) -> c_int;
    safe fn tcsetpgrp(fd: c_int, group: c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn sigemptyset(set: *mut SignalSet) -> c_int;
    fn sigfillset(set: *mut SignalSet) -> c_int;
    fn sigdelset(set: *mut SignalSet, signal: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn signalfd(fd: c_int, mask: *const SignalSet, flags: c_int) -> c_int;
    fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
}

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// The user this process acts as.
pub(crate) fn effective_uid() -> u32 {
    geteuid()
}

/// Becomes `uid:gid` for good, with no other groups.
///
/// # Errors
/// The process may not do that, or one of the ids is not mapped in its user namespace.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: the pointer is to one gid, and the count says so.
    checked(unsafe { setgroups(1, &raw const gid) })?;
    checked(setgid(gid))?;
    checked(setuid(uid))?;
    Ok(())
}

/// Lets orphans of this process's descendants become its children, as they do anyway where it is PID 1.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: this option takes one number and touches no memory.
    checked(unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1 as c_long, 0 as c_long, 0 as c_long, 0 as c_long) })?;
    Ok(())
}

/// Sends `signal` to the process group `group`. A group that is gone is no error.
pub(crate) fn signal_group(group: u32, signal: Signal) {
    if let Ok(group) = c_int::try_from(group) {
        // The only failures are a group that has ended and one this process may not signal; neither can be helped.
        let _ = kill(-group, signal.number());
    }
}

/// Sends `signal` to every process this one may signal, itself excluded.
pub(crate) fn signal_all(signal: Signal) {
    let _ = kill(-1, signal.number());
}

/// Makes `group` the foreground process group of the terminal on standard input.
pub(crate) fn give_terminal_to(group: u32) {
    if let Ok(group) = c_int::try_from(group) {
        // Fails where the terminal is not the controlling one. Then there is no job control to take part in.
        let _ = tcsetpgrp(0, group);
    }
}

/// A child that has ended: its id and how.
///
/// Gives `None` when no child has ended since, or there is none at all.
pub(crate) fn reap() -> io::Result<Option<(u32, ExitStatus)>> {
    let mut status: c_int = 0;
    // SAFETY: `status` lives across the call and is an int.
    match checked(unsafe { waitpid(-1, &raw mut status, WNOHANG) }) {
        Ok(pid) => Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0).map(|pid| (pid, ExitStatus::from_raw(status)))),
        Err(error) if error.raw_os_error() == Some(ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The signals sent to this process, received as data instead of interrupting it.
#[derive(Debug)]
pub(crate) struct Signals(File);

impl Signals {
    /// Blocks every signal but the ones that tell of a fault in this program, and receives them here from now on.
    pub(crate) fn receive() -> io::Result<Self> {
        let mut set = SignalSet([0; 16]);
        // SAFETY: `set` is a signal set of the size the C library has, and lives across the calls; the signals are valid.
        let fd = unsafe {
            checked(sigfillset(&raw mut set))?;
            for fault in Signal::FAULTS {
                checked(sigdelset(&raw mut set, fault.number()))?;
            }
            checked(sigprocmask(SIG_SETMASK, &raw const set, std::ptr::null_mut()))?;
            checked(signalfd(-1, &raw const set, O_NONBLOCK | O_CLOEXEC))?
        };
        // SAFETY: the call above made the descriptor, and nothing else owns it.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// The next signal that has arrived, if one has. Signals without a name known here are passed over.
    pub(crate) fn next(&mut self) -> io::Result<Option<Signal>> {
        let mut info = [0; SIGINFO_SIZE];
        loop {
            match self.0.read(&mut info) {
                Ok(SIGINFO_SIZE) => {
                    let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                    if let Some(signal) = c_int::try_from(number).ok().and_then(Signal::from_number) {
                        return Ok(Some(signal));
                    }
                }
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Lets the program that `command` starts get signals, which it would otherwise inherit blocked.
pub(crate) fn unblock_signals(command: &mut Command) {
    let unblock = || {
        let mut set = SignalSet([0; 16]);
        // SAFETY: `set` is a signal set of the size the C library has, and lives across the calls.
        unsafe {
            checked(sigemptyset(&raw mut set))?;
            checked(sigprocmask(SIG_SETMASK, &raw const set, std::ptr::null_mut()))?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and calls only what is safe there; it takes no lock or memory.
    unsafe { command.pre_exec(unblock) };
}

/// Waits until one of `fds` can be read or has ended, or `timeout` is over. Gives which, in their order.
pub(crate) fn wait_readable(fds: &[RawFd], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut entries: Vec<PollFd> = fds.iter().map(|fd| PollFd { fd: *fd, events: POLLIN, revents: 0 }).collect();
    // Rounded up, so that a wait never ends a little before its deadline and spins.
    let millis = timeout.map_or(-1, |timeout| {
        let rounded = timeout.as_millis() + u128::from(timeout.subsec_nanos() % 1_000_000 != 0);
        c_int::try_from(rounded).unwrap_or(c_int::MAX)
    });
    let count = c_ulong::try_from(entries.len()).expect("there are few descriptors");
    // SAFETY: the pointer is to `count` entries, which live across the call.
    match checked(unsafe { poll(entries.as_mut_ptr(), count, millis) }) {
        Ok(_) => Ok(entries.iter().map(|entry| entry.revents != 0).collect()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(vec![false; fds.len()]),
        Err(error) => Err(error),
    }
}
