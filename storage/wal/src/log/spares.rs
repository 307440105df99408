//! Segment files ahead of need: ready ones, those asked for, and files to make new ones from.

use std::collections::VecDeque;

use crate::config::Config;
use crate::identity::{Mono, SegmentId};
use crate::request::Request;

use super::append::{AppendError, Class};

/// After a refusal the log asks again so much later, if the host says nothing.
const RETRY_NS: u64 = 1_000_000_000;

/// One file that can be written at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spare {
    pub(crate) segment: SegmentId,
    pub(crate) salt: u64,
    pub(crate) bytes: u64,
}

struct Requested {
    segment: SegmentId,
    bytes: u64,
    recycle: Option<SegmentId>,
    /// For one large record.
    own: bool,
}

pub(crate) struct Spares {
    ready: VecDeque<Spare>,
    /// A segment for one large record; at most one.
    ready_own: Option<Spare>,
    requested: Vec<Requested>,
    /// Wanted size of a segment for one large record, not yet asked for.
    wanted_own: Option<u64>,
    /// It is for a record that cannot be given up: it is asked for below the watermark, too.
    needs_own: bool,
    /// Files whose content nobody needs.
    free: Vec<(SegmentId, u64)>,
    next_segment: u32,
    /// The host says that the file system is below the watermark.
    below_watermark: bool,
    /// A request failed; until then nothing is asked that needs space.
    failed_until: Option<Mono>,
}

impl Spares {
    pub(crate) fn new(next_segment: SegmentId, free: Vec<(SegmentId, u64)>) -> Spares {
        Spares {
            ready: VecDeque::new(),
            ready_own: None,
            requested: Vec::new(),
            wanted_own: None,
            needs_own: false,
            free,
            next_segment: next_segment.0.max(1),
            below_watermark: false,
            failed_until: None,
        }
    }

    pub(crate) fn next_segment(&self) -> SegmentId {
        SegmentId(self.next_segment)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.below_watermark || self.failed_until.is_some()
    }

    pub(crate) fn retry_at(&self) -> Option<Mono> {
        self.failed_until.filter(|_| !self.below_watermark || self.needs_own)
    }

    pub(crate) fn ready_count(&self) -> u32 {
        u32::try_from(self.ready.len()).expect("bounded by the configuration")
    }

    pub(crate) fn bytes(&self) -> u64 {
        let ready: u64 = self.ready.iter().chain(&self.ready_own).map(|spare| spare.bytes).sum();
        let requested: u64 = self.requested.iter().map(|request| request.bytes).sum();
        ready + requested + self.free.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    pub(crate) fn on_space(&mut self, available: bool) {
        self.below_watermark = !available;
        if available {
            self.failed_until = None;
        }
    }

    pub(crate) fn on_ready(&mut self, segment: SegmentId, salt: u64) {
        let request = self.answered(segment);
        let spare = Spare { segment, salt, bytes: request.bytes };
        if request.own {
            self.ready_own = Some(spare);
        } else {
            self.ready.push_back(spare);
        }
    }

    pub(crate) fn on_failed(&mut self, now: Mono, segment: SegmentId) {
        let request = self.answered(segment);
        if let Some(file) = request.recycle {
            self.free.push((file, request.bytes));
        }
        self.failed_until = Some(now.after(RETRY_NS));
    }

    fn answered(&mut self, segment: SegmentId) -> Requested {
        let at = self.requested.iter().position(|request| request.segment == segment);
        self.requested.swap_remove(at.expect("a segment is answered once, and only one that was asked for"))
    }

    /// A file that holds nothing any more.
    pub(crate) fn give_back(&mut self, segment: SegmentId, bytes: u64) {
        self.free.push((segment, bytes));
    }

    /// The next segment to write, if this class may have it.
    pub(crate) fn take(&mut self, config: &Config, class: Class) -> Result<Spare, AppendError> {
        let kept = match class {
            Class::Ordinary => config.segments_reserved as usize,
            Class::Control => 1,
            Class::Reclaim => 0,
        };
        if self.ready.len() > kept {
            return Ok(self.ready.pop_front().expect("more than are kept"));
        }
        Err(self.refusal())
    }

    /// Why there is no segment.
    pub(crate) fn refusal(&self) -> AppendError {
        if self.is_full() { AppendError::DiskFull } else { AppendError::SegmentsBehind }
    }

    /// A segment of at least `bytes` for one record; asked for if there is none. Reserved segments play no
    /// part in it, as none has the size; while the disk is full new data and copies get none. A control record may stop
    /// what comes behind it: it takes what is free below the watermark, and asks again where there was nothing.
    pub(crate) fn take_own(
        &mut self,
        config: &Config,
        class: Class,
        bytes: u64,
    ) -> Result<Spare, AppendError> {
        // Whatever comes after it, a table too, needs a shared segment.
        let kept = if class == Class::Ordinary { config.segments_reserved as usize } else { 0 };
        if self.ready.len() <= kept {
            return Err(self.refusal());
        }
        if let Some(spare) = self.ready_own.take_if(|spare| spare.bytes >= bytes) {
            return Ok(spare);
        }
        if self.is_full() && class != Class::Control {
            return Err(AppendError::DiskFull);
        }
        let wanted = bytes.next_multiple_of(crate::format::BLOCK_BYTES as u64);
        self.wanted_own = Some(self.wanted_own.map_or(wanted, |other| other.max(wanted)));
        self.needs_own |= class == Class::Control;
        Err(AppendError::SegmentNeeded)
    }

    /// Requests for what is missing, and removal of what is too much.
    pub(crate) fn ask(&mut self, config: &Config, now: Mono, out: &mut Vec<Request>) {
        if self.failed_until.is_some_and(|until| until <= now) {
            self.failed_until = None;
        }
        let bytes = u64::from(config.segment_bytes);
        let wanted = (config.segments_reserved + config.segments_ahead) as usize;
        let mut have = self.ready.len() + self.requested.iter().filter(|request| !request.own).count();
        while have < wanted && (!self.is_full() || self.has_free(bytes)) {
            let recycle = self.pop_free(bytes);
            self.request(bytes, recycle, false, out);
            have += 1;
        }
        self.ask_own(out);
        self.remove_superfluous(bytes, config.segments_ahead as usize, out);
    }

    fn ask_own(&mut self, out: &mut Vec<Request>) {
        let refused = self.failed_until.is_some() || self.below_watermark && !self.needs_own;
        if self.requested.iter().any(|request| request.own) || refused {
            return;
        }
        let Some(bytes) = self.wanted_own.take() else { return };
        self.needs_own = false;
        // One that is too small is not needed: whoever asked for it has asked for more since.
        match self.ready_own.take_if(|spare| spare.bytes < bytes) {
            Some(small) => out.push(Request::RemoveSegment(small.segment)),
            None if self.ready_own.is_some() => return,
            None => {}
        }
        self.request(bytes, None, true, out);
    }

    fn request(&mut self, bytes: u64, recycle: Option<SegmentId>, own: bool, out: &mut Vec<Request>) {
        let segment = SegmentId(self.next_segment);
        self.next_segment = self.next_segment.checked_add(1).expect("2^32 segments outlive the disk");
        self.requested.push(Requested { segment, bytes, recycle, own });
        out.push(Request::AllocateSegment { segment, bytes, recycle });
    }

    fn has_free(&self, bytes: u64) -> bool {
        self.free.iter().any(|(_, file_bytes)| *file_bytes == bytes)
    }

    fn pop_free(&mut self, bytes: u64) -> Option<SegmentId> {
        let at = self.free.iter().position(|(_, file_bytes)| *file_bytes == bytes)?;
        Some(self.free.swap_remove(at).0)
    }

    /// Keeps a few files for the next needs; other sizes are of no use.
    fn remove_superfluous(&mut self, bytes: u64, kept: usize, out: &mut Vec<Request>) {
        let mut useful = 0;
        self.free.retain(|(segment, file_bytes)| {
            useful += usize::from(*file_bytes == bytes);
            let keep = *file_bytes == bytes && useful <= kept;
            if !keep {
                out.push(Request::RemoveSegment(*segment));
            }
            keep
        });
    }
}
