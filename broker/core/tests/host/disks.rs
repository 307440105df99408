//! Logs on simulated disks: what they do waits for a test where it says so, and a node can end at any moment.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use broker_core::Core;
use broker_core::config::Config;
use broker_core::identity::CoreId;
use broker_core::input::{Input, Outputs};
use broker_core::storage::{LogConfig, StorageAnswer, StorageRequest, StoredLog};
use broker_core::time::Now;
use range::Request;
use range::catalog::Catalog;
use wal::simulated_disk::{Crash, Faults, SimulatedDisk};
use wal::{ClusterId, LogId, NodeId, RecoveryOptions, SegmentInput};

use super::Node;
use super::world::{World, core_at};

/// A disk that has room and does not fail.
pub const SOUND: Faults =
    Faults { flush_fails_once_in: 0, segment_fails_once_in: 0, capacity_bytes: u64::MAX, lie: None };

/// Small, so that a test goes through many of them.
pub const SEGMENT_BYTES: u32 = 64 << 10;

/// The disks of a node, one for each log.
pub struct Disks {
    config: LogConfig,
    catalog: Catalog,
    disks: Vec<SimulatedDisk>,
    /// Checkpoints by range and number; true when it stands under its name.
    checkpoints: BTreeMap<(u128, u64), (Vec<u8>, bool)>,
    /// Nothing is done.
    pub held: bool,
}

impl Disks {
    fn new(config: &Config, seed: u64, faults: Faults) -> Disks {
        let mut names = 0;
        let catalog = Catalog::bootstrap(config.logs(), || {
            names += 1;
            names
        });
        let mut log_config = LogConfig::new(ClusterId(7), NodeId(9), seed);
        log_config.wal.segment_bytes = SEGMENT_BYTES;
        log_config.wal.linger_ns_max = 0;
        log_config.range.checkpoint_log_bytes = 128 << 10;
        log_config.range.chunk_bytes = 256;
        let disks = (0..config.logs()).map(|log| SimulatedDisk::new(seed ^ u64::from(log) << 32, faults));
        Disks {
            config: log_config,
            catalog,
            disks: disks.collect(),
            checkpoints: BTreeMap::new(),
            held: false,
        }
    }

    /// The logs of a core, new.
    fn make(&self, core: CoreId, cores: u16) -> Vec<StoredLog> {
        let logs = (core.0..self.disks.len() as u16).step_by(usize::from(cores));
        logs.map(|log| StoredLog::new(&self.config, &self.catalog, LogId(log))).collect()
    }

    /// The logs of a core, from what the disks have.
    fn open(&mut self, core: CoreId, cores: u16) -> Vec<StoredLog> {
        let logs = (core.0..self.disks.len() as u16).step_by(usize::from(cores));
        logs.map(|log| self.open_log(LogId(log))).collect()
    }

    fn open_log(&mut self, id: LogId) -> StoredLog {
        let disk = &mut self.disks[usize::from(id.0)];
        let files = disk.segments();
        let inputs: Vec<SegmentInput<'_>> =
            files.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect();
        let identity = StoredLog::identity(&self.config, id);
        let recovery = wal::recover(&identity, &inputs, &RecoveryOptions::default());
        let recovery = recovery.expect("a crash damages nothing that was acknowledged");
        disk.settle(&recovery.unproven(), false);
        let checkpoints = &self.checkpoints;
        let mut checkpoint = |range: range::RangeId, number| {
            let found = checkpoints.get(&(range.0, number)).filter(|(_, whole)| *whole);
            found.map(|(bytes, _)| bytes.clone()).ok_or(io::ErrorKind::NotFound.into())
        };
        let opened =
            StoredLog::open(&self.config, &self.catalog, id, &recovery, disk.map_all(), &mut checkpoint);
        opened.expect("a log opens from what is durable")
    }

    /// Takes what a core asks for. What is answered at once.
    pub(super) fn submit(&mut self, core: &Core, requests: Vec<StorageRequest>) -> Vec<StorageAnswer> {
        let mut answers = Vec::new();
        for request in requests {
            match request {
                StorageRequest::Log(id, request) => {
                    let log = core.stored_log(id).expect("it asked").log();
                    self.disks[usize::from(id.0)].submit(&request, log);
                }
                StorageRequest::Checkpoint(
                    log,
                    Request::WriteCheckpoint { range, number, offset, bytes, last },
                ) => {
                    let (file, whole) = self.checkpoints.entry((range.0, number)).or_default();
                    file.truncate(usize::try_from(offset).expect("in memory"));
                    file.extend_from_slice(&bytes);
                    *whole = last;
                    answers.push(StorageAnswer::Checkpoint { log, range, number, whole: true });
                }
                StorageRequest::Checkpoint(_, Request::RemoveCheckpoint { range, number }) => {
                    self.checkpoints.remove(&(range.0, number));
                }
            }
        }
        answers
    }

    /// One disk does one thing: which log's, and what it has to say.
    fn step(&mut self) -> Option<(LogId, StorageAnswer)> {
        for (log, disk) in (0..).zip(&mut self.disks) {
            while !disk.is_idle() {
                if let Some(completion) = disk.step() {
                    return Some((LogId(log), StorageAnswer::Log(LogId(log), completion)));
                }
            }
        }
        None
    }
}

impl World {
    /// What a log's disk has to say, to its core.
    fn answer_storage(&mut self, core: CoreId, answers: Vec<StorageAnswer>) {
        self.tell_storage(core, answers);
        self.turn(core);
    }

    fn tell_storage(&mut self, core: CoreId, answers: Vec<StorageAnswer>) {
        for answer in answers {
            let (index, now) = (core.index(), self.now());
            self.cores[index].on_input(now, Input::Storage(answer), &mut self.outputs[index]);
        }
    }

    /// What a core has asked its disks for. True if it has been answered.
    pub(super) fn serve_storage(&mut self, core: CoreId, requests: Vec<StorageRequest>) -> bool {
        if requests.is_empty() {
            return false;
        }
        let disks = self.disks.as_mut().expect("a core without disks asks for nothing");
        let answers = disks.submit(&self.cores[core.index()], requests);
        let answered = !answers.is_empty();
        self.tell_storage(core, answers);
        answered
    }

    /// The disks do one thing, if they are not held.
    pub(super) fn step_disks(&mut self) -> bool {
        self.disks.as_ref().is_some_and(|disks| !disks.held) && self.step_held_disks()
    }

    /// The disks do one thing, held or not.
    fn step_held_disks(&mut self) -> bool {
        let Some((log, answer)) = self.disks.as_mut().and_then(Disks::step) else { return false };
        self.answer_storage(core_at(usize::from(log.0) % self.cores.len()), vec![answer]);
        true
    }

    fn restart(&mut self, cores: u16, crash: Crash, down: Duration) {
        let ended = self.now().wall;
        self.move_to(self.now().monotonic.after(down));
        for index in 0..self.sockets.len() {
            self.lose_socket(index);
        }
        let logs = self.config.logs();
        let config = Arc::new(Config { cores, logs, ..Config::clone(&self.config) });
        let disks = self.disks.as_mut().expect("a node that can be restarted");
        disks.checkpoints.retain(|_, (_, whole)| *whole);
        disks.held = false;
        disks.disks.iter_mut().for_each(|disk| disk.crash(crash));
        self.starts += 1;
        let opened: Vec<_> = (0..cores).map(|core| disks.open(CoreId(core), cores)).collect();
        let (now, starts) = (self.now(), self.starts);
        let cores_of = opened.into_iter().zip(0..).map(|(logs, core)| {
            let incarnation = 1_700_000_000_000 + starts;
            Core::open(Arc::clone(&config), CoreId(core), incarnation, starts, logs, ended, now)
        });
        self.cores = cores_of.collect();
        self.forget_mail(cores);
        self.outputs = (0..cores).map(|_| Outputs::new(cores)).collect();
        self.config = config;
        (0..usize::from(cores)).for_each(|index| self.turn(core_at(index)));
    }
}

impl Node {
    /// A node whose logs are on disks.
    pub fn on_disks(config: Config, seed: u64, faults: Faults) -> Node {
        config.check().expect("a configuration that can be served");
        let config = Arc::new(config);
        let disks = Disks::new(&config, seed, faults);
        let cores = config.cores;
        let make = |core: CoreId, now: Now| {
            let logs = disks.make(core, cores);
            Core::open(Arc::clone(&config), core, 1_700_000_000_000, seed, logs, now.wall, now)
        };
        let mut world = World::of(&config, make);
        world.disks = Some(disks);
        (0..usize::from(cores)).for_each(|index| world.turn(core_at(index)));
        world.run();
        Node::of_world(world)
    }

    /// The disks do nothing from now on, or go on.
    pub fn hold_disks(&self, held: bool) {
        let mut world = self.world.borrow_mut();
        world.disks.as_mut().expect("a node with disks").held = held;
        world.run();
    }

    /// Held disks do one thing; false if there is nothing to do.
    pub fn step_disks(&self) -> bool {
        let mut world = self.world.borrow_mut();
        let stepped = world.step_held_disks();
        world.run();
        stepped
    }

    /// From now on these things go wrong with the disks.
    pub fn set_faults(&self, faults: Faults) {
        let mut world = self.world.borrow_mut();
        let disks = world.disks.as_mut().expect("a node with disks");
        disks.disks.iter_mut().for_each(|disk| disk.set_faults(faults));
    }

    /// The file system falls below the watermark, or (true) is above it again, and a log hears of it.
    pub fn tell_space(&self, log: u16, available: bool) {
        let mut world = self.world.borrow_mut();
        let core = core_at(usize::from(log) % world.cores.len());
        world.answer_storage(core, vec![StorageAnswer::Space(LogId(log), available)]);
        world.run();
    }

    /// Ends without notice, and starts from what the disks have, with so many cores. Disks that were held go on.
    pub fn restart(&self, cores: u16, crash: Crash) {
        self.restart_after(Duration::ZERO, cores, crash);
    }

    /// The same, after a time in which there was no process.
    pub fn restart_after(&self, down: Duration, cores: u16, crash: Crash) {
        let mut world = self.world.borrow_mut();
        world.restart(cores, crash, down);
        world.run();
    }
}
