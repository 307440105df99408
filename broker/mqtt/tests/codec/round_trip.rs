//! What is encoded decodes to itself.

use mqtt::encode::{self, PublishOut, SubAckOut};
use mqtt::{Limits, Packet, PacketId, QoS, ReasonCodes, SubscribeFilter, Version};

use crate::source::{Source, for_each_packet};
use crate::{VERSIONS, accepted};

/// Asserts that `packet` says what `source` says. In 3.x a filter's options are its QoS.
pub(crate) fn assert_same(version: Version, source: &Source<'_>, packet: &Packet<'_>) {
    match (source, packet) {
        (Source::Connect(expected), Packet::Connect(connect)) => assert_eq!(connect, expected),
        (Source::ConnAck(expected), Packet::ConnAck(connack)) => assert_eq!(connack, expected),
        (Source::Publish(expected), Packet::Publish(publish)) => {
            assert_eq!(publish.dup, expected.dup);
            assert_eq!(publish.qos, expected.qos);
            assert_eq!(publish.retain, expected.retain);
            assert_eq!(publish.topic, expected.topic);
            assert_eq!(publish.packet_id, expected.packet_id);
            assert_eq!(publish.payload, expected.payload);
            assert_eq!(publish.properties.topic_alias, expected.topic_alias);
            assert_eq!(publish.properties.message_expiry, expected.message_expiry);
            let subscription_ids: Vec<_> = publish.properties.subscription_ids().collect();
            assert_eq!(subscription_ids, expected.subscription_ids);
            assert_eq!(publish.properties.forwarded(), Some(expected.forwarded));
        }
        (Source::Ack(kind, expected), Packet::PubAck(ack))
        | (Source::Ack(kind, expected), Packet::PubRec(ack))
        | (Source::Ack(kind, expected), Packet::PubRel(ack))
        | (Source::Ack(kind, expected), Packet::PubComp(ack)) => {
            assert_eq!((packet.kind(), ack), (*kind, expected));
        }
        (Source::Subscribe(expected), Packet::Subscribe(subscribe)) => {
            assert_eq!(subscribe.packet_id, expected.packet_id);
            assert_eq!(subscribe.subscription_id, expected.subscription_id);
            assert_eq!(subscribe.user_properties, expected.user_properties);
            let filters = expected.filters.iter().map(|filter| in_version(version, *filter));
            assert!(subscribe.filters.eq(filters));
        }
        (Source::Unsubscribe(expected), Packet::Unsubscribe(unsubscribe)) => {
            assert_eq!(unsubscribe.packet_id, expected.packet_id);
            assert_eq!(unsubscribe.user_properties, expected.user_properties);
            assert!(unsubscribe.filters.eq(expected.filters.iter().copied()));
        }
        (Source::SubAck(expected), Packet::SubAck(suback)) => {
            let found = (suback.packet_id, suback.reason_string, suback.user_properties);
            assert_same_answer(expected, found, suback.reasons);
        }
        (Source::UnsubAck(expected), Packet::UnsubAck(unsuback)) => {
            let found = (unsuback.packet_id, unsuback.reason_string, unsuback.user_properties);
            assert_same_answer(expected, found, unsuback.reasons);
        }
        (Source::Disconnect(expected), Packet::Disconnect(disconnect)) => assert_eq!(disconnect, expected),
        (Source::Auth(expected), Packet::Auth(auth)) => assert_eq!(auth, expected),
        (Source::PingReq, Packet::PingReq) | (Source::PingResp, Packet::PingResp) => {}
        _ => panic!("{source:?} became {packet:?}"),
    }
}

fn in_version(version: Version, filter: SubscribeFilter<'_>) -> SubscribeFilter<'_> {
    match version {
        Version::V5 => filter,
        _ => SubscribeFilter {
            options: mqtt::SubscriptionOptions { qos: filter.options.qos, ..Default::default() },
            ..filter
        },
    }
}

fn assert_same_answer(
    expected: &SubAckOut<'_>,
    found: (PacketId, Option<&str>, mqtt::UserProperties<'_>),
    reasons: ReasonCodes<'_>,
) {
    assert_eq!(found, (expected.packet_id, expected.reason_string, expected.user_properties));
    assert!(reasons.eq(expected.reasons.iter().copied()));
}

/// Goal: no field is lost or altered. Method: random packets of every type and version, there and
/// back; a CONNECT by both ways in.
#[test]
fn random_packets() {
    for_each_packet(1, 4_000, |version, source, _| {
        let bytes = source.encode(version);
        assert_same(version, source, &accepted(version, &bytes));
        assert_eq!(mqtt::packet_length(&bytes, &Limits::PROTOCOL), Ok(Some(bytes.len())));
        if let Source::Connect(expected) = source {
            let decoded = mqtt::decode_connect(&bytes, &Limits::PROTOCOL);
            assert_eq!(decoded, Ok(Some((*expected, bytes.len()))));
            assert_eq!(mqtt::connect_version(&bytes), Some(version));
        }
    });
}

/// Goal: packets follow each other in one buffer. Method: random packets end to end, decoded in turn.
#[test]
fn packets_in_a_row() {
    for version in VERSIONS {
        let (mut buffer, mut starts) = (Vec::new(), Vec::new());
        for_each_packet(2, 500, |its_version, source, _| {
            if its_version == version {
                starts.push(buffer.len());
                buffer.extend_from_slice(&source.encode(version));
            }
        });
        let mut at = 0;
        for start in starts {
            assert_eq!(at, start);
            let decoded = mqtt::decode(version, &buffer[at..], &Limits::PROTOCOL);
            let Ok(Some((_, consumed))) = decoded else { panic!("{decoded:?}") };
            at += consumed;
        }
        assert_eq!(at, buffer.len());
    }
}

/// Goal: what is told of an encoded PUBLISH is where it lies. Method: random ones, written behind other
/// bytes, whole and as a header, and patched.
#[test]
fn publish_offsets() {
    for_each_packet(3, 4_000, |version, source, random| {
        let Source::Publish(publish) = source else { return };
        let mut whole = vec![0xEE; random.below(9)];
        let before = whole.len();
        let encoded = encode::publish(&mut whole, version, publish);
        assert_eq!((encoded.start, encoded.end), (before, whole.len()));
        assert_eq!(whole.len() - before, encode::publish_size(version, publish));

        let mut header = vec![0xEE; before];
        let unread = PublishOut { payload: b"not read", ..*publish };
        let encoded_header = encode::publish_header(&mut header, version, &unread, publish.payload.len());
        assert_eq!((encoded_header.start, encoded_header.end), (before, header.len()));
        assert_eq!(encoded_header.packet_id_at, encoded.packet_id_at);
        header.extend_from_slice(publish.payload);
        assert_eq!(header, whole);

        let Some(at) = encoded.packet_id_at else { return assert_eq!(publish.qos, QoS::AtMostOnce) };
        let patched = PublishOut { packet_id: Some(random.packet_id()), ..*publish };
        encode::patch_packet_id(&mut whole, at, patched.packet_id.expect("just set"));
        assert_same(version, &Source::Publish(patched), &accepted(version, &whole[before..]));
    });
}

/// Goal: remaining lengths of each size, there and back. Method: payloads around the limits.
#[test]
fn lengths_of_every_size() {
    let payload = vec![0x5A; 2_097_152];
    for (body_bytes, length_bytes) in
        [(3, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (2_097_151, 3), (2_097_152, 4)]
    {
        let publish = PublishOut { topic: "t", payload: &payload[..body_bytes - 3], ..PublishOut::default() };
        let bytes = Source::Publish(publish).encode(Version::V311);
        assert_eq!(bytes.len(), 1 + length_bytes + body_bytes);
        assert_same(Version::V311, &Source::Publish(publish), &accepted(Version::V311, &bytes));
    }
}
