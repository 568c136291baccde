//! The user and mount namespaces the whole process lives in.
//!
//! [`enter`] runs once, at the very start of `main`, while the process has one thread. Afterwards the process may mount
//! what it likes, nobody else sees it, and the kernel undoes it however the process ends. Root only needs a private mount
//! namespace. An ordinary user first becomes root of a user namespace; nothing is executed anew for that, so there is no
//! second process, and signals and the exit status need no forwarding.

mod map;
mod probe;

pub use probe::{Limitation, Probe, Unusable, probe};

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, UnshareFlags};

/// Who this process is in the kernel's eyes, which decides what owners its files can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Identity {
    /// Root of the machine.
    Root,
    /// Root of a user namespace in which every id an image uses stands for some id of the machine.
    RootlessRange,
    /// Root of a user namespace that holds nobody else: every file belongs to the one user.
    RootlessSingle,
}

impl Identity {
    /// Whether files can be given any owner. Otherwise owners have to be recorded beside the files.
    #[must_use]
    pub const fn owns_all(self) -> bool {
        match self {
            Self::Root | Self::RootlessRange => true,
            Self::RootlessSingle => false,
        }
    }

    /// Whether the process lives in a user namespace other than the machine's first.
    #[must_use]
    pub const fn is_rootless(self) -> bool {
        match self {
            Self::Root => false,
            Self::RootlessRange | Self::RootlessSingle => true,
        }
    }
}

/// Which ids an ordinary user's namespace is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// All an image can use where the machine grants them (`newuidmap`, `/etc/subuid`), the user alone otherwise.
    Widest,
    /// The user alone.
    Single,
}

/// Whether this process has entered: then nobody has to try whether it could.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Enters the namespaces. Call it before any thread is started; root keeps its ids whatever `ids` says.
///
/// # Errors
/// [`Unusable`]. After [`Unusable::Mapping`] the process is nobody in a namespace without ids and should end; after the
/// others it is as it was.
pub fn enter(ids: Ids) -> Result<Identity, Unusable> {
    if is_privileged() {
        enter_mounts().map_err(|source| Unusable::Refused { source })?;
        ENTERED.store(true, Ordering::Relaxed);
        return Ok(identity());
    }
    probe::check_host()?;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let maps = match ids {
        Ids::Widest if map::programs_installed() => map::Maps::subordinate(uid, gid),
        Ids::Widest | Ids::Single => None,
    };
    match maps {
        Some(maps) => enter_with(&maps, uid, gid),
        None => enter_user(uid, gid),
    }?;
    enter_mounts().map_err(|source| Unusable::Refused { source })?;
    ENTERED.store(true, Ordering::Relaxed);
    Ok(identity())
}

/// Who this process is now. What matters is what it says after [`enter`].
#[must_use]
pub fn identity() -> Identity {
    let mapped = |path| fs::read_to_string(path).map_or(0, |text| map::mapped(&text));
    let ids = mapped("/proc/self/uid_map").min(mapped("/proc/self/gid_map"));
    match (map::is_initial(ids), rustix::process::geteuid().is_root()) {
        (true, true) => Identity::Root,
        (false, true) if map::is_full(ids) => Identity::RootlessRange,
        (true | false, _) => Identity::RootlessSingle,
    }
}

/// Whether the process may mount where it is.
fn is_privileged() -> bool {
    rustix::process::geteuid().is_root()
        && rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    #[expect(unsafe_code, reason = "unshare(2) can give threads different descriptor tables")]
    // SAFETY: no flag used here unshares the descriptor table.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// A mount namespace whose changes nobody else sees.
fn enter_mounts() -> io::Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    Ok(())
}

fn enter_user(uid: Uid, gid: Gid) -> Result<(), Unusable> {
    unshare(UnshareFlags::NEWUSER).map_err(|source| Unusable::Refused { source })?;
    map::write_single(uid, gid).map_err(|source| Unusable::Mapping { source })
}

/// Enters a user namespace whose maps are written from outside, by a child that stays there just for that. Where the
/// host's programs refuse, the user alone is mapped.
fn enter_with(maps: &map::Maps, uid: Uid, gid: Gid) -> Result<(), Unusable> {
    let mapping = |source| Unusable::Mapping { source };
    let this = rustix::process::getpid();
    let (mut ready, mut entered) = io::pipe().map_err(mapping)?;
    #[expect(unsafe_code, reason = "fork(2) has no safe form")]
    // SAFETY: `enter` is called while the process has one thread, so the child may do whatever the parent could.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(entered);
        let written = ready.read_exact(&mut [0]).and_then(|()| maps.write(this));
        #[expect(unsafe_code, reason = "leaving without running what belongs to the parent")]
        // SAFETY: `_exit` ends the process at once and touches no memory.
        unsafe {
            libc::_exit(i32::from(written.is_err()))
        }
    }
    drop(ready);
    let child = rustix::process::Pid::from_raw(child).ok_or_else(|| mapping(io::Error::last_os_error()))?;
    let unshared = unshare(UnshareFlags::NEWUSER).map_err(|source| Unusable::Refused { source });
    if unshared.is_ok() {
        entered.write_all(&[0]).map_err(mapping)?;
    }
    // Closing the pipe without a byte in it sends the child away.
    drop(entered);
    let status = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
    unshared?;
    match status {
        Ok(Some((_, status))) if status.exit_status() == Some(0) => Ok(()),
        _ => map::write_single(uid, gid).map_err(mapping),
    }
}
