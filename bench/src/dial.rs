//! Opens TCP connections to the broker from several loopback addresses.
#![expect(
    unsafe_code,
    reason = "one socket option socket2 lacks; glommio takes a prepared socket only as a descriptor"
)]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};

use glommio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections per source address: well below the 28 000 ports Linux gives each by default, so that
/// the ones of an earlier run may still wait out their TIME_WAIT.
const CONNECTIONS_PER_ADDRESS: u32 = 10_000;

/// Starts connection number `number` of the run. It need not be established yet: what is written
/// first waits for that, or meets the error.
pub(crate) fn dial(target: SocketAddrV4, number: u32) -> io::Result<TcpStream> {
    assert!(target.ip().is_loopback(), "traffic stays on this machine");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // The port is chosen at connect, so that it need only be free towards this target.
    choose_port_at_connect(&socket)?;
    socket.bind(&SocketAddrV4::new(source(number), 0).into())?;
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let descriptor = socket.into_raw_fd();
    // SAFETY: the descriptor is an open TCP socket that nothing else owns.
    Ok(unsafe { TcpStream::from_raw_fd(descriptor) })
}

fn choose_port_at_connect(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    // SAFETY: `on` is a c_int of the length given and outlives the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// 127.0.0.2, 127.0.0.3, …
fn source(number: u32) -> Ipv4Addr {
    let first = u32::from(Ipv4Addr::new(127, 0, 0, 2));
    Ipv4Addr::from(first + number / CONNECTIONS_PER_ADDRESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A million connections stay within 127.0.0.0/8.
    #[test]
    fn sources_are_loopback() {
        assert_eq!(source(0), Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(source(CONNECTIONS_PER_ADDRESS), Ipv4Addr::new(127, 0, 0, 3));
        assert!(source(crate::plan::CONNECTIONS_MAX).is_loopback());
    }
}
