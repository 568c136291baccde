//! Overlay mounts. Spec: Linux `Documentation/filesystems/overlayfs.rst`.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use rustix::thread::UnshareFlags;

use super::{Method, MountError, Mounter, Place};

/// The kernel cuts option values off here (`strndup_user` in `fsconfig`).
const VALUE_LIMIT: usize = 255;

/// Options every overlay has. A snapshot must mean the same wherever it is used, so nothing that refers from one layer
/// to another by anything but its path may be written into it.
fn options(rootless: bool) -> &'static [(&'static str, &'static str)] {
    if rootless {
        // Marks go into `user.overlay.*`, which an ordinary user may write. Implies the others.
        &[("userxattr", "")]
    } else {
        &[("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")]
    }
}

/// Mounts `layers`, lowest first, on the place's `tree`.
pub(super) fn mount(
    mounter: &Mounter,
    place: &Place,
    method: Method,
    layers: &[&Path],
    upper: Option<&Path>,
) -> Result<(), MountError> {
    let mut lowers: Vec<PathBuf> = layers.iter().rev().map(|&path| path.to_owned()).collect();
    // Overlayfs wants two directories at least, one of them lower.
    let directories = lowers.len() + usize::from(upper.is_some());
    if lowers.is_empty() || directories < 2 {
        lowers.push(mounter.empty());
    }
    let upper = upper.map(|upper| Ok::<_, MountError>((upper, place.work()?))).transpose()?;
    let upper = upper.as_ref().map(|(upper, work)| (*upper, work.as_path()));
    let mounted = match method {
        Method::Overlay => by_descriptors(mounter.0.rootless, &lowers, upper, &place.tree()),
        Method::OverlayByOptions => by_options(mounter.0.rootless, &lowers, upper, place),
        Method::Copy => Err(io::Error::from(io::ErrorKind::Unsupported)),
    };
    mounted.map_err(|source| MountError::Overlay { layers: layers.len(), source })
}

fn by_descriptors(rootless: bool, lowers: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path) -> io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", "overlay")?;
    let mut opened = Vec::new();
    for lower in lowers {
        set_path(&context, "lowerdir+", lower, &mut opened)?;
    }
    if let Some((upper, work)) = upper {
        set_path(&context, "upperdir", upper, &mut opened)?;
        set_path(&context, "workdir", work, &mut opened)?;
        // No step's `fsync` has to wait for the disk: what is kept is synced as a whole, the rest never.
        fsconfig_set_flag(context.as_fd(), "volatile")?;
    }
    for (name, value) in options(rootless) {
        if value.is_empty() {
            fsconfig_set_flag(context.as_fd(), *name)?;
        } else {
            fsconfig_set_string(context.as_fd(), *name, *value)?;
        }
    }
    fsconfig_create(context.as_fd())?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    if upper.is_none() {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let detached = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(detached.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// Sets an option to a path, by way of a descriptor where the path is too long to be given as it is.
fn set_path(context: &OwnedFd, key: &str, path: &Path, opened: &mut Vec<OwnedFd>) -> io::Result<()> {
    if path.as_os_str().len() <= VALUE_LIMIT {
        return Ok(fsconfig_set_string(context.as_fd(), key, path)?);
    }
    let directory = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    fsconfig_set_string(context.as_fd(), key, format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    opened.push(directory);
    Ok(())
}

/// The way of kernels before 6.5: all options in one page. Names are kept short by links in a directory the mounting
/// thread makes its own working directory.
fn by_options(rootless: bool, lowers: &[PathBuf], upper: Option<(&Path, &Path)>, place: &Place) -> io::Result<()> {
    let links = place.directory.join("links");
    fs::create_dir(&links)?;
    let mut options: Vec<String> = options(rootless)
        .iter()
        .map(|(name, value)| if value.is_empty() { (*name).to_owned() } else { format!("{name}={value}") })
        .collect();
    for (number, lower) in lowers.iter().enumerate() {
        std::os::unix::fs::symlink(lower, links.join(number.to_string()))?;
    }
    let numbers: Vec<String> = (0..lowers.len()).map(|number| number.to_string()).collect();
    options.push(format!("lowerdir={}", numbers.join(":")));
    let mut flags = MountFlags::NODEV;
    match upper {
        Some((upper, work)) => {
            std::os::unix::fs::symlink(upper, links.join("u"))?;
            std::os::unix::fs::symlink(work, links.join("w"))?;
            options.extend(["upperdir=u", "workdir=w", "volatile"].map(str::to_owned));
        }
        None => flags |= MountFlags::RDONLY,
    }
    let options = CString::new(options.join(","))?;
    if options.as_bytes().len() >= rustix::param::page_size() {
        return Err(io::Error::from(io::ErrorKind::ArgumentListTooLong));
    }
    let target = CString::new(place.tree().as_os_str().as_bytes())?;
    let mounted = std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> io::Result<()> {
            #[expect(unsafe_code, reason = "unshare(2) can give threads different descriptor tables")]
            // SAFETY: only the working directory is unshared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
            rustix::process::chdir(&links)?;
            rustix::mount::mount("overlay", target.as_c_str(), "overlay", flags, options.as_c_str())?;
            Ok(())
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
    });
    mounted?;
    fs::remove_dir_all(&links)
}

/// Whether the method gives trees that behave: some combinations of kernel and filesystem mount, and then fail on the
/// first directory that is deleted and made again.
pub(super) fn works(mounter: &Mounter, method: Method) -> bool {
    let attempt = || -> Result<(), MountError> {
        let place = Place::new(&mounter.0)?;
        let (lower, upper) = (place.directory.join("lower"), place.directory.join("upper"));
        let io = |action, result: io::Result<()>| result.map_err(MountError::io(action, &place.directory));
        io("create a directory in", fs::create_dir_all(lower.join("a/b")))?;
        io("create a directory in", fs::create_dir(&upper))?;
        let tree = super::Tree::overlaid(mounter, place, method, &[&lower], Some(&upper))?;
        let again = tree.path().join("a");
        let changed = fs::remove_dir_all(&again).and_then(|()| fs::create_dir(&again));
        changed.map_err(MountError::io("change", &again))
    };
    attempt().is_ok()
}
