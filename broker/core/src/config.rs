//! The configuration tree: plain values, checked once at start, the same on all cores of a node.
//!
//! Every limit of the broker is here. A counter or log line that reports a limit names it as it is
//! spelled here ([`Settings`] fields are `tenant.<name>`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// All of a node's configuration that its cores need.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How many cores the node has; every core gets the same number.
    pub cores: u16,
    /// How clients prove who they are.
    pub authentication: Authentication,
    /// The tenant of clients whose authentication names none.
    pub default_tenant: Arc<str>,
    /// Settings of tenants that have none of their own.
    pub settings: Arc<Settings>,
    /// Settings by tenant.
    pub tenants: BTreeMap<String, Arc<Settings>>,
    /// Time from accept to a complete CONNECT, milliseconds. BifroMQ has 20 s.
    pub connect_timeout_ms: u32,
    /// The largest CONNECT packet, bytes: all that an unauthenticated client can make us keep.
    pub connect_bytes_max: u32,
    /// The most properties, user properties included, in one packet.
    pub packet_properties_max: u16,
    /// How long a closed connection may take to read its last packet, milliseconds.
    pub close_linger_ms: u32,
    /// Connections per core; beyond, sockets are closed on accept.
    pub connections_max: u32,
    /// Topics in a core's match cache.
    pub match_cache_topics_max: u32,
    /// Bytes of unprocessed data in one direction between two cores beyond which the sender stops reading
    /// its clients.
    pub mailbox_bytes_max: u32,
    /// Deliveries in one turn after which the rest of the input waits for the next.
    pub turn_deliveries_max: u32,
    /// Clients told of a stop per second and core (DISCONNECT 0x8B); BifroMQ has 1 000 per node.
    pub stop_disconnects_per_second: u32,
    /// Whether connections' comings and goings are told to the host, to be logged.
    pub notices: bool,
    /// Whether wills of connections that the stop closes are published. BifroMQ: no.
    pub stop_publishes_wills: bool,
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// They need not: everybody is let into the default tenant with all permissions.
    Open,
    /// The host is asked ([`crate::access::Question`]).
    Ask,
}

/// What a tenant's clients may have and do.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Packets larger than this are refused with 0x95 and announced as Maximum Packet Size; the protocol's
    /// own limit is 268 435 460 bytes.
    pub packet_bytes_max: u32,
    /// The highest QoS for publishing, announced as Maximum QoS.
    pub qos_max: mqtt::QoS,
    /// Unacknowledged QoS 1 and 2 messages that we take from a client: announced as Receive Maximum.
    pub receive_maximum: u16,
    /// Unacknowledged QoS 1 and 2 messages that we send to a client that names no Receive Maximum.
    pub inflight_max: u16,
    /// Topic aliases that a client may set, announced as Topic Alias Maximum.
    pub topic_alias_max: u16,
    /// Topic aliases that we set towards a client that allows them.
    pub topic_alias_outbound_max: u16,
    /// Bytes of a topic or filter; the protocol's limit is 65 535.
    pub topic_bytes_max: u16,
    /// Levels of a topic or filter.
    pub topic_levels_max: u16,
    /// Retained messages offered at all?
    pub retain: bool,
    /// Wildcards in filters offered?
    pub wildcard_subscriptions: bool,
    /// Subscription identifiers offered?
    pub subscription_identifiers: bool,
    /// Shared subscriptions offered?
    pub shared_subscriptions: bool,
    /// How a shared subscription picks the member for a message.
    pub shared_strategy: SharedStrategy,
    /// Messages queued for a member of a group beyond which others are preferred.
    pub shared_queue_max: u32,
    /// The longest keep alive, seconds, 0: any. A client that asks for more or none is told this one.
    pub keep_alive_seconds_max: u16,
    /// The longest session expiry, seconds; 4 294 967 295: for ever.
    pub session_expiry_seconds_max: u32,
    /// Messages in a session's queue, those in flight included.
    pub queue_messages_max: u32,
    /// Bytes in a session's queue.
    pub queue_bytes_max: u64,
    /// Which message a full queue gives up.
    pub queue_drop: QueueDrop,
    /// Whether QoS 0 messages are queued for sessions that are away, as subscribers and as members of groups.
    pub queue_qos0: bool,
    /// Bytes unsent towards a client beyond which QoS 0 messages to it are dropped, and the rest waits in
    /// its queue. At twice as many, acknowledgements that it does not read, it is not read either.
    pub send_bytes_max: u32,
    /// Subscriptions of one session.
    pub subscriptions_max: u32,
    /// Retained messages of the tenant on one core.
    pub retained_messages_max: u32,
    /// Bytes of a will's payload.
    pub will_bytes_max: u32,
    /// Whether a payload marked as UTF-8 is checked (0x99).
    pub payload_format_check: bool,
}

/// How a shared subscription picks the member for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedStrategy {
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// A publisher's messages to the member that had its first, until that member leaves.
    Sticky,
    /// By the publisher's client id.
    HashClient,
    /// By topic.
    HashTopic,
    /// To the member with the fewest messages in its queue, those in flight included, wherever it is and
    /// wherever they come from; equal ones take turns. A member on another core tells its number once a turn.
    LeastInflight,
}

/// Which message a full queue gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueDrop {
    /// The one that comes: what was accepted stays.
    Newest,
    /// The one that has waited longest.
    Oldest,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            packet_bytes_max: 268_435_460,
            qos_max: mqtt::QoS::ExactlyOnce,
            receive_maximum: 1024,
            inflight_max: 1024,
            topic_alias_max: 64,
            topic_alias_outbound_max: 64,
            topic_bytes_max: u16::MAX,
            topic_levels_max: u16::MAX,
            retain: true,
            wildcard_subscriptions: true,
            subscription_identifiers: true,
            shared_subscriptions: true,
            shared_strategy: SharedStrategy::RoundRobin,
            shared_queue_max: 1000,
            keep_alive_seconds_max: 0,
            session_expiry_seconds_max: u32::MAX,
            queue_messages_max: 100_000,
            queue_bytes_max: 64 * 1024 * 1024,
            queue_drop: QueueDrop::Newest,
            queue_qos0: false,
            send_bytes_max: 4 * 1024 * 1024,
            subscriptions_max: 1_000_000,
            retained_messages_max: 10_000_000,
            will_bytes_max: 268_435_455,
            payload_format_check: true,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            cores: 1,
            authentication: Authentication::Open,
            default_tenant: Arc::from("default"),
            settings: Arc::new(Settings::default()),
            tenants: BTreeMap::new(),
            connect_timeout_ms: 20_000,
            connect_bytes_max: 1024 * 1024,
            packet_properties_max: 1024,
            close_linger_ms: 2_000,
            connections_max: 1_000_000,
            match_cache_topics_max: 200_000,
            mailbox_bytes_max: 16 * 1024 * 1024,
            turn_deliveries_max: 16_384,
            stop_disconnects_per_second: 10_000,
            notices: false,
            stop_publishes_wills: false,
        }
    }
}

/// A configuration that cannot be served: which setting, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting's name.
    pub setting: &'static str,
    /// What is wrong with its value.
    pub reason: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// The settings of a tenant.
    #[must_use]
    pub fn settings(&self, tenant: &str) -> Arc<Settings> {
        Arc::clone(self.tenants.get(tenant).unwrap_or(&self.settings))
    }

    /// Checks what no type can.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("cores", u64::from(self.cores)),
            ("connect_timeout_ms", u64::from(self.connect_timeout_ms)),
            ("connections_max", u64::from(self.connections_max)),
            ("turn_deliveries_max", u64::from(self.turn_deliveries_max)),
            ("stop_disconnects_per_second", u64::from(self.stop_disconnects_per_second)),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError { setting, reason: "must not be 0" });
        }
        if self.connect_bytes_max < 64 {
            return Err(ConfigError {
                setting: "connect_bytes_max",
                reason: "less than a CONNECT needs (64)",
            });
        }
        if self.default_tenant.is_empty() {
            return Err(ConfigError { setting: "default_tenant", reason: "must not be empty" });
        }
        std::iter::once(&self.settings).chain(self.tenants.values()).try_for_each(|settings| settings.check())
    }
}

impl Settings {
    fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("tenant.receive_maximum", u64::from(self.receive_maximum)),
            ("tenant.inflight_max", u64::from(self.inflight_max)),
            ("tenant.topic_bytes_max", u64::from(self.topic_bytes_max)),
            ("tenant.topic_levels_max", u64::from(self.topic_levels_max)),
            ("tenant.queue_messages_max", u64::from(self.queue_messages_max)),
            ("tenant.queue_bytes_max", self.queue_bytes_max),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError { setting, reason: "must not be 0" });
        }
        if !(128..=268_435_460).contains(&self.packet_bytes_max) {
            return Err(ConfigError { setting: "tenant.packet_bytes_max", reason: "128 to 268435460" });
        }
        if self.send_bytes_max < 4096 {
            return Err(ConfigError { setting: "tenant.send_bytes_max", reason: "at least 4096" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults are a configuration that can be served.
    #[test]
    fn defaults_are_valid() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    /// A limit of zero is refused by its name.
    #[test]
    fn refused_by_name() {
        let settings = Settings { inflight_max: 0, ..Settings::default() };
        let config = Config { settings: Arc::new(settings), ..Config::default() };
        assert_eq!(config.check().unwrap_err().to_string(), "tenant.inflight_max: must not be 0");
    }
}
