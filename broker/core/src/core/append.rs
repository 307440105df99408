//! Hot path. Messages for persistent sessions that are at home here: proposed, one command for all of a log's
//! sessions, and answered when all that it takes is durable.

use std::sync::Arc;

use mqtt::{QoS, ReasonCode};
use slab::Slab;
use smallvec::SmallVec;

use super::Core;
use super::deliver::{Unqueued, queue_limits};
use super::stored::Awaited;
use crate::connection::Fields;
use crate::counters::DropReason;
use crate::delivery::DeliveryOptions;
use crate::dist::{GroupKey, Target};
use crate::identity::{ConnectionId, CoreId, Incarnation};
use crate::input::Outputs;
use crate::message::Publication;
use crate::notice::Event;
use crate::peer::{Body, Reply};
use crate::ranges::inbox::command;
use crate::sessions::{Live, QueueLimits, SessionSlot};
use crate::storage::{LET_IN, LogSlot, NEW_DATA};
use crate::time::Now;

/// Answers that wait for their parts.
#[derive(Default)]
pub(super) struct Answers(Slab<Answer>);

struct Answer {
    to: AnswerTo,
    /// Parts that are not decided, and one for whoever still adds some.
    parts: u32,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerKey(usize);

/// Who is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerTo {
    /// The core that has the publisher.
    pub core: CoreId,
    /// Its publish.
    pub reply: Reply,
}

/// Who waits for a message to be appended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Append {
    answer: Option<AnswerKey>,
    /// A session that counts what is under way to it.
    counts: Option<Incarnation>,
    receivers: u32,
}

impl Append {
    /// Of nothing, but a session counts it.
    pub(super) fn counted_by(session: Incarnation) -> Append {
        Append { answer: None, counts: Some(session), receivers: 0 }
    }
}

/// Sessions of one log that get a message.
type Targets = SmallVec<[(LogSlot, command::Target); 4]>;

impl Core {
    /// Begins an answer to which parts are added until [`Core::end_answer`].
    pub(super) fn begin_answer(&mut self, to: Option<AnswerTo>) -> Option<AnswerKey> {
        let answer = |to| Answer { to, parts: 1 };
        to.map(|to| AnswerKey(self.stored.answers.0.insert(answer(to))))
    }

    /// No more parts are added: true if some are to come, and the answer with the last of them.
    pub(super) fn end_answer(&mut self, key: Option<AnswerKey>) -> bool {
        let Some(AnswerKey(key)) = key else { return false };
        let answer = &mut self.stored.answers.0[key];
        answer.parts -= 1;
        if answer.parts > 0 {
            return true;
        }
        self.stored.answers.0.remove(key);
        false
    }

    fn end_part(&mut self, key: AnswerKey, out: &mut Outputs) {
        let answer = &mut self.stored.answers.0[key.0];
        answer.parts -= 1;
        if answer.parts == 0 {
            let Answer { to, .. } = self.stored.answers.0.remove(key.0);
            self.give_answer(to, ReasonCode::SUCCESS, out);
        }
    }

    /// Tells whoever waits.
    pub(super) fn give_answer(&mut self, to: AnswerTo, reason: ReasonCode, out: &mut Outputs) {
        if to.core == self.id {
            self.on_answer(to.reply, 0, reason, out);
        } else {
            self.post(to.core, Body::Answer { reply: to.reply, reason });
        }
    }

    /// To persistent sessions that are at home here. QoS 0 to those that are connected touches no log.
    pub(super) fn append_all(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        targets: &[Target],
        answer: Option<AnswerKey>,
        out: &mut Outputs,
    ) {
        let (mut stored, mut detours) = (Targets::new(), Targets::new());
        let mut reached = targets.len();
        if self.tenants.wanted().fan_out {
            let tenant = self.tenants.index(publication.tenant, &self.config);
            reached = self.pay_fan_out(now, tenant, publication, targets.len(), true);
        }
        for target in &targets[..reached] {
            self.deliveries_left = self.deliveries_left.saturating_sub(1);
            if let Some(slot) = self.admit_target(now, publication, *target, out) {
                let incarnation = target.session.0;
                let options = target.options.to_bits();
                let stored_target = command::Target { incarnation, options };
                if self.begin_detour(publication, *target) {
                    detours.push((slot, stored_target));
                } else {
                    stored.push((slot, stored_target));
                }
            }
        }
        stored.sort_by_key(|(slot, _)| *slot); // stable, and almost always one
        for part in stored.chunk_by(|one, other| one.0 == other.0) {
            let targets: SmallVec<[command::Target; 4]> = part.iter().map(|(_, target)| *target).collect();
            self.propose_append(part[0].0, publication, None, &targets, answer, None, out);
        }
        // Behind the others: of a session's copies a repeat after the node's end brings none that is missing, and of
        // these one may be.
        for (slot, target) in detours {
            let session = Some(Incarnation(target.incarnation));
            self.propose_append(slot, publication, None, &[target], answer, session, out);
        }
    }

    /// Whether it goes with QoS 0 by way of the log to a client that is connected: what follows must not overtake it.
    fn begin_detour(&mut self, publication: &Publication<'_>, target: Target) -> bool {
        let (qos, _) = target.options.apply(publication);
        if qos != QoS::AtMostOnce {
            return false;
        }
        let slot = self.sessions.find(target.session);
        let stored = slot.and_then(|slot| self.sessions.at(slot).stored.as_mut());
        stored.is_some_and(|stored| {
            stored.begin_detour();
            true
        })
    }

    /// Which log is to take a message for a session; none if it is done, or lost and counted.
    fn admit_target(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        target: Target,
        out: &mut Outputs,
    ) -> Option<LogSlot> {
        let (qos, retain) = target.options.apply(publication);
        let Some(slot) = self.sessions.find(target.session) else {
            return self.admit_away(publication, target, qos);
        };
        if target.options.no_local() && self.is_own(slot, publication.publisher.client_hash) {
            if self.watch.is_on() {
                self.see_target(publication, target.session, Event::NoLocal);
            }
            return None; // [MQTT-3.8.3-3]
        }
        if !self.admit_delivery(slot, publication.topic) {
            if self.watch.is_on() {
                self.see_target(publication, target.session, Event::Dropped(DropReason::NoPermission));
            }
            return None;
        }
        if qos == QoS::AtMostOnce {
            let subscription_id = target.options.subscription_id();
            let fields = Fields { packet_id: None, dup: false, qos, retain, subscription_id };
            match self.send_or_queue(now, slot, publication, fields, out) {
                Unqueued::Done => return None,
                Unqueued::ToQueue => {}
                Unqueued::Away => {
                    self.lose_at(publication, target, DropReason::Away);
                    return None;
                }
            }
        }
        if publication.retain {
            self.overtake_retained(slot, publication, true);
        }
        self.press_for(now, slot, publication, out);
        self.sessions.get(slot).stored.as_ref().map(|stored| stored.log)
    }

    /// The same of a session whose client is away.
    fn admit_away(&mut self, publication: &Publication<'_>, target: Target, qos: QoS) -> Option<LogSlot> {
        let session = target.session;
        let slot = self.log_of_session(session);
        let refused = match slot {
            None => Some(DropReason::UnknownSession),
            Some(slot) if !self.away_may_receive(slot, session, publication.topic) => {
                Some(DropReason::NoPermission)
            }
            Some(_) if qos == QoS::AtMostOnce && !self.queues_qos0(publication) => Some(DropReason::Away),
            Some(_) => None,
        };
        if let Some(reason) = refused {
            self.lose_at(publication, target, reason);
            return None;
        }
        if publication.retain
            && let Some(owed) = self.stored.away.get_mut(&session).and_then(|away| away.owed.as_mut())
        {
            let log = self.config.retain_log(publication.tenant, publication.topic);
            let change = self.retain_order.change_at_hand(log);
            owed.overtake(&Live { publication, change, queued: true });
        }
        slot
    }

    /// A session does not get a message.
    fn lose_at(&mut self, publication: &Publication<'_>, target: Target, reason: DropReason) {
        self.lose_of(publication.tenant, reason, 1);
        if self.watch.is_on() {
            self.see_target(publication, target.session, Event::Dropped(reason));
        }
    }

    /// Whether a tenant's QoS 0 messages wait for sessions that are away.
    pub(super) fn queues_qos0(&mut self, publication: &Publication<'_>) -> bool {
        let tenant = self.tenants.index(publication.tenant, &self.config);
        self.tenants.get(tenant).settings.queue_qos0
    }

    /// A queue fills: publishers are slowed from half full on, while the receiver is still worth waiting for; what
    /// has expired leaves before something is refused.
    pub(super) fn press_for(
        &mut self,
        now: Now,
        slot: SessionSlot,
        publication: &Publication<'_>,
        out: &mut Outputs,
    ) {
        let tenant = self.tenants.index(publication.tenant, &self.config);
        let limits = queue_limits(&self.tenants.get(tenant).settings);
        let session = self.sessions.at(slot);
        let incarnation = session.incarnation();
        let connection = self.connections.get(session.connection());
        let progressing = connection.is_some_and(|connection| connection.is_progressing(now.monotonic));
        let Some(stored) = &mut session.stored else { return };
        let range = self.storage.log(stored.log).inbox().machine();
        let Some(state) = range.session(incarnation) else { return };
        let (waiting, bytes) = (state.queue.len(), state.queue.bytes());
        if progressing {
            self.pressure = self.pressure.max(limits.pressure(waiting, bytes));
        }
        let full =
            waiting + stored.appending >= limits.messages || bytes + publication.bytes() > limits.bytes;
        if full {
            let expired = stored.expire(&state.queue, now.wall);
            self.tenants.lose(&mut self.counters, tenant, DropReason::Expired, u64::from(expired));
            self.propose_progress_of(slot, out);
        }
    }

    /// Proposes one message for sessions of one log. `counts` has the message counted as under way to it.
    #[expect(clippy::too_many_arguments, reason = "a message, for whom, and who waits for it")]
    pub(super) fn propose_append(
        &mut self,
        slot: LogSlot,
        publication: &Publication<'_>,
        group: Option<&GroupKey>,
        targets: &[command::Target],
        answer: Option<AnswerKey>,
        counts: Option<Incarnation>,
        out: &mut Outputs,
    ) {
        let limits =
            self.limits_of(publication, targets.iter().map(|target| Incarnation(target.incarnation)));
        let append = command::Append {
            message: publication.head(),
            origin: publication.origin,
            group: group.map(|group| command::Group {
                name: &group.name,
                filter: &group.filter,
                ordered: group.ordered,
            }),
            queue_messages_max: limits.messages,
            queue_bytes_max: limits.bytes,
            drop_oldest: limits.drop_oldest,
            targets,
        };
        if self.watch.is_on() {
            self.see_appended(slot, publication, targets);
        }
        if let Some(AnswerKey(key)) = answer {
            self.stored.answers.0[key].parts += 1;
        }
        if let Some(slot) = counts.and_then(|session| self.sessions.find(session))
            && let Some(stored) = &mut self.sessions.at(slot).stored
        {
            stored.appending += 1;
        }
        // Nobody waits for a message with QoS 0, but it is counted if the disk is full; any other was let in.
        let priority = if publication.qos == QoS::AtMostOnce { NEW_DATA } else { LET_IN };
        let waits = answer.is_some() || counts.is_some() || priority == NEW_DATA;
        let receivers = u32::try_from(targets.len()).expect("sessions of a core");
        let awaited = waits.then_some(Awaited::Append(Append { answer, counts, receivers }));
        self.propose(slot, priority, awaited, (&append, publication.payload), out);
    }

    /// What the queues of persistent sessions hold at most, and what they give up. Not the oldest, where the range of a
    /// session does not know what was sent, because that was not the setting when its client connected.
    pub(super) fn limits_of(
        &mut self,
        publication: &Publication<'_>,
        sessions: impl IntoIterator<Item = Incarnation>,
    ) -> QueueLimits {
        let tenant = self.tenants.index(publication.tenant, &self.config);
        let mut limits = queue_limits(&self.tenants.get(tenant).settings);
        let mut sessions = sessions.into_iter();
        limits.drop_oldest = limits.drop_oldest
            && sessions.all(|session| {
                let stored =
                    self.sessions.find(session).and_then(|slot| self.sessions.get(slot).stored.as_ref());
                stored.map_or_else(
                    || !self.is_attaching(publication.tenant, session),
                    |stored| stored.tells_sent(),
                )
            });
        limits
    }

    /// Whether a client of a session that is away is on its way in: what waits for it may be sent to it before a command
    /// that is proposed now is applied.
    fn is_attaching(&self, tenant: &Arc<str>, session: Incarnation) -> bool {
        let attaching = &self.stored.attaching;
        if attaching.is_empty() {
            return false;
        }
        let log = self.log_of_session(session);
        let client = log.and_then(|log| self.storage.log(log).inbox().machine().client_of(session));
        client.is_some_and(|client| attaching.contains_key(&(Arc::clone(tenant), client.into())))
    }

    /// A message is with all the sessions of a log that take it.
    pub(super) fn on_appended(&mut self, now: Now, append: Append, out: &mut Outputs) {
        if let Some(key) = append.answer {
            self.end_part(key, out);
        }
        self.go_on_behind(now, append.counts, out);
    }

    /// The disk is full: messages that nobody asks after are lost, and counted.
    pub(super) fn give_up_unstored(&mut self, now: Now, out: &mut Outputs) {
        for append in std::mem::take(&mut self.stored.unstored) {
            assert!(append.answer.is_none(), "what somebody waits for was let in");
            // Whose it was is not known any more: it counts for the core alone.
            self.counters.drop_messages(DropReason::DiskFull, u64::from(append.receivers));
            self.go_on_behind(now, append.counts, out);
        }
    }

    /// What was held back behind a message on its way into a session's queue goes on.
    fn go_on_behind(&mut self, now: Now, session: Option<Incarnation>, out: &mut Outputs) {
        if let Some(connection) = self.end_appending(session) {
            self.pump(now, connection, out);
            self.pump_retained(now, connection, out);
        }
    }

    fn end_appending(&mut self, member: Option<Incarnation>) -> Option<ConnectionId> {
        let slot = self.sessions.find(member?)?;
        let session = self.sessions.at(slot);
        let incarnation = session.incarnation();
        let stored = session.stored.as_mut()?;
        let range = self.storage.log(stored.log).inbox().machine();
        stored.end_appending(range.session(incarnation).map(|session| session.queue.end()));
        Some(session.connection())
    }

    /// Gives a connected persistent session a copy of a retained message, by way of its queue.
    pub(super) fn append_copy(
        &mut self,
        slot: SessionSlot,
        publication: &Publication<'_>,
        options: DeliveryOptions,
        out: &mut Outputs,
    ) {
        let session = self.sessions.at(slot);
        let incarnation = session.incarnation();
        let Some(stored) = &mut session.stored else { return };
        stored.begin_copy();
        let slot = stored.log;
        // [MQTT-3.3.1-8]: the retain flag is set.
        let options = options.with_retain_as_published().to_bits();
        let target = command::Target { incarnation: incarnation.0, options };
        self.propose_append(slot, publication, None, &[target], None, Some(incarnation), out);
    }
}
