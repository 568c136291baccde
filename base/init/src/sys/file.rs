//! Files and directories.
#![expect(unsafe_code, reason = "system calls that read and write memory")]

use alloc::vec;
use alloc::vec::Vec;

use super::{address, arch, argument, c_string, call, call_with_addresses, small, Errno};

const AT_FDCWD: i32 = -100;
const O_WRONLY: i32 = 0o1;
const O_CREAT: i32 = 0o100;
const O_EXCL: i32 = 0o200;
const O_CLOEXEC: i32 = 0o2_000_000;
/// Type, mode, owner, size: what [`Status`] holds.
const STATX_WANTED: usize = 0x1 | 0x2 | 0x8 | 0x10 | 0x200;
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;
const S_IFMT: u16 = 0o170_000;
const S_IFDIR: u16 = 0o040_000;

/// An open file, closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Fd(i32);

impl Fd {
    /// Takes over an open descriptor.
    pub(super) fn new(number: usize) -> Self {
        Self(small(number))
    }

    /// The descriptor's number.
    pub(crate) fn number(&self) -> i32 {
        self.0
    }

    /// Reads what is there, at most as much as the buffer holds; nothing at the end.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the kernel writes at most the buffer's length into it.
        unsafe { call_with_addresses(arch::READ, [argument(self.0), address(buffer.as_mut_ptr()), buffer.len()]) }
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // The descriptor is gone whatever the kernel says.
        let _ = call(arch::CLOSE, [argument(self.0)]);
    }
}

/// What is known of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) is_dir: bool,
    /// Its permissions.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Of the file system it is in.
    pub(crate) device: (u32, u32),
    /// Whether something is mounted there. Kernels before 5.8 do not tell.
    pub(crate) is_mount: bool,
}

/// `struct statx`, as far as it is of use here.
#[repr(C)]
#[derive(Default)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    links: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    spare: u16,
    sizes: [u64; 4],
    times: [u64; 8],
    special_device: [u32; 2],
    device: [u32; 2],
    rest: [u64; 14],
}

fn open(path: &str, flags: i32, mode: u32) -> Result<Fd, Errno> {
    open_at(AT_FDCWD, path.as_bytes(), flags, mode)
}

/// Opens what has that path, from an open directory on.
pub(super) fn open_at(directory: i32, path: &[u8], flags: i32, mode: u32) -> Result<Fd, Errno> {
    let path = c_string(path)?;
    let flags = argument(flags | O_CLOEXEC);
    // SAFETY: the kernel reads the path as far as its null character.
    let number = unsafe {
        call_with_addresses(arch::OPENAT, [argument(directory), address(path.as_ptr()), flags, argument(mode)])?
    };
    Ok(Fd::new(number))
}

/// Opens the file that is always empty, to read and to write.
pub(crate) fn open_null() -> Result<Fd, Errno> {
    const O_RDWR: i32 = 0o2;
    open("/dev/null", O_RDWR, 0)
}

/// Opens a directory, to go there or to look into it. A link in its place is followed.
pub(crate) fn open_directory(path: &str) -> Result<Fd, Errno> {
    open(path, arch::O_DIRECTORY, 0)
}

/// Reads a file whole. Gives `None` if it holds more than `limit` bytes.
pub(crate) fn read(path: &str, limit: usize) -> Result<Option<Vec<u8>>, Errno> {
    let file = open(path, 0, 0)?;
    let mut content = Vec::new();
    let mut part = vec![0; 16 << 10];
    loop {
        match file.read(&mut part) {
            Ok(0) => return Ok(Some(content)),
            Ok(length) if content.len() + length > limit => return Ok(None),
            Ok(length) => content.extend_from_slice(&part[..length]),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes a file that must not be there yet, and waits until it is on the disk.
pub(crate) fn write_new(path: &str, content: &[u8], mode: u32) -> Result<(), Errno> {
    let file = open(path, O_WRONLY | O_CREAT | O_EXCL, mode)?;
    write_all(file.number(), content)?;
    call(arch::FSYNC, [argument(file.number())])?;
    Ok(())
}

/// Writes to an open descriptor, whatever it is.
pub(crate) fn write_all(fd: i32, mut content: &[u8]) -> Result<(), Errno> {
    while !content.is_empty() {
        // SAFETY: the kernel reads at most the slice's length from it.
        match unsafe { call_with_addresses(arch::WRITE, [argument(fd), address(content.as_ptr()), content.len()]) } {
            Ok(written) => content = content.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Whoever gave this descriptor made it one that does not wait.
            Err(Errno::EAGAIN) => super::wait::until_writable(fd)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Moves a file, over another where there is one.
pub(crate) fn rename(from: &str, to: &str) -> Result<(), Errno> {
    let (from, to) = (c_string(from.as_bytes())?, c_string(to.as_bytes())?);
    let here = argument(AT_FDCWD);
    // SAFETY: the kernel reads both paths as far as their null characters.
    unsafe { call_with_addresses(arch::RENAMEAT2, [here, address(from.as_ptr()), here, address(to.as_ptr()), 0])? };
    Ok(())
}

/// Removes a file.
pub(crate) fn remove(path: &str) -> Result<(), Errno> {
    let path = c_string(path.as_bytes())?;
    // SAFETY: the kernel reads the path as far as its null character.
    unsafe { call_with_addresses(arch::UNLINKAT, [argument(AT_FDCWD), address(path.as_ptr()), 0])? };
    Ok(())
}

/// Makes a directory and those above it, where they are not there.
pub(crate) fn make_dirs(path: &str, mode: u32) -> Result<(), Errno> {
    if let Ok(status) = status(path) {
        return if status.is_dir { Ok(()) } else { Err(Errno::ENOTDIR) };
    }
    if let Some(parent) = parent(path) {
        make_dirs(parent, mode)?;
    }
    let c_path = c_string(path.as_bytes())?;
    // SAFETY: the kernel reads the path as far as its null character.
    match unsafe { call_with_addresses(arch::MKDIRAT, [argument(AT_FDCWD), address(c_path.as_ptr()), argument(mode)]) }
    {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The directory a path names something in.
pub(crate) fn parent(path: &str) -> Option<&str> {
    let path = path.trim_end_matches('/');
    let (parent, _) = path.rsplit_once('/')?;
    Some(if parent.is_empty() { "/" } else { parent })
}

/// What is known of the file at `path`.
pub(crate) fn status(path: &str) -> Result<Status, Errno> {
    status_at(AT_FDCWD, path.as_bytes(), 0)
}

/// What is known of what has that path, from an open directory on.
pub(super) fn status_at(directory: i32, path: &[u8], flags: i32) -> Result<Status, Errno> {
    let path = c_string(path)?;
    let mut status = Statx::default();
    let target = address(&raw mut status);
    let arguments = [argument(directory), address(path.as_ptr()), argument(flags), STATX_WANTED, target];
    // SAFETY: the kernel reads the path as far as its null character and writes one `struct statx`, which has that layout.
    unsafe { call_with_addresses(arch::STATX, arguments)? };
    let [major, minor] = status.device;
    Ok(Status {
        is_dir: status.mode & S_IFMT == S_IFDIR,
        mode: u32::from(status.mode & !S_IFMT),
        uid: status.uid,
        gid: status.gid,
        device: (major, minor),
        is_mount: status.attributes & STATX_ATTR_MOUNT_ROOT != 0,
    })
}

/// Whether something is at `path`.
pub(crate) fn exists(path: &str) -> bool {
    status(path).is_ok()
}

/// The names in a directory, in no order, but without `.` and `..`.
pub(crate) fn names(path: &str) -> Result<Vec<Vec<u8>>, Errno> {
    names_in(&open_directory(path)?)
}

/// The names in an open directory.
pub(super) fn names_in(dir: &Fd) -> Result<Vec<Vec<u8>>, Errno> {
    /// Where in an entry its length and its name are.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    let mut names = Vec::new();
    let mut buffer = vec![0_u8; 8 << 10];
    loop {
        let arguments = [argument(dir.number()), address(buffer.as_mut_ptr()), buffer.len()];
        // SAFETY: the kernel writes at most the buffer's length into it.
        let filled = unsafe { call_with_addresses(arch::GETDENTS64, arguments)? };
        let mut entries = &buffer[..filled.min(buffer.len())];
        if entries.is_empty() {
            return Ok(names);
        }
        while let Some(&[low, high]) = entries.get(LENGTH..LENGTH + 2) {
            let length = usize::from(u16::from_ne_bytes([low, high])).clamp(NAME, entries.len().max(NAME));
            let (entry, rest) = entries.split_at_checked(length).unwrap_or((entries, &[]));
            let name = entry.get(NAME..).and_then(|name| name.split(|byte| *byte == 0).next()).unwrap_or_default();
            if !matches!(name, b"" | b"." | b"..") {
                names.push(name.to_vec());
            }
            entries = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn parents_are_what_is_above() {
        assert_eq!(parent("/a/b"), Some("/a"));
        assert_eq!(parent("/a/b/"), Some("/a"));
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/"), None);
        assert_eq!(parent("a"), None);
    }

    #[test]
    fn files_and_directories_are_what_others_see() {
        let dir = std::env::temp_dir().join(format!("claw-init-file-{}", std::process::id()));
        let dir = dir.to_str().unwrap();
        let deep = format!("{dir}/a/b");
        make_dirs(&deep, 0o700).unwrap();
        make_dirs(&deep, 0o700).unwrap();
        let path = format!("{deep}/file");
        let content: Vec<u8> = (0..100_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
        write_new(&path, &content, 0o600).unwrap();
        assert_eq!(write_new(&path, b"", 0o600), Err(Errno::EEXIST));
        assert_eq!(std::fs::read(&path).unwrap(), content);
        assert_eq!(read(&path, content.len()).unwrap(), Some(content.clone()));
        assert_eq!(read(&path, content.len() - 1).unwrap(), None);
        assert_eq!(make_dirs(&path, 0o700), Err(Errno::ENOTDIR));

        let metadata = std::fs::metadata(&path).unwrap();
        let status = status(&path).unwrap();
        assert!(!status.is_dir);
        assert_eq!(
            (status.uid, status.gid),
            (std::os::unix::fs::MetadataExt::uid(&metadata), std::os::unix::fs::MetadataExt::gid(&metadata))
        );
        assert!(super::status(&deep).unwrap().is_dir);

        for number in 0..600 {
            write_new(&format!("{deep}/{number:0>40}"), b"", 0o600).unwrap();
        }
        rename(&path, &format!("{deep}/moved")).unwrap();
        let mut found = names(&deep).unwrap();
        found.sort();
        let mut expected: Vec<Vec<u8>> =
            std::fs::read_dir(&deep).unwrap().map(|entry| entry.unwrap().file_name().into_encoded_bytes()).collect();
        expected.sort();
        assert_eq!((found.len(), found), (601, expected));
        remove(&format!("{deep}/moved")).unwrap();
        assert_eq!(remove(&format!("{deep}/moved")), Err(Errno::ENOENT));
        assert!(exists(&deep) && !exists(&path));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_path_with_a_null_character_is_none() {
        assert_eq!(read("/etc/passwd\0x", 10), Err(Errno::EINVAL));
    }
}
