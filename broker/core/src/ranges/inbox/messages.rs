//! Messages come for sessions, and are acknowledged by their clients.

use mqtt::QoS;
use rkyv::Archived;

use super::groups::GroupNumber;
use super::queue::{Entry, Limits, Sequence, State};
use super::{Effect, InboxRange, Outcome, command, contains};
use crate::counters::DropReason;
use crate::delivery::DeliveryOptions;
use crate::dist::GroupKey;
use crate::identity::Incarnation;
use crate::message::hash_client;
use crate::ranges::Committed;

impl InboxRange {
    pub(super) fn append(
        &mut self,
        committed: Committed<'_>,
        append: &Archived<command::Append<'static>>,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        if let Some(origin) = append.origin.as_ref()
            && self.seen.is_repeat(origin, committed.index)
        {
            return Outcome::Repeated;
        }
        let group = append.group.as_ref().map(|group| {
            let (name, filter) = ((&*group.name).into(), (&*group.filter).into());
            self.groups.hold(&GroupKey { name, ordered: group.ordered, filter })
        });
        let limits = Limits {
            messages: append.queue_messages_max.to_native(),
            bytes: append.queue_bytes_max.to_native(),
            drop_oldest: append.drop_oldest,
        };
        let mut offer = Offer { message: &append.message, limits, group, holders: 0 };
        for target in append.targets.iter() {
            self.offer(committed, target, &mut offer, effects);
        }
        if let Some(group) = group {
            self.groups.release(group);
        }
        if offer.holders > 0 {
            effects.push(Effect::Held(committed.message(), offer.holders));
        }
        Outcome::Appended(offer.holders)
    }

    /// Puts a message into one session's queue.
    fn offer(
        &mut self,
        committed: Committed<'_>,
        target: &command::ArchivedTarget,
        offer: &mut Offer<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let incarnation = Incarnation(target.incarnation.to_native());
        let Some(slot) = self.by_incarnation.get(&incarnation) else {
            effects.push(Effect::Unknown(incarnation));
            return;
        };
        let client = &mut self.clients[*slot as usize];
        let session = client.session.as_mut().expect("it was found by it");
        let options = DeliveryOptions::from_bits(target.options.to_native());
        let own = options.no_local() && hash_client(&client.name) == offer.message.client_hash;
        if own || contains(committed, (&client.tenant, &client.name), &mut self.key) {
            return; // own: [MQTT-3.8.3-3]
        }
        let pushed = session.queue.push(
            offer.entry(committed, options),
            &offer.limits,
            committed.at,
            &mut self.finished,
        );
        match pushed.sequence {
            Some(sequence) => {
                offer.holders += 1;
                if let Some(group) = offer.group {
                    self.groups.hold_again(group);
                }
                if let Some(epoch) = session.epoch {
                    effects.push(Effect::Queued { incarnation, epoch, sequence });
                }
            }
            None => effects.push(Effect::Dropped(DropReason::QueueFull, 1)),
        }
        if pushed.displaced > 0 {
            effects.push(Effect::Dropped(DropReason::QueueFull, pushed.displaced));
        }
        if pushed.expired > 0 {
            effects.push(Effect::Dropped(DropReason::Expired, pushed.expired));
        }
        self.let_go(effects);
    }

    pub(super) fn progress(
        &mut self,
        committed: Committed<'_>,
        progress: &Archived<command::Progress<'static>>,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let owner = (progress.incarnation.to_native(), progress.epoch.to_native());
        let Some(slot) = self.owned(committed, owner) else { return Outcome::Stale };
        let session = self.clients[slot as usize].session.as_mut().expect("it is owned");
        session.queue.mark_sent(Sequence(progress.sent_before.to_native()));
        for place in progress.received.iter() {
            session.queue.receive(Sequence(place.to_native()), &mut self.finished);
        }
        for place in progress.finished.iter() {
            session.queue.finish(Sequence(place.to_native()), &mut self.finished);
        }
        self.let_go(effects);
        Outcome::Done
    }

    /// Releases what queues do not hold any more.
    fn let_go(&mut self, effects: &mut Vec<Effect>) {
        for entry in self.finished.drain(..) {
            effects.push(Effect::Released(entry.message));
            if let Some(group) = entry.group {
                self.groups.release(group);
            }
        }
    }
}

/// A message on its way to the sessions of one command.
struct Offer<'a> {
    message: &'a Archived<command::MessageHead<'static>>,
    limits: Limits,
    group: Option<GroupNumber>,
    /// Queues that have it.
    holders: u32,
}

impl Offer<'_> {
    /// What a session's queue keeps of it.
    fn entry(&self, committed: Committed<'_>, options: DeliveryOptions) -> Entry {
        let message = self.message;
        let bytes =
            message.topic.len() + message.properties.len() + message.payload_bytes.to_native() as usize;
        let expires_seconds = match message.expires.to_native() {
            u64::MAX => u32::MAX,
            milliseconds => u32::try_from(milliseconds.div_ceil(1000)).unwrap_or(u32::MAX),
        };
        let qos = QoS::from_bits(message.qos).expect("proposed from a QoS");
        Entry {
            message: committed.message(),
            expires_seconds,
            bytes: u32::try_from(bytes).expect("a packet is below 256 MiB"),
            options,
            group: self.group,
            qos: qos.min(options.qos()),
            retain: message.retain && options.retain_as_published(),
            state: State::Waiting,
        }
    }
}
