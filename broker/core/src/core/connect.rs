//! CONNECT: from the first bytes of a socket to CONNACK, on the client's home core.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mqtt::encode;
use mqtt::{ConnAck, ConnAckProperties, Connect, Limits, PacketKind, QoS, ReasonCode, Version};

use super::Core;
use super::close::in_packet;
use super::receive::Processed;
use super::timers::Timer;
use crate::access::{Identity, Permissions};
use crate::config::{Authentication, Settings};
use crate::connection::{Connection, OutboundAliases, Phase};
use crate::identity::ConnectionId;
use crate::inbox::{Attach, Attached, Will};
use crate::input::{Close, Handover, Outputs};
use crate::message::{Message, Publisher};
use crate::notice::Event;
use crate::placement::{core_of, inbox_key};
use crate::random::mix;
use crate::tenant::TenantIndex;
use crate::time::Now;

/// Longest will delay or session expiry that counts as such; `u32::MAX` is for ever.
const FOR_EVER: u32 = u32::MAX;

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

    fn insert_connection(&mut self, now: Now, id: ConnectionId, listener: u16, peer: Option<SocketAddr>) {
        let timeout = Duration::from_millis(u64::from(self.config.connect_timeout_ms));
        let timer = self.wheel.arm(now.monotonic.after(timeout).0, Timer::Connection(id));
        self.connections.insert(Connection::new(id, listener, peer, now.monotonic, timer));
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
        self.admit_at_home(now, id, &connect, &identity, authentication_data.as_deref(), out);
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
                self.refuse_connect_bytes(now, id, bytes, error.reason(), out);
                return Processed::Gone;
            }
        };
        let connection = self.connections.get_mut(id).expect("looked up by the caller");
        learn(connection, &connect);
        if let Err(reason) = check_connect(&connect) {
            self.refuse(now, id, reason, out);
            return Processed::Gone;
        }
        match self.config.authentication {
            Authentication::Ask => {
                self.ask_about_connect(id, &connect, &bytes[..used], out);
                Processed::Upto(used)
            }
            // [MQTT-4.12.0-1]: we have no method of our own.
            Authentication::Open if connect.properties.authentication_method.is_some() => {
                self.refuse(now, id, ReasonCode::BAD_AUTHENTICATION_METHOD, out);
                Processed::Gone
            }
            Authentication::Open => {
                let identity = self.anonymous();
                self.admit(now, id, &connect, bytes, identity, None, out);
                if self.connections.get(id).is_none() { Processed::Gone } else { Processed::Upto(used) }
            }
        }
    }

    fn anonymous(&self) -> Identity {
        Identity {
            tenant: Arc::clone(&self.config.default_tenant),
            user: Arc::from(""),
            response_information: None,
            permissions: Permissions::All,
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
        let home = core_of(inbox_key(&identity.tenant, connect.client_id), self.config.cores);
        if connect.client_id.is_empty() || home == self.id {
            self.admit_at_home(now, id, connect, &identity, authentication_data.as_deref(), out);
            return;
        }
        let connection = self.connections.remove(id).expect("is being admitted");
        self.wheel.cancel(connection.timer);
        self.counters.handovers += 1;
        let handover = Handover {
            listener: connection.listener,
            peer: connection.peer,
            received: bytes.to_vec(),
            identity,
            authentication_data,
        };
        out.handover.push((id, home, Box::new(handover)));
    }

    /// Attaches the client to its session and greets it.
    fn admit_at_home(
        &mut self,
        now: Now,
        id: ConnectionId,
        connect: &Connect<'_>,
        identity: &Identity,
        authentication_data: Option<&[u8]>,
        out: &mut Outputs,
    ) {
        let tenant = self.tenants.index(&identity.tenant, &self.config);
        let settings = Arc::clone(&self.tenants.get(tenant).settings);
        if let Err(reason) = self.check_admission(connect, identity, &settings) {
            self.refuse(now, id, reason, out);
            return;
        }
        let assigned = connect.client_id.is_empty().then(|| self.assign_client_id(&identity.tenant));
        let client = assigned.as_deref().unwrap_or(connect.client_id);
        let expiry_seconds = session_expiry(connect, &settings);
        let properties = ConnAckProperties {
            session_expiry: (expiry_seconds != connect.properties.session_expiry).then_some(expiry_seconds),
            assigned_client_id: assigned.as_deref(),
            response_information: identity
                .response_information
                .as_deref()
                .filter(|_| connect.properties.request_response_information),
            authentication_method: connect.properties.authentication_method,
            authentication_data,
            server_keep_alive: announced_keep_alive(connect, &settings),
            ..announced(&settings)
        };
        if connect.properties.maximum_packet_size.is_some_and(|max| connack_bytes(properties) > max as usize)
        {
            self.refuse(now, id, ReasonCode::PACKET_TOO_LARGE, out); // [MQTT-3.1.2-24]
            return;
        }
        let attached = self.attach(now, id, connect, (client, expiry_seconds), tenant, out);
        let connection = self.connections.get_mut(id).expect("is being admitted");
        connection.phase = Phase::Online;
        connection.tenant = tenant;
        connection.inbox = attached.slot;
        let session = self.inboxes.get(attached.slot).incarnation();
        connection.publisher = Publisher { session, client_hash: hash_client(client) };
        connection.permissions = identity.permissions.clone();
        set_limits(connection, connect, &settings);
        self.wheel.cancel(connection.timer);
        self.arm_keep_alive(now, id);
        self.counters.clients_greeted += 1;
        self.greet(now, id, attached, properties, out);
    }

    /// Gives the connection its session, which takes it from a former connection.
    fn attach(
        &mut self,
        now: Now,
        id: ConnectionId,
        connect: &Connect<'_>,
        (client, expiry_seconds): (&str, u32),
        tenant: TenantIndex,
        out: &mut Outputs,
    ) -> Attached {
        let name = Arc::clone(&self.tenants.get(tenant).name);
        let incarnation = self.new_incarnation();
        let publisher = Publisher { session: incarnation, client_hash: hash_client(client) };
        let will = connect.will.map(|will| Box::new(make_will(&will, Arc::clone(&name), publisher)));
        let mut effects = std::mem::take(&mut self.effects);
        let attach = Attach {
            tenant: &name,
            client,
            connection: id,
            clean_start: connect.clean_start,
            expiry_seconds,
            will,
            incarnation,
        };
        let attached = self.inboxes.attach(attach, now.wall, &mut effects);
        self.settle(now, effects, out);
        attached
    }

    fn greet(
        &mut self,
        now: Now,
        id: ConnectionId,
        attached: Attached,
        properties: ConnAckProperties<'_>,
        out: &mut Outputs,
    ) {
        let connack =
            ConnAck { session_present: attached.session_present, reason: ReasonCode::SUCCESS, properties };
        self.write(id, out, |tail, version| encode::connack(tail, version, &connack));
        if let Some(connection) = self.connections.get(id) {
            let event =
                Event::Greeted { version: connection.version, session_present: attached.session_present };
            self.notice(id, event, out);
        }
        self.pump(now, id, out);
    }

    /// What the tenant's settings and the client's permissions say about a CONNECT.
    fn check_admission(
        &self,
        connect: &Connect<'_>,
        identity: &Identity,
        settings: &Settings,
    ) -> Result<(), ReasonCode> {
        if self.stopping.is_some() {
            return Err(ReasonCode::SERVER_UNAVAILABLE); // 0x8B is for DISCONNECT alone
        }
        let Some(will) = &connect.will else { return Ok(()) };
        if will.qos > settings.qos_max {
            return Err(ReasonCode::QOS_NOT_SUPPORTED); // [MQTT-3.2.2-12]
        }
        if will.retain && !settings.retain {
            return Err(ReasonCode::RETAIN_NOT_SUPPORTED); // [MQTT-3.2.2-13]
        }
        if will.payload.len() > settings.will_bytes_max as usize {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        if !within_topic_limits(will.topic, settings) {
            return Err(ReasonCode::TOPIC_NAME_INVALID);
        }
        if !identity.permissions.may_publish(will.topic) {
            return Err(ReasonCode::NOT_AUTHORIZED);
        }
        if settings.payload_format_check
            && will.properties.payload_format_utf8
            && std::str::from_utf8(will.payload).is_err()
        {
            return Err(ReasonCode::PAYLOAD_FORMAT_INVALID);
        }
        Ok(())
    }

    /// A client id that nobody has, of a client that is at home here.
    fn assign_client_id(&mut self, tenant: &str) -> String {
        loop {
            let client = format!("hermod-{:016x}", self.random.next());
            if core_of(inbox_key(tenant, &client), self.config.cores) == self.id {
                return client;
            }
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
        self.notice(id, Event::Refused(reason), out);
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

fn session_expiry(connect: &Connect<'_>, settings: &Settings) -> u32 {
    let wanted = match connect.version {
        Version::V5 => connect.properties.session_expiry,
        Version::V31 | Version::V311 if connect.clean_start => 0,
        Version::V31 | Version::V311 => FOR_EVER,
    };
    wanted.min(settings.session_expiry_seconds_max)
}

fn make_will(will: &mqtt::Will<'_>, tenant: Arc<str>, publisher: Publisher) -> Will {
    let mut properties = Vec::with_capacity(will.properties.forwarded_bytes());
    will.properties.write_forwarded(&mut properties);
    Will {
        message: Message {
            tenant,
            publisher,
            topic: will.topic.into(),
            properties: properties.into(),
            payload: bytes::Bytes::copy_from_slice(will.payload),
            expires: None,
            qos: will.qos,
            retain: will.retain,
        },
        delay_seconds: will.delay_interval,
        expiry_seconds: will.properties.message_expiry,
    }
}

/// The size of a CONNACK that lets a 5.0 client in.
fn connack_bytes(properties: ConnAckProperties<'_>) -> usize {
    let mut bytes = Vec::new();
    encode::connack(&mut bytes, Version::V5, &ConnAck { properties, ..ConnAck::default() });
    bytes.len()
}

/// Takes over what the client and the settings say about flow and sizes.
fn set_limits(connection: &mut Connection, connect: &Connect<'_>, settings: &Settings) {
    let properties = &connect.properties;
    // Its absence means 65 535, which permits less.
    connection.outbound_inflight_max = match properties.receive_maximum {
        u16::MAX => settings.inflight_max,
        named => named,
    };
    let aliases = properties.topic_alias_maximum.min(settings.topic_alias_outbound_max);
    if aliases > 0 {
        connection.extras().outbound_aliases = OutboundAliases::new(aliases);
    }
    if let Some(method) = properties.authentication_method {
        connection.extras().authentication_method = Some(method.into());
    }
    let keep_alive = announced_keep_alive(connect, settings).unwrap_or(connect.keep_alive);
    connection.keep_alive_ms = u32::from(keep_alive) * 1500;
}

/// The keep alive that replaces the client's, if it asks for a longer one than the settings allow. A 3.x
/// client cannot be told, and keeps its own.
fn announced_keep_alive(connect: &Connect<'_>, settings: &Settings) -> Option<u16> {
    let max = settings.keep_alive_seconds_max;
    let beyond = connect.keep_alive == 0 || connect.keep_alive > max;
    (max > 0 && beyond && connect.version == Version::V5).then_some(max)
}

/// What CONNACK announces of a tenant's settings.
fn announced(settings: &Settings) -> ConnAckProperties<'static> {
    ConnAckProperties {
        receive_maximum: settings.receive_maximum,
        maximum_qos: settings.qos_max.min(QoS::ExactlyOnce),
        retain_available: settings.retain,
        maximum_packet_size: (settings.packet_bytes_max < PACKET_BYTES_PROTOCOL)
            .then_some(settings.packet_bytes_max),
        topic_alias_maximum: settings.topic_alias_max,
        wildcard_subscriptions_available: settings.wildcard_subscriptions,
        subscription_ids_available: settings.subscription_identifiers,
        shared_subscriptions_available: settings.shared_subscriptions,
        ..ConnAckProperties::default()
    }
}

/// The largest packet the protocol can express: 268 435 455 bytes after a header of five.
const PACKET_BYTES_PROTOCOL: u32 = mqtt::REMAINING_LENGTH_MAX + 5;

/// Whether a topic or filter is within the tenant's limits of length and depth.
pub(super) fn within_topic_limits(topic: &str, settings: &Settings) -> bool {
    topic.len() <= usize::from(settings.topic_bytes_max)
        && (settings.topic_levels_max == u16::MAX
            || topic.bytes().filter(|byte| *byte == b'/').count() < usize::from(settings.topic_levels_max))
}

/// A number by which shared subscriptions keep a publisher's messages together: the same on every core.
pub(super) fn hash_client(client: &str) -> u64 {
    mix(xxhash_rust::xxh3::xxh3_64(client.as_bytes()))
}
