//! Linux, without a C library: each system call this program needs, behind a safe function.
//!
//! Linked statically, the C library and the standard library make a program of 1.5 MB; this way it is a tenth of that, and
//! compiling it for another platform takes no other platform's C library. Structures and numbers are the kernel's own.

#![expect(unsafe_code, reason = "system calls are unsafe")]

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
mod arch;
mod errno;
pub(crate) mod file;
#[cfg(freestanding)]
mod memory;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod socket;
#[cfg(freestanding)]
mod start;
pub(crate) mod time;
pub(crate) mod tree;
pub(crate) mod user;
pub(crate) mod wait;

use alloc::vec::Vec;
use core::fmt;

pub(crate) use errno::Errno;

/// Makes a system call whose arguments hold no addresses, and gives what the kernel says.
fn call<const N: usize>(number: usize, arguments: [usize; N]) -> Result<usize, Errno> {
    // SAFETY: this module calls it only with numbers of calls that read and write no memory of this program.
    unsafe { call_with_addresses(number, arguments) }
}

/// Makes a system call, and gives what the kernel says.
///
/// # Safety
/// Each argument the kernel takes for an address must be one it may read or write as that call does.
unsafe fn call_with_addresses<const N: usize>(number: usize, arguments: [usize; N]) -> Result<usize, Errno> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&arguments);
    // SAFETY: promised by the caller.
    let result = unsafe { arch::syscall(number, all) };
    // The kernel tells errors as the last 4095 numbers.
    match usize::try_from(result) {
        Ok(value) => Ok(value),
        Err(_) if result >= -4095 => Err(Errno::new(result.unsigned_abs())),
        Err(_) => Ok(result as usize),
    }
}

/// A number as an argument of a call. The kernel looks at as much of it as the argument's type has.
fn argument(number: impl Into<i64>) -> usize {
    number.into() as usize
}

/// The address of something the kernel reads or writes. What it points to counts as seen and changed by others from now on.
fn address<T: ?Sized>(target: *const T) -> usize {
    target.expose_provenance()
}

/// A number the kernel gave back, known to be small.
fn small(value: usize) -> i32 {
    i32::try_from(value).expect("descriptors and process numbers are small")
}

/// A text as C has it. It must not hold a null character.
fn c_string(text: &[u8]) -> Result<Vec<u8>, Errno> {
    if text.contains(&0) {
        return Err(Errno::EINVAL);
    }
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text);
    bytes.push(0);
    Ok(bytes)
}

/// Writes a line to standard error. That nobody reads it is no reason to stop.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let _ = file::write_all(2, alloc::format!("claw-init: {line}\n").as_bytes());
}

/// Writes a line to standard output. That nobody reads it is no reason to stop.
pub(crate) fn print(line: fmt::Arguments<'_>) {
    let _ = file::write_all(1, alloc::format!("{line}\n").as_bytes());
}
