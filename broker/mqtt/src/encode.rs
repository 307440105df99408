//! From packets to bytes, appended to a send queue: all 15 types, in both directions.
//!
//! Nothing is allocated but what the queue itself needs: every packet's length is known before its
//! first byte is written.
//!
//! # Panics
//! Every function here panics on what only a caller's bug can ask for: a string above 65 535 bytes, a
//! packet above the protocol's 256 MiB, AUTH in 3.x.

use crate::{
    Ack, Auth, ConnAck, Connect, Disconnect, PacketId, PacketKind, QoS, ReasonCode, SubscribeFilter,
    UserProperties, Version,
};

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

/// A SUBSCRIBE to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeOut<'a> {
    /// The identifier the SUBACK answers with.
    pub packet_id: PacketId,
    /// 1 to 268 435 455; left out of 3.x.
    pub subscription_id: Option<u32>,
    /// Left out of 3.x.
    pub user_properties: UserProperties<'a>,
    /// At least one; 3.x has no option but the QoS.
    pub filters: &'a [SubscribeFilter<'a>],
}

/// An UNSUBSCRIBE to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsubscribeOut<'a> {
    /// The identifier the UNSUBACK answers with.
    pub packet_id: PacketId,
    /// Left out of 3.x.
    pub user_properties: UserProperties<'a>,
    /// At least one.
    pub filters: &'a [&'a str],
}

/// A SUBACK or UNSUBACK to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAckOut<'a> {
    /// The identifier of the request.
    pub packet_id: PacketId,
    /// Left out of 3.x.
    pub reason_string: Option<&'a str>,
    /// Left out of 3.x.
    pub user_properties: UserProperties<'a>,
    /// One per filter of the request, in its order. A SUBACK of 3.x says 0x80 for every error, an
    /// UNSUBACK of 3.x has no place for them.
    pub reasons: &'a [ReasonCode],
}

/// Appends a CONNECT of the version it names.
pub fn connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let _ = (out, connect);
    unimplemented!()
}

/// Appends a CONNACK. In 3.x the reason becomes a return code.
pub fn connack(out: &mut Vec<u8>, version: Version, connack: &ConnAck<'_>) {
    let _ = (out, version, connack);
    unimplemented!()
}

/// Appends a PUBLISH.
pub fn publish(out: &mut Vec<u8>, version: Version, publish: &PublishOut<'_>) -> Encoded {
    let _ = (out, version, publish);
    unimplemented!()
}

/// Appends everything of a PUBLISH but its payload, of which it takes the length alone:
/// `publish.payload` is not read. The payload's bytes must follow on the wire.
pub fn publish_header(
    out: &mut Vec<u8>,
    version: Version,
    publish: &PublishOut<'_>,
    payload_bytes: usize,
) -> Encoded {
    let _ = (out, version, publish, payload_bytes);
    unimplemented!()
}

/// Bytes [`publish`] would append, to hold against the receiver's maximum packet size.
/// [MQTT-3.1.2-24]
pub fn publish_size(version: Version, publish: &PublishOut<'_>) -> usize {
    let _ = (version, publish);
    unimplemented!()
}

/// Overwrites the packet identifier of a PUBLISH at [`Encoded::packet_id_at`].
pub fn patch_packet_id(bytes: &mut [u8], at: usize, packet_id: PacketId) {
    bytes[at..at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
}

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP, in 5.0 in its shortest form.
///
/// # Panics
/// When `kind` is none of the four.
pub fn ack(out: &mut Vec<u8>, version: Version, kind: PacketKind, ack: &Ack<'_>) {
    let _ = (out, version, kind, ack);
    unimplemented!()
}

/// Appends a SUBSCRIBE.
pub fn subscribe(out: &mut Vec<u8>, version: Version, subscribe: &SubscribeOut<'_>) {
    let _ = (out, version, subscribe);
    unimplemented!()
}

/// Appends a SUBACK.
pub fn suback(out: &mut Vec<u8>, version: Version, suback: &SubAckOut<'_>) {
    let _ = (out, version, suback);
    unimplemented!()
}

/// Appends an UNSUBSCRIBE.
pub fn unsubscribe(out: &mut Vec<u8>, version: Version, unsubscribe: &UnsubscribeOut<'_>) {
    let _ = (out, version, unsubscribe);
    unimplemented!()
}

/// Appends an UNSUBACK.
pub fn unsuback(out: &mut Vec<u8>, version: Version, unsuback: &SubAckOut<'_>) {
    let _ = (out, version, unsuback);
    unimplemented!()
}

/// Appends a PINGREQ.
pub fn pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketKind::PingReq.number() << 4, 0]);
}

/// Appends a PINGRESP.
pub fn pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketKind::PingResp.number() << 4, 0]);
}

/// Appends a DISCONNECT, in 5.0 in its shortest form; in 3.x it says nothing but itself.
pub fn disconnect(out: &mut Vec<u8>, version: Version, disconnect: &Disconnect<'_>) {
    let _ = (out, version, disconnect);
    unimplemented!()
}

/// Appends an AUTH. 5.0 only.
pub fn auth(out: &mut Vec<u8>, auth: &Auth<'_>) {
    let _ = (out, auth);
    unimplemented!()
}

/// Writes properties of 5.0 one after the other, without the length in front of them: what
/// [`PublishOut::forwarded`] and [`UserProperties::parse`] take.
#[derive(Debug)]
pub struct PropertyWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> PropertyWriter<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> PropertyWriter<'a> {
        PropertyWriter { out }
    }

    /// Payload Format Indicator.
    pub fn payload_format_utf8(&mut self, utf8: bool) {
        let _ = (&self.out, utf8);
        unimplemented!()
    }

    /// Content Type.
    pub fn content_type(&mut self, content_type: &str) {
        let _ = content_type;
        unimplemented!()
    }

    /// Response Topic.
    pub fn response_topic(&mut self, topic: &str) {
        let _ = topic;
        unimplemented!()
    }

    /// Correlation Data.
    pub fn correlation_data(&mut self, data: &[u8]) {
        let _ = data;
        unimplemented!()
    }

    /// One User Property.
    pub fn user_property(&mut self, name: &str, value: &str) {
        let _ = (name, value);
        unimplemented!()
    }
}
