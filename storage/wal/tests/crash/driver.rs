//! Runs a log on a simulated disk: random appends, deaths, reclaiming, full disks, failures, crashes at any
//! step and restarts, all from a seed, and checks after each restart what must hold.

use wal::log::append::Class;
use wal::log::read::Slice;
use wal::log::reclaim::ReclaimBudget;
use wal::simulated_disk::{Completion, Faults, Lie, Random, SimulatedDisk};
use wal::{
    AppendError, ClusterId, CommitNumber, Config, Log, LogId, LogIdentity, Lsn, Mono, NodeId, RangeId,
    Request,
};

use crate::owner::{Content, Journal, Owner};

pub const IDENTITY: LogIdentity = LogIdentity { cluster: ClusterId(77), node: NodeId(5), log: LogId(3) };
const RANGES: u64 = 5;

/// A defect on purpose, to prove that the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The disk betrays.
    Disk(Lie),
    /// The host reports earlier commits as complete when a later one is.
    EarlierAreAnsweredToo,
    /// The owner drops tombstones while the log still holds what they revoke.
    TombstonesDieTooEarly,
    /// The owner takes its appends for durable when they are handed to the disk.
    AcknowledgedTooEarly,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub appended: u64,
    pub moved: u64,
    pub restarts: u64,
    pub cuts: u64,
    pub damage_refused: u64,
    pub full: u64,
    pub poisoned: u64,
}

pub struct Driver {
    pub(crate) random: Random,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) config: Config,
    pub(crate) now: Mono,
    pub(crate) disk: SimulatedDisk,
    pub(crate) log: Log,
    pub(crate) owner: Owner,
    pub(crate) journal: Journal,
    pub(crate) acknowledged: Lsn,
    pub(crate) capacity_bytes: u64,
    pub(crate) space_available: bool,
    dead_at_once: bool,
    pub(crate) next_id: u64,
    pub(crate) in_flight: Vec<CommitNumber>,
    pub(crate) held: Vec<(Slice, u64)>,
    pub tally: Tally,
}

impl Driver {
    pub fn new(seed: u64, mutant: Option<Mutant>) -> Driver {
        let mut random = Random::new(seed);
        let mut config = Config::new(IDENTITY);
        config.segment_bytes = [16 << 10, 32 << 10, 64 << 10][random.index(3)];
        config.segments_ahead = 1 + u32::try_from(random.below(3)).expect("small");
        config.record_bytes_max = 128 << 10;
        config.unflushed_bytes_max = 64 << 10;
        config.commit_bytes_full = 8 << 10;
        config.linger_ns_max = random.below(3) * 500_000;
        config.live_percent_target = 20 + u32::try_from(random.below(50)).expect("small");
        let capacity_bytes = u64::from(config.segment_bytes) * (16 + random.below(64));
        let dead_at_once = random.once_in(2);
        let disk = SimulatedDisk::new(random.number(), faults(capacity_bytes, mutant));
        Driver {
            random,
            mutant,
            config,
            now: Mono(1),
            disk,
            log: Log::new(config),
            owner: Owner::default(),
            journal: Journal::default(),
            acknowledged: Lsn::NONE,
            capacity_bytes,
            space_available: true,
            dead_at_once,
            next_id: 1,
            in_flight: Vec::new(),
            held: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Panics at the first thing that must not be.
    pub fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.act();
            if self.log.poison().is_some() {
                self.tally.poisoned += 1;
                self.after_poison();
            }
        }
        self.come_to_rest();
        self.crash_and_restart();
        self.come_to_rest();
    }

    fn act(&mut self) {
        match self.random.below(128) {
            0..40 => self.append_data(),
            40..56 => self.revoke(),
            56..80 => self.turn(),
            80..112 => self.disk_steps(),
            112..118 => self.read(),
            118..120 => self.held.clear(),
            120 => drop(self.log.append_mark(self.now)),
            121 if self.random.once_in(4) => self.forget(),
            122 if self.random.once_in(3) => self.crash_and_restart(),
            123 if self.random.once_in(4) => self.come_to_rest(),
            124 if self.random.once_in(6) => self.fill_up(),
            125 if self.random.once_in(8) => self.fail_soon(),
            _ => self.now = self.now.after(self.random.below(2_000_000)),
        }
        self.journal.note_tables(self.log.next_lsn().previous());
    }

    fn range(&mut self) -> RangeId {
        RangeId(1 + u128::from(self.random.below(RANGES)))
    }

    pub(crate) fn append(&mut self, class: Class, content: &Content) -> Result<(), AppendError> {
        let appended = self.log.append(self.now, class, &content.record())?;
        self.journal.on_appended(content, appended.lsn);
        self.owner.on_appended(content, appended);
        // A record may be called dead when its tombstone is appended, or at any time later.
        if self.dead_at_once {
            self.owner.on_durable(&mut self.log, appended.lsn);
        }
        self.tally.appended += 1;
        self.next_id += 1;
        Ok(())
    }

    fn append_data(&mut self) {
        let segment = u64::from(self.config.segment_bytes);
        let bytes = match self.random.below(40) {
            0 => segment / 4 + self.random.below(segment),
            1..4 => self.random.below(segment / 4),
            _ => self.random.below(300),
        };
        let range = self.range();
        self.append_data_of(Class::Ordinary, range, bytes);
    }

    pub(crate) fn append_data_of(&mut self, class: Class, range: RangeId, bytes: u64) -> bool {
        let content = Content::data(self.next_id, range, usize::try_from(bytes).expect("small"));
        match self.append(class, &content) {
            Ok(()) => true,
            Err(AppendError::TooLarge { .. }) => {
                assert!(bytes + 256 > u64::from(self.config.record_bytes_max), "{bytes} are not too many");
                false
            }
            Err(AppendError::Poisoned(_)) => panic!("nobody appends to a poisoned log"),
            Err(_) => false,
        }
    }

    /// One tombstone for some records of one range; sometimes for almost everything.
    pub(crate) fn revoke(&mut self) {
        let all = self.owner.unrevoked();
        if all.is_empty() {
            return;
        }
        let range = self.owner.range_of(all[self.random.index(all.len())]);
        let most = if self.random.once_in(8) { 60 } else { 3 };
        let mut killed: Vec<u64> = all.into_iter().filter(|id| self.owner.range_of(*id) == range).collect();
        killed.truncate(1 + self.random.index(most));
        let content = Content::tombstone(self.next_id, range, &killed);
        let _ = self.append(Class::Control, &content);
    }

    fn forget(&mut self) {
        let range = self.range();
        self.journal.on_forgotten(range, self.log.next_lsn().previous());
        self.log.forget_range(range);
        self.owner.forget(&mut self.log, range);
    }

    /// The end of a core's turn.
    pub(crate) fn turn(&mut self) {
        self.watch_space();
        let mut moved = Vec::new();
        let (owner, log) = (&self.owner, &mut self.log);
        let budget = ReclaimBudget { copy_bytes: 8 << 10, scan_bytes: 64 << 10 };
        let reclaimed = log.reclaim(self.now, budget, |candidate| owner.is_live(candidate), &mut moved);
        assert!(reclaimed.is_ok_and(|reclaimed| reclaimed.damaged == 0) || reclaimed.is_err());
        for (from, to) in moved {
            let id = self.owner.on_moved(from, to);
            self.journal.on_moved(id, to.lsn);
            self.tally.moved += 1;
        }
        let oldest = self.log.oldest_lsn();
        let early = self.mutant == Some(Mutant::TombstonesDieTooEarly);
        self.owner.sweep(&mut self.log, if early { Lsn(u64::MAX) } else { oldest });
        let mut requests = Vec::new();
        self.log.flush(self.now, &mut requests);
        self.journal.note_tables(self.log.next_lsn().previous());
        for request in &requests {
            if let Request::Flush(commit) = request {
                self.in_flight.push(commit.number);
                assert!(self.in_flight.len() <= 2, "at most two commits in flight");
                if self.mutant == Some(Mutant::AcknowledgedTooEarly) {
                    self.acknowledged = commit.last;
                }
            }
            self.disk.submit(request, &self.log);
        }
    }

    /// The watermark is two segments.
    fn watch_space(&mut self) {
        let used = self.disk.used_bytes();
        let available = used + 2 * u64::from(self.config.segment_bytes) <= self.disk.faults().capacity_bytes;
        if available != self.space_available {
            self.space_available = available;
            self.log.on_space(available);
        }
    }

    fn disk_steps(&mut self) {
        for _ in 0..self.random.below(12) {
            self.disk_step();
        }
    }

    pub(crate) fn disk_step(&mut self) {
        let Some(completion) = self.disk.step() else { return };
        self.now = self.now.after(self.random.below(100_000));
        match completion {
            Completion::Flushed(number, result) => {
                let at = self.in_flight.iter().position(|other| *other == number);
                let Some(at) = at else { return };
                if self.mutant == Some(Mutant::EarlierAreAnsweredToo) && result.is_ok() {
                    self.in_flight.drain(..=at).for_each(|number| flushed(&mut self.log, self.now, number));
                } else {
                    self.in_flight.remove(at);
                    let durable = self.log.on_flushed(self.now, number, result);
                    assert!(result.is_ok() || durable.is_none(), "a failed commit acknowledges nothing");
                }
                self.acknowledged = self.acknowledged.max(self.log.durable());
                let durable = self.log.durable();
                self.owner.on_durable(&mut self.log, durable);
            }
            Completion::SegmentReady(segment) => {
                let salt = self.random.number();
                self.log.on_segment_ready(segment, salt);
            }
            Completion::SegmentFailed(segment, error) => self.log.on_segment_failed(self.now, segment, error),
            Completion::Mapped(segment, bytes) => self.log.on_mapped(segment, bytes),
            Completion::Prefetched(pages) => self.log.on_prefetched(self.now, pages),
        }
    }

    pub(crate) fn release_held(&mut self) {
        self.held.clear();
    }

    /// What a small append of this class is refused with now, if it is.
    pub(crate) fn probe(&mut self, class: Class) -> Option<AppendError> {
        let content = Content::data(self.next_id, RangeId(1), 1000);
        self.append(class, &content).err()
    }

    /// Anything that lives can be read, wherever it is now; what is held does not change.
    fn read(&mut self) {
        let ids = self.owner.unrevoked();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.random.index(ids.len())];
        let read = self.log.read(self.owner.position_of(id)).expect("a live record can be read");
        assert!(read.payload() == self.journal.content(id).payload, "record {id} reads otherwise");
        if let wal::log::read::Read::Sealed(record) = read {
            self.held.push((record.payload, id));
        }
        for (slice, id) in &self.held {
            assert!(**slice == self.journal.content(*id).payload, "a held slice of {id} has changed");
        }
    }
}

fn flushed(log: &mut Log, now: Mono, number: CommitNumber) {
    log.on_flushed(now, number, Ok(()));
}

pub(crate) fn faults(capacity_bytes: u64, mutant: Option<Mutant>) -> Faults {
    let lie = match mutant {
        Some(Mutant::Disk(lie)) => Some(lie),
        _ => None,
    };
    Faults { flush_fails_once_in: 0, segment_fails_once_in: 0, capacity_bytes, lie }
}
