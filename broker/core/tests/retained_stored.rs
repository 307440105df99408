//! Retained messages on disk (promise 1): what was acknowledged is there after any end of the process, and a change
//! counts for readers from when it is durable.

mod host;

use std::collections::BTreeMap;
use std::time::Duration;

use broker_core::config::{Config, Settings};
use broker_core::counters::DropReason;
use host::disks::{SEGMENT_BYTES, SOUND};
use host::exchange::{numbers, options};
use host::{Client, Node};
use mqtt::encode::PublishOut;
use mqtt::{Packet, PacketKind, QoS, ReasonCode, SubscribeFilter, Version};
use wal::simulated_disk::{Crash, Faults, Random};

fn node(cores: u16, logs: u16, seed: u64) -> Node {
    Node::on_disks(Config { cores, logs, ..Config::default() }, seed, SOUND)
}

/// Sends a retained PUBLISH and answers nothing.
fn publish(client: &mut Client, topic: &str, qos: QoS, payload: &str) -> u16 {
    let publish =
        PublishOut { topic, qos, retain: true, payload: payload.as_bytes(), ..PublishOut::default() };
    client.publish_with(&publish)
}

/// What is retained, as a new client finds it.
fn retained(node: &Node) -> BTreeMap<String, String> {
    let mut reader = node.connect(Version::V5, "reader");
    reader.subscribe("#", QoS::AtLeastOnce);
    let found = reader.drain();
    reader.disconnect(ReasonCode::SUCCESS);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    found.into_iter().map(|publish| (publish.topic.to_owned(), text(publish.payload))).collect()
}

/// PUBACK comes when the change is on the disk, and not before; live subscribers do not wait for it; and a reader who
/// has seen the message live is answered only when the change is made.
#[test]
fn a_change_counts_when_it_is_durable() {
    for topic in numbers(0..12) {
        let node = node(3, 0, 1);
        let mut publisher = node.connect_at(1, Version::V5, "publisher");
        publisher.retain(&topic, QoS::AtLeastOnce, "old");
        let mut subscriber = node.connect_at(0, Version::V5, "subscriber");
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        assert_eq!(subscriber.drain_payloads(), ["old"]);
        node.hold_disks(true);
        let packet_id = publish(&mut publisher, &topic, QoS::AtLeastOnce, "new");
        publisher.expect_silence();
        assert_eq!(subscriber.drain_payloads(), ["new"]);
        let again = subscriber
            .send_subscribe(&[SubscribeFilter { filter: &topic, options: options(QoS::AtMostOnce) }], None);
        subscriber.expect_suback(again);
        subscriber.expect_silence();
        node.hold_disks(false);
        assert_eq!(publisher.expect_ack(PacketKind::PubAck, packet_id).reason, ReasonCode::SUCCESS);
        assert_eq!(subscriber.payloads(), ["new"]);
    }
}

/// The topic's properties and payload come from the log as they were published, before and after a restart.
#[test]
fn messages_are_read_as_they_were_published() {
    let node = node(2, 0, 1);
    let mut publisher = node.connect(Version::V5, "publisher");
    let large = "x".repeat(100_000);
    let properties = host::packets::property_block(|writer| writer.user_property("name", "value"));
    for (topic, qos, payload) in
        [("a/b", QoS::AtMostOnce, "small"), ("a", QoS::ExactlyOnce, &large), ("é", QoS::AtLeastOnce, "é")]
    {
        let message = PublishOut {
            topic,
            qos,
            retain: true,
            payload: payload.as_bytes(),
            forwarded: &properties,
            ..PublishOut::default()
        };
        let packet_id = publisher.publish_with(&message);
        publisher.finish_publish(qos, packet_id);
    }
    for cores in [2, 1, 3] {
        let mut reader = node.connect(Version::V5, "reader");
        reader.subscribe("#", QoS::ExactlyOnce);
        let mut found = reader.drain();
        found.sort_by_key(|publish| publish.topic.to_owned());
        let said: Vec<_> =
            found.iter().map(|publish| (publish.topic, publish.qos, publish.payload.len())).collect();
        let expected =
            [("a", QoS::ExactlyOnce, 100_000), ("a/b", QoS::AtMostOnce, 5), ("é", QoS::AtLeastOnce, 2)];
        assert_eq!(said, expected, "{cores}");
        for publish in &found {
            assert!(publish.retain);
            let user: Vec<_> = publish.properties.user_properties().collect();
            assert_eq!(user, [("name", "value")]);
        }
        node.restart(cores, Crash::Power);
    }
}

/// After any crash each topic has what was acknowledged last, or something that was published after it. Method: random
/// changes, disks that work step by step and stop at any of them, and another number of cores after each start.
#[test]
fn what_was_acknowledged_survives_any_crash() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let logs = [1, 2, 4][random.index(3)];
        let node = node(logs, logs, seed);
        let mut stories = Stories::default();
        for _ in 0..3 {
            let mut publisher = node.connect(Version::V5, "publisher");
            node.hold_disks(true);
            for _ in 0..100 {
                stories.step(&node, &mut publisher, &mut random);
            }
            if random.once_in(4) {
                node.hold_disks(false);
                stories.hear(&mut publisher);
                node.hold_disks(true);
            }
            let crash = if random.once_in(3) { Crash::Kill } else { Crash::Power };
            node.restart([1, 2, 3][random.index(3)], crash);
            stories.check(&retained(&node), seed);
        }
    }
}

/// What was published on each topic, oldest first, and from where on it may be retained.
#[derive(Default)]
struct Stories {
    topics: BTreeMap<String, Vec<String>>,
    acknowledged: BTreeMap<String, usize>,
    waiting: BTreeMap<u16, (String, usize)>,
    number: u32,
}

impl Stories {
    fn step(&mut self, node: &Node, publisher: &mut Client, random: &mut Random) {
        if random.once_in(2) {
            node.step_disks();
            return self.hear(publisher);
        }
        self.number += 1;
        let topic = format!("t/{}", random.below(12));
        let filler = "x".repeat([0, 200, 5_000][random.index(3)]);
        let clears = random.once_in(5);
        let payload = if clears { String::new() } else { format!("{} {filler}", self.number) };
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][random.index(4)];
        let story = self.topics.entry(topic.clone()).or_default();
        story.push(payload.clone());
        let at = story.len();
        let packet_id = publish(publisher, &topic, qos, &payload);
        if qos != QoS::AtMostOnce {
            self.waiting.insert(packet_id, (topic, at));
        }
        self.hear(publisher);
    }

    fn hear(&mut self, publisher: &mut Client) {
        for packet in publisher.packets() {
            let (Packet::PubAck(ack) | Packet::PubRec(ack)) = packet else { continue };
            assert!(!ack.reason.is_error());
            if let Some((topic, at)) = self.waiting.remove(&ack.packet_id.get()) {
                self.acknowledged.insert(topic, at);
            }
            if let Packet::PubRec(ack) = packet {
                publisher.send_ack(PacketKind::PubRel, ack.packet_id.get());
            }
        }
    }

    /// What is found counts from then on as all that there is.
    fn check(&mut self, found: &BTreeMap<String, String>, seed: u64) {
        for (topic, story) in &mut self.topics {
            let empty = String::new();
            let is = found.get(topic).unwrap_or(&empty);
            let least = self.acknowledged.get(topic).copied().unwrap_or(0);
            let nothing = least == 0 && is.is_empty();
            let later = story[least.saturating_sub(1)..].contains(is);
            assert!(nothing || later, "seed {seed}: {topic} is {is:.20}, acknowledged up to {least}");
            *story = vec![is.clone()];
        }
        assert!(found.keys().all(|topic| self.topics.contains_key(topic)), "seed {seed}");
        self.acknowledged = self.topics.keys().map(|topic| (topic.clone(), 1)).collect();
        self.waiting.clear();
    }
}

/// Messages that expire do so though the process was down when their time came, and those of later moments too.
#[test]
fn expiry_goes_on_after_a_restart() {
    let node = node(2, 2, 1);
    let mut publisher = node.connect(Version::V5, "publisher");
    for (topic, seconds) in [("a", 10), ("b", 100), ("c", 1000), ("d", 20)] {
        let message = PublishOut {
            topic,
            qos: QoS::AtLeastOnce,
            retain: true,
            payload: b"x",
            message_expiry: Some(seconds),
            ..PublishOut::default()
        };
        let packet_id = publisher.publish_with(&message);
        publisher.finish_publish(QoS::AtLeastOnce, packet_id);
    }
    node.restart(1, Crash::Power);
    node.advance(Duration::from_secs(11));
    let kept = |node: &Node| node.count(|core| core.usage().retained as u64);
    assert_eq!((kept(&node), retained(&node).len()), (3, 3));
    node.shift_wall_clock(50_000);
    node.restart(2, Crash::Power);
    assert_eq!((kept(&node), retained(&node).len()), (2, 2));
    node.advance(Duration::from_secs(1000));
    assert_eq!((kept(&node), retained(&node).len()), (0, 0));
    node.advance(Duration::from_secs(60)); // what its SUBSCRIBE asked other cores was answered
    assert_eq!(node.timers(), 0);
}

/// A full disk: what is new is refused with 0x97 and counted, and nobody has it; what nobody asks after is delivered live,
/// and counted. A topic can be cleared, and when there is space again it is used.
#[test]
fn a_full_disk_refuses_retained_messages() {
    let segments = |count: u64| Faults { capacity_bytes: count * u64::from(SEGMENT_BYTES), ..SOUND };
    let node = Node::on_disks(Config::default(), 1, segments(12));
    let mut subscriber = node.connect(Version::V5, "subscriber");
    subscriber.subscribe("#", QoS::AtMostOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    let payload = "x".repeat(10_000);
    let mut kept = 0;
    let refused = (0..200).find(|number| {
        let packet_id = publish(&mut publisher, &format!("t/{number}"), QoS::AtLeastOnce, &payload);
        node.advance(Duration::from_secs(2));
        let reason = publisher.expect_ack(PacketKind::PubAck, packet_id).reason;
        assert_eq!(subscriber.payloads().len(), usize::from(!reason.is_error()));
        kept += u32::from(!reason.is_error());
        reason == ReasonCode::QUOTA_EXCEEDED
    });
    assert!(refused.is_some_and(|number| number > 10), "{refused:?}");
    assert_eq!(node.dropped(DropReason::DiskFull), 1);
    assert_eq!(retained(&node).len(), kept as usize);
    publish(&mut publisher, "t/0", QoS::AtMostOnce, "live");
    assert_eq!((subscriber.payloads().len(), node.dropped(DropReason::DiskFull)), (1, 2));
    let mut old = node.connect(Version::V311, "old");
    publish(&mut old, "old", QoS::AtLeastOnce, &payload);
    assert!(old.packets().iter().all(|packet| !matches!(packet, Packet::PubAck(_))), "it is not stored");
    publisher.retain("t/0", QoS::AtLeastOnce, "");
    assert_eq!(retained(&node).len(), kept as usize - 1);
    node.set_faults(SOUND);
    node.advance(Duration::from_secs(60));
    publisher.retain("t/0", QoS::AtLeastOnce, "again");
    node.restart(1, Crash::Power);
    assert_eq!(retained(&node).len(), kept as usize);
}

/// While the disk does nothing, publishers are not read, memory is bounded, and no change is lost or overtaken.
#[test]
fn publishers_wait_for_a_disk_that_does_not() {
    for (cores, seed) in [(1, 1), (3, 2)] {
        let node = node(cores, 0, seed);
        let mut publishers: Vec<Client> =
            (0..3).map(|number| node.connect(Version::V5, &format!("publisher-{number}"))).collect();
        let payload = "x".repeat(30_000);
        node.hold_disks(true);
        for number in 0..400 {
            for publisher in &mut publishers {
                publish(
                    publisher,
                    &format!("t/{}", number % 7),
                    QoS::AtMostOnce,
                    &format!("{number} {payload}"),
                );
            }
        }
        let unread: usize = publishers.iter().map(Client::unreceived).sum();
        assert!(unread > 0, "{cores} cores: publishers are read though nothing can be stored");
        let under_way = node.count(|core| core.usage().retain_changes as u64);
        node.hold_disks(false);
        node.advance(Duration::from_secs(10));
        assert!(publishers.iter().all(|publisher| publisher.unreceived() == 0), "{cores} {under_way}");
        assert_eq!(node.count(|core| core.usage().retain_changes as u64), 0);
        let found = retained(&node);
        let last = |rest: usize| (0..400).rev().find(|number| number % 7 == rest).expect("one of seven");
        for rest in 0..7 {
            assert!(found[&format!("t/{rest}")].starts_with(&format!("{} ", last(rest))), "{cores} {rest}");
        }
    }
}

/// The maximum of a tenant holds though changes are judged before others are made.
#[test]
fn the_maximum_holds_while_changes_are_under_way() {
    let settings = Settings { retained_messages_max: 3, ..Settings::default() };
    let node = Node::on_disks(Config { settings: settings.into(), ..Config::default() }, 1, SOUND);
    let mut publisher = node.connect(Version::V5, "publisher");
    publisher.retain("a", QoS::AtLeastOnce, "old");
    node.hold_disks(true);
    let mut ids = Vec::new();
    for (topic, payload) in
        [("a", "x"), ("b", "x"), ("a", ""), ("b", "y"), ("c", "x"), ("d", "x"), ("e", "x"), ("c", "y")]
    {
        ids.push(publish(&mut publisher, topic, QoS::AtLeastOnce, payload));
    }
    publisher.expect_silence();
    node.hold_disks(false);
    let reasons: Vec<_> =
        ids.iter().map(|id| publisher.expect_ack(PacketKind::PubAck, *id).reason.is_error()).collect();
    assert_eq!(reasons, [false, false, false, false, false, false, true, false]);
    let found = retained(&node);
    let said: Vec<(&str, &str)> = found.iter().map(|(topic, payload)| (&**topic, &**payload)).collect();
    assert_eq!(said, [("b", "y"), ("c", "y"), ("d", "x")]);
    assert_eq!(node.dropped(DropReason::RetainFull), 1);
}
