//! System calls on x86-64.
#![expect(unsafe_code, reason = "system calls are instructions")]

use core::arch::asm;

/// Makes a system call.
///
/// # Safety
/// The kernel does with the arguments what the call says.
pub(super) unsafe fn syscall(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result;
    // SAFETY: the registers are those of the kernel's convention; what it does is promised by the caller.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

pub(super) const READ: usize = 0;
pub(super) const WRITE: usize = 1;
pub(super) const CLOSE: usize = 3;
#[cfg(freestanding)]
pub(super) const MMAP: usize = 9;
#[cfg(freestanding)]
pub(super) const MUNMAP: usize = 11;
pub(super) const RT_SIGACTION: usize = 13;
pub(super) const RT_SIGPROCMASK: usize = 14;
pub(super) const IOCTL: usize = 16;
pub(super) const GETPID: usize = 39;
pub(super) const SOCKET: usize = 41;
pub(super) const CONNECT: usize = 42;
pub(super) const GETSOCKOPT: usize = 55;
pub(super) const CLONE: usize = 56;
pub(super) const EXECVE: usize = 59;
pub(super) const WAIT4: usize = 61;
pub(super) const KILL: usize = 62;
pub(super) const FSYNC: usize = 74;
pub(super) const FCHDIR: usize = 81;
pub(super) const SETUID: usize = 105;
pub(super) const SETGID: usize = 106;
pub(super) const GETEUID: usize = 107;
pub(super) const SETPGID: usize = 109;
pub(super) const SETGROUPS: usize = 116;
pub(super) const PRCTL: usize = 157;
pub(super) const GETDENTS64: usize = 217;
pub(super) const CLOCK_GETTIME: usize = 228;
pub(super) const EXIT_GROUP: usize = 231;
pub(super) const OPENAT: usize = 257;
pub(super) const MKDIRAT: usize = 258;
pub(super) const FCHOWNAT: usize = 260;
pub(super) const UNLINKAT: usize = 263;
pub(super) const PPOLL: usize = 271;
pub(super) const SIGNALFD4: usize = 289;
pub(super) const DUP3: usize = 292;
pub(super) const PIPE2: usize = 293;
pub(super) const RENAMEAT2: usize = 316;
pub(super) const STATX: usize = 332;

/// `O_DIRECTORY`, which differs between architectures.
pub(super) const O_DIRECTORY: i32 = 0o200_000;
/// `O_NOFOLLOW`, which differs between architectures.
pub(super) const O_NOFOLLOW: i32 = 0o400_000;

#[cfg(freestanding)]
pub(super) mod freestanding {
    //! Where the program begins, and the memory functions compiled code calls.

    use core::arch::{asm, global_asm};

    // The kernel leaves the argument count, arguments and environment on the stack.
    global_asm!(
        ".globl _start",
        "_start:",
        "xor ebp, ebp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {entry}",
        entry = sym super::super::start::entry,
    );

    /// Copies upwards.
    pub(in crate::sys) unsafe fn copy_up(to: *mut u8, from: *const u8, length: usize) {
        // SAFETY: the caller promises that both ranges are there.
        unsafe {
            asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags));
        }
    }

    /// Copies downwards, for ranges of which the target is the higher one.
    pub(in crate::sys) unsafe fn copy_down(to: *mut u8, from: *const u8, length: usize) {
        let (to, from) = (to.wrapping_add(length).wrapping_sub(1), from.wrapping_add(length).wrapping_sub(1));
        // SAFETY: the caller promises that both ranges are there. The direction flag is clear again at the end.
        unsafe {
            asm!("std", "rep movsb", "cld", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack));
        }
    }

    /// Sets bytes.
    pub(in crate::sys) unsafe fn fill(to: *mut u8, byte: u8, length: usize) {
        // SAFETY: the caller promises that the range is there.
        unsafe {
            asm!("rep stosb", inout("rcx") length => _, inout("rdi") to => _, in("al") byte, options(nostack, preserves_flags));
        }
    }
}
