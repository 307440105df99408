//! Hot path. From received bytes to packets: as many as there are, as far as the turn's budget goes.

use mqtt::{Limits, Packet, ReasonCode, Version};

use super::Core;
use crate::access::Doubt;
use crate::connection::{Connection, Phase, Pressure, Unanswerable};
use crate::identity::ConnectionId;
use crate::input::{Close, Outputs};
use crate::notice::Event;
use crate::time::Now;

/// Publishes of one connection that may wait for answers; beyond, its bytes wait unprocessed.
const WINDOW_MAX: usize = 4096;

/// The same for SUBSCRIBE and UNSUBSCRIBE.
const REQUESTS_MAX: usize = 256;

/// The same for their filters: two packets of the most that `subscribe_filters_max` can be, so that one is at work
/// while the next arrives.
const REQUESTED_FILTERS_MAX: usize = 2 * 8192;

/// Keep alive counts packets [MQTT-3.1.2-22], and a large one that takes longer than that to arrive counts by each so
/// many bytes of it, as with Mosquitto; a client that sends fewer in its keep alive, and no whole packet, is as silent
/// as one that sends nothing.
const KEEP_ALIVE_BYTES: usize = 1000;

/// What the processing of a connection's bytes stopped at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processed {
    /// So many bytes; what follows is an incomplete packet or has to wait.
    Upto(usize),
    /// The connection wants none of them any more.
    Gone,
}

/// What a connection is ready for.
enum Readiness {
    /// Its CONNECT.
    Connects,
    /// A packet, as its version has it; `paced`: its rates are bounded.
    Takes { version: Version, paced: bool },
    /// Nothing, until something else has happened.
    Waits,
    /// Nothing any more.
    Gone,
}

impl Connection {
    /// Whether so many SUBSCRIBE and UNSUBSCRIBE packets wait for routes, or filters of them.
    fn has_requested(&self, requests: usize, filters: usize) -> bool {
        self.extras
            .as_ref()
            .is_some_and(|extras| extras.requests.len() >= requests || extras.requested_filters >= filters)
    }

    /// Whether its next packet waits because it is slowed, though so many were taken all the same.
    fn is_held(&self, taken: &mut u32) -> bool {
        if self.slowed == Pressure::NONE {
            return false;
        }
        let held = *taken >= self.slowed.packets_left();
        *taken += 1;
        held
    }

    /// Whether it is not decided whether the client is let in.
    fn is_on_its_way(&self) -> bool {
        !self.is_online() && !matches!(self.phase, Phase::Closing)
    }

    /// Whether bytes that arrive now would be processed now.
    pub(crate) fn wants_bytes(&self) -> bool {
        match self.phase {
            Phase::Deciding(_) | Phase::HearingOut | Phase::Attaching | Phase::Closing => false,
            Phase::Connecting | Phase::Authenticating(_) | Phase::Online => {
                self.slowed == Pressure::NONE && !self.stalled && !self.in_backlog
            }
        }
    }
}

impl Core {
    pub(super) fn on_bytes(&mut self, now: Now, id: ConnectionId, bytes: &[u8], out: &mut Outputs) {
        self.counters.bytes_received += bytes.len() as u64;
        self.reading.on_bytes();
        let Some(connection) = self.connections.get_mut(id) else { return };
        if matches!(connection.phase, Phase::Closing) {
            return;
        }
        connection.last_progress = now.monotonic;
        let before = connection.received.len();
        if connection.received.is_empty() && connection.wants_bytes() {
            match self.process(now, id, bytes, out) {
                Processed::Upto(used) if used < bytes.len() => self.keep(id, bytes[used..].to_vec()),
                Processed::Upto(_) | Processed::Gone => {}
            }
        } else {
            self.keep_behind(id, bytes);
            if self.wants_bytes(id) {
                self.process_received(now, id, out);
            }
        }
        self.hear_part(now, id, before);
        self.note_unfinished(id, before);
        self.bound_unfinished(now, out);
    }

    /// Keeps bytes behind those that wait already.
    fn keep_behind(&mut self, id: ConnectionId, bytes: &[u8]) {
        let limits = self.packet_limits(id);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.keep_more(bytes, &limits);
        }
    }

    /// A packet under way keeps its client alive by every so many bytes of it; so do bytes that we do not look at.
    fn hear_part(&mut self, now: Now, id: ConnectionId, before: usize) {
        let heard = self.reading_time(now);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let parts = connection.received.len() / KEEP_ALIVE_BYTES;
        if parts > before / KEEP_ALIVE_BYTES || !connection.wants_bytes() {
            connection.last_received = heard;
        }
    }

    /// Goes on with what was received earlier.
    pub(super) fn process_received(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut bytes = std::mem::take(&mut connection.received);
        let before = bytes.len();
        match self.process(now, id, &bytes, out) {
            Processed::Upto(used) if used < bytes.len() => {
                if used > 0 {
                    bytes = bytes[used..].to_vec(); // no larger than what it holds
                }
                self.keep(id, bytes);
            }
            Processed::Upto(_) | Processed::Gone => {}
        }
        self.note_unfinished(id, before);
    }

    fn keep(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        if let Some(connection) = self.connections.get_mut(id)
            && !matches!(connection.phase, Phase::Closing)
        {
            connection.received = bytes;
        }
    }

    /// Works through the connections that a budget stopped, first those that have waited longest. They have a
    /// budget of their own: what comes in anew each turn cannot use it up.
    pub(super) fn process_backlog(&mut self, now: Now, out: &mut Outputs) {
        self.deliveries_left = self.config.turn_deliveries_max;
        for _ in 0..self.backlog.len() {
            if self.deliveries_left == 0 {
                break;
            }
            let Some(id) = self.backlog.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.in_backlog = false;
            if let Some(why) = connection.unanswerable.filter(|_| connection.is_online()) {
                self.disconnect(now, id, why.reason(), None, out);
                continue;
            }
            if connection.wants_bytes() {
                self.process_received(now, id, out);
            }
            if self.wants_bytes(id) {
                out.resumed.push(id);
            }
        }
    }

    /// A reason to hold the connection's bytes back has gone: it goes on in the next turn.
    pub(super) fn resume(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.in_backlog
        {
            connection.in_backlog = true;
            self.backlog.push_back(id);
        }
    }

    fn process(&mut self, now: Now, id: ConnectionId, bytes: &[u8], out: &mut Outputs) -> Processed {
        let (mut at, mut taken) = (0, 0);
        while at < bytes.len() {
            let processed = match self.readiness(now, id, &mut taken) {
                Readiness::Gone => return Processed::Gone,
                Readiness::Waits => break,
                Readiness::Connects => self.on_connect_bytes(now, id, &bytes[at..], out),
                Readiness::Takes { version, paced } => {
                    self.take_packet(now, id, (version, paced), &bytes[at..], out)
                }
            };
            match processed {
                Processed::Upto(0) => break,
                Processed::Upto(used) => at += used,
                Processed::Gone => return Processed::Gone,
            }
        }
        let heard = self.reading_time(now);
        if at > 0
            && let Some(connection) = self.connections.get_mut(id)
        {
            // [MQTT-3.1.2-22]: what it sent while it was slowed lay before our door, and was no silence.
            connection.last_received = heard;
        }
        Processed::Upto(at)
    }

    /// Whether the next packet of a connection may be taken; `taken` counts those of this receive.
    fn readiness(&mut self, now: Now, id: ConnectionId, taken: &mut u32) -> Readiness {
        if self.deliveries_left == 0 {
            self.resume(id);
        }
        let Some(connection) = self.connections.get_mut(id) else { return Readiness::Gone };
        if connection.in_backlog {
            return Readiness::Waits;
        }
        match connection.phase {
            Phase::Closing => return Readiness::Gone,
            Phase::Deciding(_) | Phase::HearingOut | Phase::Attaching => return Readiness::Waits,
            Phase::Connecting => return Readiness::Connects,
            // An answer that comes before its question has left waits: the next step may be the hand-over,
            // which leaves nothing behind.
            Phase::Authenticating(_) => connection.stalled = !connection.send.is_empty(),
            Phase::Online => {}
        }
        if connection.is_online() {
            let send_bytes_max = connection.settings().send_bytes_max as usize;
            let unread = connection.send.len() / 2 > send_bytes_max;
            let unanswered = connection.window.len() >= WINDOW_MAX
                || connection.has_requested(REQUESTS_MAX, REQUESTED_FILTERS_MAX);
            connection.stalled |= unread || unanswered;
        }
        if connection.stalled || connection.is_held(taken) {
            return Readiness::Waits;
        }
        let (version, paced) = (connection.version, connection.paced);
        if paced && self.hold_back(now, id) { Readiness::Waits } else { Readiness::Takes { version, paced } }
    }

    /// Acts on the packet that the bytes begin with, if it is whole.
    fn take_packet(
        &mut self,
        now: Now,
        id: ConnectionId,
        (version, paced): (Version, bool),
        bytes: &[u8],
        out: &mut Outputs,
    ) -> Processed {
        let limits = self.packet_limits(id);
        match mqtt::decode(version, bytes, &limits) {
            Ok(Some((packet, used))) => {
                self.deliveries_left = self.deliveries_left.saturating_sub(1);
                if paced && let Some(connection) = self.connections.get_mut(id) {
                    connection.charge_packet(now, used, matches!(packet, Packet::Publish(_)));
                    self.pay_inbound(now, id, used);
                }
                self.on_packet(now, id, packet, out);
                Processed::Upto(used)
            }
            Ok(None) => Processed::Upto(0),
            Err(error) => {
                self.refuse_denied(now, id, error.into(), out);
                Processed::Gone
            }
        }
    }

    /// The window, the requests or the send queue have room again after they were full.
    pub(super) fn unstall(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.stalled
            && connection.window.len() < WINDOW_MAX / 2
            && !connection.has_requested(REQUESTS_MAX / 2, REQUESTED_FILTERS_MAX / 2)
            && connection.send.len() <= connection.settings().send_bytes_max as usize
            && !self.postponed.hold(id)
            && !self.retain_changes.hold(id)
        {
            connection.stalled = false;
            self.resume(id);
        }
    }

    fn packet_limits(&self, id: ConnectionId) -> Limits {
        let (packet_bytes_max, filters_max) = match self.connections.get(id) {
            Some(connection) if connection.is_online() => {
                let settings = connection.settings();
                (settings.packet_bytes_max, settings.subscribe_filters_max)
            }
            _ => (self.config.connect_bytes_max, 1),
        };
        Limits {
            packet_bytes_max,
            properties_max: self.config.packet_properties_max,
            filters_max,
            client_id_bytes_max: u16::MAX,
        }
    }

    fn on_packet(&mut self, now: Now, id: ConnectionId, packet: Packet<'_>, out: &mut Outputs) {
        let online = self.connections.get(id).is_some_and(Connection::is_online);
        match packet {
            Packet::Auth(auth) => self.on_auth(now, id, &auth, out),
            Packet::Disconnect(disconnect) => self.on_disconnect(now, id, &disconnect, out),
            // [MQTT-3.1.4-6]: nothing but AUTH and DISCONNECT while the exchange is going on (4.12).
            _ if !online => self.refuse(now, id, ReasonCode::PROTOCOL_ERROR, out),
            Packet::Publish(publish) => self.on_publish(now, id, &publish, out),
            Packet::PubAck(ack) => self.on_puback(now, id, &ack, out),
            Packet::PubRec(ack) => self.on_pubrec(now, id, &ack, out),
            Packet::PubRel(ack) => self.on_pubrel(now, id, &ack, out),
            Packet::PubComp(ack) => self.on_pubcomp(now, id, &ack, out),
            Packet::Subscribe(subscribe) => self.on_subscribe(now, id, &subscribe, out),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(now, id, &unsubscribe, out),
            Packet::PingReq => {
                if self.watch.is_on() {
                    self.see_request(id, Event::Pinged);
                }
                self.write(id, out, |tail, _| mqtt::encode::pingresp(tail));
            }
            // [MQTT-3.1.0-2]: a second CONNECT. The others only a server may send.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => self.refuse(now, id, ReasonCode::PROTOCOL_ERROR, out),
        }
    }

    /// Appends a packet to a connection's unsent bytes, if the client takes one so large [MQTT-3.1.2-24]. A
    /// client that waits in vain for an answer is closed in the next turn. True if the packet leaves.
    pub(super) fn write(
        &mut self,
        id: ConnectionId,
        out: &mut Outputs,
        write: impl FnOnce(&mut Vec<u8>, Version),
    ) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let version = connection.version;
        let bytes_max = connection.outbound_packet_bytes_max as usize;
        let fits = connection.send.append(&mut self.pool, |tail| {
            let before = tail.len();
            write(tail, version);
            let fits = tail.len() - before <= bytes_max;
            if !fits {
                tail.truncate(before);
            }
            fits
        });
        if fits {
            mark_dirty(connection, out);
        } else if connection.is_online() {
            connection.unanswerable = Some(Unanswerable::TooLarge);
            self.resume(id);
        }
        fits
    }

    /// The kernel took bytes: what waited for room goes on.
    pub(super) fn on_sent(&mut self, now: Now, id: ConnectionId, bytes: usize, out: &mut Outputs) {
        self.counters.bytes_sent += bytes as u64;
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.send.advance(bytes, &mut self.pool);
        connection.last_progress = now.monotonic;
        if connection.paced {
            self.charge_sent(now, id, bytes, out);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.is_online() {
            self.pump(now, id, out);
            self.pump_retained(now, id, out);
            self.relieve_member(id);
            self.unstall(id);
        } else if connection.stalled && connection.send.is_empty() {
            connection.stalled = false;
            self.resume(id);
        }
    }

    /// What carries the client's bytes is broken: of one that is online it is no more than the end.
    pub(super) fn on_broken(&mut self, id: ConnectionId, doubt: Doubt, out: &mut Outputs) {
        if self.connections.get(id).is_some_and(Connection::is_on_its_way) {
            self.counters.doubt(doubt);
            self.notice(id, Event::Abandoned(Some(doubt)), out);
            if let Some(connection) = self.connections.get_mut(id) {
                connection.phase = Phase::Closing;
            }
        }
    }

    /// The socket is gone.
    pub(super) fn on_closed(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        if self.connections.get(id).is_some_and(Connection::is_online) {
            self.notice(id, Event::Lost, out);
            self.leave_session(now, id, true, None, out);
        } else if self.connections.get(id).is_some_and(Connection::is_on_its_way) {
            self.notice(id, Event::Abandoned(None), out);
        }
        self.forget_unacknowledged(id);
        if let Some(mut connection) = self.connections.remove(id) {
            self.note_unfinished(id, connection.received.len());
            self.wheel.cancel(connection.timer);
            if let Some(timer) = connection.answers_timer {
                self.wheel.cancel(timer);
            }
            connection.send.clear(&mut self.pool);
        }
    }

    /// Ends a connection at once, without a last packet.
    pub(super) fn abort(&mut self, id: ConnectionId, out: &mut Outputs) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.phase = Phase::Closing;
            out.close.push((id, Close::Abort));
        }
    }
}

/// Enters a connection in the turn's list of those with unsent bytes.
pub(super) fn mark_dirty(connection: &mut Connection, out: &mut Outputs) {
    if !connection.dirty {
        connection.dirty = true;
        out.dirty.push(connection.id);
    }
}
