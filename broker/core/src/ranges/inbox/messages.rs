//! Messages come for sessions, and are acknowledged by their clients.

use std::sync::Arc;

use mqtt::QoS;
use rkyv::Archived;
use rkyv::option::ArchivedOption;

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
    /// Whether a member of a shared subscription was given a QoS 2 message by an earlier attempt.
    #[must_use]
    pub fn has_for_group(&self, origin: &command::Origin, group: &GroupKey) -> bool {
        self.seen.has(origin, shared_receiver(&group.name, group.ordered, &group.filter))
    }

    pub(super) fn append(
        &mut self,
        committed: Committed<'_>,
        append: &Archived<command::Append<'static>>,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
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
        let mut repeated = 0;
        for target in append.targets.iter() {
            let options = target.options.to_native();
            let target = command::Target { incarnation: target.incarnation.to_native(), options };
            let origin = append.origin.as_ref();
            if origin.is_some_and(|origin| self.seen.is_repeat(origin, receiver(target, &append.group))) {
                repeated += 1;
            } else {
                self.offer(committed, target, &mut offer, effects);
            }
        }
        if let Some(group) = group {
            self.groups.release(group);
        }
        let all_repeated = repeated > 0 && repeated == append.targets.len();
        if all_repeated { Outcome::Repeated } else { Outcome::Appended(offer.holders) }
    }

    /// Puts a message into one session's queue.
    fn offer(
        &mut self,
        committed: Committed<'_>,
        target: command::Target,
        offer: &mut Offer<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let incarnation = Incarnation(target.incarnation);
        let Some(slot) = self.by_incarnation.get(&incarnation) else {
            effects.push(Effect::Unknown(incarnation));
            return;
        };
        let client = &mut self.clients[*slot as usize];
        let session = client.session.as_mut().expect("it was found by it");
        let options = DeliveryOptions::from_bits(target.options);
        let own = options.no_local() && hash_client(&client.name) == offer.message.client_hash;
        if own || contains(committed, (&client.tenant, &client.name), &mut self.key) {
            return; // own: [MQTT-3.8.3-3]
        }
        let pushed = session.queue.push(
            offer.entry(committed, options),
            &offer.limits,
            (committed.at, session.epoch.is_some()),
            &mut self.finished,
        );
        match pushed.sequence {
            Some(sequence) => {
                offer.holders += 1;
                // Before anything else: the next copy for the session may displace this one.
                effects.push(Effect::Held(committed.message(), 1));
                if let Some(group) = offer.group {
                    self.groups.hold_again(group);
                }
                if let Some(epoch) = session.epoch {
                    effects.push(Effect::Queued { incarnation, epoch, sequence });
                }
            }
            None => effects.push(Effect::Dropped(Arc::clone(&client.tenant), DropReason::QueueFull, 1)),
        }
        if pushed.displaced > 0 {
            effects.push(Effect::Dropped(
                Arc::clone(&client.tenant),
                DropReason::QueueFull,
                pushed.displaced,
            ));
        }
        if pushed.expired > 0 {
            effects.push(Effect::Dropped(Arc::clone(&client.tenant), DropReason::Expired, pushed.expired));
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

/// What tells the receivers of one publish from each other: the session, or the shared subscription, whichever of
/// its members it was.
fn receiver(target: command::Target, group: &ArchivedOption<command::ArchivedGroup<'static>>) -> u64 {
    let Some(group) = group.as_ref() else { return target.incarnation };
    shared_receiver(&group.name, group.ordered, &group.filter)
}

fn shared_receiver(name: &str, ordered: bool, filter: &str) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(name.as_bytes());
    hasher.update(&[u8::from(ordered), 0]);
    hasher.update(filter.as_bytes());
    hasher.digest()
}
