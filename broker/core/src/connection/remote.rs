//! The other end of a connection, in the 24 bytes that its address needs: the standard library's takes 32, and
//! there is one in each connection.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Its transport has no addresses.
    Unknown,
    /// Address and port.
    V4(Ipv4Addr, u16),
    /// Address, port, and the interface of an address that is only valid there. No flow label: replies copy it
    /// without us.
    V6(Ipv6Addr, u16, u32),
}

const _: () = assert!(size_of::<Remote>() == 24);

impl Remote {
    /// As others want it.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Remote::Unknown => None,
            Remote::V4(ip, port) => Some((ip, port).into()),
            Remote::V6(ip, port, scope) => Some(SocketAddrV6::new(ip, port, 0, scope).into()),
        }
    }
}

impl From<Option<SocketAddr>> for Remote {
    fn from(address: Option<SocketAddr>) -> Remote {
        match address {
            None => Remote::Unknown,
            Some(SocketAddr::V4(v4)) => Remote::V4(*v4.ip(), v4.port()),
            Some(SocketAddr::V6(v6)) => Remote::V6(*v6.ip(), v6.port(), v6.scope_id()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address comes out as it went in.
    #[test]
    fn addresses_are_kept() {
        for text in ["127.0.0.1:1", "[2001:db8::1]:65535", "[fe80::1%7]:1883"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(Remote::from(Some(address)).address(), Some(address));
        }
        assert_eq!(Remote::from(None).address(), None);
    }
}
