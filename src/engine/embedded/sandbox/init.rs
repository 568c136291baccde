//! The first process of a step's namespaces: prepares them and becomes the command.

use std::convert::Infallible;
use std::fs;
use std::io;

use rustix::fs::Mode;
use rustix::process::Signal;

use super::account::Accounts;
use super::emulation::Emulator;
use super::error::Refusal;
use super::message::Request;
use super::rootfs::Rootfs;
use super::spec::Network;
use super::{exec, network, privileges};

/// Makes this process more likely than clawbuild to be ended when memory runs out.
const MORE_LIKELY: &str = "100";

/// The kernel's number of signals (`_NSIG`).
const LAST_SIGNAL: libc::c_int = 64;

/// Prepares everything and executes the command. Returns only if that fails.
pub(super) fn run(request: &Request) -> Result<Infallible, Refusal> {
    let spec = &request.spec;
    die_with_parent()?;
    rustix::process::setsid().map_err(Refusal::setup("make a session"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Never more than a preference.
    let _ = fs::write("/proc/self/oom_score_adj", MORE_LIKELY);
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::REC | rustix::mount::MountPropagationFlags::PRIVATE,
    )
    .map_err(Refusal::setup("keep mounts private"))?;

    let rootfs = Rootfs::open(request)?;
    let accounts = Accounts::read(rootfs.root()).map_err(Refusal::setup("read /etc/passwd and /etc/group"))?;
    let person = accounts.person(&spec.user)?;
    rootfs.make_working_directory(&person)?;
    rootfs.mount()?;
    let interpreter = spec.emulator.as_ref().map(Emulator::open).transpose()?;
    rootfs.enter()?;

    rustix::system::sethostname(spec.hostname.as_bytes()).map_err(Refusal::setup("set the host name"))?;
    match spec.network {
        Network::None => network::bring_up_loopback().map_err(Refusal::setup("bring up the loopback interface"))?,
        Network::Private(address) => network::bring_up_loopback()
            .and_then(|()| network::add_address(address))
            .map_err(Refusal::setup("give the network an address"))?,
        Network::Host => {}
    }
    // The namespaces made so far are not this one's: nothing of them can be changed any more.
    if let Some(interpreter) = interpreter {
        interpreter.register(request.identity)?;
    }
    enter_working_directory(&spec.cwd)?;
    let null = fs::File::open("/dev/null").map_err(Refusal::setup("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(Refusal::setup("close standard input"))?;
    reset_signals();
    close_descriptors().map_err(Refusal::setup("close descriptors"))?;
    privileges::limit_resources()?;
    privileges::drop(&person, request.identity, spec.security)?;
    // Changing the user cleared it.
    die_with_parent()?;
    Err(exec::execute(spec, &person.home))
}

pub(super) fn die_with_parent() -> Result<(), Refusal> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Refusal::setup("follow the parent"))
}

pub(super) fn enter_working_directory(path: &str) -> Result<(), Refusal> {
    let path = if path.is_empty() { "/" } else { path };
    // It can lie in something that is mounted, where it could not be made before.
    let made = fs::create_dir_all(path);
    match rustix::process::chdir(path) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOTDIR) => Err(Refusal::WorkingDirectory(path.to_owned())),
        Err(error) => {
            let error = made.err().unwrap_or_else(|| error.into());
            Err(Refusal::setup(format!("enter the working directory `{path}`"))(error))
        }
    }
}

/// A step starts as from a login shell: no signal ignored or blocked.
pub(super) fn reset_signals() {
    // All zero is the default disposition with no flags, whatever the architecture's layout of the structure.
    let default = [0_u64; 8];
    for signal in 1..=LAST_SIGNAL {
        #[expect(unsafe_code, reason = "the C library's sigaction(2) refuses the signals it uses itself")]
        // SAFETY: the kernel only reads the structure, and the default disposition runs no code of this process.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0_usize, size_of::<u64>());
        }
    }
    #[expect(unsafe_code, reason = "sigprocmask(2) has no safe form")]
    // SAFETY: the set is initialised by sigemptyset before it is used, and lives until the call returns.
    unsafe {
        let mut none = std::mem::MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Has everything but the three standard streams closed when the command is executed.
pub(super) fn close_descriptors() -> io::Result<()> {
    #[expect(unsafe_code, reason = "close_range(2) has no safe form")]
    // SAFETY: only marks descriptors, which stay open until this process is replaced.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
