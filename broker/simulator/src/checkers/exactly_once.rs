//! Promise 6, the part that an application sees: a QoS 2 message once, a QoS 1 message at least once, and
//! nothing more often than its subscriptions and its publisher's resends account for. (That it comes at
//! all is `expected.rs`.)

use std::collections::{BTreeMap, BTreeSet};

use mqtt::{PacketKind, QoS};

use super::{Findings, Promise};
use crate::history::{ClientIndex, Delivery, Event, Fact, Got, Message, MessageId, Sent};
use crate::ledger::{Ledger, Session};
use crate::topics;

/// Follows QoS 2 exchanges, and counts copies.
#[derive(Debug, Default)]
pub(super) struct ExactlyOnce {
    /// QoS 2 messages by client and packet identifier, with the session; true after their PUBREL.
    exchanges: BTreeMap<(ClientIndex, u16), (u32, MessageId, bool)>,
    /// Every shared filter that was ever asked for.
    groups: BTreeSet<&'static str>,
    /// Those of them that somebody asked for with QoS 1.
    passing: BTreeSet<&'static str>,
}

impl ExactlyOnce {
    /// Looks at deliveries and PUBRELs.
    pub(super) fn on(
        &mut self,
        event: &Event,
        messages: &[Message],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        match &event.fact {
            Fact::Sent(_, Sent::Subscribe { filters, .. }) => {
                for (filter, options) in filters.iter().filter(|each| topics::split_share(each.0).0.is_some())
                {
                    self.groups.insert(filter);
                    if options.qos == QoS::AtLeastOnce {
                        self.passing.insert(filter);
                    }
                }
            }
            Fact::Got(link, Got::Ack(ack)) if ack.kind == PacketKind::PubRel => {
                let key = (ledger.link(*link).client, ack.packet_id);
                if let Some((_, _, released)) = self.exchanges.get_mut(&key) {
                    *released = true;
                }
            }
            Fact::Got(link, Got::Publish(delivery)) => {
                let (Some(id), Some(session)) = (delivery.message, ledger.session_of(*link)) else { return };
                let client = ledger.link(*link).client;
                let problem = self
                    .on_exchange(client, session, id, delivery)
                    .or_else(|| self.too_many(session, id, delivery, messages, ledger));
                if let Some(problem) = problem {
                    let text = format!("client {}, message {:08x}: {problem}", client.0, id.0);
                    findings.add(Promise::ExactlyOnce, event.moment, text);
                }
            }
            _ => {}
        }
    }

    fn on_exchange(
        &mut self,
        client: ClientIndex,
        session: &Session,
        id: MessageId,
        delivery: &Delivery,
    ) -> Option<String> {
        let packet_id = delivery.packet_id.filter(|_| delivery.qos == QoS::ExactlyOnce)?;
        let before = self.exchanges.insert((client, packet_id), (session.number, id, false));
        let again = delivery.dup && before == Some((session.number, id, true));
        again.then(|| format!("QoS 2 packet {packet_id} was sent again after its PUBREL"))
    }

    /// May a member have had it with QoS 1?
    fn may_be_passed_on(&self, message: &Message) -> bool {
        match message.qos {
            QoS::AtMostOnce => false,
            QoS::AtLeastOnce => true,
            QoS::ExactlyOnce => self.passing.iter().any(|filter| topics::matches(filter, message.topic)),
        }
    }

    /// More copies than subscriptions that may match?
    fn too_many(
        &self,
        session: &Session,
        id: MessageId,
        delivery: &Delivery,
        messages: &[Message],
        ledger: &Ledger,
    ) -> Option<String> {
        if session.is_resend(delivery) {
            return None;
        }
        let (message, state) = (&messages[id.0 as usize], ledger.message(id));
        // A publisher that sends a QoS 1 message again may cause it to be delivered again.
        let repeats = message.qos == QoS::AtLeastOnce || message.will;
        let sends = if repeats { state.sends.max(1) } else { 1 };
        let matching: Vec<_> = session.may_match(message.topic, state.begun).collect();
        let filters: BTreeSet<&str> = matching.iter().map(|each| each.filter).collect();
        let copies = session.copies.get(&id).copied().unwrap_or_default();
        if matching.iter().any(|each| each.is_shared()) {
            let groups = self.groups.iter().filter(|filter| topics::matches(filter, message.topic)).count();
            let given = state.shared_copies + 1;
            // What a leaving member has not acknowledged goes to another, but not what it had with QoS 2.
            let lost = state.crashed && state.sends > 1;
            let passed_on = lost || self.may_be_passed_on(message) && !all_steady(id, ledger);
            return (given > groups as u32 * sends && !passed_on)
                .then(|| format!("copy {given} for {groups} groups (sent {sends} times)"));
        }
        // Who gets it with QoS 0 has no record of it: it may come again with a resend after the node's end.
        let plain =
            matching.iter().filter(|each| each.qos == QoS::AtMostOnce && state.crashed).count() as u32;
        let live_max = filters.len() as u32 * sends + plain * state.sends.saturating_sub(sends);
        if !delivery.retain {
            let given = copies.live + 1;
            return (given > live_max).then(|| format!("copy {given} for {filters:?} (sent {sends} times)"));
        }
        let on_subscribe =
            session.subscriptions.iter().filter(|each| topics::matches(each.filter, message.topic));
        let as_published = matching.iter().any(|each| each.options.retain_as_published);
        let flagged_max = on_subscribe.count() as u32 + if as_published { live_max } else { 0 };
        let given = copies.flagged + 1;
        (given > flagged_max).then(|| format!("retained copy {given} where at most {flagged_max} are due"))
    }
}

/// Has no member of any group that may have got the message lost its connection since it was begun?
fn all_steady(id: MessageId, ledger: &Ledger) -> bool {
    let begun = ledger.message(id).begun;
    ledger.links.iter().all(|state| {
        let over = [state.left, state.ended, state.closing, state.gone].into_iter().flatten().min();
        over.is_none_or(|over| begun.is_some_and(|begun| over < begun))
    }) && ledger.sessions.iter().all(|session| {
        session.subscriptions.iter().filter(|each| each.is_shared()).all(|each| each.doubtful.is_none())
    })
}

#[cfg(test)]
mod tests {
    use mqtt::{PacketKind, QoS};

    use super::super::Promise;
    use super::super::story::Story;

    /// One subscription, two copies, for each QoS.
    #[test]
    fn second_copy() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut story = Story::new();
            let subscriber = story.online(0, true);
            let publisher = story.online(1, true);
            story.subscribe(subscriber, 1, "a", qos);
            let message = story.publish(publisher, 1, "a", qos);
            story.deliver(subscriber, message, qos, 1);
            assert!(!story.found(Promise::ExactlyOnce));
            story.deliver(subscriber, message, qos, 2);
            assert!(story.found(Promise::ExactlyOnce), "{qos:?}");
        }
    }

    /// A QoS 2 message whose PUBREL has come is sent once more on the next connection, with DUP.
    #[test]
    fn sent_again_after_pubrel() {
        let mut story = Story::new();
        let subscriber = story.online(0, false);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, "a", QoS::ExactlyOnce);
        let message = story.publish(publisher, 1, "a", QoS::ExactlyOnce);
        story.deliver(subscriber, message, QoS::ExactlyOnce, 1);
        story.client_acks(subscriber, PacketKind::PubRec, 1, 0);
        story.broker_acks(subscriber, PacketKind::PubRel, 1, 0);
        story.leave(subscriber);
        let subscriber = story.resume(0);
        assert!(!story.found(Promise::ExactlyOnce));
        story.deliver_again(subscriber, message, QoS::ExactlyOnce, 1);
        assert!(story.found(Promise::ExactlyOnce), "{:?}", story.findings());
    }

    /// A publisher's own resend of a QoS 1 message may arrive twice, of a QoS 2 message not.
    #[test]
    fn resent_by_its_publisher() {
        for (qos, expected) in [(QoS::AtLeastOnce, false), (QoS::ExactlyOnce, true)] {
            let mut story = Story::new();
            let subscriber = story.online(0, true);
            let publisher = story.online(1, false);
            story.subscribe(subscriber, 1, "a", qos);
            let message = story.publish(publisher, 1, "a", qos);
            story.leave(publisher);
            let publisher = story.resume(1);
            story.publish_again(publisher, 1, message);
            story.deliver(subscriber, message, qos, 1);
            story.deliver(subscriber, message, qos, 2);
            assert_eq!(story.found(Promise::ExactlyOnce), expected, "{qos:?}");
        }
    }
}
