//! Settings that keep clients from something, or make them wait. What bites is counted under the setting's name, so that nobody has
//! to guess which of them it was.

macro_rules! limits {
    ($($(#[$doc:meta])* $limit:ident = $name:literal),+ $(,)?) => {
        /// A setting that can refuse a client something.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Limit {
            $($(#[$doc])* $limit,)+
        }

        impl Limit {
            /// All of them, in order.
            pub const ALL: &'static [Limit] = &[$(Limit::$limit),+];

            /// The setting's name: `tenant.` stands for a section of the tenants, no prefix for the limits.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Limit::$limit => $name,)+
                }
            }
        }
    };
}

limits! {
    /// A CONNECT was larger.
    ConnectBytes = "connect_bytes_max",
    /// Packets that had not come whole took up more.
    UnfinishedBytes = "unfinished_bytes_max",
    /// A packet had more properties.
    PacketProperties = "packet_properties_max",
    /// The client speaks 3.1.
    Mqtt31 = "tenant.mqtt_31",
    /// The client speaks 3.1.1.
    Mqtt311 = "tenant.mqtt_311",
    /// The client speaks 5.0.
    Mqtt5 = "tenant.mqtt_5",
    /// A packet was larger.
    PacketBytes = "tenant.packet_bytes_max",
    /// A publish or will had a higher QoS.
    Qos = "tenant.qos_max",
    /// The client sent more without waiting for acknowledgements.
    ReceiveMaximum = "tenant.receive_maximum",
    /// A topic alias was higher.
    TopicAlias = "tenant.topic_alias_max",
    /// A topic or filter was longer.
    TopicBytes = "tenant.topic_bytes_max",
    /// A topic or filter had more levels.
    TopicLevels = "tenant.topic_levels_max",
    /// A topic or filter had a longer level.
    TopicLevelBytes = "tenant.topic_level_bytes_max",
    /// A message was to be retained.
    Retain = "tenant.retain",
    /// A filter had wildcards.
    Wildcards = "tenant.wildcard_subscriptions",
    /// A subscription had an identifier.
    SubscriptionIdentifiers = "tenant.subscription_identifiers",
    /// A filter was of a shared subscription.
    SharedSubscriptions = "tenant.shared_subscriptions",
    /// A SUBSCRIBE or UNSUBSCRIBE had more filters.
    SubscribeFilters = "tenant.subscribe_filters_max",
    /// A session wanted more subscriptions.
    Subscriptions = "tenant.subscriptions_max",
    /// More retained messages matched a filter.
    RetainedMatches = "tenant.retained_matches_max",
    /// A client published faster, and was read later.
    PublishRate = "tenant.publishes_per_second_max",
    /// A client sent faster, and was read later.
    InboundRate = "tenant.inbound_bytes_per_second_max",
    /// More was to be sent to a client, and waited.
    OutboundRate = "tenant.outbound_bytes_per_second_max",
    /// Members of one shared subscription: there were more.
    SharedMembers = "tenant.shared_members_max",
    /// Shared subscriptions that one message is for: there were more.
    GroupFanOut = "tenant.group_fan_out_max",
    /// Sessions that outlive their connections that one message is for: there were more.
    PersistentFanOut = "tenant.persistent_fan_out_max",
    /// Bytes of one message, as often as it is for such sessions: there were more.
    PersistentFanOutBytes = "tenant.persistent_fan_out_bytes_max",
    /// Clients that are online: there were more.
    TotalConnections = "tenant.total_connections_max",
    /// Bytes that wait for sessions that end with their connections: there were more.
    TotalSessionBytes = "tenant.total_session_bytes_max",
    /// Sessions that outlive their connections: there were more.
    TotalPersistentSessions = "tenant.total_persistent_sessions_max",
    /// Bytes that wait for those: there were more.
    TotalPersistentBytes = "tenant.total_persistent_bytes_max",
    /// Memberships in shared subscriptions: there were more.
    TotalSharedSubscriptions = "tenant.total_shared_subscriptions_max",
    /// Other subscriptions of sessions that end with their connections: there were more.
    TotalTransientSubscriptions = "tenant.total_transient_subscriptions_max",
    /// Other subscriptions of sessions that outlive them: there were more.
    TotalPersistentSubscriptions = "tenant.total_persistent_subscriptions_max",
    /// Retained messages: there were more.
    TotalRetainedTopics = "tenant.total_retained_topics_max",
    /// Bytes of retained messages: there were more.
    TotalRetainedBytes = "tenant.total_retained_bytes_max",
    /// CONNECTs in a second: there were more.
    TotalConnects = "tenant.total_connects_per_second_max",
    /// Filters subscribed to in a second by sessions that end with their connections: there were more.
    TotalTransientSubscribes = "tenant.total_transient_subscribes_per_second_max",
    /// The same by sessions that outlive them: there were more.
    TotalPersistentSubscribes = "tenant.total_persistent_subscribes_per_second_max",
    /// Filters unsubscribed from in a second by sessions that end with their connections: there were more.
    TotalTransientUnsubscribes = "tenant.total_transient_unsubscribes_per_second_max",
    /// The same by sessions that outlive them: there were more.
    TotalPersistentUnsubscribes = "tenant.total_persistent_unsubscribes_per_second_max",
    /// Bytes from clients in a second: there were more.
    TotalInboundBytes = "tenant.total_inbound_bytes_per_second_max",
    /// Bytes in a second for sessions that end with their connections: there were more.
    TotalTransientFanOutBytes = "tenant.total_transient_fan_out_bytes_per_second_max",
    /// Bytes in a second for sessions that outlive them: there were more.
    TotalPersistentFanOutBytes = "tenant.total_persistent_fan_out_bytes_per_second_max",
    /// Retained messages that change in a second: there were more.
    TotalRetains = "tenant.total_retains_per_second_max",
    /// Their bytes: there were more.
    TotalRetainedRate = "tenant.total_retained_bytes_per_second_max",
    /// Retained messages sent to new subscriptions in a second: there were more.
    TotalRetainMatches = "tenant.total_retain_matches_per_second_max",
    /// Their bytes: there were more.
    TotalRetainMatchBytes = "tenant.total_retain_match_bytes_per_second_max",
    /// A client came more often.
    FlappingConnects = "tenant.flapping_connects_max",
    /// Somebody was to be kept out, but there were so many already.
    Bans = "bans_max",
    /// A will was larger.
    WillBytes = "tenant.will_bytes_max",
}

impl Limit {
    /// One of those that say how much a tenant may have retained.
    pub(crate) fn is_of_retained_totals(self) -> bool {
        matches!(self, Limit::TotalRetainedTopics | Limit::TotalRetainedBytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Settings};

    /// Each limit stands at its own index, and is a setting that there is.
    #[test]
    fn limits_are_settings() {
        for (index, limit) in Limit::ALL.iter().enumerate() {
            assert_eq!(*limit as usize, index);
            let known = match limit.name().strip_prefix("tenant.") {
                Some(name) => Settings::KEYS.iter().any(|key| key.name == name),
                None => Config::KEYS.iter().any(|key| key.name == limit.name()),
            };
            assert!(known, "{} is no setting", limit.name());
        }
    }
}
