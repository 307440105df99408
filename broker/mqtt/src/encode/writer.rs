//! Bytes of a packet, counted before they are written.
//!
//! A packet states its length in front of its body, and so does a block of properties. What writes
//! them runs twice, once into a [`Writer`] that only counts: the two can not disagree.

use crate::property::id;
use crate::{PacketKind, REMAINING_LENGTH_MAX, UserProperties};

/// Appends to a buffer, or only counts what it would append.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    out: Option<&'a mut Vec<u8>>,
    bytes: usize,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut Vec<u8>) -> Writer<'a> {
        Writer { out: Some(out), bytes: 0 }
    }

    fn counting() -> Writer<'a> {
        Writer { out: None, bytes: 0 }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        if let Some(out) = &mut self.out {
            out.extend_from_slice(bytes);
        }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    /// Binary data or a string, with its length in front.
    pub(super) fn binary(&mut self, bytes: &[u8]) {
        self.u16(u16::try_from(bytes.len()).expect("a field of at most 65 535 bytes"));
        self.raw(bytes);
    }

    pub(super) fn string(&mut self, text: &str) {
        self.binary(text.as_bytes());
    }

    fn varint(&mut self, value: usize) {
        self.bytes += varint_bytes(value);
        if let Some(out) = &mut self.out {
            write_varint(out, value);
        }
    }

    /// A property block with its length in front. [MQTT-2.2.2-1]
    pub(super) fn properties(&mut self, write: impl Fn(&mut PropertyWriter<'_>)) {
        let mut count = PropertyWriter { writer: Writer::counting() };
        write(&mut count);
        self.varint(count.writer.bytes);
        self.bytes += count.writer.bytes;
        if let Some(out) = &mut self.out {
            write(&mut PropertyWriter::new(out));
        }
    }
}

/// Appends a packet: its fixed header, then what `write` writes.
pub(super) fn packet(out: &mut Vec<u8>, kind: PacketKind, flags: u8, write: impl Fn(&mut Writer<'_>)) {
    let mut count = Writer::counting();
    write(&mut count);
    let body_bytes = count.bytes;
    out.reserve(packet_bytes(body_bytes));
    out.push(kind.number() << 4 | flags);
    write_varint(out, body_bytes);
    let start = out.len();
    write(&mut Writer::new(out));
    assert!(out.len() - start == body_bytes, "a body of the length its header states");
}

/// Whole length of a packet with a body of this many bytes.
#[inline]
pub(super) fn packet_bytes(body_bytes: usize) -> usize {
    assert!(body_bytes <= REMAINING_LENGTH_MAX as usize, "a packet within the protocol's 256 MiB");
    1 + varint_bytes(body_bytes) + body_bytes
}

/// Bytes of a variable byte integer, 1 to 4.
#[inline]
pub(super) fn varint_bytes(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer in the fewest bytes. [MQTT-1.5.5-1]
#[inline]
pub(super) fn write_varint(out: &mut Vec<u8>, mut value: usize) {
    assert!(value <= REMAINING_LENGTH_MAX as usize, "a variable byte integer of four bytes");
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes properties of 5.0 one after the other, without the length in front of them: what
/// [`PublishOut::forwarded`](super::PublishOut::forwarded), [`UserProperties::parse`] and
/// [`PublishProperties::parse`](crate::PublishProperties::parse) take.
#[derive(Debug)]
pub struct PropertyWriter<'a> {
    writer: Writer<'a>,
}

impl<'a> PropertyWriter<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> PropertyWriter<'a> {
        PropertyWriter { writer: Writer::new(out) }
    }

    /// Payload Format Indicator.
    pub fn payload_format_utf8(&mut self, utf8: bool) {
        self.boolean(id::PAYLOAD_FORMAT, utf8);
    }

    /// Message Expiry Interval in seconds. Not among what is forwarded: see
    /// [`PublishOut::message_expiry`](super::PublishOut::message_expiry).
    pub fn message_expiry(&mut self, seconds: u32) {
        self.four_bytes(id::MESSAGE_EXPIRY, seconds);
    }

    /// Content Type.
    pub fn content_type(&mut self, content_type: &str) {
        self.string(id::CONTENT_TYPE, content_type);
    }

    /// Response Topic.
    pub fn response_topic(&mut self, topic: &str) {
        self.string(id::RESPONSE_TOPIC, topic);
    }

    /// Correlation Data.
    pub fn correlation_data(&mut self, data: &[u8]) {
        self.binary(id::CORRELATION_DATA, data);
    }

    /// One User Property.
    pub fn user_property(&mut self, name: &str, value: &str) {
        self.writer.u8(id::USER);
        self.writer.string(name);
        self.writer.string(value);
    }

    pub(super) fn user_properties(&mut self, user_properties: UserProperties<'_>) {
        for (name, value) in user_properties {
            self.user_property(name, value);
        }
    }

    /// Properties that are written already.
    pub(super) fn forwarded(&mut self, bytes: &[u8]) {
        self.writer.raw(bytes);
    }

    pub(super) fn boolean(&mut self, id: u8, value: bool) {
        self.writer.raw(&[id, value as u8]);
    }

    pub(super) fn two_bytes(&mut self, id: u8, value: u16) {
        self.writer.u8(id);
        self.writer.u16(value);
    }

    pub(super) fn four_bytes(&mut self, id: u8, value: u32) {
        self.writer.u8(id);
        self.writer.raw(&value.to_be_bytes());
    }

    pub(super) fn varint(&mut self, id: u8, value: u32) {
        self.writer.u8(id);
        self.writer.varint(value as usize);
    }

    pub(super) fn binary(&mut self, id: u8, value: &[u8]) {
        self.writer.u8(id);
        self.writer.binary(value);
    }

    pub(super) fn string(&mut self, id: u8, value: &str) {
        self.binary(id, value.as_bytes());
    }

    /// Written only when it is there, as are the next three.
    pub(super) fn optional_string(&mut self, id: u8, value: Option<&str>) {
        if let Some(value) = value {
            self.string(id, value);
        }
    }

    pub(super) fn optional_binary(&mut self, id: u8, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.binary(id, value);
        }
    }

    pub(super) fn optional_two_bytes(&mut self, id: u8, value: Option<u16>) {
        if let Some(value) = value {
            self.two_bytes(id, value);
        }
    }

    pub(super) fn optional_four_bytes(&mut self, id: u8, value: Option<u32>) {
        if let Some(value) = value {
            self.four_bytes(id, value);
        }
    }

    /// Written only when it is not what its absence means.
    pub(super) fn boolean_unless(&mut self, id: u8, default: bool, value: bool) {
        if value != default {
            self.boolean(id, value);
        }
    }

    pub(super) fn two_bytes_unless(&mut self, id: u8, default: u16, value: u16) {
        if value != default {
            self.two_bytes(id, value);
        }
    }
}
