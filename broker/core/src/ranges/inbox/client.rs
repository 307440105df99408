//! All that a range keeps of one client: its session, and what it left to be done elsewhere. The unit of a
//! checkpoint: a command changes one client as a whole, or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use mqtt::QoS;

use super::queue::{Queue, Sequence, State};
use super::tasks::{Tasks, Work};
use super::{Effect, GroupNumber};
use crate::counters::DropReason;
use crate::delivery::DeliveryOptions;
use crate::identity::Incarnation;
use crate::ranges::MessageId;
use crate::time::Wall;
use crate::unreleased::Unreleased;

/// See the module's documentation.
#[derive(Debug)]
pub struct Client {
    /// Its tenant.
    pub tenant: Arc<str>,
    /// Its client id.
    pub name: Box<str>,
    /// Its session, if it has one.
    pub session: Option<Session>,
    /// What is to be done elsewhere because of it.
    pub tasks: Tasks,
}

/// A message to publish when a connection ends unannounced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will {
    /// The `Attach` that brought it holds it.
    pub message: MessageId,
    /// Seconds to wait for the client to come back first.
    pub delay_seconds: u32,
    /// Seconds that it lives from then on; `u32::MAX` is for ever.
    pub expiry_seconds: u32,
}

/// A persistent session.
#[derive(Debug)]
pub struct Session {
    /// Its name among all sessions that ever were.
    pub incarnation: Incarnation,
    /// The connection that has it, if one has.
    pub epoch: Option<u64>,
    /// Seconds it outlives its connection; `u32::MAX` is for ever.
    pub expiry_seconds: u32,
    /// To be published when the connection ends unannounced.
    pub will: Option<Box<Will>>,
    /// While the client is away: when the will is to be published; otherwise the end of time.
    will_due: Wall,
    /// While the client is away: when the session ends; otherwise the end of time.
    expires: Wall,
    /// By filter as the client spelled it, share name included.
    pub subscriptions: BTreeMap<Box<str>, DeliveryOptions>,
    /// Messages for the client.
    pub queue: Queue,
    /// QoS 2 messages of the client that it has not released.
    pub taken: Unreleased<()>,
    /// The next such message's number.
    pub next_generation: u64,
}

const _: () = assert!(size_of::<Client>() <= 256, "README.md says what a persistent session costs");

impl Session {
    pub(crate) fn new(incarnation: Incarnation) -> Session {
        Session {
            incarnation,
            epoch: None,
            expiry_seconds: 0,
            will: None,
            will_due: Wall::MAX,
            expires: Wall::MAX,
            subscriptions: BTreeMap::new(),
            queue: Queue::default(),
            taken: Unreleased::default(),
            next_generation: 0,
        }
    }

    /// The next moment at which something is due.
    pub fn due(&self) -> Option<Wall> {
        Some(self.will_due.min(self.expires)).filter(|due| *due < Wall::MAX)
    }

    /// When the will is due and when the session ends, the end of time for never; for a checkpoint.
    pub fn moments(&self) -> (Wall, Wall) {
        (self.will_due, self.expires)
    }

    /// Takes what [`Session::moments`] gave.
    pub(super) fn set_moments(&mut self, will_due: Wall, expires: Wall) {
        self.will_due = will_due;
        self.expires = expires;
    }

    /// How many of its subscriptions are shared, and how many are not.
    pub fn subscription_counts(&self) -> (u64, u64) {
        let is_shared = |filter: &str| filter.starts_with("$share/") || filter.starts_with("$oshare/");
        let shared = self.subscriptions.keys().filter(|filter| is_shared(filter)).count() as u64;
        (shared, self.subscriptions.len() as u64 - shared)
    }

    /// The first QoS 2 message of the client that it has not released.
    pub fn oldest_generation(&self) -> u64 {
        self.taken.oldest().unwrap_or(self.next_generation)
    }

    /// A connection has it from now on.
    pub(super) fn enter(&mut self, epoch: u64, expiry_seconds: u32, will: Option<Box<Will>>) {
        self.epoch = Some(epoch);
        self.expiry_seconds = expiry_seconds;
        self.will = will;
        self.will_due = Wall::MAX;
        self.expires = Wall::MAX;
    }

    /// Its connection has ended, it waits for its client.
    pub(super) fn wait(&mut self, now: Wall) {
        self.epoch = None;
        if let Some(will) = &self.will {
            self.will_due = now.after_seconds(will.delay_seconds);
        }
        if self.expiry_seconds != u32::MAX {
            self.expires = now.after_seconds(self.expiry_seconds);
        }
    }

    pub(super) fn is_over(&self, now: Wall) -> bool {
        self.expires <= now
    }

    /// The will, if its time has come; of a session that is taken over, if it would have come with the end of
    /// its connection.
    pub(super) fn take_due_will(&mut self, now: Wall) -> Option<Box<Will>> {
        let due = match self.epoch {
            None => self.will_due <= now,
            Some(_) => self.will.as_ref().is_some_and(|will| will.delay_seconds == 0),
        };
        if due { self.take_will() } else { None }
    }

    /// The will, which is not to be published any more or by somebody else.
    pub(super) fn take_will(&mut self) -> Option<Box<Will>> {
        self.will_due = Wall::MAX;
        self.will.take()
    }
}

impl Client {
    /// A client that an entry brings.
    pub(super) fn new(tenant: Arc<str>, name: &str, index: u64) -> Client {
        Client { tenant, name: name.into(), session: None, tasks: Tasks::new(index) }
    }

    /// Nothing is left of it.
    pub(super) fn is_empty(&self) -> bool {
        self.session.is_none() && self.tasks.is_empty()
    }

    /// Leaves something to be done elsewhere.
    pub(super) fn leave_task(&mut self, work: Work, effects: &mut Vec<Effect>) {
        let number = self.tasks.push(work);
        effects.push(Effect::Task { tenant: Arc::clone(&self.tenant), client: self.name.clone(), number });
    }

    /// Ends the session: its will is published, its routes go, what can go to other members of shared
    /// subscriptions does [MQTT-4.8.2-4, MQTT-4.8.2-5], the rest is lost.
    pub(super) fn end_session(&mut self, now: Wall, effects: &mut Vec<Effect>) -> Vec<GroupNumber> {
        let mut groups = Vec::new();
        let Some(session) = self.session.take() else { return groups };
        let (shared, plain) = session.subscription_counts();
        let (tenant, client) = (Arc::clone(&self.tenant), self.name.clone());
        let incarnation = session.incarnation;
        effects.push(Effect::Ended { incarnation, tenant, client, shared, plain });
        if let Some(will) = session.will {
            self.leave_task(Work::Publish(session.incarnation, will, now), effects);
        }
        for filter in session.subscriptions.into_keys() {
            self.leave_task(Work::Unroute(session.incarnation, filter), effects);
        }
        if session.next_generation > 0 {
            self.leave_task(Work::Forget(session.incarnation), effects);
        }
        let mut lost = 0;
        let sent_before = session.queue.sent_before();
        for (sequence, entry) in session.queue.from(Sequence(0)) {
            let movable = entry.qos == QoS::AtLeastOnce
                || entry.qos == QoS::ExactlyOnce && entry.state == State::Waiting && sequence >= sent_before;
            if let Some(group) = entry.group.filter(|_| movable) {
                // Message and group stay held, by the task.
                self.leave_task(Work::PassOn(group, entry.message), effects);
                continue;
            }
            lost += 1;
            groups.extend(entry.group);
            if entry.state == State::Waiting {
                effects.push(Effect::Released(entry.message));
            }
        }
        if lost > 0 {
            effects.push(Effect::Dropped(Arc::clone(&self.tenant), DropReason::SessionEnded, lost));
        }
        groups
    }

    /// A task is done; what it held is released.
    pub(super) fn finish_task(&mut self, number: u64, effects: &mut Vec<Effect>) -> Option<Work> {
        let work = self.tasks.remove(number)?;
        match &work {
            Work::Publish(_, will, _) => effects.push(Effect::Released(will.message)),
            Work::PassOn(_, message) => effects.push(Effect::Released(*message)),
            Work::Route(..) | Work::Unroute(..) | Work::Forget(_) => {}
        }
        Some(work)
    }

    /// Every message that it holds, for an account after a restart.
    pub fn messages(&self) -> impl Iterator<Item = MessageId> {
        let queued = self.session.iter().flat_map(|session| {
            let waiting = session.queue.from(Sequence(0)).filter(|(_, entry)| entry.state == State::Waiting);
            waiting.map(|(_, entry)| entry.message).chain(session.will.iter().map(|will| will.message))
        });
        let tasks = self.tasks.iter().filter_map(|task| match &task.work {
            Work::Publish(_, will, _) => Some(will.message),
            Work::PassOn(_, message) => Some(*message),
            Work::Route(..) | Work::Unroute(..) | Work::Forget(_) => None,
        });
        queued.chain(tasks)
    }
}
