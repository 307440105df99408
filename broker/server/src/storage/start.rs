//! From a data directory to the logs of each core: locked, recovered, made durable, replayed. In threads of
//! its own, for what takes longest is reading; before any core runs.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use broker_core::storage::{LogConfig, OpenError, StoredLog};
use broker_core::time::Wall;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use range::catalog::{Catalog, Service, core_of};
use range::directory::{self, Directory, Expected, write_catalog};
use range::files::{checkpoint_directory, read_checkpoint, retain_checkpoints};
use wal::format::SegmentHeader;
use wal::{
    ClusterId, LogId, NodeId, RangeId, RecoveryOptions, SegmentBytes, SegmentId, SegmentInput, files, recover,
};

use super::damage::{Reason, StorageError};
use super::{Place, Stored, alive, snapshot};
use crate::clock::Clock;
use crate::configuration::Wal;
use crate::sys;

/// How often a start that takes long says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A data directory that is being served.
pub(crate) struct Started {
    /// Keeps other processes out.
    pub(crate) directory: Directory,
    /// How many logs there are.
    pub(crate) logs: u16,
    /// What each core begins with.
    pub(crate) cores: Vec<Stored>,
}

/// Opens a data directory for so many cores, and says so.
pub(crate) fn start(data: &Path, wal: &Wal, cores: u16, clock: Clock) -> Result<Started, StorageError> {
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    start_inner(&data, wal, cores, clock).map_err(|reason| StorageError { data, reason: Box::new(reason) })
}

fn start_inner(data: &Path, wal: &Wal, cores: u16, clock: Clock) -> Result<Started, Reason> {
    let begun = clock.monotonic();
    let cluster = ClusterId(random_id().map_err(Reason::System)?);
    let node = NodeId(sys::random().map_err(Reason::System)?);
    let expected = Expected { cluster: None, bootstrap: Some((cluster, node)) };
    let directory = directory::open(data, &expected).map_err(Reason::Directory)?;
    let ended = alive::ended(data, Clock::wall());
    // Of a backup that was under way when the process ended.
    snapshot::remove(data).map_err(Reason::System)?;
    let names = (0..3 * usize::from(cores)).map(|_| random_id()).collect::<io::Result<Vec<_>>>();
    let mut names = names.map_err(Reason::System)?.into_iter();
    let catalog = directory.catalog(cores, || names.next().expect("three services' for each core"));
    let catalog = catalog.map_err(Reason::Directory)?;
    let logs = catalog.entries().iter().map(|entry| entry.log.0 + 1).max().unwrap_or(cores);
    make_logs(data, logs)?;
    let identity = directory.identity;
    let mut config = LogConfig::new(identity.cluster, identity.node, sys::random().map_err(Reason::System)?);
    wal.limit(&mut config);
    let segment_bytes = u64::from(config.wal.segment_bytes);
    let checkpoints = checkpoint_directory(data).map_err(Reason::System)?;
    let (given_up, ranges) = unbounded();
    let reading = Reading {
        data,
        checkpoints: &checkpoints,
        config,
        catalog: &catalog,
        quarantine: wal.quarantine,
        given_up,
        progress: Progress::default(),
    };
    let opened = reading.all(logs)?;
    give_up(data, &mut catalog.clone(), &ranges).map_err(Reason::System)?;
    let kept: Vec<_> = opened.values().flat_map(StoredLog::checkpoints).collect();
    retain_checkpoints(&checkpoints, &kept).map_err(Reason::System)?;
    let took = clock.monotonic().since(begun);
    let mebibytes = reading.progress.read_bytes.load(Ordering::Relaxed) >> 20;
    let incarnation = identity.incarnation;
    tracing::info!(
        "data: {}, {logs} logs, start {incarnation}: {mebibytes} MiB in {took:.1?}",
        data.display()
    );
    let place = Place {
        data: data.to_owned(),
        append: wal.append,
        space_free_bytes: wal.space_free_bytes,
        segment_bytes,
    };
    alive::start(data).map_err(Reason::System)?;
    Ok(Started { logs, cores: deal(opened, cores, ended, &place), directory })
}

/// A range that is damaged, and the one that begins in its place.
struct GivenUp {
    range: RangeId,
    anew: RangeId,
}

/// Says what is missing from now on, and puts empty ranges in its place: before anything is written to them.
fn give_up(data: &Path, catalog: &mut Catalog, ranges: &Receiver<GivenUp>) -> io::Result<()> {
    let mut is_changed = false;
    for GivenUp { range, anew } in ranges.try_iter() {
        let entry = catalog.entries().iter().find(|entry| entry.range == range);
        if let Some(entry) = entry {
            let what = match entry.service {
                Service::Dist => "routes",
                Service::Inbox => "sessions, with their subscriptions and queues,",
                Service::Retain => "retained messages",
            };
            let share = catalog.entries().iter().filter(|other| other.service == entry.service).count();
            tracing::error!(
                "quarantine: range {:032x} is given up: the {what} of log {} are missing, 1 of {share} parts",
                range.0,
                entry.log.0
            );
        }
        is_changed |= catalog.begin_anew(range, anew);
    }
    if is_changed { write_catalog(data, catalog) } else { Ok(()) }
}

/// Which core serves which log.
fn deal(opened: BTreeMap<LogId, StoredLog>, cores: u16, ended: Wall, place: &Place) -> Vec<Stored> {
    let stored = |_| Stored { logs: Vec::new(), ended, place: place.clone() };
    let mut dealt: Vec<_> = (0..cores).map(stored).collect();
    for (id, log) in opened {
        dealt[usize::from(core_of(id, cores))].logs.push(log);
    }
    dealt
}

fn random_id() -> io::Result<u128> {
    Ok(u128::from(sys::random()?) << 64 | u128::from(sys::random()?))
}

/// Makes the logs' directories, the first one last: when it is there, a missing one was lost.
fn make_logs(data: &Path, logs: u16) -> Result<(), Reason> {
    let there = files::list_logs(data).map_err(Reason::System)?;
    let lost = (0..logs).map(LogId).find(|log| there.contains(&LogId(0)) && !there.contains(log));
    if let Some(log) = lost {
        return Err(Reason::LogMissing(log));
    }
    for log in (0..logs).rev().map(LogId) {
        files::log_directory(data, log).map_err(|error| Reason::Files(log, error))?;
    }
    Ok(())
}

/// How far a start is.
#[derive(Default)]
struct Progress {
    /// Of segments, read so far.
    read_bytes: AtomicU64,
}

/// All logs being read.
struct Reading<'a> {
    data: &'a Path,
    checkpoints: &'a Path,
    config: LogConfig,
    catalog: &'a Catalog,
    /// Whether to go on without ranges that are damaged, which are told here.
    quarantine: bool,
    given_up: Sender<GivenUp>,
    progress: Progress,
}

type Opened = Result<(LogId, StoredLog), Reason>;

impl Reading<'_> {
    /// Opens all logs, as many at a time as there are CPUs.
    fn all(&self, logs: u16) -> Result<BTreeMap<LogId, StoredLog>, Reason> {
        let (todo, next) = bounded(usize::from(logs));
        (0..logs).try_for_each(|log| todo.send(LogId(log))).expect("there is room for all");
        drop(todo);
        let threads = thread::available_parallelism().map_or(1, usize::from).min(usize::from(logs));
        let (done, opened) = unbounded();
        thread::scope(|scope| {
            for _ in 0..threads {
                let (next, done) = (next.clone(), done.clone());
                let run = move || self.open_each(&next, &done);
                thread::Builder::new().spawn_scoped(scope, run).map_err(Reason::System)?;
            }
            drop(done);
            self.wait(&opened, logs)
        })
    }

    fn open_each(&self, next: &Receiver<LogId>, done: &Sender<Opened>) {
        for log in next {
            let opened = self.open(log).map(|stored| (log, stored));
            let failed = opened.is_err();
            // Whoever waits has given up after a failure, and so does this.
            if done.send(opened).is_err() || failed {
                return;
            }
        }
    }

    /// Collects what is opened, and says how far that is when it takes long.
    fn wait(&self, opened: &Receiver<Opened>, logs: u16) -> Result<BTreeMap<LogId, StoredLog>, Reason> {
        let mut all = BTreeMap::new();
        loop {
            match opened.recv_timeout(PROGRESS_INTERVAL) {
                Ok(opened) => {
                    let (id, log) = opened?;
                    all.insert(id, log);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let mebibytes = self.progress.read_bytes.load(Ordering::Relaxed) >> 20;
                    tracing::info!("data: {mebibytes} MiB read, {} of {logs} logs are ready", all.len());
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        assert_eq!(all.len(), usize::from(logs), "each log is opened, or an error is said");
        Ok(all)
    }

    fn open(&self, log: LogId) -> Result<StoredLog, Reason> {
        let files_error = |error| Reason::Files(log, error);
        let directory = files::log_directory(self.data, log).map_err(files_error)?;
        let segments = self.read(&directory).map_err(files_error)?;
        let inputs: Vec<_> =
            segments.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect();
        let identity = StoredLog::identity(&self.config, log);
        let options = RecoveryOptions { quarantine: self.quarantine, ..RecoveryOptions::default() };
        let mut recovery = recover(&identity, &inputs, &options).map_err(|error| Reason::Log(log, error))?;
        for damage in recovery.damage() {
            tracing::error!("quarantine: log {}: {damage}", log.0);
        }
        files::settle(&directory, &recovery.unproven()).map_err(files_error)?;
        let mut catalog = self.catalog.clone();
        loop {
            let mut checkpoint = |range, number| read_checkpoint(self.checkpoints, range, number);
            let shared = segments.clone();
            let opened = StoredLog::open(&self.config, &catalog, log, &recovery, shared, &mut checkpoint);
            match opened {
                Ok(stored) => return Ok(stored),
                // What a newer version wrote is not given up.
                Err(error) if error.other_version().is_some() => return Err(Reason::Ranges(log, error)),
                Err(OpenError::Range(range, _) | OpenError::Checkpoint(range, _)) if self.quarantine => {
                    let anew = RangeId(random_id().map_err(Reason::System)?);
                    assert!(catalog.begin_anew(range, anew), "it is opened by the catalog");
                    recovery.name_range(anew);
                    self.given_up.send(GivenUp { range, anew }).expect("the receiver lives as long");
                }
                Err(error) => return Err(Reason::Ranges(log, error)),
            }
        }
    }

    /// Maps a log's segments, and reads in what has ever been written: in one go, before it is walked over.
    fn read(&self, directory: &Path) -> io::Result<Vec<(SegmentId, Arc<SegmentBytes>)>> {
        let mut segments = Vec::new();
        for segment in files::list_segments(directory)? {
            let bytes = files::map_segment(directory, segment)?;
            if SegmentHeader::decode(&bytes).is_ok() {
                bytes.prefetch(0, bytes.len())?;
                self.progress.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            segments.push((segment, bytes));
        }
        Ok(segments)
    }
}

/// What a node that keeps nothing says.
pub(crate) fn say_nothing_is_kept() {
    tracing::info!("data: none, memory only: sessions and messages end with the process");
}
