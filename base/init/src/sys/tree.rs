//! What is below a directory.
#![expect(unsafe_code, reason = "system calls that read memory")]

use alloc::vec::Vec;

use super::file::{self, Fd, Status};
use super::{address, arch, argument, c_string, call_with_addresses, Errno};

const AT_SYMLINK_NOFOLLOW: i32 = 0x100;
const AT_EMPTY_PATH: i32 = 0x1000;
const AT_FDCWD: i32 = -100;
/// How deep directories may nest. Each level takes a descriptor, of which there are some thousand at most.
const MAX_DEPTH: usize = 200;

/// A directory that is open. Nobody can put another in its place any more.
#[derive(Debug)]
pub(crate) struct Directory(Fd);

impl Directory {
    /// Opens a directory.
    ///
    /// # Errors
    /// It is not there, or something else is, such as a link.
    pub(crate) fn open(path: &str) -> Result<Self, Errno> {
        file::open_at(AT_FDCWD, path.as_bytes(), arch::O_DIRECTORY | arch::O_NOFOLLOW, 0).map(Self)
    }

    /// What is known of it.
    pub(crate) fn status(&self) -> Result<Status, Errno> {
        file::status_at(self.0.number(), b"", AT_EMPTY_PATH)
    }

    /// Gives it to another owner, and with it everything below that was its owner's before. Links are not followed, and other
    /// mounts are left alone. It comes last itself, so that a change that was cut short is seen to be.
    pub(crate) fn give(&self, to: (u32, u32)) -> Result<(), Errno> {
        let Status { uid, device, .. } = self.status()?;
        self.give_below(&Change { from: uid, to, device }, 0)?;
        self.change_owner(b"", to)
    }

    fn give_below(&self, change: &Change, depth: usize) -> Result<(), Errno> {
        if depth > MAX_DEPTH {
            return Err(Errno::ENAMETOOLONG);
        }
        for name in file::names_in(&self.0)? {
            match self.give_entry(&name, change, depth) {
                // Another container has the same volume, and removed or replaced it just now.
                Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn give_entry(&self, name: &[u8], change: &Change, depth: usize) -> Result<(), Errno> {
        let status = file::status_at(self.0.number(), name, AT_SYMLINK_NOFOLLOW)?;
        if status.is_mount || (status.is_dir && status.device != change.device) {
            return Ok(());
        }
        if status.is_dir {
            let flags = arch::O_DIRECTORY | arch::O_NOFOLLOW;
            Self(file::open_at(self.0.number(), name, flags, 0)?).give_below(change, depth + 1)?;
        }
        if status.uid == change.from {
            self.change_owner(name, change.to)?;
        }
        Ok(())
    }

    /// Gives what has that name in it to another owner, or itself for no name.
    fn change_owner(&self, name: &[u8], (uid, gid): (u32, u32)) -> Result<(), Errno> {
        let name: Vec<u8> = c_string(name)?;
        let flags = argument(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH);
        let arguments = [argument(self.0.number()), address(name.as_ptr()), argument(uid), argument(gid), flags];
        // SAFETY: the kernel reads the name as far as its null character.
        unsafe { call_with_addresses(arch::FCHOWNAT, arguments)? };
        Ok(())
    }
}

/// What is given to whom.
struct Change {
    /// Whose things.
    from: u32,
    to: (u32, u32),
    /// The file system they are in.
    device: (u32, u32),
}
