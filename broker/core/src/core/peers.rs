//! Messages between this core and the others, itself included: where they are posted, and what each kind
//! leads to.

use std::collections::VecDeque;
use std::sync::Arc;

use mqtt::ReasonCode;

use super::Core;
use super::append::AnswerTo;
use super::postponed::{Origin, Recipients};
use crate::connection::Pressure;
use crate::counters::DropReason;
use crate::dist::Target;
use crate::identity::{ConnectionId, CoreId};
use crate::input::Outputs;
use crate::message::{Message, Publication};
use crate::peer::{Body, Forgotten, Parcel, PeerMessage};
use crate::tenant::TenantIndex;
use crate::time::Now;

/// Messages to this core itself that one turn works off at most.
const OWN_MAX: usize = 65_536;

/// Posted messages, and the credit for them.
pub(super) struct Peers {
    /// To this core itself.
    own: VecDeque<Body>,
    /// The same, for the next turn.
    own_later: Vec<Body>,
    /// To the others, until the turn ends.
    outgoing: Vec<Vec<PeerMessage>>,
    /// Bytes of data sent to each core that it has not processed.
    unprocessed: Vec<u64>,
    /// Bytes of data from each core processed since it was last told.
    processed: Vec<u64>,
}

impl Peers {
    pub(super) fn new(cores: u16) -> Peers {
        let cores = usize::from(cores);
        Peers {
            own: VecDeque::new(),
            own_later: Vec::new(),
            outgoing: (0..cores).map(|_| Vec::new()).collect(),
            unprocessed: vec![0; cores],
            processed: vec![0; cores],
        }
    }

    pub(super) fn has_own(&self) -> bool {
        !self.own.is_empty() || !self.own_later.is_empty()
    }

    /// A turn ends: what was left for it joins the messages to this core itself.
    pub(super) fn take_later(&mut self) {
        self.own.extend(self.own_later.drain(..));
    }

    /// So many bytes of data of a core are processed.
    pub(super) fn repay(&mut self, core: CoreId, bytes: u64) {
        self.processed[core.index()] += bytes;
    }

    /// So many bytes that were taken for processed are not yet.
    pub(super) fn owe(&mut self, core: CoreId, bytes: u64) {
        self.processed[core.index()] -= bytes;
    }

    /// Bytes of data that other cores have not processed yet.
    pub(super) fn unprocessed_bytes(&self) -> u64 {
        self.unprocessed.iter().sum()
    }

    /// Whether every core keeps up with what this one sends it.
    pub(super) fn have_credit(&self, bytes_max: u32) -> bool {
        self.unprocessed.iter().all(|bytes| *bytes <= u64::from(bytes_max))
    }
}

impl Core {
    /// Sends a message to a core; it leaves when the turn ends.
    pub(super) fn post(&mut self, to: CoreId, body: Body) {
        if to == self.id {
            self.peers.own.push_back(body);
            return;
        }
        self.peers.unprocessed[to.index()] += body.data_bytes();
        self.peers.outgoing[to.index()].push(PeerMessage(body));
    }

    /// Sends a message to a core that has volatile sessions for it, with others of the turn if it is small.
    pub(super) fn post_delivery(
        &mut self,
        to: CoreId,
        publication: &Publication<'_>,
        publisher: Option<ConnectionId>,
    ) {
        if !Parcel::packs(publication) {
            let message = Arc::clone(publication.share());
            let stamp = self.retain_stamp(publication);
            return self.post(to, Body::Deliver { message, publisher, stamp });
        }
        assert!(to != self.id, "its own sessions are served at once");
        let outgoing = &mut self.peers.outgoing[to.index()];
        let bytes = match outgoing.last_mut() {
            // Behind the last message only: they stay in order.
            Some(PeerMessage(Body::Parcel(parcel))) if parcel.takes(publication) => {
                parcel.push(publication, publisher)
            }
            _ => {
                let mut parcel = Box::new(Parcel::new(publication.tenant));
                let bytes = parcel.push(publication, publisher);
                outgoing.push(PeerMessage(Body::Parcel(parcel)));
                bytes
            }
        };
        self.peers.unprocessed[to.index()] += bytes;
    }

    /// The same, but what the core sends itself waits for the end of the next turn: for what would go on and on.
    pub(super) fn post_later(&mut self, to: CoreId, body: Body) {
        if to == self.id {
            self.peers.own_later.push(body);
        } else {
            self.post(to, body);
        }
    }

    /// Works off messages to this core itself, and those that they cause.
    pub(super) fn on_own_messages(&mut self, now: Now, out: &mut Outputs) {
        for _ in 0..OWN_MAX {
            let Some(body) = self.peers.own.pop_front() else { break };
            self.on_peer(now, self.id, body, out);
        }
    }

    /// Tells the others what was processed, and lets everything posted leave.
    pub(super) fn send_posted(&mut self, out: &mut Outputs) {
        for (index, processed) in self.peers.processed.iter_mut().enumerate() {
            let bytes = std::mem::take(processed);
            if bytes > 0 && index != self.id.index() {
                self.peers.outgoing[index].push(PeerMessage(Body::Credit { bytes }));
            }
        }
        for (posted, messages) in self.peers.outgoing.iter_mut().zip(&mut out.messages) {
            messages.append(posted);
        }
    }

    pub(super) fn on_peer(&mut self, now: Now, from: CoreId, body: Body, out: &mut Outputs) {
        let data_bytes = body.data_bytes();
        self.peers.repay(from, data_bytes);
        match body {
            Body::Parcel(parcel) => self.on_parcel(now, from, &parcel, out),
            Body::Deliver { message, publisher, stamp } => {
                self.retain_order.saw(from, stamp);
                self.retain_order.gives(Some(from));
                let origin = Origin { core: from, publisher, reply: None, data_bytes };
                let tenant = self.tenants.index(&message.tenant, &self.config);
                self.on_deliver(now, tenant, &Publication::from(&message), origin, out);
                self.retain_order.gives(None);
            }
            Body::Append { message, targets, reply, publisher, stamp } => {
                self.retain_order.saw(from, stamp);
                self.retain_order.gives(Some(from));
                let origin = Origin { core: from, publisher, reply, data_bytes };
                self.on_append(now, &message, targets, origin, out);
                self.retain_order.gives(None);
            }
            Body::Shared(delivery) => self.on_shared(now, from, delivery, out),
            Body::SharedRefused(delivery) => self.on_shared_refused(now, *delivery, out),
            Body::SharedRepeat(repeat) => self.on_shared_repeat(repeat, out),
            Body::SharedUnknown(repeat) => self.on_shared_unknown(now, &repeat, out),
            Body::Retain { message, reply } => self.on_retain(now, from, &message, reply, data_bytes),
            Body::Retained { request, log, found } => self.on_retained(now, request, log, found, out),
            Body::Match { .. } | Body::AddRoute { .. } | Body::RemoveRoute { .. } | Body::PassOn { .. } => {
                self.on_route_request(now, from, body, out);
            }
            Body::Matched { lookup, destinations } => self.on_matched(now, from, lookup, destinations, out),
            Body::Answer { reply, reason } => self.on_answer(reply, 0, reason, out),
            Body::Slow { connection } => self.slow(now, connection, Pressure::FULL),
            Body::Busy { member, busy } => self.on_busy(member, busy),
            Body::MemberGone { member } => self.on_member_gone(member),
            Body::Resumed => self.on_resumed(from),
            Body::ForgetPublisher { session } => self.forget_publisher(session, out),
            Body::Loads { loads } => self.on_loads(loads),
            Body::Credit { bytes } => {
                let unprocessed = &mut self.peers.unprocessed[from.index()];
                *unprocessed = unprocessed.saturating_sub(bytes);
            }
            other => self.on_peer_request(now, from, other, out),
        }
    }

    /// The rarer kinds: what follows changes of routes, and requests for retained messages.
    fn on_peer_request(&mut self, now: Now, from: CoreId, body: Body, out: &mut Outputs) {
        match body {
            Body::RouteChanged { change, passes } => self.on_route_changed(change, passes, out),
            Body::RouteRefused { change } => self.on_route_refused(change, out),
            Body::Totals { tenant, totals } => self.on_totals(from, &tenant, *totals),
            Body::Passed { change } => self.on_passed(change, out),
            Body::Invalidate { tenant, filter, answer } => {
                let index = self.tenants.index(&tenant, &self.config);
                self.strike(index, &filter, from);
                match answer {
                    Forgotten::Invalidated(number) => self.post(from, Body::Invalidated { number }),
                    Forgotten::Passed(core, change) => self.post(core, Body::Passed { change }),
                    Forgotten::Unsaid => {}
                }
            }
            Body::Invalidated { number } => self.on_invalidated(number),
            Body::FindRetained(ask) => self.on_find_retained(now, from, ask),
            Body::CountChanges { round } => self.on_count_changes(from, round),
            Body::ChangesCounted { round, sent } => {
                self.on_changes_counted(now, from, round, &sent, out);
            }
            Body::Follow { number, tenant, client_hash } => self.on_follow(number, tenant, client_hash),
            Body::DiskFull { is_full } => self.on_disk_full(from, is_full),
            _ => unreachable!("on_peer has taken the others"),
        }
    }

    fn answer(&mut self, to: CoreId, reply: Option<crate::peer::Reply>, reason: ReasonCode) {
        if let Some(reply) = reply {
            self.post(to, Body::Answer { reply, reason });
        }
    }

    /// Messages from another core for this core's volatile sessions.
    fn on_parcel(&mut self, now: Now, from: CoreId, parcel: &Parcel, out: &mut Outputs) {
        let tenant = self.tenants.index(parcel.tenant(), &self.config);
        let name = Arc::clone(&self.tenants.get(tenant).name);
        for (publication, publisher, data_bytes) in parcel.messages(&name) {
            let origin = Origin { core: from, publisher, reply: None, data_bytes };
            self.on_deliver(now, tenant, &publication, origin, out);
        }
    }

    /// One of them.
    fn on_deliver(
        &mut self,
        now: Now,
        tenant: TenantIndex,
        publication: &Publication<'_>,
        origin: Origin,
        out: &mut Outputs,
    ) {
        if publication.expires.is_some_and(|expires| expires <= now.wall) {
            self.tenants.lose(&mut self.counters, tenant, DropReason::Expired, 1);
            return;
        }
        if let Some(cached) = self.cached_readers(tenant, publication.topic) {
            if self.must_wait(tenant, publication.topic, cached.local.len()) {
                self.tenants.lose(
                    &mut self.counters,
                    tenant,
                    DropReason::NoPermission,
                    u64::from(cached.denied),
                );
                return self.postpone(tenant, publication, Recipients::Volatile(cached), origin);
            }
            self.fan_out(now, publication, &cached.local, cached.denied, out);
        } else {
            if self.must_wait(tenant, publication.topic, 1) {
                return self.postpone(tenant, publication, Recipients::Unknown, origin);
            }
            let (local, denied) = self.local_readers(tenant, publication.topic);
            if self.must_wait(tenant, publication.topic, local.len()) {
                self.tenants.lose(&mut self.counters, tenant, DropReason::NoPermission, u64::from(denied));
                return self.postpone(tenant, publication, Recipients::Gathered(local), origin);
            }
            self.fan_out(now, publication, &local, denied, out);
        }
        self.slow_publisher(now, origin.publisher, Some(origin.core));
    }

    /// A message from another core for durable sessions that are at home here.
    fn on_append(
        &mut self,
        now: Now,
        message: &Arc<Message>,
        targets: Vec<Target>,
        origin: Origin,
        out: &mut Outputs,
    ) {
        let publication = Publication::from(message);
        let tenant = self.tenants.index(&message.tenant, &self.config);
        if self.must_wait(tenant, publication.topic, targets.len()) {
            return self.postpone(tenant, &publication, Recipients::Named(targets), origin);
        }
        let to = origin.reply.map(|reply| AnswerTo { core: origin.core, reply });
        let answer = self.begin_answer(to);
        self.append_all(now, &publication, &targets, answer, out);
        if !self.end_answer(answer) {
            self.answer(origin.core, origin.reply, ReasonCode::SUCCESS);
        }
        self.slow_publisher(now, origin.publisher, Some(origin.core));
    }
}
