//! Running programs of another architecture: a command gets a user namespace of its own, and that namespace an instance
//! of binfmt_misc in which an interpreter is registered. Nothing is registered with the machine.
//!
//! Spec: kernel `Documentation/admin-guide/binfmt-misc.rst`; instances of user namespaces came with Linux 6.7.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use diag::{Diagnostic, Reported, codes};
use oci::Architecture;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::process::{Pid, WaitOptions};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::attach::{Detached, NO_DEVICES, restrict_top};
use super::error::Refusal;
use super::exec;
use super::privileges::unshare_as;
use crate::userns::Identity;

/// Where binfmt_misc is mounted, by convention.
const MOUNT_POINT: &str = "/proc/sys/fs/binfmt_misc";

/// The first bytes of a 64-bit little-endian ELF program, up to and with the ABI version; which ABI does not matter.
const IDENTITY: [u8; 16] = *b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00";
const IDENTITY_MASK: [u8; 16] = *b"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff";

/// A program of this machine that runs those of another architecture: qemu's user-mode emulation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulator {
    architecture: Architecture,
    program: PathBuf,
}

/// There is no program that could emulate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEmulator {
    /// None is installed.
    #[error("`qemu-{}-static` is not on the PATH", .0.gnu())]
    NotFound(Architecture),
    /// The one there is needs libraries, which it would look for in the container.
    #[error("`{0}` is linked dynamically, so that it cannot run inside of containers")]
    Dynamic(PathBuf),
}

impl Reported for NoEmulator {
    fn diagnostic(&self) -> Diagnostic {
        Diagnostic::new(codes::engine::EMULATION, self.to_string())
            .help("install it: `apt-get install qemu-user-static` on Debian and Ubuntu, as root")
    }
}

impl Emulator {
    /// Looks along a search path for a qemu that runs programs of this architecture.
    ///
    /// # Errors
    /// [`NoEmulator`].
    pub fn find(architecture: Architecture, path: &str) -> Result<Self, NoEmulator> {
        // Newer distributions build the plain name statically too.
        let names = ["-static", ""].map(|suffix| format!("qemu-{}{suffix}", architecture.gnu()));
        let directories = || path.split(':').filter(|directory| directory.starts_with('/')).map(Path::new);
        let candidates = names.iter().flat_map(|name| directories().map(move |directory| directory.join(name)));
        let is_program = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        let mut dynamic = None;
        for program in candidates.filter(is_program) {
            if exec::needs_interpreter(&program) {
                dynamic.get_or_insert(program);
            } else {
                return Ok(Self { architecture, program });
            }
        }
        Err(dynamic.map_or(NoEmulator::NotFound(architecture), NoEmulator::Dynamic))
    }

    /// Takes hold of the interpreter while its directory is in sight.
    pub(super) fn open(&self) -> Result<Interpreter, Refusal> {
        let refused = || Refusal::setup(format!("open `{}`", self.program.display()));
        let missing = || refused()(rustix::io::Errno::NOENT);
        let directory = self.program.parent().ok_or_else(missing)?;
        let name = self.program.file_name().and_then(|name| name.to_str()).ok_or_else(missing)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, directory, flags, Mode::empty()).map_err(refused())?;
        Ok(Interpreter { directory, rule: rule(self.architecture, name) })
    }
}

/// An interpreter that can still be reached when the command's root has become the root.
pub(super) struct Interpreter {
    directory: OwnedFd,
    rule: String,
}

impl Interpreter {
    /// Gives this process, as which a command will run, a user namespace in which the interpreter is registered, and in
    /// which every id stands for the same one outside. The working directory is another one afterwards.
    pub(super) fn register(&self, identity: Identity) -> Result<(), Refusal> {
        let namespaces = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
        let unshared = if identity.owns_all() { unshare_alike(namespaces) } else { unshare_as(0, 0, namespaces) };
        unshared.map_err(Refusal::setup("make a user namespace for emulation"))?;
        self.mount().map_err(|error| Refusal::NoBinfmt(error.into()))
    }

    fn mount(&self) -> io::Result<()> {
        let inert = NO_DEVICES.union(MountAttrFlags::MOUNT_ATTR_NOSUID).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
        let instance = Detached::filesystem("binfmt_misc", &[], inert)?;
        let target = rustix::fs::openat(CWD, MOUNT_POINT, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        // The rules are gone when it is mounted nowhere.
        let instance = instance.attach(target.as_fd())?;
        // The rule's interpreter is opened now, from the working directory: F keeps it open.
        rustix::process::fchdir(&self.directory)?;
        let register = rustix::fs::openat(&instance, "register", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        File::from(register).write_all(self.rule.as_bytes())?;
        restrict_top(instance.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY)
    }
}

/// The line that is written to `register`. P: programs keep the name they are called by. O and C: programs that may be
/// executed but not read work. F: the interpreter is opened once.
fn rule(architecture: Architecture, interpreter: &str) -> String {
    // ET_EXEC or ET_DYN, then the machine. Spec: System V ABI, ELF header.
    let machine: u16 = match architecture {
        Architecture::Amd64 => 62,
        Architecture::Arm64 => 183,
        Architecture::Riscv64 => 243,
    };
    let magic = [&IDENTITY[..], &[2, 0], &machine.to_le_bytes()].concat();
    let mask = [&IDENTITY_MASK[..], &[0xfe, 0xff, 0xff, 0xff]].concat();
    format!(":{architecture}:M::{}:{}:{interpreter}:POCF", escape(&magic), escape(&mask))
}

fn escape(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "\\x{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// Puts this process into namespaces, among them one of users with the same ids. A child that stays
/// outside writes the maps, which nobody inside may.
fn unshare_alike(namespaces: UnshareFlags) -> io::Result<()> {
    let this = rustix::process::getpid();
    let (mut ready, mut entered) = io::pipe()?;
    #[expect(unsafe_code, reason = "fork(2) has no safe form")]
    // SAFETY: the helper's process has one thread, so the child may do whatever the parent could.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(entered);
        let written = ready.read_exact(&mut [0]).and_then(|()| map_alike(this));
        #[expect(unsafe_code, reason = "leaving without running what belongs to the parent")]
        // SAFETY: `_exit` ends the process at once and touches no memory.
        unsafe {
            libc::_exit(written.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO)))
        }
    }
    drop(ready);
    let child = Pid::from_raw(child).ok_or_else(io::Error::last_os_error)?;
    #[expect(unsafe_code, reason = "unshare(2) can give threads different descriptor tables")]
    // SAFETY: the caller does not unshare the descriptor table.
    let unshared = unsafe { rustix::thread::unshare_unsafe(namespaces) };
    if unshared.is_ok() {
        entered.write_all(&[0])?;
    }
    // Closing the pipe without a byte in it sends the child away.
    drop(entered);
    let status = rustix::process::waitpid(Some(child), WaitOptions::empty())?;
    unshared?;
    match status.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error)),
        None => Err(io::Error::other("the child that writes the maps was killed")),
    }
}

fn map_alike(process: Pid) -> io::Result<()> {
    for map in ["uid_map", "gid_map"] {
        let own = fs::read_to_string(format!("/proc/self/{map}"))?;
        fs::write(format!("/proc/{}/{map}", process.as_raw_pid()), alike(&own))?;
    }
    Ok(())
}

/// The map under which the ids of a namespace, whose own map this is, stand for themselves. Lines are
/// `inside outside count`.
fn alike(map: &str) -> String {
    map.lines().fold(String::new(), |mut text, line| {
        let mut numbers = line.split_whitespace();
        if let (Some(inside), Some(_), Some(count)) = (numbers.next(), numbers.next(), numbers.next()) {
            writeln!(text, "{inside} {inside} {count}").expect("writing to a String cannot fail");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_tells_the_architecture() {
        let rule = rule(Architecture::Arm64, "qemu-aarch64-static");
        assert_eq!(
            rule,
            concat!(
                r":arm64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:",
                r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:",
                r"qemu-aarch64-static:POCF"
            )
        );
    }

    #[test]
    fn ids_stand_for_themselves() {
        assert_eq!(alike("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(alike("0 1000 1\n1 100000 65535\n"), "0 0 1\n1 1 65535\n");
    }

    #[test]
    fn only_a_static_program_is_an_emulator() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_str().expect("text");
        assert_eq!(Emulator::find(Architecture::Arm64, path), Err(NoEmulator::NotFound(Architecture::Arm64)));
        let dynamic = directory.path().join("qemu-aarch64");
        fs::copy("/bin/true", &dynamic).expect("copied");
        assert_eq!(Emulator::find(Architecture::Arm64, path), Err(NoEmulator::Dynamic(dynamic)));
        let program = directory.path().join("qemu-aarch64-static");
        fs::write(&program, b"\x7fELF\x02\x01").expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("made a program");
        let found = Emulator::find(Architecture::Arm64, &format!("/nowhere:relative:{path}"));
        assert_eq!(found, Ok(Emulator { architecture: Architecture::Arm64, program }));
    }
}
