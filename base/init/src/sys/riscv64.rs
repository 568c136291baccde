//! System calls on RISC-V.
#![expect(unsafe_code, reason = "system calls are instructions")]

use core::arch::asm;

#[path = "generic.rs"]
mod generic;

pub(super) use generic::*;

/// `O_DIRECTORY`, which differs between architectures.
pub(super) const O_DIRECTORY: i32 = 0o200_000;
/// `O_NOFOLLOW`, which differs between architectures.
pub(super) const O_NOFOLLOW: i32 = 0o400_000;

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
            "ecall",
            in("a7") number,
            inlateout("a0") a => result,
            in("a1") b, in("a2") c, in("a3") d, in("a4") e, in("a5") f,
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
        ".option push",
        ".option norelax",
        "la gp, __global_pointer$",
        ".option pop",
        "mv a0, sp",
        "andi sp, sp, -16",
        "call {entry}",
        entry = sym super::super::start::entry,
    );

    /// Copies upwards.
    pub(in crate::sys) unsafe fn copy_up(to: *mut u8, from: *const u8, length: usize) {
        // SAFETY: the caller promises that both ranges are there.
        unsafe {
            asm!(
                "beqz {left}, 3f", "2:", "lbu {byte}, 0({from})", "sb {byte}, 0({to})", "addi {from}, {from}, 1", "addi {to}, {to}, 1",
                "addi {left}, {left}, -1", "bnez {left}, 2b", "3:",
                left = inout(reg) length => _, to = inout(reg) to => _, from = inout(reg) from => _, byte = out(reg) _,
                options(nostack),
            );
        }
    }

    /// Copies downwards, for ranges of which the target is the higher one.
    pub(in crate::sys) unsafe fn copy_down(to: *mut u8, from: *const u8, length: usize) {
        let (to, from) = (to.wrapping_add(length), from.wrapping_add(length));
        // SAFETY: the caller promises that both ranges are there.
        unsafe {
            asm!(
                "beqz {left}, 3f", "2:", "addi {from}, {from}, -1", "addi {to}, {to}, -1", "lbu {byte}, 0({from})", "sb {byte}, 0({to})",
                "addi {left}, {left}, -1", "bnez {left}, 2b", "3:",
                left = inout(reg) length => _, to = inout(reg) to => _, from = inout(reg) from => _, byte = out(reg) _,
                options(nostack),
            );
        }
    }

    /// Sets bytes.
    pub(in crate::sys) unsafe fn fill(to: *mut u8, byte: u8, length: usize) {
        // SAFETY: the caller promises that the range is there.
        unsafe {
            asm!(
                "beqz {left}, 3f", "2:", "sb {byte}, 0({to})", "addi {to}, {to}, 1", "addi {left}, {left}, -1", "bnez {left}, 2b", "3:",
                left = inout(reg) length => _, to = inout(reg) to => _, byte = in(reg) usize::from(byte),
                options(nostack),
            );
        }
    }
}
