//! The second half of a turn: what the state machine has decided is done, in the order that
//! [`Outputs`](broker_core::input::Outputs) asks for.
//!
//! Hot path.

use std::io::{self, IoSlice};
use std::mem;
use std::net::Shutdown;
use std::os::fd::AsFd;

use broker_core::access::{Doubt, Question};
use broker_core::identity::{ConnectionId, CoreId};
use broker_core::input::{Close, Handover, HearOut, Input};
use broker_core::notice::Notice;
use socket2::SockRef;

use super::Driver;
use crate::admin::FromCore;
use crate::connections::{Receiving, Sending, Stage};
use crate::mailboxes::Item;
use crate::poller::Source;

/// Pieces of a connection's unsent bytes given to the kernel in one call; it takes at most 1024.
const SLICES_MAX: usize = 64;

/// Calls of that kind for one connection in a turn; what is left then waits for the next.
pub(super) const SENDS_MAX: usize = 16;

/// One line for what happened to a connection, on level debug: at the rate of connections, not of messages.
fn log(core: CoreId, notice: &Notice) {
    let Notice { connection, peer, client, event, .. } = notice;
    let connection = connection.map_or_else(|| "?".to_owned(), |connection| connection.to_string());
    let peer = peer.map_or_else(|| "?".to_owned(), |peer| peer.to_string());
    let client = client.as_deref().unwrap_or("?");
    let (doubt, reason) = (event.doubt().map(Doubt::name), event.reason().value());
    let event = event.name();
    tracing::debug!(
        core = core.0,
        connection,
        peer,
        client,
        reason = format_args!("0x{reason:02x}"),
        doubt,
        "{event}"
    );
}

/// Lists of outputs while they are worked off, kept for their memory.
#[derive(Debug, Default)]
pub(super) struct Work {
    close: Vec<(ConnectionId, Close)>,
    handover: Vec<(ConnectionId, CoreId, Box<Handover>)>,
    hear_out: Vec<HearOut>,
    dirty: Vec<ConnectionId>,
    sendable: Vec<ConnectionId>,
    resumed: Vec<ConnectionId>,
    greeted: Vec<ConnectionId>,
    questions: Vec<Question>,
}

/// What came of sending to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Everything.
    All,
    /// What the turn's budget allows.
    Part,
    /// As much as the kernel takes.
    Blocked,
    /// Nothing ever again.
    Failed,
}

impl Driver {
    /// Whether there is anything to do for clients or logs. Messages to other cores are gathered over the turn.
    pub(super) fn has_outputs(&self) -> bool {
        let outputs = &self.outputs;
        !(outputs.close.is_empty()
            && outputs.handover.is_empty()
            && outputs.hear_out.is_empty()
            && outputs.dirty.is_empty()
            && outputs.greeted.is_empty()
            && outputs.resumed.is_empty()
            && outputs.questions.is_empty()
            && outputs.answers.is_empty()
            && outputs.storage.is_empty()
            && self.sendable.is_empty())
    }

    /// Does what has been decided so far. What this causes in turn is gathered anew.
    pub(super) fn act(&mut self) {
        if !self.outputs.storage.is_empty() {
            self.serve_logs();
        }
        let mut work = mem::take(&mut self.work);
        mem::swap(&mut work.close, &mut self.outputs.close);
        mem::swap(&mut work.handover, &mut self.outputs.handover);
        mem::swap(&mut work.hear_out, &mut self.outputs.hear_out);
        mem::swap(&mut work.dirty, &mut self.outputs.dirty);
        mem::swap(&mut work.sendable, &mut self.sendable);
        mem::swap(&mut work.greeted, &mut self.outputs.greeted);
        mem::swap(&mut work.resumed, &mut self.outputs.resumed);
        mem::swap(&mut work.questions, &mut self.outputs.questions);
        for (id, close) in work.close.drain(..) {
            self.close(id, close);
        }
        for (id, to, handover) in work.handover.drain(..) {
            self.hand_over(id, to, handover);
        }
        for id in work.greeted.drain(..) {
            self.end_handshake(id);
        }
        for id in work.sendable.drain(..) {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.sending = Sending::Prompt;
                self.send(id);
            }
        }
        for id in work.dirty.drain(..) {
            self.send(id);
        }
        for id in work.resumed.drain(..) {
            self.resume(id);
        }
        for notice in self.outputs.notices.drain(..) {
            if tracing::enabled!(tracing::Level::DEBUG) {
                log(self.id, &notice);
            }
            if let Some(publish) = self.journal.notice(self.now.wall, self.id, notice) {
                if self.announced.len() < self.announced_max {
                    self.announced.push_back(publish);
                } else {
                    self.journal.lose_publication();
                }
            }
        }
        for question in work.questions.drain(..) {
            if let Some(decided) = self.authenticator.ask(self.now.monotonic, question) {
                self.input(Input::Decided(decided));
            }
        }
        for wish in work.hear_out.drain(..) {
            self.hear_out(wish);
        }
        if !self.outputs.answers.is_empty() {
            self.answer();
        }
        for ban in self.outputs.banned.drain(..) {
            self.answers.keep(ban);
        }
        self.work = work;
    }

    /// Answers the administration.
    #[cold]
    fn answer(&mut self) {
        let mailbox_batches = self.mailboxes.waiting();
        for answer in self.outputs.answers.drain(..) {
            self.answers.leave(FromCore { answer, mailbox_batches });
        }
    }

    /// Sends the turn's messages, one batch per core, and wakes the cores that sleep.
    pub(super) fn post(&mut self) {
        for (to, messages) in (0..).map(CoreId).zip(&mut self.outputs.messages) {
            if !messages.is_empty() {
                self.mailboxes.send(to, Item::Messages(mem::take(messages)));
            }
        }
        self.mailboxes.wake_peers();
    }

    fn close(&mut self, id: ConnectionId, close: Close) {
        match close {
            Close::Abort => self.close_now(id),
            Close::Flush => {
                self.end_handshake(id);
                let Some(connection) = self.connections.get_mut(id) else { return };
                connection.stage = Stage::Flushing;
                // From now on its bytes are discarded, so nothing holds them back.
                self.resume(id);
                self.send(id);
            }
        }
    }

    /// Closes a connection here and now.
    pub(super) fn close_now(&mut self, id: ConnectionId) {
        self.end_handshake(id);
        let Some((socket, _)) = self.connections.remove(id) else { return };
        self.authenticator.forget(id);
        if let Some(listener) = self.core.listener_of(id) {
            self.gates[usize::from(listener)].leave();
        }
        // A poll holds the socket open until the kernel has forgotten it; shutting down has its effect at
        // once, and ends a wait for room to send. It fails only if the other end is gone already.
        let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
        self.poller.forget(Source::Connection(id), socket.as_fd());
        self.input(Input::ClientClosed { connection: id });
        self.ended += 1;
    }

    /// A client is in, or will not be. One that ends on its way to another core is the handing over's affair.
    fn end_handshake(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.stage == Stage::Greeting
            && let Some(listener) = self.core.listener_of(id)
        {
            connection.stage = Stage::Open;
            self.gates[usize::from(listener)].end_handshake();
        }
    }

    /// Gives a connection's socket to another core.
    fn hand_over(&mut self, id: ConnectionId, to: CoreId, handover: Box<Handover>) {
        let Some((socket, transport)) = self.connections.remove(id) else {
            return self.turn_away(handover.listener);
        };
        self.poller.forget(Source::Connection(id), socket.as_fd());
        self.mailboxes.send(to, Item::Socket(handover, socket, transport));
    }

    /// Receives again from a connection that was held back.
    fn resume(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.receiving == Receiving::Held
        {
            connection.receiving = Receiving::Listed;
            self.ready.push_back(id);
        }
    }

    /// Sends what is unsent, as far as the kernel takes it.
    fn send(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.sending != Sending::Prompt || connection.stage == Stage::Lingering {
            return;
        }
        if self.send_bytes_left == 0 {
            self.postpone(id);
            return;
        }
        let layered = self.connections.has_transport(id);
        let sent = if layered { self.send_layered(id) } else { self.send_unsent(id) };
        let Some(connection) = self.connections.get_mut(id) else { return };
        match sent {
            Sent::All if connection.stage == Stage::Flushing => {
                connection.stage = Stage::Lingering;
                // It fails only if the other end is gone, which receiving will tell.
                let _ = SockRef::from(&connection.socket).shutdown(Shutdown::Write);
            }
            Sent::All => {}
            Sent::Part => self.postpone(id),
            Sent::Blocked => {
                connection.sending = Sending::Blocked;
                self.poller.watch_writable(id, connection.socket.as_fd());
            }
            Sent::Failed => self.close_now(id),
        }
    }

    /// Sends in a later round or turn.
    pub(super) fn postpone(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.sending = Sending::Postponed;
            self.sendable.push(id);
        }
    }

    fn send_unsent(&mut self, id: ConnectionId) -> Sent {
        for _ in 0..SENDS_MAX {
            let Some(connection) = self.connections.get_mut(id) else { return Sent::All };
            let socket = SockRef::from(&connection.socket);
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let (mut count, mut bytes) = (0, 0);
            for (place, piece) in slices.iter_mut().zip(self.core.unsent(id)) {
                *place = IoSlice::new(piece);
                count += 1;
                bytes += piece.len();
            }
            if bytes == 0 {
                return Sent::All;
            }
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let result = match &slices[..count] {
                [one] => socket.send_with_flags(one, flags),
                several => socket.send_vectored_with_flags(several, flags),
            };
            match result {
                Ok(sent) => {
                    self.send_bytes_left = self.send_bytes_left.saturating_sub(sent);
                    self.input(Input::ClientSent { connection: id, bytes: sent });
                    if sent < bytes {
                        return Sent::Blocked;
                    }
                    if count < SLICES_MAX {
                        return Sent::All;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Sent::Blocked,
                    io::ErrorKind::Interrupted => {}
                    _ => return Sent::Failed,
                },
            }
        }
        Sent::Part
    }
}
