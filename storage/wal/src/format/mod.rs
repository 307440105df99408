//! What is on disk. Little-endian everywhere, format version 1.
//!
//! ```text
//! segment file
//! ┌────────┬─────────────────────────────┬──────────────────┬───────────────────────────────┐
//! │ header │ commit                      │ commit           │ zeros, or what a former life  │
//! │ 4 KiB  │ record record … zeros       │ record … zeros   │ of the file left              │
//! └────────┴─────────────────────────────┴──────────────────┴───────────────────────────────┘
//! 0      4096                        n · 4096           m · 4096                       file size
//! ```
//!
//! Records begin at multiples of 16, commits at multiples of 4096: an acknowledged block is never written
//! again, so no crash can tear it. A record never crosses into another segment. Padding is zeros and bounded
//! by the next block; a reader finds the next record by looking at every 16th byte.

pub mod record_header;
pub mod segment_header;
pub mod segment_table;

pub use record_header::RecordHeader;
pub use segment_header::{HeaderError, SegmentHeader};

/// What the log writes and aligns by: a commit begins and ends at a multiple.
pub const BLOCK_BYTES: usize = 4096;
/// First block of every segment.
pub const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES;
/// In front of every record's content.
pub const RECORD_HEADER_BYTES: usize = 64;
/// Records begin at multiples of this.
pub const RECORD_ALIGN_BYTES: usize = 16;

/// Bytes a record of so much content takes, header and alignment included.
#[must_use]
pub const fn framed_bytes(content_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + content_bytes).next_multiple_of(RECORD_ALIGN_BYTES)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(bytes[at..at + 16].try_into().expect("sixteen bytes"))
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}
