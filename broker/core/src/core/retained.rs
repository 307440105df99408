//! Retained messages: to the ranges that keep them, and from there to new subscriptions, in chunks, as fast
//! as the subscriber takes them.

use std::sync::Arc;

use hashbrown::HashMap;
use mqtt::{QoS, ReasonCode};
use slab::Slab;

use super::Core;
use super::timers::{Timer, due};
use crate::connection::{Fields, Source};
use crate::counters::DropReason;
use crate::delivery::DeliveryOptions;
use crate::identity::{ConnectionId, CoreId};
use crate::inbox::Entry;
use crate::input::Outputs;
use crate::message::{Message, Publication};
use crate::peer::{Body, Reply, RetainedRequest};
use crate::placement::{core_of, retain_key};
use crate::retain::Set;
use crate::tenant::TenantIndex;
use crate::time::{Now, Wall};
use crate::wheel::TimerId;

/// Unsent bytes and queued messages beyond which a subscriber gets no more retained messages for now, where the
/// settings do not say less: they wait at their ranges, and none is dropped for want of room.
const UNSENT_BYTES_MAX: usize = 256 * 1024;
const QUEUED_MAX: u32 = 1000;

/// The timers of retained messages that expire.
#[derive(Default)]
pub(super) struct RetainedTimers {
    slots: Slab<(TenantIndex, Box<str>, TimerId)>,
    by_topic: HashMap<(TenantIndex, Box<str>), u32, foldhash::fast::FixedState>,
}

impl Core {
    /// A message published with the retain flag. The number of answers to wait for, or why it is not kept.
    pub(super) fn retain(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        reply: Option<Reply>,
    ) -> Result<u16, ReasonCode> {
        let core = core_of(retain_key(publication.tenant, publication.topic), self.config.cores);
        let message = Arc::clone(publication.share());
        if core == self.id {
            let reason = self.retain_here(now, message);
            return if reason.is_error() { Err(reason) } else { Ok(0) };
        }
        let reply = reply.filter(|_| publication.qos != QoS::AtMostOnce);
        self.post(core, Body::Retain { message, reply });
        Ok(u16::from(reply.is_some()))
    }

    /// The reason for the publisher's acknowledgement.
    pub(super) fn retain_here(&mut self, now: Now, message: Arc<Message>) -> ReasonCode {
        let tenant = self.tenants.index(&message.tenant, &self.config);
        let max = self.tenants.get(tenant).settings.retained_messages_max;
        let (topic, expires) =
            (message.topic.clone(), message.expires.filter(|_| !message.payload.is_empty()));
        match self.retained.set(message, max) {
            Set::Full => {
                self.counters.drop_messages(DropReason::RetainFull, 1);
                ReasonCode::QUOTA_EXCEEDED
            }
            Set::Done => {
                self.disarm_retained(tenant, &topic);
                if let Some(expires) = expires {
                    self.arm_retained(now, tenant, topic, expires);
                }
                ReasonCode::SUCCESS
            }
        }
    }

    /// A retained message has one timer at most, however often it is replaced.
    fn arm_retained(&mut self, now: Now, tenant: TenantIndex, topic: Box<str>, expires: Wall) {
        let entry = self.retained_timers.slots.vacant_entry();
        let slot = u32::try_from(entry.key()).expect("bounded by retained_messages_max");
        let timer = self.wheel.arm(due(now, expires).0, Timer::Retained(slot));
        entry.insert((tenant, topic.clone(), timer));
        self.retained_timers.by_topic.insert((tenant, topic), slot);
    }

    fn disarm_retained(&mut self, tenant: TenantIndex, topic: &str) {
        if self.retained_timers.slots.is_empty() {
            return;
        }
        if let Some(slot) = self.retained_timers.by_topic.remove(&(tenant, topic.into())) {
            let (_, _, timer) = self.retained_timers.slots.remove(slot as usize);
            self.wheel.cancel(timer);
        }
    }

    /// The time of a retained message has passed.
    pub(super) fn on_retained_timer(&mut self, now: Now, slot: u32) {
        let (tenant, topic, _) = self.retained_timers.slots.remove(slot as usize);
        let name = Arc::clone(&self.tenants.get(tenant).name);
        self.retained.expire(&name, &topic, now.wall);
        self.retained_timers.by_topic.remove(&(tenant, topic));
    }

    /// A filter is given up: its retained messages are not wanted any more [MQTT-3.10.4-2].
    pub(super) fn give_up_retained(&mut self, id: ConnectionId, filter: &str) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(extras) = &mut connection.extras else { return };
        for request in &mut extras.requests {
            request.retained.retain(|(other, _)| **other != *filter);
        }
        let begun = extras.retained.pop_front_if(|stream| *stream.filter == *filter);
        extras.retained.retain(|stream| *stream.filter != *filter);
        if let Some(stream) = begun {
            let request = RetainedRequest { connection: id, number: stream.number };
            for (core, _) in stream.sources {
                self.post(core, Body::StopRetained { request });
            }
            self.ask_for_retained(id);
        }
    }

    /// Asks the ranges for what the connection's first waiting filter matches.
    pub(super) fn ask_for_retained(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let tenant = Arc::clone(&self.tenants.get(connection.tenant).name);
        let Some(stream) = connection.extras().retained.front_mut() else { return };
        let wild = stream.filter.contains(['+', '#']);
        let only = core_of(retain_key(&tenant, &stream.filter), self.config.cores);
        let request = RetainedRequest { connection: id, number: stream.number };
        let filter = stream.filter.clone();
        let cores: Vec<CoreId> =
            (0..self.config.cores).map(CoreId).filter(|core| wild || *core == only).collect();
        stream.sources = cores.iter().map(|core| (*core, Source::Asked)).collect();
        for core in cores {
            let tenant = Arc::clone(&tenant);
            self.post(core, Body::FindRetained { request, tenant, filter: filter.clone() });
        }
    }

    /// A range hands out a chunk.
    pub(super) fn on_retained(
        &mut self,
        now: Now,
        from: CoreId,
        request: RetainedRequest,
        messages: Vec<Arc<Message>>,
        more: bool,
        out: &mut Outputs,
    ) {
        let id = request.connection;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(extras) = &mut connection.extras else { return };
        let Some(stream) = extras.retained.front_mut().filter(|stream| stream.number == request.number)
        else {
            return;
        };
        stream.ready.extend(messages);
        match stream.sources.iter().position(|(core, _)| *core == from) {
            Some(at) if more => stream.sources[at].1 = Source::HasMore,
            Some(at) => {
                stream.sources.remove(at);
            }
            None => {}
        }
        self.pump_retained(now, id, out);
    }

    /// Gives a connection retained messages while it takes them.
    pub(super) fn pump_retained(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        loop {
            let Some(connection) = self.connections.get_mut(id) else { return };
            let Some(extras) = &mut connection.extras else { return };
            let Some(stream) = extras.retained.front_mut() else { return };
            let settings = &self.tenants.get(connection.tenant).settings;
            let queue = &self.inboxes.get(connection.inbox).queue;
            let next_bytes = stream.ready.front().map_or(0, |message| message.bytes());
            if connection.send.len() > UNSENT_BYTES_MAX.min(settings.send_bytes_max as usize)
                || queue.len() >= QUEUED_MAX.min(settings.queue_messages_max.div_ceil(2))
                || (queue.len() > 0 && queue.bytes() + next_bytes > settings.queue_bytes_max)
            {
                return;
            }
            if let Some(message) = stream.ready.pop_front() {
                let options = stream.options;
                self.deliver_retained(now, id, &message, options, out);
                continue;
            }
            if stream.sources.is_empty() {
                extras.retained.pop_front();
                self.ask_for_retained(id);
                continue;
            }
            let request = RetainedRequest { connection: id, number: stream.number };
            let mut ask = Vec::new();
            for (core, source) in &mut stream.sources {
                if *source == Source::HasMore {
                    *source = Source::Asked;
                    ask.push(*core);
                }
            }
            for core in ask {
                self.post(core, Body::MoreRetained { request });
            }
            return;
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
            self.counters.drop_messages(DropReason::Expired, 1);
            return;
        }
        let inbox = connection.inbox;
        if !self.admit_delivery(inbox, &message.topic) {
            return;
        }
        let qos = message.qos.min(options.qos());
        let subscription_id = options.subscription_id();
        if qos == QoS::AtMostOnce {
            // [MQTT-3.3.1-8]: the retain flag is set.
            let fields = Fields { packet_id: None, dup: false, qos, retain: true, subscription_id };
            self.send_unqueued(now, Some(id), &Publication::from(message), fields, out);
        } else {
            let entry = Entry::new(Arc::clone(message), qos, true, subscription_id);
            self.enqueue(now, inbox, entry);
            self.pump(now, id, out);
        }
        self.slow_publisher(now, None, None); // whoever retained it has long gone on
    }
}
