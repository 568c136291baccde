//! The kernel's reasons for refusing.

use core::fmt;

/// A reason for refusing, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(usize);

impl Errno {
    pub(crate) const ENOENT: Self = Self(2);
    pub(crate) const EINTR: Self = Self(4);
    pub(crate) const ECHILD: Self = Self(10);
    pub(crate) const EAGAIN: Self = Self(11);
    pub(crate) const EACCES: Self = Self(13);
    pub(crate) const EEXIST: Self = Self(17);
    pub(crate) const ENOTDIR: Self = Self(20);
    pub(crate) const EINVAL: Self = Self(22);
    pub(crate) const ENAMETOOLONG: Self = Self(36);
    pub(crate) const ELOOP: Self = Self(40);
    pub(crate) const EINPROGRESS: Self = Self(115);
    pub(crate) const ETIMEDOUT: Self = Self(110);

    /// The reason with that number.
    pub(super) const fn new(number: usize) -> Self {
        Self(number)
    }

    /// Its number, as another process may be told it.
    pub(super) const fn number(self) -> usize {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "Operation not permitted",
            2 => "No such file or directory",
            5 => "Input/output error",
            7 => "Argument list too long",
            8 => "Exec format error",
            11 => "Resource temporarily unavailable",
            12 => "Cannot allocate memory",
            13 => "Permission denied",
            16 => "Device or resource busy",
            17 => "File exists",
            20 => "Not a directory",
            21 => "Is a directory",
            22 => "Invalid argument",
            24 => "Too many open files",
            26 => "Text file busy",
            28 => "No space left on device",
            30 => "Read-only file system",
            36 => "File name too long",
            38 => "Function not implemented",
            40 => "Too many levels of symbolic links",
            99 => "Cannot assign requested address",
            101 => "Network is unreachable",
            104 => "Connection reset by peer",
            110 => "Connection timed out",
            111 => "Connection refused",
            122 => "Disk quota exceeded",
            number => return write!(f, "system error {number}"),
        })
    }
}
