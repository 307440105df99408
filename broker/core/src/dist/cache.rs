//! Hot path. A core's match cache: topic → who wants it, here and elsewhere.
//!
//! Entries are struck by the filters that change, never by time: an index of the cached topics finds those
//! that a filter matches. A topic is kept when it is asked for the second time within a while, so that
//! topics that never come again cost a look-up and nothing else.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::rc::Rc;

use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use super::seen::Seen;
use super::{Destinations, GroupState, Target};
use crate::delivery::DeliveryOptions;
use crate::identity::ConnectionId;
use crate::tenant::TenantIndex;
use crate::trie::Trie;

/// One volatile session of this core in a fan-out list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanOut {
    /// Its connection.
    pub connection: ConnectionId,
    /// Of the subscription that matched.
    pub options: DeliveryOptions,
}

const _: () = assert!(size_of::<FanOut>() == 12);

/// Who wants a topic, ready to be used for each of its messages. With its counts a line of the CPU's cache, and for
/// one or two receivers all there is to read: of many topics none is in the cache when its message comes.
#[derive(Clone, Debug)]
pub struct CachedTopic {
    /// Volatile sessions of this core that may receive it.
    pub local: SmallVec<[FanOut; 2]>,
    /// How many subscribe to it and may not.
    pub denied: u32,
    /// Under which access list both were decided.
    pub generation: u32,
    /// Everybody else, if there is anybody.
    pub elsewhere: Option<Box<Elsewhere>>,
}

const _: () = assert!(size_of::<CachedTopic>() + 2 * size_of::<usize>() <= 64);

impl CachedTopic {
    /// Durable sessions that want it, by core.
    pub fn sessions(&self) -> &[Target] {
        self.elsewhere.as_ref().map_or(&[], |elsewhere| &elsewhere.destinations.sessions)
    }
}

/// Who wants a topic beside the volatile sessions of this core.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// This core itself is not among its cores.
    pub destinations: Destinations,
    /// For each of the destinations' groups: what this core remembers of it.
    pub groups: Vec<Rc<GroupState>>,
}

struct Slot {
    tenant: TenantIndex,
    topic: Box<str>,
    value: Rc<CachedTopic>,
    /// Asked for since the hand of the clock passed.
    used: bool,
}

/// See the module's documentation.
pub struct MatchCache {
    slots: Slab<Slot>,
    by_topic: HashTable<u32>,
    /// Cached topics by tenant, to be found by filter.
    index: Vec<Trie<u32>>,
    /// Topics asked for once.
    seen: Seen,
    hasher: foldhash::fast::FixedState,
    seed: u64,
    topics_max: usize,
    /// Where the eviction goes on: the clock's hand.
    hand: usize,
}

impl MatchCache {
    /// An empty cache of at most `topics_max` topics.
    pub fn new(seed: u64, topics_max: u32) -> MatchCache {
        MatchCache {
            slots: Slab::new(),
            by_topic: HashTable::new(),
            index: Vec::new(),
            seen: Seen::new(seed, topics_max as usize),
            hasher: foldhash::fast::FixedState::with_seed(seed),
            seed,
            topics_max: topics_max as usize,
            hand: 0,
        }
    }

    /// Topics cached.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The entry of a topic, if it is cached.
    pub fn get(&mut self, tenant: TenantIndex, topic: &str) -> Option<Rc<CachedTopic>> {
        let hash = self.hash(tenant, topic);
        let slot = *self.by_topic.find(hash, |slot| {
            let slot = &self.slots[*slot as usize];
            &*slot.topic == topic && slot.tenant == tenant
        })?;
        let slot = &mut self.slots[slot as usize];
        slot.used = true;
        Some(Rc::clone(&slot.value))
    }

    /// Puts another entry in the place of one that is there.
    pub fn replace(&mut self, tenant: TenantIndex, topic: &str, value: &Rc<CachedTopic>) {
        if let Some(slot) = self.index.get(tenant.index()).and_then(|index| index.get(topic)) {
            self.slots[*slot as usize].value = Rc::clone(value);
        }
    }

    /// Offers an entry that was just looked up; it is kept if its topic has been asked for before.
    pub fn offer(&mut self, tenant: TenantIndex, topic: &str, value: &Rc<CachedTopic>) {
        let hash = self.hash(tenant, topic);
        if self.topics_max == 0 || !self.seen.again(hash) {
            return;
        }
        self.remove(tenant, topic);
        while self.slots.len() >= self.topics_max {
            self.evict();
        }
        let slot = Slot { tenant, topic: topic.into(), value: Rc::clone(value), used: true };
        let slot = u32::try_from(self.slots.insert(slot)).expect("at most topics_max");
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.by_topic.insert_unique(hash, slot, |slot| {
            let slot = &slots[*slot as usize];
            hash_topic(hasher, slot.tenant, &slot.topic)
        });
        self.index_of(tenant).insert(topic, slot);
    }

    /// Forgets every topic that a filter matches.
    pub fn strike(&mut self, tenant: TenantIndex, filter: &str) {
        let Some(index) = self.index.get(tenant.index()).filter(|index| !index.is_empty()) else { return };
        let mut struck = Vec::new();
        index.matching_topics(filter, |slot| {
            struck.push(*slot);
            ControlFlow::Continue(())
        });
        for slot in struck {
            self.remove_slot(slot);
        }
    }

    fn remove(&mut self, tenant: TenantIndex, topic: &str) {
        if let Some(slot) = self.index.get(tenant.index()).and_then(|index| index.get(topic)) {
            self.remove_slot(*slot);
        }
    }

    fn remove_slot(&mut self, slot: u32) {
        let Slot { tenant, topic, .. } = self.slots.remove(slot as usize);
        let hash = self.hash(tenant, &topic);
        if let Ok(entry) = self.by_topic.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.index_of(tenant).remove(&topic);
    }

    /// Second chance: the first entry after the hand that was not asked for since the hand passed.
    fn evict(&mut self) {
        loop {
            self.hand = if self.hand >= self.slots.capacity() { 0 } else { self.hand };
            let at = self.hand;
            self.hand += 1;
            match self.slots.get_mut(at) {
                Some(slot) if slot.used => slot.used = false,
                Some(_) => return self.remove_slot(at as u32),
                None => {}
            }
        }
    }

    fn index_of(&mut self, tenant: TenantIndex) -> &mut Trie<u32> {
        while self.index.len() <= tenant.index() {
            self.index.push(Trie::new(self.seed));
        }
        &mut self.index[tenant.index()]
    }

    fn hash(&self, tenant: TenantIndex, topic: &str) -> u64 {
        hash_topic(&self.hasher, tenant, topic)
    }
}

fn hash_topic(hasher: &impl BuildHasher, tenant: TenantIndex, topic: &str) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u32(tenant.0);
    topic.hash(&mut state);
    state.finish()
}
