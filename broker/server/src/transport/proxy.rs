//! The header with which a proxy says whose connection it hands on: PROXY protocol, versions 1 and 2 (HAProxy's
//! `proxy-protocol.txt`). Only a proxy that the listener trusts is asked for one, and it has to send one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Broken;
use super::identity::can_be_user;

/// Bytes of the longest header of version 1, its end included: section 2.1.
const V1_BYTES_MAX: usize = 107;

/// What a header of version 2 begins with: section 2.2.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of a header of version 2 before its addresses.
const V2_FIXED_BYTES: usize = 16;

/// Bytes behind them that are taken: more than any proxy sends, far less than there could be.
const V2_FURTHER_BYTES_MAX: usize = 4096;

/// The kind of a further field that holds the name that the client has asked for (SNI).
const PP2_TYPE_AUTHORITY: u8 = 0x02;

/// The kind of a further field that tells of the client's TLS: what of it there is (1 byte), whether its certificate
/// is good (4 bytes, 0: it is), and fields of its own.
const PP2_TYPE_SSL: u8 = 0x20;

/// In its first byte: the client has shown a certificate, on this connection or on the one whose session it resumes.
const PP2_CLIENT_CERT: u8 = 0x02 | 0x04;

/// The kind of a field in it that holds the common name in that certificate's subject.
const PP2_SUBTYPE_SSL_CN: u8 = 0x22;

/// Whose connection it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The client's address; None: the connection is the proxy's own, or the client has no address.
    pub(crate) peer: Option<SocketAddr>,
    /// The name of ours that the client has asked the proxy for.
    pub(crate) name: Option<String>,
    /// The common name in the certificate that the proxy has seen and found good.
    pub(super) user: Option<String>,
}

/// The header at the front of `bytes` and its length; None: there is more to come.
///
/// # Errors
/// There is no header, or one that cannot be.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Origin, usize)>, Broken> {
    if starts(bytes, V2_SIGNATURE) {
        return parse_v2(bytes);
    }
    if starts(bytes, b"PROXY ") {
        return parse_v1(bytes);
    }
    Err(Broken)
}

/// Whether as much as there is begins like this.
fn starts(bytes: &[u8], with: &[u8]) -> bool {
    let common = bytes.len().min(with.len());
    bytes[..common] == with[..common]
}

/// `PROXY TCP4|TCP6 SOURCE DESTINATION PORT PORT\r\n`, or `PROXY UNKNOWN …\r\n`.
fn parse_v1(bytes: &[u8]) -> Result<Option<(Origin, usize)>, Broken> {
    let head = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_BYTES_MAX { Ok(None) } else { Err(Broken) };
    };
    let line = str::from_utf8(&head[..end]).map_err(|_| Broken)?;
    let words: Vec<&str> = line.split(' ').collect();
    let peer = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let address = |text: &str| text.parse::<IpAddr>().map_err(|_| Broken);
            let port = |text: &str| text.parse::<u16>().map_err(|_| Broken);
            let (source, destination) = (address(source)?, address(destination)?);
            port(destination_port)?;
            let is_v4 = family == "TCP4";
            if source.is_ipv4() != is_v4 || destination.is_ipv4() != is_v4 {
                return Err(Broken);
            }
            Some((source, port(source_port)?).into())
        }
        _ => return Err(Broken),
    };
    Ok(Some((Origin { peer, ..Origin::default() }, end + 2)))
}

/// ```text
/// ┌────────────┬───────────────────┬──────────────────┬─────────────┬───────────┬─────────────────┐
/// │ signature  │ version │ command │ family │ protocol│ length (BE) │ addresses │ type length (BE)│
/// │ 12         │ 4 bits    4 bits  │ 4 bits   4 bits  │ 2           │ 12 or 36  │ value …         │
/// └────────────┴───────────────────┴──────────────────┴─────────────┴───────────┴─────────────────┘
/// ```
fn parse_v2(bytes: &[u8]) -> Result<Option<(Origin, usize)>, Broken> {
    let Some(fixed) = bytes.get(V2_SIGNATURE.len()..V2_FIXED_BYTES) else { return Ok(None) };
    let [command, family, high, low] = fixed else { unreachable!("four bytes") };
    let further = usize::from(u16::from_be_bytes([*high, *low]));
    let is_proxied = match command {
        0x20 => false,
        0x21 => true,
        _ => return Err(Broken),
    };
    if further > V2_FURTHER_BYTES_MAX {
        return Err(Broken);
    }
    let used = V2_FIXED_BYTES + further;
    let Some(rest) = bytes.get(V2_FIXED_BYTES..used) else { return Ok(None) };
    if !is_proxied {
        return Ok(Some((Origin::default(), used)));
    }
    let (peer, addresses_bytes) = match family >> 4 {
        1 => (Some(v4(rest.first_chunk().ok_or(Broken)?)), 12),
        2 => (Some(v6(rest.first_chunk().ok_or(Broken)?)), 36),
        3 => (None, 216),
        // Of a kind that we do not know, so that nothing of it can be told.
        _ => return Ok(Some((Origin::default(), used))),
    };
    // Of the proxied, only streams can be ours.
    if family & 0x0f != 1 {
        return Err(Broken);
    }
    let mut origin = Origin { peer, ..Origin::default() };
    for_each_field(rest.get(addresses_bytes..).ok_or(Broken)?, |kind, value| {
        match kind {
            PP2_TYPE_AUTHORITY => origin.name = Some(text(value)?.to_ascii_lowercase()),
            PP2_TYPE_SSL => origin.user = certified_user(value)?,
            _ => (),
        }
        Ok(())
    })?;
    Ok(Some((origin, used)))
}

fn v4(addresses: &[u8; 12]) -> SocketAddr {
    let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
    (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into()
}

fn v6(addresses: &[u8; 36]) -> SocketAddr {
    let source: [u8; 16] = *addresses.first_chunk().expect("36 bytes");
    (Ipv6Addr::from(source), u16::from_be_bytes([addresses[32], addresses[33]])).into()
}

/// Gives each field's kind and value; they have to end where their bytes end.
fn for_each_field<'a>(
    mut fields: &'a [u8],
    mut take: impl FnMut(u8, &'a [u8]) -> Result<(), Broken>,
) -> Result<(), Broken> {
    while let [kind, high, low, rest @ ..] = fields {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        take(*kind, rest.get(..length).ok_or(Broken)?)?;
        fields = &rest[length..];
    }
    if fields.is_empty() { Ok(()) } else { Err(Broken) }
}

fn text(value: &[u8]) -> Result<&str, Broken> {
    str::from_utf8(value).map_err(|_| Broken)
}

/// The user that the client's certificate names, if it has shown one, and a good one.
fn certified_user(value: &[u8]) -> Result<Option<String>, Broken> {
    let (&[shown, ref verified @ ..], fields) = value.split_first_chunk::<5>().ok_or(Broken)?;
    let mut user = None;
    for_each_field(fields, |kind, value| {
        if kind == PP2_SUBTYPE_SSL_CN {
            user = Some(text(value)?);
        }
        Ok(())
    })?;
    let is_good = shown & PP2_CLIENT_CERT != 0 && *verified == [0; 4];
    Ok(user.filter(|user| is_good && can_be_user(user)).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x07, 0x5b];

    fn peer(text: &str) -> Origin {
        Origin { peer: Some(text.parse().unwrap()), ..Origin::default() }
    }

    /// Addresses, and what there is to say of the client's TLS.
    fn ssl(shown: u8, verified: u8, fields: &[u8]) -> Vec<u8> {
        let length = u8::try_from(5 + fields.len()).unwrap();
        let addresses = [V4.as_slice(), &[PP2_TYPE_SSL, 0, length, shown, 0, 0, 0, verified]];
        v2(0x21, 0x11, &[&addresses.concat(), fields].concat())
    }

    /// Headers of both versions are read, in whatever pieces they come, and what is behind them is left.
    #[test]
    fn headers_are_read() {
        let v6_addresses =
            [Ipv6Addr::LOCALHOST.octets().as_slice(), &[0; 16], &4660_u16.to_be_bytes(), &[7, 91]].concat();
        let named = [V4.as_slice(), &[0xee, 0, 1, 9], &[2, 0, 3], b"A.b"].concat();
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 1883\r\n".to_vec(), peer("192.0.2.7:4660")),
            (b"PROXY TCP6 ::1 ::2 4660 1883\r\n".to_vec(), peer("[::1]:4660")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Origin::default()),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), Origin::default()),
            (v2(0x21, 0x11, &V4), peer("192.0.2.7:4660")),
            (v2(0x21, 0x21, &v6_addresses), peer("[::1]:4660")),
            (v2(0x20, 0x00, &[]), Origin::default()),
            (v2(0x20, 0x11, &V4), Origin::default()),
            (v2(0x21, 0x00, b"what?"), Origin::default()),
            (v2(0x21, 0x31, &[0; 216]), Origin::default()),
            (v2(0x21, 0x11, &named), Origin { name: Some("a.b".to_owned()), ..peer("192.0.2.7:4660") }),
        ] {
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), Ok(None), "{end} of {header:?}");
            }
            let bytes = [header.as_slice(), b"\x10\x0e"].concat();
            assert_eq!(parse(&bytes), Ok(Some((expected, header.len()))));
        }
    }

    /// Who the client is, is believed of a good certificate alone.
    #[test]
    fn users_of_certificates() {
        let fields = [b"\x21\0\x07TLSv1.3".as_slice(), b"\x22\0\x05dev-7"].concat();
        for (header, expected) in [
            (ssl(0x03, 0, &fields), Some("dev-7")),
            (ssl(0x05, 0, &fields), Some("dev-7")),
            (ssl(0x07, 0, &fields), Some("dev-7")),
            (ssl(0x01, 0, &fields), None),
            (ssl(0x07, 1, &fields), None),
            (ssl(0x07, 0, &fields[..10]), None),
            (ssl(0x07, 0, b"\x22\0\0"), None),
            (ssl(0x07, 0, b"\x22\0\x02a\0"), None),
            (ssl(0x00, 0, b""), None),
        ] {
            let (origin, _) = parse(&header).unwrap().expect("whole");
            assert_eq!(origin.user.as_deref(), expected, "{header:?}");
        }
    }

    /// What is no header, or one that contradicts itself or does not end, is refused.
    #[test]
    fn no_headers() {
        for bytes in [
            b"\x10\x0e\0\x04MQTT".to_vec(),
            b"proxy TCP4".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::2 4660 1883\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 70000\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.7 10.0.0.1 4660 1883\r\n".to_vec(),
            [b"PROXY UNKNOWN ".as_slice(), &[b'a'; V1_BYTES_MAX]].concat(),
            v2(0x11, 0x11, &V4),
            v2(0x22, 0x11, &V4),
            v2(0x21, 0x12, &V4),
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &V4),
            v2(0x21, 0x11, &[V4.as_slice(), &[2, 0]].concat()),
            v2(0x21, 0x11, &[V4.as_slice(), &[2, 0, 4, b'a']].concat()),
            v2(0x21, 0x11, &[V4.as_slice(), &[PP2_TYPE_SSL, 0, 4, 7, 0, 0, 0]].concat()),
            ssl(7, 0, b"\x22\0\x06dev-7"),
            ssl(7, 0, b"\x22\0\x01\xff"),
            ssl(7, 0, b"\x22\0"),
            v2(0x21, 0x11, &vec![0; V2_FURTHER_BYTES_MAX + 1]),
        ] {
            assert_eq!(parse(&bytes), Err(Broken), "{bytes:?}");
        }
    }
}
