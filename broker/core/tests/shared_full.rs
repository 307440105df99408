//! Shared subscriptions whose members are all slow: messages wait, none is lost while queues have room.

mod host;

use std::sync::Arc;

use broker_core::config::{Config, Settings};
use broker_core::counters::DropReason;
use host::Node;
use host::exchange::numbers;
use mqtt::{QoS, Version};

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
