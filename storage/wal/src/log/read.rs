//! Hot path. Reading back by position: the tail from memory, sealed segments in place.

use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::format::record_header::RecordHeader;
use crate::format::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use crate::identity::Position;
use crate::mapping::SegmentBytes;

use super::Log;
use super::sealed::Content;

/// A record that was read.
pub enum Read<'a> {
    /// In a segment that is still in memory: to be copied before the log changes.
    Tail {
        /// What it says about itself.
        header: RecordHeader,
        /// First part of the content.
        metadata: &'a [u8],
        /// Second part.
        payload: &'a [u8],
    },
    /// In a sealed segment: can be kept, which keeps the segment.
    Sealed(SealedRecord),
}

/// A record of a sealed segment, counted.
#[derive(Clone, Debug)]
pub struct SealedRecord {
    /// What it says about itself.
    pub header: RecordHeader,
    /// First part of the content.
    pub metadata: Slice,
    /// Second part.
    pub payload: Slice,
}

/// Bytes of a sealed segment. The segment is not recycled while one exists; it may go to another core.
#[derive(Clone, Debug)]
pub struct Slice {
    segment: Arc<SegmentBytes>,
    range: Range<usize>,
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.segment[self.range.clone()]
    }
}

/// Why a position cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The log has no such segment (any more).
    UnknownSegment,
    /// No whole record begins there: the disk has changed under us, or the position was never one.
    Damaged,
}

/// Which records of a sealed segment have been read since the start: one bit for 64 bytes, as no two
/// records begin closer. 128 KiB for a segment of 64 MiB, from the first read on.
#[derive(Default)]
pub(crate) struct Touched(Vec<u64>);

impl Touched {
    /// Notes the record at `offset`, and answers whether it was noted before.
    fn insert(&mut self, offset: usize, file_bytes: usize) -> bool {
        if self.0.is_empty() {
            self.0 = vec![0; file_bytes.div_ceil(RECORD_HEADER_BYTES * 64)];
        }
        let bit = offset / RECORD_HEADER_BYTES;
        let before = self.0[bit / 64] & 1 << (bit % 64) != 0;
        self.0[bit / 64] |= 1 << (bit % 64);
        before
    }
}

impl Log {
    /// The record at a position. Its header is checked every time, its content in debug builds and when it
    /// is read for the first time since the segment was mapped.
    pub fn read(&self, position: Position) -> Result<Read<'_>, ReadError> {
        let offset = position.offset();
        if offset < SEGMENT_HEADER_BYTES {
            return Err(ReadError::Damaged);
        }
        if let Some(tail) = &self.tail
            && tail.segment == position.segment
        {
            return read_memory(&tail.image.bytes()[..tail.end()], tail.salt, offset);
        }
        let segment = self.sealed.get(position.segment).ok_or(ReadError::UnknownSegment)?;
        let salt = segment.salt;
        match &segment.content {
            Content::Memory(image) => read_memory(image.bytes(), salt, offset),
            Content::Mapped(bytes) => {
                let rest = bytes.get(offset..).ok_or(ReadError::Damaged)?;
                let header = RecordHeader::decode(salt, rest).ok_or(ReadError::Damaged)?;
                let before = segment.touched.borrow_mut().insert(offset, bytes.len());
                if (cfg!(debug_assertions) || !before) && !header.content_is_whole(header.content(rest)) {
                    return Err(ReadError::Damaged);
                }
                let content = offset + RECORD_HEADER_BYTES;
                let payload = content + header.metadata_length as usize;
                let end = content + header.length as usize;
                let slice = |range| Slice { segment: Arc::clone(bytes), range };
                Ok(Read::Sealed(SealedRecord {
                    header,
                    metadata: slice(content..payload),
                    payload: slice(payload..end),
                }))
            }
        }
    }
}

fn read_memory(bytes: &[u8], salt: u64, offset: usize) -> Result<Read<'_>, ReadError> {
    let rest = bytes.get(offset..).ok_or(ReadError::Damaged)?;
    let header = RecordHeader::decode(salt, rest).ok_or(ReadError::Damaged)?;
    let content = header.content(rest);
    debug_assert!(header.content_is_whole(content), "memory holds what was appended");
    let (metadata, payload) = content.split_at(header.metadata_length as usize);
    Ok(Read::Tail { header, metadata, payload })
}

impl Read<'_> {
    /// What the record says about itself.
    #[must_use]
    pub fn header(&self) -> &RecordHeader {
        match self {
            Read::Tail { header, .. } => header,
            Read::Sealed(record) => &record.header,
        }
    }

    /// First part of the content.
    #[must_use]
    pub fn metadata(&self) -> &[u8] {
        match self {
            Read::Tail { metadata, .. } => metadata,
            Read::Sealed(record) => &record.metadata,
        }
    }

    /// Second part of the content.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match self {
            Read::Tail { payload, .. } => payload,
            Read::Sealed(record) => &record.payload,
        }
    }
}
