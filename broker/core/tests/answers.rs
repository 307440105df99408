//! Answers: which packet identifiers and reason codes they carry, that they fit, and that a full window holds back
//! nothing but messages.

mod host;

use host::exchange::{lasting_with_window, options};
use host::{Node, VERSIONS};
use mqtt::encode::PublishOut;
use mqtt::{Connect, Packet, PacketKind, QoS, ReasonCode, SubscribeFilter, Version};

/// [MQTT-2.2.1-5] An acknowledgement has the identifier of its PUBLISH, whatever that is, in each step of QoS 2.
#[test]
fn acknowledgements_have_the_identifier_of_their_publish() {
    for version in VERSIONS {
        let node = Node::new(2);
        let mut client = node.connect(version, "client");
        for number in [1, 2, 0x00FF, 0x0100, 0x8000, 0xFFFF] {
            let publish = |qos| PublishOut {
                topic: "a",
                qos,
                packet_id: Some(host::packets::id(number)),
                ..PublishOut::default()
            };
            client.publish_with(&publish(QoS::AtLeastOnce));
            client.expect_ack(PacketKind::PubAck, number);
            client.publish_with(&publish(QoS::ExactlyOnce));
            client.expect_ack(PacketKind::PubRec, number);
            client.send_ack(PacketKind::PubRel, number);
            client.expect_ack(PacketKind::PubComp, number);
        }
        client.expect_silence();
    }
}

/// [MQTT-2.2.1-6, MQTT-3.10.4-5] SUBACK and UNSUBACK have the identifier of their request, UNSUBACK even where nothing
/// was subscribed to.
#[test]
fn subacks_and_unsubacks_have_the_identifier_of_their_request() {
    for version in VERSIONS {
        let node = Node::new(2);
        let mut client = node.connect(version, "client");
        let filters = [SubscribeFilter { filter: "a/+", options: options(QoS::AtMostOnce) }];
        for subscribed in [true, false] {
            for _ in 0..3 {
                if subscribed {
                    let asked = client.send_subscribe(&filters, None);
                    assert_eq!(client.expect_suback(asked).packet_id.get(), asked);
                }
                let asked = client.send_unsubscribe(&["a/+"]);
                match client.expect() {
                    Packet::UnsubAck(unsuback) => assert_eq!(unsuback.packet_id.get(), asked),
                    other => panic!("UNSUBACK {asked}, not {other:?}"),
                }
            }
        }
        client.expect_silence();
    }
}

/// [MQTT-3.8.4-7] Each filter of a SUBSCRIBE gets the QoS that was granted or a failure, in their order: here the QoS is
/// at most 1, and a session has three subscriptions.
#[test]
fn suback_says_what_was_granted() {
    let settings = broker_core::config::Settings {
        qos_max: QoS::AtLeastOnce,
        subscriptions_max: 3,
        ..Default::default()
    };
    for version in VERSIONS {
        let node = Node::of_settings(settings.clone());
        let mut client = node.connect(version, "client");
        let filter = |filter, qos| SubscribeFilter { filter, options: options(qos) };
        let granted = client.subscribe_all(
            &[
                filter("a", QoS::AtMostOnce),
                filter("b", QoS::AtLeastOnce),
                filter("c", QoS::ExactlyOnce),
                filter("d", QoS::AtLeastOnce),
            ],
            None,
        );
        let refused = if version == Version::V5 { 0x97 } else { 0x80 };
        assert_eq!(granted, [0, 1, 1, refused], "{version:?}");
    }
}

/// [MQTT-3.3.2-3] What a client gets is of a topic that one of its filters matches: of all that is published, that and
/// no more.
#[test]
fn topics_match_the_filter() {
    let node = Node::new(3);
    let topics = ["a", "a/b", "a/b/c", "b", "/a", "a/", "A", "$a/b", "b/a"];
    let mut publisher = node.connect(Version::V5, "publisher");
    for filter in ["a/+", "a/#", "#", "+", "/+", "a", "$a/#", "+/+"] {
        let mut client = node.connect(Version::V5, "subscriber");
        client.subscribe(filter, QoS::AtMostOnce);
        for topic in topics {
            publisher.publish(topic, QoS::AtMostOnce, topic);
        }
        let got: Vec<String> = client.drain().iter().map(|publish| publish.topic.to_owned()).collect();
        let expected: Vec<&str> =
            topics.into_iter().filter(|topic| mqtt::filter_matches(filter, topic)).collect();
        assert_eq!(sorted(got), sorted(expected.into_iter().map(str::to_owned).collect()), "{filter}");
    }
}

fn sorted(mut topics: Vec<String>) -> Vec<String> {
    topics.sort_unstable();
    topics
}

/// [MQTT-4.9.0-2, MQTT-4.9.0-3, MQTT-4.3.2-3] With as many unacknowledged messages as its receive maximum a client gets no
/// other of QoS 1, but every answer, and QoS 0; they stay unacknowledged until it answers, over a reconnect too.
#[test]
fn full_window_holds_back_messages_alone() {
    let node = Node::new(2);
    let connect = lasting_with_window("client", 2);
    let mut client = node.connect_with(&connect);
    client.subscribe("a", QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    for payload in ["1", "2", "3"] {
        publisher.publish_fully("a", QoS::AtLeastOnce, payload);
    }
    let sent = [client.expect_payload("1"), client.expect_payload("2")];
    client.expect_nothing();
    client.ping();
    client.subscribe("b", QoS::AtMostOnce);
    client.publish_fully("c", QoS::AtLeastOnce, "own");
    client.publish_fully("c", QoS::ExactlyOnce, "own");
    client.unsubscribe("c");
    publisher.publish("b", QoS::AtMostOnce, "at once");
    client.expect_payload("at once");
    client.expect_nothing();

    let mut client = node.connect_with(&connect);
    for before in sent {
        let again = client.expect_publish();
        assert_eq!((again.packet_id, again.payload, again.dup), (before.packet_id, before.payload, true));
    }
    client.expect_nothing();
    client.send_ack(PacketKind::PubAck, 1);
    client.expect_payload("3");
}

/// [MQTT-3.2.2-19, MQTT-3.2.2-20, MQTT-3.4.2-2, MQTT-3.4.2-3, MQTT-3.5.2-2, MQTT-3.5.2-3, MQTT-3.7.2-2, MQTT-3.7.2-3,
/// MQTT-3.9.2-1, MQTT-3.9.2-2, MQTT-3.11.2-1, MQTT-3.11.2-2, MQTT-3.14.2-3, MQTT-3.14.2-4] A client that takes hardly
/// any packet gets every answer, without what would make it too large.
#[test]
fn answers_fit_the_maximum_packet_size() {
    let bytes_max = 24;
    let node = Node::new(2);
    let mut connect = Connect::new(Version::V5, "client");
    connect.properties.maximum_packet_size = Some(bytes_max);
    let mut client = node.connect_with(&connect);
    client.subscribe("a", QoS::AtMostOnce);
    client.unsubscribe("nothing");
    client.publish_fully("nobody", QoS::AtLeastOnce, "");
    client.publish_fully("nobody", QoS::ExactlyOnce, "");
    client.send_ack(PacketKind::PubRel, 99);
    assert_eq!(client.expect_ack(PacketKind::PubComp, 99).reason, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
    client.send(&[0xD0, 0]);
    let bytes = client.take_bytes();
    assert!(bytes.len() <= bytes_max as usize && bytes.starts_with(&[0xE0]), "{bytes:x?}");
    assert_eq!(bytes[2], ReasonCode::PROTOCOL_ERROR.value());
}

/// [MQTT-3.3.2-19] A content type that is no UTF-8 is malformed.
#[test]
fn content_type_is_utf_8() {
    let mut client = Node::new(1).connect(Version::V5, "client");
    client.send("\x30\x0B\0\x01a\x07\x03\0\x04t/ü".as_bytes());
    client.ping();
    client.send(&[0x30, 8, 0, 1, b'a', 4, 0x03, 0, 1, 0xFF]);
    client.expect_ended(ReasonCode::MALFORMED_PACKET);
}
