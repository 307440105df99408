//! Changes of what is retained, on their way into the logs of this core.
//!
//! Each range has its changes in one line, in the order in which they came. One is judged (a tenant may keep so many
//! messages), proposed, and *made* when it is durable and applied: then its publisher is answered, and readers who know
//! of it are ([`RetainOrder`](super::retain_order::RetainOrder)). One that is refused at once keeps its place, so that
//! changes are made in the order of the line.
//!
//! When the log takes no more, the line waits, and so do those who fill it: a publisher of this core is not read, and
//! another core has the credit for what it sent only when that is proposed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mqtt::{QoS, ReasonCode};
use range::{Decision, Refused, Ticket};

use super::Core;
use super::publish::is_ours;
use super::stored::NOT_STORED;
use super::timers::{Timer, due};
use crate::changes::ChangeName;
use crate::counters::DropReason;
use crate::identity::{ConnectionId, CoreId, Incarnation};
use crate::input::Outputs;
use crate::message::{Message, Publication};
use crate::peer::{Body, Reply};
use crate::placement::retain_key;
use crate::ranges::MessageId;
use crate::ranges::retain::command::{Clear, Encode, Expire, Forget, Set};
use crate::storage::{LET_IN, LogSlot, NEW_DATA, Storage, UPKEEP};
use crate::time::{Now, Wall};
use crate::wheel::TimerId;

/// Expired messages that are removed at a time.
const EXPIRED_MAX: usize = 1024;

/// When what a log had no room for is tried again.
const RETRY_MS: u64 = 1000;

/// Of the removal of an expired message, for which nobody waits.
const EXPIRY: Ticket = Ticket(u64::MAX);

/// Of what makes a range forget a publisher, likewise.
const FORGETTING: Ticket = Ticket(u64::MAX - 1);

/// The changes of all ranges of this core.
#[derive(Default)]
pub(super) struct RetainChanges {
    /// By log.
    lines: Vec<Line>,
    /// How many changes of each connection of this core wait for room.
    publishers: BTreeMap<ConnectionId, u32>,
    /// Scratch.
    command: Vec<u8>,
}

/// The changes of one range.
#[derive(Default)]
struct Line {
    /// Number of the first.
    first: u64,
    changes: VecDeque<Change>,
    /// Those at the end that are not judged.
    waiting: usize,
    /// Those that are proposed and not decided.
    proposed: usize,
    /// Removals of expired messages that are not decided.
    expiring: usize,
    /// For the next message that expires.
    timer: Option<(Wall, TimerId)>,
}

struct Change {
    name: ChangeName,
    /// Answered when it is made.
    reply: Option<Reply>,
    state: State,
}

enum State {
    Waiting(Box<Waiting>),
    Proposed,
    Made(ReasonCode),
}

/// A change that the log had no room for.
struct Waiting {
    message: Arc<Message>,
    /// A publisher of this core, not read meanwhile.
    publisher: Option<ConnectionId>,
    /// Credit that the core has back when it is proposed.
    data_bytes: u64,
}

/// Where a change comes from, and what is owed for it.
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// The core that has its publisher.
    pub from: CoreId,
    /// Answered when it is made.
    pub reply: Option<Reply>,
    /// Its publisher, if it is a connection of this core.
    pub publisher: Option<ConnectionId>,
    /// What it took of the core's credit.
    pub data_bytes: u64,
}

/// What a try to make a change came to.
enum Tried {
    Proposed,
    /// At once.
    Settled(ReasonCode),
    /// The log has no room now, or what is under way decides whether the tenant may keep it.
    Later,
}

impl RetainChanges {
    pub(super) fn new(logs: usize) -> RetainChanges {
        RetainChanges { lines: (0..logs).map(|_| Line::default()).collect(), ..RetainChanges::default() }
    }

    fn line(&mut self, slot: LogSlot) -> &mut Line {
        &mut self.lines[usize::from(slot.0)]
    }

    /// Whether changes of a connection wait for room.
    pub(super) fn hold(&self, publisher: ConnectionId) -> bool {
        self.publishers.contains_key(&publisher)
    }

    /// Changes that are not made.
    pub(super) fn len(&self) -> usize {
        self.lines.iter().map(|line| line.changes.len()).sum()
    }

    /// Changes that are proposed and not decided.
    fn proposed(&self) -> usize {
        self.lines.iter().map(|line| line.proposed).sum()
    }
}

impl Core {
    /// A change has come for a range of this core. The reason for its publisher's acknowledgement, if it is made at
    /// once; otherwise `source` has its answer later.
    pub(super) fn change_retained(
        &mut self,
        now: Now,
        slot: LogSlot,
        publication: &Publication<'_>,
        source: Source,
    ) -> Option<ReasonCode> {
        let name = self.retain_order.comes(slot, source.from);
        let tried = match self.retain_changes.line(slot).waiting {
            0 => self.try_change(now, slot, publication, name),
            _ => Tried::Later,
        };
        let state = match tried {
            Tried::Settled(reason) if self.retain_changes.line(slot).changes.is_empty() => {
                self.retain_order.makes(slot, source.from);
                return Some(reason);
            }
            Tried::Settled(reason) => State::Made(reason),
            Tried::Proposed => State::Proposed,
            Tried::Later => self.make_wait(slot, publication, source),
        };
        let reply = source.reply;
        self.retain_changes.line(slot).changes.push_back(Change { name, reply, state });
        None
    }

    /// Proposes a change, if its tenant may have it and its log has room.
    fn try_change(
        &mut self,
        now: Now,
        slot: LogSlot,
        publication: &Publication<'_>,
        name: ChangeName,
    ) -> Tried {
        if is_ours(publication.topic) {
            self.storage.log_mut(slot).keep_unwritten(publication, name);
            return Tried::Settled(ReasonCode::SUCCESS);
        }
        let clears = publication.payload.is_empty();
        if !clears && let Some(tried) = self.judge_change(now, slot, publication) {
            return tried;
        }
        let line = self.retain_changes.line(slot);
        let ticket = Ticket(line.first + (line.changes.len() - line.waiting) as u64);
        let mut command = std::mem::take(&mut self.retain_changes.command);
        command.clear();
        if clears {
            let (tenant, topic) = (&**publication.tenant, publication.topic);
            Clear { tenant, topic, origin: publication.origin }.encode(&mut command);
        } else {
            Set { message: publication.head(), origin: publication.origin }.encode(&mut command);
        }
        let priority = match publication.qos {
            _ if clears => UPKEEP,
            QoS::AtMostOnce => NEW_DATA,
            QoS::AtLeastOnce | QoS::ExactlyOnce => LET_IN,
        };
        let replica = self.storage.log_mut(slot).retain_mut();
        let proposed = replica.propose(priority, ticket, &command, publication.payload);
        self.retain_changes.command = command;
        match proposed {
            Ok(()) => {
                self.retain_changes.line(slot).proposed += 1;
                if !clears {
                    self.pay_retain(now, publication.tenant, publication.bytes());
                }
                Tried::Proposed
            }
            Err(Refused::DiskFull) => {
                self.lose_of(publication.tenant, DropReason::DiskFull, 1);
                Tried::Settled(NOT_STORED)
            }
            Err(Refused::LogBehind | Refused::Behind { .. } | Refused::NotLeader(_)) => Tried::Later,
            Err(Refused::TooLarge { .. }) => unreachable!("a packet fits into a record"),
        }
    }

    /// Why a message may not be kept; None: it may. A command judges its own topic alone, so a tenant's maximum is
    /// judged here, by what is kept and what may come of what is under way.
    fn judge_change(&mut self, now: Now, slot: LogSlot, publication: &Publication<'_>) -> Option<Tried> {
        let tenant = &**publication.tenant;
        if self.tenants.wanted().retained {
            let former = self.storage.log(slot).retain().machine().topic_bytes(tenant, publication.topic);
            let index = self.tenants.index(publication.tenant, &self.config);
            if let Err(limit) = self.check_retain(now, index, publication.bytes(), former) {
                // What is under way may make room, or be what took it.
                if limit.is_of_retained_totals() && self.retain_changes.proposed() > 0 {
                    return Some(Tried::Later);
                }
                self.bite_message(index, publication.topic, limit);
                self.tenants.lose(&mut self.counters, index, DropReason::RetainFull, 1);
                return Some(Tried::Settled(ReasonCode::QUOTA_EXCEEDED));
            }
        }
        let max = self.config.settings(tenant).retained_messages_max as usize;
        let proposed = self.retain_changes.proposed();
        if self.storage.retained_of(tenant) + proposed < max {
            return None;
        }
        if self.storage.log(slot).retain().machine().contains(tenant, publication.topic) {
            return None;
        }
        if proposed > 0 {
            return Some(Tried::Later);
        }
        self.lose_of(publication.tenant, DropReason::RetainFull, 1);
        Some(Tried::Settled(ReasonCode::QUOTA_EXCEEDED))
    }

    /// A change waits for room, and so does whoever brings more of them.
    fn make_wait(&mut self, slot: LogSlot, publication: &Publication<'_>, source: Source) -> State {
        self.retain_changes.line(slot).waiting += 1;
        if let Some(publisher) = source.publisher
            && let Some(connection) = self.connections.get_mut(publisher)
        {
            connection.stalled = true;
            *self.retain_changes.publishers.entry(publisher).or_default() += 1;
        }
        if source.from != self.id {
            self.peers.owe(source.from, source.data_bytes);
        }
        let Source { publisher, data_bytes, .. } = source;
        State::Waiting(Box::new(Waiting { message: Arc::clone(publication.share()), publisher, data_bytes }))
    }

    /// A change has come from another core.
    pub(super) fn on_retain(
        &mut self,
        now: Now,
        from: CoreId,
        message: &Arc<Message>,
        reply: Option<Reply>,
        data_bytes: u64,
    ) {
        let slot = Storage::slot_of(&self.config, retain_key(&message.tenant, &message.topic));
        let source = Source { from, reply, publisher: None, data_bytes };
        if let Some(reason) = self.change_retained(now, slot, &Publication::from(message), source) {
            if let Some(reply) = reply {
                self.post(from, Body::Answer { reply, reason });
            }
            self.answer_early(now);
        }
    }

    /// Goes on with what the logs have decided: false if that is nothing.
    pub(super) fn settle_retained(&mut self, now: Now, out: &mut Outputs) -> bool {
        let mut any = false;
        for slot in self.storage.slots() {
            let mut decided = std::mem::take(&mut self.storage.log_mut(slot).retain_outputs().decided);
            if !decided.is_empty() {
                any = true;
                for (ticket, decision) in decided.drain(..) {
                    self.on_change_decided(now, slot, ticket, &decision);
                }
                self.pop_made(slot, out);
                self.expire_retained(now, slot);
            }
            self.storage.log_mut(slot).retain_outputs().decided = decided;
            self.propose_waiting(now, slot, out);
        }
        if any && self.tenants.wanted().retained {
            self.enter_retained();
        }
        if any {
            self.answer_early(now);
        }
        any
    }

    /// A publishing session has ended: nothing of it comes again. What a range does not hear costs it some memory.
    pub(super) fn forget_retaining(&mut self, session: Incarnation) {
        let mut command = Vec::new();
        Forget { incarnation: session.0 }.encode(&mut command);
        for slot in self.storage.slots() {
            let _ = self.storage.log_mut(slot).retain_mut().propose(UPKEEP, FORGETTING, &command, &[]);
        }
    }

    fn on_change_decided(
        &mut self,
        now: Now,
        slot: LogSlot,
        ticket: Ticket,
        decision: &Decision<crate::ranges::retain::Outcome>,
    ) {
        if ticket == FORGETTING {
            return;
        }
        // On a core alone the message has reached its subscribers before, unless the turn's budget put it off.
        let on_its_way = self.config.cores > 1 || !self.postponed.is_empty();
        let line = self.retain_changes.line(slot);
        if ticket == EXPIRY {
            line.expiring -= 1;
            return;
        }
        line.proposed -= 1;
        let at = usize::try_from(ticket.0 - line.first).expect("the line fits into memory");
        let change = &mut line.changes[at];
        change.state = State::Made(match decision {
            Decision::Applied { id, .. } => {
                if on_its_way {
                    self.retain_order.leaves(now, slot, MessageId::local(*id), change.name);
                }
                ReasonCode::SUCCESS
            }
            Decision::Dropped => NOT_STORED,
        });
    }

    /// What is made in front of the line leaves it.
    fn pop_made(&mut self, slot: LogSlot, out: &mut Outputs) {
        loop {
            let line = self.retain_changes.line(slot);
            let Some(Change { name, reply, state: State::Made(reason) }) = line.changes.front() else {
                return;
            };
            let (from, reply, reason) = (name.from, *reply, *reason);
            line.changes.pop_front();
            line.first += 1;
            self.retain_order.makes(slot, from);
            match reply {
                Some(reply) if from == self.id => self.on_answer(reply, 0, reason, out),
                Some(reply) => self.post(from, Body::Answer { reply, reason }),
                None => {}
            }
        }
    }

    /// Tries again what waits for room.
    fn propose_waiting(&mut self, now: Now, slot: LogSlot, out: &mut Outputs) {
        loop {
            let line = self.retain_changes.line(slot);
            if line.waiting == 0 {
                return;
            }
            let at = line.changes.len() - line.waiting;
            let State::Waiting(waiting) = &line.changes[at].state else { unreachable!("it waits") };
            let (message, name) = (Arc::clone(&waiting.message), line.changes[at].name);
            let state = match self.try_change(now, slot, &Publication::from(&message), name) {
                Tried::Later => return,
                Tried::Proposed => State::Proposed,
                Tried::Settled(reason) => State::Made(reason),
            };
            let line = self.retain_changes.line(slot);
            line.waiting -= 1;
            let change = &mut line.changes[at];
            let from = change.name.from;
            if let State::Waiting(waiting) = std::mem::replace(&mut change.state, state) {
                self.end_wait(from, &waiting);
            }
            self.pop_made(slot, out);
        }
    }

    fn end_wait(&mut self, from: CoreId, waiting: &Waiting) {
        if from != self.id {
            self.peers.repay(from, waiting.data_bytes);
        }
        let Some(publisher) = waiting.publisher else { return };
        let publishers = &mut self.retain_changes.publishers;
        let Some(count) = publishers.get_mut(&publisher) else { return };
        *count -= 1;
        if *count == 0 {
            publishers.remove(&publisher);
            self.unstall(publisher);
        }
    }

    /// Removes messages whose time has passed, and asks to be woken for the next.
    pub(super) fn expire_retained(&mut self, now: Now, slot: LogSlot) {
        if self.retain_changes.line(slot).expiring > 0 {
            return; // their end leads here again
        }
        let machine = self.storage.log(slot).retain().machine();
        let Some(next) = machine.next_expiry() else { return self.disarm_retained(slot) };
        if next > now.wall {
            return self.arm_retained(now, slot, next);
        }
        let mut commands = Vec::new();
        for (tenant, topic) in machine.expired(now.wall).take(EXPIRED_MAX) {
            let mut command = Vec::new();
            Expire { tenant, topic: &topic }.encode(&mut command);
            commands.push(command);
        }
        let replica = self.storage.log_mut(slot).retain_mut();
        let taken =
            commands.iter().take_while(|command| replica.propose(UPKEEP, EXPIRY, command, &[]).is_ok());
        let taken = taken.count();
        self.retain_changes.line(slot).expiring = taken;
        if taken == 0 {
            self.arm_retained(now, slot, Wall(now.wall.0 + RETRY_MS));
        }
    }

    /// A range has one timer at most, for the message that expires next.
    fn arm_retained(&mut self, now: Now, slot: LogSlot, at: Wall) {
        if self.retain_changes.line(slot).timer.is_some_and(|(armed, _)| armed == at) {
            return;
        }
        self.disarm_retained(slot);
        let timer = self.wheel.arm(due(now, at).0, Timer::Retained(slot));
        self.retain_changes.line(slot).timer = Some((at, timer));
    }

    fn disarm_retained(&mut self, slot: LogSlot) {
        if let Some((_, timer)) = self.retain_changes.line(slot).timer.take() {
            self.wheel.cancel(timer);
        }
    }

    /// The time of a retained message may have passed.
    pub(super) fn on_retained_timer(&mut self, now: Now, slot: LogSlot) {
        self.retain_changes.line(slot).timer = None;
        self.expire_retained(now, slot);
    }

    /// At the start: what expired meanwhile goes, what will is waited for.
    pub(super) fn expire_all_retained(&mut self, now: Now) {
        for slot in self.storage.slots() {
            self.expire_retained(now, slot);
        }
    }
}
