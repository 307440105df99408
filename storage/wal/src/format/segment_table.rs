//! Content of the log's own record (kind 0): which sealed segments the log consists of.
//!
//! ```text
//!  0          4        8     16
//! ┌──────────┬────────┬─────┬─────────────┬─────────────┐
//! │ segments │ ranges │ 0…  │ 32 B each   │ 24 B each   │
//! │ u32      │ u32    │     │             │             │
//! └──────────┴────────┴─────┴─────────────┴─────────────┘
//! segment                                              range
//!  0         4       8          16         24        32      0       16         24
//! ┌─────────┬───────┬──────────┬──────────┬─────────┐       ┌───────┬──────────┐
//! │ segment │ flags │ sequence │ base LSN │ last LSN│       │ range │ last LSN │
//! │ u32     │ u32   │ u64      │ u64      │ u64     │       │ u128  │ u64      │
//! └─────────┴───────┴──────────┴──────────┴─────────┘       └───────┴──────────┘
//! ```
//!
//! The first record of every shared segment, and appended again before segments are given back. Without it
//! recovery could not tell a segment that was reclaimed from one that was lost. A segment is recycled only
//! when a table without it is durable. Flag 1: the segment is known to be damaged, and a quarantining start
//! has accepted that.
//!
//! The ranges are those that have left the log, or were left out of it by a quarantining start: what they
//! have up to `last LSN` is not shown again.

use super::{u32_at, u64_at, u128_at};
use crate::identity::{Lsn, RangeId, SegmentId};

/// Kind of the record.
pub const KIND: u16 = 0;
/// Version of its content.
pub const VERSION: u16 = 1;
/// Bytes of one entry.
pub const ENTRY_BYTES: usize = 32;
const _: () = assert!(ENTRY_BYTES == 4 + 4 + 8 + 8 + 8);
/// Bytes of one range.
pub const FORGOTTEN_BYTES: usize = 24;
const _: () = assert!(FORGOTTEN_BYTES == 16 + 8 && FORGOTTEN_BYTES <= ENTRY_BYTES);
/// In front of the entries.
pub const COUNTS_BYTES: usize = 16;

const FLAG_DAMAGED: u32 = 1;

/// One sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which file.
    pub segment: SegmentId,
    /// Order among the log's segments.
    pub sequence: u64,
    /// Its first record.
    pub base: Lsn,
    /// Its last record.
    pub last: Lsn,
    /// Damage in it was accepted once, and is no reason to refuse a start again.
    pub damaged: bool,
}

/// A range that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Which.
    pub range: RangeId,
    /// Its records up to here do not count.
    pub last: Lsn,
}

/// What a table record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentTable {
    /// The sealed segments the log consists of, in the order of their LSNs.
    pub entries: Vec<Entry>,
    /// Ranges that have left, ascending.
    pub forgotten: Vec<Forgotten>,
}

/// Size of the content.
#[must_use]
pub const fn content_bytes(entries: usize, forgotten: usize) -> usize {
    COUNTS_BYTES + entries * ENTRY_BYTES + forgotten * FORGOTTEN_BYTES
}

/// The content of a table record.
#[must_use]
pub fn encode(entries: &[Entry], forgotten: &[Forgotten]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content_bytes(entries.len(), forgotten.len()));
    let count = |count: usize| u32::try_from(count).expect("bounded by segments_max");
    out.extend_from_slice(&count(entries.len()).to_le_bytes());
    out.extend_from_slice(&count(forgotten.len()).to_le_bytes());
    out.resize(COUNTS_BYTES, 0);
    for entry in entries {
        out.extend_from_slice(&entry.segment.0.to_le_bytes());
        out.extend_from_slice(&if entry.damaged { FLAG_DAMAGED } else { 0 }.to_le_bytes());
        out.extend_from_slice(&entry.sequence.to_le_bytes());
        out.extend_from_slice(&entry.base.0.to_le_bytes());
        out.extend_from_slice(&entry.last.0.to_le_bytes());
    }
    for forgotten in forgotten {
        out.extend_from_slice(&forgotten.range.0.to_le_bytes());
        out.extend_from_slice(&forgotten.last.0.to_le_bytes());
    }
    out
}

/// The table in a record's content; none if the counts do not fit, which no whole record has.
#[must_use]
pub fn decode(content: &[u8]) -> Option<SegmentTable> {
    let (counts, rest) = content.split_at_checked(COUNTS_BYTES)?;
    let (segments, ranges) = (u32_at(counts, 0) as usize, u32_at(counts, 4) as usize);
    if content.len() != content_bytes(segments, ranges) {
        return None;
    }
    let (segments, ranges) = rest.split_at(segments * ENTRY_BYTES);
    let entry = |bytes: &[u8]| Entry {
        segment: SegmentId(u32_at(bytes, 0)),
        sequence: u64_at(bytes, 8),
        base: Lsn(u64_at(bytes, 16)),
        last: Lsn(u64_at(bytes, 24)),
        damaged: u32_at(bytes, 4) & FLAG_DAMAGED != 0,
    };
    let forgotten =
        |bytes: &[u8]| Forgotten { range: RangeId(u128_at(bytes, 0)), last: Lsn(u64_at(bytes, 16)) };
    Some(SegmentTable {
        entries: segments.chunks_exact(ENTRY_BYTES).map(entry).collect(),
        forgotten: ranges.chunks_exact(FORGOTTEN_BYTES).map(forgotten).collect(),
    })
}
