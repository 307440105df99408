//! Listening sockets: one per core on each address, among which the kernel spreads the connections
//! (SO_REUSEPORT). It binds and accepts; what becomes of an accepted socket is the driver's affair.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::cli::Listen;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
pub(crate) const BACKLOG: u32 = 16 * 1024;

/// The sockets of one address, one per core.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Which of the configured listeners, by index: a name may have several addresses.
    pub(crate) listener: u16,
    /// With the port that the kernel chose, if it was to.
    pub(crate) address: SocketAddr,
    /// By core.
    pub(crate) sockets: Vec<OwnedFd>,
}

/// An address on which nothing can be accepted.
#[derive(Debug)]
pub(crate) struct BindError {
    listen: Listen,
    error: io::Error,
}

impl std::error::Error for BindError {}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.listen, self.error)
    }
}

/// Binds every address that one of the configured listeners resolves to, for `cores` cores.
pub(crate) fn bind(listener: u16, listen: &Listen, cores: u16) -> Result<Vec<Bound>, BindError> {
    let fail = |error| BindError { listen: listen.clone(), error };
    let addresses = (listen.host.as_str(), listen.port).to_socket_addrs().map_err(fail)?;
    let mut bound = Vec::new();
    for address in addresses {
        bound.push(bind_address(listener, address, cores).map_err(fail)?);
    }
    match bound.is_empty() {
        true => Err(fail(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))),
        false => Ok(bound),
    }
}

fn bind_address(listener: u16, mut address: SocketAddr, cores: u16) -> io::Result<Bound> {
    // Sockets that share a port do not conflict, so that a second broker on it would silently take half
    // of the clients: a socket that does not share finds out.
    let probe = open(address)?;
    probe.bind(&address.into())?;
    address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    let mut sockets = Vec::new();
    for _ in 0..cores {
        let socket = open(address)?;
        socket.set_reuse_port(true)?;
        // Accepted sockets inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG.cast_signed())?;
        // Accepting goes on until nothing waits.
        socket.set_nonblocking(true)?;
        sockets.push(socket.into());
    }
    Ok(Bound { listener, address, sockets })
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// What came of accepting.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A connection.
    Socket(OwnedFd, Option<SocketAddr>),
    /// None waits.
    Empty,
    /// The connection ended before it was accepted; another may wait.
    Gone,
    /// The process or machine has no room for another descriptor or socket now.
    Exhausted(io::Error),
    /// The listener accepts no more.
    Closed,
}

/// Accepts one connection, without waiting.
pub(crate) fn accept(listener: &impl AsFd) -> Accepted {
    match SockRef::from(listener).accept() {
        Ok((socket, peer)) => Accepted::Socket(socket.into(), peer.as_socket()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN) => Accepted::Empty,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Accepted::Exhausted(error),
            Some(libc::EINVAL | libc::EBADF) => Accepted::Closed,
            // Errors of the new connection, which accept(2) says to treat like none.
            _ => Accepted::Gone,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn listen(port: u16) -> Listen {
        Listen { port, ..Listen::default() }
    }

    /// All cores share one port, accepted sockets send small packets at once, and a second broker on the
    /// same port is refused.
    #[test]
    fn cores_share_a_port_and_brokers_do_not() {
        let bound = bind(0, &listen(0), 2).unwrap();
        let [bound] = bound.as_slice() else { panic!("one address") };
        assert_eq!(bound.sockets.len(), 2);
        for socket in &bound.sockets {
            assert!(matches!(accept(socket), Accepted::Empty));
            assert_eq!(SockRef::from(socket).local_addr().unwrap().as_socket(), Some(bound.address));
        }
        let error = bind(1, &listen(bound.address.port()), 1).unwrap_err();
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&format!("tcp://127.0.0.1:{}", bound.address.port())));

        let client = TcpStream::connect(bound.address).unwrap();
        let accepted = bound.sockets.iter().map(accept).find_map(|accepted| match accepted {
            Accepted::Socket(socket, peer) => Some((socket, peer)),
            _ => None,
        });
        let (socket, peer) = accepted.unwrap();
        assert!(SockRef::from(&socket).tcp_nodelay().unwrap());
        assert_eq!(peer, client.local_addr().ok());
    }
}
