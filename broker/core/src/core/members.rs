//! Hot path. Shared subscriptions, at the members' homes: what a member is given, and what the cores that
//! publish to it are told of it.
//!
//! A member's load is the number of messages in its queue, those in flight included, wherever they come from.
//! Its home tells it to each core that chose the member under [`crate::config::SharedStrategy::LeastInflight`],
//! once a turn at most, with how many messages of that core it had seen by then; the core adds those that it
//! has sent since. So a message counts from the moment in which its member is chosen until the member
//! acknowledges it, and only what other cores have sent in the last turn is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use mqtt::{QoS, ReasonCode};
use smallvec::SmallVec;

use super::Core;
use super::append::AnswerTo;
use super::deliver::{Unqueued, queue_limits};
use crate::connection::{Fields, Pressure};
use crate::counters::DropReason;
use crate::dist::{GroupKey, Member, Target};
use crate::identity::{ConnectionId, CoreId, Incarnation};
use crate::input::Outputs;
use crate::message::Publication;
use crate::peer::{Body, MemberLoad, Refusal, SharedDelivery};
use crate::ranges::inbox::{Limits, command};
use crate::sessions::{Entry, QueueLimits, SessionSlot};
use crate::storage::LogSlot;
use crate::time::Now;

/// The loads of members elsewhere, as the core that publishes to them knows them. One entry for each member
/// chosen by load, until its session ends.
pub(super) struct Loads {
    by_member: HashMap<Incarnation, Load, foldhash::fast::FixedState>,
}

#[derive(Clone, Copy, Default)]
struct Load {
    /// The length of its queue, as last told.
    queued: u32,
    /// Messages that its home had seen of ours by then; wraps.
    seen: u32,
    /// Messages that we have sent; wraps.
    sent: u32,
}

impl Loads {
    pub(super) fn new(seed: u64) -> Loads {
        Loads { by_member: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)) }
    }

    pub(super) fn len(&self) -> usize {
        self.by_member.len()
    }

    pub(super) fn of(&self, member: Incarnation) -> u32 {
        let load = self.by_member.get(&member).copied().unwrap_or_default();
        load.queued.saturating_add(load.sent.wrapping_sub(load.seen))
    }

    pub(super) fn on_sent(&mut self, member: Incarnation) {
        let load = self.by_member.entry(member).or_default();
        load.sent = load.sent.wrapping_add(1);
    }
}

/// Members at home here of which other cores were told something.
#[derive(Default)]
pub(super) struct Members {
    /// Those that could not take more, and who was told so.
    told: BTreeMap<Incarnation, SmallVec<[CoreId; 2]>>,
    /// Those chosen by load: by whom, and how many messages they have sent. Until the session ends.
    watched: BTreeMap<Incarnation, SmallVec<[(CoreId, u32); 2]>>,
    /// Watched members whose load has changed this turn; some are in it several times.
    changed: Vec<Incarnation>,
}

impl Members {
    fn on_seen(&mut self, member: Incarnation, from: CoreId) {
        let watchers = self.watched.entry(member).or_default();
        match watchers.iter_mut().find(|(core, _)| *core == from) {
            Some((_, seen)) => *seen = seen.wrapping_add(1),
            None => watchers.push((from, 1)),
        }
        self.changed.push(member);
    }
}

impl Refusal {
    /// What a message that nobody takes is counted as.
    pub(super) fn reason(self) -> DropReason {
        match self {
            Refusal::Away => DropReason::Away,
            Refusal::Forbidden => DropReason::NoPermission,
            Refusal::Gone | Refusal::Full => DropReason::NoMember,
        }
    }
}

impl Core {
    /// Whether a member that is connected has not so much before it that others are preferred.
    pub(super) fn takes(&self, slot: SessionSlot) -> Result<(), Refusal> {
        let id = self.sessions.get(slot).connection();
        let connection = self.connections.get(id).ok_or(Refusal::Away)?;
        let settings = connection.settings();
        let full = self.queued_at(slot) >= settings.shared_queue_max
            || connection.send.len() > settings.send_bytes_max as usize / 2;
        if full { Err(Refusal::Full) } else { Ok(()) }
    }

    /// A message that comes `again` was addressed by what its core knew earlier: the session may have
    /// unsubscribed since, and been told so [MQTT-3.10.4-2].
    pub(super) fn check_member(&self, member: Member, group: &GroupKey, again: bool) -> Result<(), Refusal> {
        if !again {
            return Ok(());
        }
        let prefix = if group.ordered { "$oshare" } else { "$share" };
        let filter = format!("{prefix}/{}/{}", group.name, group.filter);
        if self.subscribes(member.target.session, &filter) { Ok(()) } else { Err(Refusal::Gone) }
    }

    /// Gives a message to a member that is at home here. The number of answers to wait for.
    #[expect(clippy::too_many_arguments, reason = "a message, its member, and who waits for it")]
    pub(super) fn offer_member(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        group: &Arc<GroupKey>,
        member: Member,
        forced: bool,
        to: Option<AnswerTo>,
        out: &mut Outputs,
    ) -> Result<u16, Refusal> {
        self.deliveries_left = self.deliveries_left.saturating_sub(1);
        let Some(slot) = self.sessions.find(member.target.session) else {
            return self.offer_away(now, publication, group, member, forced, to, out);
        };
        if self.access.is_restricted() && !self.sessions.at(slot).may_receive(&self.access, publication.topic)
        {
            return Err(Refusal::Forbidden);
        }
        let session = self.sessions.get(slot);
        let (connection, stored) = (session.connection(), session.stored.as_ref().map(|stored| stored.log));
        // One publisher's messages stay with one member: an ordered group waits for it.
        let waits = forced || group.ordered;
        if !waits {
            self.takes(slot)?;
        }
        let (qos, retain) = member.target.options.apply(publication);
        // All have more than half of the bytes before them that may be: their publishers are slowed before some are
        // dropped. A queue slows by itself, from half full on.
        if forced && qos == QoS::AtMostOnce {
            self.pressure = Pressure::FULL;
        }
        let subscription_id = member.target.options.subscription_id();
        if qos == QoS::AtMostOnce {
            let fields = Fields { packet_id: None, dup: false, qos, retain, subscription_id };
            match self.send_or_queue(now, slot, publication, fields, out) {
                Unqueued::Done => return Ok(0),
                Unqueued::Away => return Err(Refusal::Away),
                Unqueued::ToQueue => {}
            }
        }
        if let Some(log) = stored {
            self.press_for(now, slot, publication, out);
            self.make_stored_room(now, (log, member.target.session), publication, waits, group.ordered)?;
            return Ok(self.append_shared(log, publication, group, member, to, out));
        }
        self.make_room(now, slot, publication, waits, group.ordered)?;
        let message = Arc::clone(publication.share());
        let entry = Entry::new(message, qos, retain, subscription_id).shared_by(Arc::clone(group));
        let queued = self.enqueue(now, slot, entry);
        if self.watch.is_on() {
            self.see_queued(connection, publication, qos, queued);
        }
        self.pump(now, connection, out);
        Ok(0)
    }

    /// The same for one whose client is away.
    #[expect(clippy::too_many_arguments, reason = "a message, its member, and who waits for it")]
    fn offer_away(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        group: &Arc<GroupKey>,
        member: Member,
        forced: bool,
        to: Option<AnswerTo>,
        out: &mut Outputs,
    ) -> Result<u16, Refusal> {
        let session = member.target.session;
        let log = self.log_of_session(session).ok_or(Refusal::Gone)?;
        if !self.away_may_receive(log, session, publication.topic) {
            return Err(Refusal::Forbidden);
        }
        let waits = forced || group.ordered;
        let (qos, _) = member.target.options.apply(publication);
        if !waits || qos == QoS::AtMostOnce && !self.queues_qos0(publication) {
            return Err(Refusal::Away);
        }
        self.make_stored_room(now, (log, session), publication, waits, group.ordered)?;
        Ok(self.append_shared(log, publication, group, member, to, out))
    }

    /// Into a member's queue. The number of answers to wait for.
    fn append_shared(
        &mut self,
        log: LogSlot,
        publication: &Publication<'_>,
        group: &Arc<GroupKey>,
        member: Member,
        to: Option<AnswerTo>,
        out: &mut Outputs,
    ) -> u16 {
        let Target { session, options, .. } = member.target;
        let target = command::Target { incarnation: session.0, options: options.to_bits() };
        let answer = self.begin_answer(to);
        self.propose_append(log, publication, Some(group), &[target], answer, Some(session), out);
        u16::from(self.end_answer(answer))
    }

    /// Whether the queue of a persistent member takes a message.
    fn make_stored_room(
        &mut self,
        now: Now,
        (log, session): (LogSlot, Incarnation),
        publication: &Publication<'_>,
        forced: bool,
        ordered: bool,
    ) -> Result<(), Refusal> {
        let QueueLimits { messages, bytes, drop_oldest } = self.limits_of(publication, [session]);
        let limits = Limits { messages, bytes, drop_oldest };
        let range = self.storage.log(log).inbox().machine();
        let queue = &range.session(session).ok_or(Refusal::Gone)?.queue;
        let bytes = u32::try_from(publication.bytes()).expect("a packet is below 256 MiB");
        // An ordered group loses it rather than its order, and dropping the oldest makes room in any queue.
        let has_room = queue.has_room(bytes, &limits) || queue.has_room_at(bytes, &limits, now.wall);
        if has_room || ordered || forced && drop_oldest { Ok(()) } else { Err(Refusal::Full) }
    }

    /// Whether a session that is at home here has a subscription.
    fn subscribes(&self, session: Incarnation, filter: &str) -> bool {
        let Some(slot) = self.sessions.find(session) else {
            let log = self.log_of_session(session).map(|slot| self.storage.log(slot));
            let state = log.and_then(|log| log.inbox().machine().session(session));
            return state.is_some_and(|state| state.subscriptions.contains_key(filter));
        };
        self.subscribes_at(slot, filter)
    }

    /// Whether a member's queue takes a message.
    fn make_room(
        &mut self,
        now: Now,
        slot: SessionSlot,
        publication: &Publication<'_>,
        forced: bool,
        ordered: bool,
    ) -> Result<(), Refusal> {
        let tenant = self.tenants.index(publication.tenant, &self.config);
        let limits = queue_limits(&self.tenants.get(tenant).settings);
        let queue = &mut self.sessions.at(slot).queue;
        let mut has_room = queue.has_room(publication.bytes(), &limits);
        if !has_room {
            let expired = queue.purge_expired(now.wall);
            has_room = queue.has_room(publication.bytes(), &limits);
            self.tenants.lose(&mut self.counters, tenant, DropReason::Expired, u64::from(expired));
        }
        // An ordered group loses it rather than its order, and dropping the oldest makes room in any queue.
        if has_room || ordered || forced && limits.drop_oldest { Ok(()) } else { Err(Refusal::Full) }
    }

    /// Another core chose a member that is at home here.
    pub(super) fn on_shared(
        &mut self,
        now: Now,
        from: CoreId,
        mut delivery: Box<SharedDelivery>,
        out: &mut Outputs,
    ) {
        let publication = Publication::from(&delivery.message);
        let (member, session) = (delivery.member, delivery.member.target.session);
        let known = self.queued(session).is_some();
        if delivery.counted && known {
            self.shared.members.on_seen(session, from);
        }
        let group = &delivery.group.key;
        let to = delivery.reply.map(|reply| AnswerTo { core: from, reply });
        let offered = self
            .check_member(member, group, delivery.again)
            .and_then(|()| self.offer_member(now, &publication, group, member, delivery.forced, to, out));
        match offered {
            Ok(waiting) => {
                if let Some(reply) = delivery.reply.filter(|_| waiting == 0) {
                    self.post(from, Body::Answer { reply, reason: ReasonCode::SUCCESS });
                }
            }
            Err(refusal) => {
                // It may well take messages on other topics.
                if refusal != Refusal::Forbidden {
                    self.tell_refusal(from, session, known);
                }
                delivery.tried.push(session);
                delivery.refusal = delivery.refusal.max(refusal);
                let publisher = delivery.publisher;
                self.post(from, Body::SharedRefused(delivery));
                return self.slow_publisher(now, publisher, Some(from));
            }
        }
        self.slow_publisher(now, delivery.publisher, Some(from));
    }

    /// Tells a core, once, that it need not ask for a member for some time.
    fn tell_refusal(&mut self, from: CoreId, session: Incarnation, known: bool) {
        if !known {
            self.post(from, Body::MemberGone { member: session });
            return;
        }
        let told = self.shared.members.told.entry(session).or_default();
        if !told.contains(&from) {
            told.push(from);
            self.post(from, Body::Busy { member: session, busy: true });
        }
    }

    /// A client has taken messages: its load is told, and that it is free if it was full before.
    pub(super) fn relieve_member(&mut self, id: ConnectionId) {
        let members = &mut self.shared.members;
        if members.told.is_empty() && members.watched.is_empty() {
            return;
        }
        let Some(connection) = self.connections.get(id) else { return };
        let settings = connection.settings();
        let session = self.sessions.get(connection.session);
        let member = session.incarnation();
        if members.watched.contains_key(&member) && members.changed.last() != Some(&member) {
            members.changed.push(member);
        }
        let relieved = self.queued_at(connection.session) <= settings.shared_queue_max / 2
            && connection.send.len() <= settings.send_bytes_max as usize / 4;
        if relieved {
            for core in self.shared.members.told.remove(&member).into_iter().flatten() {
                self.post(core, Body::Busy { member, busy: false });
            }
        }
    }

    /// The turn ends: the loads that have changed in it are told.
    pub(super) fn tell_loads(&mut self) {
        let mut changed = std::mem::take(&mut self.shared.members.changed);
        if changed.is_empty() {
            return;
        }
        changed.sort_unstable();
        changed.dedup();
        let mut told: BTreeMap<CoreId, Vec<MemberLoad>> = BTreeMap::new();
        for member in changed.drain(..) {
            let Some(queued) = self.queued(member) else { continue };
            for (core, seen) in self.shared.members.watched.get(&member).into_iter().flatten() {
                told.entry(*core).or_default().push(MemberLoad { member, queued, seen: *seen });
            }
        }
        self.shared.members.changed = changed;
        for (core, loads) in told {
            self.post(core, Body::Loads { loads });
        }
    }

    /// A session has ended: nobody need remember it as a member.
    pub(super) fn forget_member(&mut self, member: Incarnation) {
        let told = self.shared.members.told.remove(&member).unwrap_or_default();
        let watched = self.shared.members.watched.remove(&member).unwrap_or_default();
        for core in &told {
            self.post(*core, Body::MemberGone { member });
        }
        for (core, _) in watched.into_iter().filter(|(core, _)| !told.contains(core)) {
            self.post(core, Body::MemberGone { member });
        }
    }

    /// At the publishing core: a member elsewhere is full, or free again.
    pub(super) fn on_busy(&mut self, member: Incarnation, busy: bool) {
        if busy {
            self.shared.busy.insert(member);
        } else {
            self.shared.busy.remove(&member);
        }
    }

    /// At the publishing core: how much members elsewhere have before them.
    pub(super) fn on_loads(&mut self, loads: Vec<MemberLoad>) {
        for MemberLoad { member, queued, seen } in loads {
            if let Some(load) = self.shared.loads.by_member.get_mut(&member) {
                (load.queued, load.seen) = (queued, seen);
            }
        }
    }

    /// At the publishing core: a member elsewhere is no more. What is sent to it all the same is answered by
    /// the same message, so that nothing of it stays.
    pub(super) fn on_member_gone(&mut self, member: Incarnation) {
        self.shared.busy.remove(&member);
        self.shared.loads.by_member.remove(&member);
    }
}
