//! The logs' part of a turn: what was proposed is written, what is durable is applied, and what follows from
//! that goes on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use mqtt::{PacketId, ReasonCode};
use range::{Decision, Priority, Refused, Ticket};
use slab::Slab;
use wal::LogId;

use super::Core;
use super::append::{Answers, Append};
use super::attach::Attaching;
use super::held::Held;
use super::read_in::Readers;
use super::taken::Orphan;
use super::tasks::Tasks;
use crate::access::Grant;
use crate::connection::Pressure;
use crate::identity::{ConnectionId, Incarnation};
use crate::input::Outputs;
use crate::peer::Reply;
use crate::ranges::inbox::command::Encode;
use crate::ranges::inbox::{Effect, Outcome};
use crate::sessions::{Owed, Progress};
use crate::storage::{LogSlot, StorageAnswer, StoredLog};
use crate::tenant::SubscribeWait;
use crate::time::{Now, Wall};
use crate::wheel::TimerId;

/// Of what will never be stored: to a client of version 5 it is said as 0x97, one of an earlier version has no
/// acknowledgement.
pub(super) const NOT_STORED: ReasonCode = ReasonCode::SERVER_BUSY;

/// Rounds that one turn gives its logs: what is applied may lead to further proposals. The rest waits for the
/// next turn.
const ROUNDS_MAX: u32 = 16;

/// Of a proposal that nobody waits for.
const NOBODY: Ticket = Ticket(u64::MAX);

/// Packets that wait for changes of a route, in their order.
type RouteWaiters = VecDeque<RouteWaiter>;

/// A packet that waits for a route to stand, or to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteWaiter {
    pub wait: SubscribeWait,
    /// Which of the packet's filters it is.
    pub number: u16,
    /// It is an UNSUBSCRIBE.
    pub ends: bool,
    /// The task that makes the change, once the range has left it: an older one of the same route is not waited for.
    pub task: Option<u64>,
}

/// What this core knows of its persistent sessions beside their state, and what it waits for.
#[derive(Default)]
pub(super) struct StoredSessions {
    /// By ticket.
    awaited: Slab<Awaited>,
    /// Proposals that a log had no room for, oldest first.
    deferred: VecDeque<Deferred>,
    /// Bytes of those.
    deferred_bytes: u64,
    /// Clients whose session is on its way to a connection.
    pub attaching: HashMap<(Arc<str>, Box<str>), ConnectionId, foldhash::fast::FixedState>,
    /// Sessions whose client is away.
    pub away: HashMap<Incarnation, Away, foldhash::fast::FixedState>,
    pub readers: Readers,
    /// Changes of subscriptions that a full disk has refused this turn.
    pub refused: Vec<(SubscribeWait, Incarnation, Vec<Box<str>>)>,
    /// Messages that it has refused.
    pub unstored: Vec<Append>,
    /// Sessions whose clients have acknowledged something this turn that is waited for.
    pub progressed: Vec<Incarnation>,
    /// Sessions whose clients have acknowledged something that is not.
    pub held: Held,
    pub answers: Answers,
    pub tasks: Tasks,
    /// SUBACKs and UNSUBACKs that wait for routes of persistent sessions, oldest first.
    pub route_waits: HashMap<(Incarnation, Box<str>), RouteWaiters, foldhash::fast::FixedState>,
    /// QoS 2 messages that were taken, and perhaps not routed to everybody: what is to be done when their
    /// clients send them again.
    pub unrouted: HashMap<Incarnation, BTreeMap<PacketId, Again>, foldhash::fast::FixedState>,
    /// Those under way, by the names they had on connections that are gone.
    pub orphans: HashMap<(ConnectionId, u64), Orphan, foldhash::fast::FixedState>,
    /// What clients of sessions that ended just now may do, for their wills.
    pub last_grants: Vec<(Incarnation, Arc<Grant>)>,
    /// When the process began.
    pub started: Wall,
    /// Scratch.
    command: Vec<u8>,
    effects: Vec<Effect>,
    decided: Vec<(Ticket, Decision<Outcome>)>,
}

impl StoredSessions {
    /// Of a process that begins now, on a core with so many logs.
    pub(super) fn new(started: Wall, logs: usize) -> StoredSessions {
        StoredSessions { started, held: Held::new(logs), ..StoredSessions::default() }
    }
}

/// A QoS 2 message whose routing its publisher has not heard of, when it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It came before the process began, and is routed again: those who have it can tell.
    Route,
    /// It is under way since it came on that connection.
    UnderWay(Reply),
}

/// A persistent session whose client is away: what of it is this core's own.
#[derive(Default)]
pub(super) struct Away {
    /// What its client may do, as of its last connection. None: nobody has claimed it since the start.
    pub grant: Option<Arc<Grant>>,
    /// Since when it is away, if that was in this process.
    pub since: Option<Wall>,
    /// Retained messages that it has not got.
    pub owed: Option<Box<Owed>>,
    /// For what is due.
    pub timer: Option<TimerId>,
}

/// Who waits for a proposal.
pub(super) enum Awaited {
    /// A message.
    Append(Append),
    /// A CONNECT.
    Attach(Box<Attaching>),
    /// A SUBSCRIBE or UNSUBSCRIBE, and a session with changes under way.
    Subscriptions(SubscribeWait, Incarnation, Vec<Box<str>>),
    /// A session with a change under way.
    Refused(Incarnation, Box<str>),
    /// PUBRELs.
    Progress(Incarnation, u64, Progress),
    /// A PUBREC.
    Take(Reply),
    /// A PUBCOMP.
    Release(ConnectionId, PacketId),
}

/// A proposal that waits for room in its log.
struct Deferred {
    slot: LogSlot,
    priority: Priority,
    ticket: Ticket,
    body: Vec<u8>,
    payload: Bytes,
}

impl Core {
    /// The host has done something for a log.
    pub(super) fn on_storage(&mut self, now: Now, answer: StorageAnswer) {
        let salt = self.random.next();
        self.storage.on_answer(now, answer, salt);
        self.look_at_fullness();
    }

    /// Proposes a command; it is decided later.
    pub(super) fn propose(
        &mut self,
        slot: LogSlot,
        priority: Priority,
        awaited: Option<Awaited>,
        (command, payload): (&dyn Encode, &[u8]),
        out: &mut Outputs,
    ) {
        self.propose_held(slot, out);
        let ticket = awaited.map_or(NOBODY, |awaited| Ticket(self.stored.awaited.insert(awaited) as u64));
        let mut body = std::mem::take(&mut self.stored.command);
        body.clear();
        command.encode(&mut body);
        let waits = self.stored.deferred.iter().any(|deferred| deferred.slot == slot);
        let replica = self.storage.log_mut(slot).inbox_mut();
        let proposed =
            if waits { Err(Refused::LogBehind) } else { replica.propose(priority, ticket, &body, payload) };
        match proposed {
            Ok(()) => {}
            Err(Refused::LogBehind | Refused::Behind { .. }) => {
                let payload = Bytes::copy_from_slice(payload);
                self.stored.deferred_bytes += (body.len() + payload.len()) as u64;
                // Publishers are slowed while the disk is.
                if priority != Priority::Control {
                    self.pressure = Pressure::FULL;
                }
                let body = body.clone();
                self.stored.deferred.push_back(Deferred { slot, priority, ticket, body, payload });
            }
            Err(_) => self.on_refused(ticket),
        }
        self.stored.command = body;
    }

    /// Proposes again what a log had no room for.
    fn propose_deferred(&mut self) {
        let mut behind: Vec<LogSlot> = Vec::new();
        for _ in 0..self.stored.deferred.len() {
            let Some(deferred) = self.stored.deferred.pop_front() else { break };
            let Deferred { slot, priority, ticket, ref body, ref payload } = deferred;
            let proposed = if behind.contains(&slot) {
                Err(Refused::LogBehind)
            } else {
                self.storage.log_mut(slot).inbox_mut().propose(priority, ticket, body, payload)
            };
            let bytes = (body.len() + payload.len()) as u64;
            match proposed {
                Err(Refused::LogBehind | Refused::Behind { .. }) => {
                    behind.push(slot);
                    self.stored.deferred.push_back(deferred);
                    continue;
                }
                Ok(()) => {}
                Err(_) => self.on_refused(ticket),
            }
            self.stored.deferred_bytes -= bytes;
        }
    }

    /// Whether the logs keep up with what clients bring.
    pub(super) fn logs_keep_up(&self) -> bool {
        self.stored.deferred_bytes <= u64::from(self.config.mailbox_bytes_max)
    }

    /// Ends the turn of the logs.
    pub(super) fn end_storage_turn(&mut self, now: Now, out: &mut Outputs) {
        for _ in 0..ROUNDS_MAX {
            self.go_on_reading(now, out);
            for _ in 0..ROUNDS_MAX {
                self.propose_progress(out);
                self.propose_deferred();
                self.propose_held_along(out);
                self.refuse_subscriptions(out);
                self.give_up_unstored(now, out);
                self.storage.turn(now);
                let applied = self.take_applied(now, out);
                // Tasks that a start has found, or a budget left over, wait for nothing to be applied.
                let ran = self.has_tasks();
                if !self.settle_retained(now, out) && !applied && !ran {
                    break;
                }
                self.run_tasks(now, out);
                self.on_own_messages(now, out);
            }
            self.storage.flush(now);
            if !self.storage.serve_memory(now, &mut self.random) {
                break;
            }
        }
        self.time_held(now);
        out.storage.append(&mut self.storage.requests);
    }

    /// Goes on with what was applied: false if nothing was.
    fn take_applied(&mut self, now: Now, out: &mut Outputs) -> bool {
        let mut any = false;
        for slot in self.storage.slots() {
            let mut decided = std::mem::take(&mut self.stored.decided);
            let mut effects = std::mem::take(&mut self.stored.effects);
            let outputs = self.storage.log_mut(slot).inbox_outputs();
            std::mem::swap(&mut decided, &mut outputs.decided);
            std::mem::swap(&mut effects, &mut outputs.effects);
            any |= !decided.is_empty() || !effects.is_empty();
            for (ticket, decision) in decided.drain(..) {
                match decision {
                    Decision::Applied { outcome, .. } => self.on_applied(now, slot, ticket, outcome, out),
                    Decision::Dropped => self.on_refused(ticket),
                }
            }
            for effect in effects.drain(..) {
                self.on_stored_effect(now, slot, effect, out);
            }
            (self.stored.decided, self.stored.effects) = (decided, effects);
        }
        any
    }

    /// A proposal is applied, and durable.
    fn on_applied(&mut self, now: Now, slot: LogSlot, ticket: Ticket, outcome: Outcome, out: &mut Outputs) {
        if ticket == NOBODY {
            return;
        }
        match self.take_awaited(ticket) {
            Awaited::Append(append) => self.on_appended(now, append, out),
            Awaited::Attach(attaching) => {
                let Outcome::Attached(attached) = outcome else { unreachable!("what an attach comes to") };
                self.on_attached(now, slot, *attaching, attached, out);
            }
            Awaited::Subscriptions(wait, session, filters) => {
                self.on_subscriptions_changed(session, &filters);
                self.on_request_progress(wait, out);
            }
            Awaited::Refused(session, filter) => self.on_subscriptions_changed(session, &[filter]),
            Awaited::Progress(session, epoch, progress) => {
                self.on_progress_applied(now, (session, epoch), &progress, out);
            }
            Awaited::Take(reply) => self.on_answer(reply, 0, ReasonCode::SUCCESS, out),
            Awaited::Release(connection, packet_id) => self.complete_release(connection, packet_id, out),
        }
    }

    /// A proposal will never be applied: a full disk takes nothing new.
    fn on_refused(&mut self, ticket: Ticket) {
        if ticket == NOBODY {
            return;
        }
        match self.take_awaited(ticket) {
            // Perhaps while its session is at work.
            Awaited::Append(append) => self.stored.unstored.push(append),
            // Perhaps before the packet was entered that waits for it.
            Awaited::Subscriptions(wait, session, filters) => {
                self.stored.refused.push((wait, session, filters));
            }
            Awaited::Attach(_)
            | Awaited::Refused(..)
            | Awaited::Progress(..)
            | Awaited::Take(_)
            | Awaited::Release(..) => unreachable!("a lone voter refuses only what is new data"),
        }
    }

    fn take_awaited(&mut self, ticket: Ticket) -> Awaited {
        let key = usize::try_from(ticket.0).expect("was a usize");
        self.stored.awaited.remove(key)
    }

    /// One of this core's logs, for its writer.
    #[must_use]
    pub fn stored_log(&self, log: LogId) -> Option<&StoredLog> {
        self.storage.by_id(log)
    }

    /// Writes behind all that was appended that it was written, for an orderly stop. The host calls it, and ends
    /// turns, until [`Core::logs_are_closed`].
    pub fn close_logs(&mut self, now: Now) {
        self.storage.close(now);
    }

    /// Whether all that was appended is on the disk, and marked to be, where there was room for that.
    #[must_use]
    pub fn logs_are_closed(&self) -> bool {
        self.storage.is_closed()
    }

    /// A log could not be written. Nothing is acknowledged any more, and the process is to end.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.storage.is_poisoned()
    }

    /// Whether everything proposed is decided.
    pub(super) fn is_storage_quiet(&self) -> bool {
        self.stored.awaited.is_empty() && self.stored.deferred.is_empty() && self.storage.is_quiet()
    }
}
