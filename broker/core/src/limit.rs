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
    /// A client came more often.
    FlappingConnects = "tenant.flapping_connects_max",
    /// Somebody was to be kept out, but there were so many already.
    Bans = "bans_max",
    /// A will was larger.
    WillBytes = "tenant.will_bytes_max",
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
