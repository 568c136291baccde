//! Waiting for descriptors.
#![expect(unsafe_code, reason = "system calls that read and write memory")]

use alloc::vec::Vec;
use core::time::Duration;

use super::time::{timespec, Instant};
use super::{address, arch, call_with_addresses, Errno};

const POLLIN: i16 = 1;
const POLLOUT: i16 = 4;

/// `struct pollfd`.
#[repr(C)]
struct Entry {
    fd: i32,
    events: i16,
    happened: i16,
}

/// Waits until one of `fds` can be read or has ended, or `timeout` is over. Gives which, in their order.
pub(crate) fn until_one_is_readable(fds: &[i32], timeout: Option<Duration>) -> Result<Vec<bool>, Errno> {
    let mut entries: Vec<Entry> = fds.iter().map(|fd| Entry { fd: *fd, events: POLLIN, happened: 0 }).collect();
    poll(&mut entries, timeout)?;
    Ok(entries.iter().map(|entry| entry.happened != 0).collect())
}

/// Waits until `fd` can be read or has ended.
///
/// # Errors
/// [`Errno::ETIMEDOUT`] when that is not so before the deadline.
pub(super) fn until_readable(fd: i32, deadline: Instant) -> Result<(), Errno> {
    until(fd, POLLIN, deadline)
}

/// Waits until what `fd` was asked to do is done.
///
/// # Errors
/// [`Errno::ETIMEDOUT`] when that is not so before the deadline.
pub(super) fn until_done(fd: i32, deadline: Instant) -> Result<(), Errno> {
    until(fd, POLLOUT, deadline)
}

/// Waits, for however long, until something can be written to `fd`.
pub(super) fn until_writable(fd: i32) -> Result<(), Errno> {
    poll(&mut [Entry { fd, events: POLLOUT, happened: 0 }], None)
}

fn until(fd: i32, events: i16, deadline: Instant) -> Result<(), Errno> {
    let mut entries = [Entry { fd, events, happened: 0 }];
    loop {
        let left = deadline.left();
        poll(&mut entries, Some(left))?;
        if entries[0].happened != 0 {
            return Ok(());
        }
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT);
        }
    }
}

/// Does nothing for a while.
pub(crate) fn pause(time: Duration) {
    // Nothing can be wrong with no descriptors; a pause cut short by a signal is a pause.
    let _ = poll(&mut [], Some(time));
}

/// Waits until something happened, or `timeout` is over, or a signal interrupts.
fn poll(entries: &mut [Entry], timeout: Option<Duration>) -> Result<(), Errno> {
    let mut timeout = timeout.map(timespec);
    let timeout = timeout.as_mut().map_or(0, |timeout| address(&raw mut *timeout));
    // SAFETY: the kernel reads and writes that many `struct pollfd`, and one `struct timespec` if there is one.
    match unsafe { call_with_addresses(arch::PPOLL, [address(entries.as_mut_ptr()), entries.len(), timeout, 0, 0]) } {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}
