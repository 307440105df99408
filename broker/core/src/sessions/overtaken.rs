//! Topics of which a session got a live message that changed what is retained, while it was owed retained messages
//! that may include them: the copy would be an old one after a newer message, or the same message again.
//!
//! A copy is left out for the filters that were asked for before the change; one asked for later is owed it.

use std::collections::BTreeMap;

/// Topics remembered.
const TOPICS_MAX: usize = 4096;

/// Bytes of their names.
const BYTES_MAX: usize = 256 * 1024;

/// Counts the changes that a session remembers, from when it was first owed something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChangeNumber(u64);

/// See the module's documentation. Lives with its session.
#[derive(Debug, Default)]
pub(super) struct Overtaken {
    topics: BTreeMap<Box<str>, Change>,
    /// Of the topics' names.
    bytes: usize,
    last: ChangeNumber,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    number: ChangeNumber,
    /// The message is in the session's queue, and reaches the client even if the connection ends now.
    queued: bool,
}

/// There is no room for another topic: all were forgotten.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forgotten;

impl Overtaken {
    /// The number of the last change: a filter asked for now is owed what it changed.
    pub(super) fn last(&self) -> ChangeNumber {
        self.last
    }

    /// A topic has changed.
    pub(super) fn insert(&mut self, topic: &str, queued: bool) -> Result<(), Forgotten> {
        self.last.0 += 1;
        let number = self.last;
        if let Some(change) = self.topics.get_mut(topic) {
            *change = Change { number, queued: queued || change.queued };
            return Ok(());
        }
        let full = self.topics.len() >= TOPICS_MAX || self.bytes + topic.len() > BYTES_MAX;
        if full {
            self.topics.clear();
            self.bytes = 0;
        }
        self.bytes += topic.len();
        self.topics.insert(topic.into(), Change { number, queued });
        if full { Err(Forgotten) } else { Ok(()) }
    }

    /// Whether a topic has changed since a filter was asked for.
    pub(super) fn has(&self, topic: &str, since: ChangeNumber) -> bool {
        self.topics.get(topic).is_some_and(|change| change.number > since)
    }

    /// The connection has ended: what was only sent on it may be lost.
    pub(super) fn forget_unqueued(&mut self) {
        self.topics.retain(|_, change| change.queued);
        self.bytes = self.topics.keys().map(|topic| topic.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change counts for what was asked for before it, the last one of a topic for all of them.
    #[test]
    fn changes_count_for_earlier_filters() {
        let mut overtaken = Overtaken::default();
        let first = overtaken.last();
        overtaken.insert("a", false).unwrap();
        let second = overtaken.last();
        assert!(overtaken.has("a", first) && !overtaken.has("a", second) && !overtaken.has("b", first));
        overtaken.insert("a", false).unwrap();
        assert!(overtaken.has("a", second));
    }

    /// What was only sent is forgotten with its connection; what was queued by one of two subscriptions is not.
    #[test]
    fn what_was_queued_outlives_the_connection() {
        let mut overtaken = Overtaken::default();
        let since = overtaken.last();
        for (topic, queued) in [("sent", false), ("queued", true), ("both", true), ("both", false)] {
            overtaken.insert(topic, queued).unwrap();
        }
        overtaken.forget_unqueued();
        let kept = ["sent", "queued", "both"].map(|topic| overtaken.has(topic, since));
        assert_eq!((kept, overtaken.bytes), ([false, true, true], 10));
    }

    /// Topics are bounded by number and by bytes; the one that found no room is remembered alone.
    #[test]
    fn the_memory_is_bounded() {
        for length in [4, 1000] {
            let mut overtaken = Overtaken::default();
            let since = overtaken.last();
            let topic = |number: usize| format!("{number:0length$}");
            let fit = TOPICS_MAX.min(BYTES_MAX / length);
            (0..fit).for_each(|number| overtaken.insert(&topic(number), true).unwrap());
            assert_eq!(overtaken.insert(&topic(0), true), Ok(()), "it is known");
            assert_eq!(overtaken.insert(&topic(fit), true), Err(Forgotten));
            assert_eq!((overtaken.topics.len(), overtaken.bytes), (1, length));
            assert!(overtaken.has(&topic(fit), since) && !overtaken.has(&topic(0), since));
        }
    }
}
