//! Hot path. Nodes of a trie, named by 32-bit ids; freed slots are used again, the lowest first.

use std::ops::{Index, IndexMut};

use super::label::Label;
use super::slots::Slots;

/// Names a node of one trie. Its node may move on to another path when the trie changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// No node.
    pub(super) const NONE: Self = Self(u32::MAX);
    /// The node above the first level: always a branch, without value, never freed.
    pub(super) const ROOT: Self = Self(0);

    pub(super) fn number(self) -> u64 {
        u64::from(self.0)
    }

    /// Its place among the slots.
    pub(super) fn place(self) -> usize {
        self.0 as usize
    }
}

/// One level at one place.
#[derive(Debug)]
pub(super) struct Node<V> {
    pub(super) level: Label,
    pub(super) below: Below,
    pub(super) parent: NodeId,
    /// The next younger of the parent's listed children.
    pub(super) next: NodeId,
    /// The next older one; for the oldest, the youngest.
    pub(super) previous: NodeId,
    pub(super) value: Option<V>,
}

// One cache line with a value of eight bytes.
const _: () = assert!(size_of::<Node<Box<u64>>>() == 64 && size_of::<Node<u32>>() == 64);

/// What follows a node's level.
#[derive(Clone, Copy, Debug)]
pub(super) enum Below {
    /// One path goes through here, and these are its remaining levels, one at least. The value is that path's.
    Suffix(Label),
    /// Any number of paths. The value is that of the path that ends here.
    Branch(Branch),
}

/// The children of a node: "+" and "#" have links of their own, the others are listed in order of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) plus: NodeId,
    pub(super) hash: NodeId,
    pub(super) first_child: NodeId,
    /// Length of the list.
    pub(super) children: u32,
}

impl Branch {
    pub(super) const EMPTY: Self =
        Self { plus: NodeId::NONE, hash: NodeId::NONE, first_child: NodeId::NONE, children: 0 };
}

impl<V> Node<V> {
    pub(super) fn new(level: Label, below: Below, parent: NodeId) -> Self {
        Self { level, below, parent, next: NodeId::NONE, previous: NodeId::NONE, value: None }
    }

    /// The node's children; a node with a suffix has none.
    pub(super) fn branch(&self) -> &Branch {
        match &self.below {
            Below::Branch(branch) => branch,
            Below::Suffix(_) => &Branch::EMPTY,
        }
    }

    /// The children of a node that is a branch.
    pub(super) fn branch_mut(&mut self) -> &mut Branch {
        match &mut self.below {
            Below::Branch(branch) => branch,
            Below::Suffix(_) => unreachable!("a node is split before it gets children"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Arena<V>(Slots<Node<V>>);

impl<V> Arena<V> {
    /// An arena with nothing but the root.
    pub(super) fn new() -> Self {
        let mut nodes = Slots::new();
        nodes.insert(Node::new(Label::EMPTY, Below::Branch(Branch::EMPTY), NodeId::NONE));
        Self(nodes)
    }

    /// Nodes in use, the root included.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.0.count()
    }

    /// Nodes in use and freed slots; a place above all nodes.
    pub(super) fn slots(&self) -> usize {
        self.0.slots()
    }

    /// Whether far fewer nodes are in use than there are slots.
    pub(super) fn is_sparse(&self) -> bool {
        self.0.is_sparse()
    }

    /// Gives back some of what lies behind the last node.
    pub(super) fn shorten(&mut self) {
        self.0.shorten();
    }

    /// The last node below a place in its chunk; otherwise, the place to go on from.
    pub(super) fn last_below(&self, end: usize) -> Result<NodeId, usize> {
        self.0.last_below(end).map(NodeId)
    }

    pub(super) fn allocate(&mut self, node: Node<V>) -> NodeId {
        NodeId(self.0.insert(node))
    }

    /// Moves a node to a lower chunk, if one has room. Links to it are the caller's affair.
    pub(super) fn sink(&mut self, id: NodeId) -> Option<NodeId> {
        if !self.0.could_sink(id.0) {
            return None;
        }
        let left = Node::new(Label::EMPTY, Below::Branch(Branch::EMPTY), NodeId::NONE);
        let node = std::mem::replace(&mut self[id], left);
        self.0.remove(id.0);
        Some(self.allocate(node))
    }

    /// Frees a node without value that nothing links to any more.
    pub(super) fn release(&mut self, id: NodeId) {
        assert!(id != NodeId::ROOT, "the root stays");
        self.0.remove(id.0);
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.0.allocated_bytes()
    }
}

impl<V> Index<NodeId> for Arena<V> {
    type Output = Node<V>;

    fn index(&self, id: NodeId) -> &Node<V> {
        &self.0[id.0]
    }
}

impl<V> IndexMut<NodeId> for Arena<V> {
    fn index_mut(&mut self, id: NodeId) -> &mut Node<V> {
        &mut self.0[id.0]
    }
}
