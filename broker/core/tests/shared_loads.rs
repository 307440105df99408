//! Shared subscriptions by load (`SharedStrategy::LeastInflight`), with members on several cores.

mod host;

use std::sync::Arc;

use broker_core::config::{Config, Settings, SharedStrategy};
use host::exchange::numbers;
use host::{Client, Node};
use mqtt::{QoS, ReasonCode, Version};

const CORES: u16 = 3;

fn by_load() -> Settings {
    Settings { shared_strategy: SharedStrategy::LeastInflight, ..Settings::default() }
}

/// A member of `$share/g/t` at home on each core.
fn members(node: &Node) -> Vec<Client> {
    (0..CORES)
        .map(|core| {
            let mut member = node.connect_at(core, Version::V5, &format!("member-{core}"));
            member.subscribe("$share/g/t", QoS::AtLeastOnce);
            member
        })
        .collect()
}

/// A member on another core that acknowledges nothing counted as one without load, and got every message: from
/// each core, whichever member is stuck, it gets no more than it has to have before it is known as loaded.
#[test]
fn a_member_elsewhere_is_not_without_load() {
    for stuck in 0..usize::from(CORES) {
        let node = Node::of_settings_and_cores(by_load(), CORES);
        let mut members = members(&node);
        for core in 0..CORES {
            let mut publisher = node.connect_at(core, Version::V311, "publisher");
            for number in numbers(0..50) {
                publisher.publish_fully("t", QoS::AtLeastOnce, &number);
                for (_, member) in members.iter_mut().enumerate().filter(|(index, _)| *index != stuck) {
                    member.drain();
                }
            }
        }
        let left = members[stuck].drain().len();
        assert!(left <= 3, "{left} of 150 to the one that is stuck, at home on {stuck}");
    }
}

/// What was sent to a member and not seen by its home yet counts as its load: while the mailbox is not looked into,
/// no more than a fair share goes there.
#[test]
fn what_is_on_its_way_counts() {
    let node = Node::of_settings_and_cores(by_load(), CORES);
    let mut members = members(&node);
    let mut publisher = node.connect_at(0, Version::V311, "publisher");
    for to in 1..CORES {
        node.hold_mail(0, to);
    }
    for number in numbers(0..30) {
        publisher.publish("t", QoS::AtLeastOnce, &number);
    }
    node.release_mail();
    let shares: Vec<usize> = members.iter_mut().map(|member| member.drain().len()).collect();
    assert_eq!(shares, [10; 3]);
}

/// Once a member has acknowledged what it had, its home says so, and it has its share again.
#[test]
fn an_acknowledged_message_is_no_load_any_more() {
    let node = Node::of_settings_and_cores(by_load(), CORES);
    let mut members = members(&node);
    let mut publisher = node.connect_at(0, Version::V311, "publisher");
    for round in 0..3 {
        for number in numbers(0..30) {
            publisher.publish_fully("t", QoS::AtLeastOnce, &number);
        }
        let shares: Vec<usize> = members.iter_mut().map(|member| member.drain().len()).collect();
        assert_eq!(shares, [10; 3], "round {round}");
    }
}

/// Messages from other cores and other subscriptions are load like any.
#[test]
fn load_is_the_whole_queue() {
    let node = Node::of_settings_and_cores(by_load(), CORES);
    let mut members = members(&node);
    let mut here = node.connect_at(0, Version::V311, "here");
    let mut there = node.connect_at(2, Version::V311, "there");
    here.publish_fully("t", QoS::AtLeastOnce, "1"); // now core 0 watches some of them
    here.publish_fully("t", QoS::AtLeastOnce, "2");
    here.publish_fully("t", QoS::AtLeastOnce, "3");
    members.iter_mut().for_each(|member| assert_eq!(member.drain().len(), 1));
    members[1].subscribe("own", QoS::AtLeastOnce);
    for number in numbers(0..8) {
        there.publish_fully("own", QoS::AtLeastOnce, &number);
    }
    for number in numbers(0..10) {
        here.publish_fully("t", QoS::AtLeastOnce, &number);
    }
    // One message to member 1, perhaps, before its home tells of the eight.
    let shared = members[1].drain().iter().filter(|publish| publish.topic == "t").count();
    assert!(shared <= 1, "{shared} of 10 to the one that had 8 before it");
}

/// A member that left as a message was on its way: the message goes to another, once, and no core remembers the
/// member's load, also after several of its kind.
#[test]
fn members_that_leave_meanwhile() {
    let config = Config { cores: CORES, settings: Arc::new(by_load()), ..Config::default() };
    let node = Node::with(config);
    let mut members = members(&node);
    let mut publisher = node.connect_at(0, Version::V311, "publisher");
    for number in numbers(0..30) {
        publisher.publish_fully("t", QoS::AtLeastOnce, &number);
    }
    let mut said: Vec<String> = members[0].drain_payloads();
    node.hold_mail(0, 1);
    for number in numbers(30..60) {
        publisher.publish("t", QoS::AtLeastOnce, &number);
    }
    let mut leaving = members.remove(1);
    said.extend(leaving.drain_payloads());
    leaving.disconnect(ReasonCode::SUCCESS);
    node.release_mail();
    for member in &mut members {
        said.extend(member.drain_payloads());
    }
    said.sort_by_key(|payload| payload.parse::<u32>().expect("a number"));
    assert_eq!(said, numbers(0..60));
    assert_eq!(node.watched_members(), 1, "of the two that are left, one is on another core");
}
