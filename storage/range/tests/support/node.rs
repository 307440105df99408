//! One node: a log, a simulated disk, and one replica; what a host does, in small.

use std::collections::BTreeMap;

use range::format::entry::EntryHeader;
use range::format::state::StateRecord;
use range::format::{KIND_ENTRY, KIND_STATE};
use range::{Config, Outputs, RangeId, Recovered, Replica, ReplicaId, Request, Wall};
use wal::log::reclaim::ReclaimBudget;
use wal::simulated_disk::{Crash, Faults, Random, SimulatedDisk};
use wal::{ClusterId, Log, LogId, LogIdentity, Mono, NodeId, RecoveryOptions, SegmentInput};

use super::machine::Queues;

pub const CLUSTER: ClusterId = ClusterId(0xC1);
pub const RANGE: RangeId = RangeId(0xA1);

pub struct Node {
    pub id: ReplicaId,
    voters: Vec<ReplicaId>,
    pub log: Log,
    pub disk: SimulatedDisk,
    /// Range and number → content; true when it stands under its name.
    pub checkpoints: BTreeMap<(u128, u64), (Vec<u8>, bool)>,
    faults: Faults,
    pub replica: Replica<Queues>,
    pub out: Outputs<Queues>,
    pub now: u64,
    pub moved: u64,
    pub restarts: u64,
    salt: u64,
    config: Config,
    pub pieces: Vec<Request>,
}

pub fn wal_config(node: u64) -> wal::Config {
    let identity = LogIdentity { cluster: CLUSTER, node: NodeId(node), log: LogId(0) };
    wal::Config {
        segment_bytes: 32 << 10,
        record_bytes_max: 1 << 20,
        linger_ns_max: 0,
        ..wal::Config::new(identity)
    }
}

/// A disk with room for so many segments.
pub fn faults(segments: u64) -> Faults {
    let capacity_bytes = segments * u64::from(wal_config(0).segment_bytes);
    Faults { flush_fails_once_in: 0, segment_fails_once_in: 0, capacity_bytes, lie: None }
}

pub fn config(seed: u64) -> Config {
    Config {
        record_bytes_max: 8 << 10,
        entry_bytes: 2 << 10,
        recent_bytes_max: 1 << 10,
        checkpoint_log_bytes: u64::MAX,
        chunk_bytes: 64,
        ..Config::new(CLUSTER, seed)
    }
}

/// A state record that lets the log begin behind an entry has that entry's sequence, while its record is there.
fn check_floors(recovery: &wal::Recovery<'_>) {
    let mut sequences = BTreeMap::new();
    for record in recovery.records().filter(|record| record.header.kind == KIND_ENTRY) {
        let (entry, _) = EntryHeader::decode(record.metadata).expect("whole records");
        sequences.insert((entry.index, entry.term), entry.sequence);
    }
    for record in recovery.records().filter(|record| record.header.kind == KIND_STATE) {
        let truncated = StateRecord::decode(record.metadata).expect("whole records").truncated;
        if let Some(sequence) = sequences.get(&(truncated.index, truncated.term)) {
            assert_eq!(truncated.sequence, *sequence, "the floor is the truncated entry's sequence");
        }
    }
}

impl Node {
    pub fn new(id: u64, voters: &[u64], config: Config, faults: Faults) -> Node {
        let voters: Vec<ReplicaId> = voters.iter().map(|voter| ReplicaId(*voter)).collect();
        let id = ReplicaId(id);
        let mut node = Node {
            id,
            log: Log::new(wal_config(id.0)),
            disk: SimulatedDisk::new(config.seed ^ id.0, faults),
            checkpoints: BTreeMap::new(),
            faults,
            replica: Replica::new(config, RANGE, id, &voters, Queues::new(RANGE)),
            voters,
            out: Outputs::default(),
            now: 0,
            moved: 0,
            restarts: 0,
            salt: id.0 << 32,
            config,
            pieces: Vec::new(),
        };
        node.flush();
        node
    }

    /// The end of a turn.
    pub fn turn(&mut self) {
        self.now += 1_000_000;
        let wall = Wall(1_700_000_000_000 + self.now / 1_000_000);
        self.replica.turn(Mono(self.now), wall, &mut self.log, &mut self.out);
        self.reclaim();
        self.flush();
        self.pieces.append(&mut self.out.requests);
    }

    fn reclaim(&mut self) {
        let mut moved = Vec::new();
        let replica = &self.replica;
        let budget = ReclaimBudget { copy_bytes: 4 << 10, scan_bytes: 16 << 10 };
        // Without room now, the next turn goes on.
        let _ = self.log.reclaim(
            Mono(self.now),
            budget,
            |candidate| {
                assert_eq!(candidate.header.range, RANGE);
                replica.is_live(candidate.position, &candidate.header, candidate.metadata)
            },
            &mut moved,
        );
        for (from, to) in moved {
            self.moved += 1;
            self.replica.on_moved(&self.log, from, &to);
        }
    }

    fn flush(&mut self) {
        let mut requests = Vec::new();
        self.log.flush(Mono(self.now), &mut requests);
        requests.iter().for_each(|request| self.disk.submit(request, &self.log));
    }

    /// The disk does one thing of what it is to do.
    pub fn disk_step(&mut self) {
        if let Some(completion) = self.disk.step() {
            self.salt += 1;
            completion.tell(Mono(self.now), self.salt, &mut self.log);
        }
    }

    /// Everything the disk has under way is done.
    pub fn drain_disk(&mut self) {
        while !self.disk.is_idle() {
            self.disk_step();
        }
    }

    /// What the replica asks of a thread off the cores is done; with `fails` every piece fails.
    pub fn write_pieces(&mut self, fails: bool) {
        for piece in std::mem::take(&mut self.pieces) {
            match piece {
                Request::WriteCheckpoint { range, number, offset, bytes, last } => {
                    let (file, whole) = self.checkpoints.entry((range.0, number)).or_default();
                    file.truncate(usize::try_from(offset).expect("in memory"));
                    file.extend_from_slice(&bytes);
                    *whole = last && !fails;
                    self.replica.on_checkpoint_written(number, !fails, &mut self.out);
                }
                Request::RemoveCheckpoint { range, number } => {
                    self.checkpoints.remove(&(range.0, number));
                }
            }
        }
        self.pieces.append(&mut self.out.requests);
    }

    /// Lets the disk and the replica do what they want to do, on a disk that has room and does not fail.
    pub fn settle(&mut self) {
        let faults = Faults {
            flush_fails_once_in: 0,
            segment_fails_once_in: 0,
            capacity_bytes: u64::MAX,
            ..self.faults
        };
        self.disk.set_faults(faults);
        for _ in 0..200 {
            // The log asks a disk that was full again after a second.
            self.now += 100_000_000;
            self.turn();
            self.drain_disk();
            self.write_pieces(false);
            if !self.replica.is_dirty() && self.replica.waits_for().is_none() && self.pieces.is_empty() {
                self.disk.set_faults(self.faults);
                return;
            }
        }
        panic!("a replica that nobody talks to comes to rest");
    }

    /// Ends without notice, and starts from what the disk has.
    pub fn crash(&mut self, random: &mut Random) {
        self.restarts += 1;
        self.pieces.clear();
        self.out = Outputs::default();
        self.checkpoints.retain(|_, (_, whole)| *whole);
        self.log = Log::new(wal_config(self.id.0));
        self.disk.set_faults(self.faults);
        self.disk.crash(if random.once_in(3) { Crash::Kill } else { Crash::Power });
        let mut recovered = loop {
            let interrupted = random.once_in(5);
            if let Some(recovered) = self.start(interrupted) {
                break recovered;
            }
        };
        let machine = Queues::new(RANGE);
        self.replica = match recovered.take(RANGE).expect("nothing is quarantined") {
            None => Replica::new(self.config, RANGE, self.id, &self.voters, machine),
            Some(records) => {
                let file = records.checkpoint().map(|number| &self.checkpoints[&(RANGE.0, number)].0[..]);
                let opened = Replica::open(self.config, RANGE, records, file, machine, &mut self.log);
                opened.expect("a replica opens from what is durable")
            }
        };
        self.log.start_reclaiming();
        self.flush();
    }

    /// The log from what the disk has; none if the power failed in between.
    fn start(&mut self, interrupted: bool) -> Option<Recovered> {
        let wal_config = wal_config(self.id.0);
        let files = self.disk.segments();
        let input = |(segment, bytes)| SegmentInput { segment, bytes };
        let inputs: Vec<_> = files.iter().map(|(segment, bytes)| input((*segment, &bytes[..]))).collect();
        let recovery = wal::recover(&wal_config.identity, &inputs, &RecoveryOptions::default());
        let recovery = recovery.expect("a crash damages nothing that was acknowledged");
        self.disk.settle(&recovery.unproven(), interrupted);
        if interrupted {
            return None;
        }
        check_floors(&recovery);
        let recovered = Recovered::collect(&recovery).expect("whole records");
        self.log = Log::resume(wal_config, recovery.resume(), self.disk.map_all());
        Some(recovered)
    }
}
