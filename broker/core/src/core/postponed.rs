//! Deliveries that go beyond a turn: a message for very many sessions of this core is given to them over several
//! turns, as many of them in each as the budget says (`turn_deliveries_max`).
//!
//! - First come, first served; and a message on a topic that has deliveries left over takes its place behind
//!   them, so that none overtakes another (promise 3).
//! - Who gets a message is settled when it is published, or comes from another core, as far as the budget goes: to find
//!   the sessions is a match, and what comes behind the budget is as if it came later. An UNSUBACK waits for what is
//!   postponed before it [MQTT-3.10.4-2]. Whether they may have it is judged again if permissions have changed since.
//! - Back-pressure: a publisher of this core is not read until its message is with everybody. One of another
//!   core is read more slowly, and its core has its credit back only then.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use mqtt::ReasonCode;

use super::Core;
use super::append::{AnswerKey, AnswerTo};
use crate::counters::DropReason;
use crate::dist::{CachedTopic, FanOut, Target};
use crate::identity::{ConnectionId, CoreId};
use crate::input::Outputs;
use crate::message::{Message, Publication};
use crate::peer::{Body, Reply};
use crate::tenant::{SubscribeWait, TenantIndex};
use crate::time::Now;

/// Messages of other cores that may be postponed before their publishers are slowed for the number of them
/// alone: fewer are an uneven turn.
const MESSAGES_MAX: usize = 1024;

/// What is left over, and who waits for it.
#[derive(Default)]
pub(super) struct Postponed {
    messages: VecDeque<Delivery>,
    /// How many of them are on each topic.
    topics: HashMap<(TenantIndex, Box<str>), Count, foldhash::fast::FixedState>,
    /// Connections whose next retained message waits for them.
    readers: Vec<ConnectionId>,
    /// How many of them each connection of this core has published.
    publishers: BTreeMap<ConnectionId, u32>,
}

/// Messages on one topic.
#[derive(Default)]
struct Count {
    all: u32,
    /// Those of them that change what is retained.
    changes: u32,
}

/// One message and those who have not got it yet.
struct Delivery {
    tenant: TenantIndex,
    message: Arc<Message>,
    recipients: Recipients,
    /// Of the access list under which it was settled who may have it.
    generation: u32,
    /// The first of them who has not got it.
    at: usize,
    origin: Origin,
    /// What is owed for it.
    answer: Option<AnswerKey>,
    /// UNSUBACKs that wait for it.
    waits: Vec<SubscribeWait>,
}

/// Who is to get it.
pub(super) enum Recipients {
    /// The topic's volatile sessions of this core.
    Volatile(Rc<CachedTopic>),
    /// The same, for a topic that is not cached.
    Gathered(Vec<FanOut>),
    /// Some of the topic's durable sessions.
    Durable(Rc<CachedTopic>, Range<usize>),
    /// Durable sessions that another core has named.
    Named(Vec<Target>),
    /// The topic's volatile sessions of this core, whoever they are then: the turn had no budget left to find out.
    Unknown,
}

/// Where a message comes from, and what is owed for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// The core that has its publisher.
    pub core: CoreId,
    /// Its publisher, if there is one to be slowed.
    pub publisher: Option<ConnectionId>,
    /// Answered when all have it.
    pub reply: Option<Reply>,
    /// Credit that the core has back then.
    pub data_bytes: u64,
}

impl Recipients {
    /// So many from here on, and those behind them that belong to the last one's session: a range knows a repeat by its
    /// session, and would take the second copy for one if the node ended between the two.
    fn whole(&self, at: usize, count: usize) -> usize {
        let targets = match self {
            Recipients::Durable(cached, range) => &cached.sessions()[range.clone()],
            Recipients::Named(targets) => targets,
            Recipients::Volatile(_) | Recipients::Gathered(_) | Recipients::Unknown => return count,
        };
        let (taken, behind) = targets[at..].split_at(count);
        let last = taken.last().map(|target| target.session);
        count + behind.iter().take_while(|target| Some(target.session) == last).count()
    }

    fn len(&self) -> usize {
        match self {
            Recipients::Volatile(cached) => cached.local.len(),
            Recipients::Gathered(targets) => targets.len(),
            Recipients::Durable(_, range) => range.len(),
            Recipients::Named(targets) => targets.len(),
            Recipients::Unknown => 1,
        }
    }
}

impl Postponed {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether deliveries of a connection's messages are left over.
    pub(super) fn hold(&self, publisher: ConnectionId) -> bool {
        self.publishers.contains_key(&publisher)
    }

    /// Has a request wait for all that is left over now; false if nothing is.
    pub(super) fn make_wait(&mut self, wait: SubscribeWait) -> bool {
        let Some(last) = self.messages.back_mut() else { return false };
        last.waits.push(wait);
        true
    }

    /// Whether messages that change what is retained on a topic are left over.
    pub(super) fn has_change(&self, tenant: TenantIndex, topic: &str) -> bool {
        let count = || self.topics.get(&(tenant, Box::from(topic)));
        !self.messages.is_empty() && count().is_some_and(|count| count.changes > 0)
    }

    /// Has a connection's retained messages wait for them.
    pub(super) fn make_reader_wait(&mut self, reader: ConnectionId) {
        if !self.readers.contains(&reader) {
            self.readers.push(reader);
        }
    }

    fn has_topic(&self, tenant: TenantIndex, topic: &str) -> bool {
        !self.messages.is_empty() && self.topics.contains_key(&(tenant, Box::from(topic)))
    }
}

impl Core {
    /// Whether so many deliveries have to wait for another turn: the turn has no budget left, they are more than
    /// it ever has, or others on the topic wait.
    pub(super) fn must_wait(&self, tenant: TenantIndex, topic: &str, deliveries: usize) -> bool {
        deliveries > 0
            && (self.deliveries_left == 0
                || deliveries > self.config.turn_deliveries_max as usize
                || self.postponed.has_topic(tenant, topic))
    }

    /// Leaves deliveries to the turns that follow.
    pub(super) fn postpone(
        &mut self,
        tenant: TenantIndex,
        publication: &Publication<'_>,
        recipients: Recipients,
        origin: Origin,
    ) {
        let large = recipients.len() > self.config.turn_deliveries_max as usize;
        if origin.core != self.id {
            self.peers.owe(origin.core, origin.data_bytes);
            let slow = origin.publisher.filter(|_| large || self.postponed.len() > MESSAGES_MAX);
            if let Some(connection) = slow {
                self.post(origin.core, Body::Slow { connection });
            }
        } else if let Some(publisher) = origin.publisher
            && let Some(connection) = self.connections.get_mut(publisher)
        {
            connection.stalled = true;
            *self.postponed.publishers.entry(publisher).or_default() += 1;
        }
        let count = self.postponed.topics.entry((tenant, publication.topic.into())).or_default();
        count.all += 1;
        count.changes += u32::from(publication.retain);
        let message = Arc::clone(publication.share());
        let generation = self.access.generation();
        let to = origin.reply.map(|reply| AnswerTo { core: origin.core, reply });
        let answer = self.begin_answer(to);
        let delivery =
            Delivery { tenant, message, recipients, generation, at: 0, origin, answer, waits: Vec::new() };
        self.postponed.messages.push_back(delivery);
    }

    /// Goes on with what is left over, under a budget of its own.
    pub(super) fn process_postponed(&mut self, now: Now, out: &mut Outputs) {
        self.deliveries_left = self.config.turn_deliveries_max;
        while self.deliveries_left > 0 {
            let Some(mut delivery) = self.postponed.messages.pop_front() else { break };
            let left = delivery.recipients.len() - delivery.at;
            let expired = delivery.message.is_expired(now.wall);
            if expired {
                self.tenants.lose(&mut self.counters, delivery.tenant, DropReason::Expired, left as u64);
                delivery.at += left;
            } else if let Recipients::Unknown = delivery.recipients {
                self.gather(&mut delivery);
            } else {
                let count = delivery.recipients.whole(delivery.at, left.min(self.deliveries_left as usize));
                self.deliver_next(now, &mut delivery, count, out);
            }
            if delivery.at < delivery.recipients.len() {
                self.postponed.messages.push_front(delivery);
            } else {
                self.end_postponed(delivery, out);
            }
        }
        for reader in std::mem::take(&mut self.postponed.readers) {
            self.pump_retained(now, reader, out);
        }
    }

    /// Finds out who is to get a message.
    fn gather(&mut self, delivery: &mut Delivery) {
        let topic = &delivery.message.topic;
        let (recipients, denied) = if let Some(cached) = self.cached_readers(delivery.tenant, topic) {
            let denied = cached.denied;
            (Recipients::Volatile(cached), denied)
        } else {
            let (local, denied) = self.local_readers(delivery.tenant, topic);
            (Recipients::Gathered(local), denied)
        };
        self.tenants.lose(&mut self.counters, delivery.tenant, DropReason::NoPermission, u64::from(denied));
        (delivery.recipients, delivery.generation) = (recipients, self.access.generation());
    }

    fn deliver_next(&mut self, now: Now, delivery: &mut Delivery, count: usize, out: &mut Outputs) {
        let publication = Publication::from(&delivery.message);
        self.retain_order.gives(Some(delivery.origin.core));
        let range = delivery.at..delivery.at + count;
        delivery.at = range.end;
        match &delivery.recipients {
            Recipients::Volatile(cached) => {
                self.fan_out_late(now, &publication, &cached.local[range], delivery.generation, out);
            }
            Recipients::Gathered(targets) => {
                self.fan_out_late(now, &publication, &targets[range], delivery.generation, out);
            }
            Recipients::Durable(cached, part) => {
                let targets = &cached.sessions()[part.clone()][range];
                self.append_all(now, &publication, targets, delivery.answer, out);
            }
            Recipients::Named(targets) => {
                self.append_all(now, &publication, &targets[range], delivery.answer, out);
            }
            Recipients::Unknown => unreachable!("they are gathered first"),
        }
        self.retain_order.gives(None);
        let Origin { core, publisher, .. } = delivery.origin;
        self.slow_publisher(now, publisher, (core != self.id).then_some(core));
    }

    /// All have it: what was owed for it is given.
    fn end_postponed(&mut self, delivery: Delivery, out: &mut Outputs) {
        let Delivery { tenant, message, origin, answer, waits, .. } = delivery;
        let topic = (tenant, Box::from(message.topic.as_str()));
        if let Some(count) = self.postponed.topics.get_mut(&topic) {
            count.all -= 1;
            count.changes -= u32::from(message.retain);
            if count.all == 0 {
                self.postponed.topics.remove(&topic);
            }
        }
        if origin.core != self.id {
            self.peers.repay(origin.core, origin.data_bytes);
        } else if let Some(publisher) = origin.publisher {
            self.release_publisher(publisher);
        }
        if let Some(reply) = origin.reply.filter(|_| !self.end_answer(answer)) {
            self.give_answer(AnswerTo { core: origin.core, reply }, ReasonCode::SUCCESS, out);
        }
        for wait in waits {
            self.on_request_progress(wait, out);
        }
    }

    fn release_publisher(&mut self, publisher: ConnectionId) {
        let Some(count) = self.postponed.publishers.get_mut(&publisher) else { return };
        *count -= 1;
        if *count == 0 {
            self.postponed.publishers.remove(&publisher);
            self.unstall(publisher);
        }
    }
}
