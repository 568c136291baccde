//! Connections to servers in the same container.
#![expect(unsafe_code, reason = "system calls that read and write memory")]

use super::file::{write_all, Fd};
use super::time::Instant;
use super::{address, arch, argument, call, call_with_addresses, wait, Errno};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const SOCK_STREAM: i32 = 1;
const SOCK_NONBLOCK: i32 = 0o4000;
const SOCK_CLOEXEC: i32 = 0o2_000_000;
const SOL_SOCKET: usize = 1;
const SO_ERROR: usize = 4;
/// How long the path of a Unix socket may be, with its null character.
const MAX_UNIX_PATH: usize = 108;

/// A connection, on which everything has to be done by a deadline.
#[derive(Debug)]
pub(crate) struct Connection {
    fd: Fd,
    deadline: Instant,
}

impl Connection {
    /// Connects to a port on 127.0.0.1.
    pub(crate) fn to_port(port: u16, deadline: Instant) -> Result<Self, Errno> {
        let [high, low] = port.to_be_bytes();
        let [first, second] = AF_INET.to_ne_bytes();
        // `struct sockaddr_in`.
        Self::connect(AF_INET, &[first, second, high, low, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], deadline)
    }

    /// Connects to a Unix socket.
    pub(crate) fn to_path(path: &str, deadline: Instant) -> Result<Self, Errno> {
        // `struct sockaddr_un`.
        let mut target = [0; 2 + MAX_UNIX_PATH];
        target[..2].copy_from_slice(&AF_UNIX.to_ne_bytes());
        if path.len() >= MAX_UNIX_PATH {
            return Err(Errno::EINVAL);
        }
        target[2..2 + path.len()].copy_from_slice(path.as_bytes());
        Self::connect(AF_UNIX, &target, deadline)
    }

    fn connect(family: u16, target: &[u8], deadline: Instant) -> Result<Self, Errno> {
        let kind = argument(SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC);
        let fd = Fd::new(call(arch::SOCKET, [argument(family), kind, 0])?);
        // SAFETY: the kernel reads at most the slice's length from it.
        match unsafe {
            call_with_addresses(arch::CONNECT, [argument(fd.number()), address(target.as_ptr()), target.len()])
        } {
            Ok(_) => {}
            Err(Errno::EINPROGRESS | Errno::EINTR) => {
                wait::until_done(fd.number(), deadline)?;
                pending_error(&fd)?;
            }
            Err(error) => return Err(error),
        }
        Ok(Self { fd, deadline })
    }

    /// Sends all of it. It must be short: what does not fit the socket's buffer is waited for beyond the deadline.
    pub(crate) fn send(&self, request: &[u8]) -> Result<(), Errno> {
        write_all(self.fd.number(), request)
    }

    /// Receives what is there; nothing at the end.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            wait::until_readable(self.fd.number(), self.deadline)?;
            match self.fd.read(buffer) {
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                result => return result,
            }
        }
    }
}

/// What became of a connection that took its time.
fn pending_error(fd: &Fd) -> Result<(), Errno> {
    let mut error = 0_u32;
    let mut size = u32::try_from(size_of_val(&error)).expect("four");
    let arguments = [argument(fd.number()), SOL_SOCKET, SO_ERROR, address(&raw mut error), address(&raw mut size)];
    // SAFETY: the kernel writes one number, as long as the size says, and that size.
    unsafe { call_with_addresses(arch::GETSOCKOPT, arguments)? };
    if error == 0 {
        Ok(())
    } else {
        Err(Errno::new(argument(error)))
    }
}
