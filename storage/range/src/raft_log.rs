//! Hot path. The Raft log of one replica, as the raft crate reads it: terms of all entries in memory, contents of
//! the newest ones, the others fetched from the write-ahead log when a follower lags.

use std::cell::RefCell;
use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use crate::format::state::Truncated;
use crate::identity::{LogIndex, ReplicaId, Term};

/// Entries that follow each other in one term, written one after the other: up to the next run.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    term: Term,
    /// The first one's; each other's is its predecessor's plus 1.
    sequence: u64,
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
    last: u64,
    /// Of all entries from the first after `truncated` to the last. The first run may begin before them.
    runs: VecDeque<Run>,
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
            last: truncated.index.0,
            runs: VecDeque::new(),
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
        self.last
    }

    fn recent_first(&self) -> u64 {
        self.last() + 1 - self.recent.len() as u64
    }

    /// What an entry of the log is known by when the log is truncated behind it.
    pub(crate) fn mark(&self, index: LogIndex) -> Option<Truncated> {
        if index.0 < self.first() || index.0 > self.last {
            return None;
        }
        let run = &self.runs[self.runs.partition_point(|run| run.first <= index.0) - 1];
        Some(Truncated { index, term: run.term, sequence: run.sequence + (index.0 - run.first) })
    }

    /// The last one's, or that of the last truncated one.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        self.mark(index).map(|mark| mark.term)
    }

    /// Takes an entry, with all after it gone that there were.
    pub(crate) fn append(&mut self, entry: Entry, sequence: u64) {
        assert!(entry.index >= self.first() && entry.index <= self.last() + 1, "entries follow each other");
        while self.runs.pop_back_if(|run| run.first >= entry.index).is_some() {}
        self.last = entry.index - 1;
        while self.recent.back().is_some_and(|recent| recent.index >= entry.index) {
            let gone = self.recent.pop_back().expect("there is one");
            self.recent_bytes -= gone.data.len();
        }
        self.push(Term(entry.term), sequence);
        self.recent_bytes += entry.data.len();
        self.recent.push_back(entry);
    }

    /// Takes an entry that recovery found; its content is not needed before a follower asks.
    pub(crate) fn restore(&mut self, term: Term, sequence: u64) {
        assert!(self.recent.is_empty(), "contents follow the terms");
        self.push(term, sequence);
    }

    fn push(&mut self, term: Term, sequence: u64) {
        self.last += 1;
        let goes_on = |run: &Run| run.term == term && run.sequence + (self.last - run.first) == sequence;
        if !self.runs.back().is_some_and(goes_on) {
            self.runs.push_back(Run { first: self.last, term, sequence });
        }
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

    /// Takes entries up to `end` off the log: they are committed, applied, and needed by no peer.
    pub(crate) fn truncate(&mut self, end: LogIndex) {
        self.truncated = self.mark(end).expect("an entry of the log");
        while self.runs.get(1).is_some_and(|run| run.first <= self.first()) {
            self.runs.pop_front();
        }
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
