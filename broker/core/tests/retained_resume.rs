//! Retained messages that a session is still owed when its client goes away, and how much of them one turn takes.

mod host;

use host::exchange::{lasting_with_window, numbers, options};
use host::packets::subscribe_packet;
use host::{Client, Node};
use mqtt::{Packet, PacketKind, QoS, RetainHandling, SubscribeFilter, SubscriptionOptions, Version};

const COUNT: u32 = 3000;

fn fill(node: &Node, qos: QoS) -> Client {
    let mut publisher = node.connect(Version::V311, "publisher");
    for number in numbers(0..COUNT) {
        publisher.retain(&format!("many/{number}"), qos, &number);
    }
    publisher
}

/// A session that lasts lost what it was owed by a SUBSCRIBE and had not been sent when its client went away: it comes
/// on the next connections, each copy that was finished once and in whatever order the client leaves.
#[test]
fn a_client_that_left_lost_what_it_was_owed() {
    for cores in [1, 3] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let node = Node::new(cores);
            fill(&node, qos);
            let mut said = Vec::new();
            let mut connections = 0;
            let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 20));
            subscriber.subscribe("many/#", qos);
            loop {
                for _ in 0..10 {
                    for packet in subscriber.packets() {
                        match packet {
                            Packet::Publish(publish) => {
                                said.push(String::from_utf8_lossy(publish.payload).into_owned());
                                subscriber.acknowledge(&publish);
                            }
                            Packet::PubRel(ack) => {
                                subscriber.send_ack(PacketKind::PubComp, ack.packet_id.get());
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
                let before = said.len();
                match connections % 3 {
                    0 => subscriber.drop_socket(),
                    1 => subscriber.disconnect(mqtt::ReasonCode::SUCCESS),
                    _ => {} // taken over
                }
                connections += 1;
                subscriber = node.connect_with(&lasting_with_window("subscriber", 20));
                if before as u32 >= COUNT {
                    break;
                }
                assert!(connections < COUNT, "{before} of {COUNT}");
            }
            subscriber.expect_silence();
            said.sort_unstable();
            let mut expected = numbers(0..COUNT);
            expected.sort_unstable();
            assert!(said == expected, "{cores} cores, {qos:?}: {} came", said.len());
            assert!(connections > 3, "{connections}");
        }
    }
}

/// What changes while the client is away waits in its queue and comes from there, and not again as a copy; of more
/// changes than are remembered a copy comes as well, and is no old one.
#[test]
fn changes_while_the_client_is_away_came_twice() {
    for (count, copies_max) in [(COUNT, 0), (2 * COUNT, 4096)] {
        let node = Node::new(3);
        let mut publisher = fill(&node, QoS::AtLeastOnce);
        let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 1));
        subscriber.subscribe("many/#", QoS::AtLeastOnce);
        let first = subscriber.expect_publish();
        subscriber.drop_socket();
        for number in numbers(0..count) {
            let payload = if number.ends_with('7') { "" } else { "new" };
            publisher.retain(&format!("many/{number}"), QoS::AtLeastOnce, payload);
        }
        let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 1));
        let came = subscriber.drain();
        let (copies, live): (Vec<mqtt::Publish<'_>>, Vec<_>) =
            came.into_iter().partition(|publish| publish.retain);
        assert_eq!((copies[0].topic, copies[0].dup), (first.topic, true));
        assert_eq!(live.len() as u32, count);
        assert!(copies[1..].iter().all(|publish| publish.payload == b"new"), "old after new");
        assert!(copies.len() - 1 <= copies_max, "{}", copies.len());
    }
}

/// A SUBSCRIBE that was not acknowledged when its connection ended left the subscription behind and not what is owed for
/// it, so that asking again only for what is new brought nothing.
#[test]
fn a_subscribe_without_its_suback_owed_nothing() {
    for taken_over in [false, true] {
        let node = Node::new(2);
        fill(&node, QoS::AtLeastOnce);
        let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 20));
        node.hold_mail(0, 1);
        node.hold_mail(1, 0);
        let retain_handling = RetainHandling::SendIfNew;
        let options = SubscriptionOptions { retain_handling, ..options(QoS::AtLeastOnce) };
        let filters = ["many/+", "+/1"].map(|filter| SubscribeFilter { filter, options });
        subscriber.send_subscribe(&filters, None);
        subscriber.expect_nothing();
        if !taken_over {
            subscriber.drop_socket();
        }
        let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 20));
        node.release_mail();
        let came = subscriber.drain().len() as u32;
        let packet_id = subscriber.send_subscribe(&filters, None);
        subscriber.expect_suback(packet_id);
        assert_eq!(came + subscriber.drain().len() as u32, COUNT + 1, "{taken_over}");
    }
}

/// A filter that is given up is owed nothing on the next connection either [MQTT-3.10.4-2].
#[test]
fn a_filter_given_up_stays_given_up() {
    let node = Node::new(2);
    fill(&node, QoS::AtLeastOnce);
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 5));
    let filters =
        ["many/#", "many/7"].map(|filter| SubscribeFilter { filter, options: options(QoS::AtLeastOnce) });
    let packet_id = subscriber.send_subscribe(&filters, None);
    subscriber.expect_suback(packet_id);
    assert_eq!(subscriber.packets().len(), 5);
    subscriber.unsubscribe("many/#");
    subscriber.drop_socket();
    let mut subscriber = node.connect_with(&lasting_with_window("subscriber", 5));
    let came = subscriber.drain();
    assert_eq!(came.iter().filter(|publish| publish.dup).count(), 5);
    let new: Vec<_> = came.iter().filter(|publish| !publish.dup).map(|publish| publish.topic).collect();
    assert_eq!(new, ["many/7"]);
}

/// All that a wildcard matches on the subscriber's own core was handed out in one turn.
#[test]
fn a_wildcard_took_one_turn() {
    let node = Node::new(1);
    fill(&node, QoS::AtMostOnce);
    let mut subscriber = node.connect(Version::V311, "subscriber");
    node.take_whole_turns();
    subscriber.reads(false); // there is room for all of them in the send queue
    subscriber.push(&subscribe_packet(Version::V311, 1, "many/#", QoS::AtMostOnce));
    let sent = || node.count(|core| core.counters().publishes_sent[0]);
    let mut turns = 0;
    while sent() < u64::from(COUNT) {
        let before = sent();
        node.run_once();
        assert!(sent() - before <= 64, "{} in one turn", sent() - before);
        turns += 1;
        assert!(turns < COUNT, "{} of {COUNT}", sent());
    }
    subscriber.reads(true);
    subscriber.expect_suback(1);
    assert_eq!(subscriber.drain().len() as u32, COUNT);
}
