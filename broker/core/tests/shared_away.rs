//! Shared subscriptions whose members are all away: one rule for what waits and what is dropped.

mod host;

use broker_core::config::{Settings, SharedStrategy};
use broker_core::counters::DropReason;
use host::exchange::{lasting, numbers};
use host::{Client, Node};
use mqtt::{QoS, Version};

/// Members of `filter` at home on each core, whose sessions last and who are away; their client ids.
fn away(node: &Node, cores: u16, filter: &str, qos: &[QoS]) -> Vec<String> {
    let mut members: Vec<(Client, u16)> = Vec::new();
    for (number, qos) in qos.iter().enumerate() {
        let core = u16::try_from(number).expect("few") % cores;
        let prefix = format!("away-{number}");
        let mut member = node.connect_at_with(core, &prefix, |client_id| lasting(Version::V5, client_id));
        member.subscribe(filter, *qos);
        members.push((member, core));
    }
    let names = members.iter().map(|(member, _)| member.client_id.clone()).collect();
    members.into_iter().for_each(|(mut member, _)| member.drop_socket());
    names
}

/// What the members find when they are back.
fn shares(node: &Node, names: &[String]) -> Vec<Vec<String>> {
    names.iter().map(|name| node.connect_with(&lasting(Version::V5, name)).drain_payloads()).collect()
}

const KINDS: [&str; 2] = ["$share/g/t", "$oshare/g/t"];

/// QoS 0 to a group whose members are all away counted as `no_member`, whatever the setting: it is dropped as
/// `away` like QoS 0 to any session that is away, from each core, for both kinds of groups.
#[test]
fn qos0_is_dropped_as_away() {
    for cores in [1, 3] {
        for filter in KINDS {
            let node = Node::new(cores);
            let names = away(&node, cores, filter, &[QoS::AtLeastOnce; 3]);
            for core in 0..cores {
                let mut publisher = node.connect_at(core, Version::V311, "publisher");
                publisher.publish("t", QoS::AtMostOnce, "x");
            }
            let reasons = [DropReason::Away, DropReason::NoMember].map(|reason| node.dropped(reason));
            assert_eq!(reasons, [u64::from(cores), 0], "{filter} on {cores}");
            assert!(shares(&node, &names).iter().all(Vec::is_empty));
        }
    }
}

/// The same for a QoS 1 message to members that subscribe with QoS 0: it is theirs that counts.
#[test]
fn the_members_qos_counts() {
    for cores in [1, 3] {
        let node = Node::new(cores);
        away(&node, cores, "$share/g/t", &[QoS::AtMostOnce; 3]);
        node.connect(Version::V311, "publisher").publish_fully("t", QoS::AtLeastOnce, "x");
        let reasons = [DropReason::Away, DropReason::NoMember].map(|reason| node.dropped(reason));
        assert_eq!(reasons, [1, 0]);
    }
}

/// Where the tenant asks for it, QoS 0 waits for a member that is away, and was dropped all the same: every message
/// with one member, by the strategy.
#[test]
fn qos0_waits_where_the_setting_asks_for_it() {
    for cores in [1, 3] {
        for filter in KINDS {
            let settings = Settings { queue_qos0: true, ..Settings::default() };
            let node = Node::of_settings_and_cores(settings, cores);
            let names = away(&node, cores, filter, &[QoS::AtLeastOnce; 3]);
            let mut publisher = node.connect_at(0, Version::V311, "publisher");
            for number in numbers(0..9) {
                publisher.publish("t", QoS::AtMostOnce, &number);
            }
            let shares = shares(&node, &names);
            let mut all: Vec<String> = shares.iter().flatten().cloned().collect();
            all.sort_unstable();
            assert_eq!(all, numbers(0..9), "{filter} on {cores}");
            let expected = if filter == KINDS[0] { 3 } else { 9 };
            assert!(shares.iter().all(|share| share.is_empty() || share.len() == expected));
            assert_eq!(DropReason::ALL.iter().map(|reason| node.dropped(*reason)).sum::<u64>(), 0);
        }
    }
}

/// QoS 1 and 2 wait with one member each, chosen by the strategy, though that member be on another core.
#[test]
fn qos_1_and_2_wait_by_the_strategy() {
    for (strategy, each) in [(SharedStrategy::RoundRobin, Some(4)), (SharedStrategy::HashClient, None)] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let settings = Settings { shared_strategy: strategy, ..Settings::default() };
            let node = Node::of_settings_and_cores(settings, 3);
            let names = away(&node, 3, "$share/g/t", &[QoS::ExactlyOnce; 3]);
            let mut publisher = node.connect_at(0, Version::V311, "publisher");
            for number in numbers(0..12) {
                publisher.publish_fully("t", qos, &number);
            }
            let shares: Vec<usize> = shares(&node, &names).iter().map(Vec::len).collect();
            match each {
                Some(each) => assert_eq!(shares, [each; 3]),
                None => assert!(shares.contains(&12), "{shares:?}"),
            }
        }
    }
}

/// A member that would have it with QoS 0, and so cannot while it is away, is passed over for one that can.
#[test]
fn a_member_that_can_have_it_goes_before() {
    for cores in [1, 3] {
        let node = Node::new(cores);
        let names = away(&node, cores, "$share/g/t", &[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtMostOnce]);
        let mut publisher = node.connect(Version::V311, "publisher");
        for number in numbers(0..6) {
            publisher.publish_fully("t", QoS::AtLeastOnce, &number);
        }
        assert_eq!(shares(&node, &names)[1], numbers(0..6));
        assert_eq!(DropReason::ALL.iter().map(|reason| node.dropped(*reason)).sum::<u64>(), 0);
    }
}

/// A member that is there takes QoS 0 though others are away, and nothing is counted.
#[test]
fn a_member_that_is_there_takes_it() {
    for cores in [1, 3] {
        let node = Node::new(cores);
        away(&node, cores, "$share/g/t", &[QoS::AtLeastOnce; 3]);
        let mut here = node.connect_at(cores - 1, Version::V5, "here");
        here.subscribe("$share/g/t", QoS::AtLeastOnce);
        let mut publisher = node.connect(Version::V311, "publisher");
        for number in numbers(0..6) {
            publisher.publish("t", QoS::AtMostOnce, &number);
        }
        assert_eq!(here.drain_payloads(), numbers(0..6));
        assert_eq!(node.dropped(DropReason::Away) + node.dropped(DropReason::NoMember), 0);
    }
}
