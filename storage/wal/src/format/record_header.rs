//! Hot path. In front of every record.
//!
//! ```text
//!  0              8               16       24         32                48       52         56       60    62   64
//! ┌──────────────┬───────────────┬────────┬──────────┬─────────────────┬────────┬──────────┬────────┬─────┬────┬─────────┬─────────┐
//! │ header check │ content check │ LSN    │ previous │ range           │ length │ metadata │ behind │kind │ver │metadata │ payload │
//! │ u64          │ u64           │ u64    │ u64      │ u128            │ u32    │ u32      │ u32    │u16  │u16 │         │         │
//! └──────────────┴───────────────┴────────┴──────────┴─────────────────┴────────┴──────────┴────────┴─────┴────┴─────────┴─────────┘
//!                                                                       └ bytes of both ┘             └───── content ─────┘
//! ```
//!
//! * `content check` is xxh3-64 over the content, `header check` is xxh3-64 seeded with the segment's salt
//!   over bytes 8 to 64. The second covers the first, so one damaged bit anywhere, or a record of another
//!   life of the file, fails; and a record whose content alone is damaged still says whose it was.
//! * `behind` is LSN − durable LSN at the time of the append: how far the log was then known to be flushed.
//! * `previous` is the LSN of the same range's record before this one, 0 for the first: where records are
//!   lost, the survivors' `previous` says whose they were.
//! * `kind` has its highest bit set in a copy that reclaiming made: the record was appended once, at some
//!   smaller LSN, and this is where it is now. It changes nothing else of its owner's.
//! * `length` counts content bytes, `metadata` those of them that come first.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, framed_bytes, put, u16_at, u32_at, u64_at, u128_at};
use crate::identity::{Lsn, RangeId};

const _: () = assert!(RECORD_HEADER_BYTES == 8 + 8 + 8 + 8 + 16 + 4 + 4 + 4 + 2 + 2);
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN_BYTES));

/// The greatest kind; the bit above says that the record was moved.
pub const KIND_MAX: u16 = 0x7fff;
const KIND_MOVED: u16 = 0x8000;

/// What a record says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// xxh3-64 of the content.
    pub content_check: u64,
    /// Its number.
    pub lsn: Lsn,
    /// The record of the same range before it.
    pub range_previous: Lsn,
    /// Whose.
    pub range: RangeId,
    /// Bytes of metadata and payload.
    pub length: u32,
    /// Bytes of metadata.
    pub metadata_length: u32,
    /// Everything up to here was known to be flushed when this was appended.
    pub durable: Lsn,
    /// What it is: the owner's numbering from 1 on; 0 is the log's own segment table.
    pub kind: u16,
    /// Version of that kind's metadata.
    pub version: u16,
    /// A copy that reclaiming made of an earlier record.
    pub moved: bool,
}

impl RecordHeader {
    /// Bytes of the whole record, alignment included.
    #[must_use]
    pub fn framed_bytes(&self) -> usize {
        framed_bytes(self.length as usize)
    }

    /// Writes the header; `bytes` is 64 bytes.
    pub(crate) fn encode(&self, salt: u64, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), RECORD_HEADER_BYTES, "a header is 64 bytes");
        let behind =
            u32::try_from(self.lsn.0 - self.durable.0).expect("fewer than 2^32 records are unflushed");
        put(bytes, 8, self.content_check.to_le_bytes());
        put(bytes, 16, self.lsn.0.to_le_bytes());
        put(bytes, 24, self.range_previous.0.to_le_bytes());
        put(bytes, 32, self.range.0.to_le_bytes());
        put(bytes, 48, self.length.to_le_bytes());
        put(bytes, 52, self.metadata_length.to_le_bytes());
        put(bytes, 56, behind.to_le_bytes());
        assert!(self.kind <= KIND_MAX, "the highest bit of a kind says that the record was moved");
        let kind = self.kind | if self.moved { KIND_MOVED } else { 0 };
        put(bytes, 60, kind.to_le_bytes());
        put(bytes, 62, self.version.to_le_bytes());
        let check = xxh3_64_with_seed(&bytes[8..], salt);
        put(bytes, 0, check.to_le_bytes());
    }

    /// The header at the start of `bytes`, which reach to the end of the segment, if there is one and its
    /// record ends within them. Says nothing about the content.
    #[must_use]
    pub(crate) fn decode(salt: u64, bytes: &[u8]) -> Option<RecordHeader> {
        if bytes.len() < RECORD_HEADER_BYTES {
            return None;
        }
        let length = u32_at(bytes, 48);
        let metadata_length = u32_at(bytes, 52);
        let lsn = u64_at(bytes, 16);
        let behind = u64::from(u32_at(bytes, 56));
        // Cheap first: recovery asks this of every 16th byte of what a former life left.
        if lsn == 0
            || behind == 0
            || behind > lsn
            || metadata_length > length
            || length as usize > bytes.len() - RECORD_HEADER_BYTES
        {
            return None;
        }
        if u64_at(bytes, 0) != xxh3_64_with_seed(&bytes[8..RECORD_HEADER_BYTES], salt) {
            return None;
        }
        Some(RecordHeader {
            content_check: u64_at(bytes, 8),
            lsn: Lsn(lsn),
            range_previous: Lsn(u64_at(bytes, 24)),
            range: RangeId(u128_at(bytes, 32)),
            length,
            metadata_length,
            durable: Lsn(lsn - behind),
            kind: u16_at(bytes, 60) & KIND_MAX,
            version: u16_at(bytes, 62),
            moved: u16_at(bytes, 60) & KIND_MOVED != 0,
        })
    }

    /// The content behind the header at the start of `bytes`, unchecked.
    #[must_use]
    pub(crate) fn content<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + self.length as usize]
    }

    /// Is this the content the record was written with?
    #[must_use]
    pub(crate) fn content_is_whole(&self, content: &[u8]) -> bool {
        xxh3_64(content) == self.content_check
    }
}

/// The first place from `from` on, which is a multiple of 16, where a record begins, and its header.
pub(crate) fn find_record(salt: u64, bytes: &[u8], mut from: usize) -> Option<(usize, RecordHeader)> {
    while from + RECORD_HEADER_BYTES <= bytes.len() {
        if let Some(header) = RecordHeader::decode(salt, &bytes[from..]) {
            return Some((from, header));
        }
        from += RECORD_ALIGN_BYTES;
    }
    None
}
