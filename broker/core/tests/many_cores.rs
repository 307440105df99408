//! One node of several cores: SUBACK means routed (promise 2), whatever the cores have cached and whenever their
//! messages arrive.

mod host;

use std::collections::BTreeSet;

use broker_core::counters::DropReason;
use host::exchange::{lasting, numbers, options};
use host::packets::{id, publish_packet, subscribe_packet};
use host::{Client, Node};
use mqtt::encode::PublishOut;
use mqtt::{Packet, QoS, SubscribeFilter, Version};

const CORES: u16 = 4;

/// One publisher on each core.
fn publishers(node: &Node) -> Vec<Client> {
    (0..CORES).map(|core| node.connect_at(core, Version::V311, &format!("publisher-{core}"))).collect()
}

/// A subscriber on a core: every other one has a session that lasts.
fn subscriber(node: &Node, core: u16, number: u32) -> Client {
    let prefix = format!("subscriber-{core}-{number}");
    if number.is_multiple_of(2) {
        return node.connect_at(core, Version::V5, &prefix);
    }
    node.connect_at_with(core, &prefix, |client_id| lasting(Version::V5, client_id))
}

/// [MQTT-3.8.4-1, MQTT-3.8.4-2] From SUBACK on, a publish on any core reaches a subscriber on any core, by any filter,
/// though all cores have the topic cached without it; from UNSUBACK on it does not [MQTT-3.10.4-2].
#[test]
fn from_suback_to_unsuback() {
    let node = Node::new(CORES);
    let mut publishers = publishers(&node);
    let topics: Vec<String> = (0..10).map(|number| format!("warm/{number}/topic")).collect();
    for (core, number) in (0..CORES).flat_map(|core| [(core, 0), (core, 1)]) {
        let mut subscriber = subscriber(&node, core, number);
        for topic in &topics {
            for filter in [topic.as_str(), "#", "warm/+/topic", "+/+/+", "warm/#", "$share/g/warm/#"] {
                for publisher in &mut publishers {
                    publisher.publish(topic, QoS::AtMostOnce, "before");
                    publisher.publish(topic, QoS::AtMostOnce, "before");
                }
                subscriber.subscribe(filter, QoS::AtLeastOnce);
                subscriber.expect_nothing();
                for publisher in &mut publishers {
                    publisher.publish_fully(topic, QoS::AtLeastOnce, "during");
                }
                assert_eq!(subscriber.drain_payloads(), ["during"; CORES as usize], "{filter}");
                subscriber.unsubscribe(filter);
            }
        }
        subscriber.expect_nothing();
    }
    assert!(node.count(|core| core.counters().match_hits) > 0);
}

/// What comes together goes to another core together, small, large, retained and with properties, QoS 0 and 1: as it
/// was published, and on each topic in order.
#[test]
fn messages_that_cross_together_stay_as_they_are() {
    let node = Node::new(2);
    let mut subscriber = node.connect_at(1, Version::V5, "subscriber");
    subscriber.subscribe("t/#", QoS::AtLeastOnce);
    let mut publisher = node.connect_at(0, Version::V5, "publisher");
    let payloads: Vec<Vec<u8>> = (0..60).map(|number| vec![number; usize::from(number) * 100]).collect();
    for round in 0..3 {
        let mut bytes = Vec::new();
        for (number, payload) in (0..60_u16).zip(&payloads) {
            let qos = if round == 2 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            let publish = PublishOut {
                topic: if number % 3 == 0 { "t/a" } else { "t/ö" },
                qos,
                retain: number % 7 == 6,
                packet_id: (round == 2).then(|| id(number + 1)),
                message_expiry: (number % 5 == 0).then_some(60),
                payload,
                ..PublishOut::default()
            };
            bytes.extend(publish_packet(Version::V5, &publish));
        }
        publisher.send(&bytes);
        let got = subscriber.drain();
        assert_eq!(got.len(), 60);
        for topic in ["t/a", "t/ö"] {
            let sent = (0..60_u16).filter(|number| (number % 3 == 0) == (topic == "t/a"));
            for (number, publish) in sent.zip(got.iter().filter(|publish| publish.topic == topic)) {
                assert_eq!(publish.payload, payloads[usize::from(number)], "round {round}");
                assert_eq!(publish.properties.message_expiry, (number % 5 == 0).then_some(60));
            }
        }
    }
    assert!(node.count(|core| core.counters().messages_crossed) >= 180);
}

/// SUBACK waits for every core that has the topic cached, and nothing else waits for it.
#[test]
fn suback_waits_for_holders() {
    let node = Node::new(2);
    let mut publisher = node.connect_at(1, Version::V311, "publisher");
    let mut client = node.connect_at(0, Version::V5, "client");
    for _ in 0..3 {
        publisher.publish("t", QoS::AtMostOnce, "cached");
    }
    node.hold_mail(0, 1);
    node.hold_mail(1, 0);
    client.send(&subscribe_packet(Version::V5, 5, "t", QoS::AtLeastOnce));
    client.ping();
    client.expect_nothing();
    node.release_mail();
    client.expect_suback(5);
    publisher.publish_fully("t", QoS::AtLeastOnce, "x");
    assert_eq!(client.drain_payloads(), ["x"]);
}

/// A look-up under way when a subscription comes in the same turn, at the core that hosts the route, does not go on
/// with what it was told before: publishes after SUBACK that join it reach the subscriber.
#[test]
fn a_look_up_under_way_learns_of_a_subscription() {
    for number in 0..40 {
        let node = Node::new(2);
        node.take_whole_turns();
        let mut publisher = node.connect_at(0, Version::V311, "publisher");
        let mut client = node.connect_at_with(0, "client", |client_id| lasting(Version::V311, client_id));
        let topic = format!("{number}/topic");
        node.hold_mail(1, 0);
        let publish = PublishOut {
            topic: &topic,
            qos: QoS::AtLeastOnce,
            packet_id: Some(id(1)),
            payload: b"before",
            ..PublishOut::default()
        };
        publisher.push(&publish_packet(Version::V311, &publish));
        // The one stands where the first levels say, the other where early wildcards do.
        let filter = if number % 2 == 0 { &topic } else { "+/topic" };
        client.push(&subscribe_packet(Version::V311, 1, filter, QoS::AtLeastOnce));
        node.run();
        let granted = matches!(client.packets()[..], [Packet::SubAck(_)]);
        publisher.publish(&topic, QoS::AtLeastOnce, "after");
        node.release_mail();
        publisher.publish(&topic, QoS::AtLeastOnce, "last");
        let said = client.packets();
        let said: Vec<&[u8]> = said
            .iter()
            .filter_map(|packet| match packet {
                Packet::Publish(publish) => Some(publish.payload),
                _ => None,
            })
            .collect();
        assert!(said.contains(&&b"last"[..]), "{topic}: {said:?}");
        assert!(!granted || said.contains(&&b"after"[..]), "{topic}: {said:?}");
    }
}

/// Numbers from a seed (Knuth's MMIX generator).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % bound as u64).expect("below bound")
    }
}

/// Subscribing and unsubscribing at random on all cores, with mailboxes that stay shut at random: who was granted a
/// filter before a publish began gets it once, who had given it up before gets it not at all.
#[test]
fn churn_of_subscriptions() {
    for seed in 0..12 {
        churn(seed);
    }
}

/// How one subscriber stands towards one topic.
#[derive(Clone, Copy, PartialEq)]
enum Stands {
    Out,
    Joining(u16),
    In,
    Leaving(u16),
}

fn churn(seed: u64) {
    let mut chance = Chance(seed);
    let node = Node::new(CORES);
    let mut publishers = publishers(&node);
    let mut subscribers: Vec<Client> =
        (0..8).map(|number| subscriber(&node, number as u16 % CORES, number)).collect();
    let topics = ["a", "b/c", "b/d", "e/f/g"];
    let mut stands = vec![[Stands::Out; 4]; subscribers.len()];
    let mut must: Vec<BTreeSet<(usize, String)>> = vec![BTreeSet::new(); subscribers.len()];
    let mut must_not = must.clone();
    let mut got: Vec<Vec<String>> = vec![Vec::new(); subscribers.len()];
    for step in 0..600 {
        if chance.below(4) == 0 {
            node.hold_mail(chance.below(4) as u16, chance.below(4) as u16);
        }
        if chance.below(6) == 0 {
            node.release_mail();
        }
        let who = chance.below(subscribers.len());
        let topic = chance.below(topics.len());
        if chance.below(3) == 0 {
            match stands[who][topic] {
                Stands::Out => {
                    let filter =
                        SubscribeFilter { filter: topics[topic], options: options(QoS::AtLeastOnce) };
                    stands[who][topic] = Stands::Joining(subscribers[who].send_subscribe(&[filter], None));
                    // What is on its way may find the new subscription.
                    must_not[who].retain(|(other, said)| *other != topic || got[who].contains(said));
                }
                Stands::In => {
                    let packet_id = subscribers[who].send_unsubscribe(&[topics[topic]]);
                    stands[who][topic] = Stands::Leaving(packet_id);
                    // What is on its way may come or not.
                    must[who].retain(|(other, said)| *other != topic || got[who].contains(said));
                }
                Stands::Joining(_) | Stands::Leaving(_) => {}
            }
        } else {
            for at in 0..subscribers.len() {
                look(&mut subscribers[at], &mut stands[at], &mut got[at]);
                match stands[at][topic] {
                    Stands::In => must[at].insert((topic, step.to_string())),
                    Stands::Out => must_not[at].insert((topic, step.to_string())),
                    Stands::Joining(_) | Stands::Leaving(_) => false,
                };
            }
            let publisher = &mut publishers[chance.below(4)];
            publisher.publish(topics[topic], QoS::AtLeastOnce, &step.to_string());
        }
        for at in 0..subscribers.len() {
            look(&mut subscribers[at], &mut stands[at], &mut got[at]);
        }
    }
    node.release_mail();
    for at in 0..subscribers.len() {
        look(&mut subscribers[at], &mut stands[at], &mut got[at]);
        let once: BTreeSet<String> = got[at].iter().cloned().collect();
        assert_eq!(once.len(), got[at].len(), "seed {seed}: delivered twice");
        let missing: Vec<_> = must[at].iter().filter(|(_, said)| !once.contains(said)).collect();
        assert!(missing.is_empty(), "seed {seed}, {at}: lost {missing:?}");
        let after: Vec<_> = must_not[at].iter().filter(|(_, said)| once.contains(said)).collect();
        assert!(after.is_empty(), "seed {seed}, {at}: after UNSUBACK {after:?}");
    }
    assert!(must.iter().map(BTreeSet::len).sum::<usize>() > 100);
}

/// Takes what has come to a subscriber.
fn look(subscriber: &mut Client, stands: &mut [Stands; 4], got: &mut Vec<String>) {
    for packet in subscriber.packets() {
        match packet {
            Packet::Publish(publish) => {
                got.push(String::from_utf8_lossy(publish.payload).into_owned());
                subscriber.acknowledge(&publish);
            }
            Packet::SubAck(ack) => {
                let joining = |stands: &&mut Stands| **stands == Stands::Joining(ack.packet_id.get());
                *stands.iter_mut().find(joining).expect("asked for") = Stands::In;
            }
            Packet::UnsubAck(ack) => {
                let leaving = |stands: &&mut Stands| **stands == Stands::Leaving(ack.packet_id.get());
                *stands.iter_mut().find(leaving).expect("asked for") = Stands::Out;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Retained messages of all cores reach a new subscriber once each, and a publisher's wait for another core's range
/// ends with its PUBACK.
#[test]
fn retained_messages_of_all_cores() {
    let node = Node::new(CORES);
    let mut publishers = publishers(&node);
    for number in 0..200 {
        publishers[number % 4].retain(&format!("kept/{number}"), QoS::AtLeastOnce, &number.to_string());
    }
    for core in 0..CORES {
        let mut subscriber = subscriber(&node, core, 1);
        subscriber.subscribe("kept/+", QoS::AtLeastOnce);
        let mut said: Vec<u32> =
            subscriber.drain_payloads().iter().map(|payload| payload.parse().expect("a number")).collect();
        said.sort_unstable();
        assert_eq!(said, (0..200).collect::<Vec<u32>>());
    }
}

/// A session that ends while messages are on their way to it: they are counted, and its routes go.
#[test]
fn messages_for_a_session_that_is_gone() {
    let node = Node::new(2);
    let mut client = node.connect_at_with(1, "client", |client_id| lasting(Version::V5, client_id));
    client.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect_at(0, Version::V311, "publisher");
    publisher.publish_fully("t", QoS::AtLeastOnce, "x");
    client.drain();
    node.hold_mail(0, 1);
    for number in numbers(0..3) {
        publisher.publish("t", QoS::AtLeastOnce, &number);
    }
    let mut expiry = mqtt::Disconnect::new(mqtt::ReasonCode::SUCCESS);
    expiry.session_expiry = Some(0);
    client.disconnect_with(&expiry);
    node.release_mail();
    assert_eq!(publisher.packets().len(), 3, "acknowledged all the same");
    assert_eq!(node.dropped(DropReason::UnknownSession), 3);
    publisher.publish_fully("t", QoS::AtLeastOnce, "x");
    assert_eq!(node.dropped(DropReason::UnknownSession), 3);
}
