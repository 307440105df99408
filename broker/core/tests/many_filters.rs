//! Sessions with very many filters: their beginning and their end are spread over turns.

mod host;

use broker_core::counters::DropReason;
use host::exchange::{lasting, numbers, options};
use host::{Client, Node};
use mqtt::{Disconnect, Packet, QoS, ReasonCode, SubscribeFilter, Version};

/// Filters and messages of ended sessions that a turn deals with (`ENDINGS_MAX`).
const TURN: usize = 4096;

fn subscribe_many(client: &mut Client, prefix: &str, count: u32) {
    for chunk in numbers(0..count).chunks(5000) {
        let filters: Vec<String> = chunk.iter().map(|number| format!("{prefix}{number}/x")).collect();
        let filters: Vec<_> = filters
            .iter()
            .map(|filter| SubscribeFilter { filter, options: options(QoS::AtLeastOnce) })
            .collect();
        client.subscribe_all(&filters, None);
    }
}

/// The end of a session took all its filters and messages in hand in one turn: now some in each, until all routes
/// are gone and all messages are counted; others' clients are served meanwhile.
#[test]
fn a_session_ends_bit_by_bit() {
    for (lasting_session, prefix) in [(true, "f"), (false, "f"), (true, "$share/g/f"), (false, "$share/g/f")]
    {
        let node = Node::new(2);
        let mut client = match lasting_session {
            true => node.connect_at_with(0, "client", |client_id| lasting(Version::V5, client_id)),
            false => node.connect_at(0, Version::V5, "client"),
        };
        subscribe_many(&mut client, prefix, 20_000);
        client.subscribe("queue", QoS::ExactlyOnce);
        let mut publisher = node.connect_at(0, Version::V311, "publisher");
        for number in numbers(0..6000) {
            publisher.publish("queue", QoS::AtLeastOnce, &number);
        }
        publisher.packets();
        node.take_batch_max();
        client.disconnect_with(&Disconnect {
            session_expiry: lasting_session.then_some(0),
            ..Disconnect::new(ReasonCode::SUCCESS)
        });
        let most = node.take_batch_max();
        assert!((TURN / 4..=TURN + 16).contains(&most), "{most} in one turn");
        assert_eq!(node.dropped(DropReason::SessionEnded), 6000);
        let unmatched = node.count(|core| core.counters().publishes_unmatched);
        for number in (0..20_000).step_by(999) {
            publisher.publish(&format!("f{number}/x"), QoS::AtMostOnce, "x");
        }
        let after = node.count(|core| core.counters().publishes_unmatched);
        assert_eq!(after - unmatched, 21, "nobody wants them any more");
    }
}

/// A session that begins again while the routes of the one before it are still being removed has its own.
#[test]
fn a_new_session_meets_the_end_of_the_old_one() {
    for lasting_session in [true, false] {
        let node = Node::new(2);
        node.take_whole_turns();
        let connect = |node: &Node| match lasting_session {
            true => node.connect_at_with(0, "client", |client_id| lasting(Version::V5, client_id)),
            false => node.connect_at(0, Version::V5, "client"),
        };
        let mut client = connect(&node);
        subscribe_many(&mut client, "f", 20_000);
        let client_id = client.client_id.clone();
        client.drop_socket();
        let mut client =
            node.connect_with(&mqtt::Connect { clean_start: true, ..lasting(Version::V5, &client_id) });
        for number in (0..20_000).step_by(999) {
            client.subscribe(&format!("f{number}/x"), QoS::AtLeastOnce);
        }
        let mut publisher = node.connect_at(1, Version::V311, "publisher");
        for number in 0..2000 {
            publisher.publish(&format!("f{number}/x"), QoS::AtMostOnce, "x");
        }
        assert_eq!(client.drain().len(), 3, "0, 999 and 1998");
    }
}

/// One SUBSCRIBE after another, without waiting for the answers: the broker takes as many filters as it can have
/// under way, and the rest when those stand.
#[test]
fn subscribing_without_end_waits_for_the_routes() {
    for lasting_session in [true, false] {
        let node = Node::new(2);
        let mut client = match lasting_session {
            true => node.connect_at_with(0, "client", |client_id| lasting(Version::V5, client_id)),
            false => node.connect_at(0, Version::V5, "client"),
        };
        node.hold_mail(0, 1);
        for number in 0..60 {
            let filters: Vec<String> = (0..1000).map(|at| format!("f{}/x", number * 1000 + at)).collect();
            let filters: Vec<_> = filters
                .iter()
                .map(|filter| SubscribeFilter { filter, options: options(QoS::AtMostOnce) })
                .collect();
            client.send_subscribe(&filters, None);
        }
        let mailed = node.mailed_messages();
        assert!((4000..=2 * 8192).contains(&mailed), "{mailed} filters of 60 000 on their way");
        node.release_mail();
        let answered = client.packets().iter().filter(|packet| matches!(packet, Packet::SubAck(_))).count();
        assert_eq!(answered, 60);
    }
}
