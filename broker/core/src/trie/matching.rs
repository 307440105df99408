//! Hot path. Walks a trie: filters by topic, topics by filter, everything.

use std::mem;
use std::ops::ControlFlow;

use smallvec::SmallVec;

use super::Trie;
use super::arena::{Below, NodeId};
use super::level::{LevelKey, Levels, level_end};

/// A place that the topic's levels so far lead to: a node and, if it has a suffix, how much of that they have taken,
/// the '/' after each level included.
#[derive(Clone, Copy)]
struct Reached {
    node: NodeId,
    taken: u32,
}

/// Bytes of a suffix that are compared in the time of a level.
const SUFFIX_BYTES: usize = 64;

/// Places reached after one level of the topic; more than this many at once go to the heap.
type Frontier = SmallVec<[Reached; 16]>;

impl<V> Trie<V> {
    /// Calls `found` for each value whose path is a filter that matches `topic`. The order depends on the filters
    /// stored and not on how they came to be: level by level, "#" first, and what lies below "+" before the rest.
    ///
    /// Work and memory are bounded by the number of stored prefixes that match a prefix of the topic: about so many as
    /// it returns, each for a few nanoseconds or a cache miss; a topic may have 30 000 levels.
    pub fn matching_filters(&self, topic: &str, mut found: impl FnMut(&V)) -> usize {
        // [MQTT-4.7.2-1] a wildcard in the first level does not match a topic that begins with '$'.
        let mut wildcards = !topic.starts_with('$');
        let mut levels = Levels::new(topic);
        let mut id = NodeId::ROOT;
        let mut walked = 0;
        // Most topics lead to one place at a time, which needs no list of places.
        while let Some(level) = levels.next() {
            walked += 1;
            let branch = self.arena[id].branch();
            let child = self.literal_child(id, branch, &LevelKey::new(level));
            let mut plus = NodeId::NONE;
            if wildcards {
                self.visit(branch.hash, &mut found);
                plus = branch.plus;
            }
            wildcards = true;
            id = match (plus, child) {
                (NodeId::NONE, NodeId::NONE) => return walked,
                (NodeId::NONE, only) | (only, NodeId::NONE) => only,
                both => return walked + self.matching_from(both, levels, &mut found),
            };
            let node = &self.arena[id];
            if let Below::Suffix(suffix) = &node.below {
                let suffix = self.texts.text(suffix);
                if filter_matches(suffix, levels) {
                    node.value.iter().for_each(found);
                }
                return walked + suffix.len() / SUFFIX_BYTES;
            }
        }
        self.finish(Reached { node: id, taken: 0 }, &mut found);
        walked
    }

    /// Goes on from two places, which may become any number. How many that were on all levels.
    fn matching_from(
        &self,
        places: (NodeId, NodeId),
        levels: Levels<'_>,
        found: &mut impl FnMut(&V),
    ) -> usize {
        let (mut first, mut second) = (Frontier::new(), Frontier::new());
        let (mut reached, mut next) = (&mut first, &mut second);
        reached.push(Reached { node: places.0, taken: 0 });
        reached.push(Reached { node: places.1, taken: 0 });
        let mut visited = 0;
        for level in levels {
            let key = LevelKey::new(level);
            next.clear();
            visited += reached.len();
            for &place in reached.iter() {
                self.step(place, &key, next, found);
            }
            if next.is_empty() {
                return visited;
            }
            mem::swap(&mut reached, &mut next);
        }
        for &place in reached.iter() {
            self.finish(place, found);
        }
        visited + reached.len()
    }

    /// Follows one more level of the topic from one place; a "#" there matches whatever comes.
    fn step(&self, place: Reached, key: &LevelKey<'_>, next: &mut Frontier, found: &mut impl FnMut(&V)) {
        let node = &self.arena[place.node];
        match &node.below {
            Below::Branch(branch) => {
                self.visit(branch.hash, found);
                if branch.plus != NodeId::NONE {
                    next.push(Reached { node: branch.plus, taken: 0 });
                }
                let child = self.literal_child(place.node, branch, key);
                if child != NodeId::NONE {
                    next.push(Reached { node: child, taken: 0 });
                }
            }
            Below::Suffix(suffix) => {
                let suffix = self.texts.text(suffix);
                let start = place.taken as usize;
                if start > suffix.len() {
                    return;
                }
                let end = level_end(suffix, start);
                let level = &suffix[start..end];
                if level == b"+" || level == key.text() {
                    next.push(Reached { node: place.node, taken: end as u32 + 1 });
                } else if level == b"#" && end == suffix.len() {
                    node.value.iter().for_each(found);
                }
            }
        }
    }

    /// The topic ends at this place.
    fn finish(&self, place: Reached, found: &mut impl FnMut(&V)) {
        let node = &self.arena[place.node];
        match &node.below {
            Below::Branch(branch) => {
                node.value.iter().for_each(&mut *found);
                // "a/#" matches "a" as well (MQTT 5, section 4.7.1.2).
                self.visit(branch.hash, found);
            }
            Below::Suffix(suffix) => {
                let rest = self.texts.text(suffix).get(place.taken as usize..);
                if rest.is_none_or(|rest| rest == b"#") {
                    node.value.iter().for_each(found);
                }
            }
        }
    }

    /// Calls `found` for the value of the path that ends at this node, if there is one.
    fn visit(&self, id: NodeId, found: &mut impl FnMut(&V)) {
        if id != NodeId::NONE
            && let Below::Branch(_) = self.arena[id].below
        {
            self.arena[id].value.iter().for_each(found);
        }
    }

    /// Calls `found` for each value whose path is a topic that `filter` matches, until it breaks: parents before
    /// children, siblings in order of age. Meant for tries whose paths are all topics; it is open whether a path with a wildcard
    /// of its own is found.
    ///
    /// Work is bounded by the number of stored prefixes that match a prefix of the filter, memory by the length of the
    /// filter.
    pub fn matching_topics(&self, filter: &str, mut found: impl FnMut(&V) -> ControlFlow<()>) {
        let levels: SmallVec<[LevelKey<'_>; 8]> = Levels::new(filter).map(LevelKey::new).collect();
        // Where each "+" goes on: the child to try next, and its depth.
        let mut pending: SmallVec<[(NodeId, usize); 16]> = SmallVec::new();
        let mut at = Some((NodeId::ROOT, 0));
        while let Some((id, depth)) = at.take() {
            let node = &self.arena[id];
            let rest = &levels[depth..];
            match (&node.below, rest.first()) {
                (Below::Suffix(suffix), _) => {
                    if topic_matches(self.texts.text(suffix), rest)
                        && node.value.iter().try_for_each(&mut found).is_break()
                    {
                        return;
                    }
                }
                (Below::Branch(_), None) => {
                    if node.value.iter().try_for_each(&mut found).is_break() {
                        return;
                    }
                }
                (Below::Branch(_), Some(key)) if key.is_hash() => {
                    if self.each_topic_below(id, &mut found).is_break() {
                        return;
                    }
                }
                (Below::Branch(branch), Some(key)) if key.is_plus() => {
                    let child = self.first_visible(id, branch.first_child);
                    if child != NodeId::NONE {
                        pending.push((child, depth + 1));
                    }
                }
                (Below::Branch(branch), Some(key)) => {
                    let child = self.literal_child(id, branch, key);
                    if child != NodeId::NONE {
                        at = Some((child, depth + 1));
                    }
                }
            }
            if at.is_none()
                && let Some((child, depth)) = pending.pop()
            {
                let sibling = self.first_visible(self.arena[child].parent, self.arena[child].next);
                if sibling != NodeId::NONE {
                    pending.push((sibling, depth));
                }
                at = Some((child, depth));
            }
        }
    }

    /// The first of `child` and its younger siblings that a wildcard below `parent` may match.
    fn first_visible(&self, parent: NodeId, mut child: NodeId) -> NodeId {
        // [MQTT-4.7.2-1]
        while parent == NodeId::ROOT
            && child != NodeId::NONE
            && self.texts.text(&self.arena[child].level).starts_with(b"$")
        {
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
            let node = &self.arena[id];
            node.value.iter().try_for_each(&mut *found)?;
            let mut following = self.first_visible(id, node.branch().first_child);
            while following == NodeId::NONE {
                if id == top {
                    return ControlFlow::Continue(());
                }
                let parent = self.arena[id].parent;
                following = self.first_visible(parent, self.arena[id].next);
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
            let node = &self.arena[id];
            node.value.iter().for_each(&mut found);
            let branch = node.branch();
            let mut following = first_of([branch.plus, branch.hash, branch.first_child]);
            while following == NodeId::NONE {
                if id == NodeId::ROOT {
                    return;
                }
                let parent = self.arena[id].parent;
                let branch = self.arena[parent].branch();
                following = if id == branch.plus {
                    first_of([NodeId::NONE, branch.hash, branch.first_child])
                } else if id == branch.hash {
                    branch.first_child
                } else {
                    self.arena[id].next
                };
                id = parent;
            }
            id = following;
        }
    }
}

fn first_of(nodes: [NodeId; 3]) -> NodeId {
    nodes.into_iter().find(|&id| id != NodeId::NONE).unwrap_or(NodeId::NONE)
}

/// Whether the last levels of a filter match those of a topic.
fn filter_matches(filter: &[u8], mut topic: Levels<'_>) -> bool {
    let mut filter = Levels { rest: Some(filter) };
    while let Some(pattern) = filter.next() {
        if pattern == b"#" {
            return filter.rest.is_none();
        }
        match topic.next() {
            Some(level) if pattern == b"+" || pattern == level => {}
            _ => return false,
        }
    }
    topic.rest.is_none()
}

/// Whether the last levels of a topic match those of a filter.
fn topic_matches(suffix: &[u8], filter: &[LevelKey<'_>]) -> bool {
    let mut topic = Levels { rest: Some(suffix) };
    for key in filter {
        if key.is_hash() {
            return true;
        }
        match topic.next() {
            Some(level) if key.is_plus() || level == key.text() => {}
            _ => return false,
        }
    }
    topic.rest.is_none()
}
