//! Extended attributes of files, links not followed. Spec: `xattr(7)`.

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The names of a file's attributes, in the order the system gives them; none where the filesystem has no attributes.
pub(crate) fn names(path: &Path) -> io::Result<Vec<CString>> {
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        let needed = match rustix::fs::llistxattr_query(path) {
            Ok(needed) => needed,
            Err(Errno::NOTSUP) => 0,
            Err(error) => return Err(error.into()),
        };
        if needed == 0 {
            return Ok(Vec::new());
        }
        buffer.resize(needed, 0);
        match rustix::fs::llistxattr(path, &mut buffer[..]) {
            Ok(length) => {
                let names = buffer.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == 0);
                return Ok(names.filter_map(|name| CStr::from_bytes_with_nul(name).ok()).map(CStr::to_owned).collect());
            }
            // One was added meanwhile.
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The value of one attribute.
pub(crate) fn read(path: &Path, name: &CStr) -> io::Result<Vec<u8>> {
    loop {
        let mut value = vec![0_u8; rustix::fs::lgetxattr_query(path, name)?];
        if value.is_empty() {
            return Ok(value);
        }
        match rustix::fs::lgetxattr(path, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                return Ok(value);
            }
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sets one attribute.
pub(crate) fn write(path: &Path, name: &CStr, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())?)
}

/// Whether an attribute is overlayfs's own, which means something only where it lies.
pub(crate) fn is_overlay(name: &CStr) -> bool {
    let name = name.to_bytes();
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}
