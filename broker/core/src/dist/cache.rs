//! Hot path. A core's match cache: topic → who wants it, here and elsewhere.
//!
//! Entries are struck by the filters that change, never by time: an index of the cached topics finds those
//! that a filter matches. A topic is kept when it is asked for the second time within a while, so that
//! topics that never come again cost a look-up and nothing else.
//!
//! ```text
//! by_topic: hash u32 | entry ──► counts, who wants it │ topic up to 40 B, …      two lines of the CPU's cache
//! ```
//!
//! Of many topics none is in the CPU's caches when its message comes: what a hit costs is how many lines are read one
//! after the other. The hash stands in the table, so that only the entry sought is touched, and that has its topic.

use std::cell::Cell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::mem::offset_of;
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
/// one or two receivers all there is to read; by the next line it is found.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct CachedTopic {
    /// Volatile sessions of this core that may receive it.
    pub local: SmallVec<[FanOut; 2]>,
    /// Everybody else, if there is anybody.
    pub elsewhere: Option<Box<Elsewhere>>,
    /// How many subscribe to it and may not.
    pub denied: u32,
    /// Under which access list both were decided.
    pub generation: u32,
    place: Place,
}

const _: () = assert!(offset_of!(CachedTopic, place) + 2 * size_of::<usize>() == 64);
const _: () = assert!(size_of::<CachedTopic>() + 2 * size_of::<usize>() == 128);

/// Where an entry is in the cache, if it is.
#[derive(Clone, Debug, Default)]
struct Place {
    topic: SmallVec<[u8; 40]>,
    tenant: TenantIndex,
    slot: u32,
    /// Asked for since the hand of the clock passed.
    used: Cell<bool>,
}

impl CachedTopic {
    /// An entry that is not in the cache yet.
    pub fn new(
        local: SmallVec<[FanOut; 2]>,
        (denied, generation): (u32, u32),
        elsewhere: Option<Box<Elsewhere>>,
    ) -> CachedTopic {
        CachedTopic { local, elsewhere, denied, generation, place: Place::default() }
    }

    fn is(&self, tenant: TenantIndex, topic: &str) -> bool {
        *self.place.topic == *topic.as_bytes() && self.place.tenant == tenant
    }

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

/// An entry and its hash: growing the table touches no entry, and neither does meeting another topic's.
struct Found {
    hash: u32,
    entry: Rc<CachedTopic>,
}

const _: () = assert!(size_of::<Found>() == 16);

/// The table takes positions from the low bits and tags from the top seven: both come out of the 32 that are kept.
fn table_hash(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// See the module's documentation.
pub struct MatchCache {
    by_topic: HashTable<Found>,
    /// The same entries, for the clock and the index.
    slots: Slab<Rc<CachedTopic>>,
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
            by_topic: HashTable::new(),
            slots: Slab::new(),
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
        let hash = short(self.hash(tenant, topic));
        let sought = |found: &Found| found.hash == hash && found.entry.is(tenant, topic);
        let entry = &self.by_topic.find(table_hash(hash), sought)?.entry;
        entry.place.used.set(true);
        Some(Rc::clone(entry))
    }

    /// Puts into the place of an entry what its receivers here are by now.
    pub fn renew(
        &mut self,
        former: &CachedTopic,
        local: SmallVec<[FanOut; 2]>,
        (denied, generation): (u32, u32),
    ) -> Rc<CachedTopic> {
        let (elsewhere, place) = (former.elsewhere.clone(), former.place.clone());
        let slot = place.slot;
        let hash = short(hash_topic(&self.hasher, place.tenant, topic_of(&place)));
        let renewed = Rc::new(CachedTopic { local, elsewhere, denied, generation, place });
        let sought = |found: &Found| found.entry.place.slot == slot;
        if let Some(found) = self.by_topic.find_mut(table_hash(hash), sought) {
            found.entry = Rc::clone(&renewed);
            self.slots[slot as usize] = Rc::clone(&renewed);
        }
        renewed
    }

    /// Offers an entry that was just looked up; it is kept if its topic has been asked for before.
    pub fn offer(&mut self, tenant: TenantIndex, topic: &str, value: &mut Rc<CachedTopic>) {
        let hash = self.hash(tenant, topic);
        if self.topics_max == 0 || !self.seen.again(hash) {
            return;
        }
        self.remove(tenant, topic);
        while self.slots.len() >= self.topics_max {
            self.evict();
        }
        let slot = u32::try_from(self.slots.vacant_key()).expect("at most topics_max");
        let (text, used) = (SmallVec::from_slice(topic.as_bytes()), Cell::new(true));
        Rc::make_mut(value).place = Place { topic: text, tenant, slot, used };
        self.slots.insert(Rc::clone(value));
        let found = Found { hash: short(hash), entry: Rc::clone(value) };
        self.by_topic.insert_unique(table_hash(found.hash), found, |found| table_hash(found.hash));
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
        let entry = self.slots.remove(slot as usize);
        let (tenant, topic) = (entry.place.tenant, topic_of(&entry.place));
        let hash = short(self.hash(tenant, topic));
        if let Ok(found) =
            self.by_topic.find_entry(table_hash(hash), |other| Rc::ptr_eq(&other.entry, &entry))
        {
            found.remove();
        }
        self.index_of(tenant).remove(topic);
    }

    /// Second chance: the first entry after the hand that was not asked for since the hand passed.
    fn evict(&mut self) {
        loop {
            self.hand = if self.hand >= self.slots.capacity() { 0 } else { self.hand };
            let at = self.hand;
            self.hand += 1;
            match self.slots.get(at) {
                Some(entry) if entry.place.used.get() => entry.place.used.set(false),
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

/// As much of a hash as the table keeps; the other bits are the fingerprint of a topic that was seen once.
fn short(hash: u64) -> u32 {
    hash as u32
}

fn topic_of(place: &Place) -> &str {
    std::str::from_utf8(&place.topic).expect("it was a topic")
}

fn hash_topic(hasher: &impl BuildHasher, tenant: TenantIndex, topic: &str) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u32(tenant.0);
    topic.hash(&mut state);
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantIndex = TenantIndex(0);

    fn entry(denied: u32) -> Rc<CachedTopic> {
        Rc::new(CachedTopic::new(SmallVec::new(), (denied, 0), None))
    }

    /// Offers a topic until it is kept.
    fn keep(cache: &mut MatchCache, tenant: TenantIndex, topic: &str, denied: u32) {
        for _ in 0..2 {
            cache.offer(tenant, topic, &mut entry(denied));
        }
    }

    fn denied(cache: &mut MatchCache, tenant: TenantIndex, topic: &str) -> Option<u32> {
        cache.get(tenant, topic).map(|entry| entry.denied)
    }

    /// Topics of any length are found under their tenant, and under no other; those that a filter matches are struck.
    #[test]
    fn topics_are_found_and_struck() {
        let mut cache = MatchCache::new(1, 10_000);
        let topics: Vec<String> = (0..2000).map(|at| format!("{}/{at}", "x".repeat(at % 90))).collect();
        for (topic, number) in topics.iter().zip(0..) {
            keep(&mut cache, TENANT, topic, number);
            keep(&mut cache, TenantIndex(1), topic, number + 5000);
        }
        for (topic, number) in topics.iter().zip(0..) {
            assert_eq!(denied(&mut cache, TENANT, topic), Some(number));
            assert_eq!(denied(&mut cache, TenantIndex(1), topic), Some(number + 5000));
        }
        cache.strike(TENANT, "xx/+");
        for (topic, number) in topics.iter().zip(0..) {
            let stays = !topic.starts_with("xx/");
            assert_eq!(denied(&mut cache, TENANT, topic), stays.then_some(number));
            assert_eq!(denied(&mut cache, TenantIndex(1), topic), Some(number + 5000));
        }
    }

    /// What a message holds while its topic is struck and kept anew stays as it was, and renewing an entry changes that
    /// entry alone.
    #[test]
    fn an_entry_that_is_held_does_not_change() {
        let mut cache = MatchCache::new(1, 10);
        keep(&mut cache, TENANT, "a", 1);
        keep(&mut cache, TENANT, "b", 2);
        let held = cache.get(TENANT, "a").expect("kept");
        let mut other = Rc::clone(&held);
        cache.strike(TENANT, "a");
        cache.offer(TENANT, "c", &mut other);
        cache.offer(TENANT, "c", &mut other);
        assert_eq!((topic_of(&held.place), topic_of(&other.place)), ("a", "c"));
        assert_eq!(denied(&mut cache, TENANT, "a"), None);
        let renewed = cache.renew(&other, SmallVec::new(), (7, 1));
        assert!(Rc::ptr_eq(&renewed, &cache.get(TENANT, "c").expect("kept")));
        assert_eq!((other.denied, renewed.denied), (1, 7));
        assert_eq!(denied(&mut cache, TENANT, "b"), Some(2));
    }

    /// When it is full, what was not asked for lately leaves.
    #[test]
    fn the_oldest_unused_topic_leaves() {
        let mut cache = MatchCache::new(1, 3);
        ["a", "b", "c"].iter().zip(0..).for_each(|(topic, at)| keep(&mut cache, TENANT, topic, at));
        keep(&mut cache, TENANT, "d", 3); // the hand has passed all of them, and the first leaves
        assert_eq!((cache.len(), denied(&mut cache, TENANT, "a")), (3, None));
        assert_eq!(denied(&mut cache, TENANT, "b"), Some(1));
        keep(&mut cache, TENANT, "e", 4);
        assert_eq!((denied(&mut cache, TENANT, "b"), denied(&mut cache, TENANT, "c")), (Some(1), None));
    }
}
