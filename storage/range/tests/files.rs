//! A node on a real directory: made, written to, left without notice, and started again with other cores.

mod support;

use std::path::Path;

use range::catalog::{CatalogEntry, Service, core_of, key_hash};
use range::directory::{Directory, Expected, open};
use range::files::{
    checkpoint_directory, read_checkpoint, remove_checkpoint, retain_checkpoints, write_checkpoint,
};
use range::{Config, Outputs, Priority, Recovered, Replica, Request, Ticket, Wall};
use support::machine::{Op, Queues};
use wal::{ClusterId, Log, LogIdentity, Mono, NodeId, RecoveryOptions, SegmentInput, files};

const NEW: Expected = Expected { cluster: None, bootstrap: Some((ClusterId(0xC1), NodeId(0x42))) };

struct Host {
    directory: Directory,
    path: std::path::PathBuf,
    log: Log,
    replica: Replica<Queues>,
    out: Outputs<Queues>,
    now: u64,
}

/// What a start does for one log with one range.
fn start(data: &Path, logs: u16, service: Service, hash: u16) -> (Host, CatalogEntry) {
    let directory = open(data, &NEW).expect("it is ours");
    let mut id = 0;
    let random = || {
        id += 1;
        id
    };
    let catalog = directory.catalog(logs, random).expect("a catalog");
    let entry = catalog.find(service, &hash.to_be_bytes()).expect("all keys are here").clone();
    let identity =
        LogIdentity { cluster: directory.identity.cluster, node: directory.identity.node, log: entry.log };
    let log_config = wal::Config { segment_bytes: 64 << 10, linger_ns_max: 0, ..wal::Config::new(identity) };
    let config = Config { chunk_bytes: 256, ..Config::new(identity.cluster, 1) };

    let path = files::log_directory(data, entry.log).unwrap();
    let segments: Vec<_> = files::list_segments(&path)
        .unwrap()
        .into_iter()
        .map(|segment| (segment, files::map_segment(&path, segment).unwrap()))
        .collect();
    let inputs: Vec<_> =
        segments.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect();
    let recovery = wal::recover(&identity, &inputs, &RecoveryOptions::default()).expect("whole");
    files::settle(&path, &recovery.unproven()).unwrap();
    let mut recovered = Recovered::collect(&recovery).expect("whole");
    let mut log = Log::resume(log_config, recovery.resume(), segments.clone());

    let machine = Queues::new(entry.range);
    let checkpoints = checkpoint_directory(data).unwrap();
    let replica = match recovered.take(entry.range).expect("whole") {
        None => Replica::new(config, entry.range, entry.replica, &entry.voters, machine),
        Some(records) => {
            let number = records.checkpoint();
            let file = number.map(|number| read_checkpoint(&checkpoints, entry.range, number).unwrap());
            let kept: Vec<_> = number.map(|number| (entry.range, number)).into_iter().collect();
            retain_checkpoints(&checkpoints, &kept).unwrap();
            Replica::open(config, entry.range, records, file.as_deref(), machine, &mut log).expect("whole")
        }
    };
    log.start_reclaiming();
    (Host { directory, path, log, replica, out: Outputs::default(), now: 1 }, entry)
}

impl Host {
    fn turn(&mut self) {
        self.now += 1_000_000;
        self.replica.turn(Mono(self.now), Wall(self.now), &mut self.log, &mut self.out);
        let mut requests = Vec::new();
        self.log.flush(Mono(self.now), &mut requests);
        for request in requests {
            match request {
                wal::Request::Flush(commit) => {
                    for write in &commit.writes {
                        let (file, _) = files::open_segment(&self.path, write.segment, false).unwrap();
                        files::write_and_sync(&file, write.offset, self.log.bytes_to_write(write)).unwrap();
                    }
                    self.log.on_flushed(Mono(self.now), commit.number, Ok(()));
                }
                wal::Request::AllocateSegment { segment, bytes, recycle } => {
                    files::allocate_segment(&self.path, segment, bytes, recycle).unwrap();
                    self.log.on_segment_ready(
                        segment,
                        u64::from(segment.0) + self.directory.identity.incarnation,
                    );
                }
                wal::Request::MapSegment(segment) => {
                    self.log.on_mapped(segment, files::map_segment(&self.path, segment).unwrap());
                }
                wal::Request::RemoveSegment(segment) => files::remove_segment(&self.path, segment).unwrap(),
                wal::Request::Prefetch(pages) => self.log.on_prefetched(Mono(self.now), pages),
            }
        }
        let checkpoints = checkpoint_directory(&self.directory.path).unwrap();
        for request in std::mem::take(&mut self.out.requests) {
            match request {
                Request::WriteCheckpoint { range, number, offset, bytes, last } => {
                    write_checkpoint(&checkpoints, (range, number), offset, &bytes, last).unwrap();
                    self.replica.on_checkpoint_written(number, true, &mut self.out);
                }
                Request::RemoveCheckpoint { range, number } => {
                    remove_checkpoint(&checkpoints, range, number).unwrap();
                }
            }
        }
    }

    fn settle(&mut self) {
        while self.replica.is_dirty() || self.replica.waits_for().is_some() {
            self.turn();
        }
    }
}

/// Goal: what was applied is there after each start, checkpoint or not. Method: real files, five starts, with
/// another number of logs said each time; the range stays where it is.
#[test]
fn a_node_starts_from_its_files() {
    let data = tempfile::tempdir().unwrap();
    let hash = key_hash("default", &["sensor-1"]);
    let mut expected: Option<Queues> = None;
    let mut first: Option<CatalogEntry> = None;
    for life in 1..=5_u16 {
        let (mut host, entry) = start(data.path(), 1 + life, Service::Inbox, hash);
        assert_eq!(host.directory.identity.incarnation, u64::from(life));
        assert_eq!(first.get_or_insert_with(|| entry.clone()), &entry, "a range stays in its log");
        assert!(core_of(entry.log, 1) == 0 && core_of(entry.log, 8) == entry.log.0);
        if let Some(expected) = &expected {
            assert_eq!(host.replica.machine(), expected, "what was applied is there");
        }
        // A new log has no segment before its first flush.
        host.turn();
        host.settle();
        for at in 0..60_u16 {
            let body = Op::Enqueue(vec![at % 7, 10 + at % 3]).encode();
            host.replica.propose(Priority::Ordinary, Ticket(0), &body, &[1; 500]).unwrap();
            host.turn();
            if at == 30 && life % 2 == 0 {
                host.replica.start_checkpoint();
            }
        }
        host.settle();
        for id in host.replica.machine().queue(10) {
            assert_eq!(&host.replica.read(&host.log, id).unwrap()[..], [1; 500]);
        }
        let files = std::fs::read_dir(data.path().join("checkpoints")).unwrap().count();
        assert_eq!(files, usize::from(life >= 2), "one checkpoint at a time");
        expected = Some(host.replica.machine().clone());
    }
    assert_eq!(expected.unwrap().count, 300);
}
