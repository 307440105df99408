//! Topics of which a session got a live message that changed what is retained, while it was owed retained messages
//! that may include them: the copy would be an old one after a newer message, or the same message again.
//!
//! A copy is left out for the filters that were asked for before the change; one asked for later is owed it. So is one of a
//! change that the range has made behind the live message's: another core's, that was never live here.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use mqtt::QoS;

use crate::changes::ChangeName;
use crate::message::{Message, Publication, Publisher};

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
    /// Its name at the range, or a later one of the same core.
    name: ChangeName,
    /// Of the message.
    content: Content,
    /// The message is in the session's queue, and reaches the client even if the connection ends now.
    queued: bool,
}

/// A live message that was given to a session and changes what is retained.
pub struct Live<'a> {
    /// The message.
    pub publication: &'a Publication<'a>,
    /// Its change, or a later one of the same core.
    pub change: ChangeName,
    /// It is in the session's queue, and not only sent.
    pub queued: bool,
}

/// Stands for what a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content(u64);

impl Content {
    fn of(publisher: Publisher, qos: QoS, properties: &[u8], payload: &[u8]) -> Content {
        let state = foldhash::fast::FixedState::default();
        Content(state.hash_one((publisher.client_hash, qos.bits(), properties, payload)))
    }
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
    pub(super) fn insert(&mut self, live: &Live<'_>) -> Result<(), Forgotten> {
        self.last.0 += 1;
        let Publication { topic, publisher, qos, properties, payload, .. } = *live.publication;
        let content = Content::of(publisher, qos, properties, payload);
        let mut new = Change { number: self.last, name: live.change, content, queued: live.queued };
        if let Some(change) = self.topics.get_mut(topic) {
            new.queued |= change.queued;
            *change = new;
            return Ok(());
        }
        let full = self.topics.len() >= TOPICS_MAX || self.bytes + topic.len() > BYTES_MAX;
        if full {
            self.topics.clear();
            self.bytes = 0;
        }
        self.bytes += topic.len();
        self.topics.insert(topic.into(), new);
        if full { Err(Forgotten) } else { Ok(()) }
    }

    /// Whether a copy, on a page for which so many changes of each core were made, is not newer than what came live since
    /// its filter was asked for.
    pub(super) fn covers(&self, copy: &Message, made: &[u64], since: ChangeNumber) -> bool {
        self.topics.get(copy.topic.as_str()).is_some_and(|change| {
            let is_later = change.name.is_behind(made);
            let Message { publisher, qos, properties, payload, .. } = copy;
            change.number > since
                && (is_later || change.content == Content::of(*publisher, *qos, properties, payload))
        })
    }

    /// The connection has ended: what was only sent on it may be lost.
    pub(super) fn forget_unqueued(&mut self) {
        self.topics.retain(|_, change| change.queued);
        self.bytes = self.topics.keys().map(|topic| topic.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::CoreId;

    /// Core 1's change of this number.
    fn insert(overtaken: &mut Overtaken, topic: &str, number: u64, queued: bool) -> Result<(), Forgotten> {
        let tenant = Arc::from("t");
        let publication =
            Publication::new(&tenant, Publisher { client_hash: number }, topic, QoS::AtLeastOnce);
        let change = ChangeName { from: CoreId(1), number };
        overtaken.insert(&Live { publication: &publication, change, queued })
    }

    /// Whether a copy of core 0's is left out, on a page for which so many of core 1's changes were made.
    fn covers(overtaken: &Overtaken, topic: &str, made: u64, since: ChangeNumber) -> bool {
        let tenant = Arc::from("t");
        let copy = Publication::new(&tenant, Publisher { client_hash: 0 }, topic, QoS::AtLeastOnce);
        overtaken.covers(copy.share(), &[7, made], since)
    }

    /// A change counts for what was asked for before it, the last one of a topic for all of them.
    #[test]
    fn changes_count_for_earlier_filters() {
        let mut overtaken = Overtaken::default();
        let has = |overtaken: &Overtaken, topic: &str, since| covers(overtaken, topic, 0, since);
        let first = overtaken.last();
        insert(&mut overtaken, "a", 1, false).unwrap();
        let second = overtaken.last();
        assert!(has(&overtaken, "a", first) && !has(&overtaken, "a", second) && !has(&overtaken, "b", first));
        insert(&mut overtaken, "a", 2, false).unwrap();
        assert!(has(&overtaken, "a", second));
    }

    /// A copy is newer when the range has made the live message's change; its own message is no copy for it even so.
    #[test]
    fn a_copy_that_the_range_made_later_is_newer() {
        let mut overtaken = Overtaken::default();
        let since = overtaken.last();
        insert(&mut overtaken, "a", 3, false).unwrap();
        let left_out = [2, 3, 4].map(|made| covers(&overtaken, "a", made, since));
        assert_eq!(left_out, [true, false, false]);
        insert(&mut overtaken, "a", 0, false).unwrap();
        assert!(covers(&overtaken, "a", 9, since), "the same content");
    }

    /// What was only sent is forgotten with its connection; what was queued by one of two subscriptions is not.
    #[test]
    fn what_was_queued_outlives_the_connection() {
        let mut overtaken = Overtaken::default();
        let since = overtaken.last();
        for (topic, queued) in [("sent", false), ("queued", true), ("both", true), ("both", false)] {
            insert(&mut overtaken, topic, 1, queued).unwrap();
        }
        overtaken.forget_unqueued();
        let kept = ["sent", "queued", "both"].map(|topic| covers(&overtaken, topic, 0, since));
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
            (0..fit).for_each(|number| insert(&mut overtaken, &topic(number), 1, true).unwrap());
            assert_eq!(insert(&mut overtaken, &topic(0), 1, true), Ok(()), "it is known");
            assert_eq!(insert(&mut overtaken, &topic(fit), 1, true), Err(Forgotten));
            assert_eq!((overtaken.topics.len(), overtaken.bytes), (1, length));
            assert!(covers(&overtaken, &topic(fit), 0, since) && !covers(&overtaken, &topic(0), 0, since));
        }
    }
}
