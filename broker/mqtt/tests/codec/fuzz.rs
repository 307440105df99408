//! Seeded fuzz: whatever the bytes, the decoder neither panics nor contradicts itself.

use std::fmt::Write as _;

use mqtt::encode::{PublishOut, SubAckOut, SubscribeOut, UnsubscribeOut};
use mqtt::{DecodeError, Limits, Packet, PacketKind, ReasonCode, Version};

use crate::random::Random;
use crate::source::{Source, for_each_packet};
use crate::{VERSIONS, accepted, packet};

const LIMITS: Limits =
    Limits { packet_bytes_max: 4096, properties_max: 12, filters_max: 8, client_id_bytes_max: 600 };

/// Everything that must hold of the answer to any bytes.
fn check(version: Version, bytes: &[u8]) {
    let answer = mqtt::decode(version, bytes, &LIMITS);
    let length = mqtt::packet_length(bytes, &LIMITS);
    match &answer {
        Ok(Some((packet, consumed))) => {
            assert!(*consumed <= bytes.len());
            assert_eq!(length, Ok(Some(*consumed)));
            check_packet(version, packet);
        }
        Ok(None) => assert!(matches!(length, Ok(None)) || matches!(length, Ok(Some(n)) if n > bytes.len())),
        Err(_) => {}
    }
    // What packet_length refuses, decode refuses as well.
    assert!(length.is_ok() || answer.is_err(), "{length:?}");
    check_byte_by_byte(version, bytes, &answer);
    check_first(bytes, &answer);
}

/// A packet that is accepted can be read to its end, and written again to say the same.
fn check_packet(version: Version, packet: &Packet<'_>) {
    // Walks every property, filter and reason code.
    let mut text = String::new();
    write!(text, "{packet:?}").expect("strings take everything");
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let again = encode_again(version, packet);
    assert_eq!(accepted(version, &again), *packet, "{version:?} {again:02X?}");
}

/// Bytes that come one by one are answered like bytes that come at once: nothing, until the answer.
fn check_byte_by_byte(
    version: Version,
    bytes: &[u8],
    answer: &Result<Option<(Packet<'_>, usize)>, DecodeError>,
) {
    for cut in 0..=bytes.len() {
        let so_far = mqtt::decode(version, &bytes[..cut], &LIMITS);
        if so_far != Ok(None) {
            assert_eq!(so_far, *answer, "after {cut} of {bytes:02X?}");
            return;
        }
    }
    assert_eq!(*answer, Ok(None));
}

/// The two ways into a CONNECT agree.
fn check_first(bytes: &[u8], answer: &Result<Option<(Packet<'_>, usize)>, DecodeError>) {
    let first = mqtt::decode_connect(bytes, &LIMITS);
    match (first, answer) {
        (Ok(Some((connect, consumed))), Ok(Some((Packet::Connect(other), also_consumed)))) => {
            assert_eq!((connect, consumed), (*other, *also_consumed));
            assert_eq!(mqtt::connect_version(bytes), Some(connect.version));
        }
        (Ok(None), Ok(None)) => {}
        // How short a length must be hangs on the version: the connection's, or the CONNECT's own.
        (Err(DecodeError::VarintNotMinimal), _) | (_, Err(DecodeError::VarintNotMinimal)) => {}
        (Err(DecodeError::ConnectExpected), _) => {
            assert!(!bytes.is_empty() && bytes[0] >> 4 != PacketKind::Connect.number());
        }
        (Err(error), Err(other)) => assert_eq!(error, *other),
        (first, other) => panic!("{first:?} {other:?} {bytes:02X?}"),
    }
}

/// What a forwarder, a load harness or a simulator would make of a packet it received.
fn encode_again(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    match *packet {
        Packet::Connect(connect) => Source::Connect(connect).encode(version),
        Packet::ConnAck(connack) => Source::ConnAck(connack).encode(version),
        Packet::Publish(publish) => {
            let mut forwarded = Vec::new();
            publish.properties.write_forwarded(&mut forwarded);
            let subscription_ids: Vec<u32> = publish.properties.subscription_ids().collect();
            let out = PublishOut {
                dup: publish.dup,
                qos: publish.qos,
                retain: publish.retain,
                topic: publish.topic,
                packet_id: publish.packet_id,
                topic_alias: publish.properties.topic_alias,
                message_expiry: publish.properties.message_expiry,
                subscription_ids: &subscription_ids,
                forwarded: &forwarded,
                payload: publish.payload,
            };
            Source::Publish(out).encode(version)
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            Source::Ack(packet.kind(), ack).encode(version)
        }
        Packet::Subscribe(subscribe) => {
            let filters: Vec<_> = subscribe.filters.collect();
            let out = SubscribeOut {
                packet_id: subscribe.packet_id,
                subscription_id: subscribe.subscription_id,
                user_properties: subscribe.user_properties,
                filters: &filters,
            };
            Source::Subscribe(out).encode(version)
        }
        Packet::Unsubscribe(unsubscribe) => {
            let filters: Vec<_> = unsubscribe.filters.collect();
            let (packet_id, user_properties) = (unsubscribe.packet_id, unsubscribe.user_properties);
            Source::Unsubscribe(UnsubscribeOut { packet_id, user_properties, filters: &filters })
                .encode(version)
        }
        Packet::SubAck(suback) => {
            let reasons: Vec<ReasonCode> = suback.reasons.collect();
            let (packet_id, reason_string) = (suback.packet_id, suback.reason_string);
            let user_properties = suback.user_properties;
            let out = SubAckOut { packet_id, reason_string, user_properties, reasons: &reasons };
            Source::SubAck(out).encode(version)
        }
        Packet::UnsubAck(unsuback) => {
            let reasons: Vec<ReasonCode> = unsuback.reasons.collect();
            let (packet_id, reason_string) = (unsuback.packet_id, unsuback.reason_string);
            let user_properties = unsuback.user_properties;
            let out = SubAckOut { packet_id, reason_string, user_properties, reasons: &reasons };
            Source::UnsubAck(out).encode(version)
        }
        Packet::PingReq => Source::PingReq.encode(version),
        Packet::PingResp => Source::PingResp.encode(version),
        Packet::Disconnect(disconnect) => Source::Disconnect(disconnect).encode(version),
        Packet::Auth(auth) => Source::Auth(auth).encode(version),
    }
}

/// Goal: bytes of no protocol. Method: random ones, and random bodies behind valid headers.
#[test]
fn random_bytes() {
    let mut random = Random::new(11);
    for _ in 0..20_000 {
        let length = random.below(24);
        let bytes = random.bytes(length);
        let first = (1 + random.below(15) as u8) << 4;
        let flags = if [0x60, 0x80, 0xA0].contains(&first) { 0x02 } else { 0 };
        let framed = packet(first | flags, &bytes);
        for version in VERSIONS {
            check(version, &bytes);
            check(version, &framed);
        }
    }
}

/// Goal: a valid packet that has not arrived. Method: random packets cut at every byte: each cut is
/// `Ok(None)`. Then the same cuts with a header that says this is all.
#[test]
fn truncated_packets() {
    for_each_packet(12, 1_000, |version, source, _| {
        let bytes = source.encode(version);
        for cut in 0..bytes.len() {
            assert_eq!(mqtt::decode(version, &bytes[..cut], &Limits::PROTOCOL), Ok(None));
            if let Source::Connect(_) = source {
                assert_eq!(mqtt::decode_connect(&bytes[..cut], &Limits::PROTOCOL), Ok(None));
            }
        }
        let header_bytes = 1 + bytes[1..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
        for cut in header_bytes..bytes.len() {
            let framed = packet(bytes[0], &bytes[header_bytes..cut]);
            if let Ok(Some((packet, _))) = mqtt::decode(version, &framed, &LIMITS) {
                check_packet(version, &packet);
            }
        }
    });
}

/// Goal: packets that are nearly valid. Method: random ones with some random changes.
#[test]
fn mutated_packets() {
    let (mut accepted, mut refused) = (0, 0);
    for_each_packet(13, 15_000, |version, source, random| {
        let mut bytes = source.encode(version);
        for _ in 0..1 + random.below(3) {
            mutate(random, &mut bytes);
        }
        check(version, &bytes);
        match mqtt::decode(version, &bytes, &LIMITS) {
            Ok(Some(_)) => accepted += 1,
            Err(_) => refused += 1,
            Ok(None) => {}
        }
    });
    // The changes are worth making: many are seen, and many slip through.
    assert!(accepted > 5_000 && refused > 5_000, "{accepted} {refused}");
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF, b'#'][random.below(6)],
        // The length in front is left as it is, or made to fit when it is one byte.
        3 => {
            bytes.insert(at, random.next() as u8);
            refit(random, bytes);
        }
        4 if bytes.len() > 2 => {
            bytes.remove(at);
            refit(random, bytes);
        }
        _ => {
            let end = at + random.below(bytes.len() - at + 1);
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
            refit(random, bytes);
        }
    }
}

fn refit(random: &mut Random, bytes: &mut [u8]) {
    if bytes.len() >= 2 && bytes.len() < 130 && random.below(4) > 0 {
        bytes[1] = (bytes.len() - 2) as u8;
    }
}
