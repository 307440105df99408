//! Retained copies among live messages (promise 3): a copy is never older than what its subscriber has seen of the
//! topic, whichever of the two ways between the cores is slow.

mod host;

use std::collections::BTreeMap;

use host::exchange::{lasting_with_window, numbers, options};
use host::packets::{publish_packet, subscribe_packet};
use host::{Client, Node};
use mqtt::encode::PublishOut;
use mqtt::{Packet, QoS, SubscribeFilter, Version};

/// The core of the subscriber.
const HOME: u16 = 0;
/// The core of the publisher.
const ELSEWHERE: u16 = 1;
/// The core that keeps the retained message, for one topic in three.
const RANGE: u16 = 2;
const CORES: u16 = 3;

/// A subscriber with a session that ends, or one that lasts.
fn subscriber(node: &Node, lasts: bool) -> Client {
    if lasts {
        node.connect_at_with(HOME, "subscriber", |client_id| lasting_with_window(client_id, 10))
    } else {
        node.connect_at(HOME, Version::V5, "subscriber")
    }
}

fn all_kinds() -> impl Iterator<Item = (QoS, bool)> {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]
        .into_iter()
        .flat_map(|qos| [(qos, false), (qos, true)])
}

/// A subscriber that has its SUBACK, with the copy that is retained on its way from another core; on each of many nodes,
/// with a topic of its own.
fn copies_in_transit(qos: QoS, lasts: bool, test: impl Fn(&Node, &mut Client, &mut Client, &str)) {
    let mut tested = 0;
    for number in numbers(0..30) {
        let node = Node::new(CORES);
        let topic = format!("{number}/t/{number}");
        let mut publisher = node.connect_at(ELSEWHERE, Version::V5, "publisher");
        publisher.retain(&topic, QoS::AtLeastOnce, "old");
        let mut subscriber = subscriber(&node, lasts);
        let mut came = subscriber.subscribe_by_turns(&topic, qos);
        node.hold_mail(RANGE, HOME);
        node.run();
        came.extend(subscriber.packets());
        // Others have their copy.
        if let [Packet::SubAck(_)] = came[..] {
            test(&node, &mut publisher, &mut subscriber, &topic);
            tested += 1;
        }
    }
    assert!(tested > 1, "{tested}");
}

/// What was retained before a change came after it when the range's answer was on its way while the change came live.
#[test]
fn an_old_copy_in_transit_came_after_a_newer_message() {
    for (qos, lasts) in all_kinds() {
        copies_in_transit(qos, lasts, |node, publisher, subscriber, topic| {
            publisher.retain(topic, QoS::AtLeastOnce, "new");
            assert_eq!(subscriber.drain_payloads(), ["new"], "{qos:?} {lasts}");
            node.release_mail();
            assert_eq!(subscriber.drain_payloads(), [""; 0], "{qos:?} {lasts}");
        });
    }
}

/// A retained message that was cleared came after the message that cleared it.
#[test]
fn a_cleared_copy_came_after_its_clearing() {
    copies_in_transit(QoS::AtLeastOnce, false, |node, publisher, subscriber, topic| {
        publisher.retain(topic, QoS::AtLeastOnce, "");
        node.release_mail();
        assert_eq!(subscriber.drain_payloads(), [""]);
    });
}

/// A message without the retain flag changes nothing that is retained: the copy comes all the same [MQTT-3.3.1-9].
#[test]
fn a_plain_message_does_not_replace_a_copy() {
    copies_in_transit(QoS::AtLeastOnce, true, |node, publisher, subscriber, topic| {
        publisher.publish_fully(topic, QoS::AtLeastOnce, "plain");
        assert_eq!(subscriber.drain_payloads(), ["plain"]);
        node.release_mail();
        assert_eq!(subscriber.drain_payloads(), ["old"]);
    });
}

/// A change that reached a subscriber live, and its range later than the subscriber's next SUBSCRIBE, was followed by
/// what it had replaced.
#[test]
fn a_range_that_lagged_behind_answered_with_the_old_state() {
    for (qos, lasts) in all_kinds() {
        let mut lagged = 0;
        for topic in numbers(0..30) {
            let node = Node::new(CORES);
            let mut publisher = node.connect_at(ELSEWHERE, Version::V5, "publisher");
            publisher.retain(&topic, QoS::AtLeastOnce, "old");
            let mut subscriber = subscriber(&node, lasts);
            subscriber.subscribe(&topic, qos);
            assert_eq!(subscriber.drain_payloads(), ["old"]);
            for _ in 0..2 {
                publisher.publish(&topic, QoS::AtMostOnce, "cached");
            }
            subscriber.drain();
            node.hold_mail(ELSEWHERE, RANGE);
            let change = PublishOut { topic: &topic, payload: b"new", retain: true, ..PublishOut::default() };
            publisher.send(&publish_packet(Version::V5, &change));
            assert_eq!(subscriber.drain_payloads(), ["new"]);
            let filter = SubscribeFilter { filter: &topic, options: options(qos) };
            subscriber.send_subscribe(&[filter], None);
            let answered = subscriber.packets();
            if let [Packet::SubAck(_)] = answered[..] {
                lagged += 1;
                node.release_mail();
                assert_eq!(subscriber.drain_payloads(), ["new"], "{qos:?} {lasts}");
            } else if let [_, Packet::Publish(publish)] = answered[..] {
                assert_eq!(publish.payload, b"new", "{qos:?} {lasts}");
            }
        }
        assert!(lagged > 1, "{lagged}");
    }
}

/// Copies that wait for room in the client's window were passed by live messages of their topics, those of QoS 0 too.
#[test]
fn copies_that_waited_for_room_came_after_newer_messages() {
    for (kept, live) in [(1, 1), (1, 0), (2, 0), (0, 0), (0, 1)] {
        let (kept, live) = (QoS::from_bits(kept).expect("0 to 2"), QoS::from_bits(live).expect("0 to 2"));
        let node = Node::new(CORES);
        let mut publisher = node.connect_at(ELSEWHERE, Version::V5, "publisher");
        let topics: Vec<String> = numbers(0..200).iter().map(|number| format!("k/{number}")).collect();
        let change = |publisher: &mut Client, qos, payload: &str| {
            topics.iter().for_each(|topic| publisher.retain(topic, qos, payload));
        };
        change(&mut publisher, kept, &"old".repeat(100));
        let mut subscriber =
            node.connect_at_with(HOME, "subscriber", |client_id| lasting_with_window(client_id, 1));
        subscriber.reads(false);
        subscriber.send(&subscribe_packet(Version::V5, 1, "k/+", QoS::ExactlyOnce));
        change(&mut publisher, live, "new");
        subscriber.reads(true);
        let mut packets = subscriber.packets();
        let mut last = BTreeMap::new();
        packets.retain(|packet| matches!(packet, Packet::Publish(_)));
        let mut see = |topic: &str, payload: &[u8]| {
            let before = last.insert(topic.to_owned(), payload.to_vec());
            assert!(
                before.is_none_or(|before| before != b"new" || payload == b"new"),
                "{topic}: old after new"
            );
        };
        for packet in packets {
            let Packet::Publish(publish) = packet else { unreachable!("kept above") };
            see(publish.topic, publish.payload);
            subscriber.acknowledge(&publish);
        }
        subscriber.drain().iter().for_each(|publish| see(publish.topic, publish.payload));
        assert_eq!(last.len(), topics.len(), "{kept:?} {live:?}");
        assert!(last.values().all(|payload| payload == b"new"), "{kept:?} {live:?}");
    }
}

/// More topics change while a page is on its way than are remembered: it is asked for again, and nothing is old or lost.
#[test]
fn more_changes_than_are_remembered() {
    let node = Node::new(CORES);
    let mut publisher = node.connect_at(ELSEWHERE, Version::V5, "publisher");
    let topics: Vec<String> = numbers(0..5000).iter().map(|number| format!("k/{number}")).collect();
    topics.iter().for_each(|topic| publisher.retain(topic, QoS::AtMostOnce, "old"));
    let mut subscriber = subscriber(&node, false);
    let mut came = subscriber.subscribe_by_turns("k/#", QoS::AtMostOnce);
    node.hold_mail(RANGE, HOME);
    node.run();
    came.extend(subscriber.packets());
    let mut seen: Vec<String> = topics.clone();
    for packet in came {
        if let Packet::Publish(publish) = packet {
            seen.retain(|topic| topic != publish.topic);
        }
    }
    assert!(seen.len() > 1000, "those of one core are on their way");
    topics.iter().for_each(|topic| publisher.retain(topic, QoS::AtMostOnce, "new"));
    let live = subscriber.drain();
    assert!(live.iter().all(|publish| publish.payload == b"new"));
    assert!(live.len() >= topics.len());
    node.release_mail();
    let late = subscriber.drain();
    assert!(late.iter().all(|publish| publish.payload == b"new"), "old after new");
}

/// What changed before its filter's turn came was live with the subscriber, and came again as a copy. What a filter
/// is asked for after the change is a copy all the same, and so is what did not change.
#[test]
fn a_change_before_its_filters_turn_came_twice() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for cores in [1, CORES] {
            let node = Node::new(cores);
            let mut publisher = node.connect(Version::V5, "publisher");
            for topic in numbers(0..500) {
                publisher.retain(&format!("first/{topic}"), QoS::AtLeastOnce, "first");
            }
            for topic in
                ["then/changed", "then/new", "then/unchanged"].iter().filter(|topic| **topic != "then/new")
            {
                publisher.retain(topic, QoS::ExactlyOnce, "old");
            }
            let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 1));
            subscriber.reads(false);
            let at = |filter| SubscribeFilter { filter, options: options(QoS::AtLeastOnce) };
            let then = SubscribeFilter { filter: "then/+", options: options(qos) };
            subscriber.send_subscribe(&[at("first/#"), then], None);
            for topic in ["then/changed", "then/new"] {
                publisher.retain(topic, QoS::ExactlyOnce, "new");
            }
            subscriber.send_subscribe(&[SubscribeFilter { filter: "then/#", options: options(qos) }], None);
            subscriber.reads(true);
            let mut came = BTreeMap::new();
            let mut publishes = Vec::new();
            for packet in subscriber.packets() {
                if let Packet::Publish(publish) = packet {
                    subscriber.acknowledge(&publish);
                    publishes.push(publish);
                }
            }
            publishes.extend(subscriber.drain());
            for publish in publishes {
                *came.entry((publish.topic, publish.retain, publish.payload)).or_insert(0) += 1;
            }
            came.retain(|(topic, ..), _| topic.starts_with("then"));
            let expected = BTreeMap::from([
                (("then/changed", false, &b"new"[..]), 1),
                (("then/new", false, b"new"), 1),
                (("then/unchanged", true, b"old"), 2),
                (("then/changed", true, b"new"), 1),
                (("then/new", true, b"new"), 1),
            ]);
            assert_eq!(came, expected, "{qos:?}, {cores} cores");
        }
    }
}

/// Pages that were of no use, because more topics had changed than are remembered, were asked for one by one: while one
/// was on its way the next was of no use for its sake, for ever.
#[test]
fn pages_of_several_ranges_kept_each_other_from_coming() {
    for prefix in numbers(0..8) {
        let node = Node::new(4);
        let mut publisher = node.connect_at(ELSEWHERE, Version::V5, "publisher");
        let topics: Vec<String> =
            numbers(0..5000).iter().map(|number| format!("{prefix}/{number}")).collect();
        topics.iter().for_each(|topic| publisher.retain(topic, QoS::AtMostOnce, "old"));
        let mut subscriber = subscriber(&node, false);
        subscriber.subscribe_by_turns(&format!("{prefix}/#"), QoS::AtMostOnce);
        node.hold_mail(2, HOME);
        node.hold_mail(3, HOME);
        node.run();
        subscriber.packets();
        topics.iter().for_each(|topic| publisher.retain(topic, QoS::AtMostOnce, "new"));
        assert!(subscriber.drain().len() >= topics.len());
        node.release_mail();
        assert!(subscriber.drain().iter().all(|publish| publish.payload == b"new"), "old after new");
    }
}
