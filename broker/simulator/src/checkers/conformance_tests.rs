//! Each rule broken once.

use mqtt::{PacketKind, QoS};

use super::super::Promise;
use super::super::story::{Story, delivery};
use crate::history::{Delivery, Fact, Got, MessageId, Sent};

/// A subscriber of `a/#` (QoS 1, id 5) gets a message that `change` has spoilt.
fn delivered(change: impl Fn(&mut Delivery)) -> Story {
    let mut story = Story::new();
    let subscriber = story.online(0, true);
    let publisher = story.online(1, true);
    story.subscribe_with_id(subscriber, 1, "a/#", QoS::AtLeastOnce, 5);
    let message = story.publish(publisher, 1, "a/b", QoS::AtLeastOnce);
    let mut good = delivery(message, "a/b", QoS::AtLeastOnce, 1);
    good.ids = vec![5];
    change(&mut good);
    story.got(subscriber, Got::Publish(good));
    story
}

type Change = fn(&mut Delivery);

/// A delivery is wrong in each of its fields in turn.
#[test]
fn deliveries() {
    let spoil: [(&str, Change); 11] = [
        ("alias never set", |delivery| delivery.topic = None),
        ("alias above the maximum", |delivery| delivery.alias = Some(9)),
        ("too large", |delivery| delivery.bytes = 100_000),
        ("two ids", |delivery| delivery.ids = vec![5, 6]),
        ("another id", |delivery| delivery.ids = vec![6]),
        ("no id", |delivery| delivery.ids.clear()),
        ("QoS above the granted", |delivery| delivery.qos = QoS::ExactlyOnce),
        ("QoS below the granted", |delivery| delivery.qos = QoS::AtMostOnce),
        ("retain flag on a live message", |delivery| delivery.retain = true),
        ("expiry out of nothing", |delivery| delivery.expiry = Some(1)),
        ("changed payload", |delivery| delivery.intact = false),
    ];
    let story = delivered(|_| {});
    assert!(!story.found(Promise::Conformance), "{:?}", story.findings());
    for (what, change) in spoil {
        assert!(delivered(change).found(Promise::Conformance), "{what}");
    }
}

/// A message that no filter matches, and one to its own publisher in spite of no-local.
#[test]
fn deliveries_nobody_asked_for() {
    let mut story = Story::new();
    let subscriber = story.online(0, true);
    let publisher = story.online(1, true);
    story.subscribe(subscriber, 1, "b", QoS::AtMostOnce);
    let message = story.publish(publisher, 0, "a", QoS::AtMostOnce);
    story.deliver(subscriber, message, QoS::AtMostOnce, 0);
    assert!(story.found(Promise::Conformance));

    let mut story = Story::new();
    let client = story.online(0, true);
    story.subscribe_no_local(client, 1, "a", QoS::AtMostOnce);
    let message = story.publish(client, 0, "a", QoS::AtMostOnce);
    story.deliver(client, message, QoS::AtMostOnce, 0);
    assert!(story.found(Promise::Conformance));
}

/// Answers to nothing, and with the wrong number of codes.
#[test]
fn answers_to_nothing() {
    let answers = [
        Got::Pong,
        Got::SubAck { packet_id: 9, reasons: vec![0] },
        Got::UnsubAck { packet_id: 9, reasons: vec![0] },
        Got::Auth,
        Got::Disconnect { reason: 0 },
    ];
    for answer in answers {
        let mut story = Story::new();
        let link = story.online(0, true);
        story.got(link, answer.clone());
        assert!(story.found(Promise::Conformance), "{answer:?}");
    }
    for kind in [PacketKind::PubAck, PacketKind::PubRec, PacketKind::PubComp] {
        let mut story = Story::new();
        let link = story.online(0, true);
        story.broker_acks(link, kind, 9, 0);
        assert!(story.found(Promise::Conformance), "{kind:?}");
    }
    let mut story = Story::new();
    let link = story.online(0, true);
    story.sends_subscribe(link, 1, "a", QoS::AtMostOnce);
    story.gets_suback(link, 1, &[0, 0]);
    assert!(story.found(Promise::Conformance));
}

/// Bytes that are no packet, a packet after DISCONNECT, session present after a clean start.
#[test]
fn connection_rules() {
    let mut story = Story::new();
    let link = story.online(0, true);
    story.fact(Fact::Undecodable(link, "reserved type".to_owned()));
    assert!(story.found(Promise::Conformance));

    let mut story = Story::new();
    let link = story.online(0, true);
    story.sent(link, Sent::Garbage);
    story.got(link, Got::Disconnect { reason: 0x81 });
    assert!(!story.found(Promise::Conformance));
    story.got(link, Got::Pong);
    assert!(story.found(Promise::Conformance));

    let mut story = Story::new();
    story.connect(0, true, true);
    assert!(story.found(Promise::Conformance));
}

/// A session that has not expired is not there any more.
#[test]
fn session_lost() {
    let mut story = Story::new();
    let link = story.online(0, false);
    story.leave(link);
    story.connect(0, false, false);
    assert!(story.found(Promise::Conformance), "{:?}", story.findings());
}

/// A number nobody published.
#[test]
fn will_of_the_living() {
    let mut story = Story::new();
    let subscriber = story.online(0, true);
    story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
    let will: MessageId = story.register_will(1, "a");
    story.deliver(subscriber, will, QoS::AtMostOnce, 0);
    assert!(story.found(Promise::Conformance));
}

/// A will is not published after DISCONNECT, unless another CONNECT of the client was on its way, which may have
/// taken the session over before DISCONNECT was read.
#[test]
fn withdrawn_will() {
    for raced in [false, true] {
        let mut story = Story::new();
        let subscriber = story.online(0, true);
        story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
        let other = raced.then(|| story.sends_connect(1, true, None));
        let will = story.register_will(1, "a");
        let link = story.sends_connect(1, true, Some(will));
        story.is_let_in(link, false);
        story.sent(link, Sent::Disconnect { reason: 0, expiry: None });
        story.leave(link);
        if let Some(other) = other {
            story.fact(Fact::Greeted { link: other, accepted: true });
        }
        story.deliver(subscriber, will, QoS::AtMostOnce, 0);
        assert_eq!(story.found(Promise::Conformance), !raced, "{:?}", story.findings());
    }
}
