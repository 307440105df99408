//! The first half of a turn: what has happened becomes inputs of the state machine.
//!
//! Hot path.

use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use std::{io, mem};

use broker_core::identity::{ConnectionId, CoreId};
use broker_core::input::{HearOut, Input};
use broker_core::time::Mono;
use socket2::SockRef;

use super::{Driver, Stop};
use crate::admission::{Bite, HANDSHAKES_RETRY};
use crate::auth::Loaded;
use crate::connections::{Receiving, Sending};
use crate::listener::{self, Accepted};
use crate::mailboxes::Item;
use crate::node::{Control, Event};
use crate::poller::{Poller, Readiness, Report, Source, What};
use crate::sys;
use crate::transport::Transport;

/// Items taken from one core's mailbox in a turn.
const MAIL_TURN_MAX: usize = 256;

/// Connections accepted from one listener in a turn: with all that a client costs that is let in, half a millisecond
/// for those that are in.
const ACCEPT_TURN_MAX: usize = 32;

/// Connections received from in a turn, a receive call each of about 1 µs.
const RECEIVE_TURN_CONNECTIONS_MAX: usize = 1024;

/// Bytes received in a turn; the last receive may go beyond.
pub(super) const RECEIVE_TURN_BYTES_MAX: usize = 1024 * 1024;

/// Events published in a turn, a microsecond or two each where somebody listens.
const ANNOUNCED_TURN_MAX: usize = 256;

/// How long nothing is accepted after the descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often that is logged.
const ACCEPT_WARN_INTERVAL: Duration = Duration::from_secs(60);

/// A listening socket of this core.
#[derive(Debug)]
pub(super) struct Listener {
    /// Which of the configured ones.
    listener: u16,
    socket: OwnedFd,
    /// Until when nobody is accepted, because too many come (`admission.rs`).
    opens_at: Option<Mono>,
}

/// Begins to wait for connections.
pub(super) fn start_listeners(
    poller: &mut Poller,
    sockets: Vec<(u16, OwnedFd)>,
) -> io::Result<Vec<Listener>> {
    let start = |(index, (listener, socket)): (u16, (u16, OwnedFd))| {
        poller.watch(Source::Listener(index), socket.as_fd())?;
        Ok(Listener { listener, socket, opens_at: None })
    };
    (0..).zip(sockets).map(start).collect()
}

impl Driver {
    /// Takes what the kernel has reported.
    pub(super) fn take_reports(&mut self) {
        let mut reports = mem::take(&mut self.reports);
        for Report { source, what } in reports.drain(..) {
            match source {
                Source::Connection(id) => self.on_connection(id, what),
                Source::Listener(index) => self.on_listener(index, what),
                // Other threads have left mail or orders, which every turn looks for. The counter is not
                // read: it need not be zero to be reported when it is raised again.
                Source::Wake => {
                    if !matches!(what, What::Ready(_)) {
                        self.rewatch(source);
                    }
                }
            }
        }
        self.reports = reports;
    }

    fn on_connection(&mut self, id: ConnectionId, what: What) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match what {
            What::Ready(Readiness { readable, hung_up, writable }) => {
                connection.hung_up |= hung_up;
                if readable && connection.receiving == Receiving::Watched {
                    connection.receiving = Receiving::Listed;
                    self.ready.push_back(id);
                }
                if writable && connection.sending == Sending::Blocked {
                    self.postpone(id);
                }
            }
            What::Lapsed => self.rewatch(Source::Connection(id)),
            What::Failed(error) => {
                warn_unwatchable(self.id, &io::Error::from_raw_os_error(error));
                self.close_now(id);
            }
        }
    }

    fn on_listener(&mut self, index: u16, what: What) {
        match what {
            What::Ready(_) => {
                // A stop shuts listeners down, which the kernel may still say of those that are gone.
                let is_there = usize::from(index) < self.listeners.len();
                if is_there && !self.acceptable.contains(&index) {
                    self.acceptable.push(index);
                }
            }
            What::Lapsed | What::Failed(_) => self.rewatch(Source::Listener(index)),
        }
    }

    /// Waits again on what the kernel has stopped waiting on by itself.
    fn rewatch(&mut self, source: Source) {
        let descriptor = match source {
            Source::Connection(id) => {
                self.connections.get_mut(id).map(|connection| connection.socket.as_fd())
            }
            Source::Listener(index) => {
                self.listeners.get(usize::from(index)).map(|listener| listener.socket.as_fd())
            }
            Source::Wake => Some(self.mailboxes.wake().event.as_fd()),
        };
        if let Some(descriptor) = descriptor {
            // With epoll, where it might fail, nothing ever stops by itself.
            let _ = self.poller.watch(source, descriptor);
        }
    }

    /// Obeys the node.
    pub(super) fn take_control(&mut self) {
        while let Ok(control) = self.control.try_recv() {
            match control {
                Control::Stop if self.stop == Stop::Running => {
                    self.stop = Stop::Stopping;
                    self.acceptable.clear();
                    self.accept_at = None;
                    for (index, listener) in (0..).zip(mem::take(&mut self.listeners)) {
                        // At once; closing waits for the kernel to have forgotten the poll.
                        let _ = SockRef::from(&listener.socket).shutdown(Shutdown::Both);
                        self.poller.forget(Source::Listener(index), listener.socket.as_fd());
                    }
                    self.input(Input::Stop);
                }
                Control::Stop => {}
                Control::Learn(loaded) => self.learn(loaded),
                Control::Configure(config) => {
                    self.authenticator.configure(&config);
                    self.journal.configure(&config);
                    self.input(Input::Configure(config));
                }
                Control::Speak(protocols) => self.protocols = protocols,
                Control::Ask(ask) => {
                    self.input(Input::Ask(ask));
                    // Each takes its part of a turn.
                    return;
                }
                Control::Link(wish) => {
                    if let Some(storage) = &self.storage {
                        storage.link(&wish, &self.core);
                    }
                }
                Control::Exit => self.stop = Stop::Exit,
            }
        }
    }

    /// Goes by other files from now on.
    fn learn(&mut self, loaded: Loaded) {
        self.authenticator.learn(loaded.knowledge);
        self.input(Input::AccessList(loaded.access_list));
        for target in loaded.unbanned.iter() {
            self.input(Input::Unban(target.clone()));
        }
        for ban in loaded.banned.iter() {
            self.input(Input::Ban(ban.clone()));
        }
        if !loaded.users_gone.is_empty() {
            self.input(Input::UsersGone(loaded.users_gone));
        }
    }

    /// Publishes what has happened, for tenants that want it so: a part of it in each turn.
    pub(super) fn announce(&mut self) {
        for _ in 0..self.announced.len().min(ANNOUNCED_TURN_MAX) {
            if let Some(publish) = self.announced.pop_front() {
                self.journal.take_publication();
                self.input(Input::Announce(Box::new(publish)));
            }
        }
    }

    /// Takes the answers to questions about clients: as many as there are, for their number is bounded.
    pub(super) fn take_answers(&mut self) {
        while let Some(decided) = self.authenticator.next(|id| self.connections.get_mut(id).is_some()) {
            self.input(Input::Decided(decided));
        }
    }

    /// Whether further clients may say who they are: as many of those who wait to as there is room for.
    pub(super) fn look_at_logins(&mut self) {
        let room = self.authenticator.room();
        self.logins_full = room == 0;
        for _ in 0..room.min(self.held.len()) {
            self.ready.extend(self.held.pop_front());
        }
        self.crowded = self.logins_full || !self.held.is_empty();
    }

    /// Takes what other cores have sent. True when more waits.
    pub(super) fn take_mail(&mut self) -> bool {
        for from in self.mailboxes.cores() {
            for _ in 0..MAIL_TURN_MAX {
                match self.mailboxes.receive(from) {
                    Some(Item::Messages(messages)) => self.input(Input::PeerMessages { from, messages }),
                    Some(Item::Socket(handover, socket, transport)) => {
                        if let Some(connection) = self.add(handover.listener, socket, transport) {
                            self.take_over_transport(connection);
                            self.input(Input::ClientHandedOver { connection, handover });
                        }
                    }
                    None => break,
                }
            }
        }
        !self.mailboxes.is_empty()
    }

    /// Accepts what waits on the listeners. True when more may wait.
    pub(super) fn accept(&mut self) -> bool {
        if self.accept_at.is_some_and(|at| self.now.monotonic < at) {
            return false;
        }
        self.accept_at = None;
        let mut listeners = mem::take(&mut self.acceptable);
        listeners.retain(|&index| self.accept_from(index));
        self.acceptable = listeners;
        self.accept_at.is_none() && self.acceptable.iter().any(|&index| !self.is_waiting(index))
    }

    /// Whether a listener has a time at which it goes on.
    fn is_waiting(&self, index: u16) -> bool {
        self.listeners[usize::from(index)].opens_at.is_some()
    }

    /// When accepting goes on that waits.
    pub(super) fn next_accept(&self) -> Option<Mono> {
        let listeners = self.acceptable.iter().map(|&index| &self.listeners[usize::from(index)]);
        listeners.filter_map(|listener| listener.opens_at).chain(self.accept_at).min()
    }

    /// Whether the next client of a listener may be accepted now.
    fn is_admitting(&mut self, index: u16) -> bool {
        let now = self.now.monotonic;
        let Listener { listener, opens_at, .. } = &mut self.listeners[usize::from(index)];
        if opens_at.is_some_and(|at| now < at) {
            return false;
        }
        let (gate, number) = (&self.gates[usize::from(*listener)], usize::from(*listener));
        let crowded = self.crowded.then(|| (now.after(HANDSHAKES_RETRY), Bite::Logins));
        let closed = crowded.or_else(|| gate.opens_at(&self.protocols[number].limits, now));
        *opens_at = closed.map(|(at, bite)| {
            gate.count(bite);
            at
        });
        opens_at.is_none()
    }

    /// Accepts from one listener. True when more may wait there.
    fn accept_from(&mut self, index: u16) -> bool {
        for _ in 0..ACCEPT_TURN_MAX {
            if !self.is_admitting(index) {
                return true;
            }
            let Listener { listener, ref socket, .. } = self.listeners[usize::from(index)];
            match listener::accept(socket) {
                Accepted::Socket(socket, peer) => self.admit(listener, socket, peer),
                Accepted::Gone => {}
                Accepted::Exhausted(error) => {
                    self.pause_accepting(&error);
                    return true;
                }
                Accepted::Empty | Accepted::Closed => return false,
            }
        }
        true
    }

    /// Takes a new connection in, unless there are too many.
    fn admit(&mut self, listener: u16, socket: OwnedFd, peer: Option<SocketAddr>) {
        if let Some(descriptor) = self.filling.on_accepted(&socket) {
            self.tell(Event::Filling(descriptor));
        }
        let protocol = &self.protocols[usize::from(listener)];
        if !self.gates[usize::from(listener)].enter(&protocol.limits, self.now.monotonic) {
            return;
        }
        let Ok(transport) = protocol.begin(peer) else { return self.turn_away(listener) };
        if let Some(connection) = self.add(listener, socket, transport) {
            self.input(Input::ClientAccepted { connection, listener, peer });
        }
    }

    /// A connection of a listener ends before it was one.
    pub(super) fn turn_away(&mut self, listener: u16) {
        self.gates[usize::from(listener)].end_handshake();
        self.gates[usize::from(listener)].leave();
    }

    fn pause_accepting(&mut self, error: &io::Error) {
        let now = self.now.monotonic;
        self.accept_at = Some(now.after(ACCEPT_PAUSE));
        if self.accept_warned.is_none_or(|warned| now.since(warned) >= ACCEPT_WARN_INTERVAL) {
            self.accept_warned = Some(now);
            let connections = self.connections.len();
            tracing::warn!(
                core = self.id.0,
                connections,
                "cannot accept, trying again soon; see LimitNOFILE= or ulimit -n: {error}"
            );
        }
    }

    /// Gives a new connection its slot, and begins to wait for its bytes.
    fn add(
        &mut self,
        listener: u16,
        socket: OwnedFd,
        transport: Option<Box<Transport>>,
    ) -> Option<ConnectionId> {
        let id = self.connections.next_id();
        if let Err(error) = self.poller.watch(Source::Connection(id), socket.as_fd()) {
            warn_unwatchable(self.id, &error);
            self.turn_away(listener);
            return None;
        }
        self.connections.insert(socket, transport);
        Some(id)
    }

    /// Receives from connections that are ready, each once, as far as the budget goes: who has still more
    /// to say goes behind the others.
    pub(super) fn receive(&mut self) {
        let mut bytes_left = RECEIVE_TURN_BYTES_MAX;
        for _ in 0..self.ready.len().min(RECEIVE_TURN_CONNECTIONS_MAX) {
            let Some(id) = self.ready.pop_front() else { break };
            if self.logins_full && self.connections.is_greeting(id) {
                self.held.push_back(id);
                continue;
            }
            bytes_left = bytes_left.saturating_sub(self.receive_from(id));
            if bytes_left == 0 {
                break;
            }
        }
    }

    /// Gives the state machine what a connection's socket holds by now, before a newer one of its client takes over:
    /// as much in a turn, for all of them, as a turn receives.
    pub(super) fn hear_out(&mut self, HearOut { former, newcomer }: HearOut) {
        while self.hear_out_bytes_left > 0 && self.core.wants_clients() && self.core.wants_bytes(former) {
            let bytes = self.receive_from(former);
            self.hear_out_bytes_left = self.hear_out_bytes_left.saturating_sub(bytes);
            if bytes == 0 {
                break;
            }
        }
        self.input(Input::ClientHeardOut { connection: newcomer });
    }

    /// Receives from one connection. Returns how many bytes.
    fn receive_from(&mut self, id: ConnectionId) -> usize {
        if self.connections.has_transport(id) {
            return self.receive_from_layered(id);
        }
        let Some(connection) = self.connections.get_mut(id) else { return 0 };
        connection.receiving = Receiving::Watched;
        let open = connection.stage.is_open();
        if open && !self.core.wants_bytes(id) {
            connection.receiving = Receiving::Held;
            return 0;
        }
        match sys::receive(connection.socket.as_fd(), &mut self.scratch) {
            Ok(0) => self.close_now(id),
            Ok(bytes) => {
                // Less than there was room for: nothing is left, or it is news to the kernel, too. Unless the
                // end, which was news already, comes behind it.
                if bytes == self.scratch.len() || connection.hung_up {
                    connection.receiving = Receiving::Listed;
                    self.ready.push_back(id);
                }
                if open {
                    self.unended = true;
                    let input = Input::ClientBytes { connection: id, bytes: &self.scratch[..bytes] };
                    self.core.on_input(self.now, input, &mut self.outputs);
                }
                return bytes;
            }
            // It did not end after all: or else it would be received from for ever.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.hung_up = false,
            Err(_) => self.close_now(id),
        }
        0
    }
}

fn warn_unwatchable(core: CoreId, error: &io::Error) {
    tracing::warn!(core = core.0, "a connection is closed, because it cannot be waited on: {error}");
}
