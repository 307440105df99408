//! Hot path. Nodes of a trie in one allocation, named by 32-bit ids; freed slots are used again, last freed first.

use std::ops::{Index, IndexMut};

use super::level::Level;

/// Names a node of one trie; not stable across removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// No node.
    pub(super) const NONE: Self = Self(u32::MAX);
    /// The node above the first level; it has no value and is never freed.
    pub(super) const ROOT: Self = Self(0);

    pub(super) fn number(self) -> u64 {
        u64::from(self.0)
    }
}

/// One level at one place. Children named "+" and "#" have links of their own; the others are in a list in order of
/// age, linked both ways, where the first child's `previous` is the last child.
#[derive(Debug)]
pub(super) struct Node<V> {
    pub(super) level: Level,
    pub(super) parent: NodeId,
    pub(super) next: NodeId,
    pub(super) previous: NodeId,
    pub(super) first_child: NodeId,
    /// Children in the list; "+" and "#" are not counted.
    pub(super) children: u32,
    pub(super) plus: NodeId,
    pub(super) hash: NodeId,
    pub(super) value: Option<V>,
}

// One cache line with a value of eight bytes.
const _: () = assert!(size_of::<Node<Box<u64>>>() == 64);

impl<V> Node<V> {
    fn new(level: Level, parent: NodeId) -> Self {
        Self {
            level,
            parent,
            next: NodeId::NONE,
            previous: NodeId::NONE,
            first_child: NodeId::NONE,
            children: 0,
            plus: NodeId::NONE,
            hash: NodeId::NONE,
            value: None,
        }
    }

    /// Whether the node serves nothing, so that it can go.
    pub(super) fn is_unused(&self) -> bool {
        self.value.is_none() && self.children == 0 && self.plus == NodeId::NONE && self.hash == NodeId::NONE
    }
}

#[derive(Debug)]
pub(super) struct Arena<V> {
    nodes: Vec<Node<V>>,
    /// First freed slot; freed slots are linked by `next`.
    free: NodeId,
    used: usize,
}

impl<V> Arena<V> {
    /// An arena with nothing but the root.
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::new(Level::EMPTY, NodeId::NONE)], free: NodeId::NONE, used: 1 }
    }

    /// Nodes in use, the root included.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn allocate(&mut self, level: Level, parent: NodeId) -> NodeId {
        self.used += 1;
        let node = Node::new(level, parent);
        if self.free != NodeId::NONE {
            let id = self.free;
            self.free = self[id].next;
            self[id] = node;
            return id;
        }
        assert!(self.nodes.len() < u32::MAX as usize, "a trie holds fewer than 2^32 nodes");
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(node);
        id
    }

    /// Frees a node that nothing links to any more.
    pub(super) fn release(&mut self, id: NodeId) {
        assert!(id != NodeId::ROOT, "the root stays");
        self.used -= 1;
        let next = self.free;
        let node = &mut self[id];
        node.level = Level::EMPTY;
        node.next = next;
        self.free = id;
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node<V>>()
    }
}

impl<V> Index<NodeId> for Arena<V> {
    type Output = Node<V>;

    fn index(&self, id: NodeId) -> &Node<V> {
        &self.nodes[id.0 as usize]
    }
}

impl<V> IndexMut<NodeId> for Arena<V> {
    fn index_mut(&mut self, id: NodeId) -> &mut Node<V> {
        &mut self.nodes[id.0 as usize]
    }
}
