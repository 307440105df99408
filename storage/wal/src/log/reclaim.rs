//! Reclaiming: what still lives in a sparse segment is copied forward, a bounded piece per turn, and the
//! segment leaves.

use std::sync::Arc;

use crate::format::record_header::{RecordHeader, find_record};
use crate::format::{SEGMENT_HEADER_BYTES, segment_table};
use crate::identity::{Lsn, Mono, Position, SegmentId};
use crate::mapping::SegmentBytes;
use crate::request::{Pages, Request};

use super::Log;
use super::append::{AppendError, Appended, Class, NewRecord};
use super::sealed::Content;

/// What the log knows about its present victim. Bounded: one at a time.
#[derive(Default)]
pub(crate) struct Reclaim {
    enabled: bool,
    victim: Option<Victim>,
    /// Kept and live bytes when no victim was found.
    fruitless: Option<(u64, u64)>,
}

impl Reclaim {
    /// There is one more segment to choose from.
    pub(super) fn on_mapped(&mut self) {
        self.fruitless = None;
    }

    /// All pages of a segment are in memory.
    pub(super) fn on_prefetched(&mut self, segment: SegmentId) {
        if let Some(victim) = self.victim.as_mut().filter(|victim| victim.segment == segment) {
            victim.prefetched = true;
        }
    }

    /// Would a search find no more than the last one? Spares every turn a walk over all segments.
    fn is_fruitless(&self, (bytes, live): (u64, u64), segment_bytes: u64) -> bool {
        self.fruitless.is_some_and(|(bytes_then, live_then)| {
            bytes == bytes_then && live + segment_bytes / 16 > live_then
        })
    }
}

struct Victim {
    segment: SegmentId,
    bytes: Arc<SegmentBytes>,
    salt: u64,
    last: Lsn,
    /// Where to go on.
    cursor: usize,
    /// Live records that could not be copied in earlier turns.
    damaged: u32,
    prefetch_asked: bool,
    prefetched: bool,
}

/// What one turn may spend on reclaiming.
#[derive(Clone, Copy, Debug)]
pub struct ReclaimBudget {
    /// Bytes to copy.
    pub copy_bytes: u32,
    /// Bytes to walk over.
    pub scan_bytes: u32,
}

/// A record that reclaiming asks about.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Where it is.
    pub position: Position,
    /// What it says about itself.
    pub header: RecordHeader,
    /// First part of the content.
    pub metadata: &'a [u8],
}

/// What one turn of reclaiming came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Records copied forward.
    pub records: u32,
    /// Bytes copied.
    pub bytes: u64,
    /// There is more to do at once.
    pub more: bool,
    /// Live records that could not be copied, because the disk has changed under them. Their segment stays.
    pub damaged: u32,
}

impl Log {
    /// The owner has said of every record that lives that it does; from now on segments may leave.
    pub fn start_reclaiming(&mut self) {
        self.reclaim.enabled = true;
        self.sealed.let_leave();
        self.on_durable();
    }

    /// A recovered record lives. Appended ones live from the start.
    pub fn live(&mut self, position: Position, bytes: u32) {
        self.sealed.add_live(position.segment, bytes);
    }

    /// A record is no longer needed. May be said as soon as the record that revokes it is appended: a file
    /// leaves only when something appended after that is durable. What revokes must live itself until
    /// [`Log::oldest_lsn`] is above everything it revokes, copies included.
    pub fn dead(&mut self, position: Position, bytes: u32) {
        if self.tail.as_ref().is_some_and(|tail| tail.segment == position.segment) {
            let live = self.sealed.tail_live_bytes.checked_sub(u64::from(bytes));
            self.sealed.tail_live_bytes = live.expect("a record dies once");
        } else {
            self.sealed.subtract_live(position.segment, bytes);
            self.sealed.find_dead(self.durable);
        }
    }

    /// Chooses a victim if there is too little life in the sealed segments.
    pub(super) fn ask_reclaim(&mut self, out: &mut Vec<Request>) {
        self.sealed.find_dead(self.durable);
        // A victim whose records all died leaves without being walked.
        if let Some(victim) = &self.reclaim.victim
            && !self.sealed.get(victim.segment).is_some_and(super::sealed::Segment::is_kept)
        {
            self.reclaim.victim = None;
        }
        // A last reader may have gone since.
        self.on_durable();
        if self.reclaim.enabled && self.reclaim.victim.is_none() && self.is_sparse() {
            let totals = self.sealed.totals();
            if !self.reclaim.is_fruitless(totals, u64::from(self.config.segment_bytes)) {
                self.reclaim.victim = self.choose_victim();
                self.reclaim.fruitless = self.reclaim.victim.is_none().then_some(totals);
            }
        }
        if let Some(victim) = self.reclaim.victim.as_mut().filter(|victim| !victim.prefetch_asked) {
            victim.prefetch_asked = true;
            out.push(Request::Prefetch(Pages::whole(victim.segment, victim.bytes.len() as u64)));
        }
    }

    fn is_sparse(&self) -> bool {
        let (bytes, live) = self.sealed.totals();
        live * 100 < bytes * u64::from(self.config.live_percent_target)
    }

    /// The one with the least life per byte, the oldest of equals: the cheapest space.
    fn choose_victim(&self) -> Option<Victim> {
        // A copy of a large record needs a new file, which a full disk has no room for.
        let no_large = self.is_disk_full();
        let least = self
            .sealed
            .candidates()
            .filter(|segment| segment.is_worth_copying() && !(no_large && segment.is_own()))
            .min_by(|a, b| {
                let share_a = u128::from(a.live_bytes) * u128::from(b.file_bytes);
                let share_b = u128::from(b.live_bytes) * u128::from(a.file_bytes);
                share_a.cmp(&share_b).then(a.entry.sequence.cmp(&b.entry.sequence))
            })?;
        let Content::Mapped(bytes) = &least.content else { return None };
        let sparse = least.live_bytes * 100 < least.file_bytes * u64::from(self.config.live_percent_target);
        sparse.then(|| Victim {
            segment: least.entry.segment,
            bytes: Arc::clone(bytes),
            salt: least.salt,
            last: least.entry.last,
            cursor: SEGMENT_HEADER_BYTES,
            damaged: 0,
            prefetch_asked: false,
            prefetched: false,
        })
    }

    /// Copies a piece of the victim forward: every record of which `is_live` says so. Call once per turn,
    /// before [`Log::flush`]; does nothing while there is no victim or its pages are not in memory. What has
    /// moved is added to `moved`, from where to where: the old places are dead to the log's accounts already
    /// and must not be named again. An error means that there is no room now; the next turn goes on where
    /// this one stopped.
    pub fn reclaim(
        &mut self,
        now: Mono,
        budget: ReclaimBudget,
        mut is_live: impl FnMut(&Candidate<'_>) -> bool,
        moved: &mut Vec<(Position, Appended)>,
    ) -> Result<Reclaimed, AppendError> {
        let mut reclaimed = Reclaimed::default();
        let Some(mut victim) = self.reclaim.victim.take_if(|victim| victim.prefetched) else {
            return Ok(reclaimed);
        };
        let result = self.walk(now, budget, &mut victim, &mut is_live, moved, &mut reclaimed);
        if !matches!(result, Ok(Walk::End)) {
            reclaimed.more = true;
            victim.damaged += reclaimed.damaged;
            self.reclaim.victim = Some(victim);
        } else if let Some(segment) = self.sealed.get_mut(victim.segment)
            && segment.live_bytes > 0
        {
            assert!(reclaimed.damaged + victim.damaged > 0, "the owner has said live of what it says is not");
            segment.is_stuck = true;
        }
        result.map(|_| reclaimed)
    }

    fn walk(
        &mut self,
        now: Mono,
        budget: ReclaimBudget,
        victim: &mut Victim,
        is_live: &mut impl FnMut(&Candidate<'_>) -> bool,
        moved: &mut Vec<(Position, Appended)>,
        reclaimed: &mut Reclaimed,
    ) -> Result<Walk, AppendError> {
        let bytes = Arc::clone(&victim.bytes);
        let begin = victim.cursor;
        while let Some((offset, header)) = find_record(victim.salt, &bytes, victim.cursor) {
            let scanned = (offset - begin) as u64 >= u64::from(budget.scan_bytes);
            if scanned || reclaimed.bytes >= u64::from(budget.copy_bytes) {
                return Ok(Walk::Budget);
            }
            if header.lsn > victim.last {
                return Ok(Walk::End);
            }
            let rest = &bytes[offset..];
            let (metadata, payload) = header.content(rest).split_at(header.metadata_length as usize);
            let position = Position::new(victim.segment, offset);
            let candidate = Candidate { position, header, metadata };
            if header.kind != segment_table::KIND && is_live(&candidate) {
                if header.content_is_whole(header.content(rest)) {
                    let (range, kind, version) = (header.range, header.kind, header.version);
                    let record = NewRecord { range, kind, version, metadata, payload };
                    let appended = self.append_or_move(now, Class::Reclaim, &record, true)?;
                    moved.push((position, appended));
                    self.dead(position, appended.bytes);
                    reclaimed.records += 1;
                    reclaimed.bytes += u64::from(appended.bytes);
                    self.tally.reclaimed_bytes += u64::from(appended.bytes);
                } else {
                    reclaimed.damaged += 1;
                }
            }
            victim.cursor = offset + header.framed_bytes();
            if header.lsn == victim.last {
                return Ok(Walk::End);
            }
        }
        Ok(Walk::End)
    }
}

enum Walk {
    Budget,
    End,
}
