//! What a recovered log holds of each range, in the order of the logs' records; a replica is opened from it.
//!
//! A start, for each log of the node:
//!
//! 1. [`wal::recover`], and make durable what it read;
//! 2. [`Recovered::collect`] over its records, [`wal::Log::resume`];
//! 3. for each range of the log: [`Replica::open`](crate::Replica::open) with its records and the checkpoint
//!    they name, which replays what came after it and tells the log what lives;
//! 4. [`wal::Log::start_reclaiming`].
//!
//! **What lives.** A record lives for one of three reasons: it is the newest state record; it is an entry of
//! the Raft log, that is behind the truncated index of the newest state record; or the state refers to a
//! payload in it. The first two are known from the records, the third from the state itself, once it is
//! replayed: [`StateMachine::references`](crate::StateMachine::references). So no count is ever stored, and
//! none can be wrong after a crash.

use std::collections::BTreeMap;

use wal::recovery::Quarantine;
use wal::{Position, RangeId, Recovery};

use crate::checkpoint::RestoreError;
use crate::entries::Place;
use crate::format::entry::EntryHeader;
use crate::format::state::{StateRecord, Truncated};
use crate::format::{DecodeError, KIND_ENTRY, KIND_STATE, VERSION};
use crate::identity::{LogIndex, MessageId, Term};

/// Why a replica cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// A record is not one of this crate's, though whole.
    Record(Position, DecodeError),
    /// A quarantining start left the range out: it has lost records, and is to be had from its peers.
    Quarantined,
    /// There are entries of the range but no state record.
    NoState,
    /// The Raft log has no entry at this index, but later ones.
    Gap(LogIndex),
    /// The checkpoint stands at an index the log does not reach.
    LogTooShort {
        /// The log ends here.
        last: LogIndex,
        /// The checkpoint needs it up to here.
        needed: LogIndex,
    },
    /// The state record names a checkpoint, and none was given.
    NoCheckpoint(u64),
    /// The checkpoint does not give a state.
    Checkpoint(RestoreError),
    /// A committed entry cannot be read.
    Damaged(LogIndex),
    /// The state refers to a payload that is nowhere.
    PayloadMissing(MessageId),
}

/// One record of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) index: LogIndex,
    pub(crate) sequence: u64,
    pub(crate) term: Term,
    pub(crate) place: Place,
}

/// What a log holds of one range.
#[derive(Default)]
pub struct ReplicaRecords {
    pub(crate) state: Option<(StateRecord, Place)>,
    /// In the order of the log at first.
    pub(crate) entries: Vec<Found>,
    /// Known to be committed.
    pub(crate) commit: LogIndex,
    pub(crate) sequence: u64,
}

/// What a log holds of all of its ranges.
#[derive(Default)]
pub struct Recovered {
    ranges: BTreeMap<RangeId, ReplicaRecords>,
    quarantine: Quarantine,
}

impl Recovered {
    /// Walks over the records of a recovered log.
    pub fn collect(recovery: &Recovery<'_>) -> Result<Recovered, OpenError> {
        let mut recovered = Recovered { quarantine: recovery.quarantine().clone(), ranges: BTreeMap::new() };
        for record in recovery.records() {
            let header = &record.header;
            let error = |error| OpenError::Record(record.position, error);
            if header.version != VERSION {
                return Err(error(DecodeError::Version(header.version)));
            }
            let place = Place { position: record.position, bytes: record.bytes };
            let replica = recovered.ranges.entry(header.range).or_default();
            match header.kind {
                KIND_ENTRY => {
                    let (entry, _) = EntryHeader::decode(record.metadata).map_err(error)?;
                    replica.insert_entry(&entry, place);
                }
                KIND_STATE => {
                    replica.insert_state(StateRecord::decode(record.metadata).map_err(error)?, place);
                }
                _ => return Err(error(DecodeError::Invalid)),
            }
        }
        Ok(recovered)
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = RangeId> + '_ {
        self.ranges.keys().copied()
    }

    /// The records of one range; none if it is new to the log, and an error if it may only seem so. Who goes
    /// on without a quarantined range takes its name out of the catalog: the next start finds nothing of it,
    /// and would begin it anew.
    pub fn take(&mut self, range: RangeId) -> Result<Option<ReplicaRecords>, OpenError> {
        let records = self.ranges.remove(&range);
        // A lost record's owner may be unknown, and a range that has nothing left may have been it.
        let lost = records.is_none() && self.quarantine.may_have_lost(range);
        if lost || self.quarantine.contains(range) { Err(OpenError::Quarantined) } else { Ok(records) }
    }
}

impl ReplicaRecords {
    /// The checkpoint the replica starts from: the file to be read.
    #[must_use]
    pub fn checkpoint(&self) -> Option<u64> {
        self.state.as_ref().map(|(state, _)| state.checkpoint).filter(|number| *number != 0)
    }

    fn insert_entry(&mut self, entry: &EntryHeader, place: Place) {
        let EntryHeader { index, term, sequence, commit } = *entry;
        self.commit = self.commit.max(commit);
        self.sequence = self.sequence.max(sequence);
        self.entries.push(Found { index, sequence, term, place });
    }

    fn insert_state(&mut self, state: StateRecord, place: Place) {
        self.sequence = self.sequence.max(state.sequence);
        // Equal: a copy that reclaiming made.
        if self.state.as_ref().is_none_or(|(newest, _)| newest.sequence <= state.sequence) {
            self.state = Some((state, place));
        }
    }

    /// Leaves one record per index: the one that was written last, where it was moved to last.
    pub(crate) fn settle(&mut self) {
        // Stable: of equal ones, the copies stand behind the original in the order of the log.
        self.entries.sort_by_key(|found| (found.index, found.sequence));
        self.entries.reverse();
        self.entries.dedup_by_key(|found| found.index);
        self.entries.reverse();
    }

    /// The Raft log behind `truncated`, of settled records: those that were not overwritten.
    pub(crate) fn log(&self, truncated: &Truncated) -> Result<Vec<Found>, OpenError> {
        let from = self.entries.partition_point(|found| found.index <= truncated.index);
        let mut log: Vec<Found> = Vec::with_capacity(self.entries.len() - from);
        let (mut index, mut sequence) = (truncated.index, truncated.sequence);
        for found in &self.entries[from..] {
            if found.sequence < sequence {
                continue;
            }
            index = index.next();
            if found.index != index {
                return Err(OpenError::Gap(index));
            }
            sequence = found.sequence;
            log.push(*found);
        }
        Ok(log)
    }

    /// The record of an entry, of settled records.
    pub(crate) fn find(&self, index: LogIndex) -> Option<&Found> {
        // Where few entries are gone it is where it would be if none were.
        let first = self.entries.first()?.index;
        let guess = usize::try_from(index.0.checked_sub(first.0)?).ok()?;
        if let Some(found) = self.entries.get(guess).filter(|found| found.index == index) {
            return Some(found);
        }
        let at = self.entries.binary_search_by_key(&index, |found| found.index).ok()?;
        Some(&self.entries[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Index, sequence and place of records in the order of the log.
    fn records(found: &[(u64, u64, u32)]) -> ReplicaRecords {
        let mut records = ReplicaRecords::default();
        for (index, sequence, unit) in found {
            let entry =
                EntryHeader { index: LogIndex(*index), sequence: *sequence, ..EntryHeader::default() };
            let position = Position { unit: *unit, ..Position::default() };
            records.insert_entry(&entry, Place { position, bytes: 64 });
        }
        records.settle();
        records
    }

    fn log(records: &ReplicaRecords, index: u64, sequence: u64) -> Result<Vec<(u64, u32)>, OpenError> {
        let truncated = Truncated { index: LogIndex(index), sequence, ..Truncated::default() };
        let log = records.log(&truncated)?;
        Ok(log.iter().map(|found| (found.index.0, found.place.position.unit)).collect())
    }

    /// A copy that reclaiming made cuts nothing off, and stands for its original.
    #[test]
    fn a_moved_entry_is_no_overwrite() {
        let records = records(&[(1, 1, 10), (2, 2, 11), (3, 3, 12), (1, 1, 13), (2, 2, 14), (1, 1, 15)]);
        assert_eq!(log(&records, 0, 0), Ok(vec![(1, 15), (2, 14), (3, 12)]));
        assert_eq!(log(&records, 1, 1), Ok(vec![(2, 14), (3, 12)]));
    }

    /// An entry written again cuts off what was behind it, whether its new record is still there or only its
    /// sequence in the state record.
    #[test]
    fn what_was_overwritten_does_not_come_back() {
        let all = records(&[(1, 1, 10), (2, 2, 11), (3, 3, 12), (4, 4, 13), (2, 5, 14)]);
        assert_eq!(log(&all, 0, 0), Ok(vec![(1, 10), (2, 14)]));
        let longer = records(&[(1, 1, 10), (2, 2, 11), (3, 3, 12), (4, 4, 13), (2, 5, 14), (3, 6, 15)]);
        assert_eq!(log(&longer, 0, 0), Ok(vec![(1, 10), (2, 14), (3, 15)]));
        let reclaimed = records(&[(1, 1, 10), (3, 3, 12), (4, 4, 13)]);
        assert_eq!(log(&reclaimed, 2, 5), Ok(vec![]));
    }

    /// An entry is found whether or not there are holes before it.
    #[test]
    fn entries_are_found() {
        let records = records(&[(5, 1, 10), (6, 2, 11), (8, 4, 13), (20, 5, 14)]);
        let found = |index| records.find(LogIndex(index)).map(|found| found.place.position.unit);
        let all = [4, 5, 6, 7, 8, 19, 20, 21].map(found);
        assert_eq!(all, [None, Some(10), Some(11), None, Some(13), None, Some(14), None]);
    }

    /// What a quarantining start left out is not taken for new; nor is, when the owner of something lost is
    /// unknown, a range of which there is nothing.
    #[test]
    fn a_quarantined_range_is_not_new() {
        let mut recovered = Recovered::default();
        recovered.ranges.insert(RangeId(1), ReplicaRecords::default());
        recovered.quarantine.touched.push(RangeId(2));
        assert!(matches!(recovered.take(RangeId(2)), Err(OpenError::Quarantined)));
        assert!(matches!(recovered.take(RangeId(3)), Ok(None)));
        recovered.quarantine.unidentified.push((wal::Lsn(5), wal::Lsn(6)));
        assert!(matches!(recovered.take(RangeId(3)), Err(OpenError::Quarantined)));
        assert!(matches!(recovered.take(RangeId(1)), Ok(Some(_))));
        recovered.quarantine.named_since.push(RangeId(4));
        assert!(matches!(recovered.take(RangeId(4)), Ok(None)));
    }

    /// A hole in the log is an error and not an end.
    #[test]
    fn a_hole_is_named() {
        let records = records(&[(1, 1, 10), (3, 3, 12)]);
        assert_eq!(log(&records, 0, 0), Err(OpenError::Gap(LogIndex(2))));
    }
}
