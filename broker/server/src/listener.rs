//! Listening sockets: one per core on each address, among which the kernel spreads the connections
//! (SO_REUSEPORT); at a path one for all, on which whichever core comes first accepts. It binds and accepts; what
//! becomes of an accepted socket is the driver's affair.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::cli::{Listen, Scheme};

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
pub(crate) const BACKLOG: u32 = 16 * 1024;

/// Where clients are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An address, with the port that the kernel chose, if it was to.
    Address(SocketAddr),
    /// A socket in the file system.
    Path(PathBuf),
}

impl Place {
    /// Whether clients can come from other machines.
    pub(crate) fn is_public(&self) -> bool {
        matches!(self, Place::Address(address) if !address.ip().is_loopback())
    }

    /// Takes what a listener leaves behind out of the file system.
    pub(crate) fn clear(&self) {
        if let Place::Path(path) = self {
            // Somebody may have done so before.
            let _ = fs::remove_file(path);
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(address) => address.fmt(f),
            Place::Path(path) => path.display().fmt(f),
        }
    }
}

/// The sockets of one place, one per core.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Which of the configured listeners, by index: a name may have several addresses.
    pub(crate) listener: u16,
    pub(crate) place: Place,
    /// By core.
    pub(crate) sockets: Vec<OwnedFd>,
}

/// An address on which nothing can be accepted.
#[derive(Debug)]
pub(crate) struct BindError {
    /// Which of the configured listeners, by index.
    listener: u16,
    listen: Listen,
    error: io::Error,
}

impl std::error::Error for BindError {}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listeners.{}.bind: cannot listen on {}: {}", self.listener, self.listen, self.error)
    }
}

/// What the names of the configured listeners stand for now, each with the listener's index: without an address for one
/// a node does not start. Those in the file system are left out, for only this machine can reach them.
pub(crate) fn resolve<'a>(
    listeners: impl Iterator<Item = &'a Listen>,
) -> Result<Vec<(u16, Place)>, BindError> {
    let mut places = Vec::new();
    for (listener, listen) in (0..).zip(listeners) {
        let found =
            addresses(listen).map_err(|error| BindError { listener, listen: listen.clone(), error })?;
        places.extend(found.into_iter().map(|address| (listener, Place::Address(address))));
    }
    Ok(places)
}

/// All that its host stands for; of a socket in the file system nothing.
fn addresses(listen: &Listen) -> io::Result<Vec<SocketAddr>> {
    if listen.scheme == Scheme::Unix {
        return Ok(Vec::new());
    }
    let addresses: Vec<_> = (listen.host.as_str(), listen.port).to_socket_addrs()?.collect();
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        false => Ok(addresses),
    }
}

/// Binds every address that one of the configured listeners resolves to, for `cores` cores. Who may connect to a
/// socket in the file system is what `mode` says.
pub(crate) fn bind(listener: u16, listen: &Listen, mode: u32, cores: u16) -> Result<Vec<Bound>, BindError> {
    let fail = |error| BindError { listener, listen: listen.clone(), error };
    if listen.scheme == Scheme::Unix {
        return Ok(vec![bind_path(listener, Path::new(&listen.host), mode, cores).map_err(fail)?]);
    }
    let each = |address| bind_address(listener, address, cores).map_err(fail);
    addresses(listen).map_err(fail)?.into_iter().map(each).collect()
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
    Ok(Bound { listener, place: Place::Address(address), sockets })
}

fn bind_path(listener: u16, path: &Path, mode: u32, cores: u16) -> io::Result<Bound> {
    let address = SockAddr::unix(path)?;
    let open = || Socket::new(Domain::UNIX, Type::STREAM, None);
    // What a broker has left that did not end in order is in nobody's use.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket {
        match open()?.connect(&address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    let socket = open()?;
    socket.bind(&address)?;
    // Before anybody can connect.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG.cast_signed())?;
    socket.set_nonblocking(true)?;
    let sockets = (0..cores).map(|_| Ok(socket.try_clone()?.into())).collect::<io::Result<_>>()?;
    Ok(Bound { listener, place: Place::Path(path.to_owned()), sockets })
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
    use std::os::unix::net::UnixStream;

    use super::*;

    fn listen(port: u16) -> Listen {
        Listen { port, ..Listen::default() }
    }

    /// All cores share one port, accepted sockets send small packets at once, and a second broker on the
    /// same port is refused.
    #[test]
    fn cores_share_a_port_and_brokers_do_not() {
        let bound = bind(0, &listen(0), 0o600, 2).unwrap();
        let [bound] = bound.as_slice() else { panic!("one address") };
        assert_eq!(bound.sockets.len(), 2);
        let Place::Address(address) = bound.place else { panic!("an address") };
        for socket in &bound.sockets {
            assert!(matches!(accept(socket), Accepted::Empty));
            assert_eq!(SockRef::from(socket).local_addr().unwrap().as_socket(), Some(address));
        }
        let error = bind(1, &listen(address.port()), 0o600, 1).unwrap_err();
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&format!("tcp://127.0.0.1:{}", address.port())));

        let client = TcpStream::connect(address).unwrap();
        let accepted = bound.sockets.iter().map(accept).find_map(|accepted| match accepted {
            Accepted::Socket(socket, peer) => Some((socket, peer)),
            _ => None,
        });
        let (socket, peer) = accepted.unwrap();
        assert!(SockRef::from(&socket).tcp_nodelay().unwrap());
        assert_eq!(peer, client.local_addr().ok());
    }

    /// A socket in the file system takes clients on any core, for whom its mode says so; what a dead broker has left
    /// is replaced, and what a living one has is not.
    #[test]
    fn paths_are_taken_over_from_the_dead() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("hermod.sock");
        let listen: Listen = format!("unix://{}", path.display()).parse().unwrap();
        let bound = bind(0, &listen, 0o640, 2).unwrap().pop().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let _client = UnixStream::connect(&path).unwrap();
        assert!(matches!(accept(&bound.sockets[1]), Accepted::Socket(_, None)));
        assert!(matches!(accept(&bound.sockets[0]), Accepted::Empty));
        let error = bind(1, &listen, 0o640, 1).unwrap_err();
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
        drop(bound);
        let bound = bind(0, &listen, 0o600, 1).unwrap().pop().unwrap();
        bound.place.clear();
        assert!(!path.exists());

        fs::write(&path, "somebody's").unwrap();
        bind(0, &listen, 0o600, 1).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"somebody's");
    }
}
