//! Rates of a connection: who is faster is read later or sent to later, loses nothing, and stays connected.

mod host;

use std::time::Duration;

use broker_core::config::Settings;
use broker_core::limit::Limit;
use host::exchange::numbers;
use host::{Node, VERSIONS};
use mqtt::{Connect, QoS, Version};

fn limited(node: &Node, limit: Limit) -> u64 {
    node.count(|core| core.counters().limited(limit))
}

/// `tenant.publishes_per_second_max`: a second's worth passes at once, the rest at the rate, in order and whole.
#[test]
fn publishes_come_at_the_rate() {
    for version in VERSIONS {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let node = Node::of_settings(Settings { publishes_per_second_max: 10, ..Settings::default() });
            let mut watcher = node.subscriber("a", QoS::AtMostOnce);
            let mut publisher = node.connect(version, "publisher");
            for number in 0..100 {
                publisher.publish("a", qos, &number.to_string());
            }
            let mut received = watcher.payloads();
            assert!((10..=11).contains(&received.len()), "{} at once", received.len());
            for second in 1..9 {
                node.advance(Duration::from_secs(1));
                received.extend(watcher.payloads());
                let expected = 10 + second * 10;
                assert!(
                    (expected - 1..=expected + 2).contains(&received.len()),
                    "{} of {expected}",
                    received.len()
                );
            }
            node.advance(Duration::from_secs(2));
            received.extend(watcher.payloads());
            assert_eq!(received, numbers(0..100));
            assert!(!publisher.is_closed());
            assert!(limited(&node, Limit::PublishRate) > 10);
            assert_eq!(limited(&node, Limit::InboundRate), 0);
        }
    }
}

/// `tenant.inbound_bytes_per_second_max`: bytes of all packets count, whatever they are cut into; other clients
/// are not slowed with this one.
#[test]
fn bytes_come_at_the_rate() {
    for piece in [1000, 64 * 1024] {
        let node =
            Node::of_settings(Settings { inbound_bytes_per_second_max: 10_000, ..Settings::default() });
        node.split_input(piece);
        let mut watcher = node.subscriber("a", QoS::AtMostOnce);
        let mut publisher = node.connect(Version::V311, "publisher");
        let payload = "x".repeat(1000);
        for _ in 0..50 {
            publisher.publish("a", QoS::AtMostOnce, &payload);
        }
        let at_once = watcher.payloads().len();
        assert!((9..=11).contains(&at_once), "{at_once} at once");
        node.connect(Version::V311, "another").publish("a", QoS::AtMostOnce, "y");
        watcher.expect_payload("y");
        node.advance(Duration::from_secs(2));
        let later = at_once + watcher.payloads().len();
        assert!((28..=31).contains(&later), "{later} after two seconds");
        node.advance(Duration::from_secs(3));
        assert_eq!(later + watcher.payloads().len(), 50);
        assert!(limited(&node, Limit::InboundRate) > 0);
    }
}

/// A client that is not read for longer than its keep alive, because one packet of it was worth so much, has not
/// been silent; when it has, it is closed.
#[test]
fn held_back_is_not_silent() {
    let node = Node::of_settings(Settings { inbound_bytes_per_second_max: 1000, ..Settings::default() });
    let mut client = node.accept();
    client.greet(&Connect { keep_alive: 10, ..Connect::new(Version::V5, "client") });
    client.publish("a", QoS::AtMostOnce, &"x".repeat(60_000));
    client.publish("a", QoS::AtMostOnce, "");
    node.advance(Duration::from_secs(50));
    client.expect_silence();
    node.advance(Duration::from_secs(40));
    client.expect_ended(mqtt::ReasonCode::KEEP_ALIVE_TIMEOUT);
}

/// `tenant.outbound_bytes_per_second_max`: what is more waits, among the unsent bytes and in the queue, and comes
/// in order and whole.
#[test]
fn bytes_go_at_the_rate() {
    for (qos, send_bytes_max) in [(QoS::AtMostOnce, 1 << 20), (QoS::AtLeastOnce, 4096)] {
        let settings =
            Settings { outbound_bytes_per_second_max: 10_000, send_bytes_max, ..Settings::default() };
        let node = Node::of_settings(settings);
        let mut watcher = node.subscriber("a", qos);
        let mut publisher = node.connect(Version::V311, "publisher");
        for number in 0..50 {
            publisher.publish_patiently("a", qos, &format!("{number:0>1000}"));
        }
        let at_once = watcher.drain_payloads().len();
        assert!(at_once < 50, "{at_once} at once");
        let mut received = at_once;
        for second in 1..8 {
            node.advance(Duration::from_secs(1));
            received += watcher.drain_payloads().len();
            assert!(received <= at_once + second * 11 + 1, "{received} after {second} s");
        }
        assert_eq!(received, 50);
        assert!(limited(&node, Limit::OutboundRate) > 0);
    }
}

/// A client that is closed is told so at once, whatever it has still to get.
#[test]
fn closing_does_not_wait() {
    let settings = Settings { outbound_bytes_per_second_max: 100, ..Settings::default() };
    let node = Node::of_settings(settings);
    let mut client = node.connect(Version::V5, "client");
    client.subscribe("a", QoS::AtMostOnce);
    client.publish("a", QoS::AtMostOnce, &"x".repeat(5000));
    client.expect_nothing();
    node.connect(Version::V5, "client");
    assert_eq!(client.expect_publish().payload.len(), 5000);
    client.expect_ended(mqtt::ReasonCode::SESSION_TAKEN_OVER);
}
