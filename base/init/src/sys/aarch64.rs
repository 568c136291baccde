//! System calls on AArch64.
#![expect(unsafe_code, reason = "system calls are instructions")]

use core::arch::asm;

#[path = "generic.rs"]
mod generic;

pub(super) use generic::*;

/// `O_DIRECTORY`, which differs between architectures.
pub(super) const O_DIRECTORY: i32 = 0o40_000;
/// `O_NOFOLLOW`, which differs between architectures.
pub(super) const O_NOFOLLOW: i32 = 0o100_000;

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
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

#[cfg(freestanding)]
pub(super) mod freestanding {
    //! Where the program begins, and the memory functions compiled code calls.

    use core::arch::{asm, global_asm};

    // The kernel leaves the argument count, arguments and environment on the stack.
    global_asm!(
        ".globl _start",
        "_start:",
        "mov x29, #0",
        "mov x30, #0",
        "mov x0, sp",
        "bl {entry}",
        entry = sym super::super::start::entry,
    );

    /// Copies upwards.
    pub(in crate::sys) unsafe fn copy_up(to: *mut u8, from: *const u8, length: usize) {
        // SAFETY: the caller promises that both ranges are there.
        unsafe {
            asm!(
                "cbz {left}, 3f", "2:", "ldrb {byte:w}, [{from}], #1", "strb {byte:w}, [{to}], #1", "sub {left}, {left}, #1", "cbnz {left}, 2b", "3:",
                left = inout(reg) length => _, to = inout(reg) to => _, from = inout(reg) from => _, byte = out(reg) _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Copies downwards, for ranges of which the target is the higher one.
    pub(in crate::sys) unsafe fn copy_down(to: *mut u8, from: *const u8, length: usize) {
        // SAFETY: the caller promises that both ranges are there.
        unsafe {
            asm!(
                "cbz {left}, 3f", "2:", "sub {left}, {left}, #1", "ldrb {byte:w}, [{from}, {left}]", "strb {byte:w}, [{to}, {left}]", "cbnz {left}, 2b", "3:",
                left = inout(reg) length => _, to = in(reg) to, from = in(reg) from, byte = out(reg) _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Sets bytes.
    pub(in crate::sys) unsafe fn fill(to: *mut u8, byte: u8, length: usize) {
        // SAFETY: the caller promises that the range is there.
        unsafe {
            asm!(
                "cbz {left}, 3f", "2:", "strb {byte:w}, [{to}], #1", "sub {left}, {left}, #1", "cbnz {left}, 2b", "3:",
                left = inout(reg) length => _, to = inout(reg) to => _, byte = in(reg) u32::from(byte),
                options(nostack, preserves_flags),
            );
        }
    }
}
