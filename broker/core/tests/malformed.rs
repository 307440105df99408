//! What is malformed or breaks the protocol, and the one reaction to it: a table of bytes for each phase of a
//! connection and each version. Whole sessions of such bytes are in `fuzz.rs`.

mod host;

use broker_core::config::{Config, Settings};
use host::{Node, VERSIONS};
use mqtt::{ReasonCode, Version};

const MALFORMED: u8 = 0x81;
const PROTOCOL: u8 = 0x82;

/// What the broker does before CONNACK.
#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    /// Closes without a word.
    Silence,
    /// Says this in its CONNACK, and closes.
    Refusal(u8),
}
use First::{Refusal, Silence};

/// A packet of one byte of type and flags, and a body.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        bytes.push((length % 0x80) as u8 | 0x80);
        length /= 0x80;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(body);
    bytes
}

/// A CONNECT with these flags, and what follows the keep alive.
fn connect(version: Version, flags: u8, rest: &[u8]) -> Vec<u8> {
    let name = version.name().as_bytes();
    let mut body = vec![0, name.len() as u8];
    body.extend_from_slice(name);
    body.extend([version.level(), flags, 0, 0]);
    body.extend_from_slice(rest);
    packet(0x10, &body)
}

/// A CONNECT of 5.0 with these properties, and a client id.
fn with_properties(properties: &[u8]) -> Vec<u8> {
    let mut rest = vec![properties.len() as u8];
    rest.extend_from_slice(properties);
    rest.extend([0, 1, b'c']);
    connect(Version::V5, 2, &rest)
}

/// A CONNECT of 5.0 whose will has these properties.
fn with_will_properties(properties: &[u8]) -> Vec<u8> {
    let mut rest = vec![0, 0, 1, b'c', properties.len() as u8];
    rest.extend_from_slice(properties);
    rest.extend([0, 1, b't', 0, 1, b'p']);
    connect(Version::V5, 6, &rest)
}

fn check_first(statement: &str, version: Version, bytes: &[u8], expected: First) {
    for piece_bytes in [1, 65_536] {
        let node = Node::new(2);
        node.split_input(piece_bytes);
        let mut client = node.accept();
        client.version = version;
        client.send(bytes);
        let answer = client.take_bytes();
        let found = match (version, &answer[..]) {
            (_, []) => Silence,
            (Version::V5, [0x20, 3, 0, code, 0]) | (_, [0x20, 2, 0, code]) => Refusal(*code),
            other => panic!("{statement}: {other:x?}"),
        };
        assert_eq!((found, client.is_closed()), (expected, true), "{statement} {version:?} {bytes:x?}");
        assert_eq!((node.sessions(), node.connections()), (0, 0));
    }
}

/// [MQTT-3.1.0-1] Whatever a first packet is other than a CONNECT: closed without a word.
#[test]
fn first_packet_is_no_connect() {
    for first in (0u8..=0xFF).filter(|first| *first != 0x10) {
        for length in [&[0][..], &[2, 0, 1], &[0xFF, 0xFF, 0xFF, 0xFF]] {
            check_first("MQTT-3.1.0-1", Version::V311, &[&[first], length].concat(), Silence);
        }
    }
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03", b"\0\0\0\0"]
    {
        check_first("MQTT-3.1.0-1", Version::V311, bytes, Silence);
    }
}

/// CONNECT packets of 3.1 and 3.1.1 that are wrong: there is no return code for it but for the client id's
/// [MQTT-3.1.4-1, MQTT-3.2.2-6 of 3.1.1, MQTT-4.8.0-1 of 3.1.1].
#[test]
fn connect_of_3() {
    let id = [0, 1, b'c'];
    let will = [0, 1, b'c', 0, 1, b't', 0, 1, b'p'];
    let cases: [(&str, u8, Vec<u8>, First); 20] = [
        ("MQTT-3.1.2-3", 0x03, id.to_vec(), Silence),
        ("MQTT-3.1.2-13", 0x0A, id.to_vec(), Silence),
        ("MQTT-3.1.2-13", 0x12, id.to_vec(), Silence),
        ("MQTT-3.1.2-14", 0x1E, will.to_vec(), Silence),
        ("MQTT-3.1.2-15", 0x22, id.to_vec(), Silence),
        ("MQTT-3.1.2-22", 0x42, vec![0, 1, b'c', 0, 1, b'p'], Silence),
        ("MQTT-3.1.3-3", 0x02, vec![], Silence),
        ("MQTT-3.1.3-1", 0x02, vec![0, 2, b'c'], Silence),
        ("MQTT-3.1.3-1", 0x06, id.to_vec(), Silence),
        ("MQTT-3.1.3-1", 0x06, will[..6].to_vec(), Silence),
        ("MQTT-3.1.3-1", 0x82, id.to_vec(), Silence),
        ("MQTT-3.1.3-1", 0xC2, vec![0, 1, b'c', 0, 1, b'u'], Silence),
        ("MQTT-3.1.2-18", 0x02, vec![0, 1, b'c', 0, 1, b'u'], Silence),
        ("MQTT-3.1.3-4", 0x02, vec![0, 1, 0xFF], Silence),
        ("MQTT-1.5.3-1 of 3.1.1", 0x02, vec![0, 3, 0xED, 0xA0, 0x80], Silence),
        ("MQTT-1.5.3-2 of 3.1.1", 0x02, vec![0, 1, 0], Silence),
        ("MQTT-3.1.3-10", 0x06, vec![0, 1, b'c', 0, 1, 0x80, 0, 0], Silence),
        ("MQTT-3.1.3-11", 0x82, vec![0, 1, b'c', 0, 1, 0xC0], Silence),
        ("MQTT-4.7.3-1", 0x06, vec![0, 1, b'c', 0, 0, 0, 0], Silence),
        ("MQTT-3.1.3-8", 0x00, vec![0, 0], Refusal(2)),
    ];
    for (statement, flags, rest, expected) in cases {
        check_first(statement, Version::V311, &connect(Version::V311, flags, &rest), expected);
    }
    for topic in [b'+', b'#'] {
        let bytes = connect(Version::V311, 0x06, &[0, 1, b'c', 0, 1, topic, 0, 0]);
        check_first("MQTT-3.3.2-2", Version::V311, &bytes, Refusal(5));
    }
    // Flags that 3.1 leaves open, and strings that its flags promise in vain.
    for flags in [0x03, 0x0A, 0x22, 0x82, 0xC2] {
        let mut client = Node::new(1).accept();
        client.version = Version::V31;
        client.send(&connect(Version::V31, flags, &id));
        assert_eq!(client.expect_connack().reason, ReasonCode::SUCCESS, "{flags:x}");
    }
    check_first("3.1", Version::V31, &connect(Version::V31, 2, &[0, 0]), Refusal(2));
    check_first("3.1", Version::V31, &connect(Version::V31, 0x1E, &will), Silence);
}

/// CONNECT packets of 5.0 that are wrong: told why [MQTT-3.1.4-1, MQTT-4.13.1-1].
#[test]
fn connect_of_5() {
    let id = [0, 0, 1, b'c'];
    let cases: [(&str, Vec<u8>, u8); 42] = [
        ("MQTT-3.1.2-3", connect(Version::V5, 0x03, &id), MALFORMED),
        ("MQTT-3.1.2-11", connect(Version::V5, 0x0A, &id), MALFORMED),
        ("MQTT-3.1.2-12", connect(Version::V5, 0x1E, &id), MALFORMED),
        ("MQTT-3.1.2-13", connect(Version::V5, 0x22, &id), MALFORMED),
        ("MQTT-3.1.3-1", connect(Version::V5, 0x02, &[]), MALFORMED),
        ("MQTT-3.1.3-3", connect(Version::V5, 0x02, &[0]), MALFORMED),
        ("MQTT-3.1.3-1", connect(Version::V5, 0x82, &id), MALFORMED),
        ("MQTT-3.1.3-1", connect(Version::V5, 0x42, &id), MALFORMED),
        ("MQTT-3.1.3-1", connect(Version::V5, 0x06, &id), MALFORMED),
        ("MQTT-3.1.2-16", connect(Version::V5, 0x02, &[0, 0, 1, b'c', 0, 1, b'u']), MALFORMED),
        ("MQTT-1.5.4-1", connect(Version::V5, 0x02, &[0, 0, 1, 0xFF]), MALFORMED),
        ("MQTT-1.5.4-1", connect(Version::V5, 0x02, &[0, 0, 3, 0xED, 0xBF, 0xBF]), MALFORMED),
        ("MQTT-1.5.4-2", connect(Version::V5, 0x02, &[0, 0, 1, 0]), MALFORMED),
        ("MQTT-3.1.3-11", connect(Version::V5, 0x06, &[0, 0, 1, b'c', 0, 0, 1, 0x80, 0, 0]), MALFORMED),
        ("MQTT-3.1.3-12", connect(Version::V5, 0x82, &[0, 0, 1, b'c', 0, 1, 0x80]), MALFORMED),
        ("MQTT-4.7.3-1", connect(Version::V5, 0x06, &[0, 0, 1, b'c', 0, 0, 0, 0, 0]), PROTOCOL),
        ("MQTT-3.3.2-2", connect(Version::V5, 0x06, &[0, 0, 1, b'c', 0, 0, 1, b'#', 0, 0]), 0x90),
        ("MQTT-1.5.5-1", connect(Version::V5, 0x02, &[0x80, 0, 0, 1, b'c']), MALFORMED),
        ("1.5.5", connect(Version::V5, 0x02, &[0xFF, 0xFF, 0xFF, 0xFF, 1]), MALFORMED),
        ("2.2.2", connect(Version::V5, 0x02, &[9, 0, 1, b'c']), MALFORMED),
        ("2.2.2.2", with_properties(&[0x00]), MALFORMED),
        ("2.2.2.2", with_properties(&[0x2B, 0]), MALFORMED),
        ("2.2.2.2", with_properties(&[0x91, 0x00, 0, 0, 0, 1]), MALFORMED),
        ("2.2.2.2", with_properties(&[0x11, 0, 0, 0]), MALFORMED),
        ("3.1.2.11.2", with_properties(&[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1]), PROTOCOL),
        ("3.1.2.11.3", with_properties(&[0x21, 0, 0]), PROTOCOL),
        ("3.1.2.11.3", with_properties(&[0x21, 0, 1, 0x21, 0, 1]), PROTOCOL),
        ("3.1.2.11.4", with_properties(&[0x27, 0, 0, 0, 0]), PROTOCOL),
        ("3.1.2.11.4", with_properties(&[0x27, 0, 0, 1, 0, 0x27, 0, 0, 1, 0]), PROTOCOL),
        ("3.1.2.11.5", with_properties(&[0x22, 0, 1, 0x22, 0, 1]), PROTOCOL),
        ("3.1.2.11.6", with_properties(&[0x19, 2]), PROTOCOL),
        ("3.1.2.11.7", with_properties(&[0x17, 2]), PROTOCOL),
        ("3.1.2.11.7", with_properties(&[0x17, 1, 0x17, 1]), PROTOCOL),
        ("MQTT-1.5.7-1", with_properties(&[0x26, 0, 1, b'a']), MALFORMED),
        ("MQTT-1.5.7-1", with_properties(&[0x26, 0, 1, b'a', 0, 1, 0xFF]), MALFORMED),
        ("3.1.2.11.10", with_properties(&[0x16, 0, 1, b'd']), PROTOCOL),
        ("3.1.2.11.9", with_properties(&[0x15, 0, 1, b'm', 0x15, 0, 1, b'm']), PROTOCOL),
        ("2.2.2.2", with_properties(&[0x01, 1]), MALFORMED),
        ("3.1.3.2.2", with_will_properties(&[0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1]), PROTOCOL),
        ("3.1.3.2.3", with_will_properties(&[0x01, 2]), PROTOCOL),
        ("3.1.3.2.6", with_will_properties(&[0x08, 0, 1, b'+']), PROTOCOL),
        ("2.2.2.2", with_will_properties(&[0x11, 0, 0, 0, 1]), MALFORMED),
    ];
    for (statement, bytes, reason) in cases {
        check_first(statement, Version::V5, &bytes, Refusal(reason));
    }
    for (property, reason) in
        [(&[0x23, 0, 0][..], PROTOCOL), (&[0x23, 0, 1], MALFORMED), (&[0x0B, 1], MALFORMED)]
    {
        check_first("2.2.2.2", Version::V5, &with_will_properties(property), Refusal(reason));
    }
}

/// A packet after CONNACK, by version where versions differ, and the reason to end the connection with.
struct After {
    statement: &'static str,
    versions: &'static [Version],
    bytes: Vec<u8>,
    reason: u8,
}

fn after(statement: &'static str, versions: &'static [Version], first: u8, body: &[u8], reason: u8) -> After {
    After { statement, versions, bytes: packet(first, body), reason }
}

const ALL: &[Version] = &VERSIONS;
const OLD: &[Version] = &[Version::V31, Version::V311];
const V311: &[Version] = &[Version::V311];
const STRICT: &[Version] = &[Version::V311, Version::V5];
const NEW: &[Version] = &[Version::V5];

/// Fixed headers and packets without much inside.
fn headers() -> Vec<After> {
    let mut table = vec![
        after("2.1.2", ALL, 0x00, &[], MALFORMED),
        after("2.1.2", OLD, 0xF0, &[], MALFORMED),
        after("3.2", OLD, 0x20, &[0, 0], PROTOCOL),
        after("3.2", NEW, 0x20, &[0, 0, 0], PROTOCOL),
        after("3.9", OLD, 0x90, &[0, 1, 0], PROTOCOL),
        after("3.9", NEW, 0x90, &[0, 1, 0, 0], PROTOCOL),
        after("3.13", ALL, 0xD0, &[], PROTOCOL),
        after("3.12.1", ALL, 0xC0, &[0], MALFORMED),
        after("3.11", NEW, 0xB0, &[0, 1, 0, 0], PROTOCOL),
        after("3.14", OLD, 0xE0, &[0], MALFORMED),
        after("MQTT-3.14.2-1", NEW, 0xE0, &[0x01], PROTOCOL),
        after("MQTT-3.14.2-1", NEW, 0xE0, &[0x00, 5, 0x11, 0, 0, 0], MALFORMED),
        after("3.14.2.2.2", NEW, 0xE0, &[0, 10, 0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1], PROTOCOL),
        after("2.2.2.2", NEW, 0xE0, &[0, 2, 0x01, 1], MALFORMED),
        after("3.15.2.1", NEW, 0xF0, &[0x01, 0], PROTOCOL),
        after("3.15.2.2.2", NEW, 0xF0, &[0x19, 0], PROTOCOL),
        after("2.2.2.2", NEW, 0xF0, &[0x19, 2, 0x01, 1], MALFORMED),
    ];
    // [MQTT-2.1.3-1], [MQTT-2.2.2-1 of 3.1.1], [MQTT-2.2.2-2 of 3.1.1], [MQTT-3.14.1-1], [MQTT-3.15.1-1]: reserved flags.
    for first in [0xC1, 0xC8, 0xE1, 0xE8, 0x41, 0x51, 0x60, 0x63, 0x71, 0x80, 0x83, 0xA0, 0xA1] {
        let body: &[u8] = if first >= 0xC0 { &[] } else { &[0, 1] };
        table.push(after("MQTT-2.1.3-1", STRICT, first, body, MALFORMED));
    }
    table.push(after("MQTT-3.15.1-1", NEW, 0xF2, &[], MALFORMED));
    for versions in [OLD, NEW] {
        let too_long = vec![0x30, 0x80, 0x80, 0x80, 0x80, 1];
        table.push(After { statement: "1.5.5", versions, bytes: too_long, reason: MALFORMED });
    }
    let not_minimal = vec![0xC0, 0x80, 0x00];
    table.push(After { statement: "MQTT-1.5.5-1", versions: NEW, bytes: not_minimal, reason: MALFORMED });
    table
}

/// PUBLISH, its acknowledgements, SUBSCRIBE and UNSUBSCRIBE.
fn requests() -> Vec<After> {
    vec![
        after("MQTT-3.3.1-4", ALL, 0x36, &[0, 1, b'a', 0, 1], MALFORMED),
        after("MQTT-3.3.1-2", ALL, 0x38, &[0, 1, b'a', 0], PROTOCOL),
        after("MQTT-3.3.2-1", ALL, 0x30, &[], MALFORMED),
        after("MQTT-3.3.2-1", ALL, 0x30, &[0, 9, b'a'], MALFORMED),
        after("MQTT-3.3.2-1", ALL, 0x30, &[0, 1, 0xFF, 0], MALFORMED),
        after("MQTT-1.5.4-2", ALL, 0x30, &[0, 1, 0, 0], MALFORMED),
        after("MQTT-3.3.2-2", ALL, 0x30, &[0, 1, b'+', 0], 0x90),
        after("MQTT-3.3.2-2", ALL, 0x30, &[0, 3, b'a', b'/', b'#', 0], 0x90),
        after("MQTT-4.7.3-1", OLD, 0x30, &[0, 0], PROTOCOL),
        after("3.3.2.1", NEW, 0x30, &[0, 0, 0], PROTOCOL),
        after("MQTT-2.2.1-3", ALL, 0x32, &[0, 1, b'a', 0, 0, 0], PROTOCOL),
        after("MQTT-2.2.1-2", ALL, 0x32, &[0, 1, b'a'], MALFORMED),
        after("3.3.2.3.3", NEW, 0x30, &[0, 1, b'a', 10, 2, 0, 0, 0, 1, 2, 0, 0, 0, 1], PROTOCOL),
        after("MQTT-3.3.2-8", NEW, 0x30, &[0, 1, b'a', 3, 0x23, 0, 0], 0x94),
        after("MQTT-3.3.2-9", NEW, 0x30, &[0, 1, b'a', 3, 0x23, 0, 65], 0x94),
        after("3.3.2.3.4", NEW, 0x30, &[0, 0, 3, 0x23, 0, 1], PROTOCOL),
        after("MQTT-3.3.2-14", NEW, 0x30, &[0, 1, b'a', 4, 8, 0, 1, b'#'], PROTOCOL),
        after("MQTT-3.3.4-6", NEW, 0x30, &[0, 1, b'a', 2, 0x0B, 1], PROTOCOL),
        after("2.2.2.2", NEW, 0x30, &[0, 1, b'a', 5, 0x11, 0, 0, 0, 1], MALFORMED),
        after("MQTT-2.2.1-3", ALL, 0x40, &[0, 0], PROTOCOL),
        after("3.4.2", ALL, 0x40, &[0], MALFORMED),
        after("3.4.2", OLD, 0x40, &[0, 1, 0], MALFORMED),
        after("MQTT-3.4.2-1", NEW, 0x40, &[0, 1, 0x92], PROTOCOL),
        after("MQTT-3.5.2-1", NEW, 0x50, &[0, 1, 0x03], PROTOCOL),
        after("MQTT-3.6.2-1", NEW, 0x62, &[0, 1, 0x10], PROTOCOL),
        after("MQTT-3.7.2-1", NEW, 0x70, &[0, 1, 0x80], PROTOCOL),
        after("2.2.2.2", NEW, 0x40, &[0, 1, 0, 2, 1, 1], MALFORMED),
        after("MQTT-2.2.1-3", ALL, 0x82, &[0, 0, 0, 1, b'a', 0], PROTOCOL),
        after("MQTT-3.8.3-2", OLD, 0x82, &[0, 1], PROTOCOL),
        after("MQTT-3.8.3-2", NEW, 0x82, &[0, 1, 0], PROTOCOL),
        after("MQTT-3.8.3-1", OLD, 0x82, &[0, 1, 0, 1, 0xFF, 0], MALFORMED),
        after("MQTT-3.8.3-1", NEW, 0x82, &[0, 1, 0, 0, 1, 0xFF, 0], MALFORMED),
        after("3.8.3", OLD, 0x82, &[0, 1, 0, 1, b'a'], MALFORMED),
        after("MQTT-3.8.3-4 of 3.1.1", V311, 0x82, &[0, 1, 0, 1, b'a', 3], PROTOCOL),
        after("MQTT-3.8.3-4 of 3.1.1", V311, 0x82, &[0, 1, 0, 1, b'a', 4], MALFORMED),
        after("MQTT-3.8.3-5", NEW, 0x82, &[0, 1, 0, 0, 1, b'a', 0x40], MALFORMED),
        after("3.8.3.1", NEW, 0x82, &[0, 1, 0, 0, 1, b'a', 3], PROTOCOL),
        after("3.8.3.1", NEW, 0x82, &[0, 1, 0, 0, 1, b'a', 0x30], PROTOCOL),
        after("3.8.2.1.2", NEW, 0x82, &[0, 1, 2, 0x0B, 0, 0, 1, b'a', 0], PROTOCOL),
        after("3.8.2.1.2", NEW, 0x82, &[0, 1, 4, 0x0B, 1, 0x0B, 1, 0, 1, b'a', 0], PROTOCOL),
        after("MQTT-3.10.3-2", OLD, 0xA2, &[0, 1], PROTOCOL),
        after("MQTT-3.10.3-2", NEW, 0xA2, &[0, 1, 0], PROTOCOL),
        after("MQTT-3.10.3-1", NEW, 0xA2, &[0, 1, 0, 0, 1, 0xFF], MALFORMED),
        after("MQTT-2.2.1-3", OLD, 0xA2, &[0, 0, 0, 1, b'a'], PROTOCOL),
    ]
}

/// [MQTT-4.13.1-1] and [MQTT-4.8.0-1 of 3.1.1]: after CONNACK a wrong packet ends the connection, in 5.0 with its
/// reason, and what the client did before it stands.
#[test]
fn packets_after_connack() {
    for After { statement, versions, bytes, reason } in headers().into_iter().chain(requests()) {
        for version in versions {
            for piece_bytes in [1, 65_536] {
                let node = Node::new(2);
                let mut client = node.connect(*version, "client");
                node.split_input(piece_bytes);
                client.send(&[&[0xC0, 0], &bytes[..], &[0xC0, 0]].concat());
                assert_eq!(client.expect(), mqtt::Packet::PingResp);
                let found = client.packets();
                match (version, &found[..]) {
                    (Version::V5, [mqtt::Packet::Disconnect(disconnect)]) => {
                        assert_eq!(disconnect.reason.value(), reason, "{statement} {bytes:x?}");
                    }
                    (Version::V31 | Version::V311, []) => {}
                    _ => panic!("{statement} {version:?} {bytes:x?}: {found:?}"),
                }
                assert!(client.is_closed(), "{statement} {version:?} {bytes:x?}");
                assert_eq!((node.connections(), node.sessions()), (0, 0));
            }
        }
    }
}

/// [MQTT-1.5.4-3] and 1.5.4: characters that are odd but allowed are allowed: the byte order mark, controls other
/// than U+0000, non-characters, and what lies beyond the first plane.
#[test]
fn odd_characters_are_allowed() {
    for text in ["\u{FEFF}", "\u{1}\u{1F}\u{7F}\u{9F}", "\u{FFFE}\u{FFFF}\u{FDD0}", "\u{1F600}\u{10FFFF}"] {
        for version in VERSIONS {
            let node = Node::new(2);
            let mut client = node.connect(version, text);
            client.subscribe(text, mqtt::QoS::AtMostOnce);
            client.publish(text, mqtt::QoS::AtMostOnce, text);
            assert_eq!(client.expect_payload(text).topic, text);
        }
    }
}

/// [MQTT-3.2.2-15] and 3.1.2.11.4: a packet beyond the announced maximum is refused by its header, with 0x95; one of
/// exactly that size is taken.
#[test]
fn packets_that_are_too_large() {
    for version in VERSIONS {
        let node = Node::of_settings(Settings { packet_bytes_max: 200, ..Settings::default() });
        let publish = |total: usize| {
            let mut body = vec![0, 1, b'a'];
            body.extend(vec![0; total - 3 - body.len()]);
            packet(0x30, &body)
        };
        let mut client = node.connect(version, "client");
        assert_eq!(publish(200).len(), 200);
        client.send(&publish(200));
        client.ping();
        client.send(&publish(201)[..3]);
        client.expect_ended(ReasonCode::PACKET_TOO_LARGE);
    }
}

/// `packet_properties_max`: more properties than that are refused with 0x97, before CONNACK and after; as many are
/// taken.
#[test]
fn too_many_properties() {
    let config = || Config { packet_properties_max: 10, ..Config::default() };
    let users = |count: usize| [0x26, 0, 0, 0, 0].repeat(count);
    let publish = |count: usize| {
        let mut body = vec![0, 1, b'a', u8::try_from(count * 5).unwrap()];
        body.extend(users(count));
        packet(0x30, &body)
    };
    let mut client = Node::with(config()).accept();
    client.version = Version::V5;
    client.send(&with_properties(&users(11)));
    assert_eq!(client.expect_refused().reason, ReasonCode::QUOTA_EXCEEDED);
    let mut client = Node::with(config()).accept();
    client.version = Version::V5;
    client.send(&with_properties(&users(10)));
    client.expect_connack();
    client.send(&publish(10));
    client.ping();
    client.send(&publish(11));
    client.expect_ended(ReasonCode::QUOTA_EXCEEDED);
}
