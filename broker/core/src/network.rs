//! Networks as operators write them: an address, or the beginning that many have in common.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The first of them.
    address: IpAddr,
    /// So many bits are the same in all.
    bits: u8,
}

/// A text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNetwork;

impl fmt::Display for NoNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no address, and no network such as 192.0.2.0/24")
    }
}

impl std::error::Error for NoNetwork {}

impl Network {
    /// Whether an address is one of them. An IPv4 address is the same when IPv6 carries it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        first(address.to_canonical(), self.bits) == Some(self.address)
    }

    /// The address, if it is only one.
    #[must_use]
    pub fn single(&self) -> Option<IpAddr> {
        (self.bits == bits_max(self.address)).then_some(self.address)
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        let address = address.to_canonical();
        Network { address, bits: bits_max(address) }
    }
}

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Network, NoNetwork> {
        let Some((address, bits)) = text.split_once('/') else {
            return text.parse::<IpAddr>().map(Network::from).map_err(|_| NoNetwork);
        };
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let bits = bits.parse().map_err(|_| NoNetwork)?;
        // 192.0.2.7/24 is more often a slip than a way to write 192.0.2.0/24.
        let fits = bits <= bits_max(address) && first(address, bits) == Some(address);
        if fits { Ok(Network { address, bits }) } else { Err(NoNetwork) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.single() {
            Some(address) => address.fmt(f),
            None => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

fn bits_max(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first address that begins with the same bits; None if it has fewer.
fn first(address: IpAddr, bits: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits.into())?).unwrap_or(0);
            Some(IpAddr::V4((v4.to_bits() & mask).into()))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits.into())?).unwrap_or(0);
            Some(IpAddr::V6((v6.to_bits() & mask).into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Networks hold what begins like them, and nothing else; IPv4 is the same in both forms.
    #[test]
    fn networks_hold_addresses() {
        for (network, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "127.0.0.1"),
            ("::/0", "::1", "127.0.0.1"),
            ("192.0.2.0/24", "::ffff:192.0.2.9", "::192.0.2.9"),
        ] {
            let read: Network = network.parse().expect("a network");
            assert!(read.contains(inside.parse().expect("an address")), "{network} {inside}");
            assert!(!read.contains(outside.parse().expect("an address")), "{network} {outside}");
            assert_eq!(read.to_string(), network);
        }
    }

    /// What is none, or names more bits than it has, is refused.
    #[test]
    fn no_networks() {
        for text in ["", "/", "a", "192.0.2.7/24", "192.0.2.0/33", "::/129", "192.0.2.0/", "192.0.2/24"] {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork), "{text}");
        }
    }
}
