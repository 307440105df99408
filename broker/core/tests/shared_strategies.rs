//! How a shared subscription picks its member: each strategy, and `$oshare`.

mod host;

use std::collections::BTreeMap;
use std::time::Duration;

use broker_core::config::{Settings, SharedStrategy};
use host::exchange::numbers;
use host::{Client, Node};
use mqtt::{QoS, Version};

const CORES: u16 = 3;

/// A node and four members of a group, spread over its cores.
fn group(strategy: SharedStrategy, filter: &str) -> (Node, Vec<Client>) {
    group_with(Settings { shared_strategy: strategy, ..Settings::default() }, filter, CORES)
}

fn group_with(settings: Settings, filter: &str, cores: u16) -> (Node, Vec<Client>) {
    let node = Node::of_settings_and_cores(settings, cores);
    let members = (0..4)
        .map(|number| {
            let mut member = node.connect_at(number % cores, Version::V5, &format!("member-{number}"));
            member.subscribe(filter, QoS::AtLeastOnce);
            member
        })
        .collect();
    (node, members)
}

/// How many messages each member takes.
fn shares(members: &mut [Client]) -> Vec<usize> {
    members.iter_mut().map(|member| member.drain().len()).collect()
}

fn publish(publisher: &mut Client, topic: &str, count: u32) {
    for number in numbers(0..count) {
        publisher.publish_fully(topic, QoS::AtLeastOnce, &number);
    }
}

/// Round robin: every member in turn, from each core.
#[test]
fn round_robin() {
    let (node, mut members) = group(SharedStrategy::RoundRobin, "$share/g/#");
    for core in 0..CORES {
        let mut publisher = node.connect_at(core, Version::V311, "publisher");
        publish(&mut publisher, "t", 40);
        assert_eq!(shares(&mut members), [10; 4]);
    }
}

/// Random: every member has about its part, and the same seed the same ones.
#[test]
fn random() {
    let run = || {
        let (node, mut members) = group(SharedStrategy::Random, "$share/g/#");
        let mut publisher = node.connect_at(1, Version::V311, "publisher");
        publish(&mut publisher, "t", 400);
        shares(&mut members)
    };
    let shares = run();
    assert!(shares.iter().all(|share| (60..140).contains(share)), "{shares:?}");
    assert_eq!(shares, run());
}

/// Sticky: a publisher's messages to one member, others' perhaps to others, until that member leaves.
#[test]
fn sticky() {
    let (node, mut members) = group(SharedStrategy::Sticky, "$share/g/#");
    let mut used = [0; 4];
    for number in 0..12 {
        let mut publisher = node.connect(Version::V311, &format!("publisher-{number}"));
        publish(&mut publisher, "a", 5);
        publish(&mut publisher, "b", 5);
        let shares = shares(&mut members);
        let member = shares.iter().position(|share| *share == 10).expect("one has them all");
        used[member] += 1;
        if number == 0 {
            members[member].drop_socket();
            publish(&mut publisher, "a", 10);
            let after: Vec<usize> = self::shares(&mut members);
            assert!(after.contains(&10), "{after:?}");
        }
    }
    assert!(used.iter().filter(|count| **count > 0).count() > 1, "{used:?}");
}

/// Hash of the client: the same member for a publisher's every connection and topic, whatever the core.
#[test]
fn hash_of_client() {
    let (node, mut members) = group(SharedStrategy::HashClient, "$share/g/#");
    let mut used = BTreeMap::new();
    for number in 0..20 {
        let name = format!("publisher-{number}");
        let mut seen = Vec::new();
        for topic in ["a", "b", "c/d"] {
            let mut publisher = node.connect(Version::V311, &name);
            publish(&mut publisher, topic, 2);
            seen.push(shares(&mut members).iter().position(|share| *share == 2).expect("one has both"));
        }
        assert!(seen.iter().all(|member| *member == seen[0]), "{seen:?}");
        *used.entry(seen[0]).or_insert(0) += 1;
    }
    assert!(used.len() > 2, "{used:?}");
}

/// Hash of the topic: the same member for a topic's every message, whoever publishes.
#[test]
fn hash_of_topic() {
    let (node, mut members) = group(SharedStrategy::HashTopic, "$share/g/#");
    let mut publishers: Vec<Client> =
        (0..CORES).map(|core| node.connect_at(core, Version::V311, "publisher")).collect();
    let mut used = BTreeMap::new();
    for topic in numbers(0..20) {
        for publisher in &mut publishers {
            publish(publisher, &topic, 2);
        }
        let member = shares(&mut members).iter().position(|share| *share == 6).expect("one has them all");
        *used.entry(member).or_insert(0) += 1;
    }
    assert!(used.len() > 2, "{used:?}");
}

/// Least in flight: members that acknowledge get the messages, one that does not gets few.
#[test]
fn least_in_flight() {
    let settings = Settings { shared_strategy: SharedStrategy::LeastInflight, ..Settings::default() };
    let (node, mut members) = group_with(settings, "$share/g/#", 1);
    let mut publisher = node.connect(Version::V311, "publisher");
    for _ in 0..100 {
        publish(&mut publisher, "t", 1);
        for member in &mut members[1..] {
            member.drain();
        }
    }
    let stuck = members[0].drain().len();
    assert!(stuck <= 8, "{stuck} of 100 to the one that is stuck");
}

/// `$oshare`: one publisher's messages go to one member by whatever strategy, in order, though that member is slow
/// and others are free; several publishers use several members.
#[test]
fn ordered_groups() {
    for strategy in [SharedStrategy::RoundRobin, SharedStrategy::Random, SharedStrategy::LeastInflight] {
        let settings = Settings { shared_strategy: strategy, shared_queue_max: 3, ..Settings::default() };
        let (node, mut members) = group_with(settings, "$oshare/g/#", CORES);
        let mut used = BTreeMap::new();
        for number in 0..12 {
            let mut publisher = node.connect(Version::V311, &format!("publisher-{number}"));
            for payload in numbers(0..20) {
                publisher.publish_fully("t", QoS::AtLeastOnce, &payload);
                node.advance(Duration::from_millis(20));
            }
            let said: Vec<Vec<String>> = members.iter_mut().map(Client::drain_payloads).collect();
            let member = said.iter().position(|said| !said.is_empty()).expect("somebody");
            assert_eq!(said[member], numbers(0..20), "{strategy:?}");
            assert_eq!(said.iter().flatten().count(), 20);
            *used.entry(member).or_insert(0) += 1;
        }
        assert!(used.len() > 1, "{used:?}");
    }
}

/// `$oshare` with a member that leaves: its publishers move, those of the others stay.
#[test]
fn ordered_groups_and_leaving_members() {
    let (node, mut members) = group(SharedStrategy::RoundRobin, "$oshare/g/#");
    let mut publishers: Vec<Client> =
        (0..20).map(|number| node.connect(Version::V311, &format!("publisher-{number}"))).collect();
    let mut before = Vec::new();
    for publisher in &mut publishers {
        publish(publisher, "t", 2);
        before.push(shares(&mut members).iter().position(|share| *share == 2).expect("one has both"));
    }
    let gone = before[0];
    members[gone].drop_socket();
    for (publisher, before) in publishers.iter_mut().zip(before) {
        publish(publisher, "t", 2);
        let after = shares(&mut members).iter().position(|share| *share == 2).expect("one has both");
        assert!(after != gone && (before == gone || before == after));
    }
}

/// A group that all members left is no more. What takes its place where the routes are, and the group itself when it is
/// made again, go around from the first member on; one that stayed goes on where it was, and nobody who left gets
/// anything, though each topic was in the cache of each publisher's core.
#[test]
fn a_group_that_is_made_again_begins_anew() {
    for cores in [1, CORES] {
        let node = Node::of_settings_and_cores(Settings::default(), cores);
        let pair = |name: &str| -> Vec<Client> {
            let prefixes = [format!("{name}-1"), format!("{name}-2")];
            (0..)
                .zip(prefixes)
                .map(|(at, prefix)| node.connect_at(at % cores, Version::V5, &prefix))
                .collect()
        };
        let subscribe = |members: &mut [Client], filter: &str| {
            members.iter_mut().for_each(|member| member.subscribe(filter, QoS::AtLeastOnce));
        };
        let unsubscribe = |members: &mut [Client], filter: &str| {
            members.iter_mut().for_each(|member| assert_eq!(member.unsubscribe(filter).reasons.len(), 1));
        };
        let mut publishers: Vec<_> =
            (0..cores).map(|core| node.connect_at(core, Version::V311, "publisher")).collect();
        let mut publish = |topic: &str, count: u32| {
            publishers.iter_mut().for_each(|publisher| publish(publisher, topic, count));
        };
        let all = usize::from(cores);
        let (mut left, mut stays, mut new) = (pair("left"), pair("stays"), pair("new"));
        subscribe(&mut left, "$share/g/a/1");
        subscribe(&mut stays, "$share/g/a/2");
        publish("a/1", 3);
        publish("a/2", 3);
        assert_eq!((shares(&mut left), shares(&mut stays)), (vec![2 * all, all], vec![2 * all, all]));
        for _ in 0..3 {
            unsubscribe(&mut left, "$share/g/a/1");
            subscribe(&mut new, "$share/g/a/3");
            publish("a/3", 1);
            assert_eq!(shares(&mut new), [all, 0]);
            subscribe(&mut left, "$share/g/a/1");
            publish("a/1", 3);
            publish("a/2", 2);
            assert_eq!((shares(&mut left), shares(&mut stays)), (vec![2 * all, all], vec![all, all]));
            unsubscribe(&mut new, "$share/g/a/3");
            publish("a/3", 1);
            assert_eq!((shares(&mut new), shares(&mut left)), (vec![0, 0], vec![0, 0]));
        }
    }
}
