//! Hot path. Commits in flight: at most two, acknowledged in order.

use smallvec::SmallVec;

use crate::identity::{CommitNumber, Lsn, Mono};

/// At most so many commits are in flight: one that the disk works on, one that waits in its queue.
pub(crate) const COMMITS_IN_FLIGHT_MAX: usize = 2;

#[derive(Default)]
pub(crate) struct Commits {
    in_flight: SmallVec<[InFlight; COMMITS_IN_FLIGHT_MAX]>,
    last_number: u64,
}

pub(crate) struct InFlight {
    pub(crate) number: CommitNumber,
    pub(crate) last: Lsn,
    pub(crate) bytes: u64,
    pub(crate) records: u32,
    pub(crate) since: Mono,
    done: bool,
}

impl Commits {
    pub(crate) fn in_flight(&self) -> u32 {
        u32::try_from(self.in_flight.len()).expect("at most two")
    }

    pub(crate) fn bytes_in_flight(&self) -> u64 {
        self.in_flight.iter().map(|commit| commit.bytes).sum()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.in_flight.len() == COMMITS_IN_FLIGHT_MAX
    }

    /// When the newest was handed out.
    pub(crate) fn newest_since(&self) -> Option<Mono> {
        self.in_flight.last().map(|commit| commit.since)
    }

    pub(crate) fn begin(&mut self, now: Mono, last: Lsn, bytes: u64, records: u32) -> CommitNumber {
        assert!(!self.is_full(), "at most two commits in flight");
        self.last_number += 1;
        let number = CommitNumber(self.last_number);
        self.in_flight.push(InFlight { number, last, bytes, records, since: now, done: false });
        number
    }

    /// Marks one as complete, and answers how long it took and how many records it had.
    pub(crate) fn complete(&mut self, now: Mono, number: CommitNumber) -> (u64, u32) {
        let commit = self.in_flight.iter_mut().find(|commit| commit.number == number);
        let commit = commit.expect("a commit is answered once, and only one that was handed out");
        assert!(!commit.done, "a commit is answered once");
        commit.done = true;
        (now.since(commit.since), commit.records)
    }

    /// Removes the oldest if it is complete, and answers its last LSN: none is acknowledged before it.
    pub(crate) fn pop_complete(&mut self) -> Option<Lsn> {
        if self.in_flight.first()?.done { Some(self.in_flight.remove(0).last) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second commit completes first: nothing is acknowledged until the first has, then both are.
    #[test]
    fn acknowledges_in_order() {
        let mut commits = Commits::default();
        let first = commits.begin(Mono(0), Lsn(10), 4096, 10);
        let second = commits.begin(Mono(5), Lsn(12), 4096, 2);
        assert!(commits.is_full());
        assert_eq!(commits.complete(Mono(7), second), (2, 2));
        assert_eq!(commits.pop_complete(), None);
        assert_eq!(commits.complete(Mono(9), first), (9, 10));
        assert_eq!(commits.pop_complete(), Some(Lsn(10)));
        assert_eq!(commits.pop_complete(), Some(Lsn(12)));
        assert_eq!(commits.pop_complete(), None);
    }
}
