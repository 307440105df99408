//! The codec against the specifications, against itself, and against two other codecs.
//!
//! `statements_*` break one rule each; `golden` fixes bytes; `round_trip` and `fuzz` are seeded;
//! `differential_*` relay packets through another codec.

mod differential_fields;
mod differential_filters;
mod differential_relay;
mod fuzz;
mod golden;
mod random;
mod round_trip;
mod source;
mod statements_answers;
mod statements_connect;
mod statements_header;
mod statements_properties;
mod statements_publish;
mod statements_requests;

use mqtt::{DecodeError, Limits, Packet, ReasonCode, Version};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A packet of this first byte and body, with the remaining length between them.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(body);
    bytes
}

/// Decodes what must be exactly one packet.
fn accepted(version: Version, bytes: &[u8]) -> Packet<'_> {
    match mqtt::decode(version, bytes, &Limits::PROTOCOL) {
        Ok(Some((packet, consumed))) if consumed == bytes.len() => packet,
        answer => panic!("{version:?} {bytes:02X?}: {answer:?}"),
    }
}

/// What a complete packet is refused for.
fn refused(version: Version, bytes: &[u8]) -> DecodeError {
    match mqtt::decode(version, bytes, &Limits::PROTOCOL) {
        Err(error) => error,
        answer => panic!("{version:?} {bytes:02X?}: {answer:?}"),
    }
}

/// Asserts that a complete packet is refused for this statement, with this reason code.
#[track_caller]
fn assert_refused(version: Version, bytes: &[u8], statement: &str, reason: ReasonCode) {
    let error = refused(version, bytes);
    assert_eq!((error.statement(), error.reason()), (statement, reason), "{version:?} {bytes:02X?}: {error}");
}
