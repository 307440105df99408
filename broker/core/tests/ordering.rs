//! Message ordering (section 4.6).

mod host;

use host::exchange::{lasting, lasting_with_window, numbers};
use host::{Client, Node, VERSIONS};
use mqtt::{PacketKind, QoS, ReasonCode, Version};

/// A lasting subscriber at home on core 1, and a publisher on core 0.
fn across(node: &Node, version: Version) -> (Client, Client) {
    let mut subscriber = node.connect_at_with(1, "subscriber", |client_id| lasting(version, client_id));
    subscriber.subscribe("there", QoS::ExactlyOnce);
    (subscriber, node.connect_at(0, version, "publisher"))
}

/// [MQTT-4.6.0-2, MQTT-4.6.0-3] Acknowledgements leave in the order of the publishes, whichever core is late with its
/// answer: a later one that is ready waits for the earlier ones.
#[test]
fn acknowledgements_in_the_order_of_publishes() {
    for version in VERSIONS {
        let node = Node::new(2);
        let (mut subscriber, mut publisher) = across(&node, version);
        for topic in ["there", "nowhere"] {
            for _ in 0..3 {
                publisher.publish_fully(topic, QoS::AtLeastOnce, "warm"); // answered from the cache from now on
            }
        }
        subscriber.drain();
        node.hold_mail(1, 0);
        let mut owed = Vec::new();
        for (topic, qos) in [
            ("there", QoS::AtLeastOnce),
            ("nowhere", QoS::AtLeastOnce),
            ("nowhere", QoS::ExactlyOnce),
            ("there", QoS::ExactlyOnce),
            ("nowhere", QoS::AtMostOnce),
            ("nowhere", QoS::AtLeastOnce),
        ] {
            let packet_id = publisher.publish(topic, qos, "x");
            match qos {
                QoS::AtMostOnce => {}
                QoS::AtLeastOnce => owed.push((PacketKind::PubAck, packet_id)),
                QoS::ExactlyOnce => owed.push((PacketKind::PubRec, packet_id)),
            }
        }
        publisher.expect_silence();
        publisher.ping(); // nothing else waits
        node.release_mail();
        for (kind, packet_id) in owed {
            publisher.expect_ack(kind, packet_id);
        }
        publisher.expect_silence();
    }
}

/// [MQTT-4.6.0-5, MQTT-4.6.0-6] Messages on one topic stay in order while its look-up waits for another core, by QoS, for
/// each subscriber.
#[test]
fn order_while_a_look_up_waits() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let node = Node::new(3);
        let mut subscribers: Vec<Client> = (0..3)
            .map(|core| {
                let prefix = format!("subscriber-{core}");
                node.connect_at_with(core, &prefix, |client_id| lasting(Version::V311, client_id))
            })
            .collect();
        for subscriber in &mut subscribers {
            subscriber.subscribe("#", qos);
        }
        let mut publisher = node.connect_at(0, Version::V311, "publisher");
        for topic in numbers(0..20) {
            node.hold_mail(1, 0);
            node.hold_mail(2, 0);
            for number in numbers(0..10) {
                publisher.publish(&topic, qos, &number);
            }
            node.release_mail();
            for number in numbers(10..20) {
                publisher.publish(&topic, qos, &number);
            }
            for subscriber in &mut subscribers {
                assert_eq!(subscriber.drain_payloads(), numbers(0..20));
            }
        }
    }
}

/// [MQTT-4.6.0-1] What is sent again comes in the order in which it was sent first, before what never was sent, which
/// comes in the order of its publishing.
#[test]
fn order_through_reconnects() {
    for window in [2, 5, 100] {
        let node = Node::new(2);
        let mut subscriber = node.connect_with(&lasting_with_window("subscriber", window));
        subscriber.subscribe("t", QoS::AtLeastOnce);
        let mut publisher = node.connect(Version::V5, "publisher");
        let mut last = None;
        for round in 0..10u32 {
            for number in numbers(round * 10..round * 10 + 10) {
                publisher.publish_fully("t", QoS::AtLeastOnce, &number);
            }
            subscriber.drop_socket();
            subscriber = node.connect_with(&lasting_with_window("subscriber", window));
            let came = subscriber.payloads();
            let came: Vec<u32> = came.iter().map(|number| number.parse().expect("a number")).collect();
            assert!(came.is_sorted() && came[0] == 0, "{came:?}");
            last = last.max(came.last().copied());
        }
        assert!(last >= Some(u32::from(window) - 1));
        subscriber.drop_socket();
        let mut subscriber = node.connect_with(&lasting_with_window("subscriber", window));
        assert_eq!(subscriber.drain_payloads(), numbers(0..100));
    }
}

/// [MQTT-4.6.0-5] Take-over by the same client in the middle of a stream keeps the order.
#[test]
fn order_through_take_over() {
    let node = Node::new(3);
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 4));
    subscriber.subscribe("t", QoS::ExactlyOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    let mut said: Vec<String> = Vec::new();
    for round in 0..8u32 {
        for number in numbers(round * 5..round * 5 + 5) {
            publisher.publish_fully("t", QoS::ExactlyOnce, &number);
        }
        let first = subscriber.expect_publish();
        said.push(String::from_utf8_lossy(first.payload).into_owned());
        subscriber.acknowledge(&first);
        let mut winner = node.connect_with(&lasting_with_window("subscriber", 4));
        let packet_id = first.packet_id.expect("QoS 2").get();
        winner.expect_ack(PacketKind::PubRel, packet_id);
        winner.send_ack(PacketKind::PubComp, packet_id);
        subscriber = winner;
    }
    said.extend(subscriber.drain_payloads());
    assert_eq!(said, numbers(0..40));
}

/// [MQTT-4.6.0-4] PUBRELs leave in the order of the PUBRECs.
#[test]
fn pubrels_in_the_order_of_pubrecs() {
    let node = Node::new(1);
    let mut subscriber = node.connect(Version::V5, "subscriber");
    subscriber.subscribe("t", QoS::ExactlyOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    for number in numbers(0..5) {
        publisher.publish_fully("t", QoS::ExactlyOnce, &number);
    }
    let ids: Vec<u16> = (0..5).map(|_| subscriber.expect_publish().packet_id.expect("QoS 2").get()).collect();
    for at in [3, 0, 4, 1, 2] {
        subscriber.send_ack(PacketKind::PubRec, ids[at]);
    }
    for at in [3, 0, 4, 1, 2] {
        subscriber.expect_ack(PacketKind::PubRel, ids[at]);
    }
}

/// [MQTT-4.6.0-5] QoS 0 messages that were queued for an absent session are not overtaken by those that come after its
/// return, though a full window holds the queue back.
#[test]
fn queued_qos0_is_not_overtaken() {
    let settings = broker_core::config::Settings { queue_qos0: true, ..Default::default() };
    let node = Node::of_settings(settings);
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 1));
    subscriber.subscribe("#", QoS::AtLeastOnce);
    subscriber.disconnect(ReasonCode::SUCCESS);
    let mut publisher = node.connect(Version::V5, "publisher");
    publisher.publish_fully("one", QoS::AtLeastOnce, "a");
    publisher.publish_fully("one", QoS::AtLeastOnce, "b");
    for number in numbers(0..3) {
        publisher.publish("zero", QoS::AtMostOnce, &number);
    }
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 1));
    let first = subscriber.expect_payload("a");
    for number in numbers(3..6) {
        publisher.publish("zero", QoS::AtMostOnce, &number);
    }
    subscriber.acknowledge(&first);
    let mut said = subscriber.drain_payloads();
    said.retain(|payload| payload != "b");
    assert_eq!(said, numbers(0..6));
}
