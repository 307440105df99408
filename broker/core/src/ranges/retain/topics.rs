//! The topics of a tenant in one order, so that a reader can stop after any of them and go on later.
//!
//! A topic is kept with its '/' as 0, which no topic contains: then the order of the bytes is that of the levels,
//! and what lies below a level stands together. A position is the topic a reader has come to; it stays good
//! whatever is added and removed meanwhile, and a topic that stays is passed exactly once.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use smallvec::SmallVec;

/// What stands for '/'.
const SEPARATOR: u8 = 0;

/// Greater than the separator and not greater than anything else: `a` with this behind it is the first place that is
/// not below `a`.
const PAST: u8 = 1;

/// The byte after '$': the first place past all topics that a wildcard in the first level does not match
/// [MQTT-4.7.2-1].
const PAST_DOLLAR: &[u8] = b"%";

/// Topics that one page looks at, matches and others.
const LOOKS_MAX: usize = 1024;

/// After which topic a reader goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(Box<[u8]>);

impl Position {
    /// Behind this topic.
    pub fn after(topic: &str) -> Position {
        Position(place(topic).collect())
    }

    /// That topic.
    pub fn topic(&self) -> String {
        String::from_utf8(spell(&self.0).collect()).expect("a topic with other separators")
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Topics {
    places: BTreeMap<Place, u32>,
}

/// A topic as it stands in the order.
pub(super) type Place = Arc<[u8]>;

/// What a topic tells a reader that looks for a filter.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Match,
    /// The next may match.
    Next,
    /// None before this place does.
    Seek(Vec<u8>),
    /// None after this one does.
    Done,
}

impl Topics {
    pub(super) fn insert(&mut self, place: Place, slot: u32) {
        self.places.insert(place, slot);
    }

    pub(super) fn remove(&mut self, place: &[u8]) {
        self.places.remove(place);
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Calls `found` with the slots of topics that `filter` matches, in order, until it answers false or enough have
    /// been looked at. Where to go on; None: there is no more.
    ///
    /// Work is bounded by the number of stored prefixes that match a prefix of the filter, a look each, and memory
    /// by the length of a topic.
    pub(super) fn page(
        &self,
        filter: &str,
        after: Option<&Position>,
        mut found: impl FnMut(u32) -> bool,
    ) -> Option<Position> {
        let filter: Box<[u8]> = place(filter).collect();
        let levels: SmallVec<[&[u8]; 8]> = filter.split(|byte| *byte == SEPARATOR).collect();
        let mut from = match after {
            Some(Position(topic)) => Bound::Excluded(topic.to_vec()),
            None => Bound::Included(literal_prefix(&levels)),
        };
        let mut looks = 0;
        'seek: loop {
            let places = self.places.range::<[u8], _>((from.as_ref().map(Vec::as_slice), Bound::Unbounded));
            for (place, slot) in places {
                let verdict = judge(place, &levels);
                looks += 1;
                let mut goes_on = looks < LOOKS_MAX;
                if verdict == Verdict::Match {
                    goes_on &= found(*slot);
                }
                match verdict {
                    Verdict::Done => return None,
                    _ if !goes_on => return Some(Position((&**place).into())),
                    Verdict::Seek(place) => {
                        from = Bound::Included(place);
                        continue 'seek;
                    }
                    Verdict::Match | Verdict::Next => {}
                }
            }
            return None;
        }
    }
}

/// Where a topic stands.
pub(super) fn place(topic: &str) -> impl Iterator<Item = u8> {
    topic.bytes().map(|byte| if byte == b'/' { SEPARATOR } else { byte })
}

/// The topic that stands there, byte by byte.
pub(super) fn spell(place: &[u8]) -> impl Iterator<Item = u8> {
    place.iter().map(|byte| if *byte == SEPARATOR { b'/' } else { *byte })
}

/// The levels before the first wildcard: nothing that matches stands before it.
fn literal_prefix(levels: &[&[u8]]) -> Vec<u8> {
    let wild = |level: &&[u8]| *level == b"+" || *level == b"#";
    let literal = levels.iter().position(wild).unwrap_or(levels.len());
    levels[..literal].join(&SEPARATOR)
}

fn judge(topic: &[u8], filter: &[&[u8]]) -> Verdict {
    // Where the level at hand begins; past the topic's end when it has no more.
    let mut start = 0;
    // Where the last level ends that a "+" took.
    let mut taken = None;
    for (index, pattern) in filter.iter().enumerate() {
        let wild = *pattern == b"+" || *pattern == b"#";
        if index == 0 && wild && topic.starts_with(b"$") {
            return Verdict::Seek(PAST_DOLLAR.to_vec());
        }
        if *pattern == b"#" {
            return Verdict::Match; // "a/#" matches "a" as well (4.7.1.2)
        }
        if start > topic.len() {
            return Verdict::Next; // what lies below it may match
        }
        let length = topic[start..].iter().position(|byte| *byte == SEPARATOR);
        let end = length.map_or(topic.len(), |length| start + length);
        if wild {
            taken = Some(end);
        } else if topic[start..end] < **pattern {
            return Verdict::Seek([&topic[..start], pattern].concat());
        } else if topic[start..end] > **pattern {
            return taken.map_or(Verdict::Done, |end| Verdict::Seek(past(&topic[..end])));
        }
        start = end + 1;
    }
    if start > topic.len() { Verdict::Match } else { Verdict::Seek(past(&topic[..start - 1])) }
}

/// The first place that is not below these levels.
fn past(levels: &[u8]) -> Vec<u8> {
    [levels, &[PAST]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Topics by their slots.
    #[derive(Default)]
    struct Table {
        topics: Topics,
        names: Vec<String>,
    }

    impl Table {
        fn insert(&mut self, topic: &str) {
            let slot = u32::try_from(self.names.len()).expect("few");
            self.topics.insert(place(topic).collect(), slot);
            self.names.push(topic.to_owned());
        }

        fn page(
            &self,
            filter: &str,
            after: Option<&Position>,
            mut found: impl FnMut(&str) -> bool,
        ) -> Option<Position> {
            self.topics.page(filter, after, |slot| found(&self.names[slot as usize]))
        }
    }

    /// All that a filter matches, in pages of so many.
    fn matches(topics: &Table, filter: &str, page: usize) -> Vec<String> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let mut left = page;
            after = topics.page(filter, after.as_ref(), |topic| {
                all.push(topic.to_owned());
                left -= 1;
                left > 0
            });
            if after.is_none() {
                return all;
            }
        }
    }

    /// The walk finds what MQTT's rule in its plainest form does, whatever the size of its pages.
    #[test]
    fn finds_what_matches() {
        let mut random = crate::random::Random::new(7);
        let levels = ["", "a", "b", "ab", "$a", "a\u{1}", "é", "+a"];
        let patterns = ["", "a", "b", "ab", "$a", "+", "+", "#"];
        for _ in 0..300 {
            let path = |random: &mut crate::random::Random, levels: &[&'static str]| {
                let count = 1 + random.next() as usize % 4;
                let path: Vec<_> =
                    (0..count).map(|_| levels[random.next() as usize % levels.len()]).collect();
                path.join("/")
            };
            let mut all: Vec<String> = (0..40).map(|_| path(&mut random, &levels)).collect();
            all.retain(|topic| !topic.is_empty());
            let mut topics = Table::default();
            all.iter().for_each(|topic| topics.insert(topic));
            let filter = path(&mut random, &patterns);
            if mqtt::validate_filter(&filter).is_err() {
                continue;
            }
            let mut expected: Vec<_> =
                all.iter().filter(|topic| mqtt::filter_matches(&filter, topic)).cloned().collect();
            expected.sort_by_key(|topic| place(topic).collect::<Vec<u8>>());
            expected.dedup();
            for page in [1, 2, 1000] {
                assert_eq!(matches(&topics, &filter, page), expected, "{filter} of {all:?}");
            }
        }
    }

    /// What no match can be near is passed over and not looked at one by one.
    #[test]
    fn passes_over_what_cannot_match() {
        let mut topics = Table::default();
        for number in 0..10_000 {
            topics.insert(&format!("a/{number}"));
        }
        topics.insert("b/x/y");
        for filter in ["+/x/#", "b/+/y", "+/x/y"] {
            assert_eq!(topics.page(filter, None, |topic| topic != "b/x/y"), Some(Position::after("b/x/y")));
        }
        assert_eq!(topics.page("+", None, |_| true), None);
    }

    /// However few match, one page looks at no more topics than it may.
    #[test]
    fn looks_are_bounded() {
        let mut topics = Table::default();
        for number in 0..10_000 {
            topics.insert(&format!("{number:04}/x"));
        }
        let mut found = 0;
        let after = topics.page("+/y", None, |_| {
            found += 1;
            true
        });
        assert!(after.is_some() && found == 0);
        let mut pages = 1;
        let mut at = after;
        while let Some(after) = at {
            at = topics.page("+/y", Some(&after), |_| true);
            pages += 1;
        }
        assert!(pages >= 10_000 / LOOKS_MAX, "{pages}");
    }
}
