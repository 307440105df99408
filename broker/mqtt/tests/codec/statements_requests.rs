//! SUBSCRIBE and UNSUBSCRIBE: sections 3.8 and 3.10.

use mqtt::{DecodeError, Limits, Packet, QoS, ReasonCode, RetainHandling, SubscriptionOptions, Version};

use crate::{VERSIONS, accepted, assert_refused, packet, refused};

fn request(version: Version, first: u8, payload: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    packet(first, &[b"\0\x01", properties, payload].concat())
}

/// Goal: [MQTT-3.8.3-2], [MQTT-3.10.3-2]. Method: requests without a topic filter.
#[test]
fn at_least_one_filter() {
    for version in VERSIONS {
        let subscribe = request(version, 0x82, b"");
        assert_refused(version, &subscribe, "MQTT-3.8.3-2", ReasonCode::PROTOCOL_ERROR);
        let unsubscribe = request(version, 0xA2, b"");
        assert_refused(version, &unsubscribe, "MQTT-3.10.3-2", ReasonCode::PROTOCOL_ERROR);
    }
}

/// Goal: [MQTT-3.8.3-5] and section 3.8.3.1. Method: all 256 options in every version.
#[test]
fn subscription_options() {
    for version in VERSIONS {
        for bits in 0..=255_u8 {
            let bytes = request(version, 0x82, &[0, 1, b'a', bits]);
            let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
            let expected = if bits & reserved != 0 {
                Err(DecodeError::SubscriptionReservedBits)
            } else if bits & 0x30 == 0x30 {
                Err(DecodeError::RetainHandling)
            } else if bits & 0x03 == 0x03 {
                Err(DecodeError::SubscriptionQos)
            } else {
                Ok(())
            };
            let answer = mqtt::decode(version, &bytes, &Limits::PROTOCOL);
            assert_eq!(answer.map(drop), expected, "{version:?} {bits:08b}");
            let Ok(Some((Packet::Subscribe(mut subscribe), _))) = answer else { continue };
            let options = subscribe.filters.next().expect("one filter").options;
            assert_eq!(options.bits(), bits);
            assert_eq!(SubscriptionOptions::from_bits(bits), Some(options));
            assert_eq!(options.no_local, bits & 0x04 != 0);
            assert_eq!(options.retain_as_published, bits & 0x08 != 0);
        }
    }
    let with = |bits| request(Version::V5, 0x82, &[0, 1, b'a', bits]);
    assert_refused(Version::V5, &with(0x40), "MQTT-3.8.3-5", ReasonCode::MALFORMED_PACKET);
    assert_refused(Version::V5, &with(0x03), "section 3.8.3.1", ReasonCode::PROTOCOL_ERROR);
    assert_refused(Version::V5, &with(0x30), "section 3.8.3.1", ReasonCode::PROTOCOL_ERROR);
}

/// Goal: [MQTT-3.8.3-4]. Method: No Local on shared filters and on such as only look like them.
#[test]
fn no_local_on_shared_subscriptions() {
    let with = |filter: &str, options: u8| {
        request(Version::V5, 0x82, &[&[0, filter.len() as u8], filter.as_bytes(), &[options]].concat())
    };
    for filter in ["$share/g/a", "$oshare/g/a", "$share/"] {
        assert_refused(Version::V5, &with(filter, 0x04), "MQTT-3.8.3-4", ReasonCode::PROTOCOL_ERROR);
        accepted(Version::V5, &with(filter, 0x00));
    }
    for filter in ["$share", "$shared/g/a", "a/$share/g", "$SYS/#"] {
        accepted(Version::V5, &with(filter, 0x04));
    }
}

/// Goal: [MQTT-3.8.3-1], [MQTT-3.10.3-1], [MQTT-4.7.3-1]. Method: filters that are no strings or
/// empty. A filter with bad wildcards is not the packet's fault: SUBACK refuses it alone.
#[test]
fn filters() {
    for version in VERSIONS {
        for (first, end) in [(0x82, b"\0".as_slice()), (0xA2, b"")] {
            let with = |filter: &[u8]| {
                let filter = [&[0, filter.len() as u8], filter, end].concat();
                request(version, first, &[b"\0\x01a", end, &filter].concat())
            };
            assert_refused(version, &with(b""), "MQTT-4.7.3-1", ReasonCode::PROTOCOL_ERROR);
            assert_refused(version, &with(b"\xC3"), "MQTT-1.5.4-1", ReasonCode::MALFORMED_PACKET);
            assert_refused(version, &with(b"a\0"), "MQTT-1.5.4-2", ReasonCode::MALFORMED_PACKET);
            for filter in [b"a/#/b".as_slice(), b"a+", b"$share/g", b"#"] {
                accepted(version, &with(filter));
            }
            let whole = request(version, first, &[b"\0\x02ab", end].concat());
            let cut = request(version, first, &[b"\0\x09ab", end].concat());
            accepted(version, &whole);
            assert_eq!(refused(version, &cut), DecodeError::Truncated);
        }
        // The options are missing.
        assert_eq!(refused(version, &request(version, 0x82, b"\0\x01a")), DecodeError::Truncated);
    }
}

/// Goal: filters are read in order, and again when copied. Method: two with different options.
#[test]
fn filters_keep_their_order() {
    let bytes = packet(0x82, b"\0\x07\x02\x0B\x05\0\x01a\x01\0\x03b/c\x2E");
    let Packet::Subscribe(subscribe) = accepted(Version::V5, &bytes) else { panic!("{bytes:02X?}") };
    assert_eq!((subscribe.packet_id.get(), subscribe.subscription_id), (7, Some(5)));
    assert_eq!((subscribe.filters.len(), subscribe.filters.is_empty()), (2, false));
    let mut read = subscribe.filters;
    assert!(read.by_ref().count() == 2 && read.is_empty());
    for _ in 0..2 {
        let filters: Vec<_> = subscribe.filters.collect();
        assert_eq!((filters[0].filter, filters[1].filter), ("a", "b/c"));
        let expected = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
        assert_eq!(filters[0].options, expected);
        let expected = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
        };
        assert_eq!(filters[1].options, expected);
    }
    let bytes = packet(0xA2, b"\0\x07\0\0\x01a\0\x03b/c");
    let Packet::Unsubscribe(unsubscribe) = accepted(Version::V5, &bytes) else { panic!("{bytes:02X?}") };
    assert_eq!((unsubscribe.filters.len(), unsubscribe.filters.is_empty()), (2, false));
    assert_eq!(unsubscribe.filters.collect::<Vec<_>>(), ["a", "b/c"]);
}

/// Goal: the bound on filters. Method: as many as it allows, and one more.
#[test]
fn too_many_filters() {
    let limits = Limits { filters_max: 3, ..Limits::PROTOCOL };
    for version in VERSIONS {
        for (first, filter) in [(0x82, b"\0\x01a\0".as_slice()), (0xA2, b"\0\x01a")] {
            let bytes = request(version, first, &filter.repeat(3));
            assert!(matches!(mqtt::decode(version, &bytes, &limits), Ok(Some(_))));
            let bytes = request(version, first, &filter.repeat(4));
            assert_eq!(mqtt::decode(version, &bytes, &limits), Err(DecodeError::FiltersTooMany));
        }
    }
    assert_eq!(DecodeError::FiltersTooMany.reason(), ReasonCode::QUOTA_EXCEEDED);
}
