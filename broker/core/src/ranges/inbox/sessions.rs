//! Sessions begin, change hands, wait and end; subscriptions change; what is to be done elsewhere gets done.

use rkyv::Archived;

use super::client::{Session, Will};
use super::tasks::Work;
use super::{Attached, Effect, InboxRange, Outcome, Sequence, command, contains};
use crate::delivery::DeliveryOptions;
use crate::identity::Incarnation;
use crate::ranges::Committed;
use crate::time::Wall;
use crate::unreleased::Taken;

impl InboxRange {
    pub(super) fn attach(
        &mut self,
        committed: Committed<'_>,
        attach: &Archived<command::Attach<'static>>,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let name = (&*attach.tenant, &*attach.client);
        if contains(committed, name, &mut self.key) {
            return Outcome::Stale;
        }
        let found = self.names.find(&self.clients, name);
        let slot = found.unwrap_or_else(|| self.begin(name.0, name.1, committed.index));
        let former_epoch = self.clients[slot as usize].session.as_ref().and_then(|session| session.epoch);
        let resumed = self.resume_or_end(slot, committed.at, attach, effects);
        if !attach.durable {
            self.tidy(slot);
            let incarnation = Incarnation(attach.incarnation.to_native());
            let (first, sent_before) = Default::default();
            let session_present = false;
            let attached = Attached { incarnation, session_present, former_epoch, first, sent_before };
            return Outcome::Attached(attached);
        }
        let client = &mut self.clients[slot as usize];
        let incarnation = Incarnation(attach.incarnation.to_native());
        let session = client.session.get_or_insert_with(|| Session::new(incarnation));
        let message = committed.message();
        let will = attach.will.as_ref().map(|will| {
            effects.push(Effect::Held(message, 1));
            Box::new(Will {
                message,
                delay_seconds: will.delay_seconds.to_native(),
                expiry_seconds: will.expiry_seconds.to_native(),
            })
        });
        session.enter(attach.epoch.to_native(), attach.expiry_seconds.to_native(), will);
        let attached = Attached {
            incarnation: session.incarnation,
            session_present: resumed,
            former_epoch,
            first: session.queue.first(),
            sent_before: session.queue.sent_before(),
        };
        self.by_incarnation.insert(attached.incarnation, slot);
        Outcome::Attached(attached)
    }

    /// What becomes of a former session when its client connects: true if it goes on.
    fn resume_or_end(
        &mut self,
        slot: u32,
        now: Wall,
        attach: &Archived<command::Attach<'static>>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let client = &mut self.clients[slot as usize];
        let Some(session) = &mut client.session else { return false };
        if attach.clean_start || !attach.durable || session.is_over(now) {
            self.end(slot, now, effects);
            return false;
        }
        if session.epoch.is_some() {
            // It was not detached: nobody knows how much that connection has sent.
            session.queue.mark_sent(session.queue.end());
        }
        // The client has come back in time for a will with a delay [MQTT-3.1.3-9].
        let incarnation = session.incarnation;
        let due = session.take_due_will(now);
        if let Some(will) = session.take_will() {
            effects.push(Effect::Released(will.message));
        }
        if session.due().is_some() {
            effects.push(Effect::NotDue(session.incarnation));
        }
        if let Some(will) = due {
            client.leave_task(Work::Publish(incarnation, will, now), effects);
        }
        true
    }

    pub(super) fn detach(
        &mut self,
        committed: Committed<'_>,
        detach: &command::ArchivedDetach,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let owner = (detach.incarnation.to_native(), detach.epoch.to_native());
        let Some(slot) = self.owned(committed, owner) else { return Outcome::Stale };
        let client = &mut self.clients[slot as usize];
        let session = client.session.as_mut().expect("it is owned");
        session.queue.mark_sent(Sequence(detach.sent_before.to_native()));
        if !detach.keep_will
            && let Some(will) = session.take_will()
        {
            effects.push(Effect::Released(will.message));
        }
        if let Some(seconds) = detach.expiry_seconds.as_ref() {
            session.expiry_seconds = seconds.to_native();
        }
        self.await_client(slot, committed.at, committed.at, effects);
        Outcome::Done
    }

    /// The same for a connection of a process that has ended: what its session waits for began then.
    pub(super) fn lose(
        &mut self,
        committed: Committed<'_>,
        lost: &command::ArchivedLost,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let owner = (lost.incarnation.to_native(), lost.epoch.to_native());
        let Some(slot) = self.owned(committed, owner) else { return Outcome::Stale };
        let session = self.clients[slot as usize].session.as_mut().expect("it is owned");
        session.queue.mark_sent(Sequence(lost.sent_before.to_native()));
        let since = Wall(lost.at.to_native()).min(committed.at);
        self.await_client(slot, since, committed.at, effects);
        Outcome::Done
    }

    /// A session waits for its client since a moment, which may be so long ago that it is over.
    fn await_client(&mut self, slot: u32, since: Wall, now: Wall, effects: &mut Vec<Effect>) {
        let session = self.clients[slot as usize].session.as_mut().expect("its connection has just ended");
        session.wait(since);
        if session.expiry_seconds == 0 || session.is_over(now) {
            self.end(slot, now, effects);
            self.tidy(slot);
        } else {
            self.publish_due_will(slot, now, effects);
        }
    }

    pub(super) fn due(
        &mut self,
        committed: Committed<'_>,
        due: &command::ArchivedDue,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let incarnation = Incarnation(due.incarnation.to_native());
        let Some(slot) = self.standing(committed, incarnation) else { return Outcome::Stale };
        let session = self.clients[slot as usize].session.as_ref().expect("it was found by it");
        if session.epoch.is_some() {
            return Outcome::Stale;
        }
        if session.is_over(committed.at) {
            self.end(slot, committed.at, effects);
            self.tidy(slot);
        } else {
            self.publish_due_will(slot, committed.at, effects);
        }
        Outcome::Done
    }

    /// Of a session whose client is away: publishes the will if it is due, and asks for the next moment.
    fn publish_due_will(&mut self, slot: u32, now: Wall, effects: &mut Vec<Effect>) {
        let client = &mut self.clients[slot as usize];
        let Some(session) = &mut client.session else { return };
        let incarnation = session.incarnation;
        let will = session.take_due_will(now);
        let due = session.due();
        if let Some(will) = will {
            client.leave_task(Work::Publish(incarnation, will, now), effects);
        }
        if let Some(due) = due {
            effects.push(Effect::Due(incarnation, due));
        }
    }

    pub(super) fn subscribe(
        &mut self,
        committed: Committed<'_>,
        subscribe: &Archived<command::Subscribe<'static>>,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let owner = (subscribe.incarnation.to_native(), subscribe.epoch.to_native());
        let Some(slot) = self.owned(committed, owner) else { return Outcome::Stale };
        let client = &mut self.clients[slot as usize];
        for subscription in subscribe.subscriptions.iter() {
            let session = client.session.as_mut().expect("it is owned");
            let filter: Box<str> = (&*subscription.filter).into();
            let options = DeliveryOptions::from_bits(subscription.options.to_native());
            session.subscriptions.insert(filter.clone(), options);
            client.leave_task(Work::Route(Incarnation(owner.0), filter, options), effects);
        }
        Outcome::Done
    }

    pub(super) fn unsubscribe(
        &mut self,
        committed: Committed<'_>,
        unsubscribe: &Archived<command::Unsubscribe<'static>>,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let owner = (unsubscribe.incarnation.to_native(), unsubscribe.epoch.to_native());
        let Some(slot) = self.owned(committed, owner) else { return Outcome::Stale };
        let client = &mut self.clients[slot as usize];
        for subscription in unsubscribe.subscriptions.iter() {
            let session = client.session.as_mut().expect("it is owned");
            if session.subscriptions.remove(&*subscription.filter).is_some() {
                let filter: Box<str> = (&*subscription.filter).into();
                client.leave_task(Work::Unroute(Incarnation(owner.0), filter), effects);
            }
        }
        Outcome::Done
    }

    pub(super) fn take(&mut self, committed: Committed<'_>, take: &command::ArchivedTake) -> Outcome {
        let owner = (take.incarnation.to_native(), take.epoch.to_native());
        let Some(slot) = self.owned(committed, owner) else { return Outcome::Stale };
        let session = self.clients[slot as usize].session.as_mut().expect("it is owned");
        let packet_id = take.packet_id.to_native();
        let known = session.taken.get(packet_id);
        let generation = known.map_or(session.next_generation, |taken| taken.generation);
        if known.is_none() {
            session.next_generation += 1;
            session.taken.insert(Taken { packet_id, generation, value: () });
        }
        Outcome::Taken { generation, oldest: session.oldest_generation(), known: known.is_some() }
    }

    pub(super) fn release(
        &mut self,
        committed: Committed<'_>,
        release: &command::ArchivedRelease,
    ) -> Outcome {
        let owner = (release.incarnation.to_native(), release.epoch.to_native());
        let Some(slot) = self.owned(committed, owner) else { return Outcome::Stale };
        let session = self.clients[slot as usize].session.as_mut().expect("it is owned");
        Outcome::Released(session.taken.remove(release.packet_id.to_native()))
    }

    pub(super) fn task_done(
        &mut self,
        committed: Committed<'_>,
        done: &Archived<command::TaskDone<'static>>,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let name = (&*done.tenant, &*done.client);
        let found = self.names.find(&self.clients, name);
        let Some(slot) = found.filter(|_| !contains(committed, name, &mut self.key)) else {
            return Outcome::Stale;
        };
        let client = &mut self.clients[slot as usize];
        if let Some(Work::PassOn(group, _)) = client.finish_task(done.number.to_native(), effects) {
            self.groups.release(group);
        }
        self.tidy(slot);
        Outcome::Done
    }

    /// Ends a client's session.
    fn end(&mut self, slot: u32, now: Wall, effects: &mut Vec<Effect>) {
        let client = &mut self.clients[slot as usize];
        if let Some(session) = &client.session {
            self.by_incarnation.remove(&session.incarnation);
        }
        for group in client.end_session(now, effects) {
            self.groups.release(group);
        }
    }
}
