//! CONNECT and CONNACK: sections 3.1 and 3.2.

use mqtt::{ConnAck, DecodeError, Limits, Packet, QoS, ReasonCode, Version, connect_return_code};

use crate::{VERSIONS, accepted, assert_refused, packet, refused};

/// A CONNECT with these flags, and everything after the keep-alive.
fn connect(version: Version, flags: u8, rest: &[u8]) -> Vec<u8> {
    let name = version.name().as_bytes();
    let head = [&[0, name.len() as u8], name, &[version.level(), flags, 0, 60]].concat();
    packet(0x10, &[&head, rest].concat())
}

/// The empty property block that 5.0 asks for.
fn properties(version: Version) -> &'static [u8] {
    if version == Version::V5 { &[0] } else { &[] }
}

fn refused_first(bytes: &[u8]) -> DecodeError {
    mqtt::decode_connect(bytes, &Limits::PROTOCOL).expect_err("refused")
}

/// Goal: [MQTT-3.1.0-1], the first packet is a CONNECT. Method: every first byte, alone.
#[test]
fn connect_comes_first() {
    for first in 0..=255_u8 {
        let expected = match first {
            0x10 => Ok(None),
            0x11..=0x1F => Err(DecodeError::FixedHeaderFlags), // [MQTT-2.1.3-1]
            _ => Err(DecodeError::ConnectExpected),
        };
        assert_eq!(mqtt::decode_connect(&[first], &Limits::PROTOCOL), expected);
    }
    // What strays to an MQTT port: HTTP, and a TLS record.
    assert_eq!(refused_first(b"GET / HTTP/1.1\r\n").statement(), "MQTT-3.1.0-1");
    assert_eq!(refused_first(&[0x16, 3, 1, 2, 0]), DecodeError::FixedHeaderFlags);
}

/// Goal: [MQTT-3.1.2-1], [MQTT-3.1.2-2]. Method: names and levels that are not a version.
#[test]
fn protocol_names_and_levels() {
    let with = |name: &[u8], level: u8| {
        packet(0x10, &[&[0, name.len() as u8], name, &[level, 2, 0, 60, 0, 0, 1, b'a']].concat())
    };
    let unsupported = ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
    for name in [b"mqtt".as_slice(), b"MQTTT", b"MQT", b"", b"MQIsd", b"HTTP", b"\xFF\xFF\xFF\xFF"] {
        let error = refused_first(&with(name, 4));
        assert_eq!((error.statement(), error.reason()), ("MQTT-3.1.2-1", unsupported), "{name:02X?}");
    }
    // 0x83 and 0x84 are what Mosquitto's bridges send: no version, and no tolerance either.
    for (name, levels) in
        [(b"MQTT".as_slice(), [0, 1, 2, 3, 6, 0x84, 0x85, 255]), (b"MQIsdp", [0, 1, 2, 4, 5, 6, 0x83, 255])]
    {
        for level in levels {
            let error = refused_first(&with(name, level));
            assert_eq!((error.statement(), error.reason()), ("MQTT-3.1.2-2", unsupported), "{level}");
            let later = name == b"MQTT" && level == 6;
            assert_eq!(mqtt::connect_version(&with(name, level)), later.then_some(Version::V5));
        }
    }
    assert_eq!(connect_return_code(unsupported), 1);
}

/// Goal: the form of a refusal is known before its cause. Method: a CONNECT cut at every byte.
#[test]
fn connect_version_is_read_early() {
    for version in VERSIONS {
        let bytes = connect(version, 0x01, b"");
        let named_after = bytes.len() - 3;
        for cut in 0..=bytes.len() {
            let expected = (cut >= named_after).then_some(version);
            assert_eq!(mqtt::connect_version(&bytes[..cut]), expected);
        }
    }
    assert_eq!(mqtt::connect_version(&[0xC0, 0]), None);
}

/// Goal: [MQTT-3.1.2-3], [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13], and [MQTT-3.1.2-22] of
/// 3.1.1. Method: all 256 flags, each with the fields it announces.
#[test]
fn connect_flags() {
    for version in VERSIONS {
        for flags in 0..=255_u8 {
            let mut rest = [properties(version), b"\0\x01c"].concat();
            if flags & 0x04 != 0 {
                rest.extend_from_slice(&[properties(version), b"\0\x01t\0\x02wp"].concat());
            }
            if flags & 0x80 != 0 {
                rest.extend_from_slice(b"\0\x01u");
            }
            if flags & 0x40 != 0 {
                rest.extend_from_slice(b"\0\x01p");
            }
            let (will, will_qos) = (flags & 0x04 != 0, flags >> 3 & 0x03);
            // 3.1 does not say that unused bits are zero.
            let strict = version > Version::V31;
            let error = if strict && flags & 0x01 != 0 {
                Some(DecodeError::ConnectReservedFlag)
            } else if strict && !will && will_qos != 0 {
                Some(DecodeError::WillQosWithoutWill)
            } else if strict && !will && flags & 0x20 != 0 {
                Some(DecodeError::WillRetainWithoutWill)
            } else if version < Version::V5 && flags & 0xC0 == 0x40 {
                Some(DecodeError::PasswordWithoutUsername)
            } else if will && will_qos == 3 {
                Some(DecodeError::WillQos)
            } else {
                None
            };
            let bytes = connect(version, flags, &rest);
            let decoded = match (mqtt::decode_connect(&bytes, &Limits::PROTOCOL), error) {
                (Ok(Some((decoded, _))), None) => decoded,
                (Err(found), Some(error)) if found == error => continue,
                (answer, _) => panic!("{version:?} {flags:08b}: {answer:?}"),
            };
            assert_eq!(decoded.clean_start, flags & 0x02 != 0);
            assert_eq!(decoded.username, (flags & 0x80 != 0).then_some("u"));
            assert_eq!(decoded.password, (flags & 0x40 != 0).then_some(b"p".as_slice()));
            assert_eq!(decoded.will.map(|will| will.qos.bits()), will.then_some(will_qos));
            assert_eq!(decoded.will.map(|will| will.retain), will.then_some(flags & 0x20 != 0));
            let text = (decoded.will.map(|will| will.topic), decoded.will.map(|will| will.payload));
            assert_eq!(text, (will.then_some("t"), will.then_some(b"wp".as_slice())));
        }
    }
    let malformed = ReasonCode::MALFORMED_PACKET;
    assert_refused(Version::V5, &connect(Version::V5, 0x01, b""), "MQTT-3.1.2-3", malformed);
    assert_refused(Version::V5, &connect(Version::V5, 0x08, b""), "MQTT-3.1.2-11", malformed);
    assert_refused(Version::V5, &connect(Version::V5, 0x20, b""), "MQTT-3.1.2-13", malformed);
    assert_refused(Version::V5, &connect(Version::V5, 0x1C, b"\0\0\x01c"), "MQTT-3.1.2-12", malformed);
    let bytes = connect(Version::V311, 0x40, b"");
    assert_refused(Version::V311, &bytes, "MQTT-3.1.2-22 of 3.1.1", ReasonCode::PROTOCOL_ERROR);
}

/// Goal: [MQTT-3.1.3-8] of 3.1.1 and [MQTT-3.1.3-6] of 5.0. Method: no client identifier, with and
/// without a session to keep.
#[test]
fn empty_client_identifiers() {
    for version in VERSIONS {
        let rest = [properties(version), b"\0\0"].concat();
        let clean = connect(version, 0x02, &rest);
        assert!(
            matches!(accepted(version, &clean), Packet::Connect(connect) if connect.client_id.is_empty())
        );
        let lasting = connect(version, 0x00, &rest);
        match version {
            Version::V5 => drop(accepted(version, &lasting)),
            _ => {
                let reason = ReasonCode::CLIENT_IDENTIFIER_NOT_VALID;
                assert_refused(version, &lasting, "MQTT-3.1.3-8 of 3.1.1", reason);
                assert_eq!(connect_return_code(reason), 2);
            }
        }
    }
}

/// Goal: [MQTT-3.1.3-5], and a bound beyond it. Method: identifiers at the limit and above. The 23
/// bytes of 3.1 are no limit.
#[test]
fn long_client_identifiers() {
    let limits = Limits { client_id_bytes_max: 64, ..Limits::PROTOCOL };
    for version in VERSIONS {
        for length in [23, 24, 64, 65] {
            let rest = [properties(version), &[0, length], &vec![b'c'; usize::from(length)]].concat();
            let bytes = connect(version, 0x02, &rest);
            let answer = mqtt::decode_connect(&bytes, &limits);
            match length {
                65 => assert_eq!(answer, Err(DecodeError::ClientIdTooLong)),
                _ => assert!(matches!(answer, Ok(Some(_)))),
            }
        }
    }
}

/// Goal: the will's topic, [MQTT-4.7.3-1], [MQTT-3.3.2-2], [MQTT-3.1.3-11]. Method: one bad topic a
/// rule.
#[test]
fn will_topics() {
    for version in VERSIONS {
        let none = properties(version);
        let with = |topic: &[u8]| {
            let topic = [&[0, topic.len() as u8], topic].concat();
            connect(version, 0x06, &[none, b"\0\x01c", none, &topic, b"\0\0"].concat())
        };
        assert!(matches!(accepted(version, &with(b"t")), Packet::Connect(connect) if connect.will.is_some()));
        assert_refused(version, &with(b""), "MQTT-4.7.3-1", ReasonCode::PROTOCOL_ERROR);
        assert_refused(version, &with(b"a/+"), "MQTT-3.3.2-2", ReasonCode::TOPIC_NAME_INVALID);
        assert_refused(version, &with(b"#"), "MQTT-3.3.2-2", ReasonCode::TOPIC_NAME_INVALID);
        assert_refused(version, &with(b"\xFF"), "MQTT-1.5.4-1", ReasonCode::MALFORMED_PACKET);
        assert_refused(version, &with(b"a\0"), "MQTT-1.5.4-2", ReasonCode::MALFORMED_PACKET);
    }
}

/// Goal: fields that end beyond the packet, and packets that end beyond their fields.
#[test]
fn connect_ends_with_its_fields() {
    for version in VERSIONS {
        let none = properties(version);
        let full = [none, b"\0\x01c", none, b"\0\x01t\0\x01p\0\x01u\0\x01p"].concat();
        accepted(version, &connect(version, 0xC6, &full));
        for cut in 0..full.len() {
            let bytes = connect(version, 0xC6, &full[..cut]);
            // MQTT 3.1: user name and password that are flagged may be missing.
            if version == Version::V31 && [full.len() - 6, full.len() - 3].contains(&cut) {
                accepted(version, &bytes);
            } else {
                assert_eq!(refused(version, &bytes), DecodeError::Truncated, "{cut}");
            }
        }
        let longer = [&full, b"x".as_slice()].concat();
        assert_eq!(refused(version, &connect(version, 0xC6, &longer)), DecodeError::TrailingBytes);
    }
}

/// Goal: a CONNECT that comes later still decodes, for [MQTT-3.1.0-2] is the caller's. Method: one of
/// 3.1.1 on a connection of 5.0.
#[test]
fn second_connect_brings_its_own_version() {
    let bytes = connect(Version::V311, 0x02, b"\0\x01c");
    let Packet::Connect(decoded) = accepted(Version::V5, &bytes) else { panic!("{bytes:02X?}") };
    assert_eq!(decoded.version, Version::V311);
}

/// Goal: CONNACK, [MQTT-3.2.2-1], [MQTT-3.2.2-6], [MQTT-3.2.2-8]. Method: flags and codes one by one.
#[test]
fn connack() {
    for version in [Version::V311, Version::V5] {
        let with = |flags: u8, code: u8| packet(0x20, &[&[flags, code], properties(version)].concat());
        let refusal = if version == Version::V5 { 0x84 } else { 1 };
        for flags in 2..=255 {
            assert_refused(version, &with(flags, 0), "MQTT-3.2.2-1", ReasonCode::MALFORMED_PACKET);
        }
        assert_refused(version, &with(1, refusal), "MQTT-3.2.2-6", ReasonCode::PROTOCOL_ERROR);
        let bytes = with(1, 0);
        assert!(matches!(accepted(version, &bytes), Packet::ConnAck(connack) if connack.session_present));
    }
    for code in 0..=255_u8 {
        let bytes = packet(0x20, &[0, code]);
        let answer = mqtt::decode(Version::V311, &bytes, &Limits::PROTOCOL);
        match ReasonCode::from_connect_return_code(code) {
            Some(reason) => {
                assert_eq!(connect_return_code(reason), code);
                let connack = ConnAck { reason, ..ConnAck::default() };
                assert_eq!(answer, Ok(Some((Packet::ConnAck(connack), 4))));
            }
            None => assert_eq!(answer, Err(DecodeError::ReasonCode)),
        }
    }
    // 3.1 does not use the flags.
    let bytes = packet(0x20, &[0xFF, 0]);
    assert!(matches!(accepted(Version::V31, &bytes), Packet::ConnAck(connack) if !connack.session_present));
}

/// Goal: Maximum QoS of CONNACK means what 3.2.2.3.4 says. Method: its two values and its absence.
#[test]
fn connack_maximum_qos() {
    let cases: [(&[u8], QoS); 3] =
        [(&[2, 0x24, 0], QoS::AtMostOnce), (&[2, 0x24, 1], QoS::AtLeastOnce), (&[0], QoS::ExactlyOnce)];
    for (properties, maximum_qos) in cases {
        let bytes = packet(0x20, &[&[0, 0], properties].concat());
        let Packet::ConnAck(connack) = accepted(Version::V5, &bytes) else { panic!("{bytes:02X?}") };
        assert_eq!(connack.properties.maximum_qos, maximum_qos);
    }
}
