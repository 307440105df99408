//! The limits of one log, checked at start.

use crate::format::{BLOCK_BYTES, segment_table};
use crate::identity::LogIdentity;

/// Everything that bounds a log. Names are those of the settings under `wal.`.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Whose log it is.
    pub identity: LogIdentity,
    /// Size of a segment file, a multiple of 4096. Also the memory of the tail: the segment being written is
    /// held in memory until it is sealed, durable and mapped, so a log takes up to two of these, and up to
    /// `unflushed_bytes_max` more while the disk is behind.
    pub segment_bytes: u32,
    /// Spare segments that only control records and reclaiming may use up: at least 4.
    pub segments_reserved: u32,
    /// Spare segments for everybody, prepared ahead of need: at least 1.
    pub segments_ahead: u32,
    /// Most bytes (header, metadata and payload) of one record.
    pub record_bytes_max: u32,
    /// Appended and not yet durable bytes above which ordinary appends are refused. Control records may go
    /// one segment further.
    pub unflushed_bytes_max: u64,
    /// From so many bytes on a commit does not wait for company.
    pub commit_bytes_full: u64,
    /// Longest wait for company, in nanoseconds.
    pub linger_ns_max: u64,
    /// Reclaiming works until at least this share of the sealed segments' bytes is live: 1 to 75. More cannot
    /// be reached for certain: what is copied has headers and padding too, and a segment ends up to a quarter
    /// early.
    pub live_percent_target: u32,
}

impl Config {
    /// The shipped limits.
    #[must_use]
    pub fn new(identity: LogIdentity) -> Config {
        Config {
            identity,
            segment_bytes: 64 << 20,
            segments_reserved: 4,
            segments_ahead: 2,
            record_bytes_max: 257 << 20,
            unflushed_bytes_max: 64 << 20,
            commit_bytes_full: 256 << 10,
            linger_ns_max: 500_000,
            live_percent_target: 50,
        }
    }

    /// Panics where a limit makes no sense: the configuration layer has checked what a user can write.
    pub(crate) fn check(&self) {
        assert!(
            (self.segment_bytes as usize).is_multiple_of(BLOCK_BYTES),
            "wal.segment_bytes is in blocks of 4096"
        );
        assert!(self.segment_bytes as usize >= 4 * BLOCK_BYTES, "wal.segment_bytes is at least 16384");
        assert!(self.segments_reserved >= 4, "wal.segments_reserved is at least 4");
        assert!(self.segments_ahead >= 1, "wal.segments_ahead is at least 1");
        assert!((1..=75).contains(&self.live_percent_target), "wal.live_percent_target is 1 to 75");
    }

    /// Records above this size get a segment file of their own.
    #[must_use]
    pub(crate) fn shared_record_bytes_max(&self) -> usize {
        self.segment_bytes as usize / 4
    }

    /// So many sealed segments at most, because the table of them begins every segment; 262 144 (16 TiB) at
    /// the shipped size. Control records and reclaiming may open more: the table has room for twice as many.
    #[must_use]
    pub fn segments_max(&self) -> usize {
        self.segment_bytes as usize / 8 / segment_table::ENTRY_BYTES
    }
}
