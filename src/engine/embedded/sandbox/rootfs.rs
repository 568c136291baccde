//! Putting together what a step sees. Runs as process 1 of the new namespaces, before it gives up its privileges.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::{Gid, Uid};

use super::account::Person;
use super::attach::{Detached, NO_DEVICES, restrict_top};
use super::error::Refusal;
use super::message::Request;
use super::spec::{Mount, MountSource, Network, Security, Spec};
use crate::embedded::mount::{Root, is};
use crate::userns::Identity;

/// Neither devices nor set-uid programs nor programs at all.
const INERT: MountAttrFlags =
    NO_DEVICES.union(MountAttrFlags::MOUNT_ATTR_NOSUID).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// Devices of this machine a step gets.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What runc hides from containers. Spec: containerd `pkg/oci/spec.go`.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/scsi",
];
/// What runc lets containers only read.
const PROTECTED: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const HOSTS: &str = "/etc/hosts";
const RESOLVER: &str = "/etc/resolv.conf";

/// Paths at which something gets mounted, and which may have to be made for that.
pub(super) fn targets(spec: &Spec) -> impl Iterator<Item = &str> {
    ["/proc", "/dev", "/sys", HOSTS, RESOLVER].into_iter().chain(spec.mounts.iter().map(|mount| mount.target.as_str()))
}

/// The root filesystem, before and while things are mounted into it.
pub(super) struct Rootfs<'a> {
    spec: &'a Spec,
    identity: Identity,
    root: OwnedFd,
    files: OwnedFd,
}

impl<'a> Rootfs<'a> {
    /// Mounts the bare root filesystem on itself, so that it can become the root, and a place for files in memory.
    pub(super) fn open(request: &'a Request) -> Result<Self, Refusal> {
        let spec = &request.spec;
        let refused = |action: &str| format!("{action} `{}`", spec.root.display());
        let below = open_path(&spec.root).map_err(Refusal::setup(refused("open the root filesystem")))?;
        let root = Detached::bind(&spec.root)
            .and_then(|mount| mount.restrict(NO_DEVICES)?.attach(below.as_fd()))
            .map_err(Refusal::setup(refused("mount the root filesystem")))?;
        // Secrets lie here, so it should not be swapped out either; only root of the machine may ask for that.
        let files = Detached::filesystem("tmpfs", &[("mode", "0700"), ("noswap", "")], INERT)
            .or_else(|_| Detached::filesystem("tmpfs", &[("mode", "0700")], INERT))
            .and_then(|mount| mount.attach(open_path(&request.staging)?.as_fd()))
            .map_err(Refusal::setup("make a filesystem in memory"))?;
        Ok(Self { spec, identity: request.identity, root, files })
    }

    pub(super) fn root(&self) -> Root<'_> {
        Root::new(self.root.as_fd())
    }

    /// Makes the working directory and those above it the user's, where they are not there.
    pub(super) fn make_working_directory(&self, person: &Person) -> Result<(), Refusal> {
        let make = || -> io::Result<()> {
            let path = self.root().resolve(Path::new(&self.spec.cwd))?;
            for made in self.make_directories(&path)? {
                match rustix::fs::fchown(&made, Some(Uid::from_raw(person.uid)), Some(Gid::from_raw(person.gid))) {
                    // With a single id, everything is the step's own anyway.
                    Err(Errno::INVAL) if !self.identity.owns_all() => {}
                    result => result?,
                }
            }
            Ok(())
        };
        match make() {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(Refusal::WorkingDirectory(self.spec.cwd.clone()))
            }
            result => result.map_err(Refusal::setup(format!("make the working directory `{}`", self.spec.cwd))),
        }
    }

    /// Mounts everything.
    pub(super) fn mount(&self) -> Result<(), Refusal> {
        self.mount_proc().map_err(Refusal::setup("mount /proc"))?;
        self.mount_devices().map_err(Refusal::setup("mount /dev"))?;
        self.mount_sys().map_err(Refusal::setup("mount /sys"))?;
        self.mount_file(HOSTS, "hosts", hosts(self.spec).as_bytes()).map_err(Refusal::setup("mount /etc/hosts"))?;
        self.mount_file(RESOLVER, "resolv.conf", &resolver(self.spec.network))
            .map_err(Refusal::setup("mount /etc/resolv.conf"))?;
        for (number, mount) in self.spec.mounts.iter().enumerate() {
            self.mount_one(number, mount)?;
        }
        match self.spec.security {
            Security::Sandbox => self.hide().map_err(Refusal::setup("hide parts of /proc and /sys"))?,
            Security::Insecure => {}
        }
        if self.spec.read_only_root {
            restrict_top(self.root.as_fd(), READ_ONLY).map_err(Refusal::setup("make the root filesystem read-only"))?;
        }
        Ok(())
    }

    /// Makes it the root of this process, and takes everything else away.
    pub(super) fn enter(self) -> Result<(), Refusal> {
        let enter = || -> io::Result<()> {
            rustix::process::fchdir(&self.root)?;
            rustix::process::pivot_root(".", ".")?;
            rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
            Ok(rustix::process::chdir("/")?)
        };
        enter().map_err(Refusal::setup("enter the root filesystem"))
    }

    fn mount_proc(&self) -> io::Result<()> {
        Detached::filesystem("proc", &[], INERT)?.attach(self.directory("/proc")?.as_fd()).map(drop)
    }

    fn mount_sys(&self) -> io::Result<()> {
        let target = self.directory("/sys")?;
        let Ok(sys) = Detached::filesystem("sysfs", &[], INERT.union(READ_ONLY)) else {
            // It shows the network, so it can be mounted only by who owns the network namespace.
            let host = Detached::bind_all(Path::new("/sys"))?.restrict(INERT.union(READ_ONLY))?;
            return host.attach(target.as_fd()).map(drop);
        };
        sys.attach(target.as_fd())?;
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            let target = self.directory("/sys/fs/cgroup")?;
            // Programs look here for limits. Where it cannot be mounted they find none.
            let _ = Detached::filesystem("cgroup2", &[], INERT.union(READ_ONLY))
                .and_then(|mount| mount.attach(target.as_fd()));
        }
        Ok(())
    }

    fn mount_devices(&self) -> io::Result<()> {
        let attributes = NO_DEVICES.union(MountAttrFlags::MOUNT_ATTR_NOSUID);
        let tmpfs = Detached::filesystem("tmpfs", &[("mode", "0755"), ("size", "65536k")], attributes)?;
        let dev = tmpfs.attach(self.directory("/dev")?.as_fd())?;
        for name in DEVICES {
            let device = match Detached::bind(&Path::new("/dev").join(name)) {
                Ok(device) => device,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            device.attach(make_file(dev.as_fd(), name, 0o666)?.as_fd())?;
        }
        for (name, target) in DEVICE_LINKS {
            rustix::fs::symlinkat(target, &dev, name)?;
        }
        let shared = [("mode", "1777"), ("size", "65536k")];
        // Group 5 is `tty` wherever there is one.
        let terminals: &[_] = match self.identity {
            Identity::Root | Identity::RootlessRange => &[("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")],
            Identity::RootlessSingle => &[("ptmxmode", "0666"), ("mode", "0620")],
        };
        let terminal_attributes = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
        for (name, kind, options, attributes) in [
            ("shm", "tmpfs", &shared[..], INERT),
            ("mqueue", "mqueue", &[], INERT),
            ("pts", "devpts", terminals, terminal_attributes),
        ] {
            rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755))?;
            let target = rustix::fs::openat(&dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            Detached::filesystem(kind, options, attributes)?.attach(target.as_fd())?;
        }
        Ok(())
    }

    /// Mounts a read-only file with this content.
    fn mount_file(&self, target: &str, name: &str, content: &[u8]) -> io::Result<()> {
        let file = self.keep(name, content, 0o644, (0, 0))?;
        let mount = Detached::bind_opened(file.as_fd())?.restrict(INERT.union(READ_ONLY))?;
        mount.attach(self.file(target)?.as_fd()).map(drop)
    }

    /// Writes a file that lies in memory only.
    fn keep(&self, name: &str, content: &[u8], mode: u32, owner: (u32, u32)) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = fs::File::from(rustix::fs::openat(&self.files, name, flags, Mode::from_raw_mode(0o600))?);
        file.write_all(content)?;
        match rustix::fs::fchown(&file, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1))) {
            Err(Errno::INVAL) if !self.identity.owns_all() => {}
            result => result?,
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(rustix::fs::openat(&self.files, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn mount_one(&self, number: usize, mount: &Mount) -> Result<(), Refusal> {
        let target = mount.target.as_str();
        let refused = || Refusal::setup(format!("mount `{target}`"));
        match &mount.source {
            MountSource::Bind { path, selector, read_only } => {
                let source = open_path(path).map_err(refused())?;
                let source = select(source, selector, target)?;
                let restrictions = if *read_only { NO_DEVICES.union(READ_ONLY) } else { NO_DEVICES };
                let bind = || -> io::Result<()> {
                    let directory = is(&rustix::fs::fstat(&source)?, FileType::Directory);
                    let point = if directory { self.directory(target)? } else { self.file(target)? };
                    Detached::bind_opened(source.as_fd())?.restrict(restrictions)?.attach(point.as_fd()).map(drop)
                };
                bind().map_err(refused())
            }
            MountSource::Tmpfs { size } => {
                let size = size.map(|size| size.to_string());
                let mut options = vec![("mode", "1777")];
                options.extend(size.as_ref().map(|size| ("size", size.as_str())));
                let attributes = NO_DEVICES.union(MountAttrFlags::MOUNT_ATTR_NOSUID);
                let mount = Detached::filesystem("tmpfs", &options, attributes).map_err(refused())?;
                let point = self.directory(target).map_err(refused())?;
                mount.attach(point.as_fd()).map(drop).map_err(refused())
            }
            MountSource::Secret { content, mode, uid, gid } => {
                let bind = || -> io::Result<()> {
                    let file = self.keep(&format!("secret-{number}"), &content.0, *mode, (*uid, *gid))?;
                    let mount = Detached::bind_opened(file.as_fd())?.restrict(INERT.union(READ_ONLY))?;
                    mount.attach(self.file(target)?.as_fd()).map(drop)
                };
                bind().map_err(refused())
            }
        }
    }

    fn hide(&self) -> io::Result<()> {
        let opened = |path: &str| match self.root().open(Path::new(path), OFlags::PATH, Mode::empty()) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        for path in MASKED {
            let Some(target) = opened(path)? else { continue };
            let cover = if is(&rustix::fs::fstat(&target)?, FileType::Directory) {
                Detached::filesystem("tmpfs", &[("size", "0"), ("mode", "0555")], INERT.union(READ_ONLY))?
            } else {
                Detached::bind(Path::new("/dev/null"))?
            };
            cover.attach(target.as_fd())?;
        }
        for path in PROTECTED {
            let Some(target) = opened(path)? else { continue };
            Detached::bind_opened(target.as_fd())?.restrict(INERT.union(READ_ONLY))?.attach(target.as_fd())?;
        }
        Ok(())
    }

    /// The directory a path leads to inside the root, made if it is not there.
    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let resolved = self.root().resolve(Path::new(path))?;
        self.make_directories(&resolved)?;
        self.root().open(&resolved, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    /// The file a path leads to inside the root, made if it is not there.
    fn file(&self, path: &str) -> io::Result<OwnedFd> {
        let resolved = self.root().resolve(Path::new(path))?;
        self.make_directories(resolved.parent().unwrap_or(Path::new("")))?;
        match self.root().open(&resolved, OFlags::PATH, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW;
        self.root().open(&resolved, flags, Mode::from_raw_mode(0o644))
    }

    /// Makes the directories of a resolved path that are not there, and opens those.
    fn make_directories(&self, resolved: &Path) -> io::Result<Vec<OwnedFd>> {
        let mut paths: Vec<&Path> = resolved.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        paths.reverse();
        let mut made = Vec::new();
        for path in paths {
            match rustix::fs::mkdirat(&self.root, path, Mode::from_raw_mode(0o755)) {
                Ok(()) => made.push(self.root().open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?),
                Err(Errno::EXIST) => {
                    if !is(&self.root().stat(path)?, FileType::Directory) {
                        return Err(Errno::NOTDIR.into());
                    }
                }
                // Reading it may still be possible: a mount point deeper down can exist.
                Err(Errno::ROFS) if self.root().stat(path).is_ok() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(made)
    }
}

/// What of a mount's source is mounted.
fn select(source: OwnedFd, selector: &str, target: &str) -> Result<OwnedFd, Refusal> {
    if selector.is_empty() || selector == "/" {
        return Ok(source);
    }
    let root = Root::new(source.as_fd());
    let selected = root.resolve(Path::new(selector)).and_then(|path| root.open(&path, OFlags::PATH, Mode::empty()));
    selected.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Refusal::NoMountSource { target: target.to_owned(), selector: selector.to_owned() }
        }
        _ => Refusal::setup(format!("open `{selector}`, to be mounted at `{target}`"))(error),
    })
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn make_file(directory: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(mode))?;
    let _ = rustix::fs::chmodat(directory, name, Mode::from_raw_mode(mode), AtFlags::empty());
    Ok(file)
}

/// BuildKit's `/etc/hosts`.
fn hosts(spec: &Spec) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n", spec.hostname);
    for (name, address) in &spec.extra_hosts {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text
}

/// This machine's resolver for steps that share its network; nothing for the others, so that lookups fail at once.
fn resolver(network: Network) -> Vec<u8> {
    match network {
        Network::Host => fs::read(RESOLVER).unwrap_or_default(),
        Network::None | Network::Private(_) => Vec::new(),
    }
}
