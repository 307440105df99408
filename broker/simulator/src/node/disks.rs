//! The disks of a node, one for each log: what a log asks for is done in small steps and in any order, a
//! checkpoint piece by piece; and when the node ends, what nobody flushed is kept or lost in any part.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use broker_core::Core;
use broker_core::config::Config;
use broker_core::identity::CoreId;
use broker_core::storage::{LogConfig, StorageAnswer, StorageRequest, StoredLog};
use broker_core::time::Mono;
use range::catalog::Catalog;
use wal::simulated_disk::{Crash, Faults, SimulatedDisk};
use wal::{ClusterId, Completion, LogId, NodeId, RecoveryOptions, Request, SegmentInput};

use super::Node;
use super::space::Space;
use crate::random::Random;
use crate::scenario::DiskHabits;
use crate::trace::Trace;

/// What a simulated disk does for a node, and what it has of it.
pub(super) struct Disks {
    config: LogConfig,
    catalog: Catalog,
    logs: Vec<SimulatedDisk>,
    /// By log: what a thread off the cores is to do for its checkpoints.
    files: Vec<VecDeque<range::Request>>,
    /// Checkpoints by range and number; true when it stands under its name.
    checkpoints: BTreeMap<(u128, u64), (Vec<u8>, bool)>,
    /// How much room their file system has.
    pub(super) space: Space,
    random: Random,
}

/// What has come of a step.
struct Done {
    log: LogId,
    answer: Option<StorageAnswer>,
}

impl Disks {
    pub(super) fn new(config: &Config, habits: &DiskHabits, mut random: Random) -> Disks {
        let mut names = 0;
        let catalog = Catalog::bootstrap(config.logs(), || {
            names += 1;
            names
        });
        let mut log_config = LogConfig::new(ClusterId(7), NodeId(9), random.bits());
        log_config.wal.segment_bytes = habits.segment_bytes;
        log_config.wal.linger_ns_max = habits.linger_ns_max;
        log_config.range.checkpoint_log_bytes = habits.checkpoint_log_bytes;
        log_config.range.chunk_bytes = 256;
        let faults = Faults {
            flush_fails_once_in: habits.faults.flush_fails_once_in,
            segment_fails_once_in: habits.faults.segment_fails_once_in,
            capacity_bytes: u64::MAX,
            lie: habits.lie,
        };
        Disks {
            config: log_config,
            catalog,
            logs: (0..config.logs()).map(|_| SimulatedDisk::new(random.bits(), faults)).collect(),
            files: (0..config.logs()).map(|_| VecDeque::new()).collect(),
            checkpoints: BTreeMap::new(),
            space: Space::Free,
            random,
        }
    }

    /// Changes what goes wrong, on every disk.
    pub(super) fn change_faults(&mut self, change: impl Fn(&SimulatedDisk, Faults) -> Faults) {
        for disk in &mut self.logs {
            disk.set_faults(change(disk, disk.faults()));
        }
    }

    /// The logs of a core, new.
    pub(super) fn make(&self, core: CoreId, cores: u16) -> Vec<StoredLog> {
        let logs = (core.0..self.logs.len() as u16).step_by(usize::from(cores));
        logs.map(|log| StoredLog::new(&self.config, &self.catalog, LogId(log))).collect()
    }

    /// The logs of a core, from what the disks have. An error: what a start would refuse.
    pub(super) fn open(&mut self, core: CoreId, cores: u16) -> Result<Vec<StoredLog>, String> {
        let logs = (core.0..self.logs.len() as u16).step_by(usize::from(cores));
        logs.map(|log| self.open_log(LogId(log))).collect()
    }

    fn open_log(&mut self, id: LogId) -> Result<StoredLog, String> {
        let disk = &mut self.logs[usize::from(id.0)];
        let files = disk.segments();
        let inputs: Vec<SegmentInput<'_>> =
            files.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect();
        let identity = StoredLog::identity(&self.config, id);
        let recovery = wal::recover(&identity, &inputs, &RecoveryOptions::default());
        let recovery = recovery.map_err(|error| format!("log {}: {error:?}", id.0))?;
        disk.settle(&recovery.unproven(), false);
        let checkpoints = &self.checkpoints;
        let mut checkpoint = |range: range::RangeId, number| {
            let found = checkpoints.get(&(range.0, number)).filter(|(_, whole)| *whole);
            found.map(|(bytes, _)| bytes.clone()).ok_or(io::ErrorKind::NotFound.into())
        };
        StoredLog::open(&self.config, &self.catalog, id, &recovery, disk.map_all(), &mut checkpoint)
            .map_err(|error| format!("log {}: {error}", id.0))
    }

    /// Takes what a core asks for.
    fn submit(&mut self, core: &Core, request: StorageRequest) {
        match request {
            StorageRequest::Log(id, request) => {
                let log = core.stored_log(id).expect("it asked").log();
                self.logs[usize::from(id.0)].submit(&request, log);
            }
            StorageRequest::Checkpoint(log, request) => self.files[usize::from(log.0)].push_back(request),
        }
    }

    pub(super) fn are_idle(&self) -> bool {
        self.logs.iter().all(SimulatedDisk::is_idle) && self.files.iter().all(VecDeque::is_empty)
    }

    /// One disk that has something to do does a small part of it.
    fn step(&mut self) -> Option<Done> {
        let is_busy = |log: &usize| !self.logs[*log].is_idle() || !self.files[*log].is_empty();
        let busy: Vec<usize> = (0..self.logs.len()).filter(is_busy).collect();
        let log = *busy.get(self.random.index(busy.len().max(1)))?;
        let id = LogId(log as u16);
        let file = self.logs[log].is_idle() || self.random.one_in(3);
        let answer = match file.then(|| self.files[log].pop_front()).flatten() {
            Some(request) => self.keep_checkpoint(id, request),
            None => self.logs[log].step().map(|completion| StorageAnswer::Log(id, completion)),
        };
        Some(Done { log: id, answer })
    }

    fn keep_checkpoint(&mut self, log: LogId, request: range::Request) -> Option<StorageAnswer> {
        match request {
            range::Request::WriteCheckpoint { range, number, .. } if self.space == Space::Exhausted => {
                Some(StorageAnswer::Checkpoint { log, range, number, whole: false })
            }
            range::Request::WriteCheckpoint { range, number, offset, bytes, last } => {
                let (file, whole) = self.checkpoints.entry((range.0, number)).or_default();
                file.truncate(usize::try_from(offset).expect("in memory"));
                file.extend_from_slice(&bytes);
                *whole = last;
                Some(StorageAnswer::Checkpoint { log, range, number, whole: true })
            }
            range::Request::RemoveCheckpoint { range, number } => {
                self.checkpoints.remove(&(range.0, number));
                None
            }
        }
    }

    /// The node ends.
    pub(super) fn crash(&mut self, crash: Crash) {
        self.logs.iter_mut().for_each(|disk| disk.crash(crash));
        self.files.iter_mut().for_each(VecDeque::clear);
        self.checkpoints.retain(|_, (_, whole)| *whole);
    }
}

impl Node {
    /// What a core has asked its disks for.
    pub(super) fn store(&mut self, core: usize, at: Mono, requests: Vec<StorageRequest>) {
        let Some(disks) = &mut self.disks else {
            assert!(requests.is_empty(), "a core without disks asks for nothing");
            return;
        };
        for request in requests {
            note_request(&mut self.trace, at, &self.cores[core].core, &request);
            disks.submit(&self.cores[core].core, request);
        }
    }

    /// The disks do one thing; false if there is nothing to do.
    pub fn step_disks(&mut self, at: Mono) -> bool {
        let Some(Done { log, answer }) = self.disks.as_mut().and_then(Disks::step) else { return false };
        if let Some(answer) = answer {
            note_answer(&mut self.trace, at, log, &answer);
            let core = usize::from(log.0) % self.cores.len();
            self.cores[core].stored.push_back(answer);
        }
        true
    }

    /// Does a log wait for company before it flushes?
    pub(super) fn has_unflushed(&self) -> bool {
        let logs = 0..self.config.logs();
        self.disks.is_some()
            && self.cores.iter().any(|hosted| {
                let own = logs.clone().filter_map(|log| hosted.core.stored_log(LogId(log)));
                own.into_iter().any(|log| log.log().usage().unflushed_bytes > 0)
            })
    }

    /// Do the disks have anything to do?
    #[must_use]
    pub fn disks_are_idle(&self) -> bool {
        self.disks.as_ref().is_none_or(Disks::are_idle)
    }
}

fn note_request(trace: &mut Trace, at: Mono, core: &Core, request: &StorageRequest) {
    match request {
        StorageRequest::Log(id, Request::Flush(commit)) => {
            let log = core.stored_log(*id).expect("it asked");
            for write in &commit.writes {
                let entry = format_args!("log {} -> write at {} of {}", id.0, write.offset, write.segment);
                trace.bytes(at, entry, log.bytes_to_write(write));
            }
            trace.note(at, format_args!("log {} -> flush {:?}", id.0, commit.number));
        }
        StorageRequest::Log(id, request) => trace.note(at, format_args!("log {} -> {request:?}", id.0)),
        StorageRequest::Checkpoint(id, range::Request::WriteCheckpoint { range, number, bytes, .. }) => {
            trace.bytes(at, format_args!("log {} -> checkpoint {number} of {:x}", id.0, range.0), bytes);
        }
        StorageRequest::Checkpoint(id, request) => {
            trace.note(at, format_args!("log {} -> {request:?}", id.0));
        }
    }
}

fn note_answer(trace: &mut Trace, at: Mono, log: LogId, answer: &StorageAnswer) {
    match answer {
        StorageAnswer::Log(_, Completion::Mapped(segment, _)) => {
            trace.note(at, format_args!("log {} <- mapped {segment}", log.0));
        }
        StorageAnswer::Log(_, completion) => trace.note(at, format_args!("log {} <- {completion:?}", log.0)),
        StorageAnswer::Space(..) | StorageAnswer::Checkpoint { .. } => {
            trace.note(at, format_args!("log {} <- {answer:?}", log.0));
        }
    }
}
