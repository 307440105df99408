//! Hot path. Values by path, where a path is levels separated by '/'.
//!
//! Serves two ways round: topic filters found by topic (`matching_filters`: routing) and topics found by filter
//! (`matching_topics`: cached topics to invalidate). Knows the matching rules of MQTT 5 section 4.7
//! and nothing else of MQTT: it never validates a path, and what is no valid path is merely stored under its levels.
//! Nothing here recurses, so depth is bounded by the length of a path and not by the stack.

mod arena;
mod compact;
mod label;
mod level;
mod matching;
mod slots;
#[cfg(test)]
mod tests;

use std::fmt;

use arena::{Arena, Below, Branch, Node, NodeId};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use label::Texts;
use level::{LevelKey, Levels};
use slots::{AT_ONCE_MAX, SLOTS_KEPT};
use smallvec::SmallVec;

/// Values by topic or by topic filter. A view of whatever owns it: one core, never shared.
///
/// A level that paths share is a node; the levels after the last shared one are a text inside their first node, so
/// that a million filters `dev/<serial>/+/state` are a million nodes and not three. A node is 64 bytes, one cache line,
/// if a value is eight bytes at most: a number or a `Box`. One hash table serves the children of all nodes; an only
/// child is not in it, because its parent's link is enough.
///
/// Growing is by doubling: on the way to a million filters, one insertion takes about 10 ms, the others 0.1 us. It
/// shrinks bit by bit: when far fewer nodes are left than there were, each removal moves a few to the front, and when
/// few are left at all, what lies behind them is given back.
///
/// The orders in which values are found follow from the operations alone, never from the seed.
pub struct Trie<V> {
    arena: Arena<V>,
    texts: Texts,
    /// Edges to the listed children of nodes that have two or more of them.
    edges: HashTable<Edge>,
    hasher: FixedState,
    /// Mixed with a level's hash and its parent's id; odd.
    mix: u64,
    len: usize,
    /// From this place on the nodes have been looked at by the sweep that moves them to the front.
    sweep: usize,
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

/// Both halves of the product, folded: every bit of either factor reaches every bit of the result.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl<V> fmt::Debug for Trie<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither millions of nodes nor the secret seed.
        f.debug_struct("Trie").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<V> Trie<V> {
    /// An empty trie. Clients choose the paths, so `seed` must be a secret from them; it changes no order.
    pub fn new(seed: u64) -> Self {
        Self {
            arena: Arena::new(),
            texts: Texts::new(),
            edges: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            mix: fold(seed ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93) | 1,
            len: 0,
            sweep: 0,
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
        let missing = value.is_none();
        let value = value.get_or_insert_with(make);
        self.len += usize::from(missing);
        value
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

    /// Takes the value at this path, and frees the nodes that served it alone. Their memory serves later paths, or is
    /// given back when much is free.
    pub fn remove(&mut self, path: &str) -> Option<V> {
        let mut node = self.find(path)?;
        let value = self.arena[node].value.take()?;
        self.len -= 1;
        if let Below::Suffix(suffix) = self.arena[node].below {
            self.texts.release(suffix);
            self.arena[node].below = Below::Branch(Branch::EMPTY);
        }
        while node != NodeId::ROOT && self.is_unused(node) {
            let parent = self.arena[node].parent;
            self.detach(node, parent);
            node = parent;
        }
        if self.is_empty() && self.arena.slots() > SLOTS_KEPT {
            (self.arena, self.texts, self.edges) = (Arena::new(), Texts::new(), HashTable::new());
        }
        self.compact();
        Some(value)
    }

    /// Bytes allocated, without what the values own.
    pub fn memory_bytes(&self) -> usize {
        self.arena.allocated_bytes() + self.texts.allocated_bytes() + self.edges.allocation_size()
    }

    fn is_unused(&self, node: NodeId) -> bool {
        let node = &self.arena[node];
        node.value.is_none() && *node.branch() == Branch::EMPTY
    }

    /// The node whose value is that of `path`.
    fn find(&self, path: &str) -> Option<NodeId> {
        let mut node = NodeId::ROOT;
        let mut levels = Levels::new(path);
        while let Some(level) = levels.next() {
            node = self.child(node, &LevelKey::new(level));
            if node == NodeId::NONE {
                return None;
            }
            if let Below::Suffix(suffix) = &self.arena[node].below {
                return (levels.rest == Some(self.texts.text(suffix))).then_some(node);
            }
        }
        Some(node)
    }

    fn find_or_create(&mut self, path: &str) -> NodeId {
        let mut node = NodeId::ROOT;
        let mut levels = Levels::new(path);
        while let Some(level) = levels.next() {
            let key = LevelKey::new(level);
            let child = self.child(node, &key);
            if child == NodeId::NONE {
                return self.attach(node, &key, levels.rest);
            }
            if let Below::Suffix(suffix) = &self.arena[child].below {
                if levels.rest == Some(self.texts.text(suffix)) {
                    return child;
                }
                self.split(child, levels.clone());
            }
            node = child;
        }
        node
    }

    /// Turns a node with a suffix into a branch, and so on with each level of the suffix that is also the next of
    /// `other`, the levels of another path through this node.
    fn split(&mut self, node: NodeId, mut other: Levels<'_>) {
        let Below::Suffix(suffix) = self.arena[node].below else {
            unreachable!("only a node with a suffix is split");
        };
        let value = self.arena[node].value.take();
        let text: SmallVec<[u8; 64]> = self.texts.text(&suffix).into();
        self.texts.release(suffix);
        let mut levels = Levels { rest: Some(&text) };
        let mut parent = node;
        self.arena[node].below = Below::Branch(Branch::EMPTY);
        while let Some(level) = levels.next() {
            let shared = other.next() == Some(level);
            let rest = if shared { None } else { levels.rest };
            parent = self.attach(parent, &LevelKey::new(level), rest);
            if !shared {
                break;
            }
        }
        self.arena[parent].value = value;
    }

    /// The child of exactly this level, or `NONE`.
    fn child(&self, parent: NodeId, key: &LevelKey<'_>) -> NodeId {
        if key.is_plus() {
            self.arena[parent].branch().plus
        } else if key.is_hash() {
            self.arena[parent].branch().hash
        } else {
            self.literal_child(parent, self.arena[parent].branch(), key)
        }
    }

    /// The child of this level, which is no wildcard, or `NONE`.
    fn literal_child(&self, parent: NodeId, branch: &Branch, key: &LevelKey<'_>) -> NodeId {
        match branch.children {
            0 => NodeId::NONE,
            1 if key.equals(&self.arena[branch.first_child].level, &self.texts) => branch.first_child,
            1 => NodeId::NONE,
            _ => {
                let hash = self.edge_hash(parent, key.hash(&self.hasher));
                let edge = self.edges.find(table_hash(hash), |edge| {
                    edge.hash == hash && {
                        let child = &self.arena[edge.child];
                        child.parent == parent && key.equals(&child.level, &self.texts)
                    }
                });
                edge.map_or(NodeId::NONE, |edge| edge.child)
            }
        }
    }

    fn edge_hash(&self, parent: NodeId, level_hash: u64) -> u32 {
        (fold(level_hash ^ parent.number().wrapping_mul(0x9e37_79b9_7f4a_7c15), self.mix) >> 16) as u32
    }

    /// Adds a child that is not there yet, with the remaining levels of its path as its suffix.
    fn attach(&mut self, parent: NodeId, key: &LevelKey<'_>, rest: Option<&[u8]>) -> NodeId {
        let level = self.texts.store(key.text());
        let below = match rest {
            Some(rest) => Below::Suffix(self.texts.store(rest)),
            None => Below::Branch(Branch::EMPTY),
        };
        let child = self.arena.allocate(Node::new(level, below, parent));
        let branch = self.arena[parent].branch_mut();
        if key.is_plus() {
            branch.plus = child;
            return child;
        }
        if key.is_hash() {
            branch.hash = child;
            return child;
        }
        branch.children += 1;
        let (first, children) = (branch.first_child, branch.children);
        if children == 1 {
            branch.first_child = child;
            self.arena[child].previous = child;
            return child;
        }
        let last = self.arena[first].previous;
        self.arena[last].next = child;
        self.arena[child].previous = last;
        self.arena[first].previous = child;
        if children == 2 {
            self.insert_edge(parent, first);
        }
        self.insert_edge(parent, child);
        child
    }

    /// Unlinks and frees a child that serves nothing.
    fn detach(&mut self, child: NodeId, parent: NodeId) {
        let branch = self.arena[parent].branch_mut();
        if branch.plus == child {
            branch.plus = NodeId::NONE;
        } else if branch.hash == child {
            branch.hash = NodeId::NONE;
        } else {
            self.detach_listed(child, parent);
        }
        self.texts.release(self.arena[child].level);
        self.arena.release(child);
    }

    fn detach_listed(&mut self, child: NodeId, parent: NodeId) {
        let Node { next, previous, .. } = self.arena[child];
        let branch = self.arena[parent].branch_mut();
        branch.children -= 1;
        let siblings = branch.children;
        let first = branch.first_child;
        if child == first {
            branch.first_child = next;
        } else {
            self.arena[previous].next = next;
        }
        if next != NodeId::NONE {
            self.arena[next].previous = previous;
        } else if child != first {
            self.arena[first].previous = previous;
        }
        if siblings > 0 {
            self.remove_edge(parent, child);
        }
        if siblings == 1 {
            self.remove_edge(parent, self.arena[parent].branch().first_child);
        }
    }

    fn insert_edge(&mut self, parent: NodeId, child: NodeId) {
        let hash = self.edge_hash(parent, self.texts.hash(&self.hasher, &self.arena[child].level));
        self.edges.insert_unique(table_hash(hash), Edge { hash, child }, |edge| table_hash(edge.hash));
    }

    fn remove_edge(&mut self, parent: NodeId, child: NodeId) {
        let hash = self.edge_hash(parent, self.texts.hash(&self.hasher, &self.arena[child].level));
        let Ok(entry) = self.edges.find_entry(table_hash(hash), |edge| edge.child == child) else {
            unreachable!("a child with siblings has an edge");
        };
        entry.remove();
        // The capacity is 7/8 of the buckets; moving so many edges takes some 0.1 ms.
        let count = self.edges.len();
        if count <= AT_ONCE_MAX && self.edges.capacity() > 8 * count.max(SLOTS_KEPT) {
            self.edges.shrink_to(2 * count, |edge| table_hash(edge.hash));
        }
    }

    /// A child that has siblings has another id.
    fn rename_edge(&mut self, parent: NodeId, (child, to): (NodeId, NodeId)) {
        let hash = self.edge_hash(parent, self.texts.hash(&self.hasher, &self.arena[to].level));
        let Some(edge) = self.edges.find_mut(table_hash(hash), |edge| edge.child == child) else {
            unreachable!("a child with siblings has an edge");
        };
        edge.child = to;
    }
}
