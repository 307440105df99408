//! Connections that are not plain: between socket and state machine their bytes go through a transport.
//!
//! Hot path.

use std::io;
use std::mem;
use std::os::fd::AsFd;

use broker_core::identity::ConnectionId;
use broker_core::input::Input;
use socket2::SockRef;

use super::Driver;
use super::outputs::{SENDS_MAX, Sent};
use crate::admission::Bite;
use crate::connections::{Receiving, Sending, Stage};
use crate::sys;
use crate::transport::Broken;

/// Bytes received at a time: with the largest record that came in part before, at most as many as the state machine
/// takes at a time, so that what is behind a CONNECT goes along to the home core.
const RECEIVE_BYTES_MAX: usize = broker_core::input::RECEIVE_BYTES_MAX / 2;

/// Handshakes that go on in a turn. A signature takes 0.05 ms to 1 ms: a storm of them costs established clients no
/// more than that many in each turn.
pub(super) const HANDSHAKES_TURN_MAX: u32 = 4;

const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

impl Driver {
    /// Receives from one connection. Returns how many bytes.
    #[inline(never)] // Plain connections take another way, which is not to be longer for this one.
    pub(super) fn receive_from_layered(&mut self, id: ConnectionId) -> usize {
        let Some(connection) = self.connections.get_mut(id) else { return 0 };
        connection.receiving = Receiving::Watched;
        let open = connection.stage.is_open();
        if open && !self.core.wants_bytes(id) {
            connection.receiving = Receiving::Held;
            return 0;
        }
        if open && !self.may_receive(id) {
            return 0;
        }
        let Some(connection) = self.connections.get_mut(id) else { return 0 };
        match sys::receive(connection.socket.as_fd(), &mut self.scratch[..RECEIVE_BYTES_MAX]) {
            Ok(0) => self.close_now(id),
            Ok(bytes) => {
                if bytes == RECEIVE_BYTES_MAX || connection.hung_up {
                    connection.receiving = Receiving::Listed;
                    self.ready.push_back(id);
                }
                if open {
                    self.open_received(id, bytes);
                }
                return bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.hung_up = false,
            Err(_) => self.close_now(id),
        }
        0
    }

    /// Whether it is this connection's turn: if not, it has been put behind the others, or closed.
    fn may_receive(&mut self, id: ConnectionId) -> bool {
        let Some((connection, transport)) = self.connections.transport_mut(id) else { return false };
        if transport.has_ended() {
            self.close_now(id);
            return false;
        }
        if transport.is_handshaking() {
            if self.handshakes_left == 0 {
                connection.receiving = Receiving::Listed;
                self.ready.push_back(id);
                return false;
            }
            self.handshakes_left -= 1;
        }
        true
    }

    /// Gives the state machine what the first so many bytes of the scratch buffer say.
    fn open_received(&mut self, id: ConnectionId, bytes: usize) {
        let Some((_, transport)) = self.connections.transport_mut(id) else { return };
        let mut plain = mem::take(&mut self.plain);
        let received = transport.receive(&mut self.scratch[..bytes], &mut plain);
        let user = transport.next_user();
        let (origin, through) = (transport.next_origin(), transport.is_through());
        let name = transport.next_name();
        if let Some(origin) = &origin {
            self.input(Input::ClientRelayed { connection: id, peer: origin.peer });
        }
        if let Some(name) = name.or_else(|| origin.and_then(|origin| origin.name)) {
            self.input(Input::ClientNamed { connection: id, name: &name });
        }
        if let Ok(Some(user)) = user.clone() {
            self.input(Input::ClientCertified { connection: id, user });
        }
        if user.is_ok() && !plain.is_empty() {
            self.input(Input::ClientBytes { connection: id, bytes: &plain });
        }
        plain.clear();
        self.plain = plain;
        match received.and(user.map(drop)) {
            Ok(()) if through => self.connections.drop_transport(id),
            Ok(()) => self.take_over_transport(id),
            Err(Broken) => {
                self.count_wrong_proxy(id);
                if let Some((_, transport)) = self.connections.transport_mut(id) {
                    let doubt = transport.doubt();
                    self.input(Input::ClientBroken { connection: id, doubt });
                }
                self.send_last_words(id);
                self.close_now(id);
            }
        }
    }

    /// Counts a connection that began otherwise than the listener's proxies do.
    fn count_wrong_proxy(&mut self, id: ConnectionId) {
        if let Some((_, transport)) = self.connections.transport_mut(id)
            && transport.awaits_proxy()
            && let Some(listener) = self.core.listener_of(id)
        {
            self.gates[usize::from(listener)].count(Bite::Proxy);
        }
    }

    /// Sees to what a transport has to send of its own, and to its end, which counts when all that came before it has
    /// been acted upon.
    pub(super) fn take_over_transport(&mut self, id: ConnectionId) {
        let Some((connection, transport)) = self.connections.transport_mut(id) else { return };
        let (ended, waits) = (transport.has_ended(), !transport.wire().is_empty());
        if ended && connection.receiving == Receiving::Watched {
            connection.receiving = Receiving::Listed;
            self.ready.push_back(id);
        }
        if waits && connection.sending == Sending::Prompt {
            self.postpone(id);
        }
    }

    /// Sends what is unsent, as far as the kernel takes it, and the transport's own end behind the last of it.
    #[inline(never)]
    pub(super) fn send_layered(&mut self, id: ConnectionId) -> Sent {
        for _ in 0..SENDS_MAX {
            let Some((connection, transport)) = self.connections.transport_mut(id) else { return Sent::All };
            let mut taken = 0;
            if transport.wire().is_empty() {
                transport.borrow(&mut self.spare_wire);
                match transport.send(self.core.unsent(id)) {
                    Ok(bytes) => taken = bytes,
                    Err(Broken) => return Sent::Failed,
                }
                if taken == 0 && connection.stage == Stage::Flushing {
                    transport.finish();
                }
                if transport.wire().is_empty() {
                    transport.give_back(&mut self.spare_wire);
                    return Sent::All;
                }
            }
            let (wanted, result) = {
                let wire = transport.wire();
                (wire.len(), SockRef::from(&connection.socket).send_with_flags(wire, SEND_FLAGS))
            };
            let outcome = match result {
                Ok(sent) => {
                    self.send_bytes_left = self.send_bytes_left.saturating_sub(sent);
                    transport.advance(sent);
                    (sent < wanted).then_some(Sent::Blocked)
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => Some(Sent::Blocked),
                    io::ErrorKind::Interrupted => None,
                    _ => Some(Sent::Failed),
                },
            };
            transport.give_back(&mut self.spare_wire);
            // Sealed is as good as sent: at most one buffer of it waits for the kernel, and nothing behind it.
            if taken > 0 {
                self.input(Input::ClientSent { connection: id, bytes: taken });
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        Sent::Part
    }

    /// An alert that says why, if the kernel takes it now.
    fn send_last_words(&mut self, id: ConnectionId) {
        if let Some((connection, transport)) = self.connections.transport_mut(id)
            && !transport.wire().is_empty()
        {
            let _ = SockRef::from(&connection.socket).send_with_flags(transport.wire(), SEND_FLAGS);
        }
    }
}
