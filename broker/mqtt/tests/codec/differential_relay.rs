//! Packets relayed through other codecs: what they read of our bytes and write again, we read as what
//! we wrote.
//!
//! Their deviations are named where a packet is kept from them. Fields of one type that both sides
//! swapped would pass here: `differential_fields` and `golden` would not let them.

use bytes::BytesMut;
use mqtt::{Connect, Disconnect, Packet, Publish, PublishProperties, ReasonCode, Version, Will};

use crate::accepted;
use crate::source::{Source, for_each_packet};

/// Relays random packets of a version, and counts them.
fn relay(version: Version, seed: u64, fits: fn(&Source<'_>) -> bool, through: fn(&[u8]) -> Vec<u8>) {
    let mut relayed_count = 0;
    for_each_packet(seed, 4_000, |its_version, source, _| {
        if its_version != version || !fits(source) {
            return;
        }
        let bytes = source.encode(version);
        let relayed = through(&bytes);
        assert_same(&accepted(version, &bytes), &accepted(version, &relayed));
        relayed_count += 1;
    });
    assert!(relayed_count > 2_000, "{relayed_count}");
}

/// Equal but for the order of the properties of a PUBLISH or will, which the others do not keep.
fn assert_same(ours: &Packet<'_>, relayed: &Packet<'_>) {
    match (ours, relayed) {
        (Packet::Publish(publish), Packet::Publish(other)) => {
            assert_same_properties(&publish.properties, &other.properties);
            assert_eq!(*publish, Publish { properties: publish.properties, ..*other });
        }
        (Packet::Connect(connect), Packet::Connect(other)) => {
            if let (Some(will), Some(other)) = (&connect.will, &other.will) {
                assert_same_properties(&will.properties, &other.properties);
                assert_eq!(*will, Will { properties: will.properties, ..*other });
            }
            assert_eq!(connect.will.is_some(), other.will.is_some());
            assert_eq!(*connect, Connect { will: connect.will, ..*other });
        }
        _ => assert_eq!(ours, relayed),
    }
}

fn assert_same_properties(ours: &PublishProperties<'_>, relayed: &PublishProperties<'_>) {
    assert_eq!(ours.topic_alias, relayed.topic_alias);
    assert_eq!(ours.message_expiry, relayed.message_expiry);
    assert_eq!(ours.payload_format_utf8, relayed.payload_format_utf8);
    assert_eq!(ours.response_topic, relayed.response_topic);
    assert_eq!(ours.content_type(), relayed.content_type());
    assert_eq!(ours.correlation_data(), relayed.correlation_data());
    assert_eq!(ours.user_properties(), relayed.user_properties());
    assert!(ours.subscription_ids().eq(relayed.subscription_ids()));
    assert_eq!(ours.forwarded_bytes(), relayed.forwarded_bytes());
}

/// rumqttc takes an empty user name or password for none.
fn rumqttc_reads_login(connect: &Connect<'_>) -> bool {
    connect.username != Some("") && connect.password != Some(b"")
}

/// Goal: 3.1.1 as rumqttc reads and writes it.
#[test]
fn rumqttc_3_1_1() {
    let fits = |source: &Source<'_>| match source {
        Source::Connect(connect) => rumqttc_reads_login(connect),
        _ => true,
    };
    relay(Version::V311, 21, fits, |bytes| {
        use rumqttc::mqttbytes::v4::Packet;
        let packet = Packet::read(&mut BytesMut::from(bytes), usize::MAX).expect("reads");
        let mut out = BytesMut::new();
        packet.write(&mut out, usize::MAX).expect("writes");
        out.to_vec()
    });
}

/// Goal: 5.0 as rumqttc reads and writes it.
#[test]
fn rumqttc_5() {
    let fits = |source: &Source<'_>| match source {
        Source::Connect(connect) => rumqttc_reads_login(connect),
        // It knows no AUTH, no short form of DISCONNECT, and the reason codes of 3.14.2.1 alone.
        Source::Auth(_) => false,
        Source::Disconnect(disconnect) => {
            let reason = disconnect.reason;
            *disconnect != Disconnect::new(reason) && reason != ReasonCode::BAD_AUTHENTICATION_METHOD
        }
        _ => true,
    };
    relay(Version::V5, 22, fits, |bytes| {
        use rumqttc::v5::mqttbytes::v5::Packet;
        let packet = Packet::read(&mut BytesMut::from(bytes), None)
            .unwrap_or_else(|error| panic!("{error:?} {bytes:02X?}"));
        let mut out = BytesMut::new();
        packet.write(&mut out, None).expect("writes");
        out.to_vec()
    });
}

/// Goal: 3.1 and 3.1.1 as mqtt-proto reads and writes them.
#[test]
fn mqtt_proto_3() {
    let fits = |source: &Source<'_>| match source {
        // It reads a failure as 0x80 and writes it as 3.
        Source::SubAck(suback) => !suback.reasons.iter().any(|reason| reason.is_error()),
        _ => true,
    };
    for version in [Version::V31, Version::V311] {
        relay(version, 23, fits, |bytes| {
            let packet = mqtt_proto::v3::Packet::decode(bytes).expect("reads").expect("complete");
            packet.encode().expect("writes").as_ref().to_vec()
        });
    }
}

/// Goal: 5.0 as mqtt-proto reads and writes it.
#[test]
fn mqtt_proto_5() {
    let fits = |source: &Source<'_>| match source {
        // It takes a second subscription identifier for a repetition.
        Source::Publish(publish) => publish.subscription_ids.len() < 2,
        // It knows the reason codes of 3.14.2.1, where section 2.4 has one more.
        Source::Disconnect(disconnect) => disconnect.reason != ReasonCode::BAD_AUTHENTICATION_METHOD,
        _ => true,
    };
    relay(Version::V5, 24, fits, |bytes| {
        let packet = mqtt_proto::v5::Packet::decode(bytes)
            .unwrap_or_else(|error| panic!("{error:?} {bytes:02X?}"))
            .expect("complete");
        packet.encode().expect("writes").as_ref().to_vec()
    });
}
