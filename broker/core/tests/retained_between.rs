//! Who subscribes while a retained message is on its way (promise 1): routed before the subscription stood, it does not
//! come live, and it is not in the log yet, or not even with its range. It comes as the copy, for the page waits for it.
//! What is published when the subscription stands comes live, and not as the copy too.

mod host;

use std::collections::BTreeSet;
use std::time::Duration;

use broker_core::config::{Config, Settings};
use broker_core::counters::DropReason;
use host::Node;
use host::disks::SOUND;
use host::exchange::{numbers, options};
use mqtt::{Packet, QoS, SubscribeFilter, Version};

/// The core of the subscriber.
const HOME: u16 = 0;
/// The core of the publisher.
const ELSEWHERE: u16 = 1;
/// The core that keeps the retained message, for one topic in three.
const RANGE: u16 = 2;
const CORES: u16 = 3;

fn payloads(packets: &[Packet<'_>]) -> Vec<String> {
    let publishes = packets.iter().filter_map(|packet| match packet {
        Packet::Publish(publish) => Some(String::from_utf8(publish.payload.to_vec()).expect("text")),
        _ => None,
    });
    publishes.collect()
}

/// What was on its way into the log when its topic was subscribed to came neither live nor as the copy.
#[test]
fn a_change_on_its_way_into_the_log_was_missed() {
    for cores in [1, CORES] {
        for topic in numbers(0..12) {
            for filter in [&*topic, "#"] {
                let node = Node::on_disks(Config { cores, ..Config::default() }, 1, SOUND);
                let mut publisher = node.connect(Version::V5, "publisher");
                publisher.retain(&topic, QoS::AtLeastOnce, "old");
                let mut subscriber = node.connect(Version::V5, "subscriber");
                node.hold_disks(true);
                publisher.retain(&topic, QoS::AtMostOnce, "new");
                let filter = SubscribeFilter { filter, options: options(QoS::AtMostOnce) };
                let packet_id = subscriber.send_subscribe(&[filter], None);
                subscriber.expect_suback(packet_id);
                subscriber.expect_silence();
                node.hold_disks(false);
                assert_eq!(subscriber.payloads(), ["new"], "{cores}");
            }
        }
    }
}

/// What was on its way to its range was missed likewise.
#[test]
fn a_change_on_its_way_to_its_range_was_missed() {
    let mut lagged = BTreeSet::new();
    for (topic, filter) in numbers(0..30).iter().zip(["+", "#", "+/#"].into_iter().cycle()) {
        let node = Node::new(CORES);
        let mut publisher = node.connect_at(ELSEWHERE, Version::V5, "publisher");
        publisher.retain(topic, QoS::AtLeastOnce, "old");
        let mut subscriber = node.connect_at(HOME, Version::V5, "subscriber");
        // The publisher's core knows that nobody wants the topic, and asks nobody.
        for _ in 0..2 {
            publisher.publish(topic, QoS::AtMostOnce, "cached");
        }
        node.hold_mail(ELSEWHERE, RANGE);
        publisher.retain(topic, QoS::AtMostOnce, "new");
        let filter = SubscribeFilter { filter, options: options(QoS::AtMostOnce) };
        subscriber.send_subscribe(&[filter], None);
        let mut came = subscriber.packets();
        if let [Packet::SubAck(_)] = came[..] {
            lagged.insert(topic.clone());
        }
        node.release_mail();
        let mut payloads = payloads(&came);
        came = subscriber.packets();
        payloads.extend(self::payloads(&came));
        assert_eq!(payloads, ["new"]);
    }
    assert!(lagged.len() > 1, "{lagged:?}");
}

/// What was published after SUBACK came twice when it overtook the request for the first page, or itself on the other
/// way: as the copy, which knew of it already, and live. One way of its cores lags, or the disks do.
#[test]
fn what_followed_suback_came_as_the_copy_and_live() {
    let ways = (0..CORES).flat_map(|from| (0..CORES).map(move |to| (from, to)));
    let ways = ways.filter(|(from, to)| from != to).map(Some).chain([None]);
    for (way, qos) in ways.flat_map(|way| [(way, QoS::AtMostOnce), (way, QoS::ExactlyOnce)]) {
        for (topic, filter) in numbers(0..12).iter().flat_map(|topic| [(topic, &**topic), (topic, "#")]) {
            let node = Node::on_disks(Config { cores: CORES, ..Config::default() }, 1, SOUND);
            let mut publisher = node.connect_at(ELSEWHERE, Version::V5, "publisher");
            let mut subscriber = node.connect_at(HOME, Version::V5, "subscriber");
            let mut came = subscriber.subscribe_by_turns(filter, qos);
            assert!(matches!(came[..], [Packet::SubAck(_)]), "nothing is retained");
            match way {
                Some((from, to)) => node.hold_mail(from, to),
                None => node.hold_disks(true),
            }
            publisher.retain(topic, QoS::AtMostOnce, "new");
            node.run();
            came.extend(subscriber.packets());
            node.hold_disks(false);
            node.release_mail();
            came.extend(subscriber.packets());
            assert_eq!(payloads(&came), ["new"], "{way:?} {topic} {filter}");
        }
    }
}

/// What a slow reader was not given live comes as the copy, when it reads again.
#[test]
fn what_was_dropped_live_comes_as_the_copy() {
    let settings = Settings { send_bytes_max: 4096, ..Settings::default() };
    let node = Node::of_settings_and_cores(settings, CORES);
    let mut publisher = node.connect_at(ELSEWHERE, Version::V5, "publisher");
    let (first, last) = ("r/".to_owned() + &"a".repeat(5000), "r/z");
    publisher.retain(&first, QoS::AtLeastOnce, "first");
    publisher.retain(last, QoS::AtLeastOnce, "old");
    for topic in numbers(0..600) {
        publisher.retain(&format!("r/k/{topic}"), QoS::AtLeastOnce, &"x".repeat(1000));
    }
    let mut subscriber = node.connect_at(HOME, Version::V5, "subscriber");
    subscriber.reads(false);
    let filter = SubscribeFilter { filter: "r/#", options: options(QoS::AtMostOnce) };
    subscriber.send_subscribe(&[filter], None);
    publisher.retain(last, QoS::AtLeastOnce, "new");
    assert!(node.dropped(DropReason::SlowReader) > 0, "not given live");
    node.advance(Duration::from_secs(2));
    subscriber.reads(true);
    let mut packets = subscriber.packets();
    packets.retain(|packet| matches!(packet, Packet::Publish(publish) if publish.topic == last));
    assert_eq!(payloads(&packets), ["new"]);
}
