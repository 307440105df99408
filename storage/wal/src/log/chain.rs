//! Hot path. The last LSN of every range of the log: what a record's `previous` says.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use crate::identity::{Lsn, RangeId};

/// Range → LSN of its last record. One entry (24 B) per range that ever wrote to the log and was not
/// forgotten. Never iterated, so its order reaches nobody.
#[derive(Default)]
pub(crate) struct Chain {
    entries: HashTable<(RangeId, Lsn)>,
}

fn hash(range: RangeId) -> u64 {
    FixedState::with_seed(0).hash_one(range)
}

impl Chain {
    /// Notes the range's newest record and answers the one before it.
    pub(crate) fn advance(&mut self, range: RangeId, lsn: Lsn) -> Lsn {
        let entry = self
            .entries
            .entry(hash(range), |(other, _)| *other == range, |(other, _)| hash(*other))
            .or_insert((range, Lsn::NONE));
        std::mem::replace(&mut entry.into_mut().1, lsn)
    }

    /// Forgets the range if it has written nothing after `last`.
    pub(crate) fn forget_up_to(&mut self, range: RangeId, last: Lsn) {
        let entry = self.entries.find_entry(hash(range), |(other, _)| *other == range);
        if let Ok(entry) = entry
            && entry.get().1 <= last
        {
            entry.remove();
        }
    }

    pub(crate) fn forget(&mut self, range: RangeId) {
        if let Ok(entry) = self.entries.find_entry(hash(range), |(other, _)| *other == range) {
            entry.remove();
        }
    }
}
