//! What every packet begins with, and what all their fields are made of: sections 1.5 and 2.

use mqtt::{DecodeError, Limits, Packet, PacketKind, QoS, ReasonCode, Version};

use crate::{VERSIONS, accepted, assert_refused, packet, refused};

/// Goal: every type number in every version. Method: the first byte alone, which is judged at once.
#[test]
fn type_numbers() {
    for version in VERSIONS {
        for number in 0..16_u8 {
            // 2.1.2: 0 is reserved, 15 is AUTH since 5.0.
            let known = number != 0 && (number != 15 || version == Version::V5);
            let flags = if [6, 8, 10].contains(&number) { 0x02 } else { 0x00 };
            let first = [number << 4 | flags];
            let answer = mqtt::decode(version, &first, &Limits::PROTOCOL);
            assert_eq!(answer, if known { Ok(None) } else { Err(DecodeError::PacketType) });
        }
    }
}

/// Goal: [MQTT-2.1.3-1], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1],
/// [MQTT-3.15.1-1]. Method: all 16 flags of every type but PUBLISH, first byte alone.
#[test]
fn reserved_flags() {
    for version in VERSIONS {
        for number in [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14] {
            for flags in 0..16_u8 {
                let required = if [6, 8, 10].contains(&number) { 0x02 } else { 0x00 };
                // 3.1 has unused flags and no reserved ones; CONNECT is judged before its version.
                let valid = flags == required || (version == Version::V31 && number != 1);
                let first = [number << 4 | flags];
                let answer = mqtt::decode(version, &first, &Limits::PROTOCOL);
                let expected = if valid { Ok(None) } else { Err(DecodeError::FixedHeaderFlags) };
                assert_eq!(answer, expected, "{version:?} {number} {flags:04b}");
            }
        }
    }
    assert_eq!(mqtt::decode(Version::V5, &[0xF1], &Limits::PROTOCOL), Err(DecodeError::FixedHeaderFlags));
    assert_refused(Version::V311, &[0xC1, 0], "MQTT-2.1.3-1", ReasonCode::MALFORMED_PACKET);
    // A client of 3.1 that sends again says so by DUP. MQTT 3.1, 2.1.
    let subscribe = packet(0x8A, b"\0\x01\0\x01a\0");
    assert_eq!(accepted(Version::V31, &subscribe).kind(), PacketKind::Subscribe);
}

/// Goal: [MQTT-3.3.1-2] and [MQTT-3.3.1-4]. Method: all 16 flags of PUBLISH, first byte alone.
#[test]
fn publish_flags() {
    for version in VERSIONS {
        for flags in 0..16_u8 {
            let expected = match (flags >> 1 & 0x03, flags & 0x08) {
                (3, _) => Err(DecodeError::PublishQos),
                (0, 0x08) => Err(DecodeError::DupWithQos0),
                _ => Ok(None),
            };
            assert_eq!(mqtt::decode(version, &[0x30 | flags], &Limits::PROTOCOL), expected, "{flags:04b}");
        }
        assert_refused(version, &[0x36, 0], "MQTT-3.3.1-4", ReasonCode::MALFORMED_PACKET);
        assert_refused(version, &[0x38, 0], "MQTT-3.3.1-2", ReasonCode::PROTOCOL_ERROR);
    }
}

/// Goal: the remaining length, section 2.1.4. Method: the limits of its four sizes.
#[test]
fn remaining_length() {
    let limits = Limits::PROTOCOL;
    let cases: [(&[u8], usize); 8] = [
        (&[0x00], 0),
        (&[0x7F], 127),
        (&[0x80, 0x01], 128),
        (&[0xFF, 0x7F], 16_383),
        (&[0x80, 0x80, 0x01], 16_384),
        (&[0xFF, 0xFF, 0x7F], 2_097_151),
        (&[0x80, 0x80, 0x80, 0x01], 2_097_152),
        (&[0xFF, 0xFF, 0xFF, 0x7F], 268_435_455),
    ];
    for (encoded, length) in cases {
        let bytes = [&[0x30], encoded].concat();
        assert_eq!(mqtt::packet_length(&bytes, &limits), Ok(Some(bytes.len() + length)));
        for cut in 0..bytes.len() {
            assert_eq!(mqtt::packet_length(&bytes[..cut], &limits), Ok(None));
        }
    }
    // 1.5.5: it ends with its fourth byte, and is refused as soon as that one says it does not.
    for version in VERSIONS {
        let bytes = [0x30, 0x80, 0x80, 0x80, 0x80];
        assert_refused(version, &bytes, "section 1.5.5", ReasonCode::MALFORMED_PACKET);
        assert_eq!(mqtt::decode(version, &bytes[..4], &limits), Ok(None));
    }
}

/// Goal: [MQTT-1.5.5-1], which 3.x does not have. Method: one PINGREQ, its length in two bytes.
#[test]
fn remaining_length_in_the_fewest_bytes() {
    let bytes = [0xC0, 0x80, 0x00];
    assert_refused(Version::V5, &bytes, "MQTT-1.5.5-1", ReasonCode::MALFORMED_PACKET);
    assert_eq!(accepted(Version::V311, &bytes), Packet::PingReq);
    assert_eq!(accepted(Version::V31, &bytes), Packet::PingReq);
    // A CONNECT is judged once it has named its version.
    let connect = |level| [b"\x10\x8D\0\0\x04MQTT".as_slice(), &[level], b"\x02\0\0\0\0\0"].concat();
    assert_eq!(mqtt::decode_connect(&connect(5), &Limits::PROTOCOL), Err(DecodeError::VarintNotMinimal));
    let connect = packet(0x10, b"\0\x04MQTT\x04\x02\0\0\0\x01a");
    let long = [&[0x10, connect[1] | 0x80, 0], &connect[2..]].concat();
    assert!(matches!(mqtt::decode_connect(&long, &Limits::PROTOCOL), Ok(Some((_, 16)))));
}

/// Goal: too large a packet is refused by its header, and no other. Method: the limit, one beyond it.
#[test]
fn packet_too_large() {
    let limits = Limits { packet_bytes_max: 10, ..Limits::PROTOCOL };
    let fits = packet(0x30, b"\0\x01abcdef");
    assert_eq!(fits.len(), 10);
    assert!(matches!(mqtt::decode(Version::V311, &fits, &limits), Ok(Some((_, 10)))));
    for decode in [
        |bytes: &[u8], limits: &Limits| mqtt::decode(Version::V5, bytes, limits).map(drop),
        |bytes: &[u8], limits: &Limits| mqtt::decode_connect(bytes, limits).map(drop),
        |bytes: &[u8], limits: &Limits| mqtt::packet_length(bytes, limits).map(drop),
    ] {
        assert_eq!(decode(&[0x10, 9], &limits), Err(DecodeError::PacketTooLarge));
        assert_eq!(decode(&[0x10, 8], &limits), Ok(()));
    }
    assert_eq!(DecodeError::PacketTooLarge.reason(), ReasonCode::PACKET_TOO_LARGE);
}

/// Goal: packets whose length is known by their type are refused before their body is there.
#[test]
fn fixed_lengths() {
    for version in VERSIONS {
        assert_refused(version, &[0xC0, 1], "section 2.1.4", ReasonCode::MALFORMED_PACKET);
        assert_refused(version, &[0xD0, 1], "section 2.1.4", ReasonCode::MALFORMED_PACKET);
    }
    for version in [Version::V31, Version::V311] {
        for first in [0x20, 0x40, 0x50, 0x62, 0x70, 0xB0] {
            assert_eq!(refused(version, &[first, 3]), DecodeError::TrailingBytes);
            assert_eq!(refused(version, &[first, 1]), DecodeError::Truncated);
        }
        assert_eq!(refused(version, &[0xE0, 1]), DecodeError::TrailingBytes);
    }
}

/// Goal: [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-1.5.4-3]. Method: strings as topics of a PUBLISH.
#[test]
fn strings() {
    for version in VERSIONS {
        let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let publish = |topic: &[u8]| packet(0x30, &[&[0, topic.len() as u8], topic, properties].concat());
        // Well formed, whatever a sender should rather not send: control characters, non-characters,
        // unassigned and private ones; and U+FEFF, which is kept.
        for topic in ["a", "\u{1}\u{1F}\u{7F}\u{9F}", "\u{FDD0}\u{FFFE}\u{10FFFF}", "\u{E000}", "\u{FEFF}a"] {
            let bytes = publish(topic.as_bytes());
            let Packet::Publish(decoded) = accepted(version, &bytes) else { panic!("{bytes:02X?}") };
            assert_eq!(decoded.topic, topic);
        }
        let ill_formed: [&[u8]; 7] = [
            b"\xED\xA0\x80",             // U+D800
            b"\xED\xBF\xBF",             // U+DFFF
            b"\xED\xA0\x80\xED\xB0\x80", // a pair of surrogates
            b"\xC0\x80",                 // U+0000 in two bytes
            b"\xF4\x90\x80\x80",         // U+110000
            b"\xFF",
            b"a\xC3",
        ];
        for topic in ill_formed {
            assert_refused(version, &publish(topic), "MQTT-1.5.4-1", ReasonCode::MALFORMED_PACKET);
        }
        for topic in ["\0", "a\0", "a long enough topic\0with a U+0000 in the middle of it"] {
            let bytes = publish(topic.as_bytes());
            assert_refused(version, &bytes, "MQTT-1.5.4-2", ReasonCode::MALFORMED_PACKET);
        }
    }
}

/// Goal: [MQTT-2.2.1-3], the packet identifier is not zero. Method: zero in each packet that has one.
#[test]
fn packet_identifiers() {
    for version in VERSIONS {
        for first in [0x40, 0x50, 0x62, 0x70] {
            let bytes = packet(first, &[0, 0]);
            assert_refused(version, &bytes, "MQTT-2.2.1-3", ReasonCode::PROTOCOL_ERROR);
        }
        let publish = packet(0x32, b"\0\x01a\0\0\0");
        assert_refused(version, &publish, "MQTT-2.2.1-3", ReasonCode::PROTOCOL_ERROR);
        for first in [0x82, 0x90, 0xA2, 0xB0] {
            let body: &[u8] = if version == Version::V5 { &[0, 0, 0, 0] } else { &[0, 0] };
            assert_eq!(refused(version, &packet(first, body)), DecodeError::PacketIdZero);
        }
        // Two bytes are too few for topic and identifier.
        assert_eq!(refused(version, &packet(0x34, b"\0\x01a\0")), DecodeError::Truncated);
    }
}

/// Goal: values out of range of the public types. Method: their constructors.
#[test]
fn numbers_of_types() {
    assert_eq!((0..=255).filter(|&bits| QoS::from_bits(bits).is_some()).count(), 3);
    assert_eq!((0..=255).filter(|&number| PacketKind::from_number(number).is_some()).count(), 15);
    assert_eq!((0..=255).filter(|&value| ReasonCode::from_value(value).is_some()).count(), 43);
    assert_eq!(mqtt::PacketId::new(0), None);
    for version in VERSIONS {
        let (name, level) = (version.name().as_bytes(), version.level());
        assert_eq!(Version::from_name_and_level(name, level), Some(version));
    }
}
