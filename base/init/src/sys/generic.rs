//! The numbers of system calls on architectures that came to Linux late, which share one table.

pub(in crate::sys) const IOCTL: usize = 29;
pub(in crate::sys) const DUP3: usize = 24;
pub(in crate::sys) const MKDIRAT: usize = 34;
pub(in crate::sys) const UNLINKAT: usize = 35;
pub(in crate::sys) const FCHDIR: usize = 50;
pub(in crate::sys) const FCHOWNAT: usize = 54;
pub(in crate::sys) const OPENAT: usize = 56;
pub(in crate::sys) const CLOSE: usize = 57;
pub(in crate::sys) const PIPE2: usize = 59;
pub(in crate::sys) const GETDENTS64: usize = 61;
pub(in crate::sys) const READ: usize = 63;
pub(in crate::sys) const WRITE: usize = 64;
pub(in crate::sys) const PPOLL: usize = 73;
pub(in crate::sys) const SIGNALFD4: usize = 74;
pub(in crate::sys) const FSYNC: usize = 82;
pub(in crate::sys) const EXIT_GROUP: usize = 94;
pub(in crate::sys) const CLOCK_GETTIME: usize = 113;
pub(in crate::sys) const KILL: usize = 129;
pub(in crate::sys) const RT_SIGACTION: usize = 134;
pub(in crate::sys) const RT_SIGPROCMASK: usize = 135;
pub(in crate::sys) const SETGID: usize = 144;
pub(in crate::sys) const SETUID: usize = 146;
pub(in crate::sys) const SETPGID: usize = 154;
pub(in crate::sys) const SETGROUPS: usize = 159;
pub(in crate::sys) const PRCTL: usize = 167;
pub(in crate::sys) const GETPID: usize = 172;
pub(in crate::sys) const GETEUID: usize = 175;
pub(in crate::sys) const SOCKET: usize = 198;
pub(in crate::sys) const CONNECT: usize = 203;
pub(in crate::sys) const GETSOCKOPT: usize = 209;
#[cfg(freestanding)]
pub(in crate::sys) const MUNMAP: usize = 215;
pub(in crate::sys) const CLONE: usize = 220;
pub(in crate::sys) const EXECVE: usize = 221;
#[cfg(freestanding)]
pub(in crate::sys) const MMAP: usize = 222;
pub(in crate::sys) const WAIT4: usize = 260;
pub(in crate::sys) const RENAMEAT2: usize = 276;
pub(in crate::sys) const STATX: usize = 291;
