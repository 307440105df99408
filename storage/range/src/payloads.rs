//! Hot path. Where the payloads are whose entries are no Raft log any more, and how often each is referred
//! to.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use wal::Position;

use crate::identity::LogIndex;

/// A record in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) position: Position,
    pub(crate) bytes: u32,
}

/// Record of an entry that only its payloads keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) index: LogIndex,
    pub(crate) place: Place,
    /// References to any of its payloads; never 0.
    pub(crate) references: u32,
}

const _: () = assert!(size_of::<Kept>() <= 32);

/// Index → record. Lives on the core of the log; 33 bytes per entry, of which a turn's messages share one.
/// Never iterated, so its order reaches nobody.
#[derive(Default)]
pub(crate) struct Payloads {
    kept: HashTable<Kept>,
}

fn hash(index: LogIndex) -> u64 {
    FixedState::with_seed(0).hash_one(index)
}

impl Payloads {
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn insert(&mut self, kept: Kept) {
        assert!(kept.references > 0, "what nobody refers to is dead");
        self.kept.insert_unique(hash(kept.index), kept, |kept| hash(kept.index));
    }

    pub(crate) fn get(&self, index: LogIndex) -> Option<&Kept> {
        self.kept.find(hash(index), |kept| kept.index == index)
    }

    pub(crate) fn get_mut(&mut self, index: LogIndex) -> Option<&mut Kept> {
        self.kept.find_mut(hash(index), |kept| kept.index == index)
    }

    /// Counts a reference more or less; answers the record if that was the last.
    pub(crate) fn count(&mut self, index: LogIndex, change: i32) -> Option<Place> {
        let entry = self.kept.find_entry(hash(index), |kept| kept.index == index);
        let mut entry = entry.unwrap_or_else(|_| panic!("a reference to entry {} that is gone", index.0));
        let references = entry.get().references.checked_add_signed(change);
        let references = references.expect("no more references are released than were retained");
        entry.get_mut().references = references;
        (references == 0).then(|| entry.remove().0.place)
    }
}
