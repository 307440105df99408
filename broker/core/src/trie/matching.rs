//! Hot path. Walks a trie: filters by topic, topics by filter, everything.

use std::mem;
use std::ops::ControlFlow;

use smallvec::SmallVec;

use super::Trie;
use super::arena::NodeId;
use super::level::{LevelKey, Levels};

/// Nodes alive after a level of the topic; more than this many at once go to the heap.
type Frontier = SmallVec<[NodeId; 32]>;

impl<V> Trie<V> {
    /// Calls `found` for each value whose path is a filter that matches `topic`: shorter filters first, then "+"
    /// before literal levels, whatever the order in which they were inserted.
    ///
    /// Work and memory are bounded by the number of stored prefixes that match a prefix of the topic.
    pub fn matching_filters(&self, topic: &str, mut found: impl FnMut(&V)) {
        let (mut first, mut second) = (Frontier::new(), Frontier::new());
        let (mut alive, mut next) = (&mut first, &mut second);
        alive.push(NodeId::ROOT);
        // [MQTT-4.7.2-1] a wildcard in the first level does not match a topic that begins with '$'.
        let mut wildcards = !topic.starts_with('$');
        for level in Levels::new(topic) {
            let key = LevelKey::new(level);
            let mut level_hash = None;
            next.clear();
            for &id in alive.iter() {
                let node = &self.arena[id];
                if wildcards {
                    self.visit(node.hash, &mut found);
                    if node.plus != NodeId::NONE {
                        next.push(node.plus);
                    }
                }
                let child = self.literal_child(id, &key, &mut level_hash);
                if child != NodeId::NONE {
                    next.push(child);
                }
            }
            if next.is_empty() {
                return;
            }
            wildcards = true;
            mem::swap(&mut alive, &mut next);
        }
        for &id in alive.iter() {
            self.visit(id, &mut found);
            // "a/#" matches "a" as well (MQTT 5, section 4.7.1.2).
            self.visit(self.arena[id].hash, &mut found);
        }
    }

    fn visit(&self, id: NodeId, found: &mut impl FnMut(&V)) {
        if id != NodeId::NONE
            && let Some(value) = &self.arena[id].value
        {
            found(value);
        }
    }

    /// Calls `found` for each value whose path is a topic that `filter` matches, until it breaks: parents before
    /// children, siblings in order of age. Paths with wildcards of their own are not found.
    ///
    /// Work is bounded by the number of stored prefixes that match a prefix of the filter, memory by the length of the
    /// filter.
    pub fn matching_topics(&self, filter: &str, mut found: impl FnMut(&V) -> ControlFlow<()>) {
        let levels: SmallVec<[LevelKey<'_>; 8]> = Levels::new(filter).map(LevelKey::new).collect();
        // Where a "+" goes on: the child to try next, and its depth.
        let mut pending: SmallVec<[(NodeId, usize); 16]> = SmallVec::new();
        let mut at = Some((NodeId::ROOT, 0));
        while let Some((node, depth)) = at.take() {
            let step = match levels.get(depth) {
                None => self.arena[node].value.as_ref().map_or(ControlFlow::Continue(()), &mut found),
                Some(key) if key.is_hash() => self.each_topic_below(node, &mut found),
                Some(key) if key.is_plus() => {
                    let child = self.visible(node, self.arena[node].first_child);
                    if child != NodeId::NONE {
                        pending.push((child, depth + 1));
                    }
                    ControlFlow::Continue(())
                }
                Some(key) => {
                    let child = self.literal_child(node, key, &mut None);
                    if child != NodeId::NONE {
                        at = Some((child, depth + 1));
                    }
                    ControlFlow::Continue(())
                }
            };
            if step.is_break() {
                return;
            }
            if at.is_none()
                && let Some((child, depth)) = pending.pop()
            {
                let sibling = self.visible(self.arena[child].parent, self.arena[child].next);
                if sibling != NodeId::NONE {
                    pending.push((sibling, depth));
                }
                at = Some((child, depth));
            }
        }
    }

    /// The first of `child` and its younger siblings that a wildcard below `parent` may match.
    fn visible(&self, parent: NodeId, mut child: NodeId) -> NodeId {
        // [MQTT-4.7.2-1]
        while parent == NodeId::ROOT && child != NodeId::NONE && self.arena[child].level.is_dollar() {
            child = self.arena[child].next;
        }
        child
    }

    /// Calls `found` for the value at `top` and for those of all topics below it, until it breaks.
    fn each_topic_below(
        &self,
        top: NodeId,
        found: &mut impl FnMut(&V) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut id = top;
        loop {
            if let Some(value) = &self.arena[id].value {
                found(value)?;
            }
            let mut following = self.visible(id, self.arena[id].first_child);
            while following == NodeId::NONE {
                if id == top {
                    return ControlFlow::Continue(());
                }
                let parent = self.arena[id].parent;
                following = self.visible(parent, self.arena[id].next);
                id = parent;
            }
            id = following;
        }
    }

    /// Calls `found` for every value: parents before children; of siblings "+" first, "#" second, the others in order
    /// of age.
    pub fn for_each(&self, mut found: impl FnMut(&V)) {
        let mut id = NodeId::ROOT;
        loop {
            self.visit(id, &mut found);
            let node = &self.arena[id];
            let mut following = self.first_of([node.plus, node.hash, node.first_child]);
            while following == NodeId::NONE {
                if id == NodeId::ROOT {
                    return;
                }
                let parent = &self.arena[self.arena[id].parent];
                following = if id == parent.plus {
                    self.first_of([NodeId::NONE, parent.hash, parent.first_child])
                } else if id == parent.hash {
                    parent.first_child
                } else {
                    self.arena[id].next
                };
                id = self.arena[id].parent;
            }
            id = following;
        }
    }

    fn first_of(&self, nodes: [NodeId; 3]) -> NodeId {
        nodes.into_iter().find(|&id| id != NodeId::NONE).unwrap_or(NodeId::NONE)
    }
}
