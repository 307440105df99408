//! What the clients of persistent sessions have acknowledged, on its way into the log: when it is a commit of its own,
//! what it goes with otherwise, and what that may cost when the process ends.

mod host;

use std::sync::Arc;
use std::time::Duration;

use broker_core::config::{Config, Settings};
use broker_core::counters::DropReason;
use host::disks::SOUND;
use host::exchange::{lasting, lasting_with_window, numbers, options};
use host::packets::{id, publish_packet};
use host::{Client, Node};
use mqtt::encode::{self, PublishOut};
use mqtt::{Ack, Packet, PacketKind, QoS, ReasonCode, SubscribeFilter, Version};
use wal::LogId;
use wal::simulated_disk::Crash;

/// Longer than anything is held.
const TICK: Duration = Duration::from_millis(34);

fn node_of(settings: Settings) -> Node {
    Node::on_disks(Config { cores: 1, settings: Arc::new(settings), ..Config::default() }, 1, SOUND)
}

/// A node with one log, a client with a lasting session that subscribes to `t`, and a publisher.
fn at_work(settings: Settings, qos: QoS) -> (Node, Client, Client) {
    let node = node_of(settings);
    let mut client = node.connect_with(&lasting_with_window("client", u16::MAX));
    client.subscribe("t", qos);
    let publisher = node.connect(Version::V5, "publisher");
    (node, client, publisher)
}

fn commits(node: &Node) -> u64 {
    node.count(|core| core.stored_log(LogId(0)).expect("it serves it").log().tally().commits)
}

/// Sends these messages in one piece, and takes their acknowledgements.
fn publish_at_once(node: &Node, publisher: &mut Client, payloads: &[String]) {
    let packet_ids: Vec<u16> = payloads.iter().map(|_| publisher.new_packet_id()).collect();
    for (payload, packet_id) in payloads.iter().zip(&packet_ids) {
        let (qos, packet_id) = (QoS::AtLeastOnce, Some(id(*packet_id)));
        let publish =
            PublishOut { topic: "t", qos, packet_id, payload: payload.as_bytes(), ..PublishOut::default() };
        publisher.push(&publish_packet(Version::V5, &publish));
    }
    node.run();
    packet_ids.into_iter().for_each(|packet_id| _ = publisher.expect_ack(PacketKind::PubAck, packet_id));
}

/// Takes all messages that have come, and their PUBACKs leave in one piece; what the messages say.
fn acknowledge_at_once(node: &Node, client: &mut Client) -> Vec<String> {
    let mut payloads = Vec::new();
    for packet in client.packets() {
        let Packet::Publish(publish) = packet else { panic!("PUBLISH, not {packet:?}") };
        payloads.push(String::from_utf8_lossy(publish.payload).into_owned());
        let mut bytes = Vec::new();
        let ack = Ack::new(publish.packet_id.expect("has one"), ReasonCode::SUCCESS);
        encode::ack(&mut bytes, Version::V5, PacketKind::PubAck, &ack);
        client.push(&bytes);
    }
    node.run();
    payloads
}

/// A PUBACK was a commit of its own, as its message was. It goes with the next message, and alone when none comes; then
/// its core sleeps.
#[test]
fn a_puback_goes_with_the_next_message() {
    let (node, mut client, mut publisher) = at_work(Settings::default(), QoS::AtLeastOnce);
    let begin = commits(&node);
    for number in 1..=4 {
        publisher.publish_fully("t", QoS::AtLeastOnce, "message");
        let publish = client.expect_publish();
        client.acknowledge(&publish);
        assert_eq!(commits(&node) - begin, number);
    }
    node.advance(TICK);
    publisher.publish_fully("t", QoS::AtLeastOnce, "message");
    let publish = client.expect_publish();
    let timers = node.timers();
    client.acknowledge(&publish);
    assert_eq!((commits(&node) - begin, node.timers()), (6, timers + 1));
    node.advance(TICK);
    assert_eq!((commits(&node) - begin, node.timers()), (7, timers));
    node.advance(TICK * 10);
    assert_eq!(commits(&node) - begin, 7);
    node.restart(1, Crash::Power);
    node.connect_with(&lasting(Version::V5, "client")).expect_silence();
}

/// What is held when the process ends was not heard: its message comes again, with DUP; nothing else is lost by it, and
/// nothing comes that was heard.
#[test]
fn a_crash_repeats_what_was_held() {
    let (node, mut client, mut publisher) = at_work(Settings::default(), QoS::AtLeastOnce);
    publish_at_once(&node, &mut publisher, &numbers(0..10));
    assert_eq!(acknowledge_at_once(&node, &mut client), numbers(0..10));
    node.advance(TICK);
    publish_at_once(&node, &mut publisher, &numbers(10..20));
    assert_eq!(acknowledge_at_once(&node, &mut client), numbers(10..20));
    node.restart(1, Crash::Power);
    let mut client = node.connect_with(&lasting(Version::V5, "client"));
    let again = client.drain();
    let said: Vec<_> = again.iter().map(|publish| String::from_utf8_lossy(publish.payload)).collect();
    assert_eq!(said, numbers(10..20));
    assert!(again.iter().all(|publish| publish.dup));
    node.advance(TICK);
    node.restart(1, Crash::Power);
    node.connect_with(&lasting(Version::V5, "client")).expect_silence();
}

/// Who acknowledges and leaves, or comes again beside itself, gets nothing twice.
#[test]
fn who_leaves_is_heard() {
    let (node, mut client, mut publisher) = at_work(Settings::default(), QoS::AtLeastOnce);
    for leave in [
        (|client: &mut Client| client.disconnect(ReasonCode::SUCCESS)) as fn(&mut Client),
        Client::drop_socket,
        |_| {},
    ] {
        publish_at_once(&node, &mut publisher, &numbers(0..10));
        assert_eq!(acknowledge_at_once(&node, &mut client), numbers(0..10));
        leave(&mut client);
        let mut back = node.connect_with(&lasting(Version::V5, "client"));
        back.expect_silence();
        client = back;
    }
}

/// Nothing of QoS 2 is held: PUBREC and PUBCOMP are commits of their own, and PUBREL waits for the one of PUBREC.
#[test]
fn nothing_of_qos2_is_held() {
    let (node, mut client, mut publisher) = at_work(Settings::default(), QoS::ExactlyOnce);
    publisher.publish_fully("t", QoS::ExactlyOnce, "message");
    let packet_id = client.expect_publish().packet_id.expect("has one").get();
    let begin = commits(&node);
    node.hold_disks(true);
    client.send_ack(PacketKind::PubRec, packet_id);
    client.expect_silence();
    node.hold_disks(false);
    client.expect_ack(PacketKind::PubRel, packet_id);
    assert_eq!(commits(&node) - begin, 1);
    client.send_ack(PacketKind::PubComp, packet_id);
    assert_eq!(commits(&node) - begin, 2);
    node.restart(1, Crash::Power);
    node.connect_with(&lasting(Version::V5, "client")).expect_silence();
}

/// What is acknowledged fills no queue, however much of it is held when the next messages come: none is dropped while
/// the client has acknowledged all, and no publisher is slowed for what is acknowledged.
#[test]
fn what_is_held_fills_no_queue() {
    for first in 1..=8 {
        let settings = Settings { queue_messages_max: 8, ..Settings::default() };
        let (node, mut client, mut publisher) = at_work(settings, QoS::AtLeastOnce);
        for _ in 0..5 {
            for next in [8, 1] {
                publish_at_once(&node, &mut publisher, &numbers(0..first));
                assert_eq!(acknowledge_at_once(&node, &mut client), numbers(0..first));
                let slowed = |node: &Node| node.count(|core| core.counters().publishers_slowed);
                let before = slowed(&node);
                publish_at_once(&node, &mut publisher, &numbers(0..next));
                assert!(next > 1 || slowed(&node) == before, "its queue has one message");
                assert_eq!(acknowledge_at_once(&node, &mut client), numbers(0..next));
            }
        }
        assert_eq!(node.dropped(DropReason::QueueFull), 0);
    }
}

/// Much is not held: neither many messages of one session, nor those of many.
#[test]
fn much_is_not_held() {
    let (node, mut client, mut publisher) = at_work(Settings::default(), QoS::AtLeastOnce);
    publish_at_once(&node, &mut publisher, &numbers(0..255));
    let begin = commits(&node);
    assert_eq!(acknowledge_at_once(&node, &mut client), numbers(0..255));
    assert_eq!(commits(&node), begin);
    node.advance(TICK);
    publish_at_once(&node, &mut publisher, &numbers(0..256));
    let begin = commits(&node);
    assert_eq!(acknowledge_at_once(&node, &mut client), numbers(0..256));
    assert_eq!(commits(&node), begin + 1);

    let node = node_of(Settings::default());
    let mut clients: Vec<Client> = (0..64)
        .map(|number| {
            let mut client = node.connect_with(&lasting(Version::V5, &format!("client {number}")));
            client.subscribe("t", QoS::AtLeastOnce);
            client
        })
        .collect();
    let mut publisher = node.connect(Version::V5, "publisher");
    publisher.publish_fully("t", QoS::AtLeastOnce, "message");
    let begin = commits(&node);
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(commits(&node), begin, "{number}");
        assert_eq!(acknowledge_at_once(&node, client), ["message"]);
    }
    assert_eq!(commits(&node), begin + 1);
}

/// An identifier went to a new message while the log did not know that the former one's handshake was over: after a
/// crash the former one's PUBREL was taken for the new one's, whose message then came twice. Method: all identifiers
/// are in flight, the first handshakes end while the disk is held, and nothing follows until it goes on.
#[test]
fn an_identifier_is_used_again_when_the_log_knows_that_it_is_free() {
    let settings = Settings { inflight_max: u16::MAX, ..Settings::default() };
    let (node, mut client, mut publisher) = at_work(settings, QoS::ExactlyOnce);
    // Each level by its name or by a wildcard: 64 filters, each with a copy of its own.
    let filter =
        |number: usize| (0..6).map(|level| ["t", "+"][number >> level & 1]).collect::<Vec<_>>().join("/");
    let filters: Vec<String> = (0..64).map(filter).collect();
    let options = options(QoS::ExactlyOnce);
    let wanted: Vec<_> = filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
    client.subscribe_all(&wanted, None);
    client.drop_socket();
    (0..1_025).for_each(|_| publisher.publish_fully("t/t/t/t/t/t", QoS::ExactlyOnce, "message"));
    let mut client = node.connect_with(&lasting_with_window("client", u16::MAX));
    let came = client.packets().len();
    assert!((65_500..65_536).contains(&came), "{came}");
    let first: Vec<u16> = (1..=3).collect();
    for packet_id in &first {
        client.send_ack(PacketKind::PubRec, *packet_id);
        client.expect_ack(PacketKind::PubRel, *packet_id);
    }
    node.hold_disks(true);
    first.iter().for_each(|packet_id| client.send_ack(PacketKind::PubComp, *packet_id));
    for packet in client.packets() {
        let Packet::Publish(publish) = packet else { panic!("PUBLISH, not {packet:?}") };
        let packet_id = publish.packet_id.expect("has one").get();
        assert!(!first.contains(&packet_id), "the log does not know that {packet_id} is free");
    }
    node.hold_disks(false);
    assert!(!client.packets().is_empty());
}
