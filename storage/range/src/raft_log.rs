//! Hot path. The Raft log of one replica, as the raft crate reads it: terms and places of all entries in
//! memory, contents of the newest ones, the others fetched from the write-ahead log when a follower lags.

use std::cell::RefCell;
use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use crate::format::state::Truncated;
use crate::identity::{LogIndex, ReplicaId, Term};
use crate::payloads::Place;

/// One entry of the log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) term: Term,
    pub(crate) sequence: u64,
    /// None until it is written.
    pub(crate) place: Option<Place>,
    /// References of the state to its payloads.
    pub(crate) references: u32,
}

/// Entries a follower needs and memory has no more.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) bytes_max: u64,
    pub(crate) context: GetEntriesContext,
}

pub(crate) struct RaftLog {
    pub(crate) hard_state: HardState,
    voters: Vec<u64>,
    pub(crate) truncated: Truncated,
    /// From the first after `truncated` to the last.
    slots: VecDeque<Slot>,
    /// The newest entries, up to the last one.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    fetches: RefCell<Vec<Fetch>>,
    /// What was read back for the fetch that is being answered.
    pub(crate) fetched: Vec<Entry>,
}

impl RaftLog {
    pub(crate) fn new(hard_state: HardState, voters: &[ReplicaId], truncated: Truncated) -> RaftLog {
        RaftLog {
            hard_state,
            voters: voters.iter().map(|voter| voter.0).collect(),
            truncated,
            slots: VecDeque::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            fetches: RefCell::default(),
            fetched: Vec::new(),
        }
    }

    pub(crate) fn first(&self) -> u64 {
        self.truncated.index.0 + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.truncated.index.0 + self.slots.len() as u64
    }

    fn recent_first(&self) -> u64 {
        self.last() + 1 - self.recent.len() as u64
    }

    fn at(&self, index: LogIndex) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.first())?).ok()
    }

    pub(crate) fn slot(&self, index: LogIndex) -> Option<&Slot> {
        self.slots.get(self.at(index)?)
    }

    pub(crate) fn slot_mut(&mut self, index: LogIndex) -> Option<&mut Slot> {
        let at = self.at(index)?;
        self.slots.get_mut(at)
    }

    /// The last one's, or that of the last truncated one.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        self.slot(index).map(|slot| slot.term)
    }

    /// Takes an entry, with all after it gone that there were. Those are handed to `overwritten`.
    pub(crate) fn append(&mut self, entry: Entry, sequence: u64, overwritten: &mut Vec<Slot>) {
        assert!(entry.index >= self.first() && entry.index <= self.last() + 1, "entries follow each other");
        let at = self.at(LogIndex(entry.index)).expect("behind the truncated one");
        overwritten.extend(self.slots.drain(at..));
        while self.recent.back().is_some_and(|recent| recent.index >= entry.index) {
            let gone = self.recent.pop_back().expect("there is one");
            self.recent_bytes -= gone.data.len();
        }
        self.slots.push_back(Slot { term: Term(entry.term), sequence, place: None, references: 0 });
        self.recent_bytes += entry.data.len();
        self.recent.push_back(entry);
    }

    /// Takes an entry that recovery found; its content is not needed before a follower asks.
    pub(crate) fn restore(&mut self, slot: Slot) {
        assert!(self.recent.is_empty(), "contents follow the places");
        self.slots.push_back(slot);
    }

    /// Takes the content of a restored entry that is not committed yet.
    pub(crate) fn restore_recent(&mut self, entries: Vec<Entry>) {
        self.recent = entries.into();
        self.recent_bytes = self.recent.iter().map(|entry| entry.data.len()).sum();
    }

    /// Forgets contents up to `applied` while they take more than `bytes_max`.
    pub(crate) fn shrink(&mut self, applied: LogIndex, bytes_max: usize) {
        while let Some(oldest) = self.recent.front()
            && oldest.index <= applied.0
            && (self.recent_bytes > bytes_max || oldest.index <= self.truncated.index.0 || bytes_max == 0)
        {
            self.recent_bytes -= oldest.data.len();
            self.recent.pop_front();
        }
    }

    /// The oldest entry, taken off the log: it is committed, applied, and needed by no peer.
    pub(crate) fn pop_first(&mut self) -> Slot {
        let slot = self.slots.pop_front().expect("not empty");
        self.truncated =
            Truncated { index: self.truncated.index.next(), term: slot.term, sequence: slot.sequence };
        slot
    }

    pub(crate) fn take_fetches(&mut self) -> Vec<Fetch> {
        std::mem::take(self.fetches.get_mut())
    }

    /// As many of `from`'s entries, which are in order, as the limits allow, but at least one.
    fn pick<'a>(from: impl Iterator<Item = &'a Entry>, low: u64, high: u64, bytes_max: u64) -> Vec<Entry> {
        let mut bytes = 0;
        from.skip_while(|entry| entry.index < low)
            .take_while(|entry| {
                let first = entry.index == low;
                bytes += entry.data.len() as u64;
                entry.index < high && (first || bytes <= bytes_max)
            })
            .cloned()
            .collect()
    }
}

impl Storage for RaftLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let conf_state = ConfState { voters: self.voters.clone(), ..ConfState::default() };
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        if low < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        if low >= self.recent_first() {
            let at = usize::try_from(low - self.recent_first()).expect("as many as are in memory");
            return Ok(RaftLog::pick(self.recent.range(at..), low, high, bytes_max));
        }
        if self.fetched.first().is_some_and(|entry| entry.index == low) {
            return Ok(RaftLog::pick(self.fetched.iter(), low, high, bytes_max));
        }
        assert!(context.can_async(), "what is not applied yet is in memory");
        let end = high.min(self.recent_first());
        self.fetches.borrow_mut().push(Fetch { first: low, end, bytes_max, context });
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let error =
            if index < self.truncated.index.0 { StorageError::Compacted } else { StorageError::Unavailable };
        self.term_at(LogIndex(index)).map(|term| term.0).ok_or(Error::Store(error))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Nobody needs one: the log is kept from where the slowest voter is.
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
