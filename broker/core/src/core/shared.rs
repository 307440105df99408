//! Hot path. Shared subscriptions: one member gets the message; one that is away, slow or full is passed
//! over; what a member leaves unfinished goes to another (MQTT 5.0, section 4.8.2).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use mqtt::{QoS, ReasonCode, Share};
use smallvec::SmallVec;

use super::Core;
use super::deliver::{Sent, queue_limits};
use crate::connection::Fields;
use crate::counters::DropReason;
use crate::delivery::DeliveryOptions;
use crate::dist::{Choice, GroupKey, GroupRoute, GroupState, Member, Target, choose};
use crate::identity::{ConnectionId, CoreId, Incarnation};
use crate::inbox::{Entry, InboxSlot};
use crate::input::Outputs;
use crate::message::{Message, Publication};
use crate::peer::{Body, Reply, SharedDelivery};
use crate::placement::{core_of, route_key};
use crate::tenant::TenantIndex;
use crate::time::Now;

/// What a core remembers of shared subscriptions: as a publisher of the groups, as home of the members.
pub(super) struct SharedGroups {
    states: HashMap<(TenantIndex, Arc<GroupKey>), Rc<GroupState>, foldhash::fast::FixedState>,
    /// States after which those that no cached topic uses are forgotten.
    states_max: usize,
    /// Members elsewhere that said they cannot take more.
    busy: HashSet<Incarnation, foldhash::fast::FixedState>,
    /// Members here that said so, and to whom.
    told: BTreeMap<Incarnation, SmallVec<[CoreId; 2]>>,
}

const STATES_MIN: usize = 1024;

impl SharedGroups {
    pub(super) fn new(seed: u64) -> SharedGroups {
        let hasher = foldhash::fast::FixedState::with_seed(seed);
        SharedGroups {
            states: HashMap::with_hasher(hasher.clone()),
            states_max: STATES_MIN,
            busy: HashSet::with_hasher(hasher),
            told: BTreeMap::new(),
        }
    }

    /// The state of a group, made on first use.
    pub(super) fn state(&mut self, tenant: TenantIndex, key: &Arc<GroupKey>) -> Rc<GroupState> {
        if self.states.len() >= self.states_max {
            self.states.retain(|_, state| Rc::strong_count(state) > 1);
            self.states_max = STATES_MIN.max(self.states.len() * 2);
        }
        Rc::clone(self.states.entry((tenant, Arc::clone(key))).or_default())
    }
}

impl Core {
    /// To one member of a group. The number of answers to wait for.
    pub(super) fn dispatch_shared(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        group: &GroupRoute,
        state: &GroupState,
        reply: Option<Reply>,
        out: &mut Outputs,
    ) -> u16 {
        let mut delivery = Attempt {
            group: &group.key,
            members: &group.members,
            tried: SmallVec::new(),
            forced: false,
            reply: reply.filter(|_| publication.qos != QoS::AtMostOnce),
        };
        self.attempt(now, publication, state, &mut delivery, out)
    }

    /// Tries members until one has it. The number of answers to wait for.
    fn attempt(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        state: &GroupState,
        attempt: &mut Attempt<'_>,
        out: &mut Outputs,
    ) -> u16 {
        loop {
            let Some(member) = self.choose_member(publication, state, attempt) else {
                if attempt.forced {
                    self.counters.drop_messages(DropReason::NoMember, 1);
                    return 0;
                }
                // Nobody is free: it waits in some member's queue, as far as that goes.
                attempt.forced = true;
                attempt.tried.clear();
                continue;
            };
            if member.target.core != self.id {
                self.counters.messages_crossed += 1;
                let delivery = attempt.delivery(publication, member);
                self.post(member.target.core, Body::Shared(Box::new(delivery)));
                return u16::from(attempt.reply.is_some());
            }
            if self.offer_member(now, publication, attempt.group, member, attempt.forced, out) {
                return 0;
            }
            attempt.tried.push(member.target.session);
        }
    }

    fn choose_member(
        &mut self,
        publication: &Publication<'_>,
        state: &GroupState,
        attempt: &Attempt<'_>,
    ) -> Option<Member> {
        let tenant = self.tenants.index(publication.tenant, &self.config);
        let choice = Choice {
            strategy: self.tenants.get(tenant).settings.shared_strategy,
            ordered: attempt.group.ordered,
            client_hash: publication.publisher.client_hash,
            topic: publication.topic,
        };
        let (busy, inboxes) = (&self.shared.busy, &self.inboxes);
        let free = |member: &Member| {
            let untried = !attempt.tried.contains(&member.target.session);
            let ignored = attempt.forced || attempt.group.ordered;
            untried && (ignored || !busy.contains(&member.target.session))
        };
        let load = |member: &Member| {
            inboxes.find(member.target.session).map_or(0, |slot| inboxes.get(slot).queue.len())
        };
        choose(state, choice, attempt.members, &mut self.random, free, load)
    }

    /// Gives a message to a member that is at home here; false if it cannot take it.
    fn offer_member(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        group: &Arc<GroupKey>,
        member: Member,
        forced: bool,
        out: &mut Outputs,
    ) -> bool {
        self.deliveries_left = self.deliveries_left.saturating_sub(1);
        let Some(slot) = self.inboxes.find(member.target.session) else { return false };
        let connection = self.inboxes.get(slot).connection();
        // One publisher's messages stay with one member: an ordered group waits for it.
        let waits = forced || group.ordered;
        if !waits && (connection.is_none() || self.is_full(slot)) {
            return false;
        }
        let tenant = self.tenants.index(publication.tenant, &self.config);
        let limits = queue_limits(&self.tenants.get(tenant).settings);
        let queue = &mut self.inboxes.at(slot).queue;
        let mut has_room = queue.has_room(publication.bytes(), &limits);
        if !has_room {
            let expired = queue.purge_expired(now.wall);
            has_room = queue.has_room(publication.bytes(), &limits);
            self.counters.drop_messages(DropReason::Expired, u64::from(expired));
        }
        // An ordered group loses it rather than its order, and dropping the oldest makes room in any queue.
        if !(has_room || group.ordered || forced && limits.drop_oldest) {
            return false;
        }
        // All are slow: so are their publishers from now on.
        self.pressure |= forced && connection.is_some();
        let (qos, retain) = member.target.options.apply(publication);
        let subscription_id = member.target.options.subscription_id();
        if qos == QoS::AtMostOnce {
            let fields = Fields { packet_id: None, dup: false, qos, retain, subscription_id };
            return self.send_unqueued(now, connection, publication, fields, out) != Sent::Away;
        }
        let message = Arc::clone(publication.share());
        let entry = Entry::new(message, qos, retain, subscription_id).shared_by(Arc::clone(group));
        self.enqueue(now, slot, entry);
        if let Some(connection) = connection {
            self.pump(now, connection, out);
        }
        true
    }

    /// Whether a member has so much before it that others are preferred.
    fn is_full(&self, slot: InboxSlot) -> bool {
        let session = self.inboxes.get(slot);
        let Some(connection) = session.connection().and_then(|id| self.connections.get(id)) else {
            return false;
        };
        let settings = &self.tenants.get(connection.tenant).settings;
        session.queue.len() >= settings.shared_queue_max
            || connection.send.len() > settings.send_bytes_max as usize / 2
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
        let member = delivery.member;
        if self.offer_member(now, &publication, &delivery.group, member, delivery.forced, out) {
            if let Some(reply) = delivery.reply {
                self.post(from, Body::Answer { reply, reason: ReasonCode::SUCCESS });
            }
            let publisher = delivery.reply.map(|reply| reply.connection);
            self.slow_publisher(now, publisher, Some(from));
            return;
        }
        let session = member.target.session;
        if self.inboxes.find(session).is_some() {
            let told = self.shared.told.entry(session).or_default();
            if !told.contains(&from) {
                told.push(from);
                self.post(from, Body::Busy { member: session, busy: true });
            }
        }
        delivery.tried.push(session);
        self.post(from, Body::SharedRefused(delivery));
    }

    /// A member elsewhere could not take a message: the next one is tried.
    pub(super) fn on_shared_refused(&mut self, now: Now, delivery: SharedDelivery, out: &mut Outputs) {
        let SharedDelivery { message, group, members, tried, forced, reply, .. } = delivery;
        let tenant = self.tenants.index(&message.tenant, &self.config);
        let state = self.shared.state(tenant, &group);
        let mut attempt = Attempt { group: &group, members: &members, tried, forced, reply };
        let waiting = self.attempt(now, &Publication::from(&message), &state, &mut attempt, out);
        if let Some(reply) = reply.filter(|_| waiting == 0) {
            self.on_answer(reply, 0, ReasonCode::SUCCESS, out);
        }
        self.slow_publisher(now, reply.map(|reply| reply.connection), None);
    }

    pub(super) fn on_busy(&mut self, member: Incarnation, busy: bool) {
        if busy {
            self.shared.busy.insert(member);
        } else {
            self.shared.busy.remove(&member);
        }
    }

    /// A client has taken messages: cores that were told its session is full hear that it is not any more.
    pub(super) fn relieve_member(&mut self, id: ConnectionId) {
        if self.shared.told.is_empty() {
            return;
        }
        let Some(connection) = self.connections.get(id) else { return };
        let settings = &self.tenants.get(connection.tenant).settings;
        let session = self.inboxes.get(connection.inbox);
        let relieved = session.queue.len() <= settings.shared_queue_max / 2
            && connection.send.len() <= settings.send_bytes_max as usize / 4;
        if relieved {
            self.forget_member(session.incarnation());
        }
    }

    /// A member is free again, or gone.
    pub(super) fn forget_member(&mut self, member: Incarnation) {
        for core in self.shared.told.remove(&member).into_iter().flatten() {
            self.post(core, Body::Busy { member, busy: false });
        }
    }

    /// A member has left with a message unfinished.
    pub(super) fn pass_on(&mut self, group: Arc<GroupKey>, message: Arc<Message>) {
        let range = core_of(route_key(&message.tenant, &group.filter), self.config.cores);
        self.post(range, Body::PassOn { message, group });
    }

    /// The same, where the routes are.
    pub(super) fn on_pass_on(&mut self, now: Now, key: &GroupKey, message: &Arc<Message>, out: &mut Outputs) {
        let Some(group) = self.routes.group(&message.tenant, key).cloned() else {
            self.counters.drop_messages(DropReason::NoMember, 1);
            return;
        };
        let tenant = self.tenants.index(&message.tenant, &self.config);
        let state = self.shared.state(tenant, &group.key);
        self.dispatch_shared(now, &Publication::from(message), &group, &state, None, out);
        self.slow_publisher(now, None, None); // who published it has long gone on
    }

    /// A session that is at home here, as a member of a group.
    pub(super) fn member(
        &self,
        share: Share<'_>,
        filter: &str,
        target: Target,
        durable: bool,
    ) -> (Arc<GroupKey>, Member) {
        let key = GroupKey { name: share.group.into(), ordered: share.ordered, filter: filter.into() };
        (Arc::new(key), Member { target, durable })
    }

    /// A session that is at home here, as a destination.
    pub(super) fn target(&self, session: Incarnation, options: DeliveryOptions) -> Target {
        Target { core: self.id, session, options }
    }
}

/// One message on its way to some member.
struct Attempt<'a> {
    group: &'a Arc<GroupKey>,
    members: &'a Arc<[Member]>,
    tried: SmallVec<[Incarnation; 2]>,
    forced: bool,
    reply: Option<Reply>,
}

impl Attempt<'_> {
    fn delivery(&self, publication: &Publication<'_>, member: Member) -> SharedDelivery {
        SharedDelivery {
            message: Arc::clone(publication.share()),
            group: Arc::clone(self.group),
            member,
            members: Arc::clone(self.members),
            tried: self.tried.clone(),
            forced: self.forced,
            reply: self.reply,
        }
    }
}
