//! Logs at their begin: new, or from what a start found on disk.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;

use range::catalog::{Catalog, CatalogEntry, Service};
use range::checkpoint::RestoreError;
use range::format::DecodeError;
use range::{Outputs, RangeId, Recovered, Replica, StateMachine};
use wal::{ClusterId, Log, LogId, LogIdentity, Lsn, NodeId, Recovery, SegmentBytes, SegmentId};

use super::StoredLog;
use super::stored_log::MARKS_MAX;
use crate::ranges::inbox::InboxRange;
use crate::ranges::retain::RetainRange;

/// The limits of a log and of the replicas that write to it.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Of the log; the log of its identity is set by whoever opens it.
    pub wal: wal::Config,
    /// Of each replica.
    pub range: range::Config,
    /// Of hash tables alone.
    pub seed: u64,
}

/// Why a log's ranges cannot be served.
#[derive(Debug)]
pub enum OpenError {
    /// What the log holds is not what it should.
    Range(RangeId, range::OpenError),
    /// The records of the log as a whole.
    Records(range::OpenError),
    /// A checkpoint cannot be read.
    Checkpoint(RangeId, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Range(range, error) => write!(f, "range {:032x}: {error:?}", range.0),
            OpenError::Records(error) => write!(f, "{error:?}"),
            OpenError::Checkpoint(range, error) => {
                write!(f, "the checkpoint of range {:032x} cannot be read: {error}", range.0)
            }
        }
    }
}

impl std::error::Error for OpenError {}

impl OpenError {
    /// What is wrong is no damage: a record or a checkpoint was written by a version that knows more. The version of its
    /// format, and the one that this version knows.
    #[must_use]
    pub fn other_version(&self) -> Option<(u32, u32)> {
        let (OpenError::Range(_, error) | OpenError::Records(error)) = self else { return None };
        match error {
            range::OpenError::Record(_, DecodeError::Version(found)) => {
                Some((u32::from(*found), u32::from(range::format::VERSION)))
            }
            range::OpenError::Checkpoint(RestoreError::Version(found)) => {
                Some((*found, range::checkpoint::VERSION))
            }
            _ => None,
        }
    }
}

/// Reads a checkpoint: of which range, and which.
pub type ReadCheckpoint<'a> = dyn FnMut(RangeId, u64) -> io::Result<Vec<u8>> + 'a;

impl LogConfig {
    /// For logs on disk.
    #[must_use]
    pub fn new(cluster: ClusterId, node: NodeId, seed: u64) -> LogConfig {
        let identity = LogIdentity { cluster, node, log: LogId(0) };
        LogConfig { wal: wal::Config::new(identity), range: range::Config::new(cluster, seed), seed }
    }

    /// For logs that need not outlive the process: small segments, and no waiting for company.
    pub(super) fn in_memory(seed: u64) -> LogConfig {
        let mut config = LogConfig::new(ClusterId(1), NodeId(1), seed);
        config.wal.segment_bytes = 1 << 20;
        config.wal.segments_ahead = 1;
        config.wal.linger_ns_max = 0;
        config.range.checkpoint_log_bytes = 4 << 20;
        config
    }

    fn wal_of(&self, log: LogId) -> wal::Config {
        wal::Config { identity: LogIdentity { log, ..self.wal.identity }, ..self.wal }
    }
}

impl StoredLog {
    /// A log that holds nothing yet, with its ranges of a catalog.
    #[must_use]
    pub fn new(config: &LogConfig, catalog: &Catalog, id: LogId) -> StoredLog {
        let mut log = Log::new(config.wal_of(id));
        let mut nothing = Recovered::default();
        let mut none = |_, _| Err(io::ErrorKind::NotFound.into());
        let stored = StoredLog::assemble(config, catalog, id, &mut nothing, &mut log, &mut none);
        let replicas = stored.expect("nothing is there that could be wrong");
        StoredLog::from_parts(id, log, replicas)
    }

    /// The log that a recovery found: its replicas are opened, and what came after their checkpoints is
    /// replayed. `segments` are the bytes of the files that the recovery kept.
    pub fn open(
        config: &LogConfig,
        catalog: &Catalog,
        id: LogId,
        recovery: &Recovery<'_>,
        segments: Vec<(SegmentId, Arc<SegmentBytes>)>,
        checkpoint: &mut ReadCheckpoint<'_>,
    ) -> Result<StoredLog, OpenError> {
        let mut recovered = Recovered::collect(recovery).map_err(OpenError::Records)?;
        let mut log = Log::resume(config.wal_of(id), recovery.resume(), segments);
        let replicas = StoredLog::assemble(config, catalog, id, &mut recovered, &mut log, checkpoint)?;
        log.start_reclaiming();
        Ok(StoredLog::from_parts(id, log, replicas))
    }

    /// The identity that its segments have.
    #[must_use]
    pub fn identity(config: &LogConfig, id: LogId) -> LogIdentity {
        config.wal_of(id).identity
    }

    /// The checkpoints that are still needed, by range.
    pub fn checkpoints(&self) -> impl Iterator<Item = (RangeId, u64)> {
        let (inbox, retain) = (&self.inbox, &self.retain);
        [(inbox.range(), inbox.checkpoint()), (retain.range(), retain.checkpoint())].into_iter()
    }

    fn assemble(
        config: &LogConfig,
        catalog: &Catalog,
        id: LogId,
        recovered: &mut Recovered,
        log: &mut Log,
        checkpoint: &mut ReadCheckpoint<'_>,
    ) -> Result<Replicas, OpenError> {
        let inbox = entry(catalog, Service::Inbox, id);
        let machine = InboxRange::new(inbox.range, config.seed);
        let inbox = open_replica(config, inbox, machine, recovered, log, checkpoint)?;
        let retain = entry(catalog, Service::Retain, id);
        let machine = RetainRange::new(retain.range, config.seed);
        let retain = open_replica(config, retain, machine, recovered, log, checkpoint)?;
        Ok((inbox, retain))
    }

    fn from_parts(id: LogId, log: Log, (inbox, retain): Replicas) -> StoredLog {
        StoredLog {
            id,
            log,
            inbox,
            inbox_outputs: Outputs::default(),
            retain,
            retain_outputs: Outputs::default(),
            unwritten: BTreeMap::new(),
            asked: Vec::new(),
            moved: Vec::new(),
            read_in: VecDeque::new(),
            mark: Lsn(0),
            marks_left: MARKS_MAX,
        }
    }
}

/// The replicas that write to one log.
type Replicas = (Replica<InboxRange>, Replica<RetainRange>);

/// The range of a service that writes to a log: there is one until ranges are split.
fn entry(catalog: &Catalog, service: Service, log: LogId) -> &CatalogEntry {
    let mut entries = catalog.entries().iter();
    let entry = entries.find(|entry| entry.service == service && entry.log == log);
    entry.expect("a catalog has a range of each service for each log")
}

fn open_replica<S: StateMachine>(
    config: &LogConfig,
    entry: &CatalogEntry,
    machine: S,
    recovered: &mut Recovered,
    log: &mut Log,
    checkpoint: &mut ReadCheckpoint<'_>,
) -> Result<Replica<S>, OpenError> {
    let range = entry.range;
    let wrong = |error| OpenError::Range(range, error);
    let Some(records) = recovered.take(range).map_err(wrong)? else {
        return Ok(Replica::new(config.range, range, entry.replica, &entry.voters, machine));
    };
    let bytes = records.checkpoint().map(|number| checkpoint(range, number)).transpose();
    let bytes = bytes.map_err(|error| OpenError::Checkpoint(range, error))?;
    Replica::open(config.range, range, records, bytes.as_deref(), machine, log).map_err(wrong)
}
