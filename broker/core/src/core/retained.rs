//! Retained messages: to the ranges that keep them, and from there to new subscriptions, page by page, as fast
//! as the subscriber takes them.

use std::sync::Arc;

use mqtt::{QoS, ReasonCode};
use wal::LogId;

use super::Core;
use super::retain_changes::Source;
use crate::changes::Point;
use crate::connection::Fields;
use crate::counters::DropReason;
use crate::delivery::DeliveryOptions;
use crate::identity::{ConnectionId, CoreId, Incarnation};
use crate::input::Outputs;
use crate::limit::Limit;
use crate::message::{Message, Publication};
use crate::notice::Event;
use crate::peer::{Body, Reply, RetainedAsk, RetainedPage, RetainedRequest};
use crate::sessions::{Ask, Entry, Live, SessionSlot, Step};
use crate::storage::Storage;
use crate::time::Now;

/// Unsent bytes beyond which a subscriber gets no more retained messages for now, where the settings do not say less:
/// they wait at their ranges, and none is dropped for want of room.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

impl Core {
    /// A message published with the retain flag. The number of answers to wait for, or why it is not kept.
    pub(super) fn retain(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        (publisher, reply): (Option<ConnectionId>, Option<Reply>),
    ) -> Result<u16, ReasonCode> {
        let log = self.config.retain_log(publication.tenant, publication.topic);
        let core = self.config.core_of_log(log);
        self.retain_order.sends(log);
        if core == self.id {
            let source = Source { from: core, reply, publisher, data_bytes: 0 };
            let slot = Storage::slot_of_log(&self.config, log);
            if let Some(reason) = self.change_retained(now, slot, publication, source) {
                return if reason.is_error() { Err(reason) } else { Ok(0) };
            }
        } else {
            let message = Arc::clone(publication.share());
            self.post(core, Body::Retain { message, reply });
        }
        Ok(u16::from(reply.is_some()))
    }

    /// A filter is given up: its retained messages are not wanted any more [MQTT-3.10.4-2].
    pub(super) fn give_up_retained(&mut self, id: ConnectionId, filter: &str) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        for request in connection.extras.iter_mut().flat_map(|extras| &mut extras.requests) {
            request.retained.retain(|(other, _)| **other != *filter);
        }
        let slot = connection.session;
        if let Some(owed) = &mut self.sessions.at(slot).owed {
            owed.give_up(filter);
            self.start_retained(slot);
        }
    }

    /// The filter at hand may be another one than before: its first pages are asked for.
    pub(super) fn start_retained(&mut self, slot: SessionSlot) {
        let owed = &mut self.sessions.at(slot).owed;
        owed.take_if(|owed| owed.len() == 0);
        if owed.as_ref().is_some_and(|owed| !owed.is_begun()) && self.begin_retained(slot) {
            // Nothing is handed over here, so the bound does not matter.
            let step = self.sessions.at(slot).owed.as_mut().map(|owed| owed.next(u32::MAX));
            if let Some(Step::Ask(asks)) = step {
                self.ask_for_retained(slot, asks);
            }
        }
    }

    /// At the range: hands out a page, as soon as its messages are in memory.
    pub(super) fn answer_find_retained(&mut self, now: Now, to: CoreId, ask: Box<RetainedAsk>) {
        if self.is_stale(now, &ask) {
            return self.post(to, Body::Retained { request: ask.request, log: ask.log, found: None });
        }
        let slot = Storage::slot_of_log(&self.config, ask.log);
        match self.storage.log(slot).retained_page_at_hand(now, &ask, self.comes_live(&ask)) {
            Ok(page) => {
                let found = Some(Box::new(RetainedPage { page, made: self.retain_order.made(slot).into() }));
                self.post(to, Body::Retained { request: ask.request, log: ask.log, found });
            }
            Err(window) => {
                self.counters.disk_waits += 1;
                self.stored.readers.add_ask(ask.log, window, to, ask);
            }
        }
    }

    /// At the subscriber: a page has come, or none because its point was too long ago.
    pub(super) fn on_retained(
        &mut self,
        now: Now,
        request: RetainedRequest,
        log: LogId,
        found: Option<Box<RetainedPage>>,
        out: &mut Outputs,
    ) {
        let Some(slot) = self.sessions.find(request.session) else { return };
        let session = self.sessions.at(slot);
        let waited_for = session.owed.as_mut().is_some_and(|owed| owed.on_page(request.number, log, found));
        if waited_for {
            let id = session.connection();
            self.pump_retained(now, id, out);
        }
    }

    /// At the subscriber: it is known up to where a session is owed copies.
    pub(super) fn on_point(
        &mut self,
        now: Now,
        session: Incarnation,
        number: u64,
        point: &Point,
        out: &mut Outputs,
    ) {
        let Some(slot) = self.sessions.find(session) else { return };
        let session = self.sessions.at(slot);
        if session.owed.as_mut().is_some_and(|owed| owed.on_point(number, point)) {
            let id = session.connection();
            self.start_retained(slot);
            self.pump_retained(now, id, out);
        }
    }

    /// A live message that changes what is retained was given to a session: to its queue, or only sent.
    pub(super) fn overtake_retained(
        &mut self,
        slot: SessionSlot,
        publication: &Publication<'_>,
        queued: bool,
    ) {
        if let Some(owed) = &mut self.sessions.at(slot).owed {
            let log = self.config.retain_log(publication.tenant, publication.topic);
            owed.overtake(&Live { publication, change: self.retain_order.change_at_hand(log), queued });
        }
    }

    /// Gives a connection retained messages while it takes them.
    pub(super) fn pump_retained(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        while let Some(slot) = self.wants_retained(id) {
            let Some(connection) = self.connections.get(id) else { return };
            let matches_max = connection.settings().retained_matches_max;
            let tenant = connection.tenant;
            let Some(owed) = &mut self.sessions.at(slot).owed else { return };
            // What has come live before it is not to come after it.
            if owed.peek().is_some_and(|(message, _)| self.postponed.has_change(tenant, &message.topic)) {
                return self.postponed.make_reader_wait(id);
            }
            match owed.next(matches_max) {
                Step::Beyond => self.bite(tenant, Limit::RetainedMatches),
                Step::Begin => {
                    if !self.begin_retained(slot) {
                        return;
                    }
                }
                Step::Deliver(message, options) => self.deliver_retained(now, id, &message, options, out),
                Step::Ask(asks) => {
                    self.ask_for_retained(slot, asks);
                    return;
                }
                Step::Done => {
                    self.sessions.at(slot).owed = None;
                    return;
                }
            }
        }
    }

    /// The session of a connection that is owed retained messages and has room. None waits in a queue: what is
    /// published meanwhile with a lower QoS would pass it there.
    fn wants_retained(&self, id: ConnectionId) -> Option<SessionSlot> {
        let connection = self.connections.get(id).filter(|connection| connection.is_online())?;
        let session = self.sessions.get(connection.session);
        let owed = session.owed.as_ref()?;
        let settings = &self.tenants.get(connection.tenant).settings;
        let queued = self.queued_at(connection.session);
        let next_bytes = owed.peek().map_or(0, |(message, _)| message.bytes());
        let window = u32::from(connection.outbound_inflight_max).min(settings.queue_messages_max);
        let room = connection.send.len() <= UNSENT_BYTES_MAX.min(settings.send_bytes_max as usize)
            && !self.has_next(connection.session)
            && queued < window
            && (queued == 0
                || self.queued_bytes(connection.session) + next_bytes <= settings.queue_bytes_max);
        room.then_some(connection.session)
    }

    /// Begins with the filter at hand, or goes on with it in another connection: any range may keep what a wildcard
    /// matches. False if its point has to be found out before.
    fn begin_retained(&mut self, slot: SessionSlot) -> bool {
        let here = self.point_at_hand();
        let session = self.sessions.at(slot);
        let (tenant, incarnation) = (Arc::clone(session.tenant()), session.incarnation());
        let Some(owed) = &mut session.owed else { return false };
        if owed.point().is_none() {
            let number = self.next_retained_request;
            self.next_retained_request += 1;
            let begins = owed.await_point(number);
            let Some(here) = here else {
                if begins {
                    self.find_point_again(incarnation, number);
                }
                return false;
            };
            owed.on_point(number, &here);
        }
        if owed.is_begun() {
            return true;
        }
        let Some(filter) = owed.filter() else { return false };
        if filter.contains(['+', '#']) {
            owed.begin((0..self.config.logs()).map(LogId));
        } else {
            let log = self.config.retain_log(&tenant, filter);
            owed.begin(std::iter::once(log));
        }
        true
    }

    fn ask_for_retained(&mut self, slot: SessionSlot, asks: Vec<Ask>) {
        if asks.is_empty() {
            return;
        }
        let session = self.sessions.at(slot);
        let (tenant, incarnation) = (Arc::clone(session.tenant()), session.incarnation());
        let Some(owed) = &mut session.owed else { return };
        let Some(number) = owed.number(self.next_retained_request) else { return };
        self.next_retained_request += 1;
        let Some(filter) = owed.filter().map(Box::<str>::from) else { return };
        let Some(point) = owed.point().cloned() else { return };
        for Ask { log, after } in asks {
            let more = after.is_some();
            let ask = Box::new(RetainedAsk {
                request: RetainedRequest { session: incarnation, number },
                log,
                tenant: Arc::clone(&tenant),
                filter: filter.clone(),
                after,
                point: point.at(log).into(),
                known: self.retain_order.known(log).into(),
            });
            let core = self.config.core_of_log(log);
            // One page a turn, or a million of them would make one turn.
            if more {
                self.post_later(core, Body::FindRetained(ask));
            } else {
                self.post(core, Body::FindRetained(ask));
            }
        }
    }

    fn deliver_retained(
        &mut self,
        now: Now,
        id: ConnectionId,
        message: &Arc<Message>,
        options: DeliveryOptions,
        out: &mut Outputs,
    ) {
        self.deliveries_left = self.deliveries_left.saturating_sub(1);
        let Some(connection) = self.connections.get(id) else { return };
        // [MQTT-3.8.3-3]: by client id, for the message may be older than the client's session.
        if options.no_local() && connection.publisher.client_hash == message.publisher.client_hash {
            return;
        }
        if message.is_expired(now.wall) {
            self.tenants.lose(&mut self.counters, connection.tenant, DropReason::Expired, 1);
            if self.watch.is_on() {
                self.see_kept(id, message, Event::Dropped(DropReason::Expired));
            }
            return;
        }
        let slot = connection.session;
        let admitted = self.admit_delivery(slot, &message.topic);
        if self.watch.is_on() {
            let denied = Event::Dropped(DropReason::NoPermission);
            self.see_kept(id, message, if admitted { Event::RetainedMatched } else { denied });
        }
        if !admitted {
            return;
        }
        if self.tenants.wanted().retained {
            let tenant = self.tenants.index(&message.tenant, &self.config);
            self.pay_retained(now, tenant, message.bytes());
        }
        let qos = message.qos.min(options.qos());
        let subscription_id = options.subscription_id();
        if qos == QoS::AtMostOnce {
            // [MQTT-3.3.1-8]: the retain flag is set.
            let fields = Fields { packet_id: None, dup: false, qos, retain: true, subscription_id };
            self.send_unqueued(now, Some(id), &Publication::from(message), fields, out);
        } else {
            self.queue_copy(now, id, slot, message, options, out);
        }
        self.slow_publisher(now, None, None); // whoever retained it has long gone on
    }

    /// A copy that the client is to acknowledge.
    fn queue_copy(
        &mut self,
        now: Now,
        id: ConnectionId,
        slot: SessionSlot,
        message: &Arc<Message>,
        options: DeliveryOptions,
        out: &mut Outputs,
    ) {
        if self.sessions.get(slot).stored.is_some() {
            return self.append_copy(slot, &Publication::from(message), options, out);
        }
        let qos = message.qos.min(options.qos());
        let entry = Entry::new(Arc::clone(message), qos, true, options.subscription_id());
        let queued = self.enqueue(now, slot, entry);
        if self.watch.is_on() {
            self.see_queued(id, &Publication::from(message), qos, queued);
        }
        self.pump(now, id, out);
    }
}
