//! A message for more sessions of one core than a turn takes: delivered over several turns.

mod host;

use std::sync::Arc;
use std::time::Duration;

use broker_core::access::{AccessList, Action, Line, Rule, Subject};
use broker_core::config::{Config, Settings};
use broker_core::counters::DropReason;
use host::exchange::{lasting, numbers};
use host::packets::publish_packet;
use host::{Client, Node};
use mqtt::encode::PublishOut;
use mqtt::{Packet, PacketKind, QoS, ReasonCode, Version};

/// Deliveries a turn.
const TURN: u32 = 50;
/// Subscribers.
const MANY: usize = 400;

fn node(cores: u16) -> Node {
    let settings = Settings { queue_messages_max: 1000, ..Settings::default() };
    Node::with(Config { cores, settings: Arc::new(settings), turn_deliveries_max: TURN, ..Config::default() })
}

/// Many subscribers of `t`; their sessions last, or end with them.
fn subscribers(node: &Node, lasting_sessions: bool, qos: QoS) -> Vec<Client> {
    (0..MANY)
        .map(|number| {
            let client_id = format!("subscriber-{number}");
            let mut client = match lasting_sessions {
                true => node.connect_with(&lasting(Version::V5, &client_id)),
                false => node.connect(Version::V5, &client_id),
            };
            client.subscribe("t", qos);
            client
        })
        .collect()
}

fn publish(topic: &str, qos: QoS, packet_id: u16, payload: &str) -> Vec<u8> {
    let packet_id = mqtt::PacketId::new(packet_id).filter(|_| qos != QoS::AtMostOnce);
    let publish = PublishOut { topic, qos, packet_id, payload: payload.as_bytes(), ..PublishOut::default() };
    publish_packet(Version::V311, &publish)
}

/// One message to all subscribers was one turn, however many they are. Each turn takes its part, everybody has every
/// message, in order, wherever it was published.
#[test]
fn one_message_takes_many_turns() {
    for (cores, lasting_sessions) in [(1, false), (1, true), (2, false), (2, true)] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let node = node(cores);
            let mut subscribers = subscribers(&node, lasting_sessions, qos);
            for core in 0..cores {
                let mut publisher = node.connect_at(core, Version::V311, "publisher");
                node.take_dirty_max();
                for number in 0..5 {
                    publisher.push(&publish("t", qos, number + 1, &number.to_string()));
                }
                node.advance(Duration::from_secs(1)); // a publisher elsewhere is read slowly meanwhile
                let most = node.take_dirty_max();
                assert!(most <= 4 * TURN as usize, "{most} in one turn of {cores} cores");
                for subscriber in &mut subscribers {
                    assert_eq!(subscriber.drain_payloads(), numbers(0..5));
                }
                assert_eq!(publisher.packets().len(), if qos == QoS::AtMostOnce { 0 } else { 5 });
                assert_eq!(node.postponed(), 0);
            }
        }
    }
}

/// Messages for many, published one behind the other: a publisher of the same core is not read before its message
/// is with everybody.
#[test]
fn its_publisher_waits() {
    let node = node(1);
    let mut subscribers = subscribers(&node, false, QoS::AtMostOnce);
    node.take_whole_turns();
    let mut publisher = node.connect(Version::V311, "publisher");
    for number in numbers(0..100) {
        publisher.push(&publish("t", QoS::AtMostOnce, 0, &number));
    }
    let mut turns = 0;
    while node.count(|core| core.counters().publishes_sent[0]) < 100 * MANY as u64 {
        node.run_once();
        assert!(node.postponed() <= 1, "{} messages are left over", node.postponed());
        turns += 1;
        assert!(turns < 10_000);
    }
    assert!(turns >= 100 * MANY / TURN as usize);
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.drain_payloads(), numbers(0..100));
    }
}

/// A message for few is not held up by one for many, and one on the same topic from another publisher waits behind it.
#[test]
fn others_go_on_meanwhile() {
    let node = node(1);
    let mut subscribers = subscribers(&node, false, QoS::AtMostOnce);
    let mut other = node.connect(Version::V5, "other");
    other.subscribe("few", QoS::AtMostOnce);
    let mut publishers = ["one", "two", "three"].map(|name| node.connect(Version::V311, name));
    node.take_whole_turns();
    publishers[0].push(&publish("t", QoS::AtMostOnce, 0, "first"));
    node.run_once();
    publishers[1].push(&publish("t", QoS::AtMostOnce, 0, "second"));
    publishers[2].push(&publish("few", QoS::AtMostOnce, 0, "few"));
    node.run_once();
    assert_eq!(node.postponed(), 2);
    other.expect_payload("few");
    node.run();
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.drain_payloads(), ["first", "second"]);
    }
}

/// A PUBACK says that every lasting session has the message, also those of later turns.
#[test]
fn acknowledged_when_the_last_session_has_it() {
    for cores in [1, 2] {
        let node = node(cores);
        let mut subscribers = subscribers(&node, true, QoS::AtLeastOnce);
        node.take_whole_turns();
        let mut publisher = node.connect_at(0, Version::V311, "publisher");
        publisher.push(&publish("t", QoS::AtLeastOnce, 1, "x"));
        for turn in 0.. {
            assert!(turn < 1000, "comes at last");
            node.run_once();
            if let [packet] = publisher.packets()[..] {
                assert_eq!(packet.kind(), PacketKind::PubAck);
                break;
            }
        }
        for subscriber in &mut subscribers {
            subscriber.expect_payload("x");
        }
    }
}

/// [MQTT-3.10.4-2] What is left over comes before the UNSUBACK, if it comes.
#[test]
fn nothing_left_over_comes_behind_the_unsuback() {
    for lasting_sessions in [false, true] {
        let node = node(2);
        let mut subscribers = subscribers(&node, lasting_sessions, QoS::AtLeastOnce);
        node.take_whole_turns();
        let mut publisher = node.connect_at(0, Version::V311, "publisher");
        publisher.push(&publish("t", QoS::AtLeastOnce, 1, "x"));
        node.run_once();
        for subscriber in &mut subscribers {
            subscriber.send_unsubscribe(&["t"]);
        }
        node.run();
        let mut got = 0;
        for subscriber in &mut subscribers {
            let kinds: Vec<PacketKind> = subscriber.packets().iter().map(Packet::kind).collect();
            got += kinds.len() - 1;
            assert_eq!(kinds.last(), Some(&PacketKind::UnsubAck), "{kinds:?}");
        }
        assert!(got > 0, "some had it");
    }
}

/// A session that ends before its turn has come, and one that begins after: neither has the message, the others do.
#[test]
fn sessions_that_come_and_go_meanwhile() {
    let node = node(1);
    let mut subscribers = subscribers(&node, false, QoS::AtMostOnce);
    let mut publisher = node.connect(Version::V311, "publisher");
    node.take_whole_turns();
    publisher.push(&publish("t", QoS::AtMostOnce, 0, "x"));
    node.run_once();
    let mut last = subscribers.pop().expect("many");
    last.disconnect(ReasonCode::SUCCESS);
    let mut late = node.connect(Version::V5, "late");
    late.subscribe("t", QoS::AtMostOnce);
    publisher.push(&publish("t", QoS::AtMostOnce, 0, "y"));
    node.run();
    assert_eq!(late.payloads().last().map(String::as_str), Some("y"));
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.payloads(), ["x", "y"]);
    }
    assert_eq!(DropReason::ALL.iter().map(|reason| node.dropped(*reason)).sum::<u64>(), 0);
}

/// A permission that was withdrawn while a message was left over did not keep it from those who had not got it yet.
#[test]
fn a_permission_withdrawn_did_not_stop_what_was_left_over() {
    let everybody = |filter: &str, allow| Line {
        subject: Subject::Everybody,
        rule: Rule { action: Action::Any, filter: filter.into(), allow },
    };
    for (cores, lasting_sessions) in [(1, false), (1, true), (2, false), (2, true)] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            for list in [vec![everybody("#", true)], vec![]] {
                let node = node(cores);
                if !list.is_empty() {
                    node.access_list(Some(AccessList::new(list)));
                }
                let mut subscribers = subscribers(&node, lasting_sessions, qos);
                node.take_whole_turns();
                let mut publisher = node.connect_at(0, Version::V311, "publisher");
                for _ in 0..2 {
                    publisher.push(&publish("t", qos, 1, "x")); // known, then cached
                    node.advance(Duration::from_secs(1));
                    subscribers.iter_mut().for_each(|subscriber| drop(subscriber.drain()));
                    publisher.packets();
                }
                publisher.push(&publish("t", qos, 1, "x"));
                node.run_once();
                assert!(node.postponed() > 0, "{cores} {lasting_sessions} {qos:?}");
                let denied = everybody("t", false);
                node.access_list(Some(AccessList::new([everybody("#", true), denied])));
                let got: usize = subscribers.iter_mut().map(|subscriber| subscriber.payloads().len()).sum();
                let most = 2 * TURN as usize * usize::from(cores);
                assert!(got <= most, "{got} of {cores} cores, {lasting_sessions}, {qos:?}");
                assert_eq!(node.dropped(DropReason::NoPermission) as usize, MANY - got);
            }
        }
    }
}
