//! Changes of what is retained, by name while they are under way: counted by core and range from when the process
//! begins.

use std::sync::Arc;

use wal::LogId;

use crate::identity::CoreId;

/// A change: the core that sent it to its range, and its number among those that the core sent there, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeName {
    /// The publisher's core.
    pub from: CoreId,
    /// Which of its changes.
    pub number: u64,
}

impl ChangeName {
    /// Whether it was sent behind a point of its range.
    #[must_use]
    pub fn is_behind(self, point: &[u64]) -> bool {
        point.get(self.from.index()).is_some_and(|sent| self.number > *sent)
    }
}

/// From where on a subscription gets changes live, and up to where as copies: how many each core had sent to each range
/// when it was asked, with the subscription's routes standing. What it sent later reaches the session live, and is not
/// for a copy; what it sent before need not come live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// By the range's log, then by core.
    changes: Arc<[u64]>,
    cores: usize,
}

impl Point {
    /// From the counts by log, then by core, of so many cores.
    #[must_use]
    pub fn new(changes: Arc<[u64]>, cores: usize) -> Point {
        Point { changes, cores }
    }

    /// The changes of one range, by core.
    #[must_use]
    pub fn at(&self, log: LogId) -> &[u64] {
        &self.changes[usize::from(log.0) * self.cores..][..self.cores]
    }
}
