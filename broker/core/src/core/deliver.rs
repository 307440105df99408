//! Hot path. From a session's queue to its connection: as much as the client's window and our buffers allow.

use std::sync::Arc;
use std::time::Duration;

use mqtt::encode;
use mqtt::{Ack, PacketKind, QoS, ReasonCode};

use super::Core;
use super::receive::mark_dirty;
use super::timers::Timer;
use crate::config::{QueueDrop, Settings};
use crate::connection::{Connection, Fields, Frames, Pressure};
use crate::counters::DropReason;
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::message::Publication;
use crate::notice::{About, Event};
use crate::sessions::{Delivery, Entry, Next, Pushed, QueueLimits, SessionSlot};
use crate::time::{Mono, Now};

/// A receiver that took nothing for so long is stuck: publishers are not slowed for it, its queue fills and
/// then drops.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// How much more than `tenant.shared_queue_max` waits for each member of a group before its publishers are slowed to the
/// most; half of it before they are slowed at all. Eight thousand messages are more than a member takes in a tick.
const SHARED_QUEUE_FACTOR: u64 = 16;

/// Smaller settings prefer members, and are not meant to slow anybody.
const SHARED_QUEUE_MIN: u64 = 64;

/// What became of a message that is not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is among the unsent bytes.
    Done,
    /// It is lost, and counted.
    Dropped,
    /// There is no connection to send it on.
    Away,
}

/// What became of a QoS 0 message for a session that may be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unqueued {
    /// It is sent, or lost and counted.
    Done,
    /// It is to wait in the session's queue.
    ToQueue,
    /// The session is away, and QoS 0 does not wait (`tenant.queue_qos0`).
    Away,
}

impl Connection {
    /// Whether the client still takes what it is sent.
    pub(super) fn is_progressing(&self, now: Mono) -> bool {
        now.since(self.last_progress) < STUCK_AFTER
    }
}

impl Core {
    /// Sends a QoS 0 message to a session's connection, if it has one.
    pub(super) fn send_unqueued(
        &mut self,
        now: Now,
        connection: Option<ConnectionId>,
        publication: &Publication<'_>,
        fields: Fields,
        out: &mut Outputs,
    ) -> Sent {
        let Some(connection) = connection.and_then(|id| self.connections.get_mut(id)) else {
            return Sent::Away;
        };
        if !connection.is_online() {
            return Sent::Away;
        }
        if connection.send.len() > connection.settings().send_bytes_max as usize {
            self.tenants.lose(&mut self.counters, connection.tenant, DropReason::SlowReader, 1);
            if connection.is_progressing(now.monotonic) {
                self.pressure = Pressure::FULL;
            }
            if self.watch.is_on() {
                let (id, about) = (connection.id, About::new(publication, fields.qos, None));
                self.see(id, about, Event::Dropped(DropReason::SlowReader));
            }
            return Sent::Dropped;
        }
        self.frames.clear();
        let id = connection.id;
        let sent = self.frames.send(connection, &mut self.pool, publication, fields, now.wall).is_ok();
        if sent {
            self.counters.publishes_sent[0] += 1;
            self.tenants.at(connection.tenant).traffic.sent.count(fields.qos, publication.payload);
            mark_dirty(connection, out);
        } else {
            self.tenants.lose(&mut self.counters, connection.tenant, DropReason::TooLarge, 1);
        }
        if self.watch.is_on() {
            self.see_given(id, publication, fields.qos, sent);
        }
        if sent { Sent::Done } else { Sent::Dropped }
    }

    /// Sends a QoS 0 message to a session, or says that it is to be queued for it.
    pub(super) fn send_or_queue(
        &mut self,
        now: Now,
        slot: SessionSlot,
        publication: &Publication<'_>,
        fields: Fields,
        out: &mut Outputs,
    ) -> Unqueued {
        let tenant = self.tenants.index(publication.tenant, &self.config);
        let queued = self.tenants.get(tenant).settings.queue_qos0;
        let session = self.sessions.get(slot);
        // What waits in the queue since the client was away must not be overtaken [MQTT-4.6.0-5], nor a retained
        // message that is on its way there, nor what went that way though it has QoS 0.
        let copying = session.stored.as_ref().is_some_and(|stored| stored.has_copies());
        let follows = session.stored.as_ref().is_some_and(|stored| stored.has_detour());
        if queued && self.has_next(slot) || publication.retain && copying || follows {
            return Unqueued::ToQueue;
        }
        let connection = Some(session.connection());
        match self.send_unqueued(now, connection, publication, fields, out) {
            Sent::Done if publication.retain => {
                self.overtake_retained(slot, publication, false);
                Unqueued::Done
            }
            Sent::Done | Sent::Dropped => Unqueued::Done,
            Sent::Away if queued => Unqueued::ToQueue,
            Sent::Away => Unqueued::Away,
        }
    }

    /// Puts a message into a volatile session's queue, under its tenant's limits; what is lost is counted. True
    /// if it is in.
    pub(super) fn enqueue(&mut self, now: Now, slot: SessionSlot, entry: Entry) -> bool {
        let session = self.sessions.get(slot);
        let connection = self.connections.get(session.connection());
        let progressing = connection.is_some_and(|connection| connection.is_progressing(now.monotonic));
        let tenant = match connection {
            Some(connection) => connection.tenant,
            None => self.tenants.index(session.tenant(), &self.config),
        };
        let settings = &self.tenants.get(tenant).settings;
        let limits = queue_limits(settings);
        let shared_max = entry.is_shared().then(|| shared_queue_full(settings));
        let queue = &mut self.sessions.at(slot).queue;
        let pushed = queue.push(entry, &limits, now.wall);
        // Publishers are slowed from half full on, while the receiver is still worth waiting for.
        if progressing {
            let of_group = shared_max.map(|max| Pressure::of(u64::from(queue.len()), max));
            let of_queue = limits.pressure(queue.len(), queue.bytes());
            self.pressure = self.pressure.max(of_queue).max(of_group.unwrap_or_default());
        }
        match pushed {
            Pushed::Queued => true,
            Pushed::Displaced { full, expired } => {
                self.tenants.lose(&mut self.counters, tenant, DropReason::QueueFull, u64::from(full));
                self.tenants.lose(&mut self.counters, tenant, DropReason::Expired, u64::from(expired));
                true
            }
            Pushed::Full { full, expired } => {
                self.tenants.lose(&mut self.counters, tenant, DropReason::QueueFull, u64::from(full) + 1);
                self.tenants.lose(&mut self.counters, tenant, DropReason::Expired, u64::from(expired));
                false
            }
        }
    }

    /// Sends what a session has for its client.
    pub(super) fn pump(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        self.pump_shared(now, id, None, out);
    }

    /// The same while a publication is being fanned out: its encodings in `frames` are used again.
    pub(super) fn pump_shared(
        &mut self,
        now: Now,
        id: ConnectionId,
        current: Option<&Publication<'_>>,
        out: &mut Outputs,
    ) {
        if self.access.is_restricted() {
            self.refresh_grant(id);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.is_online() {
            return;
        }
        let session = self.sessions.at(connection.session);
        if session.stored.is_some() {
            return self.pump_stored(now, id, out);
        }
        let queue = &mut session.queue;
        if !queue.has_next() {
            return;
        }
        let send_bytes_max = connection.settings().send_bytes_max as usize;
        let mut steps = self.watch.steps();
        while connection.send.len() <= send_bytes_max {
            match queue.next(connection.outbound_inflight_max, now.wall) {
                None => break,
                Some(Next::Expired) => {
                    steps.add(|| (About::unknown(), Event::Dropped(DropReason::Expired)));
                    self.tenants.lose(&mut self.counters, connection.tenant, DropReason::Expired, 1);
                }
                Some(Next::Release(packet_id)) => {
                    let ack = Ack::new(packet_id, ReasonCode::SUCCESS);
                    let version = connection.version;
                    connection.send.append(&mut self.pool, |tail| {
                        encode::ack(tail, version, PacketKind::PubRel, &ack);
                    });
                }
                Some(Next::Publish(delivery)) if !admits(connection, &delivery.message.topic) => {
                    // It was queued when the client might still receive it, or by another user.
                    steps.add(|| step(&delivery, Event::Dropped(DropReason::NoPermission)));
                    if let Some(packet_id) = delivery.packet_id {
                        queue.discard(packet_id);
                    }
                    self.tenants.lose(&mut self.counters, connection.tenant, DropReason::NoPermission, 1);
                }
                Some(Next::Publish(delivery)) => {
                    let (frames, pool) = (&mut self.frames, &mut self.pool);
                    if send_delivery(connection, frames, pool, &delivery, current, now) {
                        self.counters.publishes_sent[usize::from(delivery.qos.bits())] += 1;
                        let sent = &mut self.tenants.at(connection.tenant).traffic.sent;
                        sent.count(delivery.qos, &delivery.message.payload);
                        steps.add(|| step(&delivery, Event::Sent { dup: delivery.dup }));
                    } else {
                        steps.add(|| step(&delivery, Event::Dropped(DropReason::TooLarge)));
                        // [MQTT-3.1.2-25]: as if it had been sent.
                        if let Some(packet_id) = delivery.packet_id {
                            queue.discard(packet_id);
                        }
                        self.tenants.lose(&mut self.counters, connection.tenant, DropReason::TooLarge, 1);
                    }
                }
            }
        }
        connection.recheck &= queue.has_next();
        if !connection.send.is_empty() {
            mark_dirty(connection, out);
        }
        self.see_steps(id, steps);
    }

    /// Reads a publisher more slowly: until the wheel's next tick nothing of it is processed but some of what came with
    /// the packet at hand.
    pub(super) fn slow(&mut self, now: Now, id: ConnectionId, pressure: Pressure) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.is_online()
        {
            let before = connection.slowed;
            connection.slowed = before.max(pressure);
            if before != Pressure::NONE {
                return;
            }
            self.counters.publishers_slowed += 1;
            self.wheel.arm(now.monotonic.0 + 1, Timer::Slowed(id));
        }
    }
}

/// The limits of a session's queue.
pub(super) fn queue_limits(settings: &Settings) -> QueueLimits {
    QueueLimits {
        messages: settings.queue_messages_max,
        bytes: settings.queue_bytes_max,
        drop_oldest: settings.queue_drop == QueueDrop::Oldest,
    }
}

/// Messages in a member's queue that count as a full one when its publishers are slowed. It has so many before it only
/// when no other member takes more: what waits beyond makes messages late and memory cold, and no member faster.
fn shared_queue_full(settings: &Settings) -> u64 {
    u64::from(settings.shared_queue_max).max(SHARED_QUEUE_MIN) * SHARED_QUEUE_FACTOR
}

/// Whether a message that has waited may still be sent.
fn admits(connection: &Connection, topic: &str) -> bool {
    !connection.recheck || connection.grant.as_ref().is_none_or(|grant| grant.may_receive(topic))
}

/// A step of a message that has waited.
fn step(delivery: &Delivery, event: Event) -> (About, Event) {
    (About::new(&Publication::from(&delivery.message), delivery.qos, delivery.packet_id), event)
}

/// False if the packet is too large for the client.
fn send_delivery(
    connection: &mut Connection,
    frames: &mut Frames,
    pool: &mut crate::connection::BufferPool,
    delivery: &Delivery,
    current: Option<&Publication<'_>>,
    now: Now,
) -> bool {
    let fields = Fields {
        packet_id: delivery.packet_id,
        dup: delivery.dup,
        qos: delivery.qos,
        retain: delivery.retain,
        subscription_id: delivery.subscription_id,
    };
    let same = |publication: &&Publication<'_>| {
        delivery.qos != QoS::AtMostOnce && Arc::ptr_eq(publication.share(), &delivery.message)
    };
    let sent = match current.filter(same) {
        Some(publication) => frames.send(connection, pool, publication, fields, now.wall),
        None => Frames::send_alone(connection, pool, &Publication::from(&delivery.message), fields, now.wall),
    };
    sent.is_ok()
}
