//! CONNECT: from the first bytes of a socket to the client's home core, or to a refusal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mqtt::encode;
use mqtt::{ConnAck, ConnAckProperties, Connect, DecodeError, Limits, PacketKind, ReasonCode, Version};

use super::Core;
use super::close::in_packet;
use super::greet::PACKET_BYTES_PROTOCOL;
use super::receive::Processed;
use super::timers::Timer;
use crate::access::{Doubt, Identity, Permissions};
use crate::config::{Authentication, UnknownTenant};
use crate::connection::Connection;
use crate::identity::ConnectionId;
use crate::input::{Close, Handover, Outputs};
use crate::limit::Limit;
use crate::notice::Event;
use crate::placement::inbox_key;
use crate::time::Now;

impl Core {
    pub(super) fn on_accepted(
        &mut self,
        now: Now,
        id: ConnectionId,
        listener: u16,
        peer: Option<SocketAddr>,
        out: &mut Outputs,
    ) {
        self.counters.connections_accepted += 1;
        let full = self.connections.len() >= self.config.connections_max as usize;
        self.insert_connection(now, id, listener, peer);
        if full || self.stopping.is_some() {
            self.counters.connections_refused += 1;
            self.notice(id, Event::ConnectionsMax, out);
            self.abort(id, out);
        }
    }

    pub(super) fn on_relayed(&mut self, id: ConnectionId, peer: Option<SocketAddr>) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.set_peer(peer);
        }
    }

    pub(super) fn on_named(&mut self, id: ConnectionId, name: &str) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Some(tenant) = self.config.tenant_by_name(connection.listener, name) {
            connection.extras().tenant_by_name = Some(Arc::clone(tenant));
        }
    }

    pub(super) fn on_certified(&mut self, id: ConnectionId, user: String) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.extras().certified_user = Some(user.into());
        }
    }

    fn insert_connection(&mut self, now: Now, id: ConnectionId, listener: u16, peer: Option<SocketAddr>) {
        let timeout = Duration::from_millis(u64::from(self.config.connect_timeout_ms_on(listener)));
        let timer = self.wheel.arm(now.monotonic.after(timeout).0, Timer::Connection(id));
        let heard = self.reading_time(now);
        self.connections.insert(Connection::new(id, listener, peer, (now.monotonic, heard), timer));
    }

    /// The client was let in elsewhere and is at home here.
    pub(super) fn on_handed_over(
        &mut self,
        now: Now,
        id: ConnectionId,
        handover: Handover,
        out: &mut Outputs,
    ) {
        let Handover { listener, peer, received, identity, authentication_data } = handover;
        let full = self.connections.len() >= self.config.connections_max as usize;
        self.insert_connection(now, id, listener, peer);
        let limits = self.connect_limits();
        let Ok(Some((connect, used))) = mqtt::decode_connect(&received, &limits) else {
            unreachable!("the other core has decoded it under the same limits");
        };
        if let Some(connection) = self.connections.get_mut(id) {
            learn(connection, &connect);
        }
        if full {
            self.counters.connections_refused += 1;
            self.refuse_connect(now, id, ReasonCode::SERVER_BUSY, None, out);
            return;
        }
        self.admit_heard(now, id, (&received[..used], &connect), identity, authentication_data, out);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.received = received[used..].to_vec();
        }
        self.process_received(now, id, out);
    }

    /// Bytes of a connection that has not sent a complete CONNECT yet.
    pub(super) fn on_connect_bytes(
        &mut self,
        now: Now,
        id: ConnectionId,
        bytes: &[u8],
        out: &mut Outputs,
    ) -> Processed {
        let (connect, used) = match mqtt::decode_connect(bytes, &self.connect_limits()) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return Processed::Upto(0),
            Err(error) => {
                self.count_connect_limit(id, error, out);
                self.refuse_connect_bytes(now, id, bytes, error.reason(), out);
                return Processed::Gone;
            }
        };
        let connection = self.connections.get_mut(id).expect("looked up by the caller");
        learn(connection, &connect);
        if self.is_banned_here(now, id) {
            self.refuse(now, id, ReasonCode::BANNED, out);
            return Processed::Gone;
        }
        let connection = self.connections.get_mut(id).expect("looked up by the caller");
        if let Err(reason) = check_connect(&connect) {
            self.refuse(now, id, reason, out);
            return Processed::Gone;
        }
        let certified = connection.extras.as_mut().and_then(|extras| extras.certified_user.take());
        let user = certified.as_deref().or(connect.username);
        match self.config.authentication {
            Authentication::Ask if certified.is_none() => {
                self.ask_about_connect(id, &connect, &bytes[..used], out);
                Processed::Upto(used)
            }
            // [MQTT-4.12.0-1]: we have no method of our own.
            _ if connect.properties.authentication_method.is_some() => {
                self.refuse(now, id, ReasonCode::BAD_AUTHENTICATION_METHOD, out);
                Processed::Gone
            }
            _ => match self.config.identify(connection.listener, connection.tenant_by_name(), user) {
                Ok((tenant, user)) => {
                    let identity = unauthenticated(tenant, user);
                    self.admit(now, id, &connect, bytes, identity, None, out);
                    if self.connections.get(id).is_none() { Processed::Gone } else { Processed::Upto(used) }
                }
                Err(UnknownTenant) => {
                    self.refuse(now, id, ReasonCode::BAD_USER_NAME_OR_PASSWORD, out);
                    Processed::Gone
                }
            },
        }
    }

    /// The client is who it says. `bytes` begin with its CONNECT and go on with all else that it sent.
    #[expect(clippy::too_many_arguments, reason = "what a CONNECT and its authentication bring")]
    pub(super) fn admit(
        &mut self,
        now: Now,
        id: ConnectionId,
        connect: &Connect<'_>,
        bytes: &[u8],
        identity: Identity,
        authentication_data: Option<Vec<u8>>,
        out: &mut Outputs,
    ) {
        let home = self.config.core_of(inbox_key(&identity.tenant, connect.client_id));
        if connect.client_id.is_empty() || home == self.id {
            self.admit_heard(now, id, (bytes, connect), identity, authentication_data, out);
            return;
        }
        let connection = self.connections.remove(id).expect("is being admitted");
        self.note_unfinished(id, usize::MAX);
        self.wheel.cancel(connection.timer);
        self.counters.handovers += 1;
        let handover = Handover {
            listener: connection.listener,
            peer: connection.peer(),
            received: bytes.to_vec(),
            identity,
            authentication_data,
        };
        out.handover.push((id, home, Box::new(handover)));
    }

    /// The client is at home here, and let in as soon as its former connection is heard.
    fn admit_heard(
        &mut self,
        now: Now,
        id: ConnectionId,
        (packet, connect): (&[u8], &Connect<'_>),
        identity: Identity,
        authentication_data: Option<Vec<u8>>,
        out: &mut Outputs,
    ) {
        match self.former_to_hear(now, (&identity.tenant, connect.client_id), out) {
            Some(former) => {
                self.hear_out(now, (id, former), packet, (connect, identity), authentication_data, out);
            }
            None => self.admit_at_home(now, id, connect, &identity, authentication_data.as_deref(), out),
        }
    }

    pub(super) fn connect_limits(&self) -> Limits {
        Limits {
            packet_bytes_max: self.config.connect_bytes_max,
            properties_max: self.config.packet_properties_max,
            filters_max: 1,
            client_id_bytes_max: u16::MAX,
        }
    }

    fn count_connect_limit(&mut self, id: ConnectionId, error: DecodeError, out: &mut Outputs) {
        let limit = match error {
            DecodeError::PacketTooLarge => Limit::ConnectBytes,
            DecodeError::PropertiesTooMany => Limit::PacketProperties,
            _ => return,
        };
        self.counters.limit(limit);
        self.notice(id, Event::Limit(limit), out);
    }

    /// Refuses what was not a CONNECT we understand: in the form of its version if that can be told, and
    /// otherwise without a word [MQTT-3.1.0-1, MQTT-3.1.2-2].
    fn refuse_connect_bytes(
        &mut self,
        now: Now,
        id: ConnectionId,
        bytes: &[u8],
        reason: ReasonCode,
        out: &mut Outputs,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match mqtt::connect_version(bytes) {
            Some(version) => connection.version = version,
            None if reason == ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => connection.version = Version::V311,
            None => {
                self.counters.protocol_errors += 1;
                self.notice(id, Event::NotMqtt, out);
                self.abort(id, out);
                return;
            }
        }
        self.refuse(now, id, reason, out);
    }

    /// Sends a CONNACK that refuses the client, and closes.
    pub(super) fn refuse_connect(
        &mut self,
        now: Now,
        id: ConnectionId,
        reason: ReasonCode,
        server_reference: Option<&str>,
        out: &mut Outputs,
    ) {
        self.refuse_doubted(now, id, (reason, None), server_reference, out);
    }

    /// The same, for what the client has shown.
    pub(super) fn refuse_doubted(
        &mut self,
        now: Now,
        id: ConnectionId,
        (reason, doubt): (ReasonCode, Option<Doubt>),
        server_reference: Option<&str>,
        out: &mut Outputs,
    ) {
        if let Some(doubt) = doubt {
            self.counters.doubt(doubt);
        }
        self.notice(id, Event::Refused(reason, doubt), out);
        let Some(connection) = self.connections.get(id) else { return };
        // A 3.x client that broke the protocol is closed without CONNACK; it has no code for it.
        let silent = connection.version != Version::V5
            && matches!(
                reason,
                ReasonCode::MALFORMED_PACKET | ReasonCode::PROTOCOL_ERROR | ReasonCode::PACKET_TOO_LARGE
            );
        if !silent {
            let reason = in_packet(PacketKind::ConnAck, reason);
            let bare = ConnAck { reason, ..ConnAck::default() };
            let properties = ConnAckProperties { server_reference, ..ConnAckProperties::default() };
            let full = ConnAck { properties, ..bare };
            if !self.write(id, out, |tail, version| encode::connack(tail, version, &full)) {
                self.write(id, out, |tail, version| encode::connack(tail, version, &bare));
            }
        }
        self.close(now, id, Close::Flush, out);
    }
}

/// A client that need not prove who it is.
fn unauthenticated(tenant: Arc<str>, user: &str) -> Identity {
    Identity {
        tenant,
        user: Arc::from(user),
        response_information: None,
        expires: None,
        permissions: Permissions::Listed,
        listed: false,
    }
}

/// Takes over what every answer to a CONNECT depends on, a refusal too.
fn learn(connection: &mut Connection, connect: &Connect<'_>) {
    connection.version = connect.version;
    connection.problem_information = connect.properties.request_problem_information;
    let named = connect.properties.maximum_packet_size.unwrap_or(u32::MAX);
    connection.outbound_packet_bytes_max = named.min(PACKET_BYTES_PROTOCOL);
}

/// What can be said of a CONNECT before its tenant is known.
fn check_connect(connect: &Connect<'_>) -> Result<(), ReasonCode> {
    match connect.version {
        // [MQTT-3.1.3-8] of 3.1.1; 3.1 wants 1 to 23 characters.
        Version::V311 if connect.client_id.is_empty() && !connect.clean_start => {
            Err(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID)
        }
        Version::V31 if connect.client_id.is_empty() => Err(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID),
        _ => Ok(()),
    }
}
