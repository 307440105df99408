//! The topics and filters that clients draw from, and the simulator's own rule of what matches: an oracle
//! must not ask the code it judges.

/// Topics to publish to: few, so that publishers, subscribers and retained messages meet.
pub const TOPICS: [&str; 9] = ["a", "a/b", "a/b/c", "b", "b/c", "a//c", "b/", "$x/a", "/b"];

/// Filters for ordinary subscriptions: literal, overlapping, with each wildcard in each place.
pub const FILTERS: [&str; 14] =
    ["a", "a/b", "b/c", "#", "+", "a/#", "+/b", "a/+/c", "a/+", "$x/#", "b/+", "+/+", "b/#", "a/b/c"];

/// Filters for shared subscriptions.
pub const SHARED_FILTERS: [&str; 6] =
    ["$share/g/a/#", "$share/g/b", "$share/h/a/b", "$share/h/#", "$oshare/o/a/+", "$oshare/o/b/c"];

/// A shared filter taken apart: group (with its kind) and the filter topics are matched against.
#[must_use]
pub fn split_share(filter: &str) -> (Option<&str>, &str) {
    let Some(rest) = filter.strip_prefix("$share/").or_else(|| filter.strip_prefix("$oshare/")) else {
        return (None, filter);
    };
    let Some(slash) = rest.find('/') else { return (None, filter) };
    let group = filter.len() - rest.len() + slash;
    (Some(&filter[..group]), &filter[group + 1..])
}

/// Is it an `$oshare` filter?
#[must_use]
pub fn is_ordered_share(filter: &str) -> bool {
    filter.starts_with("$oshare/")
}

/// Does the filter, shared or not, match the topic?
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    let (_, filter) = split_share(filter);
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false; // [MQTT-4.7.2-1]
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    let literal = |level: &str, name: &str| level == "+" || level == name;
    match filter.split_last() {
        Some((&"#", parents)) => {
            topic.len() >= parents.len()
                && parents.iter().zip(&topic).all(|(level, name)| literal(level, name))
        }
        _ => {
            filter.len() == topic.len() && filter.iter().zip(&topic).all(|(level, name)| literal(level, name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of MQTT 5.0, sections 4.7.1 and 4.7.2, and of shared filters.
    #[test]
    fn specification_examples() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/a", false),
            ("+/monitor", "$SYS/monitor", false),
            ("$SYS/#", "$SYS/a", true),
            ("$share/g/a/#", "a/b", true),
            ("$share/g/#", "$x/a", false),
            ("$oshare/o/a/+", "a/b", true),
            ("a//c", "a//c", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} on {topic}");
        }
        assert_eq!(split_share("$share/g/a/#"), (Some("$share/g"), "a/#"));
    }
}
