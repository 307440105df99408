//! Several ranges in one log: one commit serves all of them, reclaiming moves the records of each, and a start
//! gives each its own back.

mod support;

use std::collections::BTreeMap;

use range::{Decision, Outputs, Priority, RangeId, Recovered, Replica, ReplicaId, Request, Ticket, Wall};
use support::machine::{Op, Queues};
use support::node::{config, faults, wal_config};
use support::{is_usual_run, say, seeds};
use wal::log::reclaim::ReclaimBudget;
use wal::simulated_disk::{Crash, Random, SimulatedDisk};
use wal::{Log, Mono, RecoveryOptions, SegmentInput};

const RANGES: usize = 4;

struct Core {
    log: Log,
    disk: SimulatedDisk,
    replicas: Vec<Replica<Queues>>,
    out: Outputs<Queues>,
    /// By range: commands that were reported applied, and messages proposed.
    decided: Vec<u64>,
    proposed: Vec<u64>,
    checkpoints: BTreeMap<(RangeId, u64), Vec<u8>>,
    random: Random,
    now: u64,
    salt: u64,
    moved: Vec<u64>,
}

fn range_id(at: usize) -> RangeId {
    RangeId(100 + at as u128)
}

fn at_of(range: RangeId) -> usize {
    usize::try_from(range.0 - 100).unwrap()
}

fn new_replica(at: usize) -> Replica<Queues> {
    let id = ReplicaId(1);
    Replica::new(config(1), range_id(at), id, &[id], Queues::new(range_id(at)))
}

impl Core {
    fn new(seed: u64) -> Core {
        Core {
            log: Log::new(wal_config(1)),
            disk: SimulatedDisk::new(seed, faults(100)),
            replicas: (0..RANGES).map(new_replica).collect(),
            out: Outputs::default(),
            decided: vec![0; RANGES],
            proposed: vec![0; RANGES],
            checkpoints: BTreeMap::new(),
            random: Random::new(seed),
            now: 0,
            salt: 0,
            moved: vec![0; RANGES],
        }
    }

    fn step(&mut self) {
        let at = self.random.index(RANGES);
        match self.random.index(100) {
            0..50 => self.propose(at),
            50..80 => (0..10).for_each(|_| self.disk_step()),
            80..82 => self.replicas[at].start_checkpoint(),
            82 => self.crash(),
            _ => {}
        }
        self.turn();
    }

    /// A message that names its range and number, or the removal of an old one.
    fn propose(&mut self, at: usize) {
        let queue = self.replicas[at].machine().queue(0);
        let replica = &mut self.replicas[at];
        if queue.len() > 20 {
            let id = queue[self.random.index(queue.len())];
            let ack = Op::Ack(0, id.index, id.ordinal).encode();
            replica.propose(Priority::Control, Ticket(at as u64), &ack, b"").expect("it leads");
            return;
        }
        let number = self.proposed[at] + 1;
        let payload = [at as u64, number].map(u64::to_le_bytes).concat().repeat(1 + self.random.index(30));
        let body = Op::Enqueue(vec![0]).encode();
        if replica.propose(Priority::Ordinary, Ticket(at as u64), &body, &payload).is_ok() {
            self.proposed[at] = number;
        }
    }

    fn turn(&mut self) {
        self.now += 1_000_000;
        let now = Mono(self.now);
        for replica in &mut self.replicas {
            replica.turn(now, Wall(self.now), &mut self.log, &mut self.out);
        }
        for (ticket, decision) in self.out.decided.drain(..) {
            let at = usize::try_from(ticket.0).unwrap();
            let Decision::Applied { id, outcome } = decision else { panic!("nobody else leads") };
            assert_eq!(id.origin, range_id(at));
            self.decided[at] = outcome;
        }
        self.out.effects.clear();
        self.reclaim(now);
        let mut requests = Vec::new();
        self.log.flush(now, &mut requests);
        requests.iter().for_each(|request| self.disk.submit(request, &self.log));
        self.write_checkpoints();
    }

    fn reclaim(&mut self, now: Mono) {
        let mut moved = Vec::new();
        let replicas = &self.replicas;
        let budget = ReclaimBudget { copy_bytes: 4 << 10, scan_bytes: 16 << 10 };
        let _ = self.log.reclaim(
            now,
            budget,
            |candidate| {
                let owner = &replicas[at_of(candidate.header.range)];
                owner.is_live(candidate.position, &candidate.header, candidate.metadata)
            },
            &mut moved,
        );
        for (from, to) in moved {
            let at = at_of(self.log.read(to.position).expect("just appended").header().range);
            self.replicas[at].on_moved(&self.log, from, &to);
            self.moved[at] += 1;
        }
    }

    fn write_checkpoints(&mut self) {
        for request in std::mem::take(&mut self.out.requests) {
            match request {
                Request::WriteCheckpoint { range, number, offset, bytes, .. } => {
                    let file = self.checkpoints.entry((range, number)).or_default();
                    file.truncate(usize::try_from(offset).unwrap());
                    file.extend_from_slice(&bytes);
                    self.replicas[at_of(range)].on_checkpoint_written(number, true, &mut self.out);
                }
                Request::RemoveCheckpoint { range, number } => {
                    self.checkpoints.remove(&(range, number)).expect("what is removed was there");
                }
            }
        }
    }

    fn disk_step(&mut self) {
        if let Some(completion) = self.disk.step() {
            self.salt += 1;
            completion.tell(Mono(self.now), self.salt, &mut self.log);
        }
    }

    fn crash(&mut self) {
        self.log = Log::new(wal_config(1));
        self.out = Outputs::default();
        self.disk.crash(if self.random.once_in(3) { Crash::Kill } else { Crash::Power });
        let files = self.disk.segments();
        let input = |(segment, bytes)| SegmentInput { segment, bytes };
        let inputs: Vec<_> = files.iter().map(|(segment, bytes)| input((*segment, &bytes[..]))).collect();
        let recovery =
            wal::recover(&wal_config(1).identity, &inputs, &RecoveryOptions::default()).expect("whole");
        self.disk.settle(&recovery.unproven(), false);
        let mut recovered = Recovered::collect(&recovery).expect("whole records");
        self.log = Log::resume(wal_config(1), recovery.resume(), self.disk.map_all());
        for at in 0..RANGES {
            let Some(records) = recovered.take(range_id(at)).expect("nothing is quarantined") else {
                self.replicas[at] = new_replica(at);
                continue;
            };
            let file = records.checkpoint().map(|number| &self.checkpoints[&(range_id(at), number)][..]);
            let machine = Queues::new(range_id(at));
            let replica = Replica::open(config(1), range_id(at), records, file, machine, &mut self.log);
            self.replicas[at] = replica.expect("a replica opens from what is durable");
        }
        self.log.start_reclaiming();
        self.check();
    }

    /// Each range has its own, all that was reported, and can read it.
    fn check(&mut self) {
        for at in 0..RANGES {
            let replica = &self.replicas[at];
            assert!(replica.machine().count >= self.decided[at], "everything that was acknowledged is there");
            self.decided[at] = replica.machine().count;
            let mut last = 0;
            for id in replica.machine().queue(0) {
                let read = replica.read(&self.log, id).expect("what is referred to can be read");
                let number = |from: usize| u64::from_le_bytes(read[from..from + 8].try_into().unwrap());
                assert_eq!(number(0), at as u64, "of this range");
                assert!(number(8) > last && number(8) <= self.proposed[at], "in order, once, and proposed");
                last = number(8);
            }
        }
    }
}

/// Goal: ranges share a log without touching each other. Method: 60 seeds of 600 steps.
#[test]
fn ranges_share_a_log() {
    let (mut moved, mut checkpoints) = (vec![0; RANGES], 0);
    for seed in seeds("ranges_share_a_log", 60) {
        let mut core = Core::new(seed);
        (0..600).for_each(|_| core.step());
        core.crash();
        moved.iter_mut().zip(&core.moved).for_each(|(all, moved)| *all += moved);
        checkpoints += core.checkpoints.len();
    }
    say(format_args!("{moved:?} records moved, {checkpoints} checkpoints"));
    assert!(!is_usual_run() || moved.iter().all(|moved| *moved > 100) && checkpoints > 50);
}
