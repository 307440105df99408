//! A disk that is full: what is refused is refused as a whole and counted, what was let in is stored, and everybody is
//! answered. What an acknowledgement means then is `resumed.rs`.

mod host;

use std::sync::Arc;
use std::time::Duration;

use broker_core::config::{Config, Settings};
use broker_core::counters::DropReason;
use host::{Client, Node};

use host::disks::SOUND;
use host::exchange::{lasting, options};
use mqtt::{PacketKind, QoS, ReasonCode, SubscribeFilter, Version};
use wal::simulated_disk::{Crash, Faults};

fn node(cores: u16) -> Node {
    Node::on_disks(Config { cores, ..Config::default() }, 1, SOUND)
}

/// What a full disk refuses reaches nobody: a publisher of 3.1.1 sends it again, and it came twice to who had been given
/// it live, or had it in another log. Whichever log is full, every core knows it. (Seed 34 of the simulator with
/// --full-disks 100.)
#[test]
fn a_refused_message_reaches_nobody_before_it_is_sent_again() {
    for full in 0..3 {
        let node = node(3);
        let mut live = node.subscriber("t", QoS::ExactlyOnce);
        // At home on all cores, by their names.
        let names: Vec<String> = (0..9).map(|number| format!("lasting-{number}")).collect();
        let mut away: Vec<Client> =
            names.iter().map(|name| node.connect_with(&lasting(Version::V5, name))).collect();
        for client in &mut away {
            client.subscribe("t", QoS::ExactlyOnce);
        }
        let mut publisher = node.connect_with(&lasting(Version::V311, "publisher"));
        node.tell_space(full, false);
        publisher.send_qos2("t", 7, false, "once");
        assert!(publisher.is_closed() && publisher.packets().is_empty(), "log {full}");
        assert_eq!(node.dropped(DropReason::DiskFull), 1);
        assert!(live.drain_payloads().is_empty(), "log {full}");
        node.tell_space(full, true);
        let mut publisher = node.connect_with(&lasting(Version::V311, "publisher"));
        publisher.send_qos2("t", 7, true, "once");
        publisher.finish_publish(QoS::ExactlyOnce, 7);
        for client in away.iter_mut().chain([&mut live]) {
            assert_eq!(client.drain_payloads(), ["once"], "log {full}");
        }
    }
}

/// A repeat that a full disk refuses keeps its name: who has it since before a restart can still tell. Method: the node
/// ends at each step of its disks while the message is taken, and again once it is refused: what a client of version 5
/// was told then, it did not hear (seed 11929 of the simulator with --disks 100 --failing-disks 50 --full-disks 100).
#[test]
fn a_refused_repeat_does_not_come_twice() {
    for (version, steps) in
        [Version::V311, Version::V5].into_iter().flat_map(|v| (0..40).map(move |n| (v, n)))
    {
        let what = format!("{version:?} after {steps} steps");
        let node = node(2);
        let names = four_away(&node);
        let mut publisher = node.connect_with(&lasting(version, "publisher"));
        node.hold_disks(true);
        publisher.send_qos2("t", 7, false, "once");
        (0..steps).take_while(|_| node.step_disks()).count();
        node.restart(2, Crash::Power);
        (0..2).for_each(|log| node.tell_space(log, false));
        let mut publisher = node.connect_with(&lasting(version, "publisher"));
        publisher.send_qos2("t", 7, true, "once");
        assert!(publisher.is_closed() || !publisher.packets().is_empty(), "{what}");
        node.restart(2, Crash::Power);
        let mut publisher = node.connect_with(&lasting(version, "publisher"));
        publisher.send_qos2("t", 7, true, "once");
        publisher.finish_publish(QoS::ExactlyOnce, 7);
        for name in &names {
            let mut back = node.connect_with(&lasting(Version::V5, name));
            assert_eq!(back.drain_payloads(), ["once"], "{what}, {name}");
        }
    }
}

/// What a full disk refuses of version 5 the first time, it refuses with 0x97, and the identifier is free: another
/// message may have it.
#[test]
fn a_refused_message_leaves_its_identifier_to_the_next() {
    let node = node(2);
    let names = four_away(&node);
    let mut publisher = node.connect_with(&lasting(Version::V5, "publisher"));
    (0..2).for_each(|log| node.tell_space(log, false));
    publisher.send_qos2("t", 7, false, "refused");
    assert_eq!(publisher.expect_ack(PacketKind::PubRec, 7).reason, ReasonCode::QUOTA_EXCEEDED);
    (0..2).for_each(|log| node.tell_space(log, true));
    publisher.send_qos2("t", 7, false, "taken");
    publisher.finish_publish(QoS::ExactlyOnce, 7);
    for name in &names {
        assert_eq!(node.connect_with(&lasting(Version::V5, name)).drain_payloads(), ["taken"], "{name}");
    }
}

/// Clients with sessions on both logs, which subscribe to "t" and are away.
fn four_away(node: &Node) -> Vec<String> {
    let names: Vec<String> = (0..4).map(|number| format!("lasting-{number}")).collect();
    for name in &names {
        node.connect_with(&lasting(Version::V5, name)).subscribe("t", QoS::ExactlyOnce);
    }
    names
}

/// A message with QoS 0 that waits for clients which are away, and finds no room, is counted for each of them. Nobody
/// heard of it before.
#[test]
fn qos0_that_finds_no_room_is_counted() {
    let settings = Settings { queue_qos0: true, ..Settings::default() };
    let config = Config { cores: 1, settings: Arc::new(settings), ..Config::default() };
    let node = Node::on_disks(config, 1, SOUND);
    for number in 0..3 {
        let mut away = node.connect_with(&lasting(Version::V5, &format!("away-{number}")));
        away.subscribe("t", QoS::AtMostOnce);
        away.drop_socket();
    }
    let mut publisher = node.connect(Version::V5, "publisher");
    node.tell_space(0, false);
    publisher.publish("t", QoS::AtMostOnce, "lost");
    publisher.ping();
    assert_eq!(node.dropped(DropReason::DiskFull), 3);
}

/// What a member of a shared subscription leaves unfinished goes to another one though the disk is full: it was
/// acknowledged, and was lost.
#[test]
fn what_a_member_leaves_is_passed_on_though_the_disk_is_full() {
    let node = node(1);
    let mut first = node.connect_with(&lasting(Version::V5, "first"));
    first.subscribe("$share/g/t", QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    let packet_id = publisher.publish("t", QoS::AtLeastOnce, "passed on");
    publisher.finish_publish(QoS::AtLeastOnce, packet_id);
    first.expect_payload("passed on");
    let mut second = node.connect_with(&lasting(Version::V5, "second"));
    second.subscribe("$share/g/t", QoS::AtLeastOnce);
    node.tell_space(0, false);
    first.unsubscribe("$share/g/t");
    let mut clean = lasting(Version::V5, "first");
    clean.clean_start = true;
    drop(node.connect_with(&clean));
    second.expect_payload("passed on");
    assert_eq!(node.dropped(DropReason::DiskFull), 0);
}

/// An UNSUBSCRIBE that comes while the SUBSCRIBE before it is being refused waited for a route that never was. Method:
/// both in one packet of the network, with and without a subscription that was there before. (Seed 526 of the simulator
/// with --full-disks 100.)
#[test]
fn an_unsubscribe_behind_a_refused_subscribe_is_answered() {
    for before in [false, true] {
        let node = node(1);
        let mut client = node.connect_with(&lasting(Version::V5, "client"));
        if before {
            client.subscribe("t", QoS::AtMostOnce);
        }
        node.tell_space(0, false);
        let filter = SubscribeFilter { filter: "t", options: options(QoS::AtLeastOnce) };
        node.hold_disks(true);
        let (refused, other) = (client.send_subscribe(&[filter], None), client.send_unsubscribe(&["t"]));
        node.hold_disks(false);
        let reasons: Vec<ReasonCode> = client.expect_suback(refused).reasons.into_iter().collect();
        assert_eq!(reasons, [ReasonCode::QUOTA_EXCEEDED], "{before}");
        match client.expect() {
            mqtt::Packet::UnsubAck(unsuback) => assert_eq!(unsuback.packet_id.get(), other),
            packet => panic!("{packet:?}"),
        }
        node.tell_space(0, true);
        client.subscribe("t", QoS::AtLeastOnce);
        let packet_id = client.publish("t", QoS::AtLeastOnce, "after");
        client.expect_ack(PacketKind::PubAck, packet_id);
        client.expect_payload("after");
    }
}

/// A log that has no room even for who comes turns clients away, with a word, when their time is up: they were left without
/// an answer. Whoever needs no log is served, and so is who comes when there is room. (Seed 1942 of the simulator.)
#[test]
fn a_client_for_whom_there_is_no_room_is_turned_away() {
    for version in [Version::V311, Version::V5] {
        let node = Node::on_disks(Config::default(), 1, Faults { capacity_bytes: 0, ..SOUND });
        let mut waits = node.accept();
        waits.send_connect(&lasting(version, "lasting"));
        waits.expect_silence();
        node.connect(version, "not lasting").publish("t", QoS::AtMostOnce, "served");
        node.advance(Duration::from_secs(21));
        assert_eq!(waits.expect_refused().reason, ReasonCode::SERVER_UNAVAILABLE);
        node.set_faults(SOUND);
        node.tell_space(0, true);
        assert!(!node.connect_with(&lasting(version, "lasting")).is_closed());
    }
}
