//! What a log asks of its host, and what the host answers: plain data.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::identity::{CommitNumber, LogId, Lsn, Mono, SegmentId};
use crate::log::Log;
use crate::mapping::SegmentBytes;

/// One thing for the host to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Write and fdatasync; answered once by [`Log::on_flushed`](crate::Log::on_flushed).
    Flush(Commit),
    /// Prepare a segment file: created, zeroed and synced, or, with `recycle`, a file of that size that is
    /// no longer needed renamed to the new name. Answered by
    /// [`Log::on_segment_ready`](crate::Log::on_segment_ready) or
    /// [`Log::on_segment_failed`](crate::Log::on_segment_failed).
    AllocateSegment {
        /// The file's name.
        segment: SegmentId,
        /// Its size.
        bytes: u64,
        /// The file to make it from.
        recycle: Option<SegmentId>,
    },
    /// Delete a file that is no longer needed. Not answered.
    RemoveSegment(SegmentId),
    /// All of the segment is durable: map it; answered by [`Log::on_mapped`](crate::Log::on_mapped). Until
    /// then its memory is kept.
    MapSegment(SegmentId),
    /// Read pages of a sealed segment in, because somebody is about to read them; answered by
    /// [`Log::on_prefetched`](crate::Log::on_prefetched), whether it worked or not.
    Prefetch(Pages),
}

/// A range of one sealed segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// The file.
    pub segment: SegmentId,
    /// Where, a multiple of 4096.
    pub offset: u64,
    /// How much.
    pub bytes: u64,
}

impl Pages {
    /// All of a file of that size.
    #[must_use]
    pub fn whole(segment: SegmentId, file_bytes: u64) -> Pages {
        Pages { segment, offset: 0, bytes: file_bytes }
    }
}

/// Everything that was appended since the last one, as writes that are all to be done, each linked to an
/// fdatasync of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Which log.
    pub log: LogId,
    /// To be named in the answer.
    pub number: CommitNumber,
    /// The last record in it.
    pub last: Lsn,
    /// One, or one per segment where a segment filled up.
    pub writes: SmallVec<[Write; 1]>,
}

/// A range of one segment file, in whole blocks. Its bytes are
/// [`Log::bytes_to_write`](crate::Log::bytes_to_write): they stay in place, unchanged, until the commit is
/// answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The file.
    pub segment: SegmentId,
    /// Where, a multiple of 4096.
    pub offset: u64,
    /// How much, a multiple of 4096.
    pub bytes: u32,
}

/// Why a commit is not on disk. Each ends the log: after a failed fsync the kernel may have dropped the
/// pages and call the next one a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushError {
    /// The write failed with this errno.
    Write(i32),
    /// The write ended early, which also breaks the link to its fdatasync.
    Short {
        /// Bytes written.
        written: u32,
        /// Bytes asked for.
        asked: u32,
    },
    /// The fdatasync failed with this errno.
    Sync(i32),
}

/// Why a segment file could not be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentError {
    /// No space, or below the watermark.
    Full,
    /// Anything else, with its errno.
    Io(i32),
}

/// The answer to a [`Request`], for the log's method of the same name.
#[derive(Debug)]
pub enum Completion {
    /// For [`Log::on_flushed`].
    Flushed(CommitNumber, Result<(), FlushError>),
    /// For [`Log::on_segment_ready`].
    SegmentReady(SegmentId),
    /// For [`Log::on_segment_failed`].
    SegmentFailed(SegmentId, SegmentError),
    /// For [`Log::on_mapped`].
    Mapped(SegmentId, Arc<SegmentBytes>),
    /// For [`Log::on_prefetched`].
    Prefetched(Pages),
}

impl Completion {
    /// Tells the log; a segment that is ready gets this salt. What has become durable is asked of the log.
    pub fn tell(self, now: Mono, salt: u64, log: &mut Log) {
        match self {
            Completion::Flushed(number, result) => {
                log.on_flushed(now, number, result);
            }
            Completion::SegmentReady(segment) => log.on_segment_ready(segment, salt),
            Completion::SegmentFailed(segment, error) => log.on_segment_failed(now, segment, error),
            Completion::Mapped(segment, bytes) => log.on_mapped(segment, bytes),
            Completion::Prefetched(pages) => log.on_prefetched(now, pages),
        }
    }
}
