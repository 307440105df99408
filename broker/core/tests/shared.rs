//! Shared subscriptions (section 4.8.2): one member of a group gets each message.

mod host;

use std::collections::BTreeSet;
use std::time::Duration;

use broker_core::config::Settings;
use broker_core::counters::DropReason;
use host::exchange::{lasting, lasting_with_window, numbers, options};
use host::{Client, Node, VERSIONS};
use mqtt::{Disconnect, PacketKind, QoS, ReasonCode, SubscribeFilter, SubscriptionOptions, Version};

/// Members of `$share/g/t`, spread over the cores.
fn members(node: &Node, count: u16, cores: u16, qos: QoS) -> Vec<Client> {
    (0..count)
        .map(|number| {
            let prefix = format!("member-{number}");
            let mut member = node.connect_at(number % cores, Version::V5, &prefix);
            member.subscribe("$share/g/t", qos);
            member
        })
        .collect()
}

/// Publishes numbers with QoS 1.
fn publish(node: &Node, topic: &str, range: std::ops::Range<u32>) {
    let mut publisher = node.connect(Version::V311, "publisher");
    for number in numbers(range) {
        publisher.publish_fully(topic, QoS::AtLeastOnce, &number);
    }
}

/// [MQTT-4.8.2-3] Each message goes to one member, in every version, for each QoS and from each core; every matching group
/// and every other subscriber has its own copy.
#[test]
fn one_member_gets_each_message() {
    for cores in [1, 4] {
        let node = Node::new(cores);
        let mut one: Vec<Client> =
            VERSIONS.map(|version| node.connect(version, &format!("one-{version:?}"))).into_iter().collect();
        one.iter_mut().for_each(|member| member.subscribe("$share/one/a/+", QoS::ExactlyOnce));
        let mut two = [node.connect(Version::V5, "two-1"), node.connect(Version::V5, "two-2")];
        two.iter_mut().for_each(|member| member.subscribe("$share/two/a/#", QoS::ExactlyOnce));
        let mut other = node.connect(Version::V5, "other");
        other.subscribe("a/b", QoS::AtLeastOnce);
        for core in 0..cores {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let mut publisher = node.connect_at(core, Version::V311, "publisher");
                for number in numbers(0..30) {
                    publisher.publish_fully("a/b", qos, &number);
                }
                assert_eq!(other.drain().len(), 30);
                for group in [&mut one[..], &mut two[..]] {
                    let mut said: Vec<String> = Vec::new();
                    for member in group {
                        let its = member.drain_payloads();
                        assert!(!its.is_empty(), "each member has a share");
                        said.extend(its);
                    }
                    said.sort_by_key(|payload| payload.parse::<u32>().expect("a number"));
                    assert_eq!(said, numbers(0..30));
                }
            }
        }
    }
}

/// [MQTT-4.8.2-3] Each message with the options of the member that gets it: QoS, identifier, Retain As Published.
#[test]
fn members_keep_their_own_options() {
    let node = Node::new(1);
    let mut low = node.connect(Version::V5, "low");
    low.subscribe_numbered("$share/g/t", QoS::AtMostOnce, 1);
    let mut high = node.connect(Version::V5, "high");
    high.subscribe_numbered("$share/g/t", QoS::ExactlyOnce, 2);
    let mut publisher = node.connect(Version::V5, "publisher");
    for _ in 0..4 {
        publisher.publish_fully("t", QoS::ExactlyOnce, "x");
    }
    for (member, qos, number) in [(&mut low, QoS::AtMostOnce, 1), (&mut high, QoS::ExactlyOnce, 2)] {
        let received = member.drain();
        assert_eq!(received.len(), 2);
        assert!(received.iter().all(|publish| publish.qos == qos));
        assert!(received.iter().all(|publish| publish.properties.subscription_ids().eq([number])));
    }
}

/// [MQTT-3.8.3-4] No Local on a shared subscription is a protocol error, for both kinds, and subscribes to nothing.
#[test]
fn no_local_on_a_shared_subscription() {
    for name in ["$share/g/t", "$oshare/g/t"] {
        let node = Node::new(1);
        let mut client = node.connect(Version::V5, "client");
        let options = SubscriptionOptions { no_local: true, ..options(QoS::AtLeastOnce) };
        let plain = SubscribeFilter { filter: "t", options: host::exchange::options(QoS::AtMostOnce) };
        client.send_subscribe(&[plain, SubscribeFilter { filter: name, options }], None);
        client.expect_ended(ReasonCode::PROTOCOL_ERROR);
    }
}

/// [MQTT-4.8.2-1, MQTT-4.8.2-2] A share name is at least a character, without `/`, `+` and `#`, and a filter follows: 0x8F for others.
#[test]
fn malformed_share_names() {
    let names = [
        "$share/",
        "$share//t",
        "$share/g",
        "$share/g/",
        "$share/+/t",
        "$share/#/t",
        "$share/a+b/t",
        "$share/a#/t",
        "$oshare//t",
        "$oshare/g",
        "$oshare/#/t",
        "$share/g/a/#/b",
    ];
    for version in [Version::V311, Version::V5] {
        let node = Node::new(1);
        let mut client = node.connect(version, "client");
        for name in names {
            let expected = if version == Version::V5 { 0x8F } else { 0x80 };
            assert_eq!(client.subscribe_as(name, options(QoS::AtMostOnce)), expected, "{name}");
        }
        assert_eq!(client.subscribe_as("$share/g//", options(QoS::AtMostOnce)), 0);
        assert_eq!(client.subscribe_as("$sharer/g/t", options(QoS::AtMostOnce)), 0);
        assert_eq!(client.subscribe_as("$share/日本/t", options(QoS::AtMostOnce)), 0);
    }
}

/// A new member gets no retained messages, whatever the retain handling (3.3.1.3).
#[test]
fn no_retained_messages() {
    let node = Node::new(2);
    node.connect(Version::V5, "publisher").retain("t", QoS::AtLeastOnce, "kept");
    for version in VERSIONS {
        let mut member = node.connect(version, "member");
        member.subscribe("$share/g/t", QoS::AtLeastOnce);
        member.subscribe("$oshare/g/#", QoS::AtLeastOnce);
        member.expect_silence();
    }
}

/// [MQTT-4.8.2-4] What a member did not acknowledge when its session ended goes to another, on whatever core, and what it
/// acknowledged does not.
#[test]
fn a_leaving_members_messages_go_on() {
    for cores in [1, 3] {
        let node = Node::new(cores);
        let mut members = members(&node, 3, cores, QoS::AtLeastOnce);
        publish(&node, "t", 0..30);
        let mut said: Vec<String> = members[1].drain_payloads();
        let first = members[0].expect_publish();
        members[0].acknowledge(&first);
        said.push(String::from_utf8_lossy(first.payload).into_owned());
        members[0].drop_socket();
        said.extend(members[1].drain_payloads());
        said.extend(members[2].drain_payloads());
        said.extend(members[1].drain_payloads());
        said.sort_by_key(|payload| payload.parse::<u32>().expect("a number"));
        assert_eq!(said, numbers(0..30));
        assert_eq!(node.dropped(DropReason::SessionEnded), 0);
    }
}

/// [MQTT-4.8.2-5] A QoS 2 message in progress stays with its member: it is completed after a reconnect, and dropped and
/// counted if the session ends. One never sent goes to another.
#[test]
fn qos2_in_progress_stays_with_its_member() {
    let node = Node::new(2);
    let mut staying = node.connect_at(1, Version::V5, "staying");
    staying.subscribe("$share/g/t", QoS::ExactlyOnce);
    let mut leaving = node.connect_with(&lasting_with_window("leaving", 1));
    leaving.subscribe("$share/g/t", QoS::ExactlyOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    for number in numbers(0..6) {
        publisher.publish_fully("t", QoS::ExactlyOnce, &number);
    }
    let mut said = staying.drain_payloads();
    assert_eq!(said.len(), 3);
    let begun = leaving.expect_publish();
    leaving.drop_socket();
    let mut leaving = node.connect_with(&lasting_with_window("leaving", 1));
    let again = leaving.expect_publish();
    assert!(again.dup && again.packet_id == begun.packet_id);
    leaving.send_ack(PacketKind::PubRec, again.packet_id.expect("QoS 2").get());
    assert!(staying.drain().is_empty());
    leaving.disconnect_with(&Disconnect { session_expiry: Some(0), ..Disconnect::new(ReasonCode::SUCCESS) });
    assert_eq!(node.dropped(DropReason::SessionEnded), 1);
    said.extend(staying.drain_payloads());
    said.push(String::from_utf8_lossy(begun.payload).into_owned());
    said.sort_unstable();
    assert_eq!(said, numbers(0..6));
}

/// [MQTT-4.8.2-6] What a member refuses with 0x80 or more is discarded and counted, and goes to nobody else.
#[test]
fn refused_messages_are_discarded() {
    for (qos, kind) in [(QoS::AtLeastOnce, PacketKind::PubAck), (QoS::ExactlyOnce, PacketKind::PubRec)] {
        let node = Node::new(1);
        let mut members = members(&node, 2, 1, qos);
        let mut publisher = node.connect(Version::V5, "publisher");
        publisher.publish_fully("t", qos, "1");
        publisher.publish_fully("t", qos, "2");
        let refused = members[0].expect_publish();
        let packet_id = refused.packet_id.expect("has one").get();
        members[0].send_ack_with(kind, packet_id, ReasonCode::NOT_AUTHORIZED);
        members[0].drop_socket();
        assert_eq!(node.dropped(DropReason::Refused), 1);
        assert_eq!(members[1].drain().len(), 1);
    }
}

/// A member that is away is passed over while another is there; when none is, messages wait for one whose session
/// lasts, and reach it. Without any the message is unmatched.
#[test]
fn members_that_are_away() {
    for cores in [1, 3] {
        let node = Node::new(cores);
        let mut away = node.connect_at_with(0, "away", |client_id| lasting(Version::V5, client_id));
        away.subscribe("$share/g/t", QoS::AtLeastOnce);
        let mut here = node.connect_at(cores - 1, Version::V5, "here");
        here.subscribe("$share/g/t", QoS::AtLeastOnce);
        away.drop_socket();
        publish(&node, "t", 0..10);
        assert_eq!(here.drain_payloads(), numbers(0..10));
        here.disconnect(ReasonCode::SUCCESS);
        publish(&node, "t", 10..20);
        let mut away = node.connect_with(&lasting(Version::V5, "away-0"));
        if away.packets().is_empty() {
            // Its name had another number, to be at home on the core.
            let said: Vec<String> = (1..100)
                .flat_map(|number| {
                    node.connect_with(&lasting(Version::V5, &format!("away-{number}"))).drain_payloads()
                })
                .collect();
            assert_eq!(said, numbers(10..20));
        }
    }
}

/// A member with a full queue is passed over, and no message lost while another one has room, whichever limit it is.
#[test]
fn full_members_are_passed_over() {
    for (queue_messages_max, queue_bytes_max) in [(5, u64::MAX), (100_000, 10)] {
        for cores in [1, 2] {
            let settings = Settings { queue_messages_max, queue_bytes_max, ..Settings::default() };
            let node = Node::of_settings_and_cores(settings, cores);
            let mut stuck = node.connect_at(0, Version::V5, "stuck");
            stuck.subscribe("$share/g/t", QoS::AtLeastOnce);
            let mut quick = node.connect_at(cores - 1, Version::V5, "quick");
            quick.subscribe("$share/g/t", QoS::AtLeastOnce);
            let mut publisher = node.connect(Version::V311, "publisher");
            let mut got = 0;
            for number in numbers(0..100) {
                publisher.publish_fully("t", QoS::AtLeastOnce, &number);
                node.advance(Duration::from_millis(50)); // a slowed publisher goes on
                got += quick.drain().len();
            }
            got += stuck.drain().len();
            assert_eq!(got, 100, "{queue_messages_max} {queue_bytes_max} {cores}");
            assert_eq!(node.dropped(DropReason::QueueFull), 0);
        }
    }
}

/// When every member is full and stays so, the message is lost and counted.
#[test]
fn all_members_full() {
    let settings = Settings { queue_messages_max: 5, ..Settings::default() };
    let node = Node::of_settings_and_cores(settings, 2);
    let mut members = members(&node, 3, 2, QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V311, "publisher");
    for number in numbers(0..40) {
        publisher.publish_fully("t", QoS::AtLeastOnce, &number);
        node.advance(Duration::from_millis(50));
    }
    let got: usize = members.iter_mut().map(|member| member.drain().len()).sum();
    let lost = node.dropped(DropReason::NoMember) + node.dropped(DropReason::QueueFull);
    assert_eq!((got, lost), (15, 25));
}

/// A member that joins or leaves, and one that was busy and is free again, are seen by publishers of all cores.
#[test]
fn members_come_and_go() {
    let node = Node::new(3);
    let mut first = node.connect_at(0, Version::V5, "first");
    first.subscribe("$share/g/t", QoS::AtLeastOnce);
    for core in 0..3 {
        let mut publisher = node.connect_at(core, Version::V311, "publisher");
        let mut second = node.connect_at(1, Version::V5, "second");
        second.subscribe("$share/g/t", QoS::AtLeastOnce);
        for number in numbers(0..10) {
            publisher.publish_fully("t", QoS::AtLeastOnce, &number);
        }
        assert_eq!((first.drain().len(), second.drain().len()), (5, 5));
        second.unsubscribe("$share/g/t");
        for number in numbers(0..10) {
            publisher.publish_fully("t", QoS::AtLeastOnce, &number);
        }
        assert_eq!((first.drain().len(), second.drain().len()), (10, 0));
        second.disconnect(ReasonCode::SUCCESS);
    }
}

/// The same client may subscribe by share and plainly, and to several groups: a copy for each.
#[test]
fn shared_and_plain_together() {
    let node = Node::new(2);
    let mut client = node.connect_with(&lasting(Version::V5, "client"));
    for filter in ["t", "$share/g/t", "$share/h/t", "$oshare/g/t", "$share/g/#"] {
        client.subscribe(filter, QoS::AtLeastOnce);
    }
    publish(&node, "t", 0..1);
    assert_eq!(client.drain().len(), 5);
    for filter in ["$share/g/t", "t"] {
        client.unsubscribe(filter);
    }
    publish(&node, "t", 0..1);
    assert_eq!(client.drain().len(), 3);
}

/// A message passed on to a member on another core, with its home's messages held back, still arrives once.
#[test]
fn refused_by_a_core_and_tried_on_another() {
    let settings = Settings { shared_queue_max: 2, inflight_max: 1, ..Settings::default() };
    let node = Node::of_settings_and_cores(settings, 3);
    let mut members = members(&node, 3, 3, QoS::AtLeastOnce);
    let mut publisher = node.connect_at(0, Version::V311, "publisher");
    node.hold_mail(0, 1);
    node.hold_mail(2, 0);
    for number in numbers(0..30) {
        publisher.publish("t", QoS::AtLeastOnce, &number);
    }
    node.release_mail();
    let mut said = BTreeSet::new();
    let mut count = 0;
    for _ in 0..40 {
        node.advance(Duration::from_millis(50));
        for member in &mut members {
            for payload in member.drain_payloads() {
                count += 1;
                said.insert(payload);
            }
        }
    }
    assert_eq!((count, said.len()), (30, 30));
    assert_eq!(publisher.packets().len(), 30);
}

/// Messages passed on by a leaving member, which fill another's queue, slow no publisher who had nothing to do with them.
#[test]
fn passing_on_slows_nobody() {
    let settings = Settings { queue_messages_max: 20, inflight_max: 1, ..Settings::default() };
    let node = Node::of_settings(settings);
    let mut members = members(&node, 2, 1, QoS::AtLeastOnce);
    members[1].unsubscribe("$share/g/t");
    let mut publisher = node.connect(Version::V311, "publisher");
    for number in numbers(0..15) {
        publisher.publish_patiently("t", QoS::AtLeastOnce, &number);
    }
    members[1].subscribe("$share/g/t", QoS::AtLeastOnce);
    members[1].subscribe("other", QoS::AtMostOnce);
    let slowed = node.count(|core| core.counters().publishers_slowed);
    members[0].drop_socket();
    node.connect(Version::V311, "unrelated").publish("other", QoS::AtMostOnce, "x");
    assert_eq!(node.count(|core| core.counters().publishers_slowed), slowed);
    assert_eq!(members[1].drain().len(), 16);
}
