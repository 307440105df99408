//! Shared subscriptions whose members are all slow: messages wait, none is lost while queues have room.

mod host;

use std::sync::Arc;

use broker_core::config::{Config, Settings};
use broker_core::counters::DropReason;
use host::Node;
use host::exchange::numbers;
use mqtt::{PacketKind, QoS, Version};

/// Every member is full by `shared_queue_max`, on one core and on several: found by the load harness, which
/// lost what no member was free for.
#[test]
fn full_members_lose_nothing() {
    for cores in [1, 3] {
        let settings = Settings { shared_queue_max: 4, inflight_max: 2, ..Settings::default() };
        let node = Node::with(Config { cores, settings: Arc::new(settings), ..Config::default() });
        let mut members: Vec<_> =
            (0..3).map(|member| node.connect(Version::V311, &format!("member-{member}"))).collect();
        for member in &mut members {
            member.subscribe("$share/group/t", QoS::AtLeastOnce);
        }
        let mut publisher = node.connect(Version::V311, "publisher");
        for number in 0..100 {
            publisher.publish_fully("t", QoS::AtLeastOnce, &number.to_string());
            node.advance(std::time::Duration::from_millis(100)); // slowed publishers go on
        }
        let mut payloads = Vec::new();
        // One member's acknowledgement may free it for what waits elsewhere; go around until nothing comes.
        loop {
            let before = payloads.len();
            members.iter_mut().for_each(|member| payloads.extend(member.drain_payloads()));
            if payloads.len() == before {
                break;
            }
        }
        payloads.sort_by_key(|payload| payload.parse::<u32>().expect("a number"));
        assert_eq!(payloads, numbers(0..100), "{cores} cores");
        assert_eq!(node.dropped(DropReason::NoMember), 0);
    }
}

/// Members that all lag slow their group's publishers long before their queues are full: what waited was seconds old,
/// and no member got more for it. One that lags while another takes everything slows nobody.
#[test]
fn members_that_lag_filled_their_queues() {
    let settings = Settings { shared_queue_max: 64, inflight_max: 10, ..Settings::default() };
    let node = Node::of_settings(settings);
    let mut members: Vec<_> =
        (0..2).map(|member| node.connect(Version::V311, &format!("member-{member}"))).collect();
    for member in &mut members {
        member.subscribe("$share/group/t", QoS::AtLeastOnce);
    }
    let mut publisher = node.connect(Version::V311, "publisher");
    let slowed = || node.count(|core| core.counters().publishers_slowed);
    for number in 0..1500 {
        publisher.publish_fully("t", QoS::AtLeastOnce, &number.to_string());
        members[1].drain();
    }
    assert_eq!(slowed(), 0, "one takes what the other does not");
    let mut published = 0;
    while slowed() == 0 && published < 3000 {
        publisher.publish("t", QoS::AtLeastOnce, "x");
        publisher.packets();
        published += 1;
    }
    // Half of sixteen times 64 for each member.
    assert!((512..=2 * 512).contains(&published), "slowed after {published}");
    assert_eq!(node.dropped(DropReason::NoMember) + node.dropped(DropReason::QueueFull), 0);
}

/// A message that one member refused and another, slow one took slows its own publisher, and not the one whose
/// message comes next; QoS 0 has no answer to find its publisher by, and slowed nobody.
#[test]
fn tried_again_slows_only_its_own_publisher() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let settings =
            Settings { shared_queue_max: 2, queue_messages_max: 6, inflight_max: 1, ..Settings::default() };
        let node = Node::of_settings_and_cores(settings, 2);
        let mut member = node.connect_at(1, Version::V311, "member");
        member.subscribe("$share/group/t", QoS::AtLeastOnce);
        member.subscribe("other", QoS::AtMostOnce);
        let mut filler = node.connect_at(1, Version::V311, "filler");
        for number in numbers(0..3) {
            filler.publish_fully("t", QoS::AtLeastOnce, &number);
        }
        node.advance(std::time::Duration::from_millis(100));
        let slowed = node.count(|core| core.counters().publishers_slowed);
        let mut own = node.connect_at(0, Version::V311, "own");
        let mut unrelated = node.connect_at(1, Version::V311, "unrelated");
        own.publish("t", qos, "slow"); // refused at first, then forced
        assert_eq!(node.count(|core| core.counters().publishers_slowed), slowed + 1, "{qos:?}");
        for publisher in [&mut unrelated, &mut node.connect_at(0, Version::V311, "another")] {
            publisher.publish("other", QoS::AtLeastOnce, "x");
            publisher.publish("nobody", QoS::AtLeastOnce, "x");
            assert_eq!(publisher.packets().len(), 2, "read without delay");
        }
        assert_eq!(node.count(|core| core.counters().publishers_slowed), slowed + 1);
        let before = own.packets().len();
        own.publish("nobody", QoS::AtLeastOnce, "x");
        assert_eq!(own.packets().len(), 0, "read at the next tick");
        node.advance(std::time::Duration::from_millis(100));
        own.expect_ack(PacketKind::PubAck, if before == 0 { 1 } else { 2 });
    }
}
