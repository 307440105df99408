//! What a crash leaves behind, and what of it counts. Pure: bytes of segments in, a judgement out.
//!
//! The rule. Every record says how far the log was known to be flushed when it was appended. D is the
//! greatest such LSN in any valid record. Up to D everything was on disk once, so what is missing there is
//! damage: reported with its place, and never cut. Beyond D nothing says whether a page ever reached the
//! disk: the log ends before the first bad or missing LSN, whatever valid records follow. A recovered log
//! continues in a new segment, whose later sequence number hides what was cut for good.
//!
//! Which LSNs there are supposed to be below D, the newest segment table says: reclaimed segments are missing
//! on purpose.

pub(crate) mod judge;
mod quarantine;
mod records;
pub(crate) mod scan;

use crate::format::BLOCK_BYTES;
use crate::format::segment_table::{Entry, Forgotten};
use crate::identity::{LogIdentity, Lsn, RangeId, SegmentId};
use crate::log::chain::Chain;

pub use records::{Record, Records};
pub use scan::Run;

/// One segment file, by name.
#[derive(Clone, Copy, Debug)]
pub struct SegmentInput<'a> {
    /// Its name.
    pub segment: SegmentId,
    /// All of its bytes.
    pub bytes: &'a [u8],
}

/// How to recover.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryOptions {
    /// Segments whose records are all below are kept but not read: a checkpoint stands for them. 1 reads
    /// everything.
    pub scan_from: Lsn,
    /// Go on without the ranges that damage touches, instead of refusing.
    pub quarantine: bool,
}

impl Default for RecoveryOptions {
    fn default() -> RecoveryOptions {
        RecoveryOptions { scan_from: Lsn(1), quarantine: false }
    }
}

/// Records that were on disk and are not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file; none when it is unknown which one is missing.
    pub segment: Option<SegmentId>,
    /// The file is not there, or has no valid header.
    pub missing: bool,
    /// From the end of the last whole record before …
    pub offset: u64,
    /// … to the begin of the first after.
    pub offset_end: u64,
    /// First LSN that is not there.
    pub first: Lsn,
    /// Last LSN that is not there.
    pub last: Lsn,
}

/// What was beyond the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The LSN that is bad or missing; the log ends before.
    pub at: Lsn,
    /// Valid records with greater LSNs, given up. None of them was acknowledged.
    pub records: u64,
    /// The greatest of them.
    pub last: Lsn,
}

/// Which ranges a quarantining start goes on without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    /// Ranges that provably lost records, ascending.
    pub touched: Vec<RangeId>,
    /// Ranges that may have: some lost record's owner is unknown, and of these no record is left that names
    /// one before it as the range's last, which would show that nothing of theirs is missing.
    pub suspected: Vec<RangeId>,
    /// Lost LSNs whose owner is unknown. A range of which nothing else is left may have been among them.
    pub unidentified: Vec<(Lsn, Lsn)>,
    /// Ranges that were named after the damage: nothing of theirs is lost.
    pub named_since: Vec<RangeId>,
}

impl Quarantine {
    /// Is this range left out?
    #[must_use]
    pub fn contains(&self, range: RangeId) -> bool {
        self.touched.binary_search(&range).is_ok() || self.suspected.binary_search(&range).is_ok()
    }

    /// May records of a range be lost of which none is left?
    #[must_use]
    pub fn may_have_lost(&self, range: RangeId) -> bool {
        !self.unidentified.is_empty() && !self.named_since.contains(&range)
    }
}

/// Why there is no log to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryError {
    /// A segment of another cluster, node or log.
    Foreign {
        /// The file.
        segment: SegmentId,
        /// Whose it is.
        found: LogIdentity,
    },
    /// A segment of a format this crate does not know.
    Version {
        /// The file.
        segment: SegmentId,
        /// The format.
        version: u32,
    },
    /// Acknowledged records are gone.
    Damaged(Vec<Damage>),
}

/// A recovered log, over the bytes it was recovered from.
pub struct Recovery<'a> {
    pub(crate) durable: Lsn,
    pub(crate) last: Lsn,
    pub(crate) cut: Option<Cut>,
    pub(crate) damage: Vec<Damage>,
    pub(crate) damage_accepted: Vec<Damage>,
    pub(crate) quarantine: Quarantine,
    pub(crate) segments: Vec<SegmentInput<'a>>,
    pub(crate) salts: Vec<u64>,
    pub(crate) runs: Vec<Run>,
    pub(crate) kept: Vec<Entry>,
    pub(crate) forgotten: Vec<Forgotten>,
    pub(crate) free: Vec<(SegmentId, u64)>,
    pub(crate) next_sequence: u64,
    pub(crate) next_segment: SegmentId,
}

/// What [`Log::resume`](crate::Log::resume) needs of a recovery.
#[derive(Default)]
pub struct Resume {
    pub(crate) last: Lsn,
    pub(crate) next_sequence: u64,
    pub(crate) next_segment: SegmentId,
    pub(crate) kept: Vec<Entry>,
    pub(crate) free: Vec<(SegmentId, u64)>,
    pub(crate) chain: Chain,
    pub(crate) forgotten: Vec<Forgotten>,
    /// There are some that no table on disk tells of.
    pub(crate) forgotten_new: bool,
}

/// Bytes that recovery read and that nothing proves to be on the disk: in whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// The file.
    pub segment: SegmentId,
    /// From here …
    pub offset: u64,
    /// … so many bytes.
    pub bytes: u64,
}

/// Reads the segments of one log, in any order, and judges what counts. Before anything recovered is acted
/// upon the host makes it durable ([`Recovery::unproven`]): what was read may have come from memory.
pub fn recover<'a>(
    identity: &LogIdentity,
    segments: &[SegmentInput<'a>],
    options: &RecoveryOptions,
) -> Result<Recovery<'a>, RecoveryError> {
    let recovery = judge::judge(identity, segments, options)?;
    if !recovery.damage.is_empty() && !options.quarantine {
        return Err(RecoveryError::Damaged(recovery.damage));
    }
    Ok(recovery)
}

impl<'a> Recovery<'a> {
    /// The records in the order of their LSNs, without the log's own and without those of ranges that have
    /// left or are quarantined.
    #[must_use]
    pub fn records(&self) -> Records<'a, '_> {
        Records::new(self)
    }

    /// D of the rule: everything up to here was known to be flushed.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The LSN the next record will have.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.last.next()
    }

    /// What was beyond the end, if anything was.
    #[must_use]
    pub fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Damage that is left out by quarantine; empty otherwise.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Damage in segments where an earlier quarantining start accepted it.
    #[must_use]
    pub fn damage_accepted(&self) -> &[Damage] {
        &self.damage_accepted
    }

    /// Is a record of this range with this LSN left out, because the range has left since or is quarantined?
    pub(crate) fn is_left_out(&self, range: RangeId, lsn: Lsn) -> bool {
        let forgotten = self.forgotten.binary_search_by_key(&range, |forgotten| forgotten.range);
        forgotten.is_ok_and(|at| lsn <= self.forgotten[at].last) || self.quarantine.contains(range)
    }

    /// A range is named only now, in the place of one that is given up: of what is lost nothing was its.
    pub fn name_range(&mut self, range: RangeId) {
        self.quarantine.named_since.push(range);
    }

    /// The ranges left out.
    #[must_use]
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// The files whose bytes the log needs, oldest first.
    pub fn segments_kept(&self) -> impl Iterator<Item = SegmentId> + '_ {
        self.kept.iter().map(|entry| entry.segment)
    }

    /// What of the log is beyond D, and so perhaps in the page cache alone: to be written again and synced
    /// ([`files::settle`](crate::files::settle)) before anything recovered is acted upon. A sync alone would
    /// not do: after a failed one the kernel calls pages clean that never reached the disk.
    #[must_use]
    pub fn unproven(&self) -> Vec<Unproven> {
        let mut unproven: Vec<Unproven> = Vec::new();
        for record in Records::since(self, self.durable) {
            let segment = record.position.segment;
            let header = &record.header;
            let begun = self.kept.iter().any(|entry| entry.segment == segment && entry.base == header.lsn);
            let begin = if begun { 0 } else { record.position.offset() / BLOCK_BYTES * BLOCK_BYTES } as u64;
            let end = (record.position.offset() + header.framed_bytes()).next_multiple_of(BLOCK_BYTES) as u64;
            match unproven.last_mut() {
                Some(last) if last.segment == segment => last.bytes = end - last.offset,
                _ => unproven.push(Unproven { segment, offset: begin, bytes: end - begin }),
            }
        }
        unproven
    }

    /// What the log goes on with. Walks the headers of all records that were read.
    #[must_use]
    pub fn resume(&self) -> Resume {
        let mut chain = Chain::default();
        for record in Records::all(self) {
            chain.advance(record.header.range, record.header.lsn);
        }
        let mut forgotten = self.forgotten.clone();
        let left_out = self.quarantine.touched.iter().chain(&self.quarantine.suspected);
        for range in left_out {
            forgotten.retain(|forgotten| forgotten.range != *range);
            forgotten.push(Forgotten { range: *range, last: self.last });
        }
        forgotten.sort_unstable_by_key(|forgotten| forgotten.range);
        for Forgotten { range, last } in &forgotten {
            chain.forget_up_to(*range, *last);
        }
        Resume {
            last: self.last,
            next_sequence: self.next_sequence,
            next_segment: self.next_segment,
            kept: self.kept.clone(),
            free: self.free.clone(),
            chain,
            forgotten,
            forgotten_new: !self.damage.is_empty(),
        }
    }
}
