//! Finding out, without changing anything, whether the namespaces the embedded engine needs can be had.

use std::fs;
use std::io;
use std::sync::atomic::Ordering;

use diag::{Diagnostic, Reported, codes};
use rustix::mount::{FsOpenFlags, MountPropagationFlags, fsopen, mount_change};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::UnshareFlags;

use super::{ENTERED, Identity, identity, is_privileged, map, unshare};

/// The oldest kernel with everything the sandbox uses: `mount_setattr(2)` came last.
const OLDEST_KERNEL: (u32, u32) = (5, 12);

const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// Why the embedded engine cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The kernel lacks system calls the sandbox is made of.
    #[error("Linux {release} is too old: the embedded engine needs {}.{} or later", OLDEST_KERNEL.0, OLDEST_KERNEL.1)]
    OldKernel {
        /// What `uname -r` says.
        release: String,
    },
    /// User namespaces are switched off for everybody.
    #[error("user namespaces are switched off on this machine (user.max_user_namespaces is 0)")]
    SwitchedOff,
    /// User namespaces are kept for root, as on hardened Debian kernels.
    #[error("user namespaces are kept for root on this machine (kernel.unprivileged_userns_clone is 0)")]
    KeptForRoot,
    /// AppArmor takes all rights away from an ordinary user's namespaces, as on Ubuntu 24.04.
    #[error("AppArmor restricts user namespaces on this machine (kernel.apparmor_restrict_unprivileged_userns is 1)")]
    AppArmor,
    /// The kernel, or a seccomp filter around this process, said no.
    #[error("the system refuses new namespaces")]
    Refused {
        /// What it said.
        source: io::Error,
    },
    /// A user namespace was made, but no ids could be mapped into it.
    #[error("the system refuses to map ids into a user namespace")]
    Mapping {
        /// What it said.
        source: io::Error,
    },
}

impl Reported for Unusable {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::new(codes::engine::NO_NAMESPACES, self.to_string());
        let elsewhere = "or use another engine: `--engine docker`, or `--builder URL` of a buildkitd";
        match self {
            Self::OldKernel { .. } => diagnostic.help("use another engine: `--engine docker`, or `--builder URL` of a buildkitd"),
            Self::SwitchedOff => diagnostic
                .help("run `sudo sysctl -w user.max_user_namespaces=15000`, or run clawbuild as root")
                .help(elsewhere),
            Self::KeptForRoot => diagnostic
                .help("run `sudo sysctl -w kernel.unprivileged_userns_clone=1`, or run clawbuild as root")
                .help(elsewhere),
            Self::AppArmor => diagnostic
                .help("run `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or run clawbuild as root")
                .help(elsewhere),
            Self::Refused { .. } | Self::Mapping { .. } => diagnostic
                .caused_by(self)
                .help("inside a container, give it `--privileged`, or `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`")
                .help(elsewhere),
        }
    }
}

/// Something that works less well than it could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limitation {
    /// `newuidmap` and `newgidmap` are not installed, so only one id can be mapped.
    NoMapPrograms,
    /// The account has no range of ids in `/etc/subuid` and `/etc/subgid`.
    NoSubordinateIds,
    /// Overlay mounts are not to be had: trees are copied instead, which is slow.
    NoOverlay,
}

impl Limitation {
    /// What it means, as one line.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        match self {
            Self::NoMapPrograms => "newuidmap and newgidmap are missing: steps can only run as root of their sandbox",
            Self::NoSubordinateIds => {
                "this account has no subordinate ids: steps can only run as root of their sandbox"
            }
            Self::NoOverlay => "this kernel offers no overlayfs here: file trees are copied for each step",
        }
    }

    /// How to mend it, as one line.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        match self {
            Self::NoMapPrograms => "install them: `sudo apt-get install uidmap`",
            Self::NoSubordinateIds => {
                "grant a range: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER`"
            }
            Self::NoOverlay => "load it: `sudo modprobe overlay`; an ordinary user needs Linux 5.11 or later",
        }
    }
}

/// What the embedded engine will find here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who the process is, or will be once it has entered.
    pub identity: Identity,
    /// What works less well than it could.
    pub limitations: Vec<Limitation>,
}

/// Looks whether [`super::enter`] would succeed, and what it would give. Changes nothing; may be called at any time, also
/// with threads running. Once it has succeeded there is nothing to look at, and limitations are not told again.
///
/// # Errors
/// [`Unusable`].
pub fn probe() -> Result<Probe, Unusable> {
    if ENTERED.load(Ordering::Relaxed) {
        return Ok(Probe { identity: identity(), limitations: Vec::new() });
    }
    let mut limitations = Vec::new();
    let identity = if is_privileged() {
        check_kernel()?;
        identity()
    } else {
        check_host()?;
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        match (map::programs_installed(), map::Maps::subordinate(uid, gid)) {
            (true, Some(_)) => Identity::RootlessRange,
            (true, None) => {
                limitations.push(Limitation::NoSubordinateIds);
                Identity::RootlessSingle
            }
            (false, _) => {
                limitations.push(Limitation::NoMapPrograms);
                Identity::RootlessSingle
            }
        }
    };
    match attempt() {
        Attempt::Worked => {}
        Attempt::NoOverlay => limitations.push(Limitation::NoOverlay),
        Attempt::Refused(source) => return Err(refusal(source)),
    }
    Ok(Probe { identity, limitations })
}

/// What can be known of an ordinary user's chances from settings alone; tried out only where settings do not tell.
pub(super) fn check_host() -> Result<(), Unusable> {
    check_kernel()?;
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return Err(Unusable::SwitchedOff);
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return Err(Unusable::KeptForRoot);
    }
    if is(APPARMOR, "1") {
        // A profile for this very program may lift the restriction. The namespace could be entered either way, but
        // without rights in it the process would be worse off than before.
        if let Attempt::Refused(_) = attempt() {
            return Err(Unusable::AppArmor);
        }
    }
    Ok(())
}

fn check_kernel() -> Result<(), Unusable> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST_KERNEL { Err(Unusable::OldKernel { release }) } else { Ok(()) }
}

fn refusal(source: io::Error) -> Unusable {
    if fs::read_to_string(APPARMOR).is_ok_and(|text| text.trim() == "1") {
        Unusable::AppArmor
    } else {
        Unusable::Refused { source }
    }
}

enum Attempt {
    Worked,
    NoOverlay,
    Refused(io::Error),
}

/// Goes through the steps of [`super::enter`] in a child that ends right after.
fn attempt() -> Attempt {
    const NO_OVERLAY: i32 = 254;
    let flags = if is_privileged() { UnshareFlags::NEWNS } else { UnshareFlags::NEWUSER | UnshareFlags::NEWNS };
    #[expect(unsafe_code, reason = "fork(2) has no safe form")]
    // SAFETY: the child makes system calls on constant strings and numbers only: it neither allocates nor takes locks.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // Errors of these calls are small numbers, so they fit into an exit status.
        let entered = unshare(flags)
            .and_then(|()| Ok(mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?));
        let status = match (entered, fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)) {
            (Err(error), _) => error.raw_os_error().unwrap_or(libc::EPERM),
            (Ok(()), Err(_)) => NO_OVERLAY,
            (Ok(()), Ok(_)) => 0,
        };
        #[expect(unsafe_code, reason = "leaving without running what belongs to the parent")]
        // SAFETY: `_exit` ends the process at once and touches no memory.
        unsafe {
            libc::_exit(status)
        }
    }
    let Some(child) = Pid::from_raw(child) else { return Attempt::Refused(io::Error::last_os_error()) };
    match waitpid(Some(child), WaitOptions::empty()) {
        Ok(Some((_, status))) => match status.exit_status() {
            Some(0) => Attempt::Worked,
            Some(NO_OVERLAY) => Attempt::NoOverlay,
            Some(error) => Attempt::Refused(io::Error::from_raw_os_error(error)),
            None => Attempt::Refused(io::Error::from_raw_os_error(libc::EPERM)),
        },
        Ok(None) | Err(_) => Attempt::Refused(io::Error::last_os_error()),
    }
}
