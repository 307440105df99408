//! What a full disk may refuse, on histories written by hand: each rule broken once, and kept once.

use broker_core::counters::{Counters, DropReason};
use mqtt::{PacketKind, QoS};

use super::super::Promise;
use super::super::story::Story;
use crate::history::{Fact, Got, Link, MessageId, Sent};

/// A subscriber whose session lasts, or not, and a publisher.
fn begin(lasting: bool) -> (Story, Link, Link) {
    let mut story = Story::new();
    let subscriber = story.online(0, !lasting);
    let publisher = story.online(1, true);
    story.subscribe(subscriber, 1, "a", QoS::AtLeastOnce);
    story.quiet();
    (story, subscriber, publisher)
}

fn publish(story: &mut Story, publisher: Link) -> MessageId {
    story.publish(publisher, 1, "a", QoS::AtLeastOnce)
}

fn counted(messages: u64) -> Counters {
    let mut counters = Counters::default();
    counters.drop_messages(DropReason::DiskFull, messages);
    counters
}

/// 0x97 while the disk is full, or was since the message was sent; before or after, or with another word, it is wrong.
#[test]
fn refused_without_a_full_disk() {
    for (before, since, reason, found) in [
        (None, Some(true), 0x97, false),
        (Some(true), Some(false), 0x97, false),
        (None, None, 0x97, true),
        (Some(false), None, 0x97, true),
        (None, Some(true), 0x80, true),
    ] {
        let (mut story, _, publisher) = begin(true);
        if let Some(is_full) = before {
            story.disk_full(true);
            story.disk_full(is_full);
        }
        publish(&mut story, publisher);
        since.into_iter().for_each(|is_full| story.disk_full(is_full));
        story.broker_acks(publisher, PacketKind::PubAck, 1, reason);
        let problem = story.found(Promise::Conformance);
        assert_eq!(problem, found, "{before:?} {since:?} {reason:#x} {:?}", story.findings());
    }
}

/// What no log was to have is not refused: whoever would get it needs no disk, and it is not to be retained.
#[test]
fn refused_without_need() {
    for (lasting, retained, found) in
        [(false, false, true), (false, true, false), (true, false, false), (true, true, false)]
    {
        let (mut story, _, publisher) = begin(lasting);
        story.disk_full(true);
        if retained {
            story.publish_retained(publisher, 1, "a", QoS::AtLeastOnce);
        } else {
            publish(&mut story, publisher);
        }
        story.broker_acks(publisher, PacketKind::PubAck, 1, 0x97);
        assert_eq!(story.found(Promise::Conformance), found, "{lasting} {retained} {:?}", story.findings());
    }
}

/// What was refused may reach somebody, or nobody; what was acknowledged while the disk was full is owed.
#[test]
fn acknowledged_though_the_disk_is_full() {
    for (reason, delivered, found) in
        [(0x97, false, false), (0x97, true, false), (0, false, true), (0, true, false)]
    {
        let (mut story, subscriber, publisher) = begin(true);
        story.disk_full(true);
        let message = publish(&mut story, publisher);
        story.broker_acks(publisher, PacketKind::PubAck, 1, reason);
        if delivered {
            story.deliver(subscriber, message, QoS::AtLeastOnce, 1);
            story.client_acks(subscriber, PacketKind::PubAck, 1, 0);
        }
        story.quiet_with(counted(1));
        assert_eq!(!story.findings().is_empty(), found, "{reason:#x} {delivered} {:?}", story.findings());
    }
}

/// Each refused message is counted.
#[test]
fn refused_and_not_counted() {
    for (count, found) in [(0, true), (1, false)] {
        let (mut story, _, publisher) = begin(true);
        story.disk_full(true);
        publish(&mut story, publisher);
        story.broker_acks(publisher, PacketKind::PubAck, 1, 0x97);
        story.quiet_with(counted(count));
        assert_eq!(story.found(Promise::Silent), found, "{count} {:?}", story.findings());
    }
}

/// A message with QoS 0 that a log had no room for is counted, too.
#[test]
fn unasked_and_not_counted() {
    for (full, count, found) in [(true, 0, true), (true, 1, false), (false, 1, true)] {
        let (mut story, _, publisher) = begin(true);
        if full {
            story.disk_full(true);
        }
        story.publish(publisher, 0, "a", QoS::AtMostOnce);
        story.quiet_with(counted(count));
        assert_eq!(story.found(Promise::Silent), found, "{full} {count} {:?}", story.findings());
    }
}

/// A publisher of 3.1.1 is closed for what could not be stored, and that is counted; one whose message was acknowledged
/// before, or that came when there was room, is not.
#[test]
fn closed_for_what_cannot_be_said() {
    for (full, acknowledged, count, found) in
        [(true, false, 1, false), (true, false, 0, true), (true, true, 1, true), (false, false, 1, true)]
    {
        let (mut story, _, _) = begin(true);
        let publisher = story.online_311(2, true);
        if full {
            story.disk_full(true);
        }
        publish(&mut story, publisher);
        if acknowledged {
            story.broker_acks(publisher, PacketKind::PubAck, 1, 0);
        }
        story.closing(publisher);
        story.fact(Fact::Gone { link: publisher, unread: 0 });
        if !acknowledged {
            story.quiet_with(counted(count));
        }
        assert_eq!(
            !story.findings().is_empty(),
            found,
            "{full} {acknowledged} {count} {:?}",
            story.findings()
        );
    }
}

/// A publisher of version 5 is closed for a QoS 2 message of a session that lasts which it sends again, and for no other.
#[test]
fn closed_for_a_repeat() {
    for (lasting, again, qos, found) in [
        (true, true, QoS::ExactlyOnce, false),
        (false, true, QoS::ExactlyOnce, true),
        (true, false, QoS::ExactlyOnce, true),
        (true, true, QoS::AtLeastOnce, true),
    ] {
        let (mut story, ..) = begin(true);
        let mut publisher = story.online(2, !lasting);
        story.disk_full(true);
        let message = story.publish(publisher, 1, "a", qos);
        if again {
            story.crash(&[publisher]);
            publisher = if lasting { story.resume(2) } else { story.online(2, true) };
            story.disk_full(true);
            story.publish_again(publisher, 1, message);
        }
        story.closing(publisher);
        let problem = story.found(Promise::Conformance);
        assert_eq!(problem, found, "{lasting} {again} {qos:?} {:?}", story.findings());
    }
}

/// A client is turned away with 0x88 while a disk is full, and for nothing else.
#[test]
fn turned_away() {
    for (full, reason, found) in [(true, 0x88, false), (true, 0x87, true), (false, 0x88, true)] {
        let mut story = Story::new();
        let link = story.sends_connect_with(0, false, 60, None);
        if full {
            story.disk_full(true);
        }
        story.wait_ms(20_000);
        story.closing(link);
        story.is_turned_away(link, reason);
        assert_eq!(!story.findings().is_empty(), found, "{full} {reason:#x} {:?}", story.findings());
    }
}

/// A SUBSCRIBE is refused to a session that lasts, by the word of its version, while the disk is full.
#[test]
fn subscription_refused() {
    for (v5, lasting, full, reason, found) in [
        (true, true, true, 0x97, false),
        (true, true, true, 0x80, true),
        (false, true, true, 0x80, false),
        (true, true, false, 0x97, true),
        (false, true, false, 0x80, true),
        (true, false, true, 0x97, true),
    ] {
        let mut story = Story::new();
        let link = if v5 { story.online(0, !lasting) } else { story.online_311(0, !lasting) };
        if full {
            story.disk_full(true);
        }
        story.sends_subscribe(link, 1, "a", QoS::AtLeastOnce);
        story.gets_suback(link, 1, &[reason]);
        let problem = story.found(Promise::Conformance);
        assert_eq!(problem, found, "{v5} {lasting} {full} {reason:#x} {:?}", story.findings());
    }
}

/// A subscription whose renewal was refused goes on; one that was given up meanwhile does not.
#[test]
fn refused_renewal_leaves_what_was() {
    for (given_up, found) in [(false, true), (true, false)] {
        let (mut story, subscriber, publisher) = begin(true);
        story.disk_full(true);
        story.sends_subscribe(subscriber, 2, "a", QoS::ExactlyOnce);
        if given_up {
            story.sent(subscriber, Sent::Unsubscribe { packet_id: 3, filters: vec!["a"] });
        }
        story.gets_suback(subscriber, 2, &[0x97]);
        if given_up {
            story.got(subscriber, Got::UnsubAck { packet_id: 3, reasons: vec![0] });
        }
        story.disk_full(false);
        publish(&mut story, publisher);
        story.broker_acks(publisher, PacketKind::PubAck, 1, 0);
        story.quiet();
        let lost = story.found(Promise::Silent) || story.found(Promise::Routed);
        assert_eq!(lost, found, "{given_up} {:?}", story.findings());
    }
}

/// A will that a full disk refuses is counted once, though it was for two; otherwise each delivery is.
#[test]
fn will_refused_and_counted_once() {
    for (full, count, found) in [(true, 0, true), (true, 1, false), (false, 1, true)] {
        let (mut story, ..) = begin(true);
        let other = story.online(2, false);
        story.subscribe(other, 1, "a", QoS::AtLeastOnce);
        story.quiet();
        let will = story.register_lasting_will(3, "a");
        let gone = story.sends_connect(3, true, Some(will));
        story.is_let_in(gone, false);
        if full {
            story.disk_full(true);
        }
        story.leave(gone);
        story.quiet_with(counted(count));
        assert_eq!(!story.findings().is_empty(), found, "{full} {count} {:?}", story.findings());
    }
}
