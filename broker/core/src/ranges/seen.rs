//! QoS 2 publishes that this range has applied and that their publishers may repeat.

use hashbrown::HashMap;

use super::inbox::command::ArchivedOrigin;
use crate::identity::Incarnation;

/// By publishing session: its publishes, ascending by generation, each with the entry that brought it.
///
/// A checkpoint writes all of it, as it stands at the checkpoint's first entry: a replay from there meets each
/// publish with exactly what was known before it.
#[derive(Debug)]
pub(super) struct Seen {
    publishes: HashMap<Incarnation, Vec<Publish>, foldhash::fast::FixedState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Publish {
    generation: u64,
    /// Of the entry in which it came first.
    index: u64,
}

impl Seen {
    pub(super) fn new(seed: u64) -> Seen {
        Seen { publishes: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)) }
    }

    /// Notes a publish: true if an earlier entry brought it. What its publisher cannot repeat any more is
    /// forgotten.
    pub(super) fn is_repeat(&mut self, origin: &ArchivedOrigin, index: u64) -> bool {
        let publishes = self.publishes.entry(Incarnation(origin.incarnation.to_native())).or_default();
        let (generation, oldest) = (origin.generation.to_native(), origin.oldest.to_native());
        publishes.drain(..publishes.partition_point(|publish| publish.generation < oldest));
        match publishes.binary_search_by_key(&generation, |publish| publish.generation) {
            Ok(at) => publishes[at].index < index,
            Err(at) => {
                publishes.insert(at, Publish { generation, index });
                false
            }
        }
    }

    /// A publisher's session has ended.
    pub(super) fn forget(&mut self, incarnation: Incarnation) {
        self.publishes.remove(&incarnation);
    }

    /// Everything, in a fixed order: publishing session, generation, entry.
    pub(super) fn to_list(&self) -> Vec<(u64, u64, u64)> {
        let all = self.publishes.iter().flat_map(|(incarnation, publishes)| {
            publishes.iter().map(|publish| (incarnation.0, publish.generation, publish.index))
        });
        let mut list: Vec<_> = all.collect();
        list.sort_unstable();
        list
    }

    /// Takes what [`Seen::to_list`] gave.
    pub(super) fn restore(&mut self, list: Vec<(u64, u64, u64)>) {
        for (incarnation, generation, index) in list {
            let publishes = self.publishes.entry(Incarnation(incarnation)).or_default();
            publishes.push(Publish { generation, index });
        }
    }

    /// Publishes remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.publishes.values().map(Vec::len).sum()
    }
}
