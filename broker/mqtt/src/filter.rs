//! Topic names and topic filters: which are well formed, and which match.
//!
//! [`filter_matches`] is the rule in its plainest form. The broker's index of subscriptions does not
//! call it; its tests compare against it.

/// A topic filter of a SUBSCRIBE, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Filter<'a> {
    /// The group it is shared in.
    pub share: Option<Share<'a>>,
    /// What topics are matched against, without the share's prefix; never empty.
    pub filter: &'a str,
}

/// The group of a shared subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share<'a> {
    /// The share name; never empty.
    pub group: &'a str,
    /// `$oshare`: messages of one publisher keep their order, because they all go to one member.
    /// Not part of the specification.
    pub ordered: bool,
}

/// Why a topic filter is not one. A SUBACK answers it with Topic Filter Invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterError {
    /// Zero characters. [MQTT-4.7.3-1]
    Empty,
    /// Beyond 65 535 bytes. [MQTT-4.7.3-3]
    TooLong,
    /// Contains U+0000. [MQTT-4.7.3-2]
    Nul,
    /// `#` is not the last character, or does not fill its level. [MQTT-4.7.1-1]
    MultiLevelWildcard,
    /// `+` does not fill its level. [MQTT-4.7.1-2]
    SingleLevelWildcard,
    /// The share name is missing. [MQTT-4.8.2-1]
    ShareNameEmpty,
    /// The share name contains `+` or `#`. [MQTT-4.8.2-2]
    ShareNameWildcard,
    /// No `/` and topic filter follow the share name. [MQTT-4.8.2-2]
    ShareFilterMissing,
}

/// Why a topic name is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicError {
    /// Zero characters. [MQTT-4.7.3-1]
    Empty,
    /// Beyond 65 535 bytes. [MQTT-4.7.3-3]
    TooLong,
    /// Contains U+0000. [MQTT-4.7.3-2]
    Nul,
    /// Contains `+` or `#`. [MQTT-3.3.2-2]
    Wildcard,
}

/// Checks a topic filter and takes its share apart.
pub fn validate_filter(filter: &str) -> Result<Filter<'_>, FilterError> {
    let _ = filter;
    unimplemented!("validate_filter")
}

/// Checks a topic name. The decoder has already done so for every topic of a packet.
pub fn validate_topic(topic: &str) -> Result<(), TopicError> {
    let _ = topic;
    unimplemented!("validate_topic")
}

/// Whether a valid topic filter, without a share's prefix, matches a valid topic name.
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    let _ = (filter, topic);
    unimplemented!("filter_matches")
}
