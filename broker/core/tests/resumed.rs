//! Persistent sessions on disks: a start goes on with what was under way, and QoS 0 keeps its order beside the log.

mod host;

use std::sync::Arc;
use std::time::Duration;

use broker_core::config::{Config, QueueDrop, Settings};
use broker_core::counters::DropReason;
use broker_core::time::Mono;
use host::Node;
use host::disks::{SEGMENT_BYTES, SOUND};
use host::exchange::{lasting, options};
use host::packets::will;
use mqtt::encode::{self, PublishOut};
use mqtt::{
    Connect, Packet, PacketKind, QoS, ReasonCode, RetainHandling, SubscribeFilter, SubscriptionOptions,
    Version, Will,
};
use wal::simulated_disk::{Crash, Faults};

/// A task that a start finds is done though nothing else happens; until then its core would ask to be called at
/// once, again and again. Method: the node ends at each step of its disks while a will is published.
/// (Seed 14 of the simulator.)
#[test]
fn tasks_that_a_start_finds_are_done() {
    let mut found = 0;
    for steps in 0..40 {
        let node = Node::on_disks(Config { cores: 2, ..Config::default() }, steps, SOUND);
        let mut watcher = node.connect_with(&lasting(Version::V5, "watcher"));
        watcher.subscribe("will", QoS::AtLeastOnce);
        watcher.drop_socket();
        let connect = lasting(Version::V5, "client");
        let will = Some(Will { qos: QoS::AtLeastOnce, ..will("will", "gone") });
        let mut client = node.connect_with(&Connect { will, ..connect });
        node.hold_disks(true);
        client.drop_socket();
        let stepped = (0..steps).take_while(|_| node.step_disks()).count();
        node.restart(2, Crash::Power);
        let due = node.count(|core| u64::from(core.next_timeout() == Some(Mono(0))));
        assert_eq!(due, 0, "after {steps} steps");
        let mut watcher = node.connect_with(&lasting(Version::V5, "watcher"));
        let payloads = watcher.drain_payloads();
        assert!(!payloads.is_empty() && payloads.iter().all(|payload| payload == "gone"), "{payloads:?}");
        found += stepped;
    }
    assert!(found > 100, "{found}");
}

/// Time in which there is no process counts [MQTT-3.1.2-23]: who was connected when it ended, and was away for longer
/// than the session lasts, finds none; who comes back in time finds it, and the rest of its time begins anew with its
/// next end. Will delays count alike [MQTT-3.1.3-9].
#[test]
fn sessions_end_while_there_is_no_process() {
    for (down, present, payloads) in [(4, true, 0), (6, true, 1), (61, false, 1)] {
        let node = Node::on_disks(Config { cores: 2, ..Config::default() }, down, SOUND);
        let mut watcher = node.connect_with(&lasting(Version::V5, "watcher"));
        watcher.subscribe("will", QoS::AtLeastOnce);
        let mut connect = lasting(Version::V5, "client");
        connect.properties.session_expiry = 60;
        let will = Will { delay_interval: 5, qos: QoS::AtLeastOnce, ..will("will", "gone") };
        let mut client = node.connect_with(&Connect { will: Some(will), ..connect });
        client.subscribe("a", QoS::AtLeastOnce);
        node.restart_after(Duration::from_secs(down), 2, Crash::Kill);
        let mut watcher = node.connect_with(&lasting(Version::V5, "watcher"));
        assert_eq!(watcher.drain_payloads().len(), payloads, "after {down} s");
        let mut client = node.accept();
        assert_eq!(client.greet(&connect).session_present, present, "after {down} s");
    }
}

/// A QoS 0 message that follows a retained copy into the queue is not overtaken by the next of its topic, which
/// need not. Method: both are published after each step of the disks, while the copy is on its way. (Seed 104 of the
/// simulator.)
#[test]
fn qos0_on_its_way_through_the_log_is_not_overtaken() {
    for steps in 0..60 {
        let node = Node::on_disks(Config { cores: 1, ..Config::default() }, steps, SOUND);
        let mut publisher = node.connect(Version::V5, "publisher");
        publisher.retain("copy", QoS::AtLeastOnce, "copy");
        let mut subscriber = node.connect_with(&lasting(Version::V5, "subscriber"));
        subscriber.subscribe("live", QoS::AtMostOnce);
        node.hold_disks(true);
        let filter = SubscribeFilter { filter: "copy", options: options(QoS::AtLeastOnce) };
        subscriber.send_subscribe(&[filter], None);
        (0..steps).take_while(|_| node.step_disks()).count();
        let first = PublishOut { topic: "live", retain: true, payload: b"first", ..PublishOut::default() };
        publisher.publish_with(&first);
        publisher.publish("live", QoS::AtMostOnce, "second");
        node.hold_disks(false);
        let mut live = Vec::new();
        for packet in subscriber.packets() {
            match packet {
                Packet::Publish(publish) if publish.topic == "live" => live.push(publish.payload),
                _ => {}
            }
        }
        assert_eq!(live, [b"first".as_slice(), b"second"], "after {steps} steps");
    }
}

/// A copy that its session got in its queue, and not sent, before it left was overtaken by the QoS 0 message that replaced
/// it when the client was back. Method: the client comes back, and the message is published, after each step of the disks.
/// (Seed 1057 of the simulator.)
#[test]
fn a_copy_that_waits_for_its_client_is_not_overtaken() {
    for (before, after) in (0..12).flat_map(|before| (0..30).map(move |after| (before, after))) {
        let settings = Settings { queue_drop: QueueDrop::Oldest, ..Settings::default() };
        let config = Config { cores: 1, settings: Arc::new(settings), ..Config::default() };
        let node = Node::on_disks(config, before, SOUND);
        let mut publisher = node.connect(Version::V5, "publisher");
        publisher.retain("t", QoS::AtLeastOnce, "old");
        let mut subscriber = node.connect_with(&lasting(Version::V5, "subscriber"));
        let handling = RetainHandling::DoNotSend;
        let live = SubscriptionOptions { retain_handling: handling, ..options(QoS::AtLeastOnce) };
        let suback = subscriber.send_subscribe(&[SubscribeFilter { filter: "t", options: live }], None);
        subscriber.expect_suback(suback);
        node.hold_disks(true);
        let filter = SubscribeFilter { filter: "t", options: options(QoS::AtLeastOnce) };
        subscriber.send_subscribe(&[filter], None);
        (0..before).take_while(|_| node.step_disks()).count();
        subscriber.drop_socket();
        let mut subscriber = node.accept();
        subscriber.send_connect(&lasting(Version::V5, "subscriber"));
        (0..after).take_while(|_| node.step_disks()).count();
        let new = PublishOut { topic: "t", retain: true, payload: b"new", ..PublishOut::default() };
        publisher.publish_with(&new);
        node.hold_disks(false);
        let payload = |packet: &Packet<'_>| match packet {
            Packet::Publish(publish) => Some(publish.payload == b"new"),
            _ => None,
        };
        let came: Vec<bool> = subscriber.packets().iter().filter_map(payload).collect();
        assert!(came.is_sorted(), "after {before} and {after} steps: {came:?}");
    }
}

/// A session with several filters has all copies of a QoS 2 message, or none, when the node ends: a budget parted them, and
/// a repeat was taken for known because of the first. Method: the node ends at each step of its disks, and the publisher
/// sends it again. (Seed 237 of the simulator with --full-disks 100.)
#[test]
fn copies_of_one_session_are_not_parted() {
    let filters = ["a/b", "a/+", "+/b", "#"];
    let mut parted = 0;
    for steps in 0..60 {
        let config = Config { cores: 1, turn_deliveries_max: 1, ..Config::default() };
        let node = Node::on_disks(config, steps, SOUND);
        for name in ["one", "other"] {
            let mut subscriber = node.connect_with(&lasting(Version::V5, name));
            filters.iter().for_each(|filter| subscriber.subscribe(filter, QoS::AtLeastOnce));
            subscriber.drop_socket();
        }
        let mut publisher = node.connect_with(&lasting(Version::V311, "publisher"));
        node.hold_disks(true);
        publisher.send_qos2("a/b", 7, false, "x");
        parted += (0..steps).take_while(|_| node.step_disks()).count();
        node.restart(1, Crash::Power);
        let mut publisher = node.connect_with(&lasting(Version::V311, "publisher"));
        publisher.send_qos2("a/b", 7, true, "x");
        publisher.finish_publish(QoS::ExactlyOnce, 7);
        for name in ["one", "other"] {
            let copies = node.connect_with(&lasting(Version::V5, name)).drain_payloads();
            assert_eq!(copies.len(), filters.len(), "after {steps} steps, {name}");
        }
    }
    assert!(parted > 60, "{parted}");
}

/// A client that has forgotten what it sent begins anew with its identifiers, and what it sends is a new message though
/// some log has an older one by the same name, of which the client's own log has lost track: it was taken for known there,
/// acknowledged, and lost. Method: the node ends at each step of its disks while the older message is taken.
#[test]
fn a_new_message_is_not_taken_for_one_that_was_lost() {
    let names: Vec<String> = (0..6).map(|number| format!("lasting-{number}")).collect();
    let mut reached = 0;
    for steps in 0..40 {
        let node = Node::on_disks(Config { cores: 2, ..Config::default() }, steps, SOUND);
        for name in &names {
            node.connect_with(&lasting(Version::V5, name)).subscribe("t", QoS::ExactlyOnce);
        }
        let mut publisher = node.connect_with(&lasting(Version::V5, "publisher"));
        node.hold_disks(true);
        publisher.send_qos2("t", 7, false, "old");
        (0..steps).take_while(|_| node.step_disks()).count();
        node.restart(2, Crash::Power);
        let mut publisher = node.connect_with(&lasting(Version::V5, "publisher"));
        publisher.send_ack(PacketKind::PubRel, 7);
        if publisher.expect_ack(PacketKind::PubComp, 7).reason == ReasonCode::SUCCESS {
            continue; // its own log has it
        }
        publisher.send_qos2("t", 7, false, "new");
        publisher.finish_publish(QoS::ExactlyOnce, 7);
        for name in &names {
            let payloads = node.connect_with(&lasting(Version::V5, name)).drain_payloads();
            reached += usize::from(payloads.len() == 2);
            assert_eq!(payloads.last().map(String::as_str), Some("new"), "after {steps} steps, {name}");
        }
    }
    assert!(reached > 0, "no log had the older message alone");
}

/// [MQTT-4.8.0-2 of 3.1.1] What a full disk refused at once was acknowledged as stored. Now a publisher of version 5 hears 0x97, an older one is
/// closed without an acknowledgement, everything acknowledged is delivered, also after a power loss, and when there is
/// space again it is used.
#[test]
fn what_a_full_disk_refuses_is_not_acknowledged() {
    for cores in [1, 2] {
        let capacity_bytes = 12 * u64::from(SEGMENT_BYTES);
        let node =
            Node::on_disks(Config { cores, ..Config::default() }, 1, Faults { capacity_bytes, ..SOUND });
        let mut subscriber = node.connect_with(&lasting(Version::V5, "subscriber"));
        subscriber.subscribe("t", QoS::AtLeastOnce);
        subscriber.drop_socket();
        let mut publisher = node.connect(Version::V5, "publisher");
        let payload = "x".repeat(10_000);
        let mut kept = Vec::new();
        let mut refused = 0;
        for number in 0..400 {
            let text = format!("{number} {payload}");
            let packet_id = publisher.publish("t", QoS::AtLeastOnce, &text);
            node.advance(Duration::from_secs(2));
            let reason = publisher.expect_ack(PacketKind::PubAck, packet_id).reason;
            match reason {
                ReasonCode::SUCCESS => kept.push(text),
                ReasonCode::QUOTA_EXCEEDED => refused += 1,
                other => panic!("{other:?}"),
            }
            if refused > 3 {
                break;
            }
        }
        assert!(refused > 3 && kept.len() > 10, "{cores} cores: {refused} refused, {} kept", kept.len());
        assert_eq!(node.dropped(DropReason::DiskFull), refused);
        let mut old = node.connect(Version::V311, "old");
        // The second needs no disk, and must not be acknowledged before the first.
        old.send_with(|bytes, version| {
            for (packet_id, topic) in [(1, "t"), (2, "nobody wants this")] {
                let (qos, packet_id) = (QoS::AtLeastOnce, mqtt::PacketId::new(packet_id));
                let publish = PublishOut {
                    topic,
                    qos,
                    packet_id,
                    payload: payload.as_bytes(),
                    ..PublishOut::default()
                };
                encode::publish(bytes, version, &publish);
            }
        });
        node.advance(Duration::from_secs(2));
        assert!(old.packets().is_empty() && old.is_closed(), "{cores} cores: it is not stored");
        for (version, reason) in
            [(Version::V5, ReasonCode::QUOTA_EXCEEDED), (Version::V311, ReasonCode::UNSPECIFIED_ERROR)]
        {
            // Sessions of the other log are not concerned.
            let granted = (0..8).filter(|number| {
                let mut late = node.connect_with(&lasting(version, &format!("{version:?} {number}")));
                let filter = SubscribeFilter { filter: "t", options: options(QoS::AtLeastOnce) };
                let packet_id = late.send_subscribe(&[filter], None);
                let answer = late.expect_suback(packet_id).reasons.into_iter().next();
                assert!([Some(reason), Some(ReasonCode::GRANTED_QOS_1)].contains(&answer), "{answer:?}");
                answer != Some(reason)
            });
            let granted = granted.count();
            assert!(if cores == 1 { granted == 0 } else { granted < 8 }, "{cores} cores: {granted}");
        }
        node.set_faults(SOUND);
        node.advance(Duration::from_secs(60));
        publisher.publish_patiently("t", QoS::AtLeastOnce, "again");
        kept.push("again".into());
        node.restart(cores, Crash::Power);
        let mut subscriber = node.connect_with(&lasting(Version::V5, "subscriber"));
        assert!(subscriber.drain_payloads() == kept, "{cores} cores");
    }
}

/// A QoS 2 message of a shared subscription that its publisher sends again after the node ended goes to nobody else if a
/// member has it, whoever is chosen now. Method: the node ends at each step of its disks while the message is taken.
#[test]
fn a_repeat_goes_to_no_other_member() {
    let names: Vec<String> = (0..6).map(|number| format!("lasting-{number}")).collect();
    let mut kept = 0;
    for steps in 0..60 {
        let node = Node::on_disks(Config { cores: 3, ..Config::default() }, steps, SOUND);
        for name in &names {
            node.connect_with(&lasting(Version::V5, name)).subscribe("$share/g/t", QoS::ExactlyOnce);
        }
        let mut publisher = node.connect_with(&lasting(Version::V5, "publisher"));
        node.hold_disks(true);
        publisher.send_qos2("t", 7, false, "x");
        (0..steps).take_while(|_| node.step_disks()).count();
        node.restart(3, Crash::Power);
        let mut back = node.connect_with(&lasting(Version::V5, &names[steps as usize % names.len()]));
        let before = back.drain_payloads().len();
        kept += before;
        let mut publisher = node.connect_with(&lasting(Version::V5, "publisher"));
        publisher.send_qos2("t", 7, true, "x");
        publisher.finish_publish(QoS::ExactlyOnce, 7);
        let others =
            names.iter().map(|name| node.connect_with(&lasting(Version::V5, name)).drain_payloads().len());
        let copies = before + others.sum::<usize>();
        assert_eq!(copies, 1, "after {steps} steps");
    }
    assert!(kept > 0, "the one that came back had it never");
}

/// What is sent to a client that has just come back is not given up for what is published while it was on its way in: the
/// range did not know that it was sent, its PUBREC met nothing, and its client waited for a PUBREL for ever. Method:
/// `queue_drop` is changed in between, so that the one waits for no disk and the other may give up. (Seed 80057 of the
/// simulator with --disks 100 --failing-disks 50 --full-disks 100.)
#[test]
fn what_a_client_on_its_way_in_gets_is_not_given_up() {
    let config = |queue_drop| {
        let settings = Settings { queue_messages_max: 1, queue_drop, ..Settings::default() };
        Config { cores: 1, settings: Arc::new(settings), ..Config::default() }
    };
    let node = Node::on_disks(config(QueueDrop::Oldest), 1, SOUND);
    let mut former = node.connect_with(&lasting(Version::V311, "client"));
    former.subscribe("t", QoS::ExactlyOnce);
    former.drop_socket();
    let mut publisher = node.connect(Version::V311, "publisher");
    publisher.publish_fully("t", QoS::ExactlyOnce, "first");
    node.hold_disks(true);
    let mut client = node.accept();
    client.send_connect(&lasting(Version::V311, "client"));
    publisher.publish("t", QoS::AtLeastOnce, "second");
    node.configure(config(QueueDrop::Newest));
    let mut first = None;
    while first.is_none() && node.step_disks() {
        first = client.packets().into_iter().find_map(|packet| match packet {
            Packet::Publish(publish) => Some(publish.packet_id.expect("QoS 2").get()),
            _ => None,
        });
    }
    let first = first.expect("it is there");
    client.send_ack(PacketKind::PubRec, first);
    node.hold_disks(false);
    client.expect_ack(PacketKind::PubRel, first);
}
