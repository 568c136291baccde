//! The program's beginning and end where no C library has them.
#![expect(unsafe_code, reason = "reads what the kernel left on the stack")]

use alloc::vec::Vec;
use core::panic::PanicInfo;

use super::{arch, argument, call};

/// The Rust side of `_start`: `stack` is what the kernel left there.
pub(super) unsafe extern "C" fn entry(stack: *const usize) -> ! {
    // Standard streams that are closed would be taken by the next files that are opened.
    while super::file::open_null().is_ok_and(|fd| core::mem::ManuallyDrop::new(fd).number() < 2) {}
    // SAFETY: by the kernel's convention there is a count, that many addresses of arguments and a null, and then addresses
    // of variables and a null. Each text ends with a null character, and all of it stays.
    let (arguments, variables) = unsafe {
        let count = stack.read();
        let first = stack.add(1).cast::<*const u8>();
        (texts(first), texts(first.add(count + 1)))
    };
    let variables = variables.into_iter().filter_map(|text| {
        let equals = text.iter().position(|byte| *byte == b'=')?;
        Some((text[..equals].to_vec(), text[equals + 1..].to_vec()))
    });
    exit(crate::run(arguments.into_iter().skip(1), variables))
}

/// The texts whose addresses are listed from `list` to a null.
unsafe fn texts(list: *const *const u8) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    // SAFETY: promised by the caller.
    unsafe {
        let mut next = list;
        while !next.read().is_null() {
            let text = next.read();
            let mut length = 0;
            // Volatile, so that the compiler does not make a call to the C library's strlen of it.
            while text.add(length).read_volatile() != 0 {
                length += 1;
            }
            texts.push(core::slice::from_raw_parts(text, length).to_vec());
            next = next.add(1);
        }
    }
    texts
}

/// Ends the program.
fn exit(status: u8) -> ! {
    loop {
        // It does not come back; the loop tells the compiler so.
        let _ = call(arch::EXIT_GROUP, [argument(status)]);
    }
}

// The standard `alloc` was compiled to unwind, and names these two. Nothing unwinds here: a panic ends the program.

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    exit(70)
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    exit(70)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    super::say(format_args!("bug: {info}"));
    exit(70)
}
