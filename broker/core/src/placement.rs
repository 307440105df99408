//! Which core of a node hosts what: the first 16 bits of every key, cut evenly over the node's logs, and these
//! over its cores.
//!
//! The hash function (xxh3, 64 bits, the upper 16 taken) and the number of literal levels that place a
//! route are part of format version 1: they never change with the configuration.

use wal::LogId;
use xxhash_rust::xxh3::Xxh3;

use crate::config::Config;
use crate::identity::CoreId;

/// The first 16 bits of a key of one of the three services; a range is an interval of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u16);

/// How many leading literal levels of a filter place its route.
const ROUTE_LEVELS: usize = 2;

/// The log that has the range a key falls into.
#[must_use]
pub fn log_of(key: KeyHash, logs: u16) -> u16 {
    let log = (u32::from(key.0) * u32::from(logs)) >> 16;
    u16::try_from(log).expect("less than logs")
}

impl Config {
    /// The core that serves the range a key falls into.
    #[must_use]
    pub(crate) fn core_of(&self, key: KeyHash) -> CoreId {
        CoreId(log_of(key, self.logs()) % self.cores)
    }

    /// The core at which a client is at home.
    #[must_use]
    pub fn home(&self, tenant: &str, client: &str) -> CoreId {
        self.core_of(inbox_key(tenant, client))
    }

    /// The core that keeps a topic's retained message.
    #[must_use]
    pub fn keeper(&self, tenant: &str, topic: &str) -> CoreId {
        self.core_of(retain_key(tenant, topic))
    }

    /// The log that has the range of a topic's retained message.
    #[must_use]
    pub(crate) fn retain_log(&self, tenant: &str, topic: &str) -> LogId {
        LogId(log_of(retain_key(tenant, topic), self.logs()))
    }

    /// The core that serves a log.
    #[must_use]
    pub(crate) fn core_of_log(&self, log: LogId) -> CoreId {
        CoreId(log.0 % self.cores)
    }
}

/// Inbox key: `hash(tenant, client) | tenant | client`.
#[must_use]
pub fn inbox_key(tenant: &str, client: &str) -> KeyHash {
    hash(tenant, &[client])
}

/// Retain key: `hash(tenant, topic) | tenant | topic`.
#[must_use]
pub fn retain_key(tenant: &str, topic: &str) -> KeyHash {
    hash(tenant, &[topic])
}

/// Dist key of a filter: `hash(tenant, first two levels)` if those are literal (or all there are), else
/// `hash(tenant)`.
#[must_use]
pub fn route_key(tenant: &str, filter: &str) -> KeyHash {
    let mut levels = filter.split('/');
    let first = levels.next().unwrap_or_default();
    let wild = |level: &str| level == "+" || level == "#";
    match levels.next() {
        _ if wild(first) => hash(tenant, &[]),
        None => hash(tenant, &[first]),
        Some(second) if wild(second) => hash(tenant, &[]),
        Some(second) => hash(tenant, &[first, second]),
    }
}

/// The two keys under which a topic's routes stand: literal ones first, then those with an early wildcard.
#[must_use]
pub fn topic_keys(tenant: &str, topic: &str) -> [KeyHash; 2] {
    let mut levels = topic.splitn(ROUTE_LEVELS + 1, '/');
    let first = levels.next().unwrap_or_default();
    let literal = match levels.next() {
        None => hash(tenant, &[first]),
        Some(second) => hash(tenant, &[first, second]),
    };
    [literal, hash(tenant, &[])]
}

fn hash(tenant: &str, parts: &[&str]) -> KeyHash {
    let mut hasher = Xxh3::new();
    hasher.update(tenant.as_bytes());
    for part in parts {
        hasher.update(&[0]); // occurs in no tenant, client id or topic
        hasher.update(part.as_bytes());
    }
    KeyHash((hasher.digest() >> 48) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every filter that matches a topic stands under one of the topic's two keys.
    #[test]
    fn matching_filters_share_a_key_with_the_topic() {
        for (topic, filters) in [
            ("a", &["a", "+", "#", "a/#"][..]),
            ("a/b", &["a/b", "a/+", "+/b", "a/#", "#", "a/b/#"]),
            ("a/b/c", &["a/b/c", "a/b/+", "a/b/#", "a/+/c", "+/b/c", "#", "a/#"]),
            ("/b", &["/b", "/+", "+/b", "/#"]),
            ("a//c", &["a//c", "a/+/c", "a//#"]),
        ] {
            let keys = topic_keys("t", topic);
            for filter in filters {
                assert!(mqtt::filter_matches(filter, topic), "{filter} {topic}");
                assert!(keys.contains(&route_key("t", filter)), "{filter} {topic}");
            }
        }
    }

    /// Keys spread over all cores, and each key has exactly one.
    #[test]
    fn every_core_has_keys() {
        for (cores, logs) in [(1, 0), (2, 0), (3, 0), (7, 0), (64, 0), (1, 4), (2, 4)] {
            let config = Config { cores, logs, ..Config::default() };
            let mut seen = vec![0u32; usize::from(cores)];
            for client in 0..10_000 {
                seen[config.core_of(inbox_key("default", &format!("c{client}"))).index()] += 1;
            }
            let share = 10_000 / u32::from(cores);
            assert!(seen.iter().all(|&count| count > share / 2 && count < share * 2), "{seen:?}");
        }
    }

    /// The hash is part of the format: these values stand in data that exists.
    #[test]
    fn golden_keys() {
        let keys = [
            inbox_key("default", "sensor-1"),
            retain_key("default", "a/b/c"),
            route_key("default", "a/b/+"),
            route_key("default", "a/+/c"),
        ];
        assert_eq!(keys, [KeyHash(59_518), KeyHash(26_788), KeyHash(56_297), KeyHash(27_739)]);
    }
}
