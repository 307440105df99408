//! The first half of a turn: what has happened becomes inputs of the state machine.
//!
//! Hot path.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use broker_core::identity::{ConnectionId, CoreId};
use broker_core::input::Input;
use socket2::SockRef;

use super::{Driver, Stop};
use crate::connections::{Receiving, Sending, Stage};
use crate::listener::{self, Accepted};
use crate::mailboxes::Item;
use crate::node::Control;
use crate::runtime::Descriptor;
use crate::sys;
use crate::watch::{Source, WatchKey, Watches};

/// Items taken from one core's mailbox in a turn.
const MAIL_TURN_MAX: usize = 256;

/// Connections accepted from one listener in a turn.
const ACCEPT_TURN_MAX: usize = 128;

/// Connections received from in a turn, a receive call each of about 1 µs.
const RECEIVE_TURN_CONNECTIONS_MAX: usize = 1024;

/// Bytes received in a turn; the last receive may go beyond.
const RECEIVE_TURN_BYTES_MAX: usize = 1024 * 1024;

/// How long nothing is accepted after the descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often that is logged.
const ACCEPT_WARN_INTERVAL: Duration = Duration::from_secs(60);

/// A listening socket of this core.
#[derive(Debug)]
pub(super) struct Listener {
    /// Which of the configured ones.
    listener: u16,
    descriptor: Rc<Descriptor>,
    watch: WatchKey,
}

/// Begins to wait for connections.
pub(super) fn start_listeners(
    watches: &Rc<Watches>,
    sockets: Vec<(u16, OwnedFd)>,
) -> io::Result<Vec<Option<Listener>>> {
    let start = |(index, (listener, socket))| {
        let descriptor = Rc::new(Descriptor::new(socket)?);
        let watch = watches.start(Source::Listener(index), Rc::clone(&descriptor));
        Ok(Some(Listener { listener, descriptor, watch }))
    };
    (0..).zip(sockets).map(start).collect()
}

impl Driver {
    /// Takes what the waiting tasks have reported.
    pub(super) fn take_reports(&mut self) {
        self.watches.take(&mut self.reports);
        for source in self.reports.ready.drain(..) {
            match source {
                Source::Connection(slot) => {
                    if let Some((_, connection)) = self.connections.at_mut(slot)
                        && connection.receiving == Receiving::Watched
                    {
                        connection.receiving = Receiving::Listed;
                        self.ready.push_back(slot);
                    }
                }
                Source::Listener(index) => self.acceptable.push(index),
                Source::Wake => {
                    self.mailboxes.wake().event.drain();
                    self.watches.rearm(self.wake_watch);
                }
            }
        }
        for id in self.reports.writable.drain(..) {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.sending = Sending::Postponed;
                self.sendable.push(id);
            }
        }
        for source in self.reports.ended.drain(..) {
            match source {
                Source::Connection(slot) => self.connections.free(slot),
                Source::Listener(index) => self.listeners[usize::from(index)] = None,
                Source::Wake => unreachable!("the wake watch is never ended"),
            }
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
                    for listener in self.listeners.iter().flatten() {
                        // At once; the descriptor is closed when the watch has ended.
                        let _ = SockRef::from(&*listener.descriptor).shutdown(std::net::Shutdown::Both);
                        self.watches.end(listener.watch);
                    }
                    self.input(Input::Stop);
                }
                Control::Stop => {}
                Control::Exit => self.stop = Stop::Exit,
            }
        }
    }

    /// Takes what other cores have sent. True when more waits.
    pub(super) fn take_mail(&mut self) -> bool {
        for from in self.mailboxes.cores() {
            for _ in 0..MAIL_TURN_MAX {
                match self.mailboxes.receive(from) {
                    Some(Item::Messages(messages)) => self.input(Input::PeerMessages { from, messages }),
                    Some(Item::Socket(handover, socket)) => match Descriptor::new(socket) {
                        Ok(descriptor) => {
                            let connection = self.add(descriptor);
                            self.input(Input::ClientHandedOver { connection, handover });
                        }
                        Err(error) => warn_unwatchable(self.id, &error),
                    },
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
        let mut listeners = std::mem::take(&mut self.acceptable);
        listeners.retain(|&index| self.accept_from(index));
        self.acceptable = listeners;
        !self.acceptable.is_empty() && self.accept_at.is_none()
    }

    /// Accepts from one listener. True when more may wait there.
    fn accept_from(&mut self, index: u16) -> bool {
        for _ in 0..ACCEPT_TURN_MAX {
            let Some(listener) = &self.listeners[usize::from(index)] else { return false };
            match listener::accept(&*listener.descriptor) {
                Accepted::Socket(socket, peer) => match Descriptor::new(socket) {
                    Ok(descriptor) => {
                        let listener = listener.listener;
                        let connection = self.add(descriptor);
                        self.input(Input::ClientAccepted { connection, listener, peer });
                    }
                    Err(error) => warn_unwatchable(self.id, &error),
                },
                Accepted::Gone => {}
                Accepted::Empty => {
                    self.watches.rearm(listener.watch);
                    return false;
                }
                Accepted::Exhausted(error) => {
                    self.pause_accepting(&error);
                    return true;
                }
                Accepted::Closed => return false,
            }
        }
        true
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
    fn add(&mut self, descriptor: Descriptor) -> ConnectionId {
        let id = self.connections.next_id();
        let descriptor = Rc::new(descriptor);
        let watch = self.watches.start(Source::Connection(id.slot), Rc::clone(&descriptor));
        self.connections.insert(descriptor, watch);
        id
    }

    /// Receives from connections that are ready, each once, as far as the budget goes: who has still more
    /// to say goes behind the others.
    pub(super) fn receive(&mut self) {
        let mut bytes_left = RECEIVE_TURN_BYTES_MAX;
        for _ in 0..self.ready.len().min(RECEIVE_TURN_CONNECTIONS_MAX) {
            let Some(slot) = self.ready.pop_front() else { break };
            bytes_left = bytes_left.saturating_sub(self.receive_from(slot));
            if bytes_left == 0 {
                break;
            }
        }
    }

    /// Receives from one connection. Returns how many bytes.
    fn receive_from(&mut self, slot: u32) -> usize {
        let Some((id, connection)) = self.connections.at_mut(slot) else { return 0 };
        connection.receiving = Receiving::Watched;
        let open = connection.stage == Stage::Open;
        if open && !self.core.wants_bytes(id) {
            connection.receiving = Receiving::Held;
            return 0;
        }
        match sys::receive(connection.descriptor.as_fd(), &mut self.scratch) {
            Ok(0) => self.close_now(id),
            Ok(bytes) => {
                if bytes == self.scratch.len() {
                    connection.receiving = Receiving::Listed;
                    self.ready.push_back(slot);
                } else {
                    // Less than there was room for: nothing is left, or it is news to the kernel, too.
                    self.watches.rearm(connection.watch);
                }
                if open {
                    self.unended = true;
                    let input = Input::ClientBytes { connection: id, bytes: &self.scratch[..bytes] };
                    self.core.on_input(self.now, input, &mut self.outputs);
                }
                return bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.watches.rearm(connection.watch),
            Err(_) => self.close_now(id),
        }
        0
    }
}

fn warn_unwatchable(core: CoreId, error: &io::Error) {
    tracing::warn!(core = core.0, "a connection is closed, because it cannot be waited on: {error}");
}
