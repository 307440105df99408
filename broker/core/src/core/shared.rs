//! Hot path. Shared subscriptions, where a message comes from: one member gets it; one that is away, slow or
//! full is passed over; what a member leaves unfinished goes to another (MQTT 5.0, section 4.8.2). What
//! happens at the member's home is in `members.rs`.
//!
//! - Members that are there and have room are asked first, in the strategy's order.
//! - When there is none, the message waits in some member's queue as far as that goes, again in the
//!   strategy's order: QoS 1 and 2 with a member whose session lasts, QoS 0 only where `tenant.queue_qos0`
//!   says so.
//! - What nobody takes is dropped: as `away` if it is for QoS 0 and only absence stood against it, as
//!   `no_member` otherwise.

use std::sync::Arc;

use hashbrown::HashSet;
use mqtt::{ReasonCode, Share};
use smallvec::SmallVec;

use super::Core;
use super::append::AnswerTo;
use super::members::{Loads, Members};
use crate::config::SharedStrategy;
use crate::counters::DropReason;
use crate::delivery::DeliveryOptions;
use crate::dist::{Choice, GroupKey, GroupRoute, GroupState, GroupStates, Member, Target, choose};
use crate::identity::{ConnectionId, Incarnation};
use crate::input::Outputs;
use crate::message::{Message, Publication};
use crate::notice::Event;
use crate::peer::{Body, Refusal, Reply, SharedDelivery};
use crate::placement::route_key;
use crate::time::Now;

/// What a core remembers of shared subscriptions: as a publisher of the groups, as home of the members.
pub(super) struct SharedGroups {
    pub(super) states: GroupStates,
    /// Members elsewhere that said they cannot take more.
    pub(super) busy: HashSet<Incarnation, foldhash::fast::FixedState>,
    /// How much members elsewhere have before them, for the strategy that asks for it.
    pub(super) loads: Loads,
    /// The members at home here.
    pub(super) members: Members,
}

impl SharedGroups {
    pub(super) fn new(seed: u64) -> SharedGroups {
        let hasher = foldhash::fast::FixedState::with_seed(seed);
        SharedGroups {
            states: GroupStates::default(),
            busy: HashSet::with_hasher(hasher),
            loads: Loads::new(seed),
            members: Members::default(),
        }
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
        (publisher, owed): (Option<ConnectionId>, Option<Reply>),
        out: &mut Outputs,
    ) -> u16 {
        if publication.origin.is_some_and(|origin| !origin.is_first()) {
            return self.ask_for_repeat(publication, group, (publisher, owed));
        }
        self.give_to_member(now, publication, group, state, (publisher, owed), out)
    }

    /// The same of a message that no member has.
    pub(super) fn give_to_member(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        group: &GroupRoute,
        state: &GroupState,
        (publisher, owed): (Option<ConnectionId>, Option<Reply>),
        out: &mut Outputs,
    ) -> u16 {
        let mut delivery = Attempt {
            group,
            tried: SmallVec::new(),
            forced: false,
            refusal: Refusal::Gone,
            again: false,
            reply: owed,
            publisher,
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
        let tenant = self.tenants.index(publication.tenant, &self.config);
        let strategy = self.tenants.get(tenant).settings.shared_strategy;
        let counted = strategy == SharedStrategy::LeastInflight && !attempt.group.key.ordered;
        loop {
            let Some(member) = self.choose_member(publication, strategy, state, attempt) else {
                if attempt.forced {
                    let reason = attempt.refusal.reason();
                    self.tenants.lose(&mut self.counters, tenant, reason, 1);
                    if self.watch.is_on() {
                        self.see_route(publication, Event::Dropped(reason));
                    }
                    return 0;
                }
                // Nobody is free: it waits in some member's queue, as far as that goes.
                attempt.forced = true;
                attempt.refusal = Refusal::Gone;
                attempt.tried.clear();
                continue;
            };
            if member.target.core != self.id {
                self.counters.messages_crossed += 1;
                self.deliveries_left = self.deliveries_left.saturating_sub(1);
                if counted {
                    self.shared.loads.on_sent(member.target.session);
                }
                let delivery = attempt.delivery(publication, member, counted);
                self.post(member.target.core, Body::Shared(Box::new(delivery)));
                return u16::from(attempt.reply.is_some());
            }
            let group = &attempt.group.key;
            let to = attempt.reply.map(|reply| AnswerTo { core: self.id, reply });
            let offered = self
                .check_member(member, group, attempt.again)
                .and_then(|()| self.offer_member(now, publication, group, member, attempt.forced, to, out));
            match offered {
                Ok(waiting) => return waiting,
                Err(refusal) => attempt.refuse(member, refusal),
            }
        }
    }

    fn choose_member(
        &mut self,
        publication: &Publication<'_>,
        strategy: SharedStrategy,
        state: &GroupState,
        attempt: &Attempt<'_>,
    ) -> Option<Member> {
        let choice = Choice {
            strategy,
            ordered: attempt.group.key.ordered,
            client_hash: publication.publisher.client_hash,
            topic: publication.topic,
        };
        let mut random = std::mem::take(&mut self.random);
        let (busy, loads) = (&self.shared.busy, &self.shared.loads);
        let waits = attempt.forced || attempt.group.key.ordered;
        // Judged before the choice, so that the strategy does not move on from a member that is not free.
        let free = |member: &Member| {
            let session = member.target.session;
            if waits || attempt.tried.contains(&session) {
                return !attempt.tried.contains(&session);
            }
            if member.target.core == self.id {
                self.sessions.find(session).is_some_and(|slot| self.takes(slot).is_ok())
            } else {
                !busy.contains(&session)
            }
        };
        let load = |member: &Member| {
            let session = member.target.session;
            if member.target.core == self.id { self.queued(session).unwrap_or(0) } else { loads.of(session) }
        };
        let chosen = choose(state, choice, &attempt.group.members, &mut random, free, load);
        self.random = random;
        chosen
    }

    /// A member elsewhere could not take a message: the next one is tried.
    pub(super) fn on_shared_refused(&mut self, now: Now, delivery: SharedDelivery, out: &mut Outputs) {
        let SharedDelivery { message, group, tried, forced, refusal, reply, publisher, .. } = delivery;
        let state = self.shared.states.of(group.id);
        let mut attempt = Attempt { group: &group, tried, forced, refusal, again: true, reply, publisher };
        let waiting = self.attempt(now, &Publication::from(&message), &state, &mut attempt, out);
        self.end_member_wait(reply, waiting, out);
        self.slow_publisher(now, publisher, None);
    }

    /// A publish that waited for a member to be found is answered, if nothing more is waited for.
    pub(super) fn end_member_wait(&mut self, reply: Option<Reply>, waiting: u16, out: &mut Outputs) {
        if let Some(reply) = reply.filter(|_| waiting == 0) {
            self.on_answer(reply, 0, ReasonCode::SUCCESS, out);
        }
    }

    /// A member has left with a message unfinished.
    pub(super) fn pass_on(&mut self, group: Arc<GroupKey>, message: Arc<Message>) {
        let range = self.config.core_of(route_key(&message.tenant, &group.filter));
        self.post(range, Body::PassOn { message, group });
    }

    /// The same, where the routes are.
    pub(super) fn on_pass_on(&mut self, now: Now, key: &GroupKey, message: &Arc<Message>, out: &mut Outputs) {
        let Some(group) = self.routes.group(&message.tenant, key).cloned() else {
            self.lose_of(&message.tenant, DropReason::NoMember, 1);
            return;
        };
        let state = self.shared.states.of(group.id);
        self.give_to_member(now, &Publication::from(message), &group, &state, (None, None), out);
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
    group: &'a GroupRoute,
    tried: SmallVec<[Incarnation; 2]>,
    forced: bool,
    refusal: Refusal,
    /// A member elsewhere refused it: the members may be others by now.
    again: bool,
    reply: Option<Reply>,
    publisher: Option<ConnectionId>,
}

impl Attempt<'_> {
    fn refuse(&mut self, member: Member, refusal: Refusal) {
        self.tried.push(member.target.session);
        self.refusal = self.refusal.max(refusal);
    }

    fn delivery(&self, publication: &Publication<'_>, member: Member, counted: bool) -> SharedDelivery {
        SharedDelivery {
            message: Arc::clone(publication.share()),
            group: self.group.clone(),
            member,
            tried: self.tried.clone(),
            forced: self.forced,
            counted,
            refusal: self.refusal,
            again: self.again,
            reply: self.reply,
            publisher: self.publisher,
        }
    }
}
