//! Giving memory back while a trie is in use: when far fewer nodes are left than there are slots, each removal moves a
//! few of the last to free places in front, until what lies behind can be given back.

use super::Trie;
use super::arena::{Below, NodeId};

/// Places that one removal looks at.
const LOOKS_MAX: usize = 16;

/// Nodes and links that one removal changes before it leaves the rest to the next: two microseconds or so.
const WORK_MAX: usize = 8;

/// A node with more listed children stays where it is, and all before it: they would all have to be told.
const CHILDREN_MAX: u32 = 4096;

impl<V> Trie<V> {
    /// Goes on with it, if there is something to be gained.
    pub(super) fn compact(&mut self) {
        let (nodes, texts) = (self.arena.is_sparse(), self.texts.is_sparse());
        self.arena.shorten();
        self.texts.shorten();
        if !nodes && !texts {
            return;
        }
        let mut work = 0;
        for _ in 0..LOOKS_MAX {
            if work >= WORK_MAX {
                break;
            }
            if self.sweep == 0 || self.sweep > self.arena.slots() {
                self.sweep = self.arena.slots();
            }
            match self.arena.last_below(self.sweep) {
                Ok(id) => {
                    self.sweep = id.place();
                    if id != NodeId::ROOT {
                        work += self.sink(id, nodes, texts);
                    }
                }
                Err(place) => self.sweep = place,
            }
        }
    }

    /// Moves a node and its texts down, as far as it is worth it. How many links that changed.
    fn sink(&mut self, id: NodeId, nodes: bool, texts: bool) -> usize {
        let mut work = 0;
        if texts {
            let node = &mut self.arena[id];
            self.texts.sink(&mut node.level);
            if let Below::Suffix(suffix) = &mut node.below {
                self.texts.sink(suffix);
            }
            work += 1;
        }
        let children = self.arena[id].branch().children;
        if !nodes || children > CHILDREN_MAX {
            return work;
        }
        let listed = self.is_in_table(id);
        let Some(to) = self.arena.sink(id) else { return work };
        if listed {
            self.rename_edge(self.arena[to].parent, (id, to));
        }
        self.relink_above(id, to);
        self.relink_below(id, to);
        work + 1 + children as usize
    }

    /// Whether a node has siblings that are listed with it.
    fn is_in_table(&self, id: NodeId) -> bool {
        let branch = self.arena[self.arena[id].parent].branch();
        branch.plus != id && branch.hash != id && branch.children > 1
    }

    /// Parent and siblings of a node learn its new id.
    fn relink_above(&mut self, from: NodeId, to: NodeId) {
        let (parent, next, previous) = {
            let node = &self.arena[to];
            (node.parent, node.next, node.previous)
        };
        let branch = self.arena[parent].branch_mut();
        if branch.plus == from {
            branch.plus = to;
            return;
        }
        if branch.hash == from {
            branch.hash = to;
            return;
        }
        let first = branch.first_child;
        if first == from {
            branch.first_child = to;
        } else {
            self.arena[previous].next = to;
        }
        // The oldest knows the youngest, and that may be itself.
        let after = match (next, first == from) {
            (NodeId::NONE, true) => to,
            (NodeId::NONE, false) => first,
            (next, _) => next,
        };
        self.arena[after].previous = to;
    }

    /// Children of a node learn its new id, on which the hashes of their edges depend.
    fn relink_below(&mut self, from: NodeId, to: NodeId) {
        let branch = *self.arena[to].branch();
        for wildcard in [branch.plus, branch.hash] {
            if wildcard != NodeId::NONE {
                self.arena[wildcard].parent = to;
            }
        }
        let mut child = branch.first_child;
        while child != NodeId::NONE {
            if branch.children > 1 {
                self.remove_edge(from, child);
                self.insert_edge(to, child);
            }
            self.arena[child].parent = to;
            child = self.arena[child].next;
        }
    }
}
