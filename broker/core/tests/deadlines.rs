//! Requests between cores whose answers are lost: each is repeated, or given up by name, and nothing of it stays.

mod host;

use std::time::Duration;

use broker_core::config::Config;
use host::exchange::{lasting, numbers, options};
use host::{Client, Node};
use mqtt::encode::PublishOut;
use mqtt::{Packet, PacketKind, QoS, ReasonCode, SubscribeFilter, Version};

const CORES: u16 = 3;
const TIMEOUT: Duration = Duration::from_millis(1000);

fn node() -> Node {
    Node::with(Config { cores: CORES, request_timeout_ms: 1000, ..Config::default() })
}

/// A client at home on core 0 whose session lasts.
fn durable(node: &Node) -> Client {
    node.connect_at_with(0, "durable", |client_id| lasting(Version::V5, client_id))
}

/// Runs a test for topics enough that their routes are on each core.
fn for_topics(test: impl Fn(&str) -> bool) {
    let bitten = numbers(0..12).iter().filter(|topic| test(topic)).count();
    assert!(bitten > 0, "some answer was lost");
}

fn is_past_due(node: &Node) {
    node.advance(2 * TIMEOUT + Duration::from_millis(100));
}

/// Who wants a topic? Unanswered, the topic's messages waited for ever, and their publishers: it is asked again, and
/// they arrive in order.
#[test]
fn a_lost_look_up() {
    for_topics(|topic| {
        let node = node();
        let mut subscriber = durable(&node);
        subscriber.subscribe(topic, QoS::AtLeastOnce);
        let mut publisher = node.connect_at(1, Version::V311, "publisher");
        for from in [0, 2] {
            node.lose_mail(from, 1);
        }
        for number in numbers(0..3) {
            publisher.publish(topic, QoS::AtMostOnce, &number);
        }
        node.lose_no_mail();
        let lost = node.requests() > 0;
        is_past_due(&node);
        assert_eq!(subscriber.drain_payloads(), numbers(0..3));
        assert_eq!(node.count(|core| core.counters().requests_repeated) > 0, lost);
        assert_eq!(node.requests(), 0);
        lost
    });
}

/// A SUBACK whose route's answer is lost, at the range, at a core that had the topic cached, or on the way back,
/// comes after the deadline; and it means routed.
#[test]
fn a_lost_new_route() {
    for lasting_session in [true, false] {
        for (from, to) in [(1, 0), (2, 0), (1, 2), (2, 1), (0, 1), (0, 2)] {
            for_topics_that_may_be_spared(|topic| {
                let node = node();
                let mut publishers: Vec<Client> =
                    (0..CORES).map(|core| node.connect_at(core, Version::V311, "publisher")).collect();
                for publisher in &mut publishers {
                    publisher.publish(topic, QoS::AtMostOnce, "known");
                    publisher.publish(topic, QoS::AtMostOnce, "known");
                }
                let mut client = match lasting_session {
                    true => durable(&node),
                    false => node.connect_at(0, Version::V5, "volatile"),
                };
                node.lose_mail(from, to);
                let filter = SubscribeFilter { filter: topic, options: options(QoS::AtMostOnce) };
                let packet_id = client.send_subscribe(&[filter], None);
                node.lose_no_mail();
                let waits = client.packets();
                if waits.is_empty() {
                    is_past_due(&node);
                    client.expect_suback(packet_id);
                }
                assert_eq!(node.requests(), 0);
                for publisher in &mut publishers {
                    publisher.publish(topic, QoS::AtMostOnce, "x");
                    client.expect_payload("x");
                }
                waits.is_empty()
            });
        }
    }
}

/// Not each way of messages is one of each topic's.
fn for_topics_that_may_be_spared(test: impl Fn(&str) -> bool) {
    for topic in numbers(0..6) {
        test(&topic);
    }
}

/// An UNSUBACK that a core never passed comes after the deadline.
#[test]
fn a_lost_end_of_a_route() {
    for_topics(|topic| {
        let node = node();
        let mut client = durable(&node);
        client.subscribe(topic, QoS::AtMostOnce);
        let mut publisher = node.connect_at(1, Version::V311, "publisher");
        for _ in 0..3 {
            publisher.publish(topic, QoS::AtMostOnce, "known");
        }
        client.packets();
        node.lose_mail(1, 0);
        client.send_unsubscribe(&[topic]);
        node.lose_no_mail();
        let lost = client.packets().is_empty();
        if lost {
            is_past_due(&node);
            assert!(matches!(client.expect(), Packet::UnsubAck(_)));
        }
        assert_eq!(node.requests(), 0);
        publisher.publish(topic, QoS::AtMostOnce, "later");
        client.expect_silence();
        lost
    });
}

/// A publish that is not answered for, and so never acknowledged, held up all that came behind it: its connection ends
/// with 0x89, and the client may send it again, under the same identifier.
#[test]
fn a_lost_part_of_a_publish() {
    for (qos, kind) in [(QoS::AtLeastOnce, PacketKind::PubAck), (QoS::ExactlyOnce, PacketKind::PubRec)] {
        for version in [Version::V311, Version::V5] {
            let node = node();
            let mut subscriber = durable(&node);
            subscriber.subscribe("t", QoS::ExactlyOnce);
            let mut publisher = node.connect_at_with(1, "publisher", |client_id| lasting(version, client_id));
            for _ in 0..3 {
                publisher.publish_fully("t", qos, "known");
            }
            subscriber.drain();
            node.lose_mail(1, 0);
            let packet_id = publisher.publish("t", qos, "lost");
            node.lose_no_mail();
            node.advance(TIMEOUT);
            publisher.expect_silence();
            node.advance(4 * TIMEOUT);
            publisher.expect_ended(ReasonCode::SERVER_BUSY);
            assert_eq!(node.count(|core| core.counters().answers_overdue), 1);
            let client_id = publisher.client_id.clone();
            let mut publisher = node.connect_with(&lasting(version, &client_id));
            publisher.publish_with(&PublishOut {
                topic: "t",
                qos,
                dup: true,
                packet_id: mqtt::PacketId::new(packet_id),
                payload: b"lost",
                ..PublishOut::default()
            });
            publisher.expect_ack(kind, packet_id);
            assert_eq!(subscriber.drain_payloads(), ["lost"]);
        }
    }
}

/// A publisher whose every message is answered for is never ended, however long it goes on.
#[test]
fn a_publisher_that_is_answered() {
    let node = node();
    let mut subscriber = durable(&node);
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect_at(1, Version::V5, "publisher");
    for number in numbers(0..100) {
        publisher.publish_fully("t", QoS::AtLeastOnce, &number);
        node.advance(Duration::from_millis(77));
        subscriber.drain();
    }
    assert_eq!(node.count(|core| core.counters().answers_overdue), 0);
    node.advance(5 * TIMEOUT);
    publisher.expect_silence();
    assert_eq!((node.requests(), node.count(|core| core.counters().requests_repeated)), (0, 0));
    assert_eq!(node.timers(), 0, "nothing is looked at any more");
}
