//! Hot path. The segment that is being written: its memory, and how much of it is used and handed out.

use crate::format::record_header::RecordHeader;
use crate::format::{BLOCK_BYTES, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, framed_bytes};
use crate::identity::{Lsn, SegmentId};
use crate::image::Image;
use crate::request::Write;

use super::append::NewRecord;

pub(crate) struct Tail {
    pub(crate) segment: SegmentId,
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
    pub(crate) base: Lsn,
    pub(crate) image: Image,
    /// For one large record and nothing else.
    own: bool,
    /// Where the next record goes.
    end: usize,
    /// Everything before is in some commit; a multiple of 4096.
    taken: usize,
}

/// What the log adds to a record.
pub(crate) struct Place {
    pub(crate) lsn: Lsn,
    pub(crate) range_previous: Lsn,
    pub(crate) durable: Lsn,
    pub(crate) moved: bool,
}

impl Tail {
    /// Begins a segment; its header is written with the first commit.
    pub(crate) fn begin(header: &SegmentHeader, mut image: Image, own: bool) -> Tail {
        header.encode(&mut image.bytes_mut()[..SEGMENT_HEADER_BYTES]);
        Tail {
            segment: header.segment,
            sequence: header.sequence,
            salt: header.salt,
            base: header.base,
            image,
            own,
            end: SEGMENT_HEADER_BYTES,
            taken: 0,
        }
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.image.bytes().len() as u64
    }

    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Is there room for one more record of so much content?
    pub(crate) fn has_room(&self, content_bytes: usize) -> bool {
        !self.own && framed_bytes(content_bytes) <= self.image.bytes().len() - self.end
    }

    /// Is there room for a record, and in a commit after it for another?
    pub(crate) fn has_room_for_both(&self, content_bytes: usize, content_bytes_after: usize) -> bool {
        let end = (self.end + framed_bytes(content_bytes)).next_multiple_of(BLOCK_BYTES);
        !self.own && end + framed_bytes(content_bytes_after) <= self.image.bytes().len()
    }

    /// Copies a record in and answers where it begins. There is room.
    pub(crate) fn push(&mut self, record: &NewRecord<'_>, place: &Place) -> usize {
        let length = record.metadata.len() + record.payload.len();
        let begin = self.end;
        let end = begin + framed_bytes(length);
        let bytes = &mut self.image.bytes_mut()[begin..end];
        let (header, content) = bytes.split_at_mut(RECORD_HEADER_BYTES);
        let (metadata, rest) = content.split_at_mut(record.metadata.len());
        let (payload, padding) = rest.split_at_mut(record.payload.len());
        metadata.copy_from_slice(record.metadata);
        payload.copy_from_slice(record.payload);
        padding.fill(0);
        RecordHeader {
            content_check: xxhash_rust::xxh3::xxh3_64(&content[..length]),
            lsn: place.lsn,
            range_previous: place.range_previous,
            range: record.range,
            length: u32::try_from(length).expect("bounded by record_bytes_max"),
            metadata_length: u32::try_from(record.metadata.len()).expect("bounded by record_bytes_max"),
            durable: place.durable,
            kind: record.kind,
            version: record.version,
            moved: place.moved,
        }
        .encode(self.salt, header);
        debug_assert!(
            RecordHeader::decode(self.salt, bytes).is_some_and(|header| header.lsn == place.lsn),
            "what was written can be read"
        );
        self.end = end;
        begin
    }

    /// The blocks no commit has taken, if any: from now on they are never changed, the rest of the last one
    /// is padding.
    pub(crate) fn take(&mut self) -> Option<Write> {
        let end = self.end.next_multiple_of(BLOCK_BYTES);
        if end == self.taken || self.end == SEGMENT_HEADER_BYTES {
            return None;
        }
        self.image.bytes_mut()[self.end..end].fill(0);
        let write = Write {
            segment: self.segment,
            offset: self.taken as u64,
            bytes: u32::try_from(end - self.taken).expect("segments are below 4 GiB"),
        };
        self.end = end;
        self.taken = end;
        Some(write)
    }
}
