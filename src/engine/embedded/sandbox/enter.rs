//! Running a command in the namespaces of another that runs: the helper joins them and forks the command's process there.

use std::convert::Infallible;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::account::Accounts;
use super::error::Refusal;
use super::message::Entry;
use super::{exec, helper, init, privileges};
use crate::embedded::mount::Root;

/// Joins the namespaces and runs the command. Gives its exit status.
pub(super) fn enter(entry: &Entry, socket: &UnixStream) -> Result<i32, Refusal> {
    let joined = || -> std::io::Result<()> {
        let process = Pid::from_raw(entry.process).ok_or(rustix::io::Errno::SRCH)?;
        let process = pidfd_open(process, PidfdFlags::empty())?;
        let user = match &entry.spec.emulator {
            Some(_) => ThreadNameSpaceType::USER,
            None => ThreadNameSpaceType::empty(),
        };
        let namespaces = user
            | ThreadNameSpaceType::MOUNT
            | ThreadNameSpaceType::PROCESS_ID
            | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
            | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
            | ThreadNameSpaceType::CONTROL_GROUP
            | ThreadNameSpaceType::NETWORK;
        Ok(move_into_thread_name_spaces(process.as_fd(), namespaces)?)
    };
    joined().map_err(Refusal::setup("join the namespaces of a running command"))?;
    // Of the process-id namespace only children become members, so the command needs no further one.
    helper::attend(0, socket, || become_command(entry))
}

fn become_command(entry: &Entry) -> Result<Infallible, Refusal> {
    let spec = &entry.spec;
    init::die_with_parent()?;
    rustix::process::setsid().map_err(Refusal::setup("make a session"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::openat(CWD, "/", flags, Mode::empty()).map_err(Refusal::setup("open the root filesystem"))?;
    let accounts =
        Accounts::read(Root::new(root.as_fd())).map_err(Refusal::setup("read /etc/passwd and /etc/group"))?;
    let person = accounts.person(&spec.user)?;
    init::enter_working_directory(&spec.cwd)?;
    let null = fs::File::open("/dev/null").map_err(Refusal::setup("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(Refusal::setup("close standard input"))?;
    init::reset_signals();
    init::close_descriptors().map_err(Refusal::setup("close descriptors"))?;
    privileges::limit_resources()?;
    privileges::drop(&person, entry.identity, spec.security)?;
    init::die_with_parent()?;
    Err(exec::execute(spec, &person.home))
}
