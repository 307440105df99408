//! Topics that very many filters match: finding out who wants them is spread over turns, on all cores concerned.

mod host;

use broker_core::config::Config;
use host::exchange::{lasting, numbers, options};
use host::packets::{id, publish_packet};
use host::{Client, Node};
use mqtt::encode::{self, PublishOut, SubscribeOut, UnsubscribeOut};
use mqtt::{Packet, QoS, SubscribeFilter, UserProperties, Version};

/// Deliveries a turn: a message to all the filters and a few matches.
const TURN: u32 = 20;
/// Levels below the root at which the filters have "+" or "a", each mix once.
const LEVELS: u32 = 4;
/// Topics that are published on at once.
const TOPICS: u32 = 60;

fn node() -> Node {
    let node = Node::with(Config { cores: 2, turn_deliveries_max: TURN, ..Config::default() });
    node.take_whole_turns();
    node
}

/// Subscribes to every mix.
fn subscribe_mixes(client: &mut Client, root: &str) {
    let filter = |mix: u32| {
        let levels: Vec<_> = (0..LEVELS).map(|bit| if mix >> bit & 1 == 1 { "+" } else { "a" }).collect();
        format!("{root}/b/{}/#", levels.join("/"))
    };
    let filters: Vec<String> = (0..1 << LEVELS).map(filter).collect();
    let filters: Vec<_> =
        filters.iter().map(|filter| SubscribeFilter { filter, options: options(QoS::AtLeastOnce) }).collect();
    client.subscribe_all(&filters, None);
}

fn topic(root: &str, number: u32) -> String {
    format!("{root}/b/{}/{number}", ["a"; LEVELS as usize].join("/"))
}

fn publish(topic: &str, payload: &str) -> Vec<u8> {
    let publish = PublishOut { topic, payload: payload.as_bytes(), ..PublishOut::default() };
    publish_packet(Version::V311, &publish)
}

/// A subscriber to all mixes, at home on a core, of a kind of session.
fn subscriber(node: &Node, core: u16, lasts: bool, root: &str) -> Client {
    let mut client = match lasts {
        true => node.connect_at_with(core, "subscriber", |client_id| lasting(Version::V5, client_id)),
        false => node.connect_at(core, Version::V5, "subscriber"),
    };
    subscribe_mixes(&mut client, root);
    client
}

/// 200 publishes on new topics that 8 000 filters match made one turn of the core that has the routes, and one of the
/// core that asked: now a part of them in each, and others are served meanwhile.
#[test]
fn a_flood_of_new_topics_is_matched_bit_by_bit() {
    for (core, lasts) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut floods = 0;
        for root in ["r0", "r1", "r2", "r3", "r4", "r5"] {
            let node = node();
            let mut subscriber = subscriber(&node, core, lasts, root);
            let mut publisher = node.connect_at(0, Version::V311, "publisher");
            node.hold_mail(0, 1);
            for number in 0..TOPICS {
                publisher.push(&publish(&topic(root, number), &number.to_string()));
            }
            node.run();
            if node.requests() < TOPICS as usize {
                continue; // the routes are where they are asked for
            }
            floods += 1;
            node.open_mail();
            let mut most = 0;
            while node.requests() > 0 {
                let before = node.requests();
                node.run_once();
                most = most.max(before - node.requests());
            }
            // Two budgets a turn, and a match costs the places it visits and the routes it finds, eight to a delivery.
            let budget = 2 * (TURN as usize / (1 + (2 << LEVELS) / 8) + 1);
            assert!(most <= budget, "{most} in one round, not {budget}");
            node.run();
            assert_eq!(subscriber.drain().len(), (TOPICS << LEVELS) as usize);
        }
        assert!(floods > 0, "some roots have their routes on the other core");
    }
}

/// What is no match goes on while matches wait, and what is published on known topics.
#[test]
fn others_are_served_while_matches_wait() {
    let node = node();
    let mut flooded = subscriber(&node, 1, false, "r0");
    let mut other = node.connect_at(1, Version::V5, "other");
    other.subscribe("few", QoS::AtMostOnce);
    let mut publishers = ["flood", "calm"].map(|name| node.connect_at(0, Version::V311, name));
    for _ in 0..2 {
        publishers[1].push(&publish("few", "known"));
        node.run();
    }
    assert_eq!(other.payloads(), ["known", "known"]);
    for number in 0..200 {
        publishers[0].push(&publish(&topic("r0", number), "flood"));
    }
    for _ in 0..10 {
        node.run_once();
    }
    publishers[1].push(&publish("few", "meanwhile"));
    for _ in 0..4 {
        node.run_once();
    }
    assert_eq!(other.payloads(), ["meanwhile"]);
    assert!(node.requests() > 100, "{} wait", node.requests());
    node.run();
    assert_eq!(flooded.drain().len(), 200 << LEVELS);
}

/// Messages that wait for one look-up are more than a turn takes: they stay in order, and so do those that come while
/// some of them wait.
#[test]
fn what_waits_for_a_look_up_stays_in_order() {
    for (root, lasts) in
        [("r0", false), ("r1", false), ("r2", false), ("r0", true), ("r1", true), ("r2", true)]
    {
        let node = node();
        let mut subscribers = ["one", "two", "three"].map(|name| {
            let mut subscriber = match lasts {
                true => node.connect_at_with(1, name, |client_id| lasting(Version::V5, client_id)),
                false => node.connect_at(1, Version::V5, name),
            };
            subscriber.subscribe(&format!("{root}/b/#"), QoS::AtLeastOnce);
            subscriber
        });
        let mut publisher = node.connect_at(0, Version::V311, "publisher");
        let push = |publisher: &mut Client, numbers_of: std::ops::Range<u32>| {
            for number in numbers_of {
                let payload = number.to_string();
                let packet_id = mqtt::PacketId::new(u16::try_from(number + 1).expect("few"));
                let (topic, payload) = (topic(root, 1), payload.as_bytes());
                let publish = PublishOut {
                    topic: &topic,
                    qos: QoS::AtLeastOnce,
                    packet_id,
                    payload,
                    ..PublishOut::default()
                };
                publisher.push(&publish_packet(Version::V311, &publish));
            }
        };
        node.hold_mail(1, 0);
        push(&mut publisher, 0..200);
        for _ in 0..20 {
            node.run_once();
        }
        push(&mut publisher, 200..300);
        node.release_mail();
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.drain_payloads(), numbers(0..300), "{root} {lasts}");
        }
        assert_eq!(publisher.packets().len(), 300, "acknowledged");
        assert_eq!(node.requests(), 0);
    }
}

/// A subscription that is acknowledged while messages wait for their match gets what is published then, once, and so
/// do the others; one that has ended gets nothing behind its UNSUBACK (promise 2, [MQTT-3.10.4-2]).
#[test]
fn routes_change_while_messages_wait() {
    for (root, lasts) in [("r0", false), ("r1", false), ("r0", true), ("r1", true)] {
        for rounds in 0..12 {
            let node = node();
            let mut steady = subscriber(&node, 0, lasts, root);
            let [mut leaving, mut coming] = ["leaving", "coming"]
                .map(|name| node.connect_at_with(1, name, |client_id| lasting(Version::V5, client_id)));
            let filter = format!("{root}/b/#");
            leaving.subscribe(&filter, QoS::AtLeastOnce);
            let mut publisher = node.connect_at(0, Version::V311, "publisher");
            for number in 0..40 {
                publisher.push(&publish(&topic(root, number / 20), &number.to_string()));
            }
            for _ in 0..rounds {
                node.run_once();
            }
            coming.push(&subscribe_packet(&filter));
            leaving.push(&unsubscribe_packet(&filter));
            let (mut suback, mut unsuback) = (false, false);
            let mut came = Vec::new();
            while !(suback && unsuback) {
                node.run_once();
                for packet in coming.packets() {
                    match packet {
                        Packet::SubAck(_) => suback = true,
                        Packet::Publish(publish) => came.push(publish.payload.to_vec()),
                        other => panic!("{other:?}"),
                    }
                }
                for packet in leaving.packets() {
                    assert!(!unsuback, "{packet:?} behind UNSUBACK");
                    unsuback = matches!(packet, Packet::UnsubAck(_));
                }
            }
            publisher.push(&publish(&topic(root, 1), "last"));
            node.run();
            leaving.expect_silence();
            came.extend(coming.drain_payloads().into_iter().map(String::into_bytes));
            assert_eq!(came.iter().filter(|payload| *payload == b"last").count(), 1, "{root} {rounds}");
            assert_eq!(steady.drain().len(), 41 << LEVELS, "{root} {rounds}");
        }
    }
}

/// What an UNSUBSCRIBE of one filter looks like.
fn unsubscribe_packet(filter: &str) -> Vec<u8> {
    let unsubscribe =
        UnsubscribeOut { packet_id: id(8), user_properties: UserProperties::default(), filters: &[filter] };
    let mut bytes = Vec::new();
    encode::unsubscribe(&mut bytes, Version::V5, &unsubscribe);
    bytes
}

/// The same of a SUBSCRIBE.
fn subscribe_packet(filter: &str) -> Vec<u8> {
    let filters = &[SubscribeFilter { filter, options: options(QoS::AtLeastOnce) }];
    let (subscription_id, user_properties) = (None, UserProperties::default());
    let subscribe = SubscribeOut { packet_id: id(7), subscription_id, user_properties, filters };
    let mut bytes = Vec::new();
    encode::subscribe(&mut bytes, Version::V5, &subscribe);
    bytes
}
