//! The interfaces of a network namespace. Spec: `netdevice(7)`.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};

const LOOPBACK: &[u8] = b"lo";
/// A second name of the loopback interface, which can have an address of its own wherever there is IPv4.
const ALIAS: &[u8] = b"lo:1";

/// Has programs reach each other over 127.0.0.1 and ::1.
pub(super) fn bring_up_loopback() -> io::Result<()> {
    let up = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(io::Error::other)?;
    let request = request(LOOPBACK, libc::__c_anonymous_ifr_ifru { ifru_flags: up });
    change(&socket()?, libc::SIOCSIFFLAGS, &request)
}

/// Adds an address that is not one of loopback's, though it lies on that interface: no other is sure to be there. Who
/// listens on 127.0.0.1 alone cannot be reached at it.
pub(crate) fn add_address(address: Ipv4Addr) -> io::Result<()> {
    let socket = socket()?;
    for (command, address) in [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, Ipv4Addr::BROADCAST)] {
        change(&socket, command, &request(ALIAS, libc::__c_anonymous_ifr_ifru { ifru_addr: socket_address(address) }))?;
    }
    Ok(())
}

fn socket() -> io::Result<OwnedFd> {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, flags, None)?)
}

/// `sockaddr_in` as the `sockaddr` it is passed as: two bytes of port, then four of address. Spec: `ip(7)`.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data: [libc::c_char; 14] = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let family = libc::sa_family_t::try_from(libc::AF_INET).expect("address families are small numbers");
    libc::sockaddr { sa_family: family, sa_data: data }
}

fn request(interface: &[u8], value: libc::__c_anonymous_ifr_ifru) -> libc::ifreq {
    let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: value };
    for (to, from) in request.ifr_name.iter_mut().zip(interface) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request
}

fn change(socket: &OwnedFd, command: libc::c_ulong, request: &libc::ifreq) -> io::Result<()> {
    #[expect(unsafe_code, reason = "ioctl(2) has no safe form")]
    // SAFETY: these commands read an ifreq with a name and the value they take, which this is, and keep no pointer to it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), command as _, std::ptr::from_ref(request)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
