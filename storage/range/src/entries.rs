//! Hot path. Where the records of a range's entries are, and how often the state refers to their payloads.
//!
//! An entry has a record here while it is Raft log, and afterwards while its payloads are referred to. Indexes are
//! dense at first and thin out as messages are fetched, so 64 neighbours share a chunk, which has no room for those
//! that are gone:
//!
//! ```text
//! chunk 7   present 1011…0   records [ 448 │ 450 │ 451 │ … ]
//! ```

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use wal::Position;

use crate::identity::LogIndex;

/// Neighbours that share a chunk: as many as `Chunk::present` has bits.
const CHUNK_ENTRIES: u64 = 64;

/// A record in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) position: Position,
    pub(crate) bytes: u32,
}

/// The record of one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryRecord {
    pub(crate) place: Place,
    /// References of the state to its payloads.
    pub(crate) references: u32,
}

const _: () = assert!(size_of::<EntryRecord>() == 16, "README.md says what a queued message costs");

/// Index → record. Lives on the core of the log; 17 bytes per entry, of which a turn's messages share one, and up
/// to 110 for one that has no neighbours left. Never iterated, so its order reaches nobody.
#[derive(Default)]
pub(crate) struct Entries {
    chunks: HashTable<Chunk>,
    len: usize,
}

struct Chunk {
    /// Of the first index / 64.
    number: u64,
    /// A bit for each index that has a record; never 0.
    present: u64,
    /// Those, ascending.
    records: Vec<EntryRecord>,
}

impl Chunk {
    /// Which chunk an index is in, and its bit there.
    fn of(index: LogIndex) -> (u64, u64) {
        (index.0 / CHUNK_ENTRIES, 1 << (index.0 % CHUNK_ENTRIES))
    }

    /// How many records stand before that of a bit.
    fn rank(&self, bit: u64) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }

    fn insert(&mut self, bit: u64, record: EntryRecord) {
        assert!(self.present & bit == 0, "an entry has one record");
        self.records.insert(self.rank(bit), record);
        self.present |= bit;
    }

    fn remove(&mut self, bit: u64) -> EntryRecord {
        let record = self.records.remove(self.rank(bit));
        self.present &= !bit;
        if self.records.len() * 2 <= self.records.capacity() {
            self.records.shrink_to_fit();
        }
        record
    }
}

fn hash(number: u64) -> u64 {
    FixedState::with_seed(0).hash_one(number)
}

impl Entries {
    /// Entries that have a record.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes the record of an entry that has none; nothing refers to it yet.
    pub(crate) fn insert(&mut self, index: LogIndex, place: Place) {
        let (number, bit) = Chunk::of(index);
        let record = EntryRecord { place, references: 0 };
        match self.chunks.find_mut(hash(number), |chunk| chunk.number == number) {
            Some(chunk) => chunk.insert(bit, record),
            None => {
                let chunk = Chunk { number, present: bit, records: vec![record] };
                self.chunks.insert_unique(hash(number), chunk, |chunk| hash(chunk.number));
            }
        }
        self.len += 1;
    }

    pub(crate) fn get(&self, index: LogIndex) -> Option<&EntryRecord> {
        let (number, bit) = Chunk::of(index);
        let chunk = self.chunks.find(hash(number), |chunk| chunk.number == number)?;
        (chunk.present & bit != 0).then(|| &chunk.records[chunk.rank(bit)])
    }

    pub(crate) fn get_mut(&mut self, index: LogIndex) -> Option<&mut EntryRecord> {
        let (number, bit) = Chunk::of(index);
        let chunk = self.chunks.find_mut(hash(number), |chunk| chunk.number == number)?;
        let rank = chunk.rank(bit);
        (chunk.present & bit != 0).then(|| &mut chunk.records[rank])
    }

    /// Forgets an entry, and gives back what it took.
    pub(crate) fn remove(&mut self, index: LogIndex) -> Option<EntryRecord> {
        let (number, bit) = Chunk::of(index);
        let mut found = self.chunks.find_entry(hash(number), |chunk| chunk.number == number).ok()?;
        let chunk = found.get_mut();
        if chunk.present & bit == 0 {
            return None;
        }
        self.len -= 1;
        let record = chunk.remove(bit);
        if chunk.present == 0 {
            found.remove();
            if self.chunks.len() * 8 < self.chunks.capacity() {
                self.chunks.shrink_to(self.chunks.len() * 2, |chunk| hash(chunk.number));
            }
        }
        Some(record)
    }

    /// Counts references more or less, and answers how many there are now and where the record is.
    pub(crate) fn count(&mut self, index: LogIndex, change: i32) -> (u32, Place) {
        let record = self.get_mut(index);
        let record = record.unwrap_or_else(|| panic!("a reference to entry {} that is gone", index.0));
        let references = record.references.checked_add_signed(change);
        record.references = references.expect("no more references are released than were retained");
        (record.references, record.place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn place(unit: u32) -> Place {
        Place { position: Position { unit, ..Position::default() }, bytes: 64 }
    }

    /// Against a map, in a random life: entries come in order mostly, and go anywhere.
    #[test]
    fn entries_are_as_in_a_map() {
        let mut entries = Entries::default();
        let mut model = BTreeMap::new();
        let mut random = 7_u64;
        let mut next = 1;
        for step in 0..20_000_u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let index = LogIndex(1 + (random >> 33) % next);
            // Grows at first, and shrinks in the end.
            if (random >> 20) % 8 < if step < 10_000 { 5 } else { 1 } {
                let index = if model.contains_key(&index) { LogIndex(next) } else { index };
                next = next.max(index.0 + 1);
                entries.insert(index, place(step));
                model.insert(index, EntryRecord { place: place(step), references: 0 });
            } else if (random >> 20) % 8 == 7 && model.contains_key(&index) {
                let record = model.get_mut(&index).expect("it is there");
                record.references += 2;
                assert_eq!(entries.count(index, 2), (record.references, record.place));
            } else {
                assert_eq!(entries.remove(index), model.remove(&index));
            }
            assert_eq!(entries.get(index), model.get(&index));
            assert_eq!(entries.get_mut(index).copied(), model.get(&index).copied());
            assert_eq!(entries.len(), model.len());
        }
        assert!(model.iter().all(|(index, record)| entries.get(*index) == Some(record)));
    }

    /// What is gone takes no room: neither among neighbours that stay, nor when all go.
    #[test]
    fn what_is_gone_takes_no_room() {
        let mut entries = Entries::default();
        (1..=64_000).for_each(|index| entries.insert(LogIndex(index), place(1)));
        (1..=64_000).filter(|index| index % 16 != 0).for_each(|index| {
            entries.remove(LogIndex(index));
        });
        let room: usize = entries.chunks.iter().map(|chunk| chunk.records.capacity()).sum();
        assert!(room < 2 * entries.len(), "room for {room} records of {}", entries.len());
        (16..=64_000).step_by(16).for_each(|index| {
            entries.remove(LogIndex(index));
        });
        assert_eq!(entries.len(), 0);
        assert!(entries.chunks.capacity() < 64, "room for {} chunks", entries.chunks.capacity());
    }
}
