//! Retained messages: a subscription is sent the one that certainly is retained, and never one that
//! certainly has been replaced or cleared. What is retained is only known for certain when nothing moves
//! and one client alone published to the topic since the time before.

use std::collections::BTreeMap;

use broker_core::counters::{Counters, DropReason};
use mqtt::{QoS, RetainHandling};

use super::between::{Between, Fresh};
use super::expected::{Missing, reason, reasons_for};
use super::{Findings, Promise};
use crate::history::{ClientIndex, Delivery, Event, Fact, Got, Link, Message, MessageId, Moment, Sent};
use crate::ledger::{Ledger, Outcome, Session, Subscription};
use crate::topics;

/// What is retained, topic by topic.
#[derive(Debug, Default)]
pub(super) struct Retained {
    topics: BTreeMap<&'static str, Topic>,
    /// Messages that certainly are retained no more, and since when.
    replaced: BTreeMap<MessageId, Moment>,
    due: Vec<Due>,
    between: Between,
}

#[derive(Debug, Default)]
struct Topic {
    known: Known,
    /// Written since nothing moved.
    writes: Vec<MessageId>,
    /// A will with a delay may write here at any time.
    restless: bool,
    /// Everything that was ever written.
    ever: Vec<MessageId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Nothing,
    Message(MessageId),
    Unknown,
}

/// A SUBSCRIBE that is to be answered with a retained message.
#[derive(Debug)]
struct Due {
    client: ClientIndex,
    link: Link,
    session: u32,
    filter: &'static str,
    asked: Moment,
    message: MessageId,
    /// Copies with the retain flag that the session had before.
    before: u32,
}

impl Retained {
    /// Looks at publishes, subscriptions and deliveries with the retain flag.
    pub(super) fn on(
        &mut self,
        event: &Event,
        messages: &[Message],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match &event.fact {
            Fact::Sent(_, Sent::Publish(outgoing)) if messages[outgoing.message.0 as usize].retain => {
                self.write(outgoing.message, messages, false);
            }
            Fact::Sent(link, Sent::Connect(greeting)) => {
                let client = ledger.link(*link).client;
                let will = greeting.will.filter(|will| messages[will.message.0 as usize].retain);
                if let Some(will) = will {
                    assert_eq!(messages[will.message.0 as usize].publisher, client);
                    self.write(will.message, messages, true);
                }
            }
            Fact::Sent(link, Sent::Unsubscribe { filters, .. }) => {
                // What was not sent yet is not wanted any more [MQTT-3.10.4-2].
                let client = ledger.link(*link).client;
                self.due.retain(|due| due.client != client || !filters.contains(&due.filter));
                self.between.unsubscribe(client, filters);
            }
            Fact::Sent(link, Sent::Subscribe { filters, .. }) => {
                for (filter, options) in filters {
                    self.on_subscribe(event.moment, *link, filter, *options, messages, ledger);
                }
            }
            Fact::Got(link, Got::Publish(delivery)) if delivery.retain => {
                self.on_delivery(event.moment, *link, delivery, messages, ledger, findings);
            }
            _ => {}
        }
    }

    /// A retained message is on its way, or may be at any time.
    fn write(&mut self, id: MessageId, messages: &[Message], restless: bool) {
        let topic = self.topics.entry(messages[id.0 as usize].topic).or_default();
        topic.writes.push(id);
        topic.ever.push(id);
        topic.restless |= restless;
    }

    fn on_subscribe(
        &mut self,
        moment: Moment,
        link: Link,
        filter: &'static str,
        options: mqtt::SubscriptionOptions,
        messages: &[Message],
        ledger: &Ledger,
    ) {
        let client = ledger.link(link).client;
        let Some(session) = ledger.session_of(link) else { return };
        let has_it = session.subscriptions.iter().any(|each| each.filter == filter && each.ended.is_none());
        let sends = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => !has_it,
            RetainHandling::DoNotSend => false,
        };
        if !sends || topics::split_share(filter).0.is_some() {
            return;
        }
        self.between.subscribe(Fresh { client, link, session: session.number, filter, asked: moment });
        // What the filter is owed and has not been sent yet is owed once.
        self.due.retain(|due| due.client != client || due.filter != filter);
        for (topic, state) in &self.topics {
            let Known::Message(message) = state.known else { continue };
            let own = options.no_local && messages[message.0 as usize].publisher == client;
            if topics::matches(filter, topic) && state.writes.is_empty() && !own {
                let before = session.copies.get(&message).map_or(0, |copies| copies.flagged);
                let session = session.number;
                self.due.push(Due { client, link, session, filter, asked: moment, message, before });
            }
        }
    }

    fn on_delivery(
        &self,
        moment: Moment,
        link: Link,
        delivery: &Delivery,
        messages: &[Message],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let (Some(id), Some(session)) = (delivery.message, ledger.session_of(link)) else { return };
        let Some(replaced) = self.replaced.get(&id) else { return };
        let topic = messages[id.0 as usize].topic;
        let begun = ledger.message(id).begun;
        let as_published = session.may_match(topic, begun).any(|each| each.options.retain_as_published);
        let mut matching = session.subscriptions.iter().filter(|each| topics::matches(each.filter, topic));
        if !as_published && matching.all(|each| each.asked > *replaced) {
            let text = format!(
                "client {} was sent the retained message {:08x} on {topic}, which had been replaced (event {}) \
                 before it subscribed",
                ledger.link(link).client.0,
                id.0,
                replaced.0
            );
            findings.add(Promise::Retained, moment, text);
        }
    }

    /// When nothing moves: does everybody have one of the last messages of what changed while he subscribed?
    pub(super) fn on_quiet(
        &mut self,
        moment: Moment,
        counters: &Counters,
        messages: &[Message],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let topics = self.topics.values().filter(|topic| !topic.restless);
        let writes: Vec<&[MessageId]> = topics.map(|topic| &*topic.writes).collect();
        self.between.on_quiet(moment, &writes, counters, messages, ledger, findings);
    }

    /// When nothing moves: which retained messages were due and not sent. Settles what is known.
    pub(super) fn missing(&mut self, messages: &[Message], ledger: &Ledger) -> Vec<Missing> {
        let due = std::mem::take(&mut self.due);
        let missing = due.iter().filter_map(|each| self.is_missing(each, &due, messages, ledger)).collect();
        for topic in self.topics.values_mut() {
            topic.settle(messages, ledger, &mut self.replaced);
        }
        missing
    }

    fn is_missing(&self, each: &Due, all: &[Due], messages: &[Message], ledger: &Ledger) -> Option<Missing> {
        let session = ledger.session(each.client);
        let steady = session.number == each.session && session.online == Some(each.link);
        let message = &messages[each.message.0 as usize];
        let topic = &self.topics[message.topic];
        let granted = granted(each.filter, each.asked, session)?;
        if !steady || !topic.writes.is_empty() || topic.restless || message.expiry.is_some() {
            return None;
        }
        let same = |other: &&Due| {
            let mine = other.client == each.client && other.session == each.session;
            mine && other.message == each.message
                && self::granted(other.filter, other.asked, session).is_some()
        };
        let earlier = all.iter().filter(same).filter(|other| other.asked < each.asked);
        // A wildcard and a literal filter in one SUBSCRIBE are two; told apart by their filters' order.
        let beside =
            all.iter().filter(same).filter(|other| other.asked == each.asked && other.filter < each.filter);
        let first = all.iter().filter(same).map(|other| other.before).min().unwrap_or(each.before);
        let wanted = first + (earlier.count() + beside.count()) as u32 + 1;
        let given = session.copies.get(&each.message).map_or(0, |copies| copies.flagged);
        let qos = granted.qos.min(message.qos).min(QoS::AtLeastOnce);
        let begun = ledger.message(each.message).begun;
        let mut reasons = reasons_for((message, begun), qos, session, ledger);
        // A copy for a session that lasts goes by way of its log.
        if session.is_persistent() && ledger.fullness.since(each.asked) {
            reasons |= reason(DropReason::DiskFull);
        }
        (given < wanted).then(|| Missing {
            message: each.message,
            client: Some(each.client),
            filters: vec![each.filter],
            copies: 1,
            reasons,
            promise: Promise::Retained,
        })
    }
}

/// The subscription that a SUBSCRIBE made, though another of the same filter may have taken its place since.
fn granted<'a>(filter: &str, asked: Moment, session: &'a Session) -> Option<&'a Subscription> {
    let mut own = session.subscriptions.iter();
    own.find(|own| own.filter == filter && own.asked == asked && own.granted.is_some())
}

impl Topic {
    /// Nothing moves: is it certain what is retained?
    fn settle(&mut self, messages: &[Message], ledger: &Ledger, replaced: &mut BTreeMap<MessageId, Moment>) {
        if self.restless {
            self.known = Known::Unknown;
            return;
        }
        let Some(last) = self.writes.last().copied() else { return };
        let of = |id: MessageId| &messages[id.0 as usize];
        // What was sent again may have been written again, or not, if the first had come through.
        let again = self.writes.iter().any(|id| ledger.message(*id).sends > 1);
        let other = |id: &MessageId| *id != last && (again || of(*id).publisher != of(last).publisher);
        let alone = !self.writes.iter().any(other);
        // A full disk takes what clears a topic; that it refuses the rest is not said where nobody asked.
        let kept = |id: MessageId| {
            let asked = of(id).qos > QoS::AtMostOnce || of(id).payload.is_empty();
            asked || ledger.message(id).begun.is_some_and(|begun| !ledger.fullness.since(begun))
        };
        let certain =
            self.writes.iter().all(|id| ledger.message(*id).outcome == Outcome::Accepted && kept(*id));
        // What may still come may be told from what was written beside it only if that is remembered.
        if !self.writes.iter().any(|id| ledger.may_still_come(*id, messages)) {
            self.writes.clear();
        }
        self.known = match (alone && certain, of(last).payload.is_empty()) {
            (false, _) => Known::Unknown,
            (true, true) => Known::Nothing,
            (true, false) => Known::Message(last),
        };
        if self.known != Known::Unknown {
            let now = ledger.quiet_next;
            for id in self.ever.iter().filter(|id| **id != last) {
                replaced.entry(*id).or_insert(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mqtt::{PacketKind, QoS};

    use super::super::Promise;
    use super::super::story::Story;
    use crate::history::{Got, Sent};

    fn retained() -> (Story, crate::history::MessageId, crate::history::MessageId) {
        let mut story = Story::new();
        let publisher = story.online(1, true);
        let old = story.publish_retained(publisher, 1, "a", QoS::AtLeastOnce);
        story.broker_acks(publisher, PacketKind::PubAck, 1, 0);
        story.quiet();
        let new = story.publish_retained(publisher, 2, "a", QoS::AtLeastOnce);
        story.broker_acks(publisher, PacketKind::PubAck, 2, 0);
        story.quiet();
        (story, old, new)
    }

    /// A new subscription is not sent what is retained; then it is.
    #[test]
    fn not_sent() {
        for sent in [false, true] {
            let (mut story, _, new) = retained();
            let subscriber = story.online(0, true);
            story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
            if sent {
                story.deliver_retained(subscriber, new, QoS::AtMostOnce, 0);
            }
            story.quiet();
            assert_eq!(story.found(Promise::Retained), !sent, "{:?}", story.findings());
        }
    }

    /// A new subscription is sent what was replaced long ago.
    #[test]
    fn replaced() {
        let (mut story, old, _) = retained();
        let subscriber = story.online(0, true);
        story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
        story.deliver_retained(subscriber, old, QoS::AtMostOnce, 0);
        assert!(story.found(Promise::Retained));
    }

    /// A filter that was given up is owed nothing, and does not make another one's copy count for less.
    #[test]
    fn given_up_before_it_was_sent() {
        for sent in [false, true] {
            let (mut story, _, new) = retained();
            let subscriber = story.online(0, true);
            story.subscribe(subscriber, 1, "#", QoS::AtMostOnce);
            story.sent(subscriber, Sent::Unsubscribe { packet_id: 2, filters: vec!["#"] });
            story.got(subscriber, Got::UnsubAck { packet_id: 2, reasons: vec![0] });
            story.subscribe(subscriber, 3, "a", QoS::AtMostOnce);
            if sent {
                story.deliver_retained(subscriber, new, QoS::AtMostOnce, 0);
            }
            story.quiet();
            assert_eq!(story.found(Promise::Retained), !sent, "{:?}", story.findings());
        }
    }

    /// Subscribing again before the copy has come is owed one for both; after that, another.
    #[test]
    fn asked_for_twice() {
        for (before, after) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (mut story, _, new) = retained();
            let subscriber = story.online(0, true);
            story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
            for _ in 0..before {
                story.deliver_retained(subscriber, new, QoS::AtMostOnce, 0);
            }
            story.subscribe(subscriber, 2, "a", QoS::AtMostOnce);
            for _ in 0..after {
                story.deliver_retained(subscriber, new, QoS::AtMostOnce, 0);
            }
            story.quiet();
            assert_eq!(story.found(Promise::Retained), after == 0, "{before} {:?}", story.findings());
        }
    }

    /// A QoS 2 message whose answer was lost is sent again after a later one: whether it is retained anew depends on
    /// whether the first had come through, and is still open when nothing moves in between.
    #[test]
    fn sent_again_after_a_later_one() {
        let mut story = Story::new();
        let publisher = story.online(1, false);
        let first = story.publish_retained(publisher, 1, "a", QoS::ExactlyOnce);
        let second = story.publish_retained(publisher, 2, "a", QoS::AtLeastOnce);
        story.broker_acks(publisher, PacketKind::PubAck, 2, 0);
        story.leave(publisher);
        story.quiet();
        let publisher = story.resume(1);
        story.publish_again(publisher, 1, first);
        story.broker_acks(publisher, PacketKind::PubRec, 1, 0);
        story.client_acks(publisher, PacketKind::PubRel, 1, 0);
        story.broker_acks(publisher, PacketKind::PubComp, 1, 0);
        story.quiet();
        let subscriber = story.online(0, true);
        story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
        story.deliver_retained(subscriber, second, QoS::AtMostOnce, 0);
        story.quiet();
        assert!(!story.found(Promise::Retained), "{:?}", story.findings());
    }
}
