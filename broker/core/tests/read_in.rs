//! What lies in sealed segments and not in memory is read in by the host before a core touches it: queues, and
//! retained messages.

mod host;

use std::time::Duration;

use broker_core::config::Config;
use host::disks::{SEGMENT_BYTES, SOUND};
use host::exchange::lasting;
use host::{Client, Node};
use mqtt::{Packet, QoS, Version};

/// Greeted by disks that do one thing at a time and nothing more than is needed.
fn greeted_by_slow_disks(node: &Node) -> (Client, Vec<String>) {
    node.hold_disks(true);
    let mut client = node.accept();
    client.send_connect(&lasting(Version::V5, "sleeper"));
    for _ in 0..1000 {
        let mut packets = client.packets().into_iter();
        if let Some(first) = packets.next() {
            assert!(matches!(first, Packet::ConnAck(_)), "{first:?}");
            let payloads = packets.filter_map(|packet| match packet {
                Packet::Publish(publish) => Some(String::from_utf8(publish.payload.to_vec()).unwrap()),
                _ => None,
            });
            let payloads = payloads.collect();
            return (client, payloads);
        }
        assert!(node.step_disks(), "nothing more to do, and nobody is greeted");
    }
    panic!("a thousand steps for an attach");
}

/// A page that is not in memory would make a core wait for the disk. Method: a queue of several segments, a client
/// that comes back while the disks do nothing but its attach; then they go on.
#[test]
fn a_queue_is_sent_when_it_is_read_in() {
    let node = Node::on_disks(Config { cores: 1, ..Config::default() }, 1, SOUND);
    let mut sleeper = node.connect_with(&lasting(Version::V5, "sleeper"));
    sleeper.subscribe("t", QoS::AtLeastOnce);
    sleeper.drop_socket();
    let mut publisher = node.connect(Version::V5, "publisher");
    let filling = "x".repeat(SEGMENT_BYTES as usize / 8);
    let sent: Vec<String> = (0..40).map(|number| format!("{number} {filling}")).collect();
    for payload in &sent {
        publisher.publish_patiently("t", QoS::AtLeastOnce, payload);
    }
    let (mut sleeper, early) = greeted_by_slow_disks(&node);
    assert!(early.is_empty(), "{} messages were read from a disk that did nothing", early.len());
    assert_eq!(node.count(|core| core.counters().disk_waits), 1);
    node.hold_disks(false);
    assert!(sleeper.drain_payloads() == sent, "all of it, in order");
    assert!(node.count(|core| core.counters().disk_waits) > 1, "further segments");
}

/// What was read a moment ago is sent at once; after a few minutes nobody knows whether it is still there.
#[test]
fn what_was_read_lately_is_sent_at_once() {
    let node = Node::on_disks(Config { cores: 1, ..Config::default() }, 1, SOUND);
    let mut sleeper = node.connect_with(&lasting(Version::V5, "sleeper"));
    sleeper.subscribe("t", QoS::AtLeastOnce);
    sleeper.drop_socket();
    let mut publisher = node.connect(Version::V5, "publisher");
    let filling = "x".repeat(SEGMENT_BYTES as usize / 8);
    for _ in 0..12 {
        publisher.publish_patiently("t", QoS::AtLeastOnce, &filling);
    }
    for (pause, at_once) in
        [(Duration::ZERO, false), (Duration::from_secs(10), true), (Duration::from_secs(600), false)]
    {
        node.advance(pause);
        let (mut sleeper, early) = greeted_by_slow_disks(&node);
        assert_eq!(!early.is_empty(), at_once, "after {pause:?}");
        node.hold_disks(false);
        // Not acknowledged: they stay.
        assert!(early.len() + sleeper.payloads().len() > 8, "after {pause:?}");
        sleeper.drop_socket();
    }
}

/// The same for retained messages: SUBACK waits for nothing, its page for the disk.
#[test]
fn retained_messages_are_sent_when_they_are_read_in() {
    for cores in [1, 2] {
        let node = Node::on_disks(Config { cores, ..Config::default() }, 1, SOUND);
        let mut publisher = node.connect(Version::V5, "publisher");
        let filling = "x".repeat(SEGMENT_BYTES as usize / 8);
        let mut kept: Vec<String> = (0..100).map(|number| format!("{number} {filling}")).collect();
        for payload in &kept {
            let topic = format!("t/{}", payload.split(' ').next().unwrap());
            publisher.retain(&topic, QoS::AtLeastOnce, payload);
        }
        node.hold_disks(true);
        let mut subscriber = node.connect(Version::V5, "subscriber");
        subscriber.subscribe("t/+", QoS::AtMostOnce);
        assert!(subscriber.payloads().is_empty(), "{cores} cores");
        assert!(node.count(|core| core.counters().disk_waits) > 0, "{cores} cores");
        node.hold_disks(false);
        let mut copies = subscriber.payloads();
        copies.sort_unstable();
        kept.sort_unstable();
        assert!(copies == kept, "{cores} cores: {} of {}", copies.len(), kept.len());
    }
}
