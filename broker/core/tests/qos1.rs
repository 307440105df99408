//! QoS 1: delivered at least once (section 4.3.2).

mod host;

use broker_core::counters::DropReason;
use host::exchange::{lasting, lasting_with_window, numbers};
use host::{Node, VERSIONS};
use mqtt::encode::PublishOut;
use mqtt::{Packet, PacketKind, QoS, ReasonCode, Version};

/// [MQTT-4.3.2-4, MQTT-3.3.4-1] Each PUBLISH is answered by one PUBACK with its identifier, in order, also when an
/// identifier is used again.
#[test]
fn puback_for_each_publish() {
    for version in VERSIONS {
        let node = Node::new(2);
        let mut client = node.connect(version, "client");
        for packet_id in [7, 65_535, 7, 1] {
            let publish = PublishOut {
                topic: "t",
                qos: QoS::AtLeastOnce,
                packet_id: Some(host::packets::id(packet_id)),
                ..PublishOut::default()
            };
            client.publish_with(&publish);
            client.expect_ack(PacketKind::PubAck, packet_id);
        }
        client.expect_silence();
    }
}

/// [MQTT-4.3.2-5] After PUBACK the same identifier is a new message, DUP or not.
#[test]
fn an_identifier_after_puback_is_a_new_message() {
    let node = Node::new(1);
    let mut subscriber = node.subscriber("t", QoS::AtLeastOnce);
    let mut client = node.connect(Version::V311, "client");
    for (dup, payload) in [(false, "1"), (false, "2"), (true, "3")] {
        let publish = PublishOut {
            topic: "t",
            qos: QoS::AtLeastOnce,
            dup,
            packet_id: Some(host::packets::id(9)),
            payload: payload.as_bytes(),
            ..PublishOut::default()
        };
        client.publish_with(&publish);
        client.expect_ack(PacketKind::PubAck, 9);
    }
    assert_eq!(subscriber.drain_payloads(), ["1", "2", "3"]);
}

/// [MQTT-2.2.1-4, MQTT-4.3.2-1] What is sent has an identifier that no unacknowledged message has.
#[test]
fn identifiers_in_flight_are_distinct() {
    let node = Node::new(1);
    let mut subscriber = node.connect(Version::V311, "subscriber");
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V311, "publisher");
    for number in 0..500 {
        publisher.publish_fully("t", QoS::AtLeastOnce, &number.to_string());
    }
    let mut seen: Vec<u16> = Vec::new();
    for packet in subscriber.packets() {
        let Packet::Publish(publish) = packet else { panic!("PUBLISH, not {packet:?}") };
        seen.push(publish.packet_id.expect("QoS 1").get());
    }
    assert_eq!(seen.len(), 500);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 500);
    assert!(seen[0] > 0); // [MQTT-2.2.1-3]
}

/// [MQTT-4.4.0-1, MQTT-4.3.2-2, MQTT-3.3.1-1] Unacknowledged messages are sent again on reconnect, and only then, with DUP
/// and the identifiers they had, in order; acknowledged ones are not.
#[test]
fn redelivery_on_reconnect() {
    for version in VERSIONS {
        let node = Node::new(2);
        let mut subscriber = node.connect_with(&lasting(version, "subscriber"));
        subscriber.subscribe("t", QoS::AtLeastOnce);
        let mut publisher = node.connect(Version::V5, "publisher");
        for number in 0..5 {
            publisher.publish_fully("t", QoS::AtLeastOnce, &number.to_string());
        }
        let first: Vec<_> = (0..5).map(|_| subscriber.expect_publish()).collect();
        assert!(first.iter().all(|publish| !publish.dup));
        subscriber.acknowledge(&first[1]);
        subscriber.acknowledge(&first[3]);
        node.advance(std::time::Duration::from_secs(300));
        subscriber.expect_silence();
        subscriber.drop_socket();
        let mut subscriber = node.connect_with(&lasting(version, "subscriber"));
        for at in [0, 2, 4] {
            let again = subscriber.expect_publish();
            assert!(again.dup);
            assert_eq!((again.packet_id, again.payload), (first[at].packet_id, first[at].payload));
            subscriber.acknowledge(&again);
        }
        subscriber.drop_socket();
        let mut subscriber = node.connect_with(&lasting(version, "subscriber"));
        subscriber.expect_silence();
        let dropped: u64 = DropReason::ALL.iter().map(|reason| node.dropped(*reason)).sum();
        assert_eq!(dropped, 0);
    }
}

/// A PUBACK for an identifier that is not in flight changes nothing; one for a QoS 2 message breaks the protocol.
#[test]
fn stray_pubacks() {
    for version in VERSIONS {
        let node = Node::new(1);
        let mut subscriber = node.connect(version, "subscriber");
        subscriber.subscribe("t", QoS::ExactlyOnce);
        subscriber.send_ack(PacketKind::PubAck, 77);
        subscriber.expect_silence();
        let mut publisher = node.connect(version, "publisher");
        publisher.publish_fully("t", QoS::ExactlyOnce, "x");
        let publish = subscriber.expect_publish();
        subscriber.send_ack(PacketKind::PubAck, publish.packet_id.expect("QoS 2").get());
        subscriber.expect_ended(ReasonCode::PROTOCOL_ERROR);
    }
}

/// [MQTT-4.4.0-2] A PUBACK of 0x80 or more finishes the message as well: it is not sent again, and counted.
#[test]
fn refused_by_puback() {
    let node = Node::new(1);
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 1));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    for number in numbers(0..3) {
        publisher.publish_fully("t", QoS::AtLeastOnce, &number);
    }
    let first = subscriber.expect_payload("0");
    let packet_id = first.packet_id.expect("QoS 1").get();
    subscriber.send_ack_with(PacketKind::PubAck, packet_id, ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(node.dropped(DropReason::Refused), 1);
    subscriber.expect_payload("1");
    subscriber.drop_socket();
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 1));
    assert_eq!(subscriber.drain_payloads(), ["1", "2"]);
}

/// Acknowledgements in any order are accepted; what is left of the window is used [MQTT-3.3.4-9].
#[test]
fn acknowledged_in_any_order() {
    let node = Node::new(1);
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 3));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    for number in numbers(0..9) {
        publisher.publish_fully("t", QoS::AtLeastOnce, &number);
    }
    let mut open: Vec<_> = (0..3).map(|_| subscriber.expect_publish()).collect();
    let mut said: Vec<_> = open.iter().map(|publish| publish.payload).collect();
    subscriber.expect_nothing();
    for _ in 3..9 {
        let last = open.pop().expect("three in flight");
        subscriber.acknowledge(&last);
        let next = subscriber.expect_publish();
        said.push(next.payload);
        subscriber.expect_nothing();
        open.insert(1, next);
    }
    assert!(said.iter().zip(numbers(0..9)).all(|(said, number)| *said == number.as_bytes()));
}
