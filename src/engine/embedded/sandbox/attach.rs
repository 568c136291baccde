//! Mounts made apart from any path and then put in place, by descriptors. Spec: `mount_setattr(2)`, `open_tree(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// No devices: the only ones a step may use are those bound into its `/dev`.
pub(super) const NO_DEVICES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;

/// A mount that is not in place yet.
#[derive(Debug)]
pub(super) struct Detached(OwnedFd);

impl Detached {
    /// A new filesystem. Options without a value are flags.
    pub(super) fn filesystem(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<Self> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (name, value) in options {
            if value.is_empty() {
                fsconfig_set_flag(context.as_fd(), *name)?;
            } else {
                fsconfig_set_string(context.as_fd(), *name, *value)?;
            }
        }
        fsconfig_create(context.as_fd())?;
        Ok(Self(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
    }

    /// What is visible at a path of this process.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        Ok(Self(open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?))
    }

    /// What is visible at a path of this process, and all that is mounted below.
    pub(super) fn bind_all(path: &Path) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        Ok(Self(open_tree(CWD, path, flags)?))
    }

    /// An open file or directory.
    pub(super) fn bind_opened(file: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        Ok(Self(open_tree(file, "", flags)?))
    }

    /// Adds restrictions to it, and to all mounted below.
    pub(super) fn restrict(self, attributes: MountAttrFlags) -> io::Result<Self> {
        restrict(self.0.as_fd(), attributes)?;
        Ok(self)
    }

    /// Puts it in place on an open file or directory. The result is the root of what is mounted.
    pub(super) fn attach(self, target: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(self.0.as_fd(), "", target, "", flags)?;
        Ok(self.0)
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Adds restrictions to the mount an open file lies on, and to all mounted below.
pub(super) fn restrict(mount: BorrowedFd<'_>, attributes: MountAttrFlags) -> io::Result<()> {
    set_attributes(mount, attributes, libc::AT_RECURSIVE)
}

/// Adds restrictions to the mount an open file lies on, alone.
pub(super) fn restrict_top(mount: BorrowedFd<'_>, attributes: MountAttrFlags) -> io::Result<()> {
    set_attributes(mount, attributes, 0)
}

fn set_attributes(mount: BorrowedFd<'_>, attributes: MountAttrFlags, flags: libc::c_int) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: u64::from(attributes.bits()), attr_clr: 0, propagation: 0, userns_fd: 0 };
    #[expect(unsafe_code, reason = "mount_setattr(2) has no safe form")]
    // SAFETY: the path is a constant string and the attributes outlive the call, with their true size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
