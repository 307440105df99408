//! Properties: which packet may carry which, how often, and with what values. Section 2.2.2.

use mqtt::{DecodeError, Limits, ReasonCode, UserProperties, Version};

use crate::{accepted, assert_refused, packet, refused};

/// What carries properties, in the letters of [`PROPERTIES`]: a body before and after the block.
const CARRIERS: [(char, u8, &[u8], &[u8]); 14] = [
    ('c', 0x10, b"\0\x04MQTT\x05\x02\0\0", b"\0\x01c"),
    ('w', 0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\x01c", b"\0\x01t\0\0"),
    ('C', 0x20, b"\0\0", b""),
    ('p', 0x30, b"\0\x01t", b"payload"),
    ('1', 0x40, b"\0\x01\0", b""),
    ('2', 0x50, b"\0\x01\0", b""),
    ('3', 0x62, b"\0\x01\0", b""),
    ('4', 0x70, b"\0\x01\0", b""),
    ('s', 0x82, b"\0\x01", b"\0\x01f\0"),
    ('S', 0x90, b"\0\x01", b"\0"),
    ('u', 0xA2, b"\0\x01", b"\0\x01f"),
    ('U', 0xB0, b"\0\x01", b"\0"),
    ('d', 0xE0, b"\0", b""),
    ('a', 0xF0, b"\0", b""),
];

/// The table of section 2.2.2.2: a property, and the packets that may carry it.
const PROPERTIES: [(&[u8], &str); 27] = [
    (b"\x01\x01", "pw"),                       // Payload Format Indicator
    (b"\x02\0\0\0\x01", "pw"),                 // Message Expiry Interval
    (b"\x03\0\x01x", "pw"),                    // Content Type
    (b"\x08\0\x01x", "pw"),                    // Response Topic
    (b"\x09\0\x01x", "pw"),                    // Correlation Data
    (b"\x0B\x01", "ps"),                       // Subscription Identifier
    (b"\x11\0\0\0\x01", "cCd"),                // Session Expiry Interval
    (b"\x12\0\x01x", "C"),                     // Assigned Client Identifier
    (b"\x13\0\x01", "C"),                      // Server Keep Alive
    (b"\x15\0\x01x", "cCa"),                   // Authentication Method
    (b"\x16\0\x01x", "cCa"),                   // Authentication Data
    (b"\x17\x01", "c"),                        // Request Problem Information
    (b"\x18\0\0\0\x01", "w"),                  // Will Delay Interval
    (b"\x19\x01", "c"),                        // Request Response Information
    (b"\x1A\0\x01x", "C"),                     // Response Information
    (b"\x1C\0\x01x", "Cd"),                    // Server Reference
    (b"\x1F\0\x01x", "C1234SUda"),             // Reason String
    (b"\x21\0\x01", "cC"),                     // Receive Maximum
    (b"\x22\0\x01", "cC"),                     // Topic Alias Maximum
    (b"\x23\0\x01", "p"),                      // Topic Alias
    (b"\x24\x01", "C"),                        // Maximum QoS
    (b"\x25\x01", "C"),                        // Retain Available
    (b"\x26\0\x01k\0\x01v", "cwCp1234sSuUda"), // User Property
    (b"\x27\0\0\0\x01", "cC"),                 // Maximum Packet Size
    (b"\x28\x01", "C"),                        // Wildcard Subscription Available
    (b"\x29\x01", "C"),                        // Subscription Identifier Available
    (b"\x2A\x01", "C"),                        // Shared Subscription Available
];

const METHOD: &[u8] = b"\x15\0\x01m";

/// The packet of a carrier with this property block, and a method where one is asked for.
fn carry(carrier: (char, u8, &[u8], &[u8]), block: &[u8]) -> Vec<u8> {
    let (letter, first, before, after) = carrier;
    let needs_method = letter == 'a' || block.first() == Some(&0x16) && "cC".contains(letter);
    let names_method = block.first() == Some(&METHOD[0]);
    let method = if needs_method && !names_method { METHOD } else { b"" };
    let length = [(block.len() + method.len()) as u8];
    packet(first, &[before, &length, block, method, after].concat())
}

/// Goal: section 2.2.2.2. Method: every property in every packet.
#[test]
fn properties_belong_to_packets() {
    for (property, carriers) in PROPERTIES {
        for carrier in CARRIERS {
            let bytes = carry(carrier, property);
            if carriers.contains(carrier.0) {
                accepted(Version::V5, &bytes);
            } else {
                assert_refused(Version::V5, &bytes, "section 2.2.2.2", ReasonCode::MALFORMED_PACKET);
            }
        }
    }
}

/// Goal: only User Property may come twice, and Subscription Identifier in a PUBLISH. Method: every
/// allowed property, doubled.
#[test]
fn properties_come_once() {
    for (property, carriers) in PROPERTIES {
        for carrier in CARRIERS.into_iter().filter(|carrier| carriers.contains(carrier.0)) {
            let bytes = carry(carrier, &property.repeat(2));
            match (property[0], carrier.0) {
                (0x26, _) | (0x0B, 'p') => drop(accepted(Version::V5, &bytes)),
                _ => {
                    let error = refused(Version::V5, &bytes);
                    assert_eq!(error, DecodeError::PropertyRepeated, "{bytes:02X?}");
                    assert_eq!(error.reason(), ReasonCode::PROTOCOL_ERROR);
                }
            }
        }
    }
}

/// Goal: identifiers that nobody defined. Method: all 256 first bytes, as the only property.
#[test]
fn unknown_properties() {
    for id in 0..=255_u8 {
        if PROPERTIES.iter().any(|(property, _)| property[0] == id) {
            continue;
        }
        let bytes = carry(CARRIERS[3], &[id, 0, 0, 0, 0, 0]);
        // From 0x80 on the identifier goes on in a second byte, which no defined one needs.
        let expected = if id < 0x80 { DecodeError::PropertyUnknown } else { DecodeError::VarintNotMinimal };
        assert_eq!(refused(Version::V5, &bytes), expected);
        assert_eq!(expected.reason(), ReasonCode::MALFORMED_PACKET);
    }
}

/// Goal: values that a property's own section forbids. Method: one packet a value.
#[test]
fn values_out_of_range() {
    let carrier = |letter| *CARRIERS.iter().find(|carrier| carrier.0 == letter).expect("a carrier");
    let protocol = ReasonCode::PROTOCOL_ERROR;
    for (property, carriers) in PROPERTIES {
        if property.len() == 2 && property[0] != 0x0B {
            for letter in carriers.chars() {
                accepted(Version::V5, &carry(carrier(letter), &[property[0], 0]));
                for value in [2, 3, 0x80, 0xFF] {
                    let bytes = carry(carrier(letter), &[property[0], value]);
                    assert_refused(Version::V5, &bytes, "section 3.1.2.11.6", protocol);
                }
            }
        }
    }
    for letter in ['c', 'C'] {
        let bytes = carry(carrier(letter), b"\x21\0\0");
        assert_refused(Version::V5, &bytes, "section 3.1.2.11.3", protocol);
        let bytes = carry(carrier(letter), b"\x27\0\0\0\0");
        assert_refused(Version::V5, &bytes, "section 3.1.2.11.4", protocol);
        // 3.1.2.11.10: data without a method; the block hides it behind another property.
        let bytes = carry(carrier(letter), b"\x22\0\x01\x16\0\x01x");
        assert_refused(Version::V5, &bytes, "section 3.1.2.11.10", protocol);
    }
    let bytes = carry(carrier('s'), b"\x0B\0");
    assert_refused(Version::V5, &bytes, "section 3.8.2.1.2", protocol);
    let bytes = carry(carrier('p'), b"\x23\0\0");
    assert_refused(Version::V5, &bytes, "MQTT-3.3.2-8", ReasonCode::TOPIC_ALIAS_INVALID);
}

/// Goal: [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-1.5.7-1] within properties. Method: each text property
/// with a byte that is no UTF-8, and with U+0000.
#[test]
fn texts_are_utf8() {
    for (property, carriers) in PROPERTIES {
        let texts: &[usize] = match property {
            [0x09 | 0x16, ..] => continue, // binary
            [0x26, ..] => &[3, 6],
            [_, 0, 1, b'x'] => &[3],
            _ => continue,
        };
        for &at in texts {
            for (byte, error) in [(0xFF, DecodeError::Utf8), (0, DecodeError::Utf8Nul)] {
                let mut property = property.to_vec();
                property[at] = byte;
                for carrier in CARRIERS.into_iter().filter(|carrier| carriers.contains(carrier.0)) {
                    assert_eq!(refused(Version::V5, &carry(carrier, &property)), error, "{property:02X?}");
                }
            }
        }
    }
}

/// Goal: a property ends with its block, and a block with its packet. Method: every property cut at
/// every byte; block lengths that are too long.
#[test]
fn properties_end_with_their_block() {
    for (property, carriers) in PROPERTIES {
        for carrier in CARRIERS.into_iter().filter(|carrier| carriers.contains(carrier.0)) {
            let (_, first, before, after) = carrier;
            for cut in 1..property.len() {
                let bytes = packet(first, &[before, &[cut as u8], &property[..cut], after].concat());
                assert_eq!(refused(Version::V5, &bytes), DecodeError::Truncated, "{bytes:02X?}");
            }
            let bytes = packet(first, &[before, &[0xFF, 0x01], property, after].concat());
            assert_eq!(refused(Version::V5, &bytes), DecodeError::Truncated);
            // [MQTT-1.5.5-1]
            let bytes = packet(first, &[before, &[property.len() as u8 | 0x80, 0], property, after].concat());
            assert_eq!(refused(Version::V5, &bytes), DecodeError::VarintNotMinimal);
            let bytes = packet(first, &[before, &[0xFF, 0xFF, 0xFF, 0xFF, 0x7F]].concat());
            assert_eq!(refused(Version::V5, &bytes), DecodeError::VarintTooLong);
        }
    }
}

/// Goal: [MQTT-2.2.2-1], the block's length is always there. Method: packets that end before it.
#[test]
fn property_length_is_there() {
    for (letter, first, before, _) in CARRIERS {
        let bytes = packet(first, before);
        // 3.4.2.2.1 and 3.14.2.2.1: these may end before it.
        if "1234d".contains(letter) {
            accepted(Version::V5, &bytes);
        } else {
            assert_eq!(refused(Version::V5, &bytes), DecodeError::Truncated, "{letter}");
        }
    }
}

/// Goal: the bound on properties. Method: as many as it allows and one more, in every packet.
#[test]
fn too_many_properties() {
    let limits = Limits { properties_max: 5, ..Limits::PROTOCOL };
    for carrier in CARRIERS {
        let method_count = usize::from(carrier.0 == 'a');
        for count in [4, 5, 6] {
            let bytes = carry(carrier, &b"\x26\0\0\0\0".repeat(count - method_count));
            let answer = mqtt::decode(Version::V5, &bytes, &limits).map(drop);
            assert_eq!(answer, if count > 5 { Err(DecodeError::PropertiesTooMany) } else { Ok(()) });
        }
    }
    assert_eq!(DecodeError::PropertiesTooMany.reason(), ReasonCode::QUOTA_EXCEEDED);
}

/// Goal: user properties keep their order and their doubles. Method: three pairs among other
/// properties, read twice.
#[test]
fn user_properties_keep_their_order() {
    let block = b"\x26\0\x01b\0\x011\x22\0\x01\x26\0\x01a\0\0\x21\0\x01\x26\0\x01b\0\x011";
    let bytes = carry(CARRIERS[0], block);
    let Ok(Some((connect, _))) = mqtt::decode_connect(&bytes, &Limits::PROTOCOL) else {
        panic!("{bytes:02X?}")
    };
    let user_properties = connect.properties.user_properties;
    assert_eq!(user_properties.len(), 3);
    for _ in 0..2 {
        assert_eq!(user_properties.collect::<Vec<_>>(), [("b", "1"), ("a", ""), ("b", "1")]);
    }
    let alone = b"\x26\0\x01b\0\x011\x26\0\x01a\0\0\x26\0\x01b\0\x011";
    assert_eq!(UserProperties::parse(alone, &Limits::PROTOCOL), Ok(user_properties));
    let mixed = UserProperties::parse(block, &Limits::PROTOCOL);
    assert_eq!(mixed, Err(DecodeError::PropertyNotAllowed));
}
