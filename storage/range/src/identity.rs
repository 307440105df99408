//! Names for replicas, entries, messages and moments, each its own type so that none is taken for another.

use wal::RangeId;

/// A member of a Raft group: counted by its range, never used again. Not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

/// Place of an entry in the Raft log of its range, from 1; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// The entry after this.
    #[must_use]
    pub fn next(self) -> LogIndex {
        LogIndex(self.0 + 1)
    }
}

/// A Raft term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// Milliseconds since the Unix epoch, as the proposer's node read them. Never decreases along the log of a
/// range, whatever the clocks of its leaders did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

/// One command for good, and so the payload that came with it. Kept through every move of the record; where
/// that is now only the replica's own table says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The range whose log took it.
    pub origin: RangeId,
    /// The entry.
    pub index: LogIndex,
    /// Which of the entry's commands, from 0.
    pub ordinal: u32,
}

/// The host's name for a proposal. The replica hands it back once and does nothing else with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);
