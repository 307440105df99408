//! Who subscribes while what is retained changes gets the last message all the same: live, or as the copy. Between the
//! two ways nothing falls.
//!
//! Of one client's messages on a topic a subscriber gets all that follow the copy; and at least one of those that may be
//! retained in the end. What is missing is told if nothing was dropped since the time before when nothing moved that
//! could have been it.

use broker_core::counters::{Counters, DropReason};
use mqtt::QoS;

use super::coverage::counted;
use super::expected::{reason, reasons_for};
use super::{Findings, Promise};
use crate::history::{ClientIndex, Link, Message, MessageId, Moment};
use crate::ledger::{Ledger, Outcome};
use crate::topics;

/// Who has subscribed since nothing moved.
#[derive(Debug, Default)]
pub(super) struct Between {
    fresh: Vec<Fresh>,
    /// What was counted by then.
    before: Counters,
}

/// A SUBSCRIBE that is to be answered with what is retained, whatever that is by then.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) client: ClientIndex,
    pub(super) link: Link,
    pub(super) session: u32,
    pub(super) filter: &'static str,
    pub(super) asked: Moment,
}

impl Between {
    pub(super) fn subscribe(&mut self, fresh: Fresh) {
        self.fresh.push(fresh);
    }

    pub(super) fn unsubscribe(&mut self, client: ClientIndex, filters: &[&'static str]) {
        self.fresh.retain(|each| each.client != client || !filters.contains(&each.filter));
    }

    /// Nothing moves. `topics`: what was retained on each since the time before, in the order of sending.
    pub(super) fn on_quiet(
        &mut self,
        moment: Moment,
        topics: &[&[MessageId]],
        counters: &Counters,
        messages: &[Message],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        for each in std::mem::take(&mut self.fresh) {
            for writes in topics {
                let Some(missed) = each.missed(writes, messages, ledger) else { continue };
                let session = ledger.session(each.client);
                // A copy for a session that lasts goes by way of its log.
                let unstored = session.is_persistent() && ledger.fullness.since(each.asked);
                let unstored = if unstored { reason(DropReason::DiskFull) } else { 0 };
                let reasons = writes.iter().fold(unstored, |reasons, id| {
                    let message = (&messages[id.0 as usize], ledger.message(*id).begun);
                    reasons | reasons_for(message, QoS::AtMostOnce, session, ledger)
                });
                if counted(reasons, counters) > counted(reasons, &self.before) {
                    continue;
                }
                let topic = messages[missed.0 as usize].topic;
                let text = format!(
                    "client {} subscribed to {} while {topic} changed, and message {:08x} fell between what was \
                     retained before and what came live",
                    each.client.0, each.filter, missed.0
                );
                findings.add(Promise::Retained, moment, text);
            }
        }
        self.before = counters.clone();
    }
}

impl Fresh {
    /// One of a topic's messages that is missing: one before it has come as the copy, or none has come of all that
    /// may be retained now.
    fn missed(&self, writes: &[MessageId], messages: &[Message], ledger: &Ledger) -> Option<MessageId> {
        let session = ledger.session(self.client);
        let of = |id: &MessageId| &messages[id.0 as usize];
        let topic = of(writes.first()?).topic;
        if session.number != self.session || session.online != Some(self.link) {
            return None;
        }
        // The first that matched the topic: what came before would make a gap of its own.
        let own = session.may_match(topic, None).min_by_key(|own| own.asked)?;
        let first = own.filter == self.filter && own.asked == self.asked;
        let stays = own.granted.is_some() && own.doubtful.is_none() && own.ended.is_none();
        let as_published = session.may_match(topic, None).any(|each| each.options.retain_as_published);
        // What was sent again may have been written again.
        let again = writes.iter().any(|id| ledger.message(*id).sends > 1 || of(id).publisher == self.client);
        if !(first && stays) || as_published || again || !topics::matches(self.filter, topic) {
            return None;
        }
        let given = |id: &MessageId| session.copies.get(id).is_some_and(|copies| copies.all() > 0);
        let copied = |id: &MessageId| session.copies.get(id).is_some_and(|copies| copies.flagged > 0);
        let sure = |id: &MessageId| {
            let message = of(id);
            let accepted = ledger.message(*id).outcome == Outcome::Accepted;
            accepted && !message.payload.is_empty() && message.expiry.is_none()
        };
        let same = |one: &MessageId, other: &MessageId| of(one).publisher == of(other).publisher;
        let gap = |at: usize| {
            let (id, before) = (&writes[at], &writes[..at]);
            sure(id) && !given(id) && before.iter().any(|other| same(id, other) && copied(other))
        };
        let last = |at: &usize| !writes[at + 1..].iter().any(|other| same(&writes[*at], other));
        let mut lasts = (0..writes.len()).filter(last).map(|at| &writes[at]);
        let none = lasts.clone().all(|id| sure(id) && !given(id));
        let gap = (0..writes.len()).find(|at| gap(*at)).map(|at| writes[at]);
        gap.or_else(|| lasts.next().copied().filter(|_| none))
    }
}

#[cfg(test)]
mod tests {
    use mqtt::{PacketKind, QoS};

    use super::super::Promise;
    use super::super::story::Story;

    /// Who subscribes while a topic changes gets the last message neither live nor as a copy; or does, one way or the
    /// other, or gets the last of another client, which may have replaced it.
    #[test]
    fn fallen_between() {
        for (delivered, found) in [
            (None, true),
            (Some((0, false)), true),
            (Some((1, true)), false),
            (Some((1, false)), false),
            (Some((2, false)), false),
        ] {
            let mut story = Story::new();
            let publisher = story.online(1, true);
            let other = story.online(2, true);
            let first = story.publish_retained(publisher, 1, "a", QoS::AtLeastOnce);
            let second = story.publish_retained(publisher, 2, "a", QoS::AtLeastOnce);
            let third = story.publish_retained(other, 1, "a", QoS::AtLeastOnce);
            let subscriber = story.online(0, true);
            story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
            for (link, packet_id) in [(publisher, 1), (publisher, 2), (other, 1)] {
                story.broker_acks(link, PacketKind::PubAck, packet_id, 0);
            }
            if let Some((which, flagged)) = delivered {
                let message = [first, second, third][which];
                if flagged {
                    story.deliver_retained(subscriber, message, QoS::AtMostOnce, 0);
                } else {
                    story.deliver(subscriber, message, QoS::AtMostOnce, 0);
                }
            }
            story.quiet();
            assert_eq!(story.found(Promise::Retained), found, "{delivered:?} {:?}", story.findings());
        }
    }

    /// Behind the copy nothing is missing: not the message that was on its way when the copy was read.
    #[test]
    fn fallen_behind_the_copy() {
        for found in [true, false] {
            let mut story = Story::new();
            let publisher = story.online(1, true);
            let subscriber = story.online(0, true);
            let first = story.publish_retained(publisher, 1, "a", QoS::AtLeastOnce);
            let second = story.publish_retained(publisher, 2, "a", QoS::AtLeastOnce);
            story.subscribe(subscriber, 1, "a", QoS::AtMostOnce);
            let third = story.publish_retained(publisher, 3, "a", QoS::AtLeastOnce);
            story.deliver_retained(subscriber, first, QoS::AtMostOnce, 0);
            if !found {
                story.deliver(subscriber, second, QoS::AtMostOnce, 0);
            }
            story.deliver(subscriber, third, QoS::AtMostOnce, 0);
            for packet_id in 1..=3 {
                story.broker_acks(publisher, PacketKind::PubAck, packet_id, 0);
            }
            story.quiet();
            assert_eq!(story.found(Promise::Retained), found, "{:?}", story.findings());
        }
    }
}
