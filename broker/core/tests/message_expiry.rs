//! Message Expiry Interval (section 3.3.2.3.3).

mod host;

use std::time::Duration;

use broker_core::config::Settings;
use broker_core::counters::DropReason;
use host::exchange::{lasting, lasting_with_window};
use host::{Client, Node};
use mqtt::encode::PublishOut;
use mqtt::{QoS, ReasonCode, Version};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Publishes a message that lives for so many seconds.
fn publish(publisher: &mut Client, qos: QoS, payload: &str, message_expiry: u32) {
    let publish = PublishOut {
        topic: "t",
        qos,
        payload: payload.as_bytes(),
        message_expiry: Some(message_expiry),
        ..PublishOut::default()
    };
    let packet_id = publisher.publish_with(&publish);
    publisher.finish_publish(qos, packet_id);
}

/// [MQTT-3.3.2-6] What is left of the interval goes with the message: all of it at once, less after waiting; none where the
/// publisher set none.
#[test]
fn the_interval_counts_down() {
    for cores in [1, 2] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let node = Node::new(cores);
            let mut live = node.connect(Version::V5, "live");
            live.subscribe("t", qos);
            let mut away = node.connect_with(&lasting(Version::V5, "away"));
            away.subscribe("t", qos);
            away.drop_socket();
            let mut publisher = node.connect(Version::V5, "publisher");
            publish(&mut publisher, qos, "x", 100);
            publisher.publish_fully("t", qos, "y");
            assert_eq!(live.expect_payload("x").properties.message_expiry, Some(100));
            assert_eq!(live.expect_payload("y").properties.message_expiry, None);
            node.advance(seconds(70));
            let mut away = node.connect_with(&lasting(Version::V5, "away"));
            assert_eq!(away.expect_payload("x").properties.message_expiry, Some(30));
            assert_eq!(away.expect_payload("y").properties.message_expiry, None);
        }
    }
}

/// [MQTT-3.3.2-5] A copy whose delivery has not begun when the interval ends is deleted and counted, for each queue it is
/// in; others stay in order.
#[test]
fn expired_in_a_queue() {
    let node = Node::new(2);
    for name in ["one", "two"] {
        node.connect_with(&lasting(Version::V5, name)).subscribe("t", QoS::AtLeastOnce);
    }
    let mut publisher = node.connect(Version::V5, "publisher");
    node.connect_with(&lasting(Version::V5, "one")).disconnect(ReasonCode::SUCCESS);
    node.connect_with(&lasting(Version::V5, "two")).disconnect(ReasonCode::SUCCESS);
    for (payload, interval) in [("a", 10), ("b", 1000), ("c", 20), ("d", 10), ("e", 1000)] {
        publish(&mut publisher, QoS::AtLeastOnce, payload, interval);
    }
    node.advance(seconds(10));
    assert_eq!(node.connect_with(&lasting(Version::V5, "one")).drain_payloads(), ["b", "c", "e"]);
    assert_eq!(node.dropped(DropReason::Expired), 2);
    node.advance(seconds(10));
    assert_eq!(node.connect_with(&lasting(Version::V5, "two")).drain_payloads(), ["b", "e"]);
    assert_eq!(node.dropped(DropReason::Expired), 5);
}

/// [MQTT-4.3.3-7, MQTT-4.3.3-13] A message that waits behind a full window of a connected client expires as well; one whose delivery has begun is
/// delivered to the end, also when it has to be sent again.
#[test]
fn expired_behind_a_window_and_in_flight() {
    let node = Node::new(1);
    let mut client = node.connect_with(&lasting_with_window("client", 1));
    client.subscribe("t", QoS::ExactlyOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    for (payload, interval) in [("begun", 10), ("waits", 10), ("stays", 1000)] {
        publish(&mut publisher, QoS::ExactlyOnce, payload, interval);
    }
    client.expect_payload("begun");
    node.advance(seconds(60));
    client.drop_socket();
    let mut client = node.connect_with(&lasting_with_window("client", 1));
    let begun = client.expect_payload("begun");
    assert!(begun.dup);
    assert_eq!(begun.properties.message_expiry, Some(0));
    client.acknowledge(&begun);
    assert_eq!(client.drain_payloads(), ["stays"]);
    assert_eq!(node.dropped(DropReason::Expired), 1);
}

/// What has expired makes room in a full queue before anything is dropped for want of it.
#[test]
fn expired_messages_make_room() {
    for queue_drop in [broker_core::config::QueueDrop::Newest, broker_core::config::QueueDrop::Oldest] {
        let settings = Settings { queue_messages_max: 3, queue_drop, ..Settings::default() };
        let node = Node::of_settings(settings);
        node.connect_with(&lasting(Version::V5, "client")).subscribe("t", QoS::AtLeastOnce);
        node.connect_with(&lasting(Version::V5, "client")).disconnect(ReasonCode::SUCCESS);
        let mut publisher = node.connect(Version::V5, "publisher");
        publish(&mut publisher, QoS::AtLeastOnce, "stays", 1000);
        publish(&mut publisher, QoS::AtLeastOnce, "goes", 10);
        publish(&mut publisher, QoS::AtLeastOnce, "goes", 10);
        node.advance(seconds(11));
        publisher.publish_fully("t", QoS::AtLeastOnce, "new");
        assert_eq!(node.dropped(DropReason::QueueFull), 0);
        assert_eq!(node.dropped(DropReason::Expired), 2);
        let mut client = node.connect_with(&lasting(Version::V5, "client"));
        assert_eq!(client.drain_payloads(), ["stays", "new"]);
    }
}

/// A message that expires while it waits for another core is not delivered, is acknowledged, and counted.
#[test]
fn expired_between_cores() {
    let node = Node::new(2);
    let mut client = node.connect_at(1, Version::V5, "client");
    client.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect_at(0, Version::V5, "publisher");
    node.hold_mail(0, 1);
    let publish = PublishOut {
        topic: "t",
        qos: QoS::AtLeastOnce,
        message_expiry: Some(5),
        payload: b"x",
        ..PublishOut::default()
    };
    publisher.publish_with(&publish);
    node.advance(seconds(6));
    node.release_mail();
    assert_eq!(publisher.packets().len(), 1);
    client.expect_silence();
    assert_eq!(node.dropped(DropReason::Expired), 1);
}

/// The largest interval is no problem, and a 3.x subscriber is spared expired messages too.
#[test]
fn largest_interval_and_old_subscribers() {
    let node = Node::new(1);
    node.connect_with(&lasting(Version::V311, "old")).subscribe("t", QoS::AtLeastOnce);
    node.connect_with(&lasting(Version::V311, "old")).disconnect(ReasonCode::SUCCESS);
    let mut live = node.subscriber("t", QoS::AtMostOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    publish(&mut publisher, QoS::AtLeastOnce, "long", u32::MAX);
    publish(&mut publisher, QoS::AtLeastOnce, "short", 1);
    assert_eq!(live.expect_payload("long").properties.message_expiry, Some(u32::MAX));
    node.advance(seconds(2));
    assert_eq!(node.connect_with(&lasting(Version::V311, "old")).drain_payloads(), ["long"]);
}
