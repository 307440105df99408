//! Hot path. From the queue of a persistent session to its connection, and what the client acknowledges back
//! into the log: gathered over a turn, one command for each session, or held for longer ([`super::held`]).

use std::sync::Arc;

use mqtt::encode;
use mqtt::{Ack, PacketId, PacketKind, ReasonCode};

use super::Core;
use super::held::is_pressed;
use super::receive::mark_dirty;
use super::stored::Awaited;
use crate::connection::{BufferPool, Connection, Fields, Frames};
use crate::counters::DropReason;
use crate::identity::{ConnectionId, Incarnation};
use crate::input::Outputs;
use crate::notice::{About, Event};
use crate::ranges::inbox::{Entry, Queue, command};
use crate::sessions::{Acknowledged, NextStored, Progress, Received, SessionSlot, Stored, packet_id_at};
use crate::sight::Flow;
use crate::storage::{StoredLog, UPKEEP};
use crate::time::Now;

/// Messages of a queue that are read in ahead when one is not in memory.
const AHEAD_MAX: usize = 64;

impl Core {
    /// Sends what a persistent session has for its client.
    pub(super) fn pump_stored(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let session = self.sessions.at(connection.session);
        let (incarnation, tenant) = (session.incarnation(), session.tenant().clone());
        let Some(stored) = &mut session.stored else { return };
        let log = self.storage.log(stored.log);
        let Some(state) = log.inbox().machine().session(incarnation) else { return };
        let queue = &state.queue;
        let send_bytes_max = connection.settings().send_bytes_max as usize;
        let at_hand = |entry: &Entry| log.at_hand(now.monotonic, entry.message);
        let before = stored.haste();
        let mut steps = self.watch.steps();
        while connection.send.len() <= send_bytes_max {
            match stored.next(queue, connection.outbound_inflight_max, now.wall, at_hand) {
                None => break,
                Some(NextStored::NotAtHand(window)) => {
                    if stored.begin_reading(window) {
                        // With what follows, so that the disk is not waited for once for each message.
                        let ahead = stored.upcoming(queue).take(AHEAD_MAX);
                        ahead.for_each(|entry| _ = at_hand(&entry));
                        self.counters.disk_waits += 1;
                        self.stored.readers.add_session(log.id(), window, incarnation);
                    }
                    break;
                }
                Some(NextStored::Expired) => {
                    steps.add(|| (About::unknown(), Event::Dropped(DropReason::Expired)));
                    self.tenants.lose(&mut self.counters, connection.tenant, DropReason::Expired, 1);
                }
                Some(NextStored::PerhapsSent) => {
                    steps.add(|| (About::unknown(), Event::Dropped(DropReason::Away)));
                    self.tenants.lose(&mut self.counters, connection.tenant, DropReason::Away, 1);
                }
                Some(NextStored::Release(packet_id)) => {
                    let ack = Ack::new(packet_id, ReasonCode::SUCCESS);
                    let version = connection.version;
                    connection.send.append(&mut self.pool, |tail| {
                        encode::ack(tail, version, PacketKind::PubRel, &ack);
                    });
                }
                Some(NextStored::Publish { place, packet_id, dup, entry }) => {
                    let sent = &mut self.tenants.at(connection.tenant).traffic.sent;
                    let sending = Sending { log, tenant: &tenant, entry, packet_id, dup, sent };
                    let result = sending.send(connection, &mut self.pool, now);
                    steps.add(|| {
                        let message = log.message(entry.message);
                        let about = About::new(&message.publication(&tenant), entry.qos, packet_id);
                        (about, result.map_or_else(Event::Dropped, |()| Event::Sent { dup }))
                    });
                    match result {
                        Ok(()) => self.counters.publishes_sent[usize::from(entry.qos.bits())] += 1,
                        Err(reason) => {
                            stored.discard(queue, place);
                            self.tenants.lose(&mut self.counters, connection.tenant, reason, 1);
                        }
                    }
                }
            }
        }
        connection.recheck &= stored.has_next(queue);
        self.stored.note_haste((stored.log, incarnation), before, stored.haste());
        if !connection.send.is_empty() {
            mark_dirty(connection, out);
        }
        self.see_steps(id, steps);
    }

    /// Lets the window of a connection's persistent session hear of an acknowledgement. None if the session is
    /// not persistent.
    fn with_stored<R>(&mut self, id: ConnectionId, act: impl FnOnce(&mut Stored, &Queue) -> R) -> Option<R> {
        let connection = self.connections.get(id)?;
        let session = self.sessions.at(connection.session);
        let incarnation = session.incarnation();
        let stored = session.stored.as_mut()?;
        let range = self.storage.log(stored.log).inbox().machine();
        let state = range.session(incarnation)?;
        let before = stored.haste();
        let result = act(stored, &state.queue);
        if is_pressed(&state.queue, connection.settings()) {
            stored.hurry();
        }
        self.stored.note_haste((stored.log, incarnation), before, stored.haste());
        Some(result)
    }

    /// PUBACK from the client of a persistent session.
    pub(super) fn acknowledge_stored(
        &mut self,
        id: ConnectionId,
        packet_id: PacketId,
    ) -> Option<Acknowledged> {
        self.with_stored(id, |stored, queue| stored.acknowledge(queue, packet_id))
    }

    /// PUBREC.
    pub(super) fn receive_stored(
        &mut self,
        id: ConnectionId,
        packet_id: PacketId,
        refused: bool,
    ) -> Option<Received> {
        self.with_stored(id, |stored, queue| stored.receive(queue, packet_id, refused))
    }

    /// PUBCOMP.
    pub(super) fn complete_stored(&mut self, id: ConnectionId, packet_id: PacketId) -> Option<Acknowledged> {
        self.with_stored(id, |stored, queue| stored.complete(queue, packet_id))
    }

    /// Everything unfinished of a connected session is to be sent again.
    pub(super) fn rewind(&mut self, slot: SessionSlot) {
        let session = self.sessions.at(slot);
        let incarnation = session.incarnation();
        let Some(stored) = &mut session.stored else { return session.queue.rewind() };
        let range = self.storage.log(stored.log).inbox().machine();
        if let Some(state) = range.session(incarnation) {
            stored.rewind(&state.queue);
        }
    }

    /// Proposes what clients have acknowledged this turn and is waited for.
    pub(super) fn propose_progress(&mut self, out: &mut Outputs) {
        let mut progressed = std::mem::take(&mut self.stored.progressed);
        for incarnation in progressed.drain(..) {
            if let Some(slot) = self.sessions.find(incarnation) {
                self.propose_progress_of(slot, out);
            }
        }
        self.stored.progressed = progressed;
    }

    /// The same for one session.
    pub(super) fn propose_progress_of(&mut self, slot: SessionSlot, out: &mut Outputs) {
        let session = self.sessions.at(slot);
        let incarnation = session.incarnation();
        let Some(stored) = &mut session.stored else { return };
        let Some(progress) = stored.take_progress() else { return };
        let (log, epoch, sent_before) = (stored.log, stored.epoch, stored.sent_before().0);
        let Progress { received, finished } = &progress.clone();
        let awaited = Some(Awaited::Progress(incarnation, epoch, progress));
        let incarnation = incarnation.0;
        let body = command::Progress { incarnation, epoch, sent_before, received, finished };
        self.propose(log, UPKEEP, awaited, (&body, &[]), out);
    }

    /// The range knows what a client has acknowledged: PUBRELs may leave.
    pub(super) fn on_progress_applied(
        &mut self,
        now: Now,
        (incarnation, epoch): (Incarnation, u64),
        progress: &Progress,
        out: &mut Outputs,
    ) {
        let Some(slot) = self.sessions.find(incarnation) else { return };
        let session = self.sessions.at(slot);
        let id = session.connection();
        let Some(stored) = session.stored.as_mut().filter(|stored| stored.epoch == epoch) else { return };
        stored.on_progress(progress);
        for place in &progress.received {
            let packet_id = packet_id_at(*place);
            self.write_ack(id, PacketKind::PubRel, packet_id, ReasonCode::SUCCESS, out);
        }
        // Identifiers may be free again.
        self.pump(now, id, out);
        self.pump_retained(now, id, out);
    }

    /// How many messages a session has before it, if it is there.
    pub(super) fn queued(&self, incarnation: Incarnation) -> Option<u32> {
        if let Some(slot) = self.sessions.find(incarnation) {
            return Some(self.queued_at(slot));
        }
        let slot = self.log_of_session(incarnation)?;
        let range = self.storage.log(slot).inbox().machine();
        range.session(incarnation).map(|session| session.queue.len())
    }

    /// The same for one that is connected.
    pub(super) fn queued_at(&self, slot: SessionSlot) -> u32 {
        let session = self.sessions.get(slot);
        let Some(stored) = &session.stored else { return session.queue.len() };
        let range = self.storage.log(stored.log).inbox().machine();
        let queued = range.session(session.incarnation()).map_or(0, |session| session.queue.len());
        queued.saturating_sub(stored.finished()) + stored.appending
    }

    /// Whether a connected session has something that was not sent on this connection.
    pub(super) fn has_next(&self, slot: SessionSlot) -> bool {
        let session = self.sessions.get(slot);
        let Some(stored) = &session.stored else { return session.queue.has_next() };
        let range = self.storage.log(stored.log).inbox().machine();
        range.session(session.incarnation()).is_some_and(|session| stored.has_next(&session.queue))
    }

    /// Bytes of messages that a connected session has before it.
    pub(super) fn queued_bytes(&self, slot: SessionSlot) -> u64 {
        let session = self.sessions.get(slot);
        let Some(stored) = &session.stored else { return session.queue.bytes() };
        let range = self.storage.log(stored.log).inbox().machine();
        range.session(session.incarnation()).map_or(0, |session| session.queue.bytes())
    }

    /// The client has released a QoS 2 message, and the log knows it.
    pub(super) fn complete_release(&mut self, id: ConnectionId, packet_id: PacketId, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.is_online() {
            connection.inbound_inflight = connection.inbound_inflight.saturating_sub(1);
            self.write_ack(id, PacketKind::PubComp, packet_id, ReasonCode::SUCCESS, out);
        }
    }
}

/// A message on its way from the log to a connection.
struct Sending<'a> {
    log: &'a StoredLog,
    tenant: &'a Arc<str>,
    entry: Entry,
    packet_id: Option<PacketId>,
    dup: bool,
    /// Of its tenant.
    sent: &'a mut Flow,
}

impl Sending<'_> {
    fn send(self, connection: &mut Connection, pool: &mut BufferPool, now: Now) -> Result<(), DropReason> {
        let Sending { log, tenant, entry, packet_id, dup, sent } = self;
        let message = log.message(entry.message);
        let publication = message.publication(tenant);
        // It was queued when the client might still receive it, or by another user.
        let admitted = !connection.recheck
            || connection.grant.as_ref().is_none_or(|grant| grant.may_receive(publication.topic));
        if !admitted {
            return Err(DropReason::NoPermission);
        }
        let (qos, retain) = (entry.qos, entry.retain);
        let fields = Fields { packet_id, dup, qos, retain, subscription_id: entry.options.subscription_id() };
        // [MQTT-3.1.2-25]: as if it had been sent.
        let result = Frames::send_alone(connection, pool, &publication, fields, now.wall);
        result.map_err(|_| DropReason::TooLarge)?;
        sent.count(qos, publication.payload);
        Ok(())
    }
}
