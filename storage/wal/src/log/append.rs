//! Hot path. Appending: a record is copied into the tail, or refused with the reason.

use crate::format::record_header::KIND_MAX;
use crate::format::segment_table;
use crate::format::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, framed_bytes};
use crate::identity::{Lsn, Mono, Position, RangeId};
use crate::image::Image;

use super::tail::{Place, Tail};
use super::{Log, Poison};

/// A record to be. Metadata and payload are opaque to the log and written one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Whose.
    pub range: RangeId,
    /// What: 1 to [`KIND_MAX`]; 0 is the log's own.
    pub kind: u16,
    /// Version of the kind.
    pub version: u16,
    /// First part of the content.
    pub metadata: &'a [u8],
    /// Second part of the content.
    pub payload: &'a [u8],
}

/// What a record is for decides what it may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// New data. Refused first.
    Ordinary,
    /// Acknowledgement, attach, delete, hard state: what gives space back or must not stop. May use all
    /// spare segments but the last.
    Control,
    /// Copies that reclaiming makes, and the segment table. May use the last one.
    Reclaim,
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its number.
    pub lsn: Lsn,
    /// Its place.
    pub position: Position,
    /// What it takes there: to be named when it is dead.
    pub bytes: u32,
}

/// Why a record was not taken. Nothing has changed, but that a segment may have been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// A commit failed; nothing is taken any more.
    Poisoned(Poison),
    /// The record is above `wal.record_bytes_max`.
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u32,
    },
    /// The disk is full, and the segments that are left are reserved (`wal.segments_reserved`).
    DiskFull,
    /// The next segment is not ready yet; try again when one is (`wal.segments_ahead`).
    SegmentsBehind,
    /// The disk is slower than the appends (`wal.unflushed_bytes_max`); try again after the next commit.
    DiskBehind {
        /// Bytes appended and not durable.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The record needs a segment of its own, which has been asked for; try again when it is ready.
    SegmentNeeded,
    /// The log has as many segments as its table may list (by `wal.segment_bytes`).
    SegmentsMax,
}

impl Log {
    /// Takes a record into the next commit. It counts as live until [`Log::dead`] says otherwise.
    ///
    /// # Panics
    /// When the kind is 0 or above [`KIND_MAX`], or the range is the log's own.
    pub fn append(
        &mut self,
        now: Mono,
        class: Class,
        record: &NewRecord<'_>,
    ) -> Result<Appended, AppendError> {
        assert!(record.kind != segment_table::KIND, "kind 0 is the log's own");
        assert!(record.kind <= KIND_MAX, "kinds are below 2^15");
        assert!(record.range != RangeId::LOG, "range 0 is the log's own");
        self.append_or_move(now, class, record, false)
    }

    /// [`Log::append`] also for copies that reclaiming makes.
    pub(super) fn append_or_move(
        &mut self,
        now: Mono,
        class: Class,
        record: &NewRecord<'_>,
        moved: bool,
    ) -> Result<Appended, AppendError> {
        let content_bytes = record.metadata.len() + record.payload.len();
        self.check_limits(class, content_bytes)?;
        let shared = framed_bytes(content_bytes) <= self.config.shared_record_bytes_max();
        if !shared {
            self.roll_own(class, content_bytes)?;
        } else if !self.tail.as_ref().is_some_and(|tail| tail.has_room(content_bytes)) {
            self.roll(now, class)?;
        } else if !self.leaves_room_for_table(content_bytes) {
            return Err(self.spares.refusal());
        }
        Ok(self.push(now, record, moved))
    }

    /// Writes the segment table again, which carries how far the log is durable: everything acknowledged so
    /// far is then guarded against damage at rest as well. For an orderly stop, or a quiet second.
    pub fn append_mark(&mut self, now: Mono) -> Result<Lsn, AppendError> {
        if let Some(poison) = self.poison {
            return Err(AppendError::Poisoned(poison));
        }
        let content_bytes =
            segment_table::content_bytes(self.sealed.entries_count(), self.sealed.forgotten_count());
        if self.tail.as_ref().is_some_and(|tail| tail.has_room(content_bytes)) {
            self.push_table(now);
        } else {
            // Every shared segment begins with one.
            self.roll(now, Class::Reclaim)?;
        }
        Ok(self.next_lsn.previous())
    }

    /// While there is no spare segment the tail keeps room for a table, because a table is what gives segments
    /// back: without it a full disk would stay full whatever dies.
    fn leaves_room_for_table(&self, content_bytes: usize) -> bool {
        if self.spares.ready_count() > 0 {
            return true;
        }
        let (entries, forgotten) = (self.sealed.entries_count() + 1, self.sealed.forgotten_count());
        let table_bytes = segment_table::content_bytes(entries, forgotten);
        self.tail.as_ref().is_some_and(|tail| tail.has_room_for_both(content_bytes, table_bytes))
    }

    fn check_limits(&self, class: Class, content_bytes: usize) -> Result<(), AppendError> {
        if let Some(poison) = self.poison {
            return Err(AppendError::Poisoned(poison));
        }
        let bytes = (RECORD_HEADER_BYTES + content_bytes) as u64;
        let bytes_max = self.config.record_bytes_max;
        // What was taken once is moved whatever the limit is now.
        if bytes > u64::from(bytes_max) && class != Class::Reclaim {
            return Err(AppendError::TooLarge { bytes, bytes_max });
        }
        let unflushed = self.unflushed_bytes();
        let slack = if class == Class::Ordinary { 0 } else { u64::from(self.config.segment_bytes) };
        let bytes_max = self.config.unflushed_bytes_max;
        if unflushed > bytes_max + slack {
            return Err(AppendError::DiskBehind { bytes: unflushed, bytes_max });
        }
        if class == Class::Ordinary && self.lists_most()
            || self.listed() + 2 >= 2 * self.config.segments_max()
        {
            return Err(AppendError::SegmentsMax);
        }
        Ok(())
    }

    /// What the table has to list.
    fn listed(&self) -> usize {
        self.sealed.entries_count() + self.sealed.forgotten_count()
    }

    /// Are there as many segments as new data may fill?
    pub(super) fn lists_most(&self) -> bool {
        self.listed() >= self.config.segments_max()
    }

    fn push(&mut self, now: Mono, record: &NewRecord<'_>, moved: bool) -> Appended {
        let tail = self.tail.as_mut().expect("a segment with room");
        let lsn = self.next_lsn;
        let range_previous = self.chain.advance(record.range, lsn);
        let offset = tail.push(record, &Place { lsn, range_previous, durable: self.durable, moved });
        let bytes = tail.end() - offset;
        let position = Position::new(tail.segment, offset);
        self.next_lsn = lsn.next();
        if record.range != RangeId::LOG {
            self.sealed.tail_live_bytes += bytes as u64;
            self.sealed.tail_moved_bytes += if moved { bytes as u64 } else { 0 };
        }
        self.pending.records += 1;
        self.pending.bytes += bytes as u64;
        self.pending.since.get_or_insert(now);
        Appended { lsn, position, bytes: u32::try_from(bytes).expect("bounded by record_bytes_max") }
    }

    /// Seals the tail and begins the next segment, with the table as its first record.
    fn roll(&mut self, now: Mono, class: Class) -> Result<(), AppendError> {
        let spare = self.spares.take(&self.config, class)?;
        self.seal();
        let bytes = self.config.segment_bytes as usize;
        let image = self.image_unused.take(bytes);
        self.begin(spare.segment, spare.salt, image, false);
        self.push_table(now);
        Ok(())
    }

    /// Seals the tail and begins a segment for one large record.
    fn roll_own(&mut self, class: Class, content_bytes: usize) -> Result<(), AppendError> {
        let bytes = SEGMENT_HEADER_BYTES + framed_bytes(content_bytes);
        let spare = self.spares.take_own(&self.config, class, bytes as u64)?;
        self.seal();
        let image = Image::new(usize::try_from(spare.bytes).expect("bounded by record_bytes_max"));
        self.begin(spare.segment, spare.salt, image, true);
        Ok(())
    }

    fn begin(&mut self, segment: crate::SegmentId, salt: u64, image: Image, own: bool) {
        let header = SegmentHeader {
            identity: self.config.identity,
            segment,
            sequence: self.next_sequence,
            salt,
            base: self.next_lsn,
            next_segment: self.spares.next_segment(),
        };
        self.next_sequence += 1;
        self.tail = Some(Tail::begin(&header, image, own));
    }

    fn seal(&mut self) {
        let Some(mut tail) = self.tail.take() else { return };
        self.unwritten.extend(tail.take());
        let last = self.next_lsn.previous();
        self.sealed.insert_tail(tail, last);
    }

    /// Appends the table; the tail has room. Segments that are leaving are not in it, so when it is durable
    /// they are free.
    pub(super) fn push_table(&mut self, now: Mono) {
        let tail_base = self.tail.as_ref().map_or(self.next_lsn, |tail| tail.base);
        let content = segment_table::encode(&self.sealed.entries(), self.sealed.forgotten(tail_base));
        let record = NewRecord {
            range: RangeId::LOG,
            kind: segment_table::KIND,
            version: segment_table::VERSION,
            metadata: &content,
            payload: &[],
        };
        let appended = self.push(now, &record, false);
        self.sealed.on_table(appended.lsn);
    }

    /// Appends a table if there is news for it: segments that wait to be recycled, ranges that have left.
    pub(super) fn push_table_if_wanted(&mut self, now: Mono) {
        if self.sealed.is_table_wanted() {
            // Without room the next attempt comes with the next flush; every new segment begins with one.
            let _ = self.append_mark(now);
        }
    }
}
