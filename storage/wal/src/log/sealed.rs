//! Segments that are full: where their bytes are, what of them lives, and how they leave.
//!
//! ```text
//!  kept ── nothing live ──► leaving ── a table without it is appended ──► listed out at LSN t
//!   ▲                                                                            │ t durable, no reader
//!  sealed tail                                                                   ▼
//!                                                                        given back to the spares
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::format::SEGMENT_HEADER_BYTES;
use crate::format::segment_table::{Entry, Forgotten};
use crate::identity::{Lsn, RangeId, SegmentId};
use crate::image::Image;
use crate::mapping::SegmentBytes;
use crate::request::Request;

use super::Usage;
use super::at_hand::Warmth;
use super::read::Touched;
use super::tail::Tail;

#[derive(Default)]
pub(crate) struct Sealed {
    segments: BTreeMap<SegmentId, Segment>,
    /// Live bytes of the tail, which becomes the next sealed segment.
    pub(crate) tail_live_bytes: u64,
    /// Bytes that reclaiming copied into the tail.
    pub(crate) tail_moved_bytes: u64,
    /// Recently sealed, still in memory.
    in_memory: Vec<SegmentId>,
    /// Kept segments with nothing live: to be looked at when durable.
    maybe_dead: Vec<SegmentId>,
    /// In the state `Leaving` or `ListedOut`.
    leaving: Vec<SegmentId>,
    /// Kept, that is listed in the table.
    kept: usize,
    kept_bytes: u64,
    live_bytes: u64,
    /// Liveness is known: nothing leaves before.
    may_leave: bool,
    forgotten: Vec<Forgotten>,
    /// A range has been forgotten since the last table.
    forgotten_new: bool,
}

pub(crate) struct Segment {
    pub(crate) entry: Entry,
    pub(crate) salt: u64,
    pub(crate) file_bytes: u64,
    pub(crate) live_bytes: u64,
    pub(crate) content: Content,
    pub(crate) touched: RefCell<Touched>,
    pub(crate) warmth: RefCell<Warmth>,
    /// Bytes that reclaiming copied here, before it was sealed and in this life of the log.
    moved_bytes: u64,
    /// Reclaiming could not empty it: a record in it is damaged.
    pub(crate) is_stuck: bool,
    state: State,
    map_asked: bool,
}

pub(crate) enum Content {
    Memory(Image),
    Mapped(Arc<SegmentBytes>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Kept,
    Leaving,
    ListedOut(Lsn),
}

impl Segment {
    /// Does it hold one large record? Every shared segment begins with a table.
    pub(crate) fn is_own(&self) -> bool {
        self.entry.base == self.entry.last
    }

    /// Would its live records, copied, take fewer files' bytes? Those of a large record's own file would
    /// not, unless the file is far too big for it. What is a copy already is as dense as it gets, until
    /// something in it has died: otherwise a target out of reach would have the same bytes copied for ever.
    pub(crate) fn is_worth_copying(&self) -> bool {
        let gains = if self.is_own() {
            (SEGMENT_HEADER_BYTES as u64 + self.live_bytes) * 2 < self.file_bytes
        } else {
            self.moved_bytes < self.file_bytes / 4 || self.live_bytes + self.file_bytes / 8 < self.moved_bytes
        };
        gains && !self.is_stuck
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.state == State::Kept
    }
}

impl Sealed {
    pub(crate) fn insert_tail(&mut self, tail: Tail, last: Lsn) {
        let live_bytes = std::mem::take(&mut self.tail_live_bytes);
        let entry =
            Entry { segment: tail.segment, sequence: tail.sequence, base: tail.base, last, damaged: false };
        self.in_memory.push(tail.segment);
        self.insert(entry, tail.salt, tail.file_bytes(), live_bytes, Content::Memory(tail.image));
        let segment = self.segments.get_mut(&entry.segment).expect("inserted before");
        segment.moved_bytes = std::mem::take(&mut self.tail_moved_bytes);
    }

    pub(crate) fn insert_recovered(&mut self, entry: &Entry, bytes: Arc<SegmentBytes>) {
        let header = crate::format::SegmentHeader::decode(&bytes).expect("recovery has read it");
        let file_bytes = bytes.len() as u64;
        self.insert(*entry, header.salt, file_bytes, 0, Content::Mapped(bytes));
        let segment = self.segments.get_mut(&entry.segment).expect("inserted before");
        segment.warmth = RefCell::new(Warmth::warm(file_bytes));
    }

    fn insert(&mut self, entry: Entry, salt: u64, file_bytes: u64, live_bytes: u64, content: Content) {
        self.kept += 1;
        self.kept_bytes += file_bytes;
        self.live_bytes += live_bytes;
        if live_bytes == 0 {
            self.maybe_dead.push(entry.segment);
        }
        let segment = Segment {
            entry,
            salt,
            file_bytes,
            live_bytes,
            content,
            touched: RefCell::default(),
            warmth: RefCell::default(),
            moved_bytes: 0,
            is_stuck: false,
            state: State::Kept,
            map_asked: false,
        };
        let former = self.segments.insert(entry.segment, segment);
        assert!(former.is_none(), "a segment's name is never used twice");
    }

    pub(crate) fn get(&self, segment: SegmentId) -> Option<&Segment> {
        self.segments.get(&segment)
    }

    pub(crate) fn get_mut(&mut self, segment: SegmentId) -> Option<&mut Segment> {
        self.segments.get_mut(&segment)
    }

    pub(crate) fn image(&self, segment: SegmentId) -> Option<&Image> {
        match &self.get(segment)?.content {
            Content::Memory(image) => Some(image),
            Content::Mapped(_) => None,
        }
    }

    /// Segments the table lists.
    pub(crate) fn entries_count(&self) -> usize {
        self.kept
    }

    /// What the table lists, in the order of the LSNs.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let kept = self.segments.values().filter(|segment| segment.is_kept());
        let mut entries: Vec<Entry> = kept.map(|segment| segment.entry).collect();
        entries.sort_unstable_by_key(|entry| entry.sequence);
        entries
    }

    /// The smallest LSN in any file that recovery would still read; `tail` is the first of the tail.
    pub(crate) fn oldest(&self, tail: Lsn) -> Lsn {
        self.segments.values().map(|segment| segment.entry.base).min().unwrap_or(tail)
    }

    pub(crate) fn forget(&mut self, range: RangeId, last: Lsn) {
        match self.forgotten.binary_search_by_key(&range, |forgotten| forgotten.range) {
            Ok(at) => self.forgotten[at].last = last,
            Err(at) => self.forgotten.insert(at, Forgotten { range, last }),
        }
        self.forgotten_new = true;
    }

    pub(crate) fn restore_forgotten(&mut self, forgotten: Vec<Forgotten>, new: bool) {
        self.forgotten = forgotten;
        self.forgotten_new = new;
    }

    pub(crate) fn forgotten_count(&self) -> usize {
        self.forgotten.len()
    }

    /// Ranges of which records may still be in some file.
    pub(crate) fn forgotten(&mut self, tail: Lsn) -> &[Forgotten] {
        let oldest = self.oldest(tail);
        self.forgotten.retain(|forgotten| forgotten.last >= oldest);
        &self.forgotten
    }

    /// Kept files' bytes, and how many of them are live.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.kept_bytes, self.live_bytes)
    }

    /// Kept segments that can be walked: sealed, durable and mapped.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Segment> {
        self.segments
            .values()
            .filter(|segment| segment.is_kept() && matches!(segment.content, Content::Mapped(_)))
    }

    pub(crate) fn add_live(&mut self, segment: SegmentId, bytes: u32) {
        let segment = self.segments.get_mut(&segment).expect("a live record is in a segment of the log");
        assert!(segment.is_kept(), "nothing comes alive in a segment that is leaving");
        segment.live_bytes += u64::from(bytes);
        self.live_bytes += u64::from(bytes);
        assert!(segment.live_bytes <= segment.file_bytes, "a segment has no more live bytes than bytes");
    }

    pub(crate) fn subtract_live(&mut self, segment: SegmentId, bytes: u32) {
        let entry = self.segments.get_mut(&segment).expect("a dead record was in a segment of the log");
        entry.live_bytes = entry.live_bytes.checked_sub(u64::from(bytes)).expect("a record dies once");
        self.live_bytes -= u64::from(bytes);
        if entry.live_bytes == 0 {
            self.maybe_dead.push(segment);
        }
    }

    pub(crate) fn let_leave(&mut self) {
        self.may_leave = true;
    }

    /// Marks as leaving what is durable and has nothing live.
    pub(crate) fn find_dead(&mut self, durable: Lsn) {
        if !self.may_leave {
            return;
        }
        let mut maybe_dead = std::mem::take(&mut self.maybe_dead);
        maybe_dead.retain(|id| {
            let Some(segment) = self.segments.get_mut(id) else { return false };
            if !segment.is_kept() || segment.live_bytes > 0 {
                return false;
            }
            if segment.entry.last > durable {
                return true;
            }
            segment.state = State::Leaving;
            self.leaving.push(*id);
            self.kept -= 1;
            self.kept_bytes -= segment.file_bytes;
            false
        });
        self.maybe_dead = maybe_dead;
    }

    /// Does a segment wait for a table without it, or a range for one that tells that it has left?
    pub(crate) fn is_table_wanted(&self) -> bool {
        self.forgotten_new || self.leaving.iter().any(|id| self.segments[id].state == State::Leaving)
    }

    /// A table was appended; it does not list what is leaving.
    pub(crate) fn on_table(&mut self, lsn: Lsn) {
        self.forgotten_new = false;
        for id in &self.leaving {
            let segment = self.segments.get_mut(id).expect("leaving segments are still here");
            if segment.state == State::Leaving {
                segment.state = State::ListedOut(lsn);
            }
        }
    }

    /// Gives back what the durable table no longer lists and nobody reads.
    pub(crate) fn release(&mut self, durable: Lsn, mut give_back: impl FnMut(SegmentId, u64)) {
        self.leaving.retain(|id| {
            let segment = self.segments.get_mut(id).expect("leaving segments are still here");
            let State::ListedOut(lsn) = segment.state else { return true };
            let unread = match &mut segment.content {
                // Its commits are complete, as the table after them is durable; but the host may be about to
                // map the file.
                Content::Memory(_) => !segment.map_asked,
                Content::Mapped(bytes) => Arc::get_mut(bytes).is_some(),
            };
            if lsn > durable || !unread {
                return true;
            }
            give_back(*id, segment.file_bytes);
            self.segments.remove(id);
            false
        });
        self.in_memory.retain(|id| self.segments.contains_key(id));
    }

    /// Asks for mappings of what became durable.
    pub(crate) fn ask_maps(&mut self, durable: Lsn, out: &mut Vec<Request>) {
        for id in &self.in_memory {
            let segment = self.segments.get_mut(id).expect("a segment in memory is here");
            if !segment.map_asked && segment.is_kept() && segment.entry.last <= durable {
                segment.map_asked = true;
                out.push(Request::MapSegment(*id));
            }
        }
    }

    /// Swaps the memory of a segment for its mapping, and answers the memory.
    pub(crate) fn on_mapped(&mut self, segment: SegmentId, bytes: Arc<SegmentBytes>) -> Option<Image> {
        let entry = self.segments.get_mut(&segment).expect("a segment is mapped while it is here");
        assert!(entry.map_asked, "a mapping is asked for");
        assert_eq!(bytes.len() as u64, entry.file_bytes, "the mapping is of the whole file");
        self.in_memory.retain(|id| *id != segment);
        match std::mem::replace(&mut entry.content, Content::Mapped(bytes)) {
            Content::Memory(image) => Some(image),
            Content::Mapped(_) => None,
        }
    }

    pub(crate) fn add_usage(&self, usage: &mut Usage) {
        usage.sealed_segments = self.kept as u64;
        usage.sealed_bytes = self.kept_bytes;
        usage.live_bytes = self.live_bytes + self.tail_live_bytes;
        usage.leaving_bytes = self.leaving.iter().map(|id| self.segments[id].file_bytes).sum();
    }
}
