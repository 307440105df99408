//! Retained messages by wildcard filters: any number of them, as fast as the subscriber takes them.

mod host;

use broker_core::config::Settings;
use broker_core::counters::DropReason;
use host::exchange::{lasting_with_window, numbers, options};
use host::{Client, Node};
use mqtt::encode::PublishOut;
use mqtt::{Packet, QoS, SubscribeFilter, Version};

const COUNT: u32 = 5000;

/// Thousands of retained messages of a QoS.
fn fill(node: &Node, qos: QoS) -> Client {
    let mut publisher = node.connect(Version::V311, "publisher");
    for number in numbers(0..COUNT) {
        publisher.retain(&format!("many/{number}"), qos, &number);
    }
    publisher
}

/// Every number from 0 on, once, in any order.
fn expect_all(mut said: Vec<String>) {
    said.sort_unstable();
    let mut expected = numbers(0..COUNT);
    expected.sort_unstable();
    assert!(said == expected, "{} of {COUNT} came", said.len());
}

fn dropped(node: &Node) -> u64 {
    DropReason::ALL.iter().map(|reason| node.dropped(*reason)).sum()
}

/// [MQTT-3.3.1-9] Thousands of matches reach a subscriber of any QoS and with any window, each once, none dropped.
#[test]
fn thousands_of_matches() {
    for cores in [1, 4] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for window in [1, 10, 65_535] {
                let node = Node::new(cores);
                fill(&node, qos);
                let mut subscriber = node.connect_with(&lasting_with_window("subscriber", window));
                subscriber.subscribe("many/#", qos);
                expect_all(subscriber.drain_payloads());
                assert_eq!(dropped(&node), 0);
            }
        }
    }
}

/// A subscriber that reads slowly gets all of them too, of whatever QoS and with buffers of whatever size; what the
/// broker holds for it stays within them.
#[test]
fn a_slow_reader_gets_them_all() {
    for (send_bytes_max, queue_messages_max) in [(4096, 10), (4096, 100_000), (4 * 1024 * 1024, 10)] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let settings = Settings { send_bytes_max, queue_messages_max, ..Settings::default() };
            let node = Node::of_settings_and_cores(settings, 2);
            fill(&node, qos);
            let mut subscriber = node.connect(Version::V311, "subscriber");
            subscriber.reads(false);
            subscriber.send(&host::packets::subscribe_packet(Version::V311, 1, "many/#", qos));
            let mut said = Vec::new();
            loop {
                assert!(subscriber.unsent() <= 512 * 1024, "{} bytes unsent", subscriber.unsent());
                subscriber.read(700);
                let packets = subscriber.packets();
                if packets.is_empty() && subscriber.unsent() == 0 {
                    break;
                }
                for packet in packets {
                    if let Packet::Publish(publish) = packet {
                        said.push(String::from_utf8_lossy(publish.payload).into_owned());
                        subscriber.acknowledge(&publish);
                    }
                }
            }
            expect_all(said);
            assert_eq!(dropped(&node), 0, "{qos:?}, {send_bytes_max}, {queue_messages_max}");
        }
    }
}

/// Live messages go on while retained ones are streamed; several streams of one client do not lose or mix anything.
#[test]
fn live_messages_between_retained_ones() {
    let node = Node::new(3);
    let mut publisher = fill(&node, QoS::AtLeastOnce);
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 20));
    let filter = |filter| SubscribeFilter { filter, options: options(QoS::AtLeastOnce) };
    let packet_id = subscriber
        .send_subscribe(&[filter("many/#"), filter("many/77"), filter("many/+"), filter("live")], None);
    subscriber.expect_suback(packet_id);
    let first = subscriber.packets();
    for number in numbers(0..50) {
        publisher.publish_fully("live", QoS::AtLeastOnce, &number);
    }
    let (mut kept, mut live) = (Vec::new(), Vec::new());
    let mut sort = |publish: mqtt::Publish<'_>| {
        let said = String::from_utf8_lossy(publish.payload).into_owned();
        if publish.retain { kept.push(said) } else { live.push(said) }
    };
    for packet in first {
        let Packet::Publish(publish) = packet else { panic!("PUBLISH, not {packet:?}") };
        sort(publish);
        subscriber.acknowledge(&publish);
    }
    subscriber.drain().into_iter().for_each(sort);
    assert_eq!(live, numbers(0..50));
    assert_eq!(kept.len() as u32, COUNT * 2 + 1);
}

/// A subscriber that goes away in the middle leaves nothing behind, and its next connection starts anew.
#[test]
fn leaving_in_the_middle() {
    let node = Node::new(2);
    fill(&node, QoS::AtLeastOnce);
    for _ in 0..3 {
        let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 5));
        let filter = SubscribeFilter { filter: "many/#", options: options(QoS::AtLeastOnce) };
        subscriber.send_subscribe(&[filter], None);
        assert_eq!(subscriber.packets().len(), 5 + 1); // and the SUBACK
        subscriber.drop_socket();
    }
    let mut connect = lasting_with_window("subscriber", 5);
    connect.clean_start = true;
    let mut subscriber = node.connect_with(&connect);
    subscriber.subscribe("many/#", QoS::AtLeastOnce);
    expect_all(subscriber.drain_payloads());
}

/// Retained messages larger than the client takes are left out and counted, the others come [MQTT-3.1.2-24, MQTT-3.1.2-25].
#[test]
fn some_are_too_large() {
    let node = Node::new(1);
    let mut publisher = node.connect(Version::V311, "publisher");
    for (topic, bytes) in [("a", 10), ("b", 1000), ("c", 10)] {
        publisher.retain(topic, QoS::AtLeastOnce, &"x".repeat(bytes));
    }
    let mut connect = lasting_with_window("subscriber", 1);
    connect.properties.maximum_packet_size = Some(100);
    let mut subscriber = node.connect_with(&connect);
    subscriber.subscribe("+", QoS::AtLeastOnce);
    assert_eq!(subscriber.drain().len(), 2);
    assert_eq!(node.dropped(DropReason::TooLarge), 1);
}

/// A publisher is not slowed because a subscriber is busy with retained messages of others.
#[test]
fn publishers_are_not_slowed_for_retained_messages() {
    let settings = Settings { queue_messages_max: 100, ..Settings::default() };
    let node = Node::of_settings(settings);
    let mut publisher = fill(&node, QoS::AtLeastOnce);
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 1));
    subscriber.subscribe("many/#", QoS::AtLeastOnce);
    publisher.publish("elsewhere", QoS::AtMostOnce, "x");
    assert_eq!(node.count(|core| core.counters().publishers_slowed), 0);
    expect_all(subscriber.drain_payloads());
}

/// What is replaced while it waits to be streamed comes as it is by then, what is cleared does not come, nor what has
/// expired [MQTT-3.3.2-5]; the changes themselves come live.
#[test]
fn changes_while_they_are_streamed() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let node = Node::of_settings(Settings { send_bytes_max: 4096, ..Settings::default() });
        let mut publisher = node.connect(Version::V5, "publisher");
        let topics: Vec<String> = (0..COUNT).map(|number| format!("many/{number}")).collect();
        let publish = |topic: &'_ String, payload: &'static [u8], message_expiry| {
            let publish =
                PublishOut { topic, retain: true, payload, message_expiry, ..PublishOut::default() };
            host::packets::publish_packet(Version::V5, &publish)
        };
        for (topic, expiry) in topics.iter().zip([None, None, Some(10)].into_iter().cycle()) {
            publisher.send(&publish(topic, b"old", expiry));
        }
        let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 5));
        subscriber.reads(false);
        subscriber.send(&host::packets::subscribe_packet(Version::V5, 1, "many/#", qos));
        for (topic, kind) in topics.iter().zip([0, 1, 2].into_iter().cycle()) {
            match kind {
                0 => publisher.send(&publish(topic, b"new", None)),
                1 => publisher.send(&publish(topic, b"", None)),
                _ => {}
            }
        }
        node.advance(std::time::Duration::from_secs(11));
        subscriber.reads(true);
        subscriber.expect_suback(1);
        let mut kept = subscriber.drain();
        kept.retain(|publish| publish.retain);
        let old = kept.iter().filter(|publish| publish.payload == b"old").count();
        let new = kept.iter().filter(|publish| publish.payload == b"new").count();
        assert!(old < 300, "{old} of them were on their way");
        assert!(new >= COUNT as usize / 3 - 300);
        assert_eq!(old + new, kept.len());
    }
}

/// A client that asks for the same retained messages again and again and takes none piled up requests, and was refused
/// with 0x97 though it had one subscription: beside those on their way they wait once.
#[test]
fn a_client_asks_and_takes_nothing() {
    let node = Node::of_settings(Settings { subscriptions_max: 3, ..Settings::default() });
    fill(&node, QoS::AtLeastOnce);
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 1));
    let filter = SubscribeFilter { filter: "many/#", options: options(QoS::AtLeastOnce) };
    let mut refused = 0;
    let mut publishes = Vec::new();
    for _ in 0..10 {
        subscriber.send_subscribe(&[filter], None);
        for packet in subscriber.packets() {
            match packet {
                Packet::SubAck(mut ack) => {
                    refused += u32::from(ack.reasons.next() == Some(mqtt::ReasonCode::QUOTA_EXCEEDED));
                }
                Packet::Publish(publish) => publishes.push(publish),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(refused, 0);
    subscriber.acknowledge(&publishes[0]);
    assert_eq!(subscriber.drain().len() as u32 + 1, 2 * COUNT);
    assert_eq!(subscriber.subscribe_as("many/1", options(QoS::AtMostOnce)), 0);
}
