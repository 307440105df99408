//! What follows from the commands of the sessions at home here: former owners closed, wills published,
//! timers armed, routes removed, messages of shared subscriptions passed on.

use mqtt::ReasonCode;

use super::Core;
use super::timers::{Timer, due};
use crate::connection::Connection;
use crate::counters::DropReason;
use crate::dist::Route;
use crate::identity::{ConnectionId, Incarnation};
use crate::inbox::{Effect, Ended, InboxSlot};
use crate::input::{Close, Outputs};
use crate::message::{Message, Publication};
use crate::notice::{Event, Notice};
use crate::time::{Now, Wall};

/// Filters of ended sessions whose routes are removed in one turn: a session may have had a million.
const ENDED_FILTERS_MAX: usize = 4096;

impl Core {
    /// Detaches an online connection from its session.
    pub(super) fn leave_session(
        &mut self,
        now: Now,
        id: ConnectionId,
        keep_will: bool,
        expiry_seconds: Option<u32>,
        out: &mut Outputs,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (slot, tenant) = (connection.inbox, connection.tenant);
        connection.phase = crate::connection::Phase::Closing;
        self.keep_asked_for(id, slot);
        let publishes = self.tenants.get(tenant).settings.stop_publishes_wills;
        let stopping = self.stopping.is_some() && !publishes;
        if stopping && keep_will && self.inboxes.get(slot).has_will() {
            self.counters.drop_messages(DropReason::Stopping, 1);
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.inboxes.detach(slot, keep_will && !stopping, expiry_seconds, now.wall, &mut effects);
        self.settle(now, effects, out);
    }

    /// Works off effects; the list is the core's scratch and returns to it.
    pub(super) fn settle(&mut self, now: Now, mut effects: Vec<Effect>, out: &mut Outputs) {
        for effect in effects.drain(..) {
            match effect {
                Effect::TakenOver(connection) => self.close_taken_over(now, connection, out),
                Effect::Publish { message, client, grant } => {
                    if self.admit_will(&message, &client, grant) {
                        self.publish_own(now, message, out);
                    }
                }
                Effect::Due(incarnation, at) => self.arm_session(now, incarnation, at),
                Effect::Ended(ended) => self.on_session_ended(ended, out),
            }
        }
        self.effects = effects;
    }

    /// A session has one timer at most, however often its client comes and goes.
    fn arm_session(&mut self, now: Now, incarnation: Incarnation, at: Wall) {
        let Some(slot) = self.inboxes.find(incarnation) else { return };
        if let Some(timer) = self.inboxes.at(slot).take_timer() {
            self.wheel.cancel(timer);
        }
        let timer = self.wheel.arm(due(now, at).0, Timer::Session(incarnation));
        self.inboxes.at(slot).set_timer(timer);
    }

    /// [MQTT-3.1.4-3]: the former connection is told and closed, before the new one hears anything.
    fn close_taken_over(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        self.counters.take_overs += 1;
        if self.config.notices {
            let peer = self.connections.get(id).and_then(Connection::peer);
            let event = Event::Closed(ReasonCode::SESSION_TAKEN_OVER);
            out.notices.push(Notice { connection: id, peer, client: None, event });
        }
        self.write_disconnect(id, ReasonCode::SESSION_TAKEN_OVER, None, out);
        self.linger(now, id, Close::Flush, out);
    }

    /// Publishes a message that no connection waits for: a will.
    pub(super) fn publish_own(&mut self, now: Now, message: Message, out: &mut Outputs) {
        let message = std::sync::Arc::new(message);
        let tenant = self.tenants.index(&message.tenant, &self.config);
        self.route(now, tenant, &Publication::from(&message), None, out);
    }

    fn on_session_ended(&mut self, mut ended: Box<Ended>, out: &mut Outputs) {
        let leftovers = std::mem::take(&mut ended.leftovers);
        self.forget_member(ended.incarnation);
        if let Some(timer) = ended.timer {
            self.wheel.cancel(timer);
        }
        self.counters.drop_messages(DropReason::SessionEnded, leftovers.lost);
        if !ended.filters.is_empty() {
            self.ending.push_back(ended);
            // At once if it is small, so that its members are away before its messages move on.
            self.remove_ended_routes(out);
        }
        for (group, message) in leftovers.shared {
            self.pass_on(group, message);
        }
    }

    /// Removes routes of ended sessions, as many as a turn allows.
    pub(super) fn remove_ended_routes(&mut self, out: &mut Outputs) {
        let mut budget = ENDED_FILTERS_MAX;
        while let Some(ended) = self.ending.front_mut() {
            let Some(filter) = ended.filters.pop() else {
                self.ending.pop_front();
                continue;
            };
            if budget == 0 {
                ended.filters.push(filter);
                return;
            }
            budget -= 1;
            let (tenant, incarnation) = (ended.tenant.clone(), ended.incarnation);
            let (durable, connection) = (ended.durable, ended.connection);
            let parsed = mqtt::validate_filter(&filter).expect("was granted");
            match (parsed.share, connection) {
                (Some(share), _) => {
                    let target = self.target(incarnation, Default::default());
                    let (key, member) = self.member(share, parsed.filter, target, durable);
                    self.remove_route(&tenant, parsed.filter, Route::Member(key, member), None);
                }
                (None, _) if durable => {
                    let route = Route::Session(self.target(incarnation, Default::default()));
                    self.remove_route(&tenant, parsed.filter, route, None);
                }
                (None, Some(connection)) => self.remove_local(&tenant, parsed.filter, connection, out),
                (None, None) => unreachable!("a volatile session ends with its connection"),
            }
        }
    }

    /// A SUBSCRIBE whose acknowledgement waits when its connection ends leaves the subscription to a session that
    /// lasts, and what that is owed of retained messages: the client may ask only for what is new to it.
    pub(super) fn keep_asked_for(&mut self, id: ConnectionId, slot: InboxSlot) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(extras) = &mut connection.extras else { return };
        let requests = std::mem::take(&mut extras.requests);
        let session = self.inboxes.at(slot);
        for (filter, options) in requests.into_iter().flat_map(|request| request.retained) {
            session.owed.get_or_insert_default().push(filter, options);
        }
    }
}
