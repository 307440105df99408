//! Hot path. PUBLISH, written once for all receivers that can share it.

use super::writer::{PropertyWriter, packet_bytes, varint_bytes, write_varint};
use crate::property::id;
use crate::{PacketId, PacketKind, QoS, Version};

/// A PUBLISH to write. The default is QoS 0 with everything empty; a topic must be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishOut<'a> {
    /// Sent before; never with QoS 0.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// Empty only beside a topic alias that the receiver knows.
    pub topic: &'a str,
    /// There exactly when QoS is above 0.
    pub packet_id: Option<PacketId>,
    /// 5.0 only, left out of 3.x as are all properties.
    pub topic_alias: Option<u16>,
    /// Seconds the message has left.
    pub message_expiry: Option<u32>,
    /// The identifiers of the subscriptions that matched.
    pub subscription_ids: &'a [u32],
    /// Properties as [`PublishProperties::write_forwarded`](crate::PublishProperties::write_forwarded)
    /// or a [`PropertyWriter`] wrote them.
    pub forwarded: &'a [u8],
    /// Application message.
    pub payload: &'a [u8],
}

/// Where a PUBLISH lies in the buffer it was appended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// Offset of its first byte.
    pub start: usize,
    /// Offset of its packet identifier: two bytes, most significant first.
    pub packet_id_at: Option<usize>,
    /// Offset past its last byte; where the payload belongs when only the header was written.
    pub end: usize,
}

/// Appends a PUBLISH.
pub fn publish(out: &mut Vec<u8>, version: Version, publish: &PublishOut<'_>) -> Encoded {
    let size = Size::of(version, publish, publish.payload.len());
    out.reserve(packet_bytes(size.body_bytes));
    let header = write_header(out, version, publish, size);
    out.extend_from_slice(publish.payload);
    Encoded { end: out.len(), ..header }
}

/// Appends everything of a PUBLISH but its payload, of which it takes the length alone:
/// `publish.payload` is not read. The payload's bytes must follow on the wire.
pub fn publish_header(
    out: &mut Vec<u8>,
    version: Version,
    publish: &PublishOut<'_>,
    payload_bytes: usize,
) -> Encoded {
    let size = Size::of(version, publish, payload_bytes);
    out.reserve(packet_bytes(size.body_bytes) - payload_bytes);
    write_header(out, version, publish, size)
}

/// Bytes [`publish`] would append, to hold against the receiver's maximum packet size; more than the
/// protocol's 256 MiB for what [`publish`] would panic at. [MQTT-3.1.2-24]
pub fn publish_size(version: Version, publish: &PublishOut<'_>) -> usize {
    let body_bytes = Size::of(version, publish, publish.payload.len()).body_bytes;
    1 + varint_bytes(body_bytes) + body_bytes
}

/// Overwrites the packet identifier of a PUBLISH at [`Encoded::packet_id_at`].
pub fn patch_packet_id(bytes: &mut [u8], at: usize, packet_id: PacketId) {
    bytes[at..at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
}

/// The two lengths a PUBLISH states.
#[derive(Clone, Copy)]
struct Size {
    /// The property block without the length in front of it; 0 in 3.x.
    property_bytes: usize,
    /// The remaining length.
    body_bytes: usize,
}

impl Size {
    #[inline]
    fn of(version: Version, publish: &PublishOut<'_>, payload_bytes: usize) -> Size {
        let packet_id_bytes = if publish.packet_id.is_some() { 2 } else { 0 };
        let rest = 2 + publish.topic.len() + packet_id_bytes + payload_bytes;
        if version < Version::V5 {
            return Size { property_bytes: 0, body_bytes: rest };
        }
        let alias_bytes = if publish.topic_alias.is_some() { 3 } else { 0 };
        let expiry_bytes = if publish.message_expiry.is_some() { 5 } else { 0 };
        let id_bytes: usize = publish.subscription_ids.iter().map(|&id| 1 + varint_bytes(id as usize)).sum();
        let property_bytes = alias_bytes + expiry_bytes + id_bytes + publish.forwarded.len();
        Size { property_bytes, body_bytes: rest + varint_bytes(property_bytes) + property_bytes }
    }
}

#[inline]
fn write_header(out: &mut Vec<u8>, version: Version, publish: &PublishOut<'_>, size: Size) -> Encoded {
    // [MQTT-2.2.1-2] [MQTT-2.2.1-4]
    assert!(publish.packet_id.is_some() == (publish.qos > QoS::AtMostOnce), "packet id goes with QoS");
    assert!(!publish.dup || publish.qos > QoS::AtMostOnce, "DUP with QoS 0"); // [MQTT-3.3.1-2]
    let start = out.len();
    let flags = (publish.dup as u8) << 3 | publish.qos.bits() << 1 | publish.retain as u8;
    out.push(PacketKind::Publish.number() << 4 | flags);
    write_varint(out, size.body_bytes);
    let topic_bytes = u16::try_from(publish.topic.len()).expect("topic of at most 65 535 bytes");
    out.extend_from_slice(&topic_bytes.to_be_bytes());
    out.extend_from_slice(publish.topic.as_bytes());
    let packet_id_at = publish.packet_id.map(|packet_id| {
        let at = out.len();
        out.extend_from_slice(&packet_id.get().to_be_bytes());
        at
    });
    if version == Version::V5 {
        write_properties(out, publish, size);
    }
    Encoded { start, packet_id_at, end: out.len() }
}

#[inline]
fn write_properties(out: &mut Vec<u8>, publish: &PublishOut<'_>, size: Size) {
    write_varint(out, size.property_bytes);
    if size.property_bytes == 0 {
        return;
    }
    let mut properties = PropertyWriter::new(out);
    if let Some(alias) = publish.topic_alias {
        properties.two_bytes(id::TOPIC_ALIAS, alias);
    }
    if let Some(seconds) = publish.message_expiry {
        properties.four_bytes(id::MESSAGE_EXPIRY, seconds);
    }
    for &subscription_id in publish.subscription_ids {
        properties.varint(id::SUBSCRIPTION_ID, subscription_id);
    }
    out.extend_from_slice(publish.forwarded);
}
