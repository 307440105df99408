//! Promises 4 and 2: every delivery that was due and not made has been counted under a reason that can be
//! true of it. One that was not counted is a message lost in silence; if its subscription was granted only
//! shortly before, SUBACK came too early.

use std::collections::BTreeMap;

use broker_core::counters::Counters;

use super::Findings;
use super::coverage::{names, uncovered};
use super::expected::{Missing, Reasons};
use crate::history::{Message, Moment};

/// Sums up what is missing over the whole run, as the counters do.
#[derive(Debug, Default)]
pub(super) struct Silent {
    missing: BTreeMap<Reasons, u64>,
    /// The latest that is missing for each set of reasons.
    examples: BTreeMap<Reasons, Missing>,
    reported: bool,
}

impl Silent {
    /// Holds what is missing against what was counted.
    pub(super) fn on_quiet(
        &mut self,
        moment: Moment,
        missing: Vec<Missing>,
        counters: &Counters,
        messages: &[Message],
        findings: &mut Findings,
    ) {
        for each in missing {
            *self.missing.entry(each.reasons).or_default() += u64::from(each.copies);
            // A fresh subscription says more about the cause.
            let example = self.examples.entry(each.reasons).or_insert_with(|| each.clone());
            if each.promise < example.promise {
                *example = each;
            }
        }
        let Some((union, lost, counted)) = uncovered(&self.missing, counters).filter(|_| !self.reported)
        else {
            return;
        };
        self.reported = true; // The sum stays uncovered for the rest of the run.
        let within = self.examples.iter().filter(|(reasons, _)| **reasons & !union == 0);
        for (_, example) in within {
            let message = &messages[example.message.0 as usize];
            let whom = example
                .client
                .map_or_else(|| "any member".to_owned(), |client| format!("client {}", client.0));
            findings.add(
                example.promise,
                moment,
                format!(
                    "{} deliveries are missing and {counted} were counted under {}; one of them: message \
                     {:08x} (topic {}, QoS {}, of client {}) for {whom} by {:?}",
                    lost,
                    names(union),
                    example.message.0,
                    message.topic,
                    message.qos.bits(),
                    message.publisher.0,
                    example.filters,
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_core::counters::{Counters, DropReason};
    use mqtt::{PacketKind, QoS};

    use super::super::Promise;
    use super::super::story::Story;

    /// A publish to a subscriber of long standing that is acknowledged and never delivered.
    fn lost(qos: QoS) -> Story {
        let mut story = Story::new();
        let subscriber = story.online(0, true);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, "a", qos);
        story.quiet();
        story.publish(publisher, 1, "a", qos);
        if qos == QoS::AtLeastOnce {
            story.broker_acks(publisher, PacketKind::PubAck, 1, 0);
        }
        story
    }

    /// Nothing was counted, or only under a reason that cannot be true: found. Counted rightly: in order.
    #[test]
    fn lost_without_a_count() {
        let cases = [
            (QoS::AtLeastOnce, None, true),
            (QoS::AtLeastOnce, Some(DropReason::SlowReader), true),
            (QoS::AtLeastOnce, Some(DropReason::QueueFull), false),
            (QoS::AtMostOnce, None, true),
            (QoS::AtMostOnce, Some(DropReason::SlowReader), false),
        ];
        for (qos, reason, expected) in cases {
            let mut story = lost(qos);
            let mut counters = Counters::default();
            if let Some(reason) = reason {
                counters.drop_messages(reason, 1);
            }
            story.quiet_with(counters);
            assert_eq!(story.found(Promise::Silent), expected, "{qos:?} {reason:?} {:?}", story.findings());
        }
    }

    /// A session that was away is owed its messages when it comes back, not before.
    #[test]
    fn owed_after_the_return() {
        let mut story = Story::new();
        let subscriber = story.online(0, false);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, "a", QoS::AtLeastOnce);
        story.leave(subscriber);
        story.quiet();
        story.publish(publisher, 1, "a", QoS::AtLeastOnce);
        story.broker_acks(publisher, PacketKind::PubAck, 1, 0);
        story.quiet();
        assert!(!story.found(Promise::Silent));
        story.resume(0);
        story.quiet();
        assert!(story.found(Promise::Silent), "{:?}", story.findings());
    }

    /// A member that was to get it with QoS 0 and has gone since may have taken it along; one that was to get it
    /// with QoS 1 may not. (Seed 40546.)
    #[test]
    fn member_that_has_gone_took_it_along() {
        for (qos, found) in [(QoS::AtMostOnce, false), (QoS::AtLeastOnce, true)] {
            let mut story = Story::new();
            let gone = story.online(0, true);
            let stays = story.online(1, true);
            let publisher = story.online(2, true);
            story.subscribe(gone, 1, "$share/g/a", qos);
            story.subscribe(stays, 1, "$share/g/a", QoS::AtLeastOnce);
            story.publish(publisher, 1, "a", QoS::AtLeastOnce);
            story.broker_acks(publisher, PacketKind::PubAck, 1, 0);
            story.leave(gone);
            story.online(0, true);
            story.quiet();
            assert_eq!(story.found(Promise::Routed), found, "{qos:?} {:?}", story.findings());
        }
    }

    /// A group is owed one copy, by any member.
    #[test]
    fn group_owed_one() {
        for delivered in [false, true] {
            let mut story = Story::new();
            let members = [story.online(0, true), story.online(1, true)];
            let publisher = story.online(2, true);
            for member in members {
                story.subscribe(member, 1, "$share/g/a/#", QoS::AtLeastOnce);
            }
            story.quiet();
            let message = story.publish(publisher, 1, "a/b", QoS::AtLeastOnce);
            story.broker_acks(publisher, PacketKind::PubAck, 1, 0);
            if delivered {
                story.deliver(members[1], message, QoS::AtLeastOnce, 1);
                story.client_acks(members[1], PacketKind::PubAck, 1, 0);
            }
            story.quiet();
            assert_eq!(story.found(Promise::Silent), !delivered, "{:?}", story.findings());
        }
    }
}
