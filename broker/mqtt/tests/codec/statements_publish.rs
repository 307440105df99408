//! PUBLISH and what is forwarded of it: section 3.3.

use mqtt::{DecodeError, Limits, Packet, PacketId, PublishProperties, QoS, ReasonCode, Version};

use crate::{VERSIONS, accepted, assert_refused, packet, refused};

/// Goal: [MQTT-3.3.2-1], [MQTT-2.2.1-2]. Method: one PUBLISH per QoS and version, field by field.
#[test]
fn fields() {
    for version in VERSIONS {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let packet_id: &[u8] = if qos == QoS::AtMostOnce { &[] } else { &[0x12, 0x34] };
            let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
            let body = [b"\0\x03a/b", packet_id, properties, b"payload"].concat();
            let bytes = packet(0x31 | qos.bits() << 1, &body);
            let Packet::Publish(publish) = accepted(version, &bytes) else { panic!("{bytes:02X?}") };
            assert_eq!((publish.dup, publish.qos, publish.retain), (false, qos, true));
            assert_eq!((publish.topic, publish.payload), ("a/b", b"payload".as_slice()));
            assert_eq!(publish.packet_id.map(PacketId::get), (qos > QoS::AtMostOnce).then_some(0x1234));
            assert!(publish.properties.is_empty());
        }
    }
    let bytes = packet(0x3A, b"\0\x01a\0\x01");
    assert!(matches!(accepted(Version::V311, &bytes), Packet::Publish(publish) if publish.dup));
}

/// Goal: [MQTT-3.3.2-2], [MQTT-4.7.3-1]. Method: topics with wildcards, and none at all.
#[test]
fn topics() {
    let wildcard = ReasonCode::TOPIC_NAME_INVALID;
    for version in VERSIONS {
        let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let with = |topic: &str| {
            packet(0x30, &[&[0, topic.len() as u8], topic.as_bytes(), properties, b"payload"].concat())
        };
        for topic in ["+", "#", "a/+/b", "a+", "#a", "a topic of more than sixteen bytes/#"] {
            assert_refused(version, &with(topic), "MQTT-3.3.2-2", wildcard);
        }
        let statement = if version == Version::V5 { "section 3.3.2.1" } else { "MQTT-4.7.3-1" };
        assert_refused(version, &with(""), statement, ReasonCode::PROTOCOL_ERROR);
        assert_eq!(refused(version, &packet(0x30, b"\0\x04abc")), DecodeError::Truncated);
        assert_eq!(refused(version, &packet(0x30, b"\0")), DecodeError::Truncated);
    }
    // Beside an alias the topic may be empty.
    let bytes = packet(0x30, b"\0\0\x03\x23\0\x07");
    let Packet::Publish(publish) = accepted(Version::V5, &bytes) else { panic!("{bytes:02X?}") };
    assert_eq!((publish.topic, publish.properties.topic_alias), ("", Some(7)));
}

/// Goal: [MQTT-3.3.2-8]. Method: topic alias 0, beside a topic and without.
#[test]
fn topic_alias_zero() {
    for body in [b"\0\x01a\x03\x23\0\0".as_slice(), b"\0\0\x03\x23\0\0"] {
        let bytes = packet(0x30, body);
        assert_refused(Version::V5, &bytes, "MQTT-3.3.2-8", ReasonCode::TOPIC_ALIAS_INVALID);
    }
}

/// Goal: [MQTT-3.3.2-14], [MQTT-4.7.3-1] for response topics. Method: wildcards and none at all.
#[test]
fn response_topics() {
    let with = |topic: &str| {
        let property = [&[0x08, 0, topic.len() as u8], topic.as_bytes()].concat();
        packet(0x30, &[b"\0\x01a", [property.len() as u8].as_slice(), &property].concat())
    };
    assert!(matches!(
        accepted(Version::V5, &with("r")),
        Packet::Publish(publish) if publish.properties.response_topic == Some("r")
    ));
    for topic in ["+", "r/#"] {
        assert_refused(Version::V5, &with(topic), "MQTT-3.3.2-14", ReasonCode::PROTOCOL_ERROR);
    }
    assert_refused(Version::V5, &with(""), "MQTT-4.7.3-1", ReasonCode::PROTOCOL_ERROR);
}

/// Goal: a server can see subscription identifiers, to refuse them from a client [MQTT-3.3.4-6].
/// Method: none, one, and several among other properties.
#[test]
fn subscription_identifiers() {
    let with = |block: &[u8]| packet(0x30, &[b"\0\x01a", [block.len() as u8].as_slice(), block].concat());
    let cases: [(&[u8], &[u32]); 4] = [
        (b"", &[]),
        (b"\x01\x01", &[]),
        (b"\x0B\x01", &[1]),
        (b"\x0B\x80\x01\x26\0\x01k\0\x01v\x0B\xFF\xFF\xFF\x7F\x01\0\x0B\x02", &[128, 268_435_455, 2]),
    ];
    for (block, expected) in cases {
        let bytes = with(block);
        let Packet::Publish(publish) = accepted(Version::V5, &bytes) else { panic!("{bytes:02X?}") };
        let ids = publish.properties.subscription_ids();
        assert_eq!((ids.len(), ids.is_empty()), (expected.len(), expected.is_empty()));
        assert_eq!(ids.collect::<Vec<_>>(), expected);
    }
    assert_refused(Version::V5, &with(b"\x0B\x00"), "section 3.8.2.1.2", ReasonCode::PROTOCOL_ERROR);
    assert_refused(Version::V5, &with(b"\x0B\x81\x00"), "MQTT-1.5.5-1", ReasonCode::MALFORMED_PACKET);
}

/// One property of each kind that a PUBLISH may carry, and whether a server forwards it as it is.
const PIECES: [(&[u8], bool); 9] = [
    (b"\x01\x00", true),             // Payload Format Indicator 0: forwarded all the same
    (b"\x02\0\0\0\x3C", false),      // Message Expiry
    (b"\x03\0\x04text", true),       // Content Type
    (b"\x08\0\x05reply", true),      // Response Topic
    (b"\x09\0\x03\0\xFF\x01", true), // Correlation Data
    (b"\x0B\x2A", false),            // Subscription Identifier
    (b"\x23\0\x05", false),          // Topic Alias
    (b"\x26\0\x01k\0\x01v", true),   // User Property
    (b"\x26\0\x01k\0\x01w", true),   // the same name again
];

/// Goal: [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18],
/// [MQTT-3.3.2-20]. Method: every subset of nine properties, rotated by every count, against the
/// pieces picked one by one.
#[test]
fn forwarded_properties() {
    for subset in 0..1_u32 << PIECES.len() {
        for rotation in 0..PIECES.len() {
            let mut pieces = PIECES;
            pieces.rotate_left(rotation);
            let chosen = |index: &usize| subset & 1 << index != 0;
            let picked: Vec<_> = (0..PIECES.len()).filter(chosen).map(|index| pieces[index]).collect();
            let block: Vec<u8> = picked.iter().flat_map(|(bytes, _)| *bytes).copied().collect();
            let expected: Vec<u8> =
                picked.iter().filter(|(_, kept)| *kept).flat_map(|(bytes, _)| *bytes).copied().collect();
            let properties = PublishProperties::parse(&block, &Limits::PROTOCOL).expect("valid");
            let mut written = vec![0xEE];
            properties.write_forwarded(&mut written);
            assert_eq!(written[1..], expected, "{block:02X?}");
            assert_eq!(properties.forwarded_bytes(), expected.len());
            // What lies together is handed on without a copy.
            match properties.forwarded() {
                Some(bytes) => assert_eq!(bytes, expected),
                None => assert!(!block.windows(expected.len()).any(|window| window == expected)),
            }
            let has = |piece: &[u8]| picked.iter().any(|(bytes, _)| *bytes == piece);
            assert_eq!(properties.message_expiry, has(PIECES[1].0).then_some(60));
            assert_eq!(properties.content_type(), has(PIECES[2].0).then_some("text"));
            assert_eq!(properties.response_topic, has(PIECES[3].0).then_some("reply"));
            assert_eq!(properties.correlation_data(), has(PIECES[4].0).then_some(b"\0\xFF\x01".as_slice()));
            assert_eq!(properties.subscription_ids().len(), usize::from(has(PIECES[5].0)));
            assert_eq!(properties.topic_alias, has(PIECES[6].0).then_some(5));
            assert!(!properties.payload_format_utf8);
            let values: Vec<_> = properties.user_properties().map(|(_, value)| value).collect();
            let users = picked.iter().filter(|(bytes, _)| bytes[0] == 0x26);
            let expected: Vec<_> =
                users.map(|(bytes, _)| core::str::from_utf8(&bytes[6..]).unwrap()).collect();
            assert_eq!(values, expected);
        }
    }
}

/// Goal: two property blocks are equal when a receiver could not tell. Method: order that matters and
/// order that does not.
#[test]
fn equal_properties() {
    let parse = |block| PublishProperties::parse(block, &Limits::PROTOCOL).expect("valid");
    assert_eq!(parse(b"\x01\x01\x23\0\x01"), parse(b"\x23\0\x01\x01\x01"));
    assert_ne!(parse(b"\x01\x01\x23\0\x01"), parse(b"\x01\x01"));
    assert_ne!(parse(b"\x26\0\0\0\x01a\x26\0\0\0\x01b"), parse(b"\x26\0\0\0\x01b\x26\0\0\0\x01a"));
    assert_ne!(parse(b"\x0B\x01\x0B\x02"), parse(b"\x0B\x02\x0B\x01"));
    assert_eq!(parse(b""), PublishProperties::default());
}
