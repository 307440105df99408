//! Hot path. The log as a state machine.
//!
//! ```text
//!           append                 flush              on_flushed, in order      on_mapped
//! record ──────────► tail image ──────────► in flight ──────────► durable ─ ─ ─ ─ ─ ─ ─ ─ ► sealed segment
//!        (copy, LSN)            (≤ 2 commits)         (acknowledge)  when the segment is full
//! ```
//!
//! Each step is a file here: `append`, `commits`, `linger`, `spares`, `sealed`, `at_hand`, `read`, `reclaim`.

pub mod append;
pub mod at_hand;
pub mod read;
pub mod reclaim;

pub(crate) mod chain;
mod commits;
mod flush;
mod linger;
mod sealed;
mod spares;
mod tail;
pub mod tally;

use std::cell::RefCell;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::config::Config;
use crate::identity::{CommitNumber, Lsn, Mono, RangeId, SegmentId};
use crate::image::Unused;
use crate::mapping::SegmentBytes;
use crate::recovery::Resume;
use crate::request::{FlushError, Request, SegmentError, Write};
use at_hand::Window;
use chain::Chain;
use commits::Commits;
use linger::Linger;
use reclaim::Reclaim;
use sealed::Sealed;
use spares::Spares;
use tail::Tail;
use tally::Tally;

/// One write-ahead log. Lives on the core that serves it; nothing of it is shared but the counted bytes of
/// sealed segments.
pub struct Log {
    config: Config,
    next_lsn: Lsn,
    /// Everything up to here is on disk.
    durable: Lsn,
    next_sequence: u64,
    /// The segment being written; none before the first append.
    tail: Option<Tail>,
    /// Memory of a former tail, for the next.
    image_unused: Unused,
    sealed: Sealed,
    chain: Chain,
    /// Ends of sealed segments that no commit has taken yet.
    unwritten: SmallVec<[Write; 1]>,
    pending: Pending,
    commits: Commits,
    linger: Linger,
    spares: Spares,
    reclaim: Reclaim,
    /// Windows that readers have missed since the last flush.
    wanted: RefCell<Vec<Window>>,
    tally: Tally,
    poison: Option<Poison>,
}

/// What was appended and is in no commit yet.
#[derive(Default)]
struct Pending {
    records: u32,
    bytes: u64,
    /// When the first of it came.
    since: Option<Mono>,
    /// The host asked not to wait for company.
    urgent: bool,
}

/// Why the log acknowledges nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poison {
    /// The commit that failed.
    pub commit: CommitNumber,
    /// How.
    pub error: FlushError,
}

/// What a log consists of at the moment, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sealed segments that hold live records.
    pub sealed_segments: u64,
    /// The bytes of their files.
    pub sealed_bytes: u64,
    /// Bytes of live records in them.
    pub live_bytes: u64,
    /// Segments with nothing live, waiting for a durable table without them or for their last reader.
    pub leaving_bytes: u64,
    /// Files ready to be written, asked for, or waiting to be recycled.
    pub spare_bytes: u64,
    /// The segment being written.
    pub tail_bytes: u64,
    /// Appended and not durable.
    pub unflushed_bytes: u64,
    /// Spare segments ready.
    pub segments_ready: u32,
    /// Commits in flight.
    pub commits_in_flight: u32,
}

impl Log {
    /// An empty log. Appending is refused until the first segments are ready: call [`Log::flush`] for the
    /// requests.
    #[must_use]
    pub fn new(config: Config) -> Log {
        let mut log = Log::resume(config, Resume::default(), Vec::new());
        log.start_reclaiming();
        log
    }

    /// The log that [`recover`](crate::recover) found; `segments` are the bytes of the files it kept (others
    /// are ignored). It continues in a new segment. Everything recovered counts as durable: the host has
    /// synced the files before.
    ///
    /// # Panics
    /// When bytes of a kept segment are missing, or a limit makes no sense.
    #[must_use]
    pub fn resume(config: Config, resume: Resume, mut segments: Vec<(SegmentId, Arc<SegmentBytes>)>) -> Log {
        config.check();
        let mut sealed = Sealed::default();
        for entry in resume.kept {
            let at = segments.iter().position(|(segment, _)| *segment == entry.segment);
            let (_, bytes) = segments.swap_remove(at.expect("the bytes of every kept segment"));
            sealed.insert_recovered(&entry, bytes);
        }
        sealed.restore_forgotten(resume.forgotten, resume.forgotten_new);
        Log {
            next_lsn: resume.last.next(),
            durable: resume.last,
            next_sequence: resume.next_sequence,
            tail: None,
            image_unused: Unused::default(),
            sealed,
            chain: resume.chain,
            unwritten: SmallVec::new(),
            pending: Pending::default(),
            commits: Commits::default(),
            linger: Linger::default(),
            spares: Spares::new(resume.next_segment, resume.free),
            reclaim: Reclaim::default(),
            wanted: RefCell::default(),
            tally: Tally::default(),
            poison: None,
            config,
        }
    }

    /// Everything up to here is on disk.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The number the next record will have.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// Why nothing is acknowledged any more, if so. The host ends the process in order.
    #[must_use]
    pub fn poison(&self) -> Option<Poison> {
        self.poison
    }

    /// Does the disk refuse new segments, by the watermark or by an error, or are there as many as there may be?
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.spares.is_full() || self.lists_most()
    }

    /// A segment file the log asked for is in place. `salt` is random.
    pub fn on_segment_ready(&mut self, segment: SegmentId, salt: u64) {
        self.spares.on_ready(segment, salt);
    }

    /// A segment file could not be prepared. The log asks again, a second later at the earliest, or when the
    /// host reports space.
    pub fn on_segment_failed(&mut self, now: Mono, segment: SegmentId, _error: SegmentError) {
        self.spares.on_failed(now, segment);
    }

    /// The file system fell below the watermark (false), or is above it again (true).
    pub fn on_space(&mut self, available: bool) {
        self.spares.on_space(available);
    }

    /// The bytes of a segment, as [`Request::MapSegment`] asked for. Its memory is given up.
    pub fn on_mapped(&mut self, segment: SegmentId, bytes: Arc<SegmentBytes>) {
        self.reclaim.on_mapped();
        if let Some(image) = self.sealed.on_mapped(segment, bytes)
            && image.bytes().len() == self.config.segment_bytes as usize
        {
            self.image_unused.put(image);
        }
    }

    /// A range has left this log: no recovery shows a record it has had so far, from the next commit on.
    /// Those that live are still to be named dead. The range may come back; it then begins anew.
    pub fn forget_range(&mut self, range: RangeId) {
        self.chain.forget(range);
        self.sealed.forget(range, self.next_lsn.previous());
    }

    /// A recovery now would show no record below this: what revokes only records below is needed no more.
    #[must_use]
    pub fn oldest_lsn(&self) -> Lsn {
        self.sealed.oldest(self.tail.as_ref().map_or(self.next_lsn, |tail| tail.base))
    }

    /// When [`Log::flush`] should be called again though nothing happened.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        if self.poison.is_some() {
            return None;
        }
        match (self.flush_at(), self.spares.retry_at()) {
            (Some(flush), Some(retry)) => Some(flush.min(retry)),
            (flush, retry) => flush.or(retry),
        }
    }

    /// What it has done since it was opened.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether something was appended that no commit has taken yet.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.pending.since.is_some()
    }

    /// The present sizes.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage {
            spare_bytes: self.spares.bytes(),
            tail_bytes: self.tail.as_ref().map_or(0, Tail::file_bytes),
            unflushed_bytes: self.unflushed_bytes(),
            segments_ready: self.spares.ready_count(),
            commits_in_flight: self.commits.in_flight(),
            ..Usage::default()
        };
        self.sealed.add_usage(&mut usage);
        usage
    }

    /// Appended bytes that are not durable.
    fn unflushed_bytes(&self) -> u64 {
        self.pending.bytes + self.commits.bytes_in_flight()
    }

    /// Asks for what the log needs next; part of every flush.
    fn ask(&mut self, now: Mono, out: &mut Vec<Request>) {
        self.spares.ask(&self.config, now, out);
        self.sealed.ask_maps(self.durable, out);
    }
}
