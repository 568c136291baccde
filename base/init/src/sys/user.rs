//! Whom this process acts as.
#![expect(unsafe_code, reason = "system calls that read memory")]

use super::{address, arch, argument, call, call_with_addresses, Errno};

/// The user this process acts as.
pub(crate) fn effective() -> u32 {
    u32::try_from(call(arch::GETEUID, []).expect("this call cannot fail")).expect("users have 32 bits")
}

/// Becomes `uid:gid` for good, with no other groups.
///
/// # Errors
/// The process may not do that, or one of the ids is not mapped in its user namespace.
pub(crate) fn become_for_good(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: the kernel reads one group.
    unsafe { call_with_addresses(arch::SETGROUPS, [1, address(&raw const gid)])? };
    call(arch::SETGID, [argument(gid)])?;
    call(arch::SETUID, [argument(uid)])?;
    Ok(())
}
