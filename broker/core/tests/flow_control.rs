//! Flow control: how many unfinished messages may be on their way, in both directions (sections 3.1.2.11.3, 4.9).

mod host;

use broker_core::config::Settings;
use broker_core::counters::DropReason;
use host::exchange::{lasting, lasting_with_window, numbers};
use host::packets::{id, publish_packet, subscribe_packet};
use host::{Node, VERSIONS};
use mqtt::encode::PublishOut;
use mqtt::{Packet, PacketKind, QoS, ReasonCode, Version};

fn publish(qos: QoS, packet_id: u16, topic: &str) -> PublishOut<'_> {
    PublishOut { topic, qos, packet_id: Some(id(packet_id)), payload: b"x", ..PublishOut::default() }
}

/// [MQTT-3.3.4-9] Never more unfinished QoS 1 and 2 messages towards a client than its Receive Maximum; the rest
/// waits, in order, and none is lost. A QoS 2 message is finished by PUBCOMP.
#[test]
fn receive_maximum_of_the_client() {
    for window in [1, 2, 7, 50] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let node = Node::new(2);
            let mut subscriber = node.connect_with(&lasting_with_window("subscriber", window));
            subscriber.subscribe("t", qos);
            let mut publisher = node.connect(Version::V311, "publisher");
            for number in numbers(0..60) {
                publisher.publish_fully("t", qos, &number);
            }
            let (mut said, mut unfinished) = (Vec::new(), 0);
            loop {
                let packets = subscriber.packets();
                if packets.is_empty() {
                    break;
                }
                for packet in packets {
                    match packet {
                        Packet::Publish(publish) => {
                            unfinished += 1;
                            assert!(unfinished <= window, "more than {window} unfinished");
                            said.push(String::from_utf8_lossy(publish.payload).into_owned());
                            unfinished -= u16::from(qos == QoS::AtLeastOnce);
                            subscriber.acknowledge(&publish);
                        }
                        Packet::PubRel(ack) => {
                            unfinished -= 1;
                            subscriber.send_ack(PacketKind::PubComp, ack.packet_id.get());
                        }
                        other => panic!("PUBLISH or PUBREL, not {other:?}"),
                    }
                }
            }
            assert_eq!(said, numbers(0..60), "window {window}, {qos:?}");
        }
    }
}

/// [MQTT-3.3.4-10] A full window holds back nothing but QoS 1 and 2: QoS 0, PINGRESP, SUBACK, PUBACK and PUBREC leave.
#[test]
fn a_full_window_holds_back_nothing_else() {
    let node = Node::new(1);
    let mut client = node.connect_with(&lasting_with_window("client", 1));
    client.subscribe("one", QoS::AtLeastOnce);
    client.subscribe("zero", QoS::AtMostOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    publisher.publish_fully("one", QoS::AtLeastOnce, "1");
    publisher.publish_fully("one", QoS::AtLeastOnce, "2");
    client.expect_payload("1");
    client.ping();
    publisher.publish("zero", QoS::AtMostOnce, "0");
    client.expect_payload("0");
    client.send(&subscribe_packet(Version::V5, 900, "other", QoS::AtMostOnce));
    client.expect_suback(900);
    client.publish_fully("none", QoS::AtLeastOnce, "x");
    client.publish_fully("none", QoS::ExactlyOnce, "x");
    client.expect_silence();
}

/// A client that names no Receive Maximum, or cannot, has `tenant.inflight_max` messages in flight.
#[test]
fn inflight_maximum_of_the_server() {
    for version in VERSIONS {
        let node = Node::of_settings(Settings { inflight_max: 5, ..Settings::default() });
        let mut subscriber = node.connect(version, "subscriber");
        subscriber.subscribe("t", QoS::AtLeastOnce);
        let mut publisher = node.connect(version, "publisher");
        for number in numbers(0..20) {
            publisher.publish_fully("t", QoS::AtLeastOnce, &number);
        }
        let first = subscriber.packets();
        assert_eq!(first.len(), 5, "{version:?}");
        for packet in first {
            let Packet::Publish(publish) = packet else { panic!("PUBLISH, not {packet:?}") };
            subscriber.acknowledge(&publish);
        }
        assert_eq!(subscriber.drain_payloads(), numbers(5..20));
    }
}

/// [MQTT-3.3.4-7] A 5.0 client that sends more unfinished messages than announced is told 0x93; exactly as many are
/// taken, and each PUBCOMP makes room. QoS 0 does not count.
#[test]
fn receive_maximum_of_the_server() {
    let node = Node::of_settings(Settings { receive_maximum: 3, ..Settings::default() });
    let mut client = node.connect(Version::V5, "client");
    for packet_id in 1..=3 {
        client.publish_with(&publish(QoS::ExactlyOnce, packet_id, "t"));
        client.expect_ack(PacketKind::PubRec, packet_id);
    }
    client.publish("t", QoS::AtMostOnce, "x");
    client.publish_with(&publish(QoS::ExactlyOnce, 2, "t"));
    client.expect_ack(PacketKind::PubRec, 2); // the same message again
    client.send_ack(PacketKind::PubRel, 1);
    client.expect_ack(PacketKind::PubComp, 1);
    client.publish_with(&publish(QoS::AtLeastOnce, 9, "t"));
    client.expect_ack(PacketKind::PubAck, 9);
    client.publish_with(&publish(QoS::ExactlyOnce, 4, "t"));
    client.expect_ack(PacketKind::PubRec, 4);
    client.publish_with(&publish(QoS::AtLeastOnce, 5, "t"));
    assert_eq!(client.expect_disconnect().reason, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
}

/// [MQTT-3.3.4-7] Messages whose acknowledgement waits for another core count as well.
#[test]
fn unacknowledged_publishes_count() {
    let node = Node::of_settings_and_cores(Settings { receive_maximum: 3, ..Settings::default() }, 2);
    let mut subscriber = node.connect_at_with(1, "subscriber", |client_id| lasting(Version::V311, client_id));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut client = node.connect_at(0, Version::V5, "client");
    let mut old = node.connect_at(0, Version::V311, "old");
    node.hold_mail(1, 0);
    for _ in 0..3 {
        client.publish("t", QoS::AtLeastOnce, "x");
        old.publish("t", QoS::AtLeastOnce, "x");
    }
    client.expect_silence();
    client.publish("t", QoS::AtLeastOnce, "x");
    assert_eq!(client.expect_disconnect().reason, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
    // A 3.1.1 client was not told of a maximum.
    old.publish("t", QoS::AtLeastOnce, "x");
    old.expect_silence();
    node.release_mail();
    for packet_id in 1..=4 {
        old.expect_ack(PacketKind::PubAck, packet_id);
    }
    assert_eq!(subscriber.drain().len(), 7);
}

/// [MQTT-4.3.3-9] What was refused with 0x93 was not taken: the client may send it again after its reconnect, and it is
/// delivered.
#[test]
fn a_message_beyond_the_maximum_is_not_taken() {
    let node = Node::of_settings(Settings { receive_maximum: 1, ..Settings::default() });
    let mut subscriber = node.subscriber("t", QoS::ExactlyOnce);
    let mut client = node.connect_with(&lasting(Version::V5, "client"));
    client.publish_with(&publish(QoS::ExactlyOnce, 1, "t"));
    client.publish_with(&publish(QoS::ExactlyOnce, 2, "t"));
    client.packets();
    let mut client = node.connect_with(&lasting(Version::V5, "client"));
    client.send_ack(PacketKind::PubRel, 1);
    client.expect_ack(PacketKind::PubComp, 1);
    client.publish_with(&PublishOut { dup: true, ..publish(QoS::ExactlyOnce, 2, "t") });
    client.expect_ack(PacketKind::PubRec, 2);
    assert_eq!(subscriber.drain().len(), 2);
}

/// [MQTT-4.9.0-1] The window begins anew with each connection; what was unfinished is sent again within it.
#[test]
fn windows_are_per_connection() {
    let node = Node::new(1);
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 10));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    for number in numbers(0..10) {
        publisher.publish_fully("t", QoS::AtLeastOnce, &number);
    }
    assert_eq!(subscriber.payloads().len(), 10);
    for window in [3, 1, 10, 2] {
        subscriber.drop_socket();
        subscriber = node.connect_with(&lasting_with_window("subscriber", window));
        assert_eq!(subscriber.payloads(), numbers(0..u32::from(window)));
    }
    subscriber.drop_socket();
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 2));
    assert_eq!(subscriber.drain_payloads(), numbers(0..10));
}

/// A 3.1.1 client with more unacknowledged publishes than the broker tracks is read no further until answers come;
/// none is lost, and acknowledgements keep their order [MQTT-4.6.0-2].
#[test]
fn thousands_of_unacknowledged_publishes() {
    let node = Node::new(2);
    let mut subscriber = node.connect_at_with(1, "subscriber", |client_id| lasting(Version::V311, client_id));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut client = node.connect_at(0, Version::V311, "client");
    node.hold_mail(1, 0);
    let mut bytes = Vec::new();
    for packet_id in 1..=20_000 {
        bytes.extend(publish_packet(Version::V311, &publish(QoS::AtLeastOnce, packet_id, "t")));
    }
    client.send(&bytes);
    client.expect_silence();
    assert!(client.unreceived() > 0, "read no further");
    node.release_mail();
    for packet_id in 1..=20_000 {
        client.expect_ack(PacketKind::PubAck, packet_id);
    }
    assert_eq!(client.unreceived(), 0);
    assert_eq!(subscriber.drain().len(), 20_000);
    let dropped: u64 = DropReason::ALL.iter().map(|reason| node.dropped(*reason)).sum();
    assert_eq!(dropped, 0);
}

/// More than 65 535 messages through one session: identifiers come around, and none is in use twice [MQTT-2.2.1-4].
#[test]
fn identifiers_come_around() {
    let node = Node::new(1);
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 65_535));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V311, "publisher");
    let mut expected = 0;
    for round in 0..7 {
        let mut bytes = Vec::new();
        for packet_id in 1..=10_000 {
            bytes.extend(publish_packet(Version::V311, &publish(QoS::AtLeastOnce, packet_id, "t")));
        }
        publisher.send(&bytes);
        for publish in subscriber.drain() {
            expected = expected % 65_535 + 1;
            assert_eq!(publish.packet_id, Some(id(expected)), "round {round}");
        }
    }
    assert_eq!(u32::from(expected), 70_000 % 65_535);
}
