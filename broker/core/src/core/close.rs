//! How a connection ends from our side. The one table of reactions: what a client does wrong is answered
//! here, in the form its version and phase have for it.

use std::sync::Arc;
use std::time::Duration;

use mqtt::encode;
use mqtt::{DecodeError, Disconnect, PacketKind, ReasonCode, Version};

use super::Core;
use super::timers::Timer;
use crate::connection::Phase;
use crate::identity::ConnectionId;
use crate::input::{Close, Outputs};
use crate::limit::Limit;
use crate::notice::{Event, Notice};
use crate::time::Now;

impl Core {
    /// The client broke the protocol or asked for what it may not have. Before CONNACK: a CONNACK with the
    /// reason [MQTT-3.1.4-2]; after it: DISCONNECT with the reason in 5.0 [MQTT-4.13.1-1], a plain close in
    /// 3.x [MQTT-4.8.0-1 of 3.1.1].
    pub(super) fn refuse(&mut self, now: Now, id: ConnectionId, reason: ReasonCode, out: &mut Outputs) {
        self.counters.protocol_errors += 1;
        match self.connections.get(id).map(|connection| &connection.phase) {
            Some(Phase::Online) => self.disconnect(now, id, reason, None, out),
            Some(
                Phase::Connecting
                | Phase::Deciding(_)
                | Phase::Authenticating(_)
                | Phase::HearingOut
                | Phase::Attaching,
            ) => {
                self.refuse_connect(now, id, reason, None, out);
            }
            Some(Phase::Closing) | None => {}
        }
    }

    /// The same, if a setting may be the reason.
    pub(super) fn refuse_denied(&mut self, now: Now, id: ConnectionId, denied: Denied, out: &mut Outputs) {
        if let Some(limit) = denied.limit {
            self.counters.limit(limit);
            self.notice(id, Event::Limit(limit), out);
        }
        self.refuse(now, id, denied.reason, out);
    }

    /// Tells a client that is online why it is closed, if it can be told, and closes it.
    pub(super) fn disconnect(
        &mut self,
        now: Now,
        id: ConnectionId,
        reason: ReasonCode,
        server_reference: Option<&str>,
        out: &mut Outputs,
    ) {
        self.notice(id, Event::Closed(reason), out);
        self.write_disconnect(id, reason, server_reference, out);
        self.close(now, id, Close::Flush, out);
    }

    /// Tells the host what happens to a connection, if it wants to know.
    pub(super) fn notice(&mut self, id: ConnectionId, event: Event, out: &mut Outputs) {
        if !self.wants_notices() {
            return;
        }
        let Some(connection) = self.connections.get(id) else { return };
        let online = connection.is_online();
        let client = online.then(|| self.sessions.get(connection.session).client().into());
        let tenant = online.then(|| Arc::clone(&self.tenants.get(connection.tenant).name));
        let peer = connection.peer();
        self.tell(Notice { connection: Some(id), peer, tenant, client, event, message: None }, out);
    }

    /// Tells the host and the traces.
    pub(super) fn tell(&mut self, notice: Notice, out: &mut Outputs) {
        self.trace(&notice);
        if self.config.notices {
            self.tell_noticed(out);
            out.notices.push(notice);
        }
    }

    /// The same of a client that may have no connection.
    pub(super) fn notice_of(&mut self, tenant: &Arc<str>, client: &str, event: Event, out: &mut Outputs) {
        if self.wants_notices() {
            let (tenant, client) = (Some(Arc::clone(tenant)), Some(client.into()));
            self.tell(Notice { connection: None, peer: None, tenant, client, event, message: None }, out);
        }
    }

    /// Appends a DISCONNECT for clients whose version has one from the server.
    pub(super) fn write_disconnect(
        &mut self,
        id: ConnectionId,
        reason: ReasonCode,
        server_reference: Option<&str>,
        out: &mut Outputs,
    ) {
        if self.connections.get(id).is_some_and(|connection| connection.version == Version::V5) {
            let reason = in_packet(PacketKind::Disconnect, reason);
            let bare = Disconnect::new(reason);
            let full = Disconnect { server_reference, ..bare };
            if !self.write(id, out, |tail, version| encode::disconnect(tail, version, &full)) {
                self.write(id, out, |tail, version| encode::disconnect(tail, version, &bare));
            }
        }
    }

    /// Ends a connection: its session is left (with its will), what is unsent leaves if `how` says so.
    pub(super) fn close(&mut self, now: Now, id: ConnectionId, how: Close, out: &mut Outputs) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.is_online() {
            self.leave_session(now, id, true, None, out);
        }
        self.linger(now, id, how, out);
    }

    /// The last part of [`Core::close`], for a connection that has no session (any more).
    pub(super) fn linger(&mut self, now: Now, id: ConnectionId, how: Close, out: &mut Outputs) {
        let (linger, heard) = (self.linger_time(), self.reading_time(now));
        self.set_expiry(now, id, None);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.phase = Phase::Closing;
        let received = std::mem::take(&mut connection.received).len();
        connection.extras = None;
        connection.last_received = heard; // what comes now is not looked at
        self.wheel.cancel(connection.timer);
        connection.timer = self.wheel.arm(now.monotonic.after(linger).0, Timer::Connection(id));
        out.close.push((id, how));
        self.note_unfinished(id, received);
    }

    pub(super) fn linger_time(&self) -> Duration {
        Duration::from_millis(u64::from(self.config.close_linger_ms))
    }
}

/// Why a client may not what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    /// What it is told.
    pub reason: ReasonCode,
    /// The setting that says so, if it is one.
    pub limit: Option<Limit>,
}

impl Denied {
    pub(super) fn by(limit: Limit, reason: ReasonCode) -> Denied {
        Denied { reason, limit: Some(limit) }
    }
}

impl From<ReasonCode> for Denied {
    fn from(reason: ReasonCode) -> Denied {
        Denied { reason, limit: None }
    }
}

impl From<DecodeError> for Denied {
    fn from(error: DecodeError) -> Denied {
        let limit = match error {
            DecodeError::PacketTooLarge => Some(Limit::PacketBytes),
            DecodeError::FiltersTooMany => Some(Limit::SubscribeFilters),
            DecodeError::PropertiesTooMany => Some(Limit::PacketProperties),
            _ => None,
        };
        Denied { reason: error.reason(), limit }
    }
}

/// The reason that a packet of this kind says it with [MQTT-3.2.2-8, MQTT-3.14.2-1]: not every error has a
/// place in each, and the host may choose any.
pub(super) fn in_packet(kind: PacketKind, reason: ReasonCode) -> ReasonCode {
    match reason {
        _ if reason.is_error() && reason.allowed_in(kind) => reason,
        ReasonCode::TOPIC_ALIAS_INVALID => ReasonCode::PROTOCOL_ERROR,
        ReasonCode::SERVER_SHUTTING_DOWN => ReasonCode::SERVER_UNAVAILABLE,
        ReasonCode::BAD_USER_NAME_OR_PASSWORD | ReasonCode::BANNED => ReasonCode::NOT_AUTHORIZED,
        _ => ReasonCode::UNSPECIFIED_ERROR,
    }
}
