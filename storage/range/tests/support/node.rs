//! One node: a log, a disk, and one replica; what a host does, in small.

use std::collections::BTreeMap;

use range::format::entry::EntryHeader;
use range::format::state::StateRecord;
use range::format::{KIND_ENTRY, KIND_STATE};
use range::{Config, Outputs, RangeId, Recovered, Replica, ReplicaId, Wall};
use wal::log::reclaim::ReclaimBudget;
use wal::{ClusterId, Log, LogId, LogIdentity, Mono, NodeId, RecoveryOptions, SegmentBytes};

use super::Random;
use super::disk::Disk;
use super::machine::Queues;

pub const CLUSTER: ClusterId = ClusterId(0xC1);
pub const RANGE: RangeId = RangeId(0xA1);

pub struct Node {
    pub id: ReplicaId,
    voters: Vec<ReplicaId>,
    pub log: Log,
    pub disk: Disk,
    pub replica: Replica<Queues>,
    pub out: Outputs<Queues>,
    pub now: u64,
    pub moved: u64,
    pub restarts: u64,
    salt: u64,
    config: Config,
    pub pieces: Vec<range::Request>,
}

pub fn wal_config(node: u64) -> wal::Config {
    let identity = LogIdentity { cluster: CLUSTER, node: NodeId(node), log: LogId(0) };
    wal::Config {
        segment_bytes: 32 << 10,
        record_bytes_max: 16 << 10,
        linger_ns_max: 0,
        ..wal::Config::new(identity)
    }
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
    pub fn new(id: u64, voters: &[u64], config: Config) -> Node {
        let voters: Vec<ReplicaId> = voters.iter().map(|voter| ReplicaId(*voter)).collect();
        let id = ReplicaId(id);
        let mut node = Node {
            id,
            log: Log::new(wal_config(id.0)),
            disk: Disk::default(),
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
        for request in requests {
            self.salt += 1;
            self.disk.on_request(&mut self.log, request, self.salt);
        }
    }

    /// One commit of those in flight reaches the disk.
    pub fn complete(&mut self, at: usize) {
        let number = self.disk.complete(at);
        self.log.on_flushed(Mono(self.now), number, Ok(()));
    }

    /// The pieces of checkpoints are written.
    pub fn write_pieces(&mut self, torn: bool) {
        for piece in std::mem::take(&mut self.pieces) {
            if let Some((_, number, whole)) = self.disk.on_range_request(piece, torn) {
                self.replica.on_checkpoint_written(number, whole, &mut self.out);
            }
        }
        self.pieces.append(&mut self.out.requests);
    }

    /// Turns and completes until the disk and the replica want nothing more.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            self.turn();
            while self.disk.flushes() > 0 {
                self.complete(0);
            }
            self.write_pieces(false);
            if !self.replica.is_dirty() && self.replica.waits_for().is_none() && self.pieces.is_empty() {
                return;
            }
        }
        panic!("a replica that nobody talks to comes to rest");
    }

    /// Ends without notice, and starts from what the disk has.
    pub fn crash(&mut self, random: &mut Random) {
        self.disk.crash(random);
        self.restarts += 1;
        self.pieces.clear();
        self.out = Outputs::default();
        let wal_config = wal_config(self.id.0);
        let inputs = self.disk.inputs();
        let recovery = wal::recover(&wal_config.identity, &inputs, &RecoveryOptions::default());
        let recovery = recovery.expect("a crash damages nothing that was acknowledged");
        check_floors(&recovery);
        let mut recovered = Recovered::collect(&recovery).expect("whole records");
        let kept: Vec<_> = recovery.segments_kept().collect();
        let bytes =
            |segment| (segment, SegmentBytes::from_memory(self.disk.segments[&segment].clone()).into());
        let segments = kept.into_iter().map(bytes).collect();
        self.log = Log::resume(wal_config, recovery.resume(), segments);
        let machine = Queues::new(RANGE);
        self.replica = match recovered.take(RANGE) {
            None => Replica::new(self.config, RANGE, self.id, &self.voters, machine),
            Some(records) => {
                let file =
                    records.checkpoint().map(|number| &self.disk.checkpoints[&(RANGE.0, number)].0[..]);
                let opened = Replica::open(self.config, RANGE, records, file, machine, &mut self.log);
                opened.expect("a replica opens from what is durable")
            }
        };
        self.log.start_reclaiming();
        self.flush();
    }
}
