//! Content of the log's own record (kind 0): which sealed segments the log consists of.
//!
//! ```text
//!  0         4       8          16         24        32
//! ┌─────────┬───────┬──────────┬──────────┬─────────┬──
//! │ segment │ flags │ sequence │ base LSN │ last LSN│ next entry, in the order of the LSNs …
//! │ u32     │ u32   │ u64      │ u64      │ u64     │
//! └─────────┴───────┴──────────┴──────────┴─────────┴──
//! ```
//!
//! The first record of every shared segment, and appended again before segments are given back. Without it
//! recovery could not tell a segment that was reclaimed from one that was lost. A segment is recycled only
//! when a table without it is durable. Flag 1: the segment is known to be damaged, and a quarantining start
//! has accepted that.

use super::{put, u32_at, u64_at};
use crate::identity::{Lsn, SegmentId};

/// Kind of the record.
pub const KIND: u16 = 0;
/// Version of its content.
pub const VERSION: u16 = 1;
/// Bytes of one entry.
pub const ENTRY_BYTES: usize = 32;
const _: () = assert!(ENTRY_BYTES == 4 + 4 + 8 + 8 + 8);

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

/// Appends one entry to `out`.
pub(crate) fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let mut bytes = [0; ENTRY_BYTES];
    put(&mut bytes, 0, entry.segment.0.to_le_bytes());
    put(&mut bytes, 4, if entry.damaged { FLAG_DAMAGED } else { 0 }.to_le_bytes());
    put(&mut bytes, 8, entry.sequence.to_le_bytes());
    put(&mut bytes, 16, entry.base.0.to_le_bytes());
    put(&mut bytes, 24, entry.last.0.to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// The entries of a table record's content. Trailing bytes that are no entry are ignored.
pub fn decode(content: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    content.as_chunks::<ENTRY_BYTES>().0.iter().map(|bytes| Entry {
        segment: SegmentId(u32_at(bytes, 0)),
        sequence: u64_at(bytes, 8),
        base: Lsn(u64_at(bytes, 16)),
        last: Lsn(u64_at(bytes, 24)),
        damaged: u32_at(bytes, 4) & FLAG_DAMAGED != 0,
    })
}
