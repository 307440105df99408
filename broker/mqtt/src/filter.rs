//! Topic names and topic filters: which are well formed, and which match.
//!
//! [`filter_matches`] is the rule in its plainest form. The broker's index of subscriptions does not
//! call it; its tests compare against it.

use core::fmt;

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

/// Bytes of the longest topic name or topic filter. [MQTT-4.7.3-3]
const TOPIC_BYTES_MAX: usize = 65_535;

impl FilterError {
    /// The statement of 5.0 that was broken.
    pub const fn statement(&self) -> &'static str {
        match self {
            FilterError::Empty => "MQTT-4.7.3-1",
            FilterError::TooLong => "MQTT-4.7.3-3",
            FilterError::Nul => "MQTT-4.7.3-2",
            FilterError::MultiLevelWildcard => "MQTT-4.7.1-1",
            FilterError::SingleLevelWildcard => "MQTT-4.7.1-2",
            FilterError::ShareNameEmpty => "MQTT-4.8.2-1",
            FilterError::ShareNameWildcard | FilterError::ShareFilterMissing => "MQTT-4.8.2-2",
        }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:?} [{}]", self.statement())
    }
}

impl core::error::Error for FilterError {}

impl TopicError {
    /// The statement of 5.0 that was broken.
    pub const fn statement(&self) -> &'static str {
        match self {
            TopicError::Empty => "MQTT-4.7.3-1",
            TopicError::TooLong => "MQTT-4.7.3-3",
            TopicError::Nul => "MQTT-4.7.3-2",
            TopicError::Wildcard => "MQTT-4.7.0-1",
        }
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:?} [{}]", self.statement())
    }
}

impl core::error::Error for TopicError {}

/// Checks a topic filter and takes its share apart.
pub fn validate_filter(filter: &str) -> Result<Filter<'_>, FilterError> {
    if filter.len() > TOPIC_BYTES_MAX {
        return Err(FilterError::TooLong);
    }
    let shared = match (filter.strip_prefix("$share/"), filter.strip_prefix("$oshare/")) {
        (Some(rest), _) => Some((rest, false)),
        (_, Some(rest)) => Some((rest, true)),
        _ => None,
    };
    let Some((rest, ordered)) = shared else {
        validate_levels(filter)?;
        return Ok(Filter { share: None, filter });
    };
    let (group, filter) = rest.split_once('/').unwrap_or((rest, ""));
    if group.is_empty() {
        return Err(FilterError::ShareNameEmpty); // [MQTT-4.8.2-1]
    }
    if group.contains(['+', '#']) {
        return Err(FilterError::ShareNameWildcard); // [MQTT-4.8.2-2]
    }
    if group.contains('\0') {
        return Err(FilterError::Nul); // [MQTT-4.7.3-2]
    }
    if filter.is_empty() {
        return Err(FilterError::ShareFilterMissing); // [MQTT-4.8.2-2]
    }
    validate_levels(filter)?;
    Ok(Filter { share: Some(Share { group, ordered }), filter })
}

fn validate_levels(filter: &str) -> Result<(), FilterError> {
    if filter.is_empty() {
        return Err(FilterError::Empty); // [MQTT-4.7.3-1]
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('\0') {
            return Err(FilterError::Nul); // [MQTT-4.7.3-2]
        }
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(FilterError::MultiLevelWildcard); // [MQTT-4.7.1-1]
        }
        if level.contains('+') && level != "+" {
            return Err(FilterError::SingleLevelWildcard); // [MQTT-4.7.1-2]
        }
    }
    Ok(())
}

/// Checks a topic name. The decoder has already done so for every topic of a packet.
pub fn validate_topic(topic: &str) -> Result<(), TopicError> {
    if topic.is_empty() {
        return Err(TopicError::Empty); // [MQTT-4.7.3-1]
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong); // [MQTT-4.7.3-3]
    }
    if topic.contains('\0') {
        return Err(TopicError::Nul); // [MQTT-4.7.3-2]
    }
    if topic.contains(['+', '#']) {
        return Err(TopicError::Wildcard); // [MQTT-4.7.0-1]
    }
    Ok(())
}

/// Whether a valid topic filter, without a share's prefix, matches a valid topic name.
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    // [MQTT-4.7.2-1]
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic_levels = topic.split('/');
    for level in filter.split('/') {
        // `#` stands for its parent as well, of which no level is left here: `a/#` matches `a`.
        if level == "#" {
            return true;
        }
        match topic_levels.next() {
            Some(topic_level) if level == "+" || level == topic_level => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each rule about wildcards, by the examples of 4.7.1. Method: one filter a rule.
    #[test]
    fn wildcards_fill_their_level() {
        for filter in
            ["#", "+", "/", "a/#", "sport/tennis/#", "+/tennis/#", "sport/+/player1", "/+", "a//b", "$SYS/#"]
        {
            assert_eq!(validate_filter(filter), Ok(Filter { share: None, filter }), "{filter}");
        }
        // [MQTT-4.7.1-1]
        for filter in ["sport/tennis#", "sport/tennis/#/ranking", "#/", "##", "+#", "a/#b"] {
            assert_eq!(validate_filter(filter), Err(FilterError::MultiLevelWildcard), "{filter}");
        }
        // [MQTT-4.7.1-2]
        for filter in ["sport+", "+a", "a/b+/c", "++", "/+a"] {
            assert_eq!(validate_filter(filter), Err(FilterError::SingleLevelWildcard), "{filter}");
        }
        assert_eq!(validate_filter(""), Err(FilterError::Empty)); // [MQTT-4.7.3-1]
        assert_eq!(validate_filter("a\0b"), Err(FilterError::Nul)); // [MQTT-4.7.3-2]
        assert_eq!(validate_filter("$share/g\0/b"), Err(FilterError::Nul)); // [MQTT-4.7.3-2]
        assert_eq!(validate_filter(&"a".repeat(65_536)), Err(FilterError::TooLong)); // [MQTT-4.7.3-3]
        assert!(validate_filter(&"a".repeat(65_535)).is_ok());
    }

    /// Goal: the share is taken off a filter, or the filter refused. Method: one filter a rule.
    #[test]
    fn shares_are_taken_apart() {
        let shared = |group, ordered, filter| Ok(Filter { share: Some(Share { group, ordered }), filter });
        assert_eq!(validate_filter("$share/group/a/+/#"), shared("group", false, "a/+/#"));
        assert_eq!(validate_filter("$oshare/group/a"), shared("group", true, "a"));
        assert_eq!(validate_filter("$share/g//"), shared("g", false, "/"));
        assert_eq!(validate_filter("$share/g//a"), shared("g", false, "/a"));
        // Not shared: the prefix is more than its first letters.
        for filter in ["$share", "$shared/g/a", "$oshare", "share/g/a", "/$share/g/a"] {
            assert_eq!(validate_filter(filter), Ok(Filter { share: None, filter }), "{filter}");
        }
        // [MQTT-4.8.2-1]
        for filter in ["$share/", "$share//a", "$oshare//"] {
            assert_eq!(validate_filter(filter), Err(FilterError::ShareNameEmpty), "{filter}");
        }
        // [MQTT-4.8.2-2]
        for filter in ["$share/+/a", "$share/#/a", "$share/g+/a", "$share/#"] {
            assert_eq!(validate_filter(filter), Err(FilterError::ShareNameWildcard), "{filter}");
        }
        for filter in ["$share/g", "$share/g/", "$oshare/g/"] {
            assert_eq!(validate_filter(filter), Err(FilterError::ShareFilterMissing), "{filter}");
        }
        // [MQTT-4.7.1-1]
        assert_eq!(validate_filter("$share/g/a#"), Err(FilterError::MultiLevelWildcard));
    }

    /// Goal: topic names. Method: one name a rule.
    #[test]
    fn topics_hold_no_wildcard() {
        for topic in ["a", "/", "//", " ", "$SYS/uptime", "a/ü/\u{10FFFF}"] {
            assert_eq!(validate_topic(topic), Ok(()), "{topic}");
        }
        assert_eq!(validate_topic(""), Err(TopicError::Empty)); // [MQTT-4.7.3-1]
        assert_eq!(validate_topic("a/+"), Err(TopicError::Wildcard)); // [MQTT-4.7.0-1]
        assert_eq!(validate_topic("#"), Err(TopicError::Wildcard)); // [MQTT-4.7.0-1]
        assert_eq!(validate_topic("\0"), Err(TopicError::Nul)); // [MQTT-4.7.3-2]
        assert_eq!(validate_topic(&"a".repeat(65_536)), Err(TopicError::TooLong)); // [MQTT-4.7.3-3]
        assert_eq!(validate_topic(&"a".repeat(65_535)), Ok(()));
    }

    /// Goal: matching, by the examples of 4.7.1 and 4.7.2. Method: pairs that match, pairs that do not.
    #[test]
    fn filters_match_whole_levels() {
        let matching = [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "a/b"),
            ("#", "/"),
            ("+", "finance"),
            ("/+", "/finance"),
            ("+/+", "/finance"),
            ("sport/+", "sport/"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("+/+/#", "a/b"),
            ("$SYS/#", "$SYS/uptime"),
            ("$SYS/#", "$SYS"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("a/$b", "a/$b"),
            ("a/+", "a/$b"),
            ("a", "a"),
        ];
        for (filter, topic) in matching {
            assert!(filter_matches(filter, topic), "{filter} {topic}");
        }
        let others = [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("+/+", "a"),
            ("a/+/#", "a"),
            ("a", "a/"),
            ("a", "A"),                                    // [MQTT-4.7.3-4]
            ("/a", "a"),                                   // [MQTT-4.7.3-4]
            ("#", "$SYS/uptime"),                          // [MQTT-4.7.2-1]
            ("+/monitor/Clients", "$SYS/monitor/Clients"), // [MQTT-4.7.2-1]
            ("+/#", "$SYS"),                               // [MQTT-4.7.2-1]
        ];
        for (filter, topic) in others {
            assert!(!filter_matches(filter, topic), "{filter} {topic}");
        }
    }
}
