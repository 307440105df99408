//! retain: the retained messages of the range that this core hosts.
//!
//! A deterministic state machine: [`Retained::set`] and [`Retained::expire`] are its commands,
//! [`Retained::page`] the question. A wildcard can match any number of messages: they are handed out page by page,
//! as the subscriber asks for them, and none is left out. Of its readers it remembers nothing: they say where they
//! are, so that one may stop, come back much later, or ask twice.

mod topics;

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};

use crate::message::Message;
use crate::time::Wall;

pub use topics::Position;
use topics::Topics;

/// Messages of one page, and the bytes after which it ends early.
const PAGE_MESSAGES_MAX: usize = 64;
const PAGE_BYTES_MAX: u64 = 64 * 1024;

type Hash = foldhash::fast::FixedState;

/// See the module's documentation.
pub struct Retained {
    tenants: HashMap<Arc<str>, Tenant, Hash>,
    hasher: Hash,
}

/// One tenant's. Replacing a message, which is what most do, touches the table alone.
#[derive(Default)]
struct Tenant {
    /// By topic, as it stands in the message.
    messages: HashTable<Arc<Message>>,
    /// The same topics in order.
    topics: Topics,
}

/// Some of what a filter matches.
#[derive(Debug, Default)]
pub struct Page {
    /// As they are retained now.
    pub messages: Vec<Arc<Message>>,
    /// Where the next page begins; None: this is the last.
    pub rest: Option<Position>,
}

/// What became of a message to retain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// It is kept; or, being empty, it cleared what was there.
    Done,
    /// The tenant has `retained_messages_max` of them.
    Full,
}

impl Retained {
    /// Nothing retained.
    pub fn new(seed: u64) -> Retained {
        let hasher = Hash::with_seed(seed);
        Retained { tenants: HashMap::with_hasher(hasher.clone()), hasher }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tenants.values().map(|tenant| tenant.messages.len()).sum()
    }

    /// How many a tenant has.
    pub fn count(&self, tenant: &str) -> usize {
        self.tenants.get(tenant).map_or(0, |tenant| tenant.messages.len())
    }

    /// Replaces the retained message of a topic [MQTT-3.3.1-5]; one without payload removes it
    /// [MQTT-3.3.1-6, MQTT-3.3.1-7].
    pub fn set(&mut self, message: Arc<Message>, messages_max: u32) -> Set {
        if message.payload.is_empty() {
            self.remove(&message.tenant, &message.topic);
            return Set::Done;
        }
        let hash = hash(&self.hasher, &message.topic);
        if !self.tenants.contains_key(&message.tenant) {
            self.tenants.insert(Arc::clone(&message.tenant), Tenant::default());
        }
        let tenant = self.tenants.get_mut(&message.tenant).expect("just made");
        if let Some(former) = tenant.messages.find_mut(hash, |other| other.topic == message.topic) {
            *former = message;
        } else if tenant.messages.len() >= messages_max as usize {
            return Set::Full;
        } else {
            tenant.topics.insert(&message.topic);
            let hasher = &self.hasher;
            tenant.messages.insert_unique(hash, message, |other| self::hash(hasher, &other.topic));
        }
        Set::Done
    }

    /// A message's time has passed: it goes, unless another has taken its place.
    pub fn expire(&mut self, tenant: &Arc<str>, topic: &str, now: Wall) {
        let message = self.tenants.get(tenant).and_then(|tenant| tenant.get(&self.hasher, topic));
        if message.is_some_and(|message| message.is_expired(now)) {
            self.remove(tenant, topic);
        }
    }

    /// Some of what a filter matches, behind `after` if that is said. A page may be empty and not the last.
    pub fn page(&self, tenant: &str, filter: &str, after: Option<&Position>, now: Wall) -> Page {
        let Some(tenant) = self.tenants.get(tenant) else { return Page::default() };
        let mut messages = Vec::new();
        let mut bytes = 0;
        let mut take = |topic: &str| {
            let message = tenant.get(&self.hasher, topic).filter(|message| !message.is_expired(now));
            if let Some(message) = message {
                bytes += message.bytes();
                messages.push(Arc::clone(message));
            }
            messages.len() < PAGE_MESSAGES_MAX && bytes < PAGE_BYTES_MAX
        };
        let rest = if filter.contains(['+', '#']) {
            tenant.topics.page(filter, after, take)
        } else {
            take(filter);
            None
        };
        Page { messages, rest }
    }

    fn remove(&mut self, name: &Arc<str>, topic: &str) {
        let Some(tenant) = self.tenants.get_mut(name) else { return };
        let hash = hash(&self.hasher, topic);
        if let Ok(entry) = tenant.messages.find_entry(hash, |message| *message.topic == *topic) {
            entry.remove();
            tenant.topics.remove(topic);
        }
        if tenant.messages.is_empty() {
            self.tenants.remove(name);
        }
    }
}

impl Tenant {
    fn get(&self, hasher: &Hash, topic: &str) -> Option<&Arc<Message>> {
        self.messages.find(hash(hasher, topic), |message| *message.topic == *topic)
    }
}

fn hash(hasher: &Hash, topic: &str) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(topic.as_bytes());
    state.finish()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mqtt::QoS;

    use super::*;
    use crate::message::Publisher;

    fn message(topic: &str, payload: &'static [u8], expires: Option<Wall>) -> Arc<Message> {
        Arc::new(Message {
            tenant: Arc::from("t"),
            publisher: Publisher::default(),
            topic: topic.into(),
            properties: Box::default(),
            payload: Bytes::from_static(payload),
            expires,
            qos: QoS::AtLeastOnce,
            retain: true,
        })
    }

    /// All that a filter matches, and in how many pages.
    fn all(retained: &Retained, filter: &str, now: Wall) -> (Vec<Arc<Message>>, usize) {
        let (mut all, mut pages, mut after) = (Vec::new(), 0, None);
        loop {
            let page = retained.page("t", filter, after.as_ref(), now);
            assert!(page.messages.len() <= PAGE_MESSAGES_MAX);
            all.extend(page.messages);
            pages += 1;
            after = page.rest;
            if after.is_none() {
                return (all, pages);
            }
        }
    }

    /// [MQTT-3.3.1-5..8]: the last message of a topic is kept, an empty one clears, the limit holds.
    #[test]
    fn last_message_is_kept() {
        let mut retained = Retained::new(1);
        assert_eq!(retained.set(message("a", b"1", None), 2), Set::Done);
        assert_eq!(retained.set(message("a", b"2", None), 2), Set::Done);
        assert_eq!(retained.set(message("b", b"3", None), 2), Set::Done);
        assert_eq!(retained.set(message("c", b"4", None), 2), Set::Full);
        let (found, pages) = all(&retained, "#", Wall(0));
        let payloads: Vec<_> = found.iter().map(|message| &message.payload[..]).collect();
        assert_eq!((payloads, pages), (vec![&b"2"[..], b"3"], 1));
        assert_eq!(retained.set(message("a", b"", None), 2), Set::Done);
        assert_eq!(all(&retained, "+", Wall(0)).0.len(), 1);
        assert_eq!(all(&retained, "a", Wall(0)).0.len(), 0);
        assert!(retained.page("other", "#", None, Wall(0)).messages.is_empty());
    }

    /// However many match, all are handed out, once, in pages.
    #[test]
    fn nothing_is_capped() {
        let mut retained = Retained::new(1);
        for number in 0..1000 {
            retained.set(message(&format!("a/{number}"), b"x", None), 1000);
        }
        let (found, pages) = all(&retained, "a/+", Wall(0));
        let mut topics: Vec<_> = found.iter().map(|message| &*message.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), 1000);
        assert!(pages >= 1000 / PAGE_MESSAGES_MAX, "{pages}");
    }

    /// `Retained::find` collected all that a wildcard matches in one turn. Now a page is small whatever is retained,
    /// and what is there all the time is handed out once while everything around its reader comes, changes and goes.
    #[test]
    fn a_wildcard_was_collected_in_one_turn() {
        const COUNT: u32 = 20_000;
        let mut retained = Retained::new(1);
        let set = |retained: &mut Retained, number: u32, payload: &'static [u8]| {
            retained.set(message(&number.to_string(), payload, None), u32::MAX);
        };
        for number in 0..COUNT {
            set(&mut retained, number, b"old");
        }
        let (mut stayed, mut pages, mut after) = (vec![0; COUNT as usize], 0, None);
        loop {
            let page = retained.page("t", "#", after.as_ref(), Wall(0));
            assert!(page.messages.len() <= PAGE_MESSAGES_MAX);
            let numbers = page.messages.iter().map(|found| found.topic.parse::<u32>().expect("a number"));
            numbers.clone().for_each(|number| stayed[number as usize] += 1);
            if let Some(last) = { numbers }.next_back() {
                for other in last.saturating_sub(100)..(last + 100).min(COUNT) {
                    let comes = (other + pages).is_multiple_of(4);
                    set(&mut retained, other, if other % 2 == 0 || comes { b"new" } else { b"" });
                }
            }
            pages += 1;
            after = page.rest;
            if after.is_none() {
                break;
            }
        }
        assert!(stayed.iter().step_by(2).all(|times| *times == 1));
        assert!(pages > COUNT / 2 / PAGE_MESSAGES_MAX as u32, "{pages}");
    }

    /// An expired message is not handed out, and its timer does not remove its successor.
    #[test]
    fn expiry_removes_only_what_expired() {
        let mut retained = Retained::new(1);
        retained.set(message("a", b"1", Some(Wall(1000))), 10);
        assert!(all(&retained, "a", Wall(1000)).0.is_empty());
        retained.set(message("a", b"2", Some(Wall(5000))), 10);
        retained.expire(&Arc::from("t"), "a", Wall(1000));
        assert_eq!(all(&retained, "a", Wall(1000)).0.len(), 1);
        retained.expire(&Arc::from("t"), "a", Wall(5000));
        assert!(retained.tenants.is_empty());
    }
}
