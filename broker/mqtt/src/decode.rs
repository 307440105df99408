//! Hot path. From bytes to one packet: the fixed header, then the packet's own decoder.

use crate::connect::decode_refusal_version;
use crate::reader::{Reader, Varint};
use crate::{
    Ack, Auth, ConnAck, Connect, DecodeError, Disconnect, Limits, Packet, PacketKind, Publish, SubAck,
    Subscribe, UnsubAck, Unsubscribe, Version,
};

/// Decodes the packet at the start of `bytes`, and says how many bytes it took.
///
/// `Ok(None)`: the packet is not complete yet. All 15 types decode in both directions; which of
/// them a peer may send is for the caller to judge by [`Packet::kind`]. Type, flags, remaining
/// length and packet size are judged before the body has arrived. A CONNECT brings its own version.
pub fn decode<'a>(
    version: Version,
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Option<(Packet<'a>, usize)>, DecodeError> {
    let Some(header) = FixedHeader::decode(bytes, limits, |first| check_flags(version, first))? else {
        return Ok(None);
    };
    header.check_length(version)?;
    let Some(body) = header.body(bytes) else { return Ok(None) };
    let consumed = header.packet_bytes();
    match header.kind {
        PacketKind::Publish => decode_publish(version, header.flags, body, limits, consumed),
        PacketKind::PubAck | PacketKind::PubRec | PacketKind::PubRel | PacketKind::PubComp => {
            decode_ack(version, header.kind, body, limits, consumed)
        }
        PacketKind::PingReq => Ok(Some((Packet::PingReq, consumed))),
        PacketKind::PingResp => Ok(Some((Packet::PingResp, consumed))),
        _ => decode_other(version, header.kind, body, limits, consumed),
    }
}

/// The answer of [`decode`]. It is some 250 bytes, which cost more to move than to fill: what is
/// frequent fills it in a function of its own, where the compiler builds it in place.
type Decoded<'a> = Result<Option<(Packet<'a>, usize)>, DecodeError>;

#[inline(never)]
fn decode_publish<'a>(
    version: Version,
    flags: u8,
    body: Reader<'a>,
    limits: &Limits,
    consumed: usize,
) -> Decoded<'a> {
    Ok(Some((Packet::Publish(Publish::decode(version, flags, body, limits)?), consumed)))
}

#[inline(never)]
fn decode_ack<'a>(
    version: Version,
    kind: PacketKind,
    body: Reader<'a>,
    limits: &Limits,
    consumed: usize,
) -> Decoded<'a> {
    let ack = Ack::decode(version, kind, body, limits)?;
    let packet = match kind {
        PacketKind::PubAck => Packet::PubAck(ack),
        PacketKind::PubRec => Packet::PubRec(ack),
        PacketKind::PubRel => Packet::PubRel(ack),
        _ => Packet::PubComp(ack),
    };
    Ok(Some((packet, consumed)))
}

/// The packets that come once in a while, or never to a server.
#[inline(never)]
fn decode_other<'a>(
    version: Version,
    kind: PacketKind,
    body: Reader<'a>,
    limits: &Limits,
    consumed: usize,
) -> Decoded<'a> {
    let packet = match kind {
        PacketKind::Connect => Packet::Connect(Connect::decode(body, limits)?),
        PacketKind::ConnAck => Packet::ConnAck(ConnAck::decode(version, body, limits)?),
        PacketKind::Subscribe => Packet::Subscribe(Subscribe::decode(version, body, limits)?),
        PacketKind::SubAck => Packet::SubAck(SubAck::decode(version, body, limits)?),
        PacketKind::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(version, body, limits)?),
        PacketKind::UnsubAck => Packet::UnsubAck(UnsubAck::decode(version, body, limits)?),
        PacketKind::Disconnect => Packet::Disconnect(Disconnect::decode(version, body, limits)?),
        PacketKind::Auth => Packet::Auth(Auth::decode(body, limits)?),
        _ => unreachable!("decode has seen to {kind:?}"),
    };
    Ok(Some((packet, consumed)))
}

/// Decodes the first packet of a connection, which must be a CONNECT; it brings the version.
///
/// `Ok(None)`: the packet is not complete yet.
pub fn decode_connect<'a>(
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Option<(Connect<'a>, usize)>, DecodeError> {
    let Some(header) = FixedHeader::decode(bytes, limits, check_connect)? else { return Ok(None) };
    let Some(body) = header.body(bytes) else { return Ok(None) };
    let connect = Connect::decode(body, limits)?;
    header.check_length(connect.version)?;
    Ok(Some((connect, header.packet_bytes())))
}

/// Whole length in bytes of the packet that begins here, once its fixed header is complete, so
/// that a caller can reserve room. Fails as [`decode`] would, but for what hangs on the version.
pub fn packet_length(bytes: &[u8], limits: &Limits) -> Result<Option<usize>, DecodeError> {
    Ok(FixedHeader::decode(bytes, limits, packet_kind)?.map(FixedHeader::packet_bytes))
}

/// The version a CONNECT names, read without judging the rest of it: the form in which a refusal
/// has to be written when [`decode_connect`] failed, which is that of 5.0 for a version that is later.
/// `None`: not a CONNECT, cut short, or of a version that is not known.
pub fn connect_version(bytes: &[u8]) -> Option<Version> {
    let (&first, rest) = bytes.split_first()?;
    check_connect(first).ok()?;
    let length = Varint::decode(rest).ok()??;
    decode_refusal_version(&mut Reader::new(&rest[length.bytes..]))
}

/// ```text
/// bits 7-4 type, 3-0 flags │ remaining length, 1 to 4 bytes │ body of that length
/// ```
#[derive(Debug, Clone, Copy)]
struct FixedHeader {
    kind: PacketKind,
    flags: u8,
    /// Bytes of the header itself, 2 to 5.
    header_bytes: usize,
    /// The remaining length.
    body_bytes: usize,
    /// The remaining length is written in the fewest bytes.
    minimal: bool,
}

impl FixedHeader {
    /// The header at the start of `bytes`; `None` while it is not complete. `check` judges the first
    /// byte, as soon as there is one.
    #[inline]
    fn decode(
        bytes: &[u8],
        limits: &Limits,
        check: impl Fn(u8) -> Result<PacketKind, DecodeError>,
    ) -> Result<Option<FixedHeader>, DecodeError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let kind = check(first)?;
        let Some(length) = Varint::decode(rest)? else { return Ok(None) };
        let header = FixedHeader {
            kind,
            flags: first & 0x0F,
            header_bytes: 1 + length.bytes,
            body_bytes: length.value as usize,
            minimal: length.minimal,
        };
        if header.packet_bytes() > limits.packet_bytes_max as usize {
            return Err(DecodeError::PacketTooLarge);
        }
        Ok(Some(header))
    }

    /// What the remaining length may be before the body is there.
    fn check_length(self, version: Version) -> Result<(), DecodeError> {
        // 3.x does not ask for the shortest form, and small clients keep a fixed one. [MQTT-1.5.5-1]
        if version == Version::V5 && !self.minimal {
            return Err(DecodeError::VarintNotMinimal);
        }
        let exact = match self.kind {
            PacketKind::PingReq | PacketKind::PingResp => 0,
            _ if version == Version::V5 => return Ok(()),
            PacketKind::Disconnect => 0,
            PacketKind::PubAck | PacketKind::PubRec | PacketKind::PubRel | PacketKind::PubComp => 2,
            PacketKind::ConnAck | PacketKind::UnsubAck => 2,
            _ => return Ok(()),
        };
        match self.body_bytes {
            bytes if bytes > exact => Err(DecodeError::TrailingBytes),
            bytes if bytes < exact => Err(DecodeError::Truncated),
            _ => Ok(()),
        }
    }

    fn packet_bytes(self) -> usize {
        self.header_bytes + self.body_bytes
    }

    /// The body; `None` while it is not complete.
    #[inline]
    fn body(self, bytes: &[u8]) -> Option<Reader<'_>> {
        bytes.get(self.header_bytes..self.packet_bytes()).map(Reader::new)
    }
}

/// Judges the first byte of any packet of a version.
#[inline]
fn check_flags(version: Version, first: u8) -> Result<PacketKind, DecodeError> {
    let kind = packet_kind(first)?;
    let flags = first & 0x0F;
    let required = match kind {
        PacketKind::Publish if flags & 0x0E == 0x08 => return Err(DecodeError::DupWithQos0), // [MQTT-3.3.1-2]
        PacketKind::Publish => return Ok(kind),
        PacketKind::Auth if version < Version::V5 => return Err(DecodeError::PacketType),
        PacketKind::Connect => 0,
        // 3.1 calls the flags of other packets unused, and has clients set DUP on some of them.
        _ if version == Version::V31 => return Ok(kind),
        // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
        PacketKind::PubRel | PacketKind::Subscribe | PacketKind::Unsubscribe => 0x02,
        _ => 0,
    };
    if flags == required { Ok(kind) } else { Err(DecodeError::FixedHeaderFlags) } // [MQTT-2.1.3-1]
}

/// Judges the first byte of a connection.
fn check_connect(first: u8) -> Result<PacketKind, DecodeError> {
    match first {
        0x10 => Ok(PacketKind::Connect),
        0x11..=0x1F => Err(DecodeError::FixedHeaderFlags), // [MQTT-2.1.3-1]
        _ => Err(DecodeError::ConnectExpected),            // [MQTT-3.1.0-1]
    }
}

/// Judges what no version allows.
#[inline]
fn packet_kind(first: u8) -> Result<PacketKind, DecodeError> {
    let kind = PacketKind::from_number(first >> 4).ok_or(DecodeError::PacketType)?;
    if kind == PacketKind::Publish && first & 0x06 == 0x06 {
        return Err(DecodeError::PublishQos); // [MQTT-3.3.1-4]
    }
    Ok(kind)
}
