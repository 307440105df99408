//! What follows from the commands of the sessions at home here: former owners closed, wills published,
//! timers armed, routes removed, messages of shared subscriptions passed on.

use std::sync::Arc;

use mqtt::ReasonCode;

use super::Core;
use super::quotas::kind;
use crate::connection::Connection;
use crate::counters::DropReason;
use crate::delivery::DeliveryOptions;
use crate::dist::Route;
use crate::identity::ConnectionId;
use crate::input::{Close, Outputs};
use crate::message::{Message, Publication};
use crate::notice::{Event, Notice};
use crate::quota::Total;
use crate::sessions::{Effect, Ended, Leftover, SessionSlot};
use crate::sight::{Answer, Refusal, Said};
use crate::time::Now;

/// Filters and messages of ended sessions that one turn deals with: a session may have had a million.
pub(super) const ENDINGS_MAX: u32 = 4096;

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
        self.set_expiry(now, id, None);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (slot, tenant) = (connection.session, connection.tenant);
        connection.phase = crate::connection::Phase::Closing;
        self.leave_total(tenant, Total::Connections, 1);
        self.keep_asked_for(id, slot, out);
        let publishes = self.tenants.get(tenant).settings.stop_publishes_wills;
        let stopping = self.stopping.is_some() && !publishes;
        if stopping && keep_will {
            self.count_stopped_will(slot);
        }
        let keep_will = keep_will && !stopping;
        if self.sessions.get(slot).stored.is_some() {
            return self.leave_stored(now, id, slot, keep_will, expiry_seconds, out);
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.sessions.detach(slot, keep_will, now.wall, &mut effects);
        self.settle(now, effects, out);
    }

    /// Works off effects; the list is the core's scratch and returns to it.
    pub(super) fn settle(&mut self, now: Now, mut effects: Vec<Effect>, out: &mut Outputs) {
        for effect in effects.drain(..) {
            match effect {
                Effect::TakenOver(id) => {
                    if let Some(tenant) = self.connections.get(id).map(|connection| connection.tenant) {
                        self.leave_total(tenant, Total::Connections, 1);
                    }
                    self.close_taken_over(now, id, out);
                }
                Effect::Publish { message, client, grant } => {
                    if !self.admit_will(&message, &client, grant) {
                        self.notice_of(&message.tenant, &client, Event::WillDenied, out);
                    } else {
                        self.notice_of(&message.tenant, &client, Event::WillPublished, out);
                        self.publish_own(now, message, out);
                    }
                }
                Effect::Ended(ended) => self.on_session_ended(ended, out),
            }
        }
        self.effects = effects;
    }

    /// [MQTT-3.1.4-3]: the former connection is told and closed, before the new one hears anything.
    pub(super) fn close_taken_over(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        self.counters.take_overs += 1;
        if self.wants_notices() {
            let connection = self.connections.get(id);
            let peer = connection.and_then(Connection::peer);
            let tenant = connection.map(|connection| Arc::clone(&self.tenants.get(connection.tenant).name));
            let event = Event::Closed(ReasonCode::SESSION_TAKEN_OVER);
            let (client, message) = (None, None);
            self.tell(Notice { connection: Some(id), peer, tenant, client, event, message }, out);
        }
        self.write_disconnect(id, ReasonCode::SESSION_TAKEN_OVER, None, out);
        self.linger(now, id, Close::Flush, out);
    }

    /// Publishes a message that no connection waits for: a will.
    pub(super) fn publish_own(&mut self, now: Now, message: Message, out: &mut Outputs) {
        let message = Arc::new(message);
        let tenant = self.tenants.index(&message.tenant, &self.config);
        self.route(now, tenant, &Publication::from(&message), None, out);
    }

    fn on_session_ended(&mut self, ended: Box<Ended>, out: &mut Outputs) {
        self.forget_member(ended.incarnation);
        self.notice_of(&ended.tenant, &ended.client, Event::SessionEnded, out);
        self.ending.push_back(ended);
        // At once if it is small.
        self.clear_ended(out);
    }

    /// Removes the routes of ended sessions, and then deals with their messages, as many as a turn allows: so
    /// that a member is away before its messages move on.
    pub(super) fn clear_ended(&mut self, out: &mut Outputs) {
        while let Some(mut ended) = self.ending.pop_front() {
            while self.endings_left > 0 {
                self.endings_left -= 1;
                if let Some((filter, _)) = ended.subscriptions.pop_first() {
                    self.remove_ended_route(&ended, &filter, out);
                    continue;
                }
                match ended.queue.pop_leftover() {
                    Some(Leftover::Shared(group, message)) => self.pass_on(group, message),
                    Some(Leftover::Lost) => self.lose_of(&ended.tenant, DropReason::SessionEnded, 1),
                    None => break,
                }
            }
            if self.endings_left == 0 {
                self.ending.push_front(ended);
                return;
            }
        }
    }

    fn remove_ended_route(&mut self, ended: &Ended, filter: &str, out: &mut Outputs) {
        let parsed = mqtt::validate_filter(filter).expect("was granted");
        let tenant = self.tenants.index(&ended.tenant, &self.config);
        self.leave_total(tenant, kind(parsed.share.is_some(), false), 1);
        let target = self.target(ended.incarnation, DeliveryOptions::default());
        match parsed.share {
            Some(share) => {
                let (key, member) = self.member(share, parsed.filter, target, false);
                self.remove_route(&ended.tenant, parsed.filter, Route::Member(key, member), None);
            }
            None => self.remove_local(&ended.tenant, parsed.filter, ended.connection, out),
        }
    }

    /// A SUBSCRIBE whose acknowledgement waits when its connection ends leaves the subscription to a session that
    /// lasts, and what that is owed of retained messages: the client may ask only for what is new to it.
    pub(super) fn keep_asked_for(&mut self, id: ConnectionId, slot: SessionSlot, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(extras) = &mut connection.extras else { return };
        let requests = std::mem::take(&mut extras.requests);
        let gone = |number| Answer { number, said: Said::Done(Err(Refusal::Gone)) };
        out.answers.extend(requests.iter().filter_map(|request| request.asked).map(gone));
        let session = self.sessions.at(slot);
        for (filter, options) in requests.into_iter().flat_map(|request| request.retained) {
            session.owed.get_or_insert_default().push(filter, options, None);
        }
    }
}
