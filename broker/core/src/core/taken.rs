//! QoS 2 messages from clients: their packet identifiers are taken until the client releases them, and those of
//! persistent sessions stand in the log.

use mqtt::{PacketId, ReasonCode};

use super::Core;
use super::stored::{Again, Awaited};
use crate::connection::{Completion, Unanswerable};
use crate::identity::{ConnectionId, Incarnation};
use crate::input::Outputs;
use crate::peer::Reply;
use crate::ranges::inbox::command::{self, Origin};
use crate::sessions::TakenHere;
use crate::storage::UPKEEP;

/// A QoS 2 message on its way whose connection is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orphan {
    incarnation: Incarnation,
    packet_id: PacketId,
    /// Answers that are still to come.
    waiting: u16,
    reason: ReasonCode,
    /// The same message on a later connection.
    waiter: Option<Reply>,
}

/// What a QoS 2 message is, by its packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is new; of a persistent session, which it is.
    New(Option<TakenHere>),
    /// It was taken before, and is to be routed again.
    Again(TakenHere),
    /// It is under way since it came on a connection that is gone.
    UnderWay(Reply),
    /// It is being taken care of.
    Known,
}

impl Core {
    /// A QoS 2 message comes from a client, which may say that it has sent it before.
    pub(super) fn take(&mut self, id: ConnectionId, packet_id: PacketId, dup: bool) -> Taken {
        let Some(slot) = self.connections.get(id).map(|connection| connection.session) else {
            return Taken::Known;
        };
        let session = self.sessions.at(slot);
        let incarnation = session.incarnation();
        let Some(stored) = &mut session.stored else {
            return if self.sessions.take(slot, packet_id) { Taken::New(None) } else { Taken::Known };
        };
        let taken = stored.take(packet_id, dup);
        if !taken.known {
            return Taken::New(Some(taken));
        }
        let unrouted = self.stored.unrouted.get_mut(&incarnation);
        let again = unrouted.and_then(|unrouted| unrouted.remove(&packet_id));
        match again {
            None => Taken::Known,
            Some(Again::Route) => Taken::Again(taken),
            Some(Again::UnderWay(reply)) => Taken::UnderWay(reply),
        }
    }

    /// The connection of a persistent session ends. Its QoS 2 messages go on their way, and whoever sends them again
    /// waits for it; those that could not be stored are routed again then.
    pub(super) fn leave_orphans(&mut self, id: ConnectionId, incarnation: Incarnation) {
        let Some(connection) = self.connections.get(id) else { return };
        for (number, packet_id, waiting, reason) in connection.window.taken() {
            let name = (id, number.0);
            if waiting > 0 {
                let unrouted = self.stored.unrouted.entry(incarnation).or_default();
                if unrouted.get(&packet_id) == Some(&Again::Route) {
                    continue; // it was given up
                }
                unrouted.insert(packet_id, Again::UnderWay(Reply { connection: id, slot: number }));
                let orphan = Orphan { incarnation, packet_id, waiting, reason, waiter: None };
                self.stored.orphans.insert(name, orphan);
            } else if reason.is_error() {
                let unrouted = self.stored.unrouted.entry(incarnation).or_default();
                unrouted.insert(packet_id, Again::Route);
            }
        }
    }

    /// A message that was under way before comes again on another connection, and is acknowledged when it has arrived.
    /// The number of answers to wait for.
    pub(super) fn adopt(&mut self, former: Reply, reply: Reply) -> u16 {
        let orphan = self.stored.orphans.get_mut(&(former.connection, former.slot.0));
        let Some(orphan) = orphan else { return 0 };
        orphan.waiter = Some(reply);
        let (incarnation, packet_id) = (orphan.incarnation, orphan.packet_id);
        // That connection may end before it, too.
        let unrouted = self.stored.unrouted.entry(incarnation).or_default();
        unrouted.insert(packet_id, Again::UnderWay(former));
        1
    }

    /// A part of a message is done whose connection is gone; `more` are to come because of it.
    pub(super) fn on_orphan_answer(
        &mut self,
        reply: Reply,
        more: u16,
        reason: ReasonCode,
        out: &mut Outputs,
    ) {
        let name = (reply.connection, reply.slot.0);
        let Some(orphan) = self.stored.orphans.get_mut(&name) else { return };
        orphan.waiting = (orphan.waiting + more).saturating_sub(1);
        if reason.is_error() {
            orphan.reason = reason;
        }
        if orphan.waiting > 0 {
            return;
        }
        let Some(orphan) = self.stored.orphans.remove(&name) else { return };
        if let Some(unrouted) = self.stored.unrouted.get_mut(&orphan.incarnation) {
            unrouted.remove(&orphan.packet_id);
            if orphan.reason.is_error() {
                // Whoever sends it again tries again.
                unrouted.insert(orphan.packet_id, Again::Route);
            }
        }
        if let Some(waiter) = orphan.waiter {
            self.on_answer(waiter, 0, orphan.reason, out);
        }
    }

    /// Has the log know of it. The number of answers to wait for.
    pub(super) fn propose_take(
        &mut self,
        id: ConnectionId,
        packet_id: PacketId,
        owed: Option<Reply>,
        out: &mut Outputs,
    ) -> u16 {
        let Some(connection) = self.connections.get(id) else { return 0 };
        let session = self.sessions.get(connection.session);
        let incarnation = session.incarnation().0;
        let Some(stored) = &session.stored else { return 0 };
        let (slot, epoch) = (stored.log, stored.epoch);
        let take = command::Take { incarnation, epoch, packet_id: packet_id.get() };
        self.propose(slot, UPKEEP, owed.map(Awaited::Take), (&take, &[]), out);
        u16::from(owed.is_some())
    }

    /// Which publish of its session a QoS 2 message is, for those who have to tell a repeat.
    pub(super) fn origin(&self, id: ConnectionId, taken: TakenHere) -> Option<Origin> {
        let connection = self.connections.get(id)?;
        let session = self.sessions.get(connection.session);
        let epoch = session.stored.as_ref()?.epoch;
        let incarnation = session.incarnation().0;
        Some(Origin::new(incarnation, &taken, epoch))
    }

    /// The client of a persistent session releases a message: PUBCOMP follows when the log knows it. False if
    /// the session is not persistent, or the identifier was not taken.
    pub(super) fn release_stored(
        &mut self,
        id: ConnectionId,
        packet_id: PacketId,
        out: &mut Outputs,
    ) -> bool {
        self.propose_release(id, packet_id, Some(Awaited::Release(id, packet_id)), out)
    }

    /// An identifier is free again, without the client's word: its message was refused.
    pub(super) fn release_taken(&mut self, id: ConnectionId, packet_id: PacketId, out: &mut Outputs) {
        let Some(slot) = self.connections.get(id).map(|connection| connection.session) else { return };
        if self.sessions.get(slot).stored.is_none() {
            self.sessions.release(slot, packet_id);
        } else {
            self.propose_release(id, packet_id, None, out);
        }
    }

    fn propose_release(
        &mut self,
        id: ConnectionId,
        packet_id: PacketId,
        awaited: Option<Awaited>,
        out: &mut Outputs,
    ) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        let session = self.sessions.at(connection.session);
        let incarnation = session.incarnation();
        let Some(stored) = &mut session.stored else { return false };
        if !stored.release(packet_id) {
            return false;
        }
        let (slot, epoch) = (stored.log, stored.epoch);
        if let Some(unrouted) = self.stored.unrouted.get_mut(&incarnation) {
            unrouted.remove(&packet_id);
        }
        let release = command::Release { incarnation: incarnation.0, epoch, packet_id: packet_id.get() };
        self.propose(slot, UPKEEP, awaited, (&release, &[]), out);
        true
    }

    /// The parts of these publishes were not all answered for in time: they may come again.
    pub(super) fn release_unanswered(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let slot = connection.session;
        let session = self.sessions.get(slot);
        if session.stored.is_some() {
            // They are routed again, and the logs that have them can tell.
            let unrouted = self.stored.unrouted.entry(session.incarnation()).or_default();
            let unanswered = connection.window.taken().filter(|(_, _, waiting, _)| *waiting > 0);
            unrouted.extend(unanswered.map(|(_, packet_id, ..)| (packet_id, Again::Route)));
            return;
        }
        for completion in connection.window.completions() {
            if let Completion::PubRec(packet_id) = completion {
                self.sessions.release(slot, packet_id);
            }
        }
    }

    /// Whether a message that could not be stored may stand in some log from before a restart, because its client sends
    /// it again: its identifier is not to be released, or who has it could not tell.
    pub(super) fn may_be_stored(&self, id: ConnectionId, completion: Completion) -> bool {
        let Completion::PubRec(packet_id) = completion else { return false };
        let Some(connection) = self.connections.get(id) else { return false };
        let stored = self.sessions.get(connection.session).stored.as_ref();
        stored.is_some_and(|stored| stored.is_repeat(packet_id))
    }

    /// A message could not be stored, and its client cannot be told so, or not with certainty that nobody has it: it is
    /// closed, and may send it again. Under the name that it has: who has it from before a restart can tell.
    pub(super) fn give_up_publisher(&mut self, id: ConnectionId, completion: Completion) {
        if let Completion::PubRec(packet_id) = completion
            && let Some(slot) = self.connections.get(id).map(|connection| connection.session)
        {
            let session = self.sessions.get(slot);
            if session.stored.is_some() {
                let unrouted = self.stored.unrouted.entry(session.incarnation()).or_default();
                unrouted.insert(packet_id, Again::Route);
            } else {
                self.sessions.release(slot, packet_id);
            }
        }
        if let Some(connection) = self.connections.get_mut(id)
            && connection.unanswerable.is_none()
        {
            connection.unanswerable = Some(Unanswerable::NotStored);
            self.resume(id);
        }
    }
}
