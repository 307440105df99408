//! Promise 7: what the broker holds for a client stays within the configured maxima: bytes unsent towards
//! it, messages and bytes queued for it while it is away.

use std::collections::BTreeMap;

use broker_core::config::Config;
use broker_core::input::RECEIVE_BYTES_MAX;

use super::{Findings, Promise};
use crate::history::{Delivery, Event, Fact, Got, Link, Message, Moment, Sent};
use crate::ledger::{Ledger, Subscription};

/// Holds sizes against limits.
#[derive(Debug)]
pub(super) struct Bounded {
    unsent_max: usize,
    queue_messages_max: usize,
    queue_bytes_max: u64,
    /// By connection: when its CONNECT was written, and what it was given that had waited for it.
    waited: BTreeMap<Link, (Moment, usize, u64)>,
}

/// Answers that one turn may add to a full send queue: as much as one receive can ask for.
const ANSWER_BYTES_MAX: usize = RECEIVE_BYTES_MAX;

impl Bounded {
    /// With the limits of the run.
    pub(super) fn new(config: &Config) -> Bounded {
        let settings = &config.settings;
        let packet_bytes_max = (settings.packet_bytes_max as usize).min(RECEIVE_BYTES_MAX);
        Bounded {
            unsent_max: settings.send_bytes_max as usize + packet_bytes_max + ANSWER_BYTES_MAX,
            queue_messages_max: settings.queue_messages_max as usize,
            queue_bytes_max: settings.queue_bytes_max,
            waited: BTreeMap::new(),
        }
    }

    /// Looks at sizes and deliveries.
    pub(super) fn on(
        &mut self,
        event: &Event,
        messages: &[Message],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let problem = match &event.fact {
            Fact::Unsent { link, bytes } if *bytes > self.unsent_max => Some(format!(
                "{bytes} bytes unsent on connection {}, at most {} (tenant.send_bytes_max and a packet and \
                 answers) are in order",
                link.0, self.unsent_max
            )),
            Fact::Overflow(text) => Some(text.clone()),
            Fact::Sent(link, Sent::Connect(_)) => {
                self.waited.insert(*link, (event.moment, 0, 0));
                None
            }
            Fact::Got(link, Got::Publish(delivery)) => self.on_delivery(*link, delivery, messages, ledger),
            _ => None,
        };
        if let Some(problem) = problem {
            findings.add(Promise::Bounded, event.moment, problem);
        }
    }

    /// A message that was settled before the client connected has waited in its queue.
    fn on_delivery(
        &mut self,
        link: Link,
        delivery: &Delivery,
        messages: &[Message],
        ledger: &Ledger,
    ) -> Option<String> {
        let id = delivery.message.filter(|_| !delivery.retain)?;
        let (connected, count, bytes) = self.waited.get_mut(&link)?;
        let state = ledger.message(id);
        // A member that leaves passes on what it had: that has waited in another session's queue.
        let passed_on = ledger.session_of(link).is_some_and(|session| {
            let topic = messages[id.0 as usize].topic;
            session.may_match(topic, state.begun).any(Subscription::is_shared)
        });
        if passed_on || state.settled.is_none_or(|settled| settled > *connected) {
            return None;
        }
        *count += 1;
        *bytes += messages[id.0 as usize].payload.len() as u64;
        // A message that is larger than the queue finds room alone.
        let too_large = *count > 1 && *bytes > self.queue_bytes_max;
        (*count > self.queue_messages_max || too_large).then(|| {
            format!(
                "connection {} was given {count} messages ({bytes} bytes) that had waited for it, where {} \
                 (tenant.queue_messages_max) and {} bytes (tenant.queue_bytes_max) are the maximum",
                link.0, self.queue_messages_max, self.queue_bytes_max
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use mqtt::{PacketKind, QoS};

    use super::super::Promise;
    use super::super::story::{QUEUE_MESSAGES_MAX, Story};
    use crate::history::Fact;

    /// More bytes than the send queue may hold.
    #[test]
    fn unsent_bytes() {
        let mut story = Story::new();
        let link = story.online(0, true);
        story.fact(Fact::Unsent { link, bytes: 4096 });
        assert!(!story.found(Promise::Bounded));
        story.fact(Fact::Unsent { link, bytes: 1_000_000 });
        assert!(story.found(Promise::Bounded));
    }

    /// More messages than the queue may hold come out of it.
    #[test]
    fn queued_messages() {
        assert!(gives_more_than_its_queue_holds("a").found(Promise::Bounded));
    }

    /// Messages of a shared subscription may have waited for another member, which passed them on.
    #[test]
    fn passed_on_by_another_member() {
        assert!(!gives_more_than_its_queue_holds("$share/g/a").found(Promise::Bounded));
    }

    fn gives_more_than_its_queue_holds(filter: &'static str) -> Story {
        let mut story = Story::new();
        let subscriber = story.online(0, false);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, filter, QoS::AtLeastOnce);
        story.leave(subscriber);
        let sent: Vec<_> = (1..=QUEUE_MESSAGES_MAX as u16 + 1)
            .map(|packet_id| {
                let message = story.publish(publisher, packet_id, "a", QoS::AtLeastOnce);
                story.broker_acks(publisher, PacketKind::PubAck, packet_id, 0);
                message
            })
            .collect();
        story.quiet();
        let subscriber = story.resume(0);
        for (message, packet_id) in sent.into_iter().zip(1..) {
            assert!(!story.found(Promise::Bounded));
            story.deliver(subscriber, message, QoS::AtLeastOnce, packet_id);
            story.client_acks(subscriber, PacketKind::PubAck, packet_id, 0);
        }
        story
    }
}
