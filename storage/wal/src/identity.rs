//! Names for logs, segments, records and moments, each its own type so that none is taken for another.

use std::fmt;

/// A cluster: 128 random bits made at bootstrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

/// A node: 64 random bits made once per data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// A log of one node. Stored; which core serves it may change between starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u16);

/// A range: 128 random bits, put into the split command by its proposer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeId(pub u128);

impl RangeId {
    /// Owner of the log's own records; no range has this id.
    pub const LOG: RangeId = RangeId(0);
}

/// Whose log it is. Every segment says so, and a log of somebody else is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node in it.
    pub node: NodeId,
    /// The log of that node.
    pub log: LogId,
}

/// Log sequence number: counts the records of one log from 1, without holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first record.
    pub const NONE: Lsn = Lsn(0);

    /// The record after this.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }

    /// The record before this; that of the first, and of none, is none.
    #[must_use]
    pub fn previous(self) -> Lsn {
        Lsn(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One life of a segment file, and its name. Never used twice in a log, so that a position into a former
/// life of a recycled file is an unknown segment and not somebody else's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u32);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Where a record is: 8 bytes, because a table of a million queued messages holds a million of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// In which segment.
    pub segment: SegmentId,
    /// Offset of the record's header in units of 16 bytes, which every record is aligned to.
    pub unit: u32,
}

impl Position {
    /// The place `offset` bytes into a segment; `offset` is a multiple of 16.
    #[must_use]
    pub(crate) fn new(segment: SegmentId, offset: usize) -> Position {
        assert!(offset.is_multiple_of(16), "records are aligned to 16 bytes");
        Position { segment, unit: u32::try_from(offset / 16).expect("segments are below 64 GiB") }
    }

    /// In bytes from the start of the file.
    #[must_use]
    pub fn offset(self) -> usize {
        self.unit as usize * 16
    }
}

/// Counts the commits of one life of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitNumber(pub u64);

/// Nanoseconds of a clock that never goes back; its zero is the host's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// The moment `nanoseconds` later, at most the end of the clock.
    #[must_use]
    pub fn after(self, nanoseconds: u64) -> Mono {
        Mono(self.0.saturating_add(nanoseconds))
    }

    /// Nanoseconds since `earlier`; zero if it is still to come.
    #[must_use]
    pub fn since(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
