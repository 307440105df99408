//! Promise 3: messages of one publisher on one topic with one QoS reach a subscriber in order, over
//! reconnects and take-overs, and acknowledgements leave in the order of their publishes.
//!
//! A session with n subscriptions that match gets n copies, each in order by itself. So what arrives must
//! be a merge of at most n increasing sequences: each message is laid on the pile whose top is the
//! greatest below it, and an (n + 1)th pile is the finding.

use std::collections::{BTreeMap, BTreeSet};

use mqtt::{PacketKind, QoS};

use super::{Findings, Promise};
use crate::history::{AckFact, ClientIndex, Delivery, Event, Fact, Got, Link, Message, MessageId, Moment};
use crate::ledger::{Ledger, Request, Subscription};
use crate::topics;

/// What has arrived, by lane.
#[derive(Debug, Default)]
pub(super) struct Order {
    sessions: BTreeMap<(ClientIndex, u32, Lane), Piles>,
    links: BTreeMap<(Link, Lane), Piles>,
    /// Who was given a publisher's last message by an `$oshare` filter, and which.
    stuck: BTreeMap<(&'static str, ClientIndex), (ClientIndex, MessageId)>,
    /// By connection, publisher and topic: the last message that came live and changed what is retained.
    changes: BTreeMap<(Link, ClientIndex, &'static str), MessageId>,
}

/// Publisher, topic, QoS it was published with.
type Lane = (ClientIndex, &'static str, QoS);

/// The tops of the increasing sequences, and how often each message came.
#[derive(Debug, Default)]
struct Piles {
    /// Every subscription that matched a message of the lane, by filter and SUBSCRIBE.
    subscriptions: BTreeSet<(&'static str, Moment)>,
    /// How often the message was sent that its publisher sent most often.
    sends_max: usize,
    tops: Vec<MessageId>,
    copies: BTreeMap<MessageId, usize>,
}

impl Piles {
    /// Lays a message down; the top it should have come before if there is no pile for it.
    ///
    /// What its publisher had to send again makes another sequence: 1 2 (acknowledgements lost) 1 2. And a
    /// late message may find piles of messages that were sent more often, or matched otherwise, than itself.
    fn lay(&mut self, message: MessageId, matching: &[&Subscription], sends: usize) -> Option<MessageId> {
        self.sends_max = self.sends_max.max(sends);
        self.subscriptions.extend(matching.iter().map(|each| (each.filter, each.asked)));
        let copies = self.copies.entry(message).or_default();
        *copies += 1;
        if *copies > matching.len().max(1) * sends {
            return None; // One too many is the finding of another checker.
        }
        if let Some(top) = self.tops.iter_mut().filter(|top| **top < message).max_by_key(|top| **top) {
            *top = message;
            return None;
        }
        if self.tops.len() < self.subscriptions.len().max(1) * self.sends_max {
            self.tops.push(message);
            return None;
        }
        self.tops.iter().min().copied()
    }
}

impl Order {
    /// Looks at deliveries and acknowledgements.
    pub(super) fn on(
        &mut self,
        event: &Event,
        messages: &[Message],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match &event.fact {
            Fact::Got(link, Got::Publish(delivery)) => {
                self.on_delivery(event, *link, delivery, messages, ledger, findings);
            }
            Fact::Got(link, Got::Ack(ack)) => on_ack(event, *link, *ack, messages, ledger, findings),
            Fact::Quiet { .. } => {
                // Who is online has everything: nothing older can come, and the lanes begin anew.
                self.sessions.retain(|(client, number, _), _| {
                    let session = ledger.session(*client);
                    session.number == *number && session.online.is_none()
                });
                self.links.clear();
                self.changes.clear();
            }
            _ => {}
        }
    }

    fn on_delivery(
        &mut self,
        event: &Event,
        link: Link,
        delivery: &Delivery,
        messages: &[Message],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let (Some(id), Some(session)) = (delivery.message, ledger.session_of(link)) else { return };
        let message = &messages[id.0 as usize];
        let state = ledger.message(id);
        if message.will {
            return;
        }
        if message.retain && state.sends == 1 && !delivery.dup {
            self.on_change(event, link, delivery, (id, message), ledger, findings);
        }
        if delivery.retain {
            return;
        }
        let client = ledger.link(link).client;
        let matching: Vec<_> = session.may_match(message.topic, state.begun).collect();
        if matching.iter().any(|each| each.is_shared()) {
            if let [only] = matching[..]
                && topics::is_ordered_share(only.filter)
                && !session.is_resend(delivery)
            {
                self.on_ordered_share(event, only.filter, client, (id, message), ledger, findings);
            }
            return; // A member that leaves passes on what it had: no order is promised then.
        }
        let sends = state.sends.max(1) as usize;
        let lane = (message.publisher, message.topic, message.qos);
        let mut late = self.links.entry((link, lane)).or_default().lay(id, &matching, sends);
        if late.is_none() && !session.is_resend(delivery) {
            let piles = self.sessions.entry((client, session.number, lane)).or_default();
            late = piles.lay(id, &matching, sends);
        }
        if let Some(later) = late {
            findings.add(
                Promise::Order,
                event.moment,
                format!(
                    "client {} got message {:08x} of client {} on {} (QoS {}) after message {:08x}, with {} \
                     subscriptions that match",
                    client.0,
                    id.0,
                    message.publisher.0,
                    message.topic,
                    message.qos.bits(),
                    later.0,
                    matching.len()
                ),
            );
        }
    }

    /// A retained copy is not older than a change of its topic that came live.
    fn on_change(
        &mut self,
        event: &Event,
        link: Link,
        delivery: &Delivery,
        (id, message): (MessageId, &Message),
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let key = (link, message.publisher, message.topic);
        let Some(session) = ledger.session_of(link) else { return };
        let mut matching = session.may_match(message.topic, None);
        if matching.any(|each| each.is_shared() || each.options.retain_as_published) {
            return; // The flag does not tell copies from live messages, or no order is promised.
        }
        if !delivery.retain {
            let last = self.changes.entry(key).or_insert(id);
            *last = id.max(*last);
        } else if let Some(later) = self.changes.get(&key).filter(|later| **later > id)
            // What a full disk had no room for changed nothing.
            && !ledger.message(*later).begun.is_some_and(|begun| ledger.fullness.since(begun))
        {
            findings.add(
                Promise::Order,
                event.moment,
                format!(
                    "client {} got the retained message {:08x} on {} after message {:08x}, which had replaced it",
                    ledger.link(link).client.0, id.0, message.topic, later.0
                ),
            );
        }
    }

    /// All messages of a publisher go to one member, as long as the members are the same.
    fn on_ordered_share(
        &mut self,
        event: &Event,
        filter: &'static str,
        client: ClientIndex,
        (id, message): (MessageId, &Message),
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let before = self.stuck.insert((filter, message.publisher), (client, id));
        let Some((other, earlier)) = before.filter(|(other, _)| *other != client) else { return };
        let begun = |id| ledger.message(id).begun;
        if begun(earlier).min(begun(id)).is_some_and(|since| is_stable(filter, since, ledger)) {
            findings.add(
                Promise::Order,
                event.moment,
                format!(
                    "by {filter} client {} got message {:08x} of client {}, whose message {:08x} went to client \
                     {}, though the members are the same",
                    client.0, id.0, message.publisher.0, earlier.0, other.0
                ),
            );
        }
    }
}

/// Have the group's members been the same, and online, since then?
fn is_stable(filter: &str, since: Moment, ledger: &Ledger) -> bool {
    ledger.sessions.iter().filter(|session| session.number > 0).all(|session| {
        let online = session.online.and_then(|link| ledger.link(link).greeted);
        let mut own = session.subscriptions.iter().filter(|each| each.filter == filter);
        session.began < since
            && own.all(|each| {
                let left = each.ended.is_some_and(|ended| ended < since);
                let stayed = each.doubtful.is_none() && each.certain.is_some_and(|certain| certain < since);
                left || (stayed && session.is_certain() && online.is_some_and(|(greeted, _)| greeted < since))
            })
    })
}

/// [MQTT-4.6.0-2, -3]
fn on_ack(
    event: &Event,
    link: Link,
    ack: AckFact,
    messages: &[Message],
    ledger: &Ledger,
    findings: &mut Findings,
) {
    let qos = match ack.kind {
        PacketKind::PubAck => QoS::AtLeastOnce,
        PacketKind::PubRec => QoS::ExactlyOnce,
        _ => return,
    };
    let mut waiting = ledger.link(link).requests.iter().filter_map(|(_, request)| match request {
        Request::Publish(packet_id, message) if messages[message.0 as usize].qos == qos => Some(*packet_id),
        _ => None,
    });
    let Some(first) = waiting.next() else { return };
    if first != ack.packet_id && waiting.any(|packet_id| packet_id == ack.packet_id) {
        findings.add(
            Promise::Order,
            event.moment,
            format!(
                "client {} got the {:?} of packet {} before that of packet {first}, which it sent earlier",
                ledger.link(link).client.0,
                ack.kind,
                ack.packet_id
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use mqtt::{PacketKind, QoS};

    use super::super::Promise;
    use super::super::story::Story;

    /// Two messages of one publisher on one topic, delivered the wrong way round.
    #[test]
    fn swapped_deliveries() {
        let mut story = Story::new();
        let subscriber = story.online(0, true);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
        let first = story.publish(publisher, 0, "a", QoS::AtMostOnce);
        let second = story.publish(publisher, 0, "a", QoS::AtMostOnce);
        story.deliver(subscriber, second, QoS::AtMostOnce, 0);
        assert!(!story.found(Promise::Order));
        story.deliver(subscriber, first, QoS::AtMostOnce, 0);
        assert!(story.found(Promise::Order), "{:?}", story.findings());
    }

    /// A retained copy after the live message that replaced it; the other way round, and the same one, are in order.
    #[test]
    fn old_copy_after_its_successor() {
        for (live, copy, found) in [(1, 0, true), (0, 1, false), (1, 1, false)] {
            let mut story = Story::new();
            let subscriber = story.online(0, true);
            let publisher = story.online(1, true);
            story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
            let sent: Vec<_> =
                (0..2).map(|_| story.publish_retained(publisher, 0, "a", QoS::AtMostOnce)).collect();
            story.deliver(subscriber, sent[live], QoS::AtMostOnce, 0);
            story.deliver_retained(subscriber, sent[copy], QoS::AtMostOnce, 0);
            assert_eq!(story.found(Promise::Order), found, "{live} {copy} {:?}", story.findings());
        }
    }

    /// Two overlapping subscriptions may interleave their copies, a third sequence is one too many.
    #[test]
    fn overlapping_copies_interleave() {
        let mut story = Story::new();
        let subscriber = story.online(0, true);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
        story.subscribe(subscriber, 2, "#", QoS::AtMostOnce);
        let sent: Vec<_> = (0..3).map(|_| story.publish(publisher, 0, "a", QoS::AtMostOnce)).collect();
        for index in [0, 1, 0, 2, 1, 2] {
            story.deliver(subscriber, sent[index], QoS::AtMostOnce, 0);
        }
        assert!(!story.found(Promise::Order), "{:?}", story.findings());
        let mut story = Story::new();
        let subscriber = story.online(0, true);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
        story.subscribe(subscriber, 2, "#", QoS::AtMostOnce);
        let sent: Vec<_> = (0..3).map(|_| story.publish(publisher, 0, "a", QoS::AtMostOnce)).collect();
        for index in [2, 1, 0] {
            story.deliver(subscriber, sent[index], QoS::AtMostOnce, 0);
        }
        assert!(story.found(Promise::Order));
    }

    /// An order broken only over a reconnect: the second message first, the first on the next connection.
    #[test]
    fn swapped_over_a_reconnect() {
        let mut story = Story::new();
        let subscriber = story.online(0, false);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, "a", QoS::AtLeastOnce);
        let first = story.publish(publisher, 1, "a", QoS::AtLeastOnce);
        let second = story.publish(publisher, 2, "a", QoS::AtLeastOnce);
        story.deliver(subscriber, second, QoS::AtLeastOnce, 1);
        story.leave(subscriber);
        let subscriber = story.resume(0);
        story.deliver(subscriber, first, QoS::AtLeastOnce, 2);
        assert!(story.found(Promise::Order), "{:?}", story.findings());
    }

    /// The later publish is acknowledged first.
    #[test]
    fn swapped_acknowledgements() {
        for (kind, qos) in [(PacketKind::PubAck, QoS::AtLeastOnce), (PacketKind::PubRec, QoS::ExactlyOnce)] {
            let mut story = Story::new();
            let publisher = story.online(0, true);
            story.publish(publisher, 1, "a", qos);
            story.publish(publisher, 2, "b", qos);
            story.broker_acks(publisher, kind, 2, 0);
            assert!(story.found(Promise::Order), "{:?}", story.findings());
        }
    }
}
