//! retain: the retained messages of one range.
//!
//! A replicated state machine (see [`super`]). What it holds of a message is its [`MessageId`] and when it
//! expires; the message itself, topic and properties included, is read from the log. A wildcard can match any
//! number of messages: [`RetainRange::page`] hands them out page by page, as the subscriber asks for them, and
//! none is left out. Of its readers it remembers nothing: they say where they are, so that one may stop, come
//! back much later, or ask twice.

pub mod command;

mod checkpoint;
mod machine;
mod names;
mod topics;

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use range::RangeId;
use rkyv::rancor::Error;
use slab::Slab;

pub use topics::Position;

use command::Command;
use names::{Digest, Names, write_key};
use topics::{Place, Topics, place};

use super::seen::Seen;
use super::{Committed, MessageId};
use crate::identity::Incarnation;
use crate::message::Message;
use crate::time::Wall;

/// Some of what a filter matches.
#[derive(Debug, Default)]
pub struct Page {
    /// As they are retained now.
    pub messages: Vec<Arc<Message>>,
    /// Where the next page begins; None: this is the last.
    pub rest: Option<Position>,
}

/// What a command came to, for whoever proposed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// This publish was applied before; nothing was changed.
    Repeated,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct RetainRange {
    range: RangeId,
    topics: Slab<Topic>,
    names: Names,
    tenants: Slab<Tenant>,
    tenants_by_name: HashMap<Arc<str>, u32, foldhash::fast::FixedState>,
    /// Topics whose messages expire, the next one first.
    expiring: BTreeSet<(u64, u32)>,
    seen: Seen,
    /// Scratch.
    key: Vec<u8>,
}

/// A topic that has a retained message.
#[derive(Debug)]
pub struct Topic {
    place: Place,
    /// Milliseconds since 1970; `u64::MAX` if it does not.
    expires: u64,
    tenant: u32,
    bytes: u32,
    message: MessageId,
}

const _: () = assert!(size_of::<Topic>() <= 48);

#[derive(Debug)]
struct Tenant {
    name: Arc<str>,
    topics: Topics,
    /// What their messages come to.
    bytes: u64,
}

/// What a command did to a topic.
struct Change {
    outcome: Outcome,
    /// The command's message is held.
    holds: bool,
    /// This one is not held any more.
    released: Option<MessageId>,
}

impl Change {
    const NONE: Change = Change { outcome: Outcome::Done, holds: false, released: None };
}

impl Topic {
    /// Its message.
    #[must_use]
    pub fn message(&self) -> MessageId {
        self.message
    }

    /// Bytes of topic, properties and payload.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        self.bytes
    }
}

impl RetainRange {
    /// A range without messages; `seed` is of its hash tables alone, and changes nothing that can be seen.
    #[must_use]
    pub fn new(range: RangeId, seed: u64) -> RetainRange {
        RetainRange {
            range,
            topics: Slab::new(),
            names: Names::default(),
            tenants: Slab::new(),
            tenants_by_name: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            expiring: BTreeSet::new(),
            seen: Seen::new(seed),
            key: Vec::new(),
        }
    }

    /// Executes a committed command.
    fn execute(&mut self, committed: Committed<'_>, command: &[u8]) -> Result<Change, Error> {
        let change = match Command::decode(command)? {
            Command::Set(set) => {
                if set.origin.as_ref().is_some_and(|origin| self.seen.is_repeat(origin, 0)) {
                    return Ok(Change { outcome: Outcome::Repeated, ..Change::NONE });
                }
                let head = &set.message;
                let bytes =
                    head.topic.len() + head.properties.len() + head.payload_bytes.to_native() as usize;
                let bytes = u32::try_from(bytes).expect("a packet is below 256 MiB");
                self.set(committed, &head.tenant, &head.topic, (head.expires.to_native(), bytes))
            }
            Command::Clear(clear) => {
                if clear.origin.as_ref().is_some_and(|origin| self.seen.is_repeat(origin, 0)) {
                    return Ok(Change { outcome: Outcome::Repeated, ..Change::NONE });
                }
                self.remove_if(committed, &clear.tenant, &clear.topic, |_| true)
            }
            Command::Expire(expire) => {
                let due = |topic: &Topic| topic.expires <= committed.at.0;
                self.remove_if(committed, &expire.tenant, &expire.topic, due)
            }
            Command::Forget(forget) => {
                self.seen.forget(Incarnation(forget.incarnation.to_native()));
                Change::NONE
            }
        };
        Ok(change)
    }

    fn set(
        &mut self,
        committed: Committed<'_>,
        tenant: &str,
        topic: &str,
        (expires, bytes): (u64, u32),
    ) -> Change {
        let Some((digest, found)) = self.stand(committed, tenant, topic) else { return Change::NONE };
        let message = committed.message();
        let Some(slot) = found else {
            self.insert(tenant, topic, digest, (message, expires, bytes));
            return Change { holds: true, ..Change::NONE };
        };
        let topic = &mut self.topics[slot as usize];
        if topic.expires != expires {
            self.expiring.remove(&(topic.expires, slot));
            if expires != u64::MAX {
                self.expiring.insert((expires, slot));
            }
        }
        let former = std::mem::replace(&mut topic.message, message);
        let tenant = &mut self.tenants[topic.tenant as usize];
        tenant.bytes = tenant.bytes - u64::from(topic.bytes) + u64::from(bytes);
        (topic.expires, topic.bytes) = (expires, bytes);
        Change { holds: true, released: Some(former), ..Change::NONE }
    }

    fn remove_if(
        &mut self,
        committed: Committed<'_>,
        tenant: &str,
        topic: &str,
        condition: impl Fn(&Topic) -> bool,
    ) -> Change {
        let Some((digest, Some(slot))) = self.stand(committed, tenant, topic) else { return Change::NONE };
        if !condition(&self.topics[slot as usize]) {
            return Change::NONE;
        }
        let topic = self.topics.remove(slot as usize);
        self.names.remove(digest, slot);
        self.expiring.remove(&(topic.expires, slot));
        let tenant = &mut self.tenants[topic.tenant as usize];
        tenant.topics.remove(&topic.place);
        tenant.bytes -= u64::from(topic.bytes);
        if tenant.topics.len() == 0 {
            let tenant = self.tenants.remove(topic.tenant as usize);
            self.tenants_by_name.remove(&tenant.name);
        }
        Change { released: Some(topic.message), ..Change::NONE }
    }

    /// Where a topic is, if it has a message. None: its state contains the entry already.
    fn stand(
        &mut self,
        committed: Committed<'_>,
        tenant: &str,
        topic: &str,
    ) -> Option<(Digest, Option<u32>)> {
        let mut key = std::mem::take(&mut self.key);
        let digest = write_key(tenant, topic.as_bytes(), &mut key);
        let contained = committed.contained.is_some_and(|contained| contained(&key));
        self.key = key;
        (!contained).then(|| (digest, self.find(digest, tenant, topic)))
    }

    fn find(&self, digest: Digest, tenant: &str, topic: &str) -> Option<u32> {
        self.names.find(digest, |slot| {
            let other = &self.topics[slot as usize];
            let same = other.place.len() == topic.len() && other.place.iter().copied().eq(place(topic));
            same && *self.tenants[other.tenant as usize].name == *tenant
        })
    }

    fn insert(
        &mut self,
        tenant: &str,
        topic: &str,
        digest: Digest,
        (message, expires, bytes): (MessageId, u64, u32),
    ) {
        let tenant = self.tenant(tenant);
        let place: Place = place(topic).collect::<Vec<u8>>().into();
        let entry = self.topics.vacant_entry();
        let slot = u32::try_from(entry.key()).expect("bounded by memory");
        entry.insert(Topic { place: Arc::clone(&place), expires, tenant, bytes, message });
        self.names.insert(digest, slot);
        let tenant = &mut self.tenants[tenant as usize];
        tenant.topics.insert(place, slot);
        tenant.bytes += u64::from(bytes);
        if expires != u64::MAX {
            self.expiring.insert((expires, slot));
        }
    }

    fn tenant(&mut self, name: &str) -> u32 {
        if let Some(tenant) = self.tenants_by_name.get(name) {
            return *tenant;
        }
        let name: Arc<str> = name.into();
        let tenant = Tenant { name: Arc::clone(&name), topics: Topics::default(), bytes: 0 };
        let tenant = u32::try_from(self.tenants.insert(tenant)).expect("bounded by memory");
        self.tenants_by_name.insert(name, tenant);
        tenant
    }

    /// Some of what a filter matches and has not expired, behind `after` if that is said: `found` is called
    /// with each until it answers false. Where the next page begins; None: there is no more.
    pub fn page(
        &self,
        (tenant, filter): (&str, &str),
        after: Option<&Position>,
        now: Wall,
        mut found: impl FnMut(&Topic) -> bool,
    ) -> Option<Position> {
        let mut take = |slot: u32| {
            let topic = &self.topics[slot as usize];
            topic.expires <= now.0 || found(topic)
        };
        if filter.contains(['+', '#']) {
            let tenant = self.tenants_by_name.get(tenant)?;
            return self.tenants[*tenant as usize].topics.page(filter, after, take);
        }
        let digest = write_key(tenant, filter.as_bytes(), &mut Vec::new());
        if let Some(slot) = self.find(digest, tenant, filter) {
            take(slot);
        }
        None
    }

    /// Whether a topic has a message.
    #[must_use]
    pub fn contains(&self, tenant: &str, topic: &str) -> bool {
        let digest = write_key(tenant, topic.as_bytes(), &mut Vec::new());
        self.find(digest, tenant, topic).is_some()
    }

    /// Topics that have a message.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether nothing is retained.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// How many of them are a tenant's.
    #[must_use]
    pub fn len_of(&self, tenant: &str) -> usize {
        self.tenants_by_name.get(tenant).map_or(0, |tenant| self.tenants[*tenant as usize].topics.len())
    }

    /// Bytes of a tenant's messages, with topics and properties.
    #[must_use]
    pub fn bytes_of(&self, tenant: &str) -> u64 {
        self.tenants_by_name.get(tenant).map_or(0, |tenant| self.tenants[*tenant as usize].bytes)
    }

    /// Bytes of a topic's message, if it has one.
    #[must_use]
    pub fn topic_bytes(&self, tenant: &str, topic: &str) -> Option<u64> {
        let digest = write_key(tenant, topic.as_bytes(), &mut Vec::new());
        self.find(digest, tenant, topic).map(|slot| u64::from(self.topics[slot as usize].bytes))
    }

    /// When the next message expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Wall> {
        self.expiring.first().map(|(expires, _)| Wall(*expires))
    }

    /// Tenants and topics of messages whose time has passed, in that order.
    pub fn expired(&self, now: Wall) -> impl Iterator<Item = (&str, String)> {
        let expired = self.expiring.iter().take_while(move |(expires, _)| *expires <= now.0);
        expired.map(|(_, slot)| {
            let topic = &self.topics[*slot as usize];
            let spelled = topics::spell(&topic.place).collect();
            let spelled = String::from_utf8(spelled).expect("a topic with other separators");
            (&*self.tenants[topic.tenant as usize].name, spelled)
        })
    }

    /// All messages that it holds.
    fn messages(&self) -> impl Iterator<Item = MessageId> {
        self.topics.iter().map(|(_, topic)| topic.message)
    }
}

#[cfg(test)]
mod tests;
