//! The first block of a segment.
//!
//! ```text
//!  0        8     12    16                32       40         48      56         64       68     72
//! ┌────────┬─────┬─────┬─────────────────┬────────┬──────────┬───────┬──────────┬────────┬──────┬───────┬──
//! │ magic  │ ver │ log │ cluster         │ node   │ sequence │ salt  │ base LSN │segment │ next │ check │ 0…
//! │ 8      │ u32 │ u32 │ u128            │ u64    │ u64      │ u64   │ u64      │ u32    │ u32  │ u64   │
//! └────────┴─────┴─────┴─────────────────┴────────┴──────────┴───────┴──────────┴────────┴──────┴───────┴──
//! ```
//!
//! Everything is in the first 512 bytes, so a torn write leaves the former header or this one. `check` is
//! xxh3-64 over bytes 0 to 72. `sequence` counts the segments of a log in the order in which they were
//! begun: where two claim the same LSN the later one is right, the other was cut by a recovery. `segment` is
//! the file's name: a recycled file still holds the header of its former life, which then does not match.

use xxhash_rust::xxh3::xxh3_64;

use super::{SEGMENT_HEADER_BYTES, put, u32_at, u64_at, u128_at};
use crate::identity::{ClusterId, LogId, LogIdentity, Lsn, NodeId, SegmentId};

/// First bytes of every segment file.
pub const MAGIC: [u8; 8] = *b"HERMODWL";
/// The format this crate writes and reads.
pub const VERSION: u32 = 1;

const CHECKED_BYTES: usize = 8 + 4 + 4 + 16 + 8 + 8 + 8 + 8 + 4 + 4;
const _: () = assert!(CHECKED_BYTES == 72 && CHECKED_BYTES + 8 <= 512);

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log.
    pub identity: LogIdentity,
    /// The file's name.
    pub segment: SegmentId,
    /// Order among the segments of the log.
    pub sequence: u64,
    /// Random per life of the file; goes into every record's checksum.
    pub salt: u64,
    /// LSN of the first record.
    pub base: Lsn,
    /// The name the next new file would have had: names are not used again, even after their files are gone.
    pub next_segment: SegmentId,
}

/// Why a block is not a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Zeros, garbage or a torn write: a spare file.
    Blank,
    /// A whole header of a format this crate does not know.
    Version(u32),
}

impl SegmentHeader {
    /// Writes the block; `block` is 4096 bytes.
    pub fn encode(&self, block: &mut [u8]) {
        assert_eq!(block.len(), SEGMENT_HEADER_BYTES, "a header is one block");
        block.fill(0);
        put(block, 0, MAGIC);
        put(block, 8, VERSION.to_le_bytes());
        put(block, 12, u32::from(self.identity.log.0).to_le_bytes());
        put(block, 16, self.identity.cluster.0.to_le_bytes());
        put(block, 32, self.identity.node.0.to_le_bytes());
        put(block, 40, self.sequence.to_le_bytes());
        put(block, 48, self.salt.to_le_bytes());
        put(block, 56, self.base.0.to_le_bytes());
        put(block, 64, self.segment.0.to_le_bytes());
        put(block, 68, self.next_segment.0.to_le_bytes());
        let check = xxh3_64(&block[..CHECKED_BYTES]);
        put(block, CHECKED_BYTES, check.to_le_bytes());
    }

    /// Reads the block at the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        if bytes.len() < SEGMENT_HEADER_BYTES || bytes[..8] != MAGIC {
            return Err(HeaderError::Blank);
        }
        if u64_at(bytes, CHECKED_BYTES) != xxh3_64(&bytes[..CHECKED_BYTES]) {
            return Err(HeaderError::Blank);
        }
        let version = u32_at(bytes, 8);
        let Ok(log) = u16::try_from(u32_at(bytes, 12)) else { return Err(HeaderError::Version(version)) };
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        Ok(SegmentHeader {
            identity: LogIdentity {
                cluster: ClusterId(u128_at(bytes, 16)),
                node: NodeId(u64_at(bytes, 32)),
                log: LogId(log),
            },
            segment: SegmentId(u32_at(bytes, 64)),
            sequence: u64_at(bytes, 40),
            salt: u64_at(bytes, 48),
            base: Lsn(u64_at(bytes, 56)),
            next_segment: SegmentId(u32_at(bytes, 68)),
        })
    }
}
