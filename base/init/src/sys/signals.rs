//! Signals, received as data.
#![expect(unsafe_code, reason = "system calls that read and write memory")]

use super::file::Fd;
use super::{address, arch, argument, call_with_addresses, Errno};
use crate::signal::Signal;

const SIG_SETMASK: usize = 2;
const SFD_NONBLOCK: i32 = 0o4000;
const SFD_CLOEXEC: i32 = 0o2_000_000;
/// The size of the kernel's set of signals, in bytes.
const SET_SIZE: usize = size_of::<u64>();

/// `struct signalfd_siginfo` has a fixed size, and its first four bytes are the signal's number.
const INFO_SIZE: usize = 128;

/// The signals sent to this process, received as data instead of interrupting it.
#[derive(Debug)]
pub(crate) struct Signals(Fd);

impl Signals {
    /// Blocks every signal but the ones that tell of a fault in this program, and receives them here from now on.
    pub(crate) fn receive() -> Result<Self, Errno> {
        let faults = Signal::FAULTS.iter().fold(0, |set, signal| set | bit(*signal));
        let blocked: u64 = !faults;
        set_mask(blocked)?;
        let arguments = [argument(-1), address(&raw const blocked), SET_SIZE, argument(SFD_NONBLOCK | SFD_CLOEXEC)];
        // SAFETY: the kernel reads one set of signals of that size.
        Ok(Self(Fd::new(unsafe { call_with_addresses(arch::SIGNALFD4, arguments)? })))
    }

    /// The next signal that has arrived, if one has. Signals without a name known here are passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Signal>, Errno> {
        let mut info = [0; INFO_SIZE];
        loop {
            match self.0.read(&mut info) {
                Ok(INFO_SIZE) => {
                    let number = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                    if let Some(signal) = Signal::from_number(number) {
                        return Ok(Some(signal));
                    }
                }
                Ok(_) | Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The descriptor that can be read when a signal has arrived.
    pub(crate) fn number(&self) -> i32 {
        self.0.number()
    }
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.number() - 1)
}

fn set_mask(blocked: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads one set of signals of that size, and writes nothing.
    unsafe { call_with_addresses(arch::RT_SIGPROCMASK, [SIG_SETMASK, address(&raw const blocked), 0, SET_SIZE])? };
    Ok(())
}

/// Gives this process the signals of a new one: none is blocked, and those that were ignored act again.
pub(super) fn reset() -> Result<(), Errno> {
    // `struct sigaction` of the kernel, which is all zeros for the default action. No architecture has it longer.
    let default = [0_u64; 4];
    // What is linked with the standard library ignores this one.
    let arguments = [argument(Signal::PIPE.number()), address(&raw const default), 0, SET_SIZE];
    // SAFETY: the kernel reads one `struct sigaction`, and writes nothing.
    unsafe { call_with_addresses(arch::RT_SIGACTION, arguments)? };
    set_mask(0)
}
