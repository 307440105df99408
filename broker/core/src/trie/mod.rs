//! Hot path. Values by path, where a path is levels separated by '/'.
//!
//! Serves two ways round: topic filters found by topic (`matching_filters`: routing) and topics found by filter
//! (`matching_topics`: retained messages, cached topics to invalidate). Knows the matching rules of MQTT 5 section 4.7
//! and nothing else of MQTT: it never validates a path, and what is no valid path is merely stored under its levels.
//! Nothing here recurses, so depth is bounded by the length of a path and not by the stack.

mod arena;
mod level;
mod matching;
#[cfg(test)]
mod tests;

use arena::{Arena, NodeId};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use level::{LevelKey, Levels};

/// Values by topic or by topic filter. A view of whatever owns it: one core, never shared.
///
/// Each distinct prefix is one node of 64 bytes (with a value of up to 8) in one arena. One hash table serves the
/// edges of all nodes; an only child is not even in it, because its parent's link to it is enough.
///
/// Iteration orders depend on the operations alone, never on the seed.
pub struct Trie<V> {
    arena: Arena<V>,
    /// Edges to the children of nodes that have two or more of them ("+" and "#" not counted).
    edges: HashTable<Edge>,
    hasher: FixedState,
    /// Mixed with a level's hash and its parent's id; odd.
    mix: u64,
    len: usize,
    long_level_bytes: usize,
}

/// Carries its hash so that growing the table touches no node.
#[derive(Clone, Copy, Debug)]
struct Edge {
    hash: u32,
    child: NodeId,
}

const _: () = assert!(size_of::<Edge>() == 8);

/// The table takes positions from the low bits and tags from the top seven: both come out of the 32 we keep.
fn table_hash(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl<V> Trie<V> {
    /// An empty trie. Clients choose the paths, so `seed` must be a secret from them; it changes no order.
    pub fn new(seed: u64) -> Self {
        Self {
            arena: Arena::new(),
            edges: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            mix: fold(seed ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93) | 1,
            len: 0,
            long_level_bytes: 0,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at exactly this path; wildcards stand for themselves.
    pub fn get(&self, path: &str) -> Option<&V> {
        let node = self.find(path)?;
        self.arena[node].value.as_ref()
    }

    /// The value at exactly this path, to be changed.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut V> {
        let node = self.find(path)?;
        self.arena[node].value.as_mut()
    }

    /// The value at this path, made by `make` if there is none.
    pub fn get_or_insert_with(&mut self, path: &str, make: impl FnOnce() -> V) -> &mut V {
        let node = self.find_or_create(path);
        let value = &mut self.arena[node].value;
        if value.is_none() {
            self.len += 1;
        }
        value.get_or_insert_with(make)
    }

    /// Puts a value at this path and returns the one it replaces.
    pub fn insert(&mut self, path: &str, value: V) -> Option<V> {
        let node = self.find_or_create(path);
        let replaced = self.arena[node].value.replace(value);
        if replaced.is_none() {
            self.len += 1;
        }
        replaced
    }

    /// Takes the value at this path, and frees the nodes that served it alone.
    pub fn remove(&mut self, path: &str) -> Option<V> {
        let mut node = self.find(path)?;
        let value = self.arena[node].value.take()?;
        self.len -= 1;
        while node != NodeId::ROOT && self.arena[node].is_unused() {
            let parent = self.arena[node].parent;
            self.detach(node, parent);
            node = parent;
        }
        Some(value)
    }

    /// Bytes allocated, without what the values own.
    pub fn memory_bytes(&self) -> usize {
        self.arena.allocated_bytes() + self.edges.allocation_size() + self.long_level_bytes
    }

    fn find(&self, path: &str) -> Option<NodeId> {
        let mut node = NodeId::ROOT;
        for level in Levels::new(path) {
            node = self.child(node, &LevelKey::new(level));
            if node == NodeId::NONE {
                return None;
            }
        }
        Some(node)
    }

    fn find_or_create(&mut self, path: &str) -> NodeId {
        let mut node = NodeId::ROOT;
        for level in Levels::new(path) {
            let key = LevelKey::new(level);
            node = match self.child(node, &key) {
                NodeId::NONE => self.attach(node, &key),
                child => child,
            };
        }
        node
    }

    /// The child of exactly this level, or `NONE`.
    fn child(&self, parent: NodeId, key: &LevelKey<'_>) -> NodeId {
        if key.is_plus() {
            self.arena[parent].plus
        } else if key.is_hash() {
            self.arena[parent].hash
        } else {
            self.literal_child(parent, key, &mut None)
        }
    }

    /// The child of this level, which is no wildcard, or `NONE`. `level_hash` keeps the level's hash from one parent
    /// to the next; it is made when first needed.
    fn literal_child(&self, parent: NodeId, key: &LevelKey<'_>, level_hash: &mut Option<u64>) -> NodeId {
        let node = &self.arena[parent];
        match node.children {
            0 => NodeId::NONE,
            1 if key.equals(&self.arena[node.first_child].level) => node.first_child,
            1 => NodeId::NONE,
            _ => {
                let level_hash = *level_hash.get_or_insert_with(|| key.hash(&self.hasher));
                let hash = self.edge_hash(parent, level_hash);
                let edge = self.edges.find(table_hash(hash), |edge| {
                    let child = &self.arena[edge.child];
                    edge.hash == hash && child.parent == parent && key.equals(&child.level)
                });
                edge.map_or(NodeId::NONE, |edge| edge.child)
            }
        }
    }

    fn edge_hash(&self, parent: NodeId, level_hash: u64) -> u32 {
        (fold(level_hash ^ parent.number().wrapping_mul(0x9e37_79b9_7f4a_7c15), self.mix) >> 16) as u32
    }

    /// Adds a child that is not there yet.
    fn attach(&mut self, parent: NodeId, key: &LevelKey<'_>) -> NodeId {
        let level = key.to_level();
        self.long_level_bytes += level.heap_bytes();
        let child = self.arena.allocate(level, parent);
        if key.is_plus() {
            self.arena[parent].plus = child;
            return child;
        }
        if key.is_hash() {
            self.arena[parent].hash = child;
            return child;
        }
        let first = self.arena[parent].first_child;
        self.arena[parent].children += 1;
        if first == NodeId::NONE {
            self.arena[parent].first_child = child;
            self.arena[child].previous = child;
            return child;
        }
        let last = self.arena[first].previous;
        self.arena[last].next = child;
        self.arena[child].previous = last;
        self.arena[first].previous = child;
        if self.arena[parent].children == 2 {
            self.insert_edge(parent, first);
        }
        self.insert_edge(parent, child);
        child
    }

    /// Unlinks and frees a child that serves nothing.
    fn detach(&mut self, child: NodeId, parent: NodeId) {
        if self.arena[parent].plus == child {
            self.arena[parent].plus = NodeId::NONE;
        } else if self.arena[parent].hash == child {
            self.arena[parent].hash = NodeId::NONE;
        } else {
            self.detach_literal(child, parent);
        }
        self.long_level_bytes -= self.arena[child].level.heap_bytes();
        self.arena.release(child);
    }

    fn detach_literal(&mut self, child: NodeId, parent: NodeId) {
        let siblings = self.arena[parent].children - 1;
        self.arena[parent].children = siblings;
        if siblings > 0 {
            self.remove_edge(parent, child);
        }
        let (next, previous) = (self.arena[child].next, self.arena[child].previous);
        let first = self.arena[parent].first_child;
        if child == first {
            self.arena[parent].first_child = next;
        } else {
            self.arena[previous].next = next;
        }
        if next != NodeId::NONE {
            self.arena[next].previous = previous;
        } else if child != first {
            self.arena[first].previous = previous;
        }
        if siblings == 1 {
            let only = self.arena[parent].first_child;
            self.remove_edge(parent, only);
        }
    }

    fn insert_edge(&mut self, parent: NodeId, child: NodeId) {
        let hash = self.edge_hash(parent, self.arena[child].level.hash(&self.hasher));
        self.edges.insert_unique(table_hash(hash), Edge { hash, child }, |edge| table_hash(edge.hash));
    }

    fn remove_edge(&mut self, parent: NodeId, child: NodeId) {
        let hash = self.edge_hash(parent, self.arena[child].level.hash(&self.hasher));
        let Ok(entry) = self.edges.find_entry(table_hash(hash), |edge| edge.child == child) else {
            unreachable!("a child with siblings has an edge");
        };
        entry.remove();
    }
}
