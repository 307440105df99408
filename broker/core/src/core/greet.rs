//! A client at home: its session, its limits, and the CONNACK that greets it.

use std::sync::Arc;
use std::time::Duration;

use mqtt::encode;
use mqtt::{ConnAck, ConnAckProperties, Connect, QoS, ReasonCode, Version};

use super::Core;
use super::close::Denied;
use super::publish::is_ours;
use crate::access::{Grant, Identity};
use crate::bans::{Ban, Target};
use crate::config::Settings;
use crate::connection::{Connection, OutboundAliases, Phase};
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::limit::Limit;
use crate::message::{Message, Publisher, hash_client};
use crate::notice::Event;
use crate::payload::Payload;
use crate::placement::inbox_key;
use crate::quota::Total;
use crate::sessions::{Attach, SessionSlot, Will};
use crate::tenant::TenantIndex;
use crate::time::{Now, Wall};

/// Longest will delay or session expiry that counts as such; `u32::MAX` is for ever.
const FOR_EVER: u32 = u32::MAX;

impl Core {
    /// Attaches the client to its session and greets it.
    pub(super) fn admit_at_home(
        &mut self,
        now: Now,
        id: ConnectionId,
        connect: &Connect<'_>,
        identity: &Identity,
        authentication_data: Option<&[u8]>,
        out: &mut Outputs,
    ) {
        let tenant = self.tenants.index(&identity.tenant, &self.config);
        let listener = self.connections.get(id).expect("is being admitted").listener;
        let settings = Arc::clone(self.tenants.get(tenant).settings_on(listener));
        let assigned = connect.client_id.is_empty().then(|| self.assign_client_id(&identity.tenant));
        let client = assigned.as_deref().unwrap_or(connect.client_id);
        let grant = self.access.grant(identity, client);
        let expiry_seconds = session_expiry(connect, &settings);
        let judged = self
            .check_bans(now, client, (tenant, identity), &settings)
            .and_then(|()| self.check_admission(connect, &grant, &settings))
            .and_then(|()| self.check_quotas(now, tenant, client, (connect.clean_start, expiry_seconds > 0)));
        if let Err(denied) = judged {
            self.refuse_denied(now, id, denied, out);
            return;
        }
        let welcome = Welcome {
            assigned_client_id: assigned.clone(),
            ..Welcome::new(connect, identity, authentication_data, &settings)
        };
        let bytes = connack_bytes(welcome.properties(&settings));
        if connect.properties.maximum_packet_size.is_some_and(|max| bytes > max as usize) {
            self.refuse(now, id, ReasonCode::PACKET_TOO_LARGE, out); // [MQTT-3.1.2-24]
            return;
        }
        let publisher = Publisher { client_hash: hash_client(client) };
        let connection = self.connections.get_mut(id).expect("is being admitted");
        connection.set_settings(settings);
        connection.tenant = tenant;
        connection.publisher = publisher;
        connection.grant = Some(grant);
        set_limits(connection, connect);
        let name = Arc::clone(&self.tenants.get(tenant).name);
        let will = connect.will.map(|will| Box::new(make_will(&will, Arc::clone(&name), publisher)));
        if let Some(slot) = self.log_to_ask(&name, client, expiry_seconds) {
            self.propose_attach(now, id, slot, connect, (tenant, client), will, welcome, out);
        } else {
            let slot = self.attach_volatile(now, id, (&name, client), will, out);
            self.settle_in(now, id, slot, false, &welcome, out);
        }
    }

    /// Gives the connection a session that ends with it.
    pub(super) fn attach_volatile(
        &mut self,
        now: Now,
        id: ConnectionId,
        (tenant, client): (&Arc<str>, &str),
        will: Option<Box<Will>>,
        out: &mut Outputs,
    ) -> SessionSlot {
        let incarnation = self.new_incarnation();
        let mut effects = std::mem::take(&mut self.effects);
        let attach = Attach { tenant, client, connection: id, will, incarnation };
        let slot = self.sessions.attach(attach, now.wall, &mut effects);
        self.settle(now, effects, out);
        slot
    }

    /// The connection has its session: the client is greeted, and gets what waits for it.
    pub(super) fn settle_in(
        &mut self,
        now: Now,
        id: ConnectionId,
        slot: SessionSlot,
        session_present: bool,
        welcome: &Welcome,
        out: &mut Outputs,
    ) {
        let (waits, heard) = (self.has_next(slot), self.reading_time(now));
        let connection = self.connections.get_mut(id).expect("is being admitted");
        connection.phase = Phase::Online;
        connection.session = slot;
        connection.recheck = waits;
        self.sessions.at(slot).grant.clone_from(&connection.grant);
        let tenant = connection.tenant;
        connection.start_pace(now, self.tenants.get(tenant).wanted.inbound);
        self.wheel.cancel(connection.timer);
        connection.last_received = heard;
        let properties = welcome.properties(connection.settings());
        let connack = ConnAck { session_present, reason: ReasonCode::SUCCESS, properties };
        let mut bytes = Vec::new();
        encode::connack(&mut bytes, connection.version, &connack);
        let event = Event::Greeted { version: connection.version, session_present };
        self.arm_keep_alive(now, id);
        self.arm_resend(now, id);
        self.set_expiry(now, id, welcome.expires);
        self.enter_total(tenant, Total::Connections, 1);
        if self.sessions.get(slot).stored.is_some() && !session_present {
            self.enter_total(tenant, Total::PersistentSessions, 1);
        }
        self.counters.clients_greeted += 1;
        out.greeted.push(id);
        self.write(id, out, |tail, _| tail.extend_from_slice(&bytes));
        self.notice(id, event, out);
        if !session_present {
            self.notice(id, Event::SessionStarted, out);
        }
        self.pump(now, id, out);
        self.pump_retained(now, id, out);
    }

    /// Whether a client is kept out, or is from now on because it comes too often.
    fn check_bans(
        &mut self,
        now: Now,
        client: &str,
        (tenant, identity): (TenantIndex, &Identity),
        settings: &Settings,
    ) -> Result<(), Denied> {
        if self.bans.has_client(now.wall, &identity.tenant, client, &identity.user) {
            self.counters.clients_banned += 1;
            return Err(ReasonCode::BANNED.into());
        }
        let Settings { flapping_connects_max, flapping_window_seconds, flapping_ban_seconds, .. } = *settings;
        let window = Duration::from_secs(u64::from(flapping_window_seconds));
        let who = (tenant.0, hash_client(client));
        if flapping_connects_max == 0 || !self.flaps.count(now.monotonic, who, flapping_connects_max, window)
        {
            return Ok(());
        }
        let target = Target::Client { tenant: Some(Arc::clone(&identity.tenant)), client: client.into() };
        let until = Some(now.wall.after_seconds(flapping_ban_seconds));
        let ban = Ban { target, until, reason: Limit::FlappingConnects.name().into() };
        self.on_ban(now, ban.clone());
        self.flapping.push(ban);
        Err(Denied::by(Limit::FlappingConnects, ReasonCode::BANNED))
    }

    /// What the tenant's settings and the client's permissions say about a CONNECT.
    fn check_admission(
        &self,
        connect: &Connect<'_>,
        grant: &Grant,
        settings: &Settings,
    ) -> Result<(), Denied> {
        if self.stopping.is_some() {
            return Err(ReasonCode::SERVER_UNAVAILABLE.into()); // 0x8B is for DISCONNECT alone
        }
        let (offered, limit) = match connect.version {
            Version::V31 => (settings.mqtt_31, Limit::Mqtt31),
            Version::V311 => (settings.mqtt_311, Limit::Mqtt311),
            Version::V5 => (settings.mqtt_5, Limit::Mqtt5),
        };
        if !offered {
            return Err(Denied::by(limit, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION)); // [MQTT-3.1.2-2]
        }
        let Some(will) = &connect.will else { return Ok(()) };
        if will.qos > settings.qos_max {
            return Err(Denied::by(Limit::Qos, ReasonCode::QOS_NOT_SUPPORTED)); // [MQTT-3.2.2-12]
        }
        if will.retain && !settings.retain {
            return Err(Denied::by(Limit::Retain, ReasonCode::RETAIN_NOT_SUPPORTED)); // [MQTT-3.2.2-13]
        }
        if will.payload.len() > settings.will_bytes_max as usize {
            return Err(Denied::by(Limit::WillBytes, ReasonCode::QUOTA_EXCEEDED));
        }
        if let Some(limit) = topic_limit(will.topic, settings) {
            return Err(Denied::by(limit, ReasonCode::TOPIC_NAME_INVALID));
        }
        if is_ours(will.topic) || !grant.may_publish(will.topic) {
            return Err(ReasonCode::NOT_AUTHORIZED.into());
        }
        if settings.payload_format_check
            && will.properties.payload_format_utf8
            && std::str::from_utf8(will.payload).is_err()
        {
            return Err(ReasonCode::PAYLOAD_FORMAT_INVALID.into());
        }
        Ok(())
    }

    /// A client id that nobody has, of a client that is at home here.
    fn assign_client_id(&mut self, tenant: &str) -> String {
        loop {
            let client = format!("hermod-{:016x}", self.random.next());
            if self.config.core_of(inbox_key(tenant, &client)) == self.id {
                return client;
            }
        }
    }
}

/// What a client is greeted with, when it has its session.
pub(super) struct Welcome {
    /// Seconds that the session outlives the connection.
    pub expiry_seconds: u32,
    /// When what the client has shown runs out.
    expires: Option<Wall>,
    /// The rest is in CONNACK.
    session_expiry: Option<u32>,
    assigned_client_id: Option<String>,
    response_information: Option<Arc<str>>,
    authentication_method: Option<Box<str>>,
    authentication_data: Option<Box<[u8]>>,
    server_keep_alive: Option<u16>,
}

impl Welcome {
    fn new(
        connect: &Connect<'_>,
        identity: &Identity,
        authentication_data: Option<&[u8]>,
        settings: &Settings,
    ) -> Welcome {
        let expiry_seconds = session_expiry(connect, settings);
        let asked = &connect.properties;
        let response_information = identity.response_information.clone();
        Welcome {
            expiry_seconds,
            expires: identity.expires,
            session_expiry: (expiry_seconds != asked.session_expiry).then_some(expiry_seconds),
            assigned_client_id: None,
            response_information: response_information.filter(|_| asked.request_response_information),
            authentication_method: asked.authentication_method.map(Box::from),
            authentication_data: authentication_data.map(Box::from),
            server_keep_alive: announced_keep_alive(connect, settings),
        }
    }

    fn properties<'a>(&'a self, settings: &Settings) -> ConnAckProperties<'a> {
        ConnAckProperties {
            session_expiry: self.session_expiry,
            assigned_client_id: self.assigned_client_id.as_deref(),
            response_information: self.response_information.as_deref(),
            authentication_method: self.authentication_method.as_deref(),
            authentication_data: self.authentication_data.as_deref(),
            server_keep_alive: self.server_keep_alive,
            ..announced(settings)
        }
    }
}

fn session_expiry(connect: &Connect<'_>, settings: &Settings) -> u32 {
    let wanted = match connect.version {
        Version::V5 => connect.properties.session_expiry,
        Version::V31 | Version::V311 if connect.clean_start => 0,
        Version::V31 | Version::V311 => FOR_EVER,
    };
    granted_expiry(wanted, settings)
}

/// The session expiry that a client gets for the one that it wants. One that ends with its connection may.
pub(super) fn granted_expiry(wanted: u32, settings: &Settings) -> u32 {
    let least = if wanted == 0 { 0 } else { settings.session_expiry_seconds_min };
    wanted.max(least).min(settings.session_expiry_seconds_max)
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
            payload: Payload::copy_of(will.payload),
            expires: None,
            qos: will.qos,
            retain: will.retain,
            origin: None,
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
fn set_limits(connection: &mut Connection, connect: &Connect<'_>) {
    let properties = &connect.properties;
    // Its absence means 65 535, which permits less.
    connection.outbound_inflight_max = match properties.receive_maximum {
        u16::MAX => connection.settings().inflight_max,
        named => named,
    };
    let aliases = properties.topic_alias_maximum.min(connection.settings().topic_alias_outbound_max);
    if aliases > 0 {
        connection.extras().outbound_aliases = OutboundAliases::new(aliases);
    }
    if let Some(method) = properties.authentication_method {
        connection.extras().authentication_method = Some(method.into());
    }
    let keep_alive = expected_keep_alive(connect, connection.settings());
    connection.keep_alive_ms = u32::from(keep_alive) * 1500;
}

/// The keep alive that replaces the client's, if it asks for one outside the range of the settings. A 3.x client
/// cannot be told.
fn announced_keep_alive(connect: &Connect<'_>, settings: &Settings) -> Option<u16> {
    let (min, max) = (settings.keep_alive_seconds_min, settings.keep_alive_seconds_max);
    let wanted = connect.keep_alive;
    let granted = match wanted {
        0 => max,
        wanted if max > 0 => wanted.max(min).min(max),
        wanted => wanted.max(min),
    };
    (granted != wanted && connect.version == Version::V5).then_some(granted)
}

/// The seconds of silence that we expect of a client; 0: any. A 3.x client keeps its own time, but is given as
/// much as one that could be told of the minimum.
fn expected_keep_alive(connect: &Connect<'_>, settings: &Settings) -> u16 {
    match (announced_keep_alive(connect, settings), connect.keep_alive) {
        (Some(announced), _) => announced,
        (None, 0) => 0,
        (None, own) => own.max(settings.keep_alive_seconds_min),
    }
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
pub(super) const PACKET_BYTES_PROTOCOL: u32 = mqtt::REMAINING_LENGTH_MAX + 5;

/// The tenant's limit of length and depth that a topic or filter goes beyond.
pub(super) fn topic_limit(topic: &str, settings: &Settings) -> Option<Limit> {
    let Settings { topic_bytes_max, topic_levels_max, topic_level_bytes_max, .. } = *settings;
    if topic.len() > usize::from(topic_bytes_max) {
        return Some(Limit::TopicBytes);
    }
    let slashes = || topic.bytes().filter(|byte| *byte == b'/').count();
    if topic_levels_max < u16::MAX && slashes() >= usize::from(topic_levels_max) {
        return Some(Limit::TopicLevels);
    }
    let long = |level: &[u8]| level.len() > usize::from(topic_level_bytes_max);
    let is_long = topic_level_bytes_max < u16::MAX && topic.as_bytes().split(|byte| *byte == b'/').any(long);
    is_long.then_some(Limit::TopicLevelBytes)
}
