//! Hot path. Acknowledgements both ways: what we owe for the client's publishes, and what the client owes
//! for ours (MQTT 5.0, section 4.3).

use mqtt::encode;
use mqtt::{Ack, PacketId, PacketKind, ReasonCode, Version};

use super::Core;
use super::stored::NOT_STORED;
use super::watch::Way;
use crate::connection::Completion;
use crate::counters::DropReason;
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::notice::Event;
use crate::peer::Reply;
use crate::sessions::{Acknowledged, Received};
use crate::time::Now;

impl Core {
    /// An answer to a part of a publish has come; `more` others are to come because of it.
    pub(super) fn on_answer(&mut self, reply: Reply, more: u16, reason: ReasonCode, out: &mut Outputs) {
        if self.on_task_answer(reply, more, out) {
            return;
        }
        let id = reply.connection;
        let Some(connection) = self.connections.get_mut(id).filter(|it| it.is_online()) else {
            return self.on_orphan_answer(reply, more, reason, out);
        };
        connection.window.answer(reply.slot, more, reason);
        // One that was given up for a full disk hears nothing of what it sent later.
        while let Some(connection) = self.connections.get_mut(id).filter(|it| it.unanswerable.is_none())
            && let Some((completion, reason)) = connection.window.pop_complete()
        {
            self.acknowledge_publish(id, completion, reason, out);
        }
        self.unstall(id);
    }

    /// Sends what is owed for a publish.
    pub(super) fn acknowledge_publish(
        &mut self,
        id: ConnectionId,
        completion: Completion,
        reason: ReasonCode,
        out: &mut Outputs,
    ) {
        let Some(connection) = self.connections.get(id) else { return };
        let silent = connection.version != Version::V5 && completion != Completion::Nothing;
        if reason == NOT_STORED && (silent || self.may_be_stored(id, completion)) {
            return self.give_up_publisher(id, completion);
        }
        let reason = if reason == NOT_STORED { ReasonCode::QUOTA_EXCEEDED } else { reason };
        let (kind, packet_id, finished) = match completion {
            Completion::Nothing => return,
            Completion::PubAck(packet_id) => (PacketKind::PubAck, packet_id, true),
            Completion::PubRec(packet_id) => {
                // A 3.x client is not told of the error, and will go on with PUBREL.
                let refused = reason.is_error() && connection.version == Version::V5;
                if refused {
                    self.release_taken(id, packet_id, out); // [MQTT-4.3.3-9]
                }
                (PacketKind::PubRec, packet_id, refused)
            }
        };
        if self.watch.is_on() {
            self.see_acknowledged(id, (Way::FromClient, packet_id), true, Event::Acknowledged(reason));
        }
        if finished && let Some(connection) = self.connections.get_mut(id) {
            connection.inbound_inflight = connection.inbound_inflight.saturating_sub(1);
        }
        self.write_ack(id, kind, packet_id, reason, out);
    }

    pub(super) fn write_ack(
        &mut self,
        id: ConnectionId,
        kind: PacketKind,
        packet_id: PacketId,
        reason: ReasonCode,
        out: &mut Outputs,
    ) {
        let ack = Ack::new(packet_id, reason);
        self.write(id, out, |tail, version| encode::ack(tail, version, kind, &ack));
    }

    /// The client has finished a QoS 2 message of its own.
    pub(super) fn on_pubrel(&mut self, _now: Now, id: ConnectionId, ack: &Ack<'_>, out: &mut Outputs) {
        if self.release_stored(id, ack.packet_id, out) {
            return;
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        let reason = if self.sessions.release(connection.session, ack.packet_id) {
            connection.inbound_inflight = connection.inbound_inflight.saturating_sub(1);
            ReasonCode::SUCCESS
        } else {
            ReasonCode::PACKET_IDENTIFIER_NOT_FOUND // 3.x cannot say it, and completes all the same
        };
        self.write_ack(id, PacketKind::PubComp, ack.packet_id, reason, out);
    }

    /// The client has a QoS 1 message.
    pub(super) fn on_puback(&mut self, now: Now, id: ConnectionId, ack: &Ack<'_>, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.last_progress = now.monotonic;
        let slot = connection.session;
        let stored = self.acknowledge_stored(id, ack.packet_id);
        match stored.unwrap_or_else(|| self.sessions.at(slot).queue.acknowledge(ack.packet_id)) {
            Acknowledged::Finished => self.on_finished(now, id, ack, out),
            Acknowledged::WrongKind => self.refuse(now, id, ReasonCode::PROTOCOL_ERROR, out),
            Acknowledged::Received | Acknowledged::Unknown => {}
        }
    }

    /// The client has a QoS 2 message, or refuses it.
    pub(super) fn on_pubrec(&mut self, now: Now, id: ConnectionId, ack: &Ack<'_>, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.last_progress = now.monotonic;
        let (slot, version) = (connection.session, connection.version);
        let refused = ack.reason.is_error();
        if !refused && self.watch.is_on() {
            self.see_acknowledged(id, (Way::ToClient, ack.packet_id), false, Event::Taken);
        }
        let acknowledged = match self.receive_stored(id, ack.packet_id, refused) {
            Some(Received::WhenDurable) => return,
            Some(Received::Now(acknowledged)) => acknowledged,
            None => self.sessions.at(slot).queue.receive(ack.packet_id, refused),
        };
        match acknowledged {
            Acknowledged::Received => {
                self.write_ack(id, PacketKind::PubRel, ack.packet_id, ReasonCode::SUCCESS, out);
            }
            Acknowledged::Finished => self.on_finished(now, id, ack, out),
            Acknowledged::WrongKind => self.refuse(now, id, ReasonCode::PROTOCOL_ERROR, out),
            // [MQTT-4.3.3-4 and 4.3.3]: unknown here, so that the client can finish it.
            Acknowledged::Unknown if version == Version::V5 && ack.reason.is_error() => {}
            Acknowledged::Unknown => {
                let reason = ReasonCode::PACKET_IDENTIFIER_NOT_FOUND;
                self.write_ack(id, PacketKind::PubRel, ack.packet_id, reason, out);
            }
        }
    }

    /// The client has finished a QoS 2 message of ours.
    pub(super) fn on_pubcomp(&mut self, now: Now, id: ConnectionId, ack: &Ack<'_>, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.last_progress = now.monotonic;
        let slot = connection.session;
        let stored = self.complete_stored(id, ack.packet_id);
        match stored.unwrap_or_else(|| self.sessions.at(slot).queue.complete(ack.packet_id)) {
            // It has been taken, whatever this says of it.
            Acknowledged::Finished => {
                let done = Ack::new(ack.packet_id, ReasonCode::SUCCESS);
                self.on_finished(now, id, &done, out);
            }
            Acknowledged::WrongKind => self.refuse(now, id, ReasonCode::PROTOCOL_ERROR, out),
            Acknowledged::Received | Acknowledged::Unknown => {}
        }
    }

    /// A message has left the window: the next may go.
    fn on_finished(&mut self, now: Now, id: ConnectionId, ack: &Ack<'_>, out: &mut Outputs) {
        if self.watch.is_on() {
            self.see_acknowledged(id, (Way::ToClient, ack.packet_id), true, Event::Confirmed(ack.reason));
        }
        if ack.reason.is_error()
            && let Some(connection) = self.connections.get(id)
        {
            self.tenants.lose(&mut self.counters, connection.tenant, DropReason::Refused, 1); // [MQTT-4.8.2-6]
        }
        self.pump(now, id, out);
        self.pump_retained(now, id, out);
        self.relieve_member(id);
    }
}
