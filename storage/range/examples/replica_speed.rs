//! What a replica costs: proposals per second through one lone voter with its log in memory, and the time a
//! start takes over a million queued messages.
//!
//! `cargo run --release -p range --example replica_speed`

#![expect(clippy::print_stdout, reason = "a program for people")]
#![expect(clippy::disallowed_methods, reason = "it measures")]

#[path = "../tests/support/machine.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod machine;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use machine::{Op, Queues};
use range::{Config, Outputs, Priority, RangeId, Recovered, Replica, ReplicaId, Request, Ticket, Wall};
use wal::{
    ClusterId, Log, LogId, LogIdentity, Mono, NodeId, RecoveryOptions, SegmentId, SegmentInput, files,
};

const CLUSTER: ClusterId = ClusterId(1);
const RANGE: RangeId = RangeId(2);
const PAYLOAD_BYTES: usize = 200;
const MESSAGES: u64 = 1_000_000;

fn main() {
    for batch in [1, 4, 16, 64, 256] {
        let rates: Vec<f64> = (0..3).map(|_| propose(batch)).collect();
        let best = rates.iter().copied().fold(0.0, f64::max);
        println!("batch {batch:3}: {:6.0} k proposals/s, {:5.2} us each", best / 1e3, 1e6 / best);
    }
    idle();
    for batch in [1, 16] {
        for checkpoint_at in [None, Some(MESSAGES * 9 / 10)] {
            restart(batch, checkpoint_at);
        }
    }
}

fn log_config() -> wal::Config {
    let mut config = wal::Config::new(LogIdentity { cluster: CLUSTER, node: NodeId(3), log: LogId(0) });
    config.linger_ns_max = 0;
    config
}

fn replica_config() -> Config {
    Config { checkpoint_log_bytes: u64::MAX, ..Config::new(CLUSTER, 1) }
}

/// A host; with a directory it writes files, without one the disk is nothing and instant.
struct Host<'a> {
    log: Log,
    replica: Replica<Queues>,
    out: Outputs<Queues>,
    now: u64,
    directory: Option<&'a Path>,
    open: Option<(SegmentId, File)>,
    checkpoint: Vec<u8>,
}

impl<'a> Host<'a> {
    fn new(directory: Option<&'a Path>) -> Host<'a> {
        let id = ReplicaId(1);
        let mut host = Host {
            log: Log::new(log_config()),
            replica: Replica::new(replica_config(), RANGE, id, &[id], Queues::new(RANGE)),
            out: Outputs::default(),
            now: 1,
            directory,
            open: None,
            checkpoint: Vec::new(),
        };
        host.flush();
        host
    }

    fn turn(&mut self) {
        self.now += 1;
        self.replica.turn(Mono(self.now), Wall(self.now), &mut self.log, &mut self.out);
    }

    fn flush(&mut self) {
        let mut requests = Vec::new();
        self.log.flush(Mono(self.now), &mut requests);
        for request in requests {
            match request {
                wal::Request::Flush(commit) => {
                    for write in &commit.writes {
                        self.write(write);
                    }
                    self.log.on_flushed(Mono(self.now), commit.number, Ok(()));
                }
                wal::Request::AllocateSegment { segment, bytes, recycle } => {
                    if let Some(directory) = self.directory {
                        files::allocate_segment(directory, segment, bytes, recycle).expect("space");
                    }
                    self.log.on_segment_ready(segment, u64::from(segment.0));
                }
                wal::Request::MapSegment(segment) => {
                    let bytes = match self.directory {
                        Some(directory) => files::map_segment(directory, segment).expect("it was written"),
                        None => Arc::new(wal::SegmentBytes::from_memory(vec![0; 64 << 20])),
                    };
                    self.log.on_mapped(segment, bytes);
                }
                wal::Request::RemoveSegment(_) => {}
                wal::Request::Prefetch(pages) => self.log.on_prefetched(Mono(self.now), pages),
            }
        }
    }

    fn write(&mut self, write: &wal::Write) {
        let Some(directory) = self.directory else { return };
        if self.open.as_ref().is_none_or(|(segment, _)| *segment != write.segment) {
            let (file, _) = files::open_segment(directory, write.segment, false).expect("it was allocated");
            self.open = Some((write.segment, file));
        }
        let (_, file) = self.open.as_ref().expect("just opened");
        files::write_and_sync(file, write.offset, self.log.bytes_to_write(write)).expect("space");
    }

    /// Takes a whole checkpoint.
    fn take_checkpoint(&mut self) {
        self.replica.start_checkpoint();
        loop {
            self.turn();
            self.flush();
            let requests = std::mem::take(&mut self.out.requests);
            if requests.is_empty() && self.replica.waits_for().is_none() && !self.replica.is_dirty() {
                return;
            }
            for request in requests {
                if let Request::WriteCheckpoint { number, bytes, .. } = request {
                    self.checkpoint.extend_from_slice(&bytes);
                    self.replica.on_checkpoint_written(number, true, &mut self.out);
                }
            }
        }
    }
}

/// Proposals per second: propose, turn, commit, apply. Each message is taken off its queue 1 000 later.
fn propose(batch: u64) -> f64 {
    let mut host = Host::new(None);
    let body = Op::Enqueue(vec![1]).encode();
    let payload = [7; PAYLOAD_BYTES];
    let count = if batch == 1 { 200_000 } else { 600_000 };
    host.turn();
    let start = Instant::now();
    let mut proposed = 0;
    while proposed < count {
        for _ in 0..batch {
            let ticket = Ticket(proposed);
            host.replica.propose(Priority::Ordinary, ticket, &body, &payload).expect("it leads");
            proposed += 1;
        }
        host.turn();
        host.flush();
        host.turn();
        host.out.decided.clear();
        host.out.effects.clear();
    }
    assert_eq!(host.replica.machine().count, proposed, "all are applied");
    proposed as f64 / start.elapsed().as_secs_f64()
}

/// Memory and time of many groups that do nothing.
fn idle() {
    const GROUPS: u128 = 10_000;
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").expect("procfs");
        status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
    };
    let mut host = Host::new(None);
    let before = resident();
    let id = ReplicaId(1);
    let mut replicas: Vec<_> = (0..GROUPS)
        .map(|range| {
            let range = RangeId(10 + range);
            Replica::new(replica_config(), range, id, &[id], Queues::new(range))
        })
        .collect();
    for replica in &mut replicas {
        replica.turn(Mono(1), Wall(1), &mut host.log, &mut host.out);
    }
    host.flush();
    for replica in &mut replicas {
        replica.turn(Mono(2), Wall(2), &mut host.log, &mut host.out);
        assert!(replica.waits_for().is_none() && !replica.is_dirty() && !replica.needs_tick(), "it rests");
    }
    let bytes = (resident() - before) / replicas.len();
    println!("{GROUPS} idle groups: {bytes} B each, with their first records; none of them ticks");
}

/// A start over a million messages in 100 queues.
fn restart(batch: u64, checkpoint_at: Option<u64>) {
    let data = tempfile::tempdir().expect("space for 600 MB");
    let directory = data.path();
    let mut host = Host::new(Some(directory));
    let payload = [7; PAYLOAD_BYTES];
    let mut proposed = 0;
    host.turn();
    while proposed < MESSAGES {
        for _ in 0..batch {
            let body = Op::Enqueue(vec![u16::try_from(proposed % 100).expect("below 100")]).encode();
            host.replica.propose(Priority::Ordinary, Ticket(0), &body, &payload).expect("it leads");
            proposed += 1;
            if Some(proposed) == checkpoint_at {
                host.turn();
                host.flush();
                host.take_checkpoint();
            }
        }
        host.turn();
        if proposed % 4096 == 0 {
            host.flush();
            host.turn();
            host.out.decided.clear();
            host.out.effects.clear();
        }
    }
    while host.replica.waits_for().is_some() || host.replica.is_dirty() {
        host.flush();
        host.turn();
    }
    let machine = host.replica.machine().clone();
    let checkpoint = std::mem::take(&mut host.checkpoint);
    drop(host);
    measure_start(directory, batch, &checkpoint, &machine);
}

fn measure_start(directory: &Path, batch: u64, checkpoint: &[u8], expected: &Queues) {
    let start = Instant::now();
    let segments: Vec<_> = files::list_segments(directory)
        .expect("it is there")
        .into_iter()
        .map(|segment| (segment, files::map_segment(directory, segment).expect("it is there")))
        .collect();
    let inputs: Vec<_> =
        segments.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect();
    let recovery = wal::recover(&log_config().identity, &inputs, &RecoveryOptions::default()).expect("whole");
    let scanned = start.elapsed();
    let records =
        Recovered::collect(&recovery).expect("whole").take(RANGE).expect("whole").expect("it was there");
    let mut log = Log::resume(log_config(), recovery.resume(), segments.clone());
    let collected = start.elapsed();
    let file = records.checkpoint().map(|_| checkpoint);
    let replica = Replica::open(replica_config(), RANGE, records, file, Queues::new(RANGE), &mut log);
    let opened = start.elapsed();
    assert_eq!(replica.expect("whole").machine(), expected, "all is there");
    println!(
        "start over {MESSAGES} messages, {batch:2} an entry, checkpoint of {:5} KB: {:4} ms = log scanned {} + records \
         sorted {} + replica opened {}",
        checkpoint.len() / 1000,
        opened.as_millis(),
        scanned.as_millis(),
        (collected - scanned).as_millis(),
        (opened - collected).as_millis(),
    );
}
