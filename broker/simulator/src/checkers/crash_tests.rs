//! What is owed after the end of a whole node, on histories written by hand.

use mqtt::{PacketKind, QoS};

use super::Promise;
use super::story::Story;
use crate::history::{Fact, Got, Sent};

/// An acknowledged message for a persistent session is owed after the node's end; one that was not acknowledged,
/// or was for a session that ended with its connection, is not.
#[test]
fn acknowledged_is_owed() {
    for (clean, acknowledged, delivered, found) in [
        (false, true, false, true),
        (false, true, true, false),
        (false, false, false, false),
        (false, false, true, false),
        (true, true, false, false),
    ] {
        let mut story = Story::new();
        let subscriber = story.online(0, clean);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, "a", QoS::AtLeastOnce);
        let message = story.publish(publisher, 1, "a", QoS::AtLeastOnce);
        if acknowledged {
            story.broker_acks(publisher, PacketKind::PubAck, 1, 0);
        }
        story.crash(&[subscriber, publisher]);
        let subscriber = if clean { story.online(0, true) } else { story.resume(0) };
        if delivered {
            story.deliver(subscriber, message, QoS::AtLeastOnce, 1);
            story.client_acks(subscriber, PacketKind::PubAck, 1, 0);
        }
        story.quiet();
        let lost = story.found(Promise::Silent) || story.found(Promise::Routed);
        assert_eq!(lost, found, "{clean} {acknowledged} {delivered} {:?}", story.findings());
    }
}

/// What a volatile member of a shared subscription had is gone with the node, and owed by nobody.
#[test]
fn what_a_volatile_member_had_is_gone() {
    let mut story = Story::new();
    let volatile = story.online(0, true);
    let persistent = story.online(1, false);
    let publisher = story.online(2, true);
    for member in [volatile, persistent] {
        story.subscribe(member, 1, "$share/g/a", QoS::AtLeastOnce);
    }
    story.publish(publisher, 1, "a", QoS::AtLeastOnce);
    story.broker_acks(publisher, PacketKind::PubAck, 1, 0);
    story.crash(&[volatile, persistent, publisher]);
    story.resume(1);
    story.quiet();
    assert!(story.findings().is_empty(), "{:?}", story.findings());
}

/// A persistent session that was greeted is there after the node's end, a volatile one is not.
#[test]
fn sessions_are_there() {
    for (clean, present, found) in
        [(false, true, false), (false, false, true), (true, false, false), (true, true, true)]
    {
        let mut story = Story::new();
        let link = story.online(0, clean);
        story.crash(&[link]);
        story.connect(0, clean, present);
        assert_eq!(story.found(Promise::Conformance), found, "{clean} {present} {:?}", story.findings());
    }
}

/// A subscription whose end was acknowledged does not come back.
#[test]
fn ended_subscriptions_stay_ended() {
    for acknowledged in [false, true] {
        let mut story = Story::new();
        let subscriber = story.online(0, false);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, "a", QoS::AtLeastOnce);
        story.sent(subscriber, Sent::Unsubscribe { packet_id: 2, filters: vec!["a"] });
        if acknowledged {
            story.got(subscriber, Got::UnsubAck { packet_id: 2, reasons: vec![0] });
        }
        story.crash(&[subscriber, publisher]);
        let subscriber = story.resume(0);
        let publisher = story.online(1, true);
        let message = story.publish(publisher, 1, "a", QoS::AtLeastOnce);
        story.deliver(subscriber, message, QoS::AtLeastOnce, 1);
        assert_eq!(story.found(Promise::Conformance), acknowledged, "{:?}", story.findings());
    }
}

/// A QoS 2 message whose PUBREL had come is not sent again after the node's end.
#[test]
fn released_is_released() {
    for released in [false, true] {
        let mut story = Story::new();
        let subscriber = story.online(0, false);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, "a", QoS::ExactlyOnce);
        let message = story.publish(publisher, 1, "a", QoS::ExactlyOnce);
        story.deliver(subscriber, message, QoS::ExactlyOnce, 1);
        story.client_acks(subscriber, PacketKind::PubRec, 1, 0);
        if released {
            story.broker_acks(subscriber, PacketKind::PubRel, 1, 0);
        }
        story.crash(&[subscriber, publisher]);
        let subscriber = story.resume(0);
        story.deliver_again(subscriber, message, QoS::ExactlyOnce, 1);
        assert_eq!(story.found(Promise::ExactlyOnce), released, "{:?}", story.findings());
    }
}

/// An answer that a client reads after the node's end, out of its socket, says of a QoS 0 message before it that it
/// was taken, and not that it was written down.
#[test]
fn an_answer_read_after_the_end() {
    for before in [true, false] {
        let mut story = Story::new();
        let publisher = story.online(1, true);
        let first = story.publish_retained(publisher, 1, "a", QoS::AtLeastOnce);
        story.broker_acks(publisher, PacketKind::PubAck, 1, 0);
        story.quiet();
        story.publish_retained(publisher, 0, "a", QoS::AtMostOnce);
        story.sends_subscribe(publisher, 2, "b", QoS::AtMostOnce);
        if before {
            story.gets_suback(publisher, 2, &[0]);
            story.quiet();
        }
        story.crash(&[]);
        if !before {
            story.gets_suback(publisher, 2, &[0]);
        }
        story.leave(publisher);
        let subscriber = story.online(0, true);
        story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
        story.deliver_retained(subscriber, first, QoS::AtMostOnce, 0);
        story.quiet();
        assert_eq!(story.found(Promise::Retained), before, "{:?}", story.findings());
    }
}

/// What is retained after the node's end is what was acknowledged last.
#[test]
fn retained_is_the_last_acknowledged() {
    for sent in [false, true] {
        let mut story = Story::new();
        let publisher = story.online(1, true);
        let message = story.publish_retained(publisher, 1, "a", QoS::AtLeastOnce);
        story.broker_acks(publisher, PacketKind::PubAck, 1, 0);
        story.crash(&[publisher]);
        story.quiet();
        let subscriber = story.online(0, true);
        story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
        if sent {
            story.deliver_retained(subscriber, message, QoS::AtMostOnce, 0);
        }
        story.quiet();
        assert_eq!(story.found(Promise::Retained), !sent, "{:?}", story.findings());
    }
}

/// The will of a persistent session's connection that ended with the node is owed; a volatile one's is not.
#[test]
fn wills_of_connections_that_ended_with_the_node() {
    for (clean, found) in [(false, true), (true, false)] {
        let mut story = Story::new();
        let subscriber = story.online(0, false);
        story.subscribe(subscriber, 1, "a", QoS::AtLeastOnce);
        let will = story.register_lasting_will(1, "a");
        let client = story.sends_connect(1, clean, Some(will));
        story.is_let_in(client, false);
        story.crash(&[subscriber, client]);
        story.resume(0);
        story.quiet();
        let lost = story.found(Promise::Silent) || story.found(Promise::Routed);
        assert_eq!(lost, found, "{clean} {:?}", story.findings());
    }
}

/// A log that a start cannot serve is a finding by itself.
#[test]
fn damage_is_found() {
    let mut story = Story::new();
    story.fact(Fact::Damaged("a log".to_owned()));
    assert!(story.found(Promise::Durable));
}
