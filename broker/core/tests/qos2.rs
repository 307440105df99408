//! QoS 2: delivered exactly once (section 4.3.3).

mod host;

use broker_core::config::Settings;
use broker_core::counters::DropReason;
use host::exchange::{lasting, lasting_with_window};
use host::packets::{id, publish_packet};
use host::{Node, VERSIONS};
use mqtt::encode::PublishOut;
use mqtt::{Packet, PacketKind, QoS, ReasonCode, Version};

fn publish(packet_id: u16, payload: &str, dup: bool) -> PublishOut<'_> {
    PublishOut {
        topic: "t",
        qos: QoS::ExactlyOnce,
        dup,
        packet_id: Some(id(packet_id)),
        payload: payload.as_bytes(),
        ..PublishOut::default()
    }
}

/// [MQTT-4.3.3-8, MQTT-4.3.3-10, MQTT-4.3.3-11] Until PUBREL the same identifier is the same message, answered by PUBREC and
/// delivered once; after PUBCOMP it is a new one [MQTT-4.3.3-12].
#[test]
fn repeated_publish_is_delivered_once() {
    for version in VERSIONS {
        let node = Node::new(2);
        let mut subscriber = node.subscriber("t", QoS::ExactlyOnce);
        let mut client = node.connect(version, "client");
        for dup in [false, true, true, false] {
            client.publish_with(&publish(5, "once", dup));
            assert!(!client.expect_ack(PacketKind::PubRec, 5).reason.is_error());
        }
        assert_eq!(subscriber.drain_payloads(), ["once"]);
        client.send_ack(PacketKind::PubRel, 5);
        assert_eq!(client.expect_ack(PacketKind::PubComp, 5).reason, ReasonCode::SUCCESS);
        client.publish_with(&publish(5, "new", true));
        client.expect_ack(PacketKind::PubRec, 5);
        assert_eq!(subscriber.drain_payloads(), ["new"]);
    }
}

/// [MQTT-3.6.2-1, MQTT-3.7.2-1] PUBREL for an unknown identifier is completed all the same: 0x92 in 5.0.
#[test]
fn pubrel_for_an_unknown_identifier() {
    for version in VERSIONS {
        let node = Node::new(1);
        let mut client = node.connect(version, "client");
        client.send_ack(PacketKind::PubRel, 5);
        let reason = client.expect_ack(PacketKind::PubComp, 5).reason;
        let expected = match version {
            Version::V5 => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
            _ => ReasonCode::SUCCESS,
        };
        assert_eq!(reason, expected);
        client.expect_silence();
    }
}

/// [MQTT-4.3.3-4] PUBREC for an unknown identifier gets its PUBREL (0x92 in 5.0), so that the client can finish; one that
/// refuses needs none.
#[test]
fn pubrec_for_an_unknown_identifier() {
    for version in VERSIONS {
        let node = Node::new(1);
        let mut client = node.connect(version, "client");
        client.send_ack(PacketKind::PubRec, 5);
        let pubrel = client.expect_ack(PacketKind::PubRel, 5);
        assert_eq!(pubrel.reason == ReasonCode::PACKET_IDENTIFIER_NOT_FOUND, version == Version::V5);
        client.send_ack(PacketKind::PubComp, 5);
        client.send_ack(PacketKind::PubComp, 6);
        client.expect_silence();
    }
    let node = Node::new(1);
    let mut client = node.connect(Version::V5, "client");
    client.send_ack_with(PacketKind::PubRec, 5, ReasonCode::UNSPECIFIED_ERROR);
    client.expect_silence();
}

/// [MQTT-4.3.3-1, MQTT-4.3.3-2] Towards a subscriber: PUBLISH, PUBREC, PUBREL with its bits [MQTT-3.6.1-1], PUBCOMP; a repeated
/// PUBREC gets its PUBREL again, and a PUBCOMP before PUBREC breaks the protocol.
#[test]
fn handshake_towards_a_subscriber() {
    for version in VERSIONS {
        let node = Node::new(1);
        let mut subscriber = node.connect(version, "subscriber");
        subscriber.subscribe("t", QoS::ExactlyOnce);
        let mut client = node.connect(version, "client");
        client.publish_fully("t", QoS::ExactlyOnce, "x");
        let packet_id = subscriber.expect_publish().packet_id.expect("QoS 2").get();
        for _ in 0..3 {
            subscriber.send_ack(PacketKind::PubRec, packet_id);
            let bytes = subscriber.take_bytes();
            assert_eq!(bytes, [0x62, 2, (packet_id >> 8) as u8, packet_id as u8]);
        }
        subscriber.send_ack(PacketKind::PubComp, packet_id);
        subscriber.send_ack(PacketKind::PubComp, packet_id);
        subscriber.expect_silence();
        client.publish_fully("t", QoS::ExactlyOnce, "x");
        let packet_id = subscriber.expect_publish().packet_id.expect("QoS 2").get();
        subscriber.send_ack(PacketKind::PubComp, packet_id);
        subscriber.expect_ended(ReasonCode::PROTOCOL_ERROR);
    }
}

/// [MQTT-4.4.0-2] A PUBREC of 0x80 or more ends the message: no PUBREL, not sent again, counted, its place in the window
/// free.
#[test]
fn refused_by_pubrec() {
    let node = Node::new(1);
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 1));
    subscriber.subscribe("t", QoS::ExactlyOnce);
    let mut client = node.connect(Version::V5, "client");
    client.publish_fully("t", QoS::ExactlyOnce, "1");
    client.publish_fully("t", QoS::ExactlyOnce, "2");
    let packet_id = subscriber.expect_payload("1").packet_id.expect("QoS 2").get();
    subscriber.send_ack_with(PacketKind::PubRec, packet_id, ReasonCode::PAYLOAD_FORMAT_INVALID);
    assert_eq!(node.dropped(DropReason::Refused), 1);
    subscriber.expect_payload("2");
    subscriber.drop_socket();
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 1));
    assert_eq!(subscriber.drain_payloads(), ["2"]);
}

/// [MQTT-4.4.0-1, MQTT-4.3.3-3, MQTT-4.3.3-5, MQTT-4.3.3-6] After a reconnect what had its PUBREC gets its PUBREL, and no
/// PUBLISH again, what had none its PUBLISH with DUP, in the order of the messages [MQTT-4.6.0-1, MQTT-4.6.0-4].
#[test]
fn state_towards_a_subscriber_survives_a_reconnect() {
    for version in VERSIONS {
        let node = Node::new(2);
        let mut subscriber = node.connect_with(&lasting(version, "subscriber"));
        subscriber.subscribe("t", QoS::ExactlyOnce);
        let mut client = node.connect(version, "client");
        for payload in ["1", "2", "3"] {
            client.publish_fully("t", QoS::ExactlyOnce, payload);
        }
        let ids: Vec<u16> =
            (0..3).map(|_| subscriber.expect_publish().packet_id.expect("QoS 2").get()).collect();
        subscriber.send_ack(PacketKind::PubRec, ids[0]);
        subscriber.send_ack(PacketKind::PubRec, ids[1]);
        subscriber.drop_socket();
        client.publish_fully("t", QoS::ExactlyOnce, "4");
        let mut subscriber = node.connect_with(&lasting(version, "subscriber"));
        subscriber.expect_ack(PacketKind::PubRel, ids[0]);
        subscriber.expect_ack(PacketKind::PubRel, ids[1]);
        let third = subscriber.expect_payload("3");
        assert!(third.dup && third.packet_id == Some(id(ids[2])));
        let fourth = subscriber.expect_payload("4");
        assert!(!fourth.dup);
        subscriber.expect_silence();
        subscriber.send_ack(PacketKind::PubComp, ids[0]);
        subscriber.send_ack(PacketKind::PubComp, ids[1]);
        subscriber.drop_socket();
        let mut subscriber = node.connect_with(&lasting(version, "subscriber"));
        assert_eq!(subscriber.drain_payloads(), ["3", "4"]);
    }
}

/// [MQTT-4.1.0-1, MQTT-4.3.3-10] Identifiers taken from a publisher are remembered over a reconnect: the repeated
/// message is not delivered again, and PUBREL completes it.
#[test]
fn state_of_a_publisher_survives_a_reconnect() {
    for version in VERSIONS {
        let node = Node::new(2);
        let mut subscriber = node.subscriber("t", QoS::ExactlyOnce);
        let mut client = node.connect_with(&lasting(version, "client"));
        client.publish_with(&publish(1, "one", false));
        client.publish_with(&publish(2, "two", false));
        client.drop_socket();
        let mut client = node.connect_with(&lasting(version, "client"));
        client.publish_with(&publish(1, "one", true));
        client.expect_ack(PacketKind::PubRec, 1);
        for packet_id in [1, 2] {
            client.send_ack(PacketKind::PubRel, packet_id);
            assert_eq!(client.expect_ack(PacketKind::PubComp, packet_id).reason, ReasonCode::SUCCESS);
        }
        assert_eq!(subscriber.drain_payloads(), ["one", "two"]);
    }
}

/// [MQTT-4.3.3-2 of 3.1.1] A 3.1.1 client may leave any number of QoS 2 publishes unfinished: none is lost, none
/// delivered twice, also over a reconnect.
#[test]
fn hundreds_of_unfinished_publishes() {
    const COUNT: u16 = 3000;
    for cores in [1, 3] {
        let node =
            Node::of_settings_and_cores(Settings { receive_maximum: 20, ..Settings::default() }, cores);
        let mut subscriber = node.subscriber("t", QoS::ExactlyOnce);
        let mut client = node.connect_with(&lasting(Version::V311, "client"));
        let mut bytes = Vec::new();
        for number in 1..=COUNT {
            bytes.extend(publish_packet(Version::V311, &publish(number, &number.to_string(), false)));
        }
        client.send(&bytes);
        for number in 1..=COUNT {
            client.expect_ack(PacketKind::PubRec, number);
        }
        client.drop_socket();
        let mut client = node.connect_with(&lasting(Version::V311, "client"));
        client.publish_with(&publish(1, "1", true));
        client.expect_ack(PacketKind::PubRec, 1);
        for number in 1..=COUNT {
            client.send_ack(PacketKind::PubRel, number);
            client.expect_ack(PacketKind::PubComp, number);
        }
        let expected: Vec<String> = (1..=COUNT).map(|number| number.to_string()).collect();
        assert_eq!(subscriber.drain_payloads(), expected);
    }
}

/// [MQTT-4.3.3-9] A publish whose routing ends in an error code frees its identifier with the PUBREC, wherever the range
/// that refused it is; a 3.1.1 client, which cannot be told, goes on with PUBREL.
#[test]
fn refused_by_a_range_frees_the_identifier() {
    let node = Node::of_settings_and_cores(Settings { retained_messages_max: 0, ..Settings::default() }, 4);
    let mut client = node.connect(Version::V5, "client");
    let mut old = node.connect(Version::V311, "old");
    for number in 1..20 {
        let topic = format!("retained/{number}");
        let publish = PublishOut { topic: &topic, retain: true, ..publish(number, "x", false) };
        client.publish_with(&publish);
        assert_eq!(
            client.expect_ack(PacketKind::PubRec, number).reason,
            ReasonCode::QUOTA_EXCEEDED,
            "{topic}"
        );
        client.send_ack(PacketKind::PubRel, number);
        let pubcomp = client.expect_ack(PacketKind::PubComp, number);
        assert_eq!(pubcomp.reason, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
        old.publish_with(&publish);
        old.expect_ack(PacketKind::PubRec, number);
        old.publish_with(&PublishOut { dup: true, ..publish });
        old.expect_ack(PacketKind::PubRec, number);
        old.send_ack(PacketKind::PubRel, number);
        old.expect_ack(PacketKind::PubComp, number);
    }
    assert_eq!(node.dropped(DropReason::RetainFull), 38);
}

/// A message leaves a subscriber's queue only with PUBCOMP: until then its identifier is not used again
/// [MQTT-2.2.1-4].
#[test]
fn identifiers_are_held_until_pubcomp() {
    let node = Node::new(1);
    let mut subscriber = node.connect(Version::V311, "subscriber");
    subscriber.subscribe("t", QoS::ExactlyOnce);
    let mut client = node.connect(Version::V311, "client");
    client.publish_fully("t", QoS::ExactlyOnce, "x");
    let held = subscriber.expect_publish().packet_id.expect("QoS 2");
    subscriber.send_ack(PacketKind::PubRec, held.get());
    subscriber.expect_ack(PacketKind::PubRel, held.get());
    for _ in 0..200 {
        client.publish_fully("t", QoS::ExactlyOnce, "x");
        for packet in subscriber.packets() {
            if let Packet::Publish(publish) = packet {
                assert_ne!(publish.packet_id, Some(held));
                subscriber.acknowledge(&publish);
            }
        }
    }
}
