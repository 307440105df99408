//! retain: the retained messages of the range that this core hosts, and who is still reading them.
//!
//! A deterministic state machine: [`Retained::set`] and [`Retained::expire`] are its commands,
//! [`Retained::find`] and [`Retained::more`] the questions. A wildcard can match any number of messages: they
//! are handed out in chunks, as the subscriber asks for them, and none is left out.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::identity::CoreId;
use crate::message::Message;
use crate::peer::RetainedRequest;
use crate::time::Wall;
use crate::trie::Trie;

/// Messages handed out at a time, and the bytes after which a chunk ends early.
const CHUNK_MESSAGES_MAX: usize = 64;
const CHUNK_BYTES_MAX: u64 = 64 * 1024;

/// See the module's documentation.
pub struct Retained {
    tenants: HashMap<Arc<str>, Trie<Arc<Message>>, foldhash::fast::FixedState>,
    /// What readers have not asked for yet, as it stood when they asked first: handed out as it stands then.
    readers: BTreeMap<(CoreId, RetainedRequest), VecDeque<Arc<Message>>>,
    seed: u64,
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
        let tenants = HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed));
        Retained { tenants, readers: BTreeMap::new(), seed }
    }

    /// Replaces the retained message of a topic [MQTT-3.3.1-5]; one without payload removes it
    /// [MQTT-3.3.1-6, MQTT-3.3.1-7].
    pub fn set(&mut self, message: Arc<Message>, messages_max: u32) -> Set {
        if message.payload.is_empty() {
            self.remove(&message.tenant, &message.topic);
            return Set::Done;
        }
        let tenant = Arc::clone(&message.tenant);
        let trie = self.tenants.entry(tenant).or_insert_with(|| Trie::new(self.seed));
        let full = trie.len() >= messages_max as usize;
        if let Some(former) = trie.get_mut(&message.topic) {
            *former = message;
        } else if full {
            return Set::Full;
        } else {
            let topic = message.topic.clone();
            trie.insert(&topic, message);
        }
        Set::Done
    }

    /// A message's time has passed: it goes, unless another has taken its place.
    pub fn expire(&mut self, tenant: &Arc<str>, topic: &str, now: Wall) {
        let expired = |message: &Arc<Message>| message.is_expired(now);
        if self.tenants.get(tenant).and_then(|trie| trie.get(topic)).is_some_and(expired) {
            self.remove(tenant, topic);
        }
    }

    /// The first chunk of what a filter matches, and whether there is more.
    pub fn find(
        &mut self,
        from: CoreId,
        request: RetainedRequest,
        tenant: &str,
        filter: &str,
        now: Wall,
    ) -> (Vec<Arc<Message>>, bool) {
        let mut found = VecDeque::new();
        if let Some(trie) = self.tenants.get(tenant) {
            trie.matching_topics(filter, |message| {
                if !message.is_expired(now) {
                    found.push_back(Arc::clone(message));
                }
                ControlFlow::Continue(())
            });
        }
        self.chunk(from, request, found, now)
    }

    /// The next chunk.
    pub fn more(&mut self, from: CoreId, request: RetainedRequest, now: Wall) -> (Vec<Arc<Message>>, bool) {
        let left = self.readers.remove(&(from, request)).unwrap_or_default();
        self.chunk(from, request, left, now)
    }

    /// The reader has gone.
    pub fn stop(&mut self, from: CoreId, request: RetainedRequest) {
        self.readers.remove(&(from, request));
    }

    fn chunk(
        &mut self,
        from: CoreId,
        request: RetainedRequest,
        mut left: VecDeque<Arc<Message>>,
        now: Wall,
    ) -> (Vec<Arc<Message>>, bool) {
        let mut chunk = Vec::with_capacity(left.len().min(CHUNK_MESSAGES_MAX));
        let mut bytes = 0;
        for _ in 0..CHUNK_MESSAGES_MAX {
            if bytes >= CHUNK_BYTES_MAX {
                break;
            }
            let Some(found) = left.pop_front() else { break };
            let Some(message) = self.current(&found).filter(|message| !message.is_expired(now)) else {
                continue;
            };
            bytes += message.bytes();
            chunk.push(message);
        }
        let more = !left.is_empty();
        if more {
            self.readers.insert((from, request), left);
        }
        (chunk, more)
    }

    /// What is retained now where a reader found `message`: it may have waited for long, and the change itself
    /// has reached its subscriber already.
    fn current(&self, message: &Message) -> Option<Arc<Message>> {
        self.tenants.get(&message.tenant)?.get(&message.topic).map(Arc::clone)
    }

    fn remove(&mut self, tenant: &Arc<str>, topic: &str) {
        if let Some(trie) = self.tenants.get_mut(tenant) {
            trie.remove(topic);
            if trie.is_empty() {
                self.tenants.remove(tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mqtt::QoS;

    use super::*;
    use crate::identity::ConnectionId;
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

    const REQUEST: RetainedRequest =
        RetainedRequest { connection: ConnectionId { slot: 0, generation: 0 }, number: 0 };

    /// [MQTT-3.3.1-5..8]: the last message of a topic is kept, an empty one clears, the limit holds.
    #[test]
    fn last_message_is_kept() {
        let mut retained = Retained::new(1);
        assert_eq!(retained.set(message("a", b"1", None), 2), Set::Done);
        assert_eq!(retained.set(message("a", b"2", None), 2), Set::Done);
        assert_eq!(retained.set(message("b", b"3", None), 2), Set::Done);
        assert_eq!(retained.set(message("c", b"4", None), 2), Set::Full);
        let (found, more) = retained.find(CoreId(0), REQUEST, "t", "#", Wall(0));
        let payloads: Vec<_> = found.iter().map(|message| &message.payload[..]).collect();
        assert_eq!((payloads, more), (vec![&b"2"[..], b"3"], false));
        assert_eq!(retained.set(message("a", b"", None), 2), Set::Done);
        let (found, _) = retained.find(CoreId(0), REQUEST, "t", "+", Wall(0));
        assert_eq!(found.len(), 1);
        assert!(retained.find(CoreId(0), REQUEST, "other", "#", Wall(0)).0.is_empty());
    }

    /// However many match, all are handed out, once, and a reader that leaves is forgotten.
    #[test]
    fn nothing_is_capped() {
        let mut retained = Retained::new(1);
        for number in 0..1000 {
            retained.set(message(&format!("a/{number}"), b"x", None), 1000);
        }
        let (mut all, mut more) = retained.find(CoreId(0), REQUEST, "t", "a/+", Wall(0));
        while more {
            let chunk;
            (chunk, more) = retained.more(CoreId(0), REQUEST, Wall(0));
            assert!(!chunk.is_empty());
            all.extend(chunk);
        }
        let mut topics: Vec<_> = all.iter().map(|message| &*message.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), 1000);
        retained.find(CoreId(0), REQUEST, "t", "a/+", Wall(0));
        retained.stop(CoreId(0), REQUEST);
        assert!(retained.readers.is_empty());
    }

    /// An expired message is not handed out, and its timer does not remove its successor.
    #[test]
    fn expiry_removes_only_what_expired() {
        let mut retained = Retained::new(1);
        retained.set(message("a", b"1", Some(Wall(1000))), 10);
        assert!(retained.find(CoreId(0), REQUEST, "t", "a", Wall(1000)).0.is_empty());
        retained.set(message("a", b"2", Some(Wall(5000))), 10);
        retained.expire(&Arc::from("t"), "a", Wall(1000));
        assert_eq!(retained.find(CoreId(0), REQUEST, "t", "a", Wall(1000)).0.len(), 1);
        retained.expire(&Arc::from("t"), "a", Wall(5000));
        assert!(retained.tenants.is_empty());
    }
}
