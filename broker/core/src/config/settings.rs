//! What a tenant's clients may have and do.

use super::key::{self as config_key, Field, Key, Value};
use crate::notice::{Kind, Level};

/// What a tenant's clients may have and do.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether clients may speak 3.1.
    pub mqtt_31: bool,
    /// Whether clients may speak 3.1.1.
    pub mqtt_311: bool,
    /// Whether clients may speak 5.0.
    pub mqtt_5: bool,
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
    /// Bytes of one level of a topic or filter.
    pub topic_level_bytes_max: u16,
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
    /// Messages queued for a member of a group beyond which others are preferred; eight times that in the queues of all,
    /// and publishers are slowed.
    pub shared_queue_max: u32,
    /// The shortest keep alive, seconds, but for none at all: a 5.0 client that asks for less is told this one.
    pub keep_alive_seconds_min: u16,
    /// The longest keep alive, seconds, 0: any. A client that asks for more or none is told this one.
    pub keep_alive_seconds_max: u16,
    /// The shortest session expiry, seconds, of a session that outlives its connection.
    pub session_expiry_seconds_min: u32,
    /// The longest session expiry, seconds; 4 294 967 295: for ever.
    pub session_expiry_seconds_max: u32,
    /// What an acknowledgement to a publisher waits for.
    pub ack: Ack,
    /// Messages in a session's queue, those in flight included.
    pub queue_messages_max: u32,
    /// Bytes in a session's queue; a message that is larger finds room alone.
    pub queue_bytes_max: u64,
    /// Which message a full queue gives up.
    pub queue_drop: QueueDrop,
    /// Whether QoS 0 messages are queued for sessions that are away, as subscribers and as members of groups.
    pub queue_qos0: bool,
    /// Bytes unsent towards a client beyond which QoS 0 messages to it are dropped, and the rest waits in
    /// its queue. At twice as many, acknowledgements that it does not read, it is not read either.
    pub send_bytes_max: u32,
    /// Filters in one SUBSCRIBE or UNSUBSCRIBE.
    pub subscribe_filters_max: u16,
    /// PUBLISH packets of a connection in a second, and a second's worth at once; 0: any number. A client that is
    /// faster is read later.
    pub publishes_per_second_max: u32,
    /// The same for the bytes of all its packets.
    pub inbound_bytes_per_second_max: u32,
    /// Bytes sent to a client in a second, and a second's worth at once; 0: any number. What is more waits among its
    /// unsent bytes, and then in its session's queue.
    pub outbound_bytes_per_second_max: u32,
    /// Subscriptions of one session.
    pub subscriptions_max: u32,
    /// Retained messages sent for one filter of a SUBSCRIBE; the rest is left out.
    pub retained_matches_max: u32,
    /// Retained messages of the tenant on one core.
    pub retained_messages_max: u32,
    /// Members of one shared subscription.
    pub shared_members_max: u32,
    /// Shared subscriptions that one message is for.
    pub group_fan_out_max: u32,
    /// Sessions that outlive their connections that one message is for.
    pub persistent_fan_out_max: u32,
    /// Bytes of one message, as often as it is for such sessions.
    pub persistent_fan_out_bytes_max: u64,
    /// Seconds without progress after which a 3.x client is sent again what it has not acknowledged; 0: never.
    pub resend_seconds: u16,
    /// How often in a row.
    pub resend_times_max: u16,
    /// Clients that are online, of the whole tenant on this node.
    pub total_connections_max: u64,
    /// Bytes that wait for sessions that end with their connections, of the whole tenant on this node.
    pub total_session_bytes_max: u64,
    /// Sessions that outlive their connections, of the whole tenant on this node.
    pub total_persistent_sessions_max: u64,
    /// Bytes that wait for those, of the whole tenant on this node.
    pub total_persistent_bytes_max: u64,
    /// Memberships in shared subscriptions, of the whole tenant on this node.
    pub total_shared_subscriptions_max: u64,
    /// Other subscriptions of sessions that end with their connections, of the whole tenant on this node.
    pub total_transient_subscriptions_max: u64,
    /// Other subscriptions of sessions that outlive them, of the whole tenant on this node.
    pub total_persistent_subscriptions_max: u64,
    /// Retained messages, of the whole tenant on this node.
    pub total_retained_topics_max: u64,
    /// Bytes of retained messages, of the whole tenant on this node.
    pub total_retained_bytes_max: u64,
    /// CONNECTs in a second, of the whole tenant on this node; 0: any number.
    pub total_connects_per_second_max: u64,
    /// Filters subscribed to in a second by sessions that end with their connections, of the whole tenant on this node; 0: any number.
    pub total_transient_subscribes_per_second_max: u64,
    /// The same by sessions that outlive them, of the whole tenant on this node; 0: any number.
    pub total_persistent_subscribes_per_second_max: u64,
    /// Filters unsubscribed from in a second by sessions that end with their connections, of the whole tenant on this node; 0: any number.
    pub total_transient_unsubscribes_per_second_max: u64,
    /// The same by sessions that outlive them, of the whole tenant on this node; 0: any number.
    pub total_persistent_unsubscribes_per_second_max: u64,
    /// Bytes from clients in a second, of the whole tenant on this node; 0: any number.
    pub total_inbound_bytes_per_second_max: u64,
    /// Bytes in a second for sessions that end with their connections, of the whole tenant on this node; 0: any number.
    pub total_transient_fan_out_bytes_per_second_max: u64,
    /// Bytes in a second for sessions that outlive them, of the whole tenant on this node; 0: any number.
    pub total_persistent_fan_out_bytes_per_second_max: u64,
    /// Retained messages that change in a second, of the whole tenant on this node; 0: any number.
    pub total_retains_per_second_max: u64,
    /// Their bytes, of the whole tenant on this node; 0: any number.
    pub total_retained_bytes_per_second_max: u64,
    /// Retained messages sent to new subscriptions in a second, of the whole tenant on this node; 0: any number.
    pub total_retain_matches_per_second_max: u64,
    /// Their bytes, of the whole tenant on this node; 0: any number.
    pub total_retain_match_bytes_per_second_max: u64,
    /// CONNECTs of one client within [`Settings::flapping_window_seconds`] beyond which it is kept out; 0: any number.
    pub flapping_connects_max: u32,
    /// How long CONNECTs are counted.
    pub flapping_window_seconds: u32,
    /// How long a client is kept out that comes too often.
    pub flapping_ban_seconds: u32,
    /// Bytes of a will's payload.
    pub will_bytes_max: u32,
    /// Whether a payload marked as UTF-8 is checked (0x99).
    pub payload_format_check: bool,
    /// Whether wills of connections that a stop of the node closes are published. BifroMQ: no.
    pub stop_publishes_wills: bool,
    /// Which events the tenant has: [`Level::Debug`] has those of single messages and requests, too.
    pub events: Level,
    /// Where they go.
    pub events_sinks: Sinks,
    /// The only types there are of them; empty: all.
    pub events_types: Types,
}

/// Where a tenant's events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sinks {
    /// Into the node's file, if it has one.
    pub file: bool,
    /// To the node's webhook, if it has one.
    pub webhook: bool,
    /// To the tenant's own subscribers, below `$SYS/events/`.
    pub topics: bool,
}

/// Types of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types(Vec<&'static str>);

impl Types {
    /// Whether a type is one of them.
    #[must_use]
    pub fn have(&self, kind: Kind) -> bool {
        self.0.is_empty() || self.0.contains(&kind.name)
    }
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

/// What a PUBACK or PUBREC waits for, where persistent sessions or a retained message take the publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// It is on the disks of a majority of each range's replicas; of the only one, on a single node.
    Quorum,
    /// It is on the disk of the node that leads the range. The same as `Quorum` on a single node.
    Leader,
    /// Nothing: what is acknowledged may be lost with the process.
    Memory,
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
            mqtt_31: true,
            mqtt_311: true,
            mqtt_5: true,
            packet_bytes_max: 268_435_460,
            qos_max: mqtt::QoS::ExactlyOnce,
            receive_maximum: 1024,
            inflight_max: 4096,
            topic_alias_max: 64,
            topic_alias_outbound_max: 64,
            topic_bytes_max: u16::MAX,
            topic_levels_max: u16::MAX,
            topic_level_bytes_max: u16::MAX,
            retain: true,
            wildcard_subscriptions: true,
            subscription_identifiers: true,
            shared_subscriptions: true,
            shared_strategy: SharedStrategy::RoundRobin,
            shared_queue_max: 1000,
            keep_alive_seconds_min: 0,
            keep_alive_seconds_max: 0,
            session_expiry_seconds_min: 0,
            session_expiry_seconds_max: u32::MAX,
            queue_messages_max: 100_000,
            queue_bytes_max: 64 * 1024 * 1024,
            ack: Ack::Quorum,
            queue_drop: QueueDrop::Newest,
            queue_qos0: false,
            send_bytes_max: 4 * 1024 * 1024,
            subscribe_filters_max: 8192,
            publishes_per_second_max: 0,
            inbound_bytes_per_second_max: 0,
            outbound_bytes_per_second_max: 0,
            subscriptions_max: 1_000_000,
            retained_matches_max: u32::MAX,
            retained_messages_max: 10_000_000,
            shared_members_max: u32::MAX,
            group_fan_out_max: u32::MAX,
            persistent_fan_out_max: u32::MAX,
            persistent_fan_out_bytes_max: u64::MAX >> 1,
            resend_seconds: 0,
            resend_times_max: 3,
            total_connections_max: u64::MAX >> 1,
            total_session_bytes_max: u64::MAX >> 1,
            total_persistent_sessions_max: u64::MAX >> 1,
            total_persistent_bytes_max: u64::MAX >> 1,
            total_shared_subscriptions_max: u64::MAX >> 1,
            total_transient_subscriptions_max: u64::MAX >> 1,
            total_persistent_subscriptions_max: u64::MAX >> 1,
            total_retained_topics_max: u64::MAX >> 1,
            total_retained_bytes_max: u64::MAX >> 1,
            total_connects_per_second_max: 0,
            total_transient_subscribes_per_second_max: 0,
            total_persistent_subscribes_per_second_max: 0,
            total_transient_unsubscribes_per_second_max: 0,
            total_persistent_unsubscribes_per_second_max: 0,
            total_inbound_bytes_per_second_max: 0,
            total_transient_fan_out_bytes_per_second_max: 0,
            total_persistent_fan_out_bytes_per_second_max: 0,
            total_retains_per_second_max: 0,
            total_retained_bytes_per_second_max: 0,
            total_retain_matches_per_second_max: 0,
            total_retain_match_bytes_per_second_max: 0,
            flapping_connects_max: 0,
            flapping_window_seconds: 60,
            flapping_ban_seconds: 300,
            will_bytes_max: 268_435_455,
            payload_format_check: true,
            stop_publishes_wills: false,
            events: Level::Normal,
            events_sinks: Sinks { file: true, webhook: true, topics: false },
            events_types: Types::default(),
        }
    }
}

impl Settings {
    /// All of them: sections `[tenants.default]` and `[tenants.NAME]`.
    pub const KEYS: &'static [Key<Settings>] = crate::keys!(Settings {
        mqtt_31,
        mqtt_311,
        mqtt_5,
        packet_bytes_max in 128..=268_435_460,
        qos_max,
        receive_maximum in 1..=65_535,
        inflight_max in 1..=65_535,
        topic_alias_max,
        topic_alias_outbound_max,
        topic_bytes_max in 1..=65_535,
        topic_levels_max in 1..=65_535,
        topic_level_bytes_max in 1..=65_535,
        retain,
        wildcard_subscriptions,
        subscription_identifiers,
        shared_subscriptions,
        shared_strategy,
        shared_queue_max,
        keep_alive_seconds_min,
        keep_alive_seconds_max,
        session_expiry_seconds_min,
        session_expiry_seconds_max,
        ack,
        queue_messages_max in 1..=4_294_967_295,
        queue_bytes_max in 1..=9_223_372_036_854_775_807,
        queue_drop,
        queue_qos0,
        send_bytes_max in 4096..=4_294_967_295,
        subscribe_filters_max in 1..=8192,
        publishes_per_second_max,
        inbound_bytes_per_second_max,
        outbound_bytes_per_second_max,
        subscriptions_max,
        retained_matches_max,
        retained_messages_max,
        shared_members_max in 1..=4_294_967_295,
        group_fan_out_max,
        persistent_fan_out_max,
        persistent_fan_out_bytes_max,
        resend_seconds,
        resend_times_max,
        total_connections_max,
        total_session_bytes_max,
        total_persistent_sessions_max,
        total_persistent_bytes_max,
        total_shared_subscriptions_max,
        total_transient_subscriptions_max,
        total_persistent_subscriptions_max,
        total_retained_topics_max,
        total_retained_bytes_max,
        total_connects_per_second_max,
        total_transient_subscribes_per_second_max,
        total_persistent_subscribes_per_second_max,
        total_transient_unsubscribes_per_second_max,
        total_persistent_unsubscribes_per_second_max,
        total_inbound_bytes_per_second_max,
        total_transient_fan_out_bytes_per_second_max,
        total_persistent_fan_out_bytes_per_second_max,
        total_retains_per_second_max,
        total_retained_bytes_per_second_max,
        total_retain_matches_per_second_max,
        total_retain_match_bytes_per_second_max,
        flapping_connects_max,
        flapping_window_seconds in 1..=86_400,
        flapping_ban_seconds in 1..=4_294_967_295,
        will_bytes_max,
        payload_format_check,
        stop_publishes_wills,
        events,
        events_sinks,
        events_types,
    } beside {});

    /// The first setting that contradicts another, with what it would have to be.
    pub(super) fn contradiction(&self) -> Option<(&'static str, config_key::Kind)> {
        if self.keep_alive_seconds_max > 0 && self.keep_alive_seconds_min > self.keep_alive_seconds_max {
            return Some((
                "keep_alive_seconds_min",
                config_key::Kind::Text("at most keep_alive_seconds_max"),
            ));
        }
        if self.session_expiry_seconds_min > self.session_expiry_seconds_max {
            return Some((
                "session_expiry_seconds_min",
                config_key::Kind::Text("at most session_expiry_seconds_max"),
            ));
        }
        None
    }

    /// Those that are of a tenant's sessions and messages, not of one connection: they take effect at once when
    /// the configuration is loaded again, and are the same whatever listener a client comes through.
    pub const OF_TENANT: &'static [&'static str] = &[
        "shared_strategy",
        "ack",
        "queue_messages_max",
        "queue_bytes_max",
        "queue_drop",
        "queue_qos0",
        "retained_messages_max",
        "stop_publishes_wills",
        "events",
        "events_sinks",
        "events_types",
        "shared_members_max",
        "group_fan_out_max",
        "persistent_fan_out_max",
        "persistent_fan_out_bytes_max",
        "total_connections_max",
        "total_session_bytes_max",
        "total_persistent_sessions_max",
        "total_persistent_bytes_max",
        "total_shared_subscriptions_max",
        "total_transient_subscriptions_max",
        "total_persistent_subscriptions_max",
        "total_retained_topics_max",
        "total_retained_bytes_max",
        "total_connects_per_second_max",
        "total_transient_subscribes_per_second_max",
        "total_persistent_subscribes_per_second_max",
        "total_transient_unsubscribes_per_second_max",
        "total_persistent_unsubscribes_per_second_max",
        "total_inbound_bytes_per_second_max",
        "total_transient_fan_out_bytes_per_second_max",
        "total_persistent_fan_out_bytes_per_second_max",
        "total_retains_per_second_max",
        "total_retained_bytes_per_second_max",
        "total_retain_matches_per_second_max",
        "total_retain_match_bytes_per_second_max",
    ];

    /// Whether a setting is among [`Settings::OF_TENANT`].
    #[must_use]
    pub fn is_of_tenant(name: &str) -> bool {
        Settings::OF_TENANT.contains(&name)
    }
}

impl Field for mqtt::QoS {
    const KIND: config_key::Kind = config_key::Kind::Number { min: 0, max: 2 };

    fn read(value: &Value) -> Option<mqtt::QoS> {
        match value {
            Value::Number(0) => Some(mqtt::QoS::AtMostOnce),
            Value::Number(1) => Some(mqtt::QoS::AtLeastOnce),
            Value::Number(2) => Some(mqtt::QoS::ExactlyOnce),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Number(i64::from(self.bits()))
    }
}

/// A type of a few words, each standing for one value.
macro_rules! word_field {
    ($type:ty { $($word:literal: $value:path),+ $(,)? }) => {
        impl Field for $type {
            const KIND: config_key::Kind = config_key::Kind::Word(&[$($word),+]);

            fn read(value: &Value) -> Option<$type> {
                match value {
                    Value::Text(word) => match word.as_str() {
                        $($word => Some($value),)+
                        _ => None,
                    },
                    _ => None,
                }
            }

            fn write(&self) -> Value {
                Value::Text(match self {
                    $($value => $word,)+
                }.to_owned())
            }
        }
    };
}

word_field!(SharedStrategy {
    "round_robin": SharedStrategy::RoundRobin,
    "random": SharedStrategy::Random,
    "sticky": SharedStrategy::Sticky,
    "hash_client": SharedStrategy::HashClient,
    "hash_topic": SharedStrategy::HashTopic,
    "least_inflight": SharedStrategy::LeastInflight,
});

word_field!(Level { "none": Level::None, "normal": Level::Normal, "debug": Level::Debug });

/// The words of a list that is separated by commas.
fn words(value: &Value) -> Option<impl Iterator<Item = &str>> {
    let Value::Text(text) = value else { return None };
    Some(text.split(',').map(str::trim).filter(|word| !word.is_empty()))
}

impl Field for Sinks {
    const KIND: config_key::Kind =
        config_key::Kind::Text("some of \"file, webhook, topics\", or \"\" for none");

    fn read(value: &Value) -> Option<Sinks> {
        let mut sinks = Sinks { file: false, webhook: false, topics: false };
        for word in words(value)? {
            match word {
                "file" => sinks.file = true,
                "webhook" => sinks.webhook = true,
                "topics" => sinks.topics = true,
                _ => return None,
            }
        }
        Some(sinks)
    }

    fn write(&self) -> Value {
        let all = [("file", self.file), ("webhook", self.webhook), ("topics", self.topics)];
        let words: Vec<_> = all.into_iter().filter(|(_, is)| *is).map(|(word, _)| word).collect();
        Value::Text(words.join(", "))
    }
}

impl Field for Types {
    const KIND: config_key::Kind =
        config_key::Kind::Text("types of events as in \"KICKED, BY_CLIENT\", or \"\" for all");

    fn read(value: &Value) -> Option<Types> {
        let known = |word| Kind::ALL.iter().find(|kind| kind.name == word).map(|kind| kind.name);
        words(value)?.map(known).collect::<Option<_>>().map(Types)
    }

    fn write(&self) -> Value {
        Value::Text(self.0.join(", "))
    }
}

word_field!(Ack { "quorum": Ack::Quorum, "leader": Ack::Leader, "memory": Ack::Memory });

word_field!(QueueDrop { "newest": QueueDrop::Newest, "oldest": QueueDrop::Oldest });
