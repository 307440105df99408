//! A log with a disk that does everything at once and forgets nothing.

#![allow(dead_code, reason = "each test file uses its part")]

use wal::log::append::Class;
use wal::log::reclaim::{ReclaimBudget, Reclaimed};
use wal::simulated_disk::{Completion, Crash, Faults, SimulatedDisk};
use wal::{
    Appended, ClusterId, Config, Log, LogId, LogIdentity, Mono, NewRecord, NodeId, Position, RangeId,
    Recovery, RecoveryError, RecoveryOptions, SegmentId, SegmentInput, recover,
};

pub const IDENTITY: LogIdentity =
    LogIdentity { cluster: ClusterId(0x1111_2222), node: NodeId(0x33), log: LogId(7) };
pub const BUDGET: ReclaimBudget = ReclaimBudget { copy_bytes: 1 << 20, scan_bytes: 1 << 20 };

pub struct Host {
    pub config: Config,
    pub log: Log,
    pub disk: SimulatedDisk,
    pub now: Mono,
}

/// Segments of 16 KiB.
pub fn config() -> Config {
    Config { segment_bytes: 16 << 10, linger_ns_max: 0, record_bytes_max: 64 << 10, ..Config::new(IDENTITY) }
}

impl Host {
    pub fn new() -> Host {
        Host::with(config())
    }

    pub fn with(config: Config) -> Host {
        let faults =
            Faults { flush_fails_once_in: 0, segment_fails_once_in: 0, capacity_bytes: 1 << 30, lie: None };
        let disk = SimulatedDisk::new(1, faults);
        let mut host = Host { config, log: Log::new(config), disk, now: Mono(1) };
        host.turn();
        host
    }

    pub fn append(&mut self, range: u128, payload: &[u8]) -> Appended {
        self.try_append(range, payload).expect("room")
    }

    pub fn try_append(&mut self, range: u128, payload: &[u8]) -> Result<Appended, wal::AppendError> {
        let record = NewRecord { range: RangeId(range), kind: 1, version: 1, metadata: b"meta", payload };
        self.log.append(self.now, Class::Ordinary, &record)
    }

    /// Ends a turn and lets the disk do everything.
    pub fn turn(&mut self) {
        self.now = self.now.after(2_000_000_000);
        let mut requests = Vec::new();
        self.log.flush(self.now, &mut requests);
        requests.iter().for_each(|request| self.disk.submit(request, &self.log));
        self.finish();
    }

    fn finish(&mut self) {
        while !self.disk.is_idle() {
            match self.disk.step() {
                Some(Completion::Flushed(number, result)) => {
                    self.log.on_flushed(self.now, number, result);
                }
                // Salts that tests can name.
                Some(Completion::SegmentReady(segment)) => {
                    self.log.on_segment_ready(segment, 1000 + u64::from(segment.0));
                }
                Some(Completion::SegmentFailed(segment, error)) => {
                    self.log.on_segment_failed(self.now, segment, error);
                }
                Some(Completion::Mapped(segment, bytes)) => self.log.on_mapped(segment, bytes),
                Some(Completion::Prefetched(pages)) => self.log.on_prefetched(self.now, pages),
                None => {}
            }
        }
    }

    /// One turn of reclaiming and one end of a turn.
    pub fn reclaim(&mut self, is_live: impl Fn(Position) -> bool) -> (Reclaimed, Vec<(Position, Appended)>) {
        let mut moved = Vec::new();
        let reclaimed =
            self.log.reclaim(self.now, BUDGET, |candidate| is_live(candidate.position), &mut moved);
        self.turn();
        (reclaimed.expect("room"), moved)
    }

    /// Ends the process, and answers what the files hold.
    pub fn kill(&mut self) -> Vec<(SegmentId, Vec<u8>)> {
        self.log = Log::new(self.config);
        self.disk.crash(Crash::Kill);
        self.disk.segments()
    }

    /// Goes on with what a recovery found; everything it shows lives.
    pub fn resume(&mut self, recovery: &Recovery<'_>) {
        let segments = self.disk.map_all();
        self.log = Log::resume(self.config, recovery.resume(), segments);
        for record in recovery.records() {
            self.log.live(record.position, record.bytes);
        }
        self.log.start_reclaiming();
        self.turn();
    }
}

pub fn inputs(files: &[(SegmentId, Vec<u8>)]) -> Vec<SegmentInput<'_>> {
    files.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect()
}

pub fn recovered<'a>(inputs: &[SegmentInput<'a>]) -> Result<Recovery<'a>, RecoveryError> {
    recover(&IDENTITY, inputs, &RecoveryOptions::default())
}

pub fn quarantined<'a>(inputs: &[SegmentInput<'a>]) -> Recovery<'a> {
    let options = RecoveryOptions { quarantine: true, ..RecoveryOptions::default() };
    recover(&IDENTITY, inputs, &options).expect("a quarantining start goes on")
}
