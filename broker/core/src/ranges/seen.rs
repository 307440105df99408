//! QoS 2 publishes that this range has applied and that their publishers may repeat.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::inbox::command::{ArchivedOrigin, Origin};
use crate::identity::Incarnation;

/// By publishing session and [name](Origin::generation): whom each publish was for, each with the attempt that reached it. An attempt
/// may come in several commands: a part of its receivers in each, or a shared subscription's.
///
/// A checkpoint writes all of it, as it stands at the checkpoint's first entry: a replay from there meets each
/// publish with exactly what was known before it.
#[derive(Debug)]
pub(super) struct Seen {
    publishers: HashMap<Incarnation, BTreeMap<u64, Vec<For>>, FixedState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct For {
    /// What tells the receivers of one publish from each other, by the range's own rule.
    target: u64,
    attempt: u64,
}

/// A publish as it stands in a checkpoint: publishing session, name, target, attempt.
pub(super) type SeenV1 = (u64, u64, u64, u64);

impl Seen {
    pub(super) fn new(seed: u64) -> Seen {
        Seen { publishers: HashMap::with_hasher(FixedState::with_seed(seed)) }
    }

    /// Notes that a publish comes for a receiver: true if another attempt has reached it. What its publisher cannot
    /// repeat any more is forgotten.
    pub(super) fn is_repeat(&mut self, origin: &ArchivedOrigin, target: u64) -> bool {
        let publishes = self.publishers.entry(Incarnation(origin.incarnation.to_native())).or_default();
        let (generation, oldest) = (origin.generation.to_native(), origin.oldest.to_native());
        let attempt = origin.attempt.to_native();
        // What the first release wrote stands before the others, and is compared as it wrote it.
        let is_over =
            |name: u64| name < if name & Origin::NAMED == 0 { Origin::count_of(oldest) } else { oldest };
        while publishes.first_key_value().is_some_and(|(name, _)| is_over(*name)) {
            publishes.pop_first();
        }
        let former = Some(Origin::count_of(generation)).filter(|former| *former != generation);
        if attempt & Origin::FIRST != 0 {
            former.map(|former| publishes.remove(&former));
            publishes.entry(generation).or_default().retain(|seen| seen.attempt == attempt);
        } else if let Some(targets) = former.and_then(|former| publishes.get(&former))
            && targets.iter().any(|seen| seen.target == target && seen.attempt != attempt)
        {
            return true;
        }
        let targets = publishes.entry(generation).or_default();
        match targets.binary_search_by_key(&target, |seen| seen.target) {
            Ok(at) => targets[at].attempt != attempt,
            Err(at) => {
                targets.insert(at, For { target, attempt });
                false
            }
        }
    }

    /// Whether another attempt has reached a receiver.
    pub(super) fn has(&self, origin: &Origin, target: u64) -> bool {
        let Some(publishes) = self.publishers.get(&Incarnation(origin.incarnation)) else { return false };
        let names = [origin.generation, Origin::count_of(origin.generation)];
        let mut targets = names.iter().filter_map(|name| publishes.get(name)).flatten();
        targets.any(|seen| seen.target == target && seen.attempt != origin.attempt)
    }

    /// A publisher's session has ended.
    pub(super) fn forget(&mut self, incarnation: Incarnation) {
        self.publishers.remove(&incarnation);
    }

    /// Everything, in a fixed order.
    pub(super) fn to_list(&self) -> Vec<SeenV1> {
        let mut list = Vec::new();
        for (incarnation, publishes) in &self.publishers {
            for (generation, targets) in publishes {
                list.extend(
                    targets.iter().map(|seen| (incarnation.0, *generation, seen.target, seen.attempt)),
                );
            }
        }
        list.sort_unstable();
        list
    }

    /// Takes what [`Seen::to_list`] gave.
    pub(super) fn restore(&mut self, list: Vec<SeenV1>) {
        for (incarnation, generation, target, attempt) in list {
            let publishes = self.publishers.entry(Incarnation(incarnation)).or_default();
            publishes.entry(generation).or_default().push(For { target, attempt });
        }
    }

    /// Publishes remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.publishers.values().map(BTreeMap::len).sum()
    }
}
