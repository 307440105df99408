//! What is kept beyond a connection: the logs that this core serves, and the replicas that write to them.
//!
//! Which log has a key is fixed when the data directory is made, and log *i* is served by core *i* modulo
//! cores: the number of cores may change between starts, the place of a key in the logs does not.
//!
//! The host does for a log what it asks in [`StorageRequest`]s and answers with [`StorageAnswer`]s. Without a
//! data directory there is the same log on a disk in memory, which the core serves itself.

mod memory;
mod message;
mod open;
mod retained;
mod stored_log;

use range::Priority;
use wal::{Completion, LogId, RangeId};

pub use open::{LogConfig, OpenError};
pub use stored_log::StoredLog;

use crate::config::Config;
use crate::identity::CoreId;
use crate::placement::{KeyHash, log_of};
use crate::random::Random;
use crate::time::{Mono, Now};
use memory::MemoryDisk;

/// One thing for the host to do.
#[derive(Debug)]
pub enum StorageRequest {
    /// By the log's writer.
    Log(LogId, wal::Request),
    /// By a thread off the cores.
    Checkpoint(LogId, range::Request),
}

/// What the host has done.
#[derive(Debug)]
pub enum StorageAnswer {
    /// Of [`StorageRequest::Log`].
    Log(LogId, Completion),
    /// Unasked: the file system fell below the watermark (false), or is above it again (true).
    Space(LogId, bool),
    /// Of a [`StorageRequest::Checkpoint`] that writes: false if it could not be written.
    Checkpoint {
        /// The log of the range.
        log: LogId,
        /// Which range.
        range: RangeId,
        /// Which of its checkpoints.
        number: u64,
        /// Whether the piece is written, and with the last of them: durable.
        whole: bool,
    },
}

/// The logs of one core.
pub(crate) struct Storage {
    /// By log id.
    logs: Vec<StoredLog>,
    /// There when nothing is to outlive the process.
    memory: Option<MemoryDisk>,
    /// For the host.
    pub requests: Vec<StorageRequest>,
}

/// Which of a core's logs: an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LogSlot(pub u16);

impl Storage {
    /// Nothing is stored, and nothing outlives the process.
    pub fn in_memory(config: &Config, core: CoreId, random: &mut Random) -> Storage {
        let mut name = || u128::from(random.next()) << 64 | u128::from(random.next());
        let catalog = range::catalog::Catalog::bootstrap(config.logs(), &mut name);
        let log_config = LogConfig::in_memory(random.next());
        let logs = (core.0..config.logs()).step_by(usize::from(config.cores));
        let logs = logs.map(|log| StoredLog::new(&log_config, &catalog, LogId(log))).collect();
        Storage { logs, memory: Some(MemoryDisk::default()), requests: Vec::new() }
    }

    /// What a start found, or made: the logs of this core, ascending.
    pub fn on_disk(logs: Vec<StoredLog>) -> Storage {
        assert!(logs.is_sorted_by_key(StoredLog::id), "by log id");
        Storage { logs, memory: None, requests: Vec::new() }
    }

    /// Which of this core's logs has a key that is at home here.
    pub fn slot_of(config: &Config, key: KeyHash) -> LogSlot {
        Storage::slot_of_log(config, LogId(log_of(key, config.logs())))
    }

    /// Which of this core's logs it is.
    pub fn slot_of_log(config: &Config, log: LogId) -> LogSlot {
        LogSlot(log.0 / config.cores)
    }

    pub fn log(&self, slot: LogSlot) -> &StoredLog {
        &self.logs[usize::from(slot.0)]
    }

    /// The log, if it is one of this core's.
    pub fn log_if(&self, slot: LogSlot) -> Option<&StoredLog> {
        self.logs.get(usize::from(slot.0))
    }

    pub fn log_mut(&mut self, slot: LogSlot) -> &mut StoredLog {
        &mut self.logs[usize::from(slot.0)]
    }

    /// All slots.
    pub fn slots(&self) -> impl Iterator<Item = LogSlot> + use<> {
        (0..u16::try_from(self.logs.len()).expect("as many as logs")).map(LogSlot)
    }

    /// The log by its id, if this core serves it.
    pub fn by_id(&self, id: LogId) -> Option<&StoredLog> {
        self.logs.iter().find(|log| log.id() == id)
    }

    /// A round of a turn: proposals are written to the logs, what is durable is applied.
    pub fn turn(&mut self, now: Now) {
        self.logs.iter_mut().for_each(|log| log.turn(now));
    }

    /// Ends a turn: everything written leaves as one commit for each log.
    pub fn flush(&mut self, now: Now) {
        for log in &mut self.logs {
            log.flush(now, &mut self.requests);
        }
    }

    /// How many persistent sessions there are.
    pub fn sessions(&self) -> usize {
        self.logs.iter().map(|log| log.inbox.machine().sessions()).sum()
    }

    /// Whether everything written is durable, and applied.
    pub fn is_quiet(&self) -> bool {
        self.logs.iter().all(StoredLog::is_quiet)
    }

    /// Does what the logs ask for, if they are in memory: true if they are to have another turn.
    pub fn serve_memory(&mut self, now: Now, random: &mut Random) -> bool {
        let Some(disk) = &mut self.memory else { return false };
        let mut answered = false;
        for request in self.requests.drain(..) {
            let (StorageRequest::Log(id, _) | StorageRequest::Checkpoint(id, _)) = &request;
            let log = self.logs.iter_mut().find(|log| log.id() == *id).expect("it asked");
            if let Some(answer) = disk.serve(request, log) {
                answered = true;
                log.on_answer(now, random.next(), answer);
            }
        }
        answered
    }

    /// The host has done something.
    pub fn on_answer(&mut self, now: Now, answer: StorageAnswer, salt: u64) {
        let (StorageAnswer::Log(id, _)
        | StorageAnswer::Space(id, _)
        | StorageAnswer::Checkpoint { log: id, .. }) = &answer;
        let log = self.logs.iter_mut().find(|log| log.id() == *id).expect("it asked");
        log.on_answer(now, salt, answer);
    }

    /// When [`Storage::turn`] is to be called though nothing happened; a time in the past means at once.
    pub fn next_timeout(&self) -> Option<Mono> {
        self.logs.iter().filter_map(StoredLog::next_timeout).min()
    }

    /// Topics with a retained message.
    pub fn retained(&self) -> usize {
        self.logs.iter().map(|log| log.retain().machine().len()).sum()
    }

    /// Those of a tenant.
    pub fn retained_of(&self, tenant: &str) -> usize {
        self.logs.iter().map(|log| log.retain().machine().len_of(tenant)).sum()
    }

    /// Bytes of a tenant's retained messages.
    pub fn retained_bytes_of(&self, tenant: &str) -> u64 {
        self.logs.iter().map(|log| log.retain().machine().bytes_of(tenant)).sum()
    }

    /// Ends what is to outlive the process with a mark, as far as there is room for it.
    pub fn close(&mut self, now: Now) {
        self.logs.iter_mut().for_each(|log| log.close(now));
    }

    /// Whether nothing is left to be written.
    pub fn is_closed(&self) -> bool {
        self.logs.iter().all(StoredLog::is_closed)
    }

    /// Whether the disk of a log takes nothing new.
    pub fn is_full(&self) -> bool {
        self.logs.iter().any(|log| log.log.is_disk_full())
    }

    /// Whether a log acknowledges nothing any more: the process is to end.
    pub fn is_poisoned(&self) -> bool {
        self.logs.iter().any(StoredLog::is_poisoned)
    }
}

/// What a full disk refuses.
pub(crate) const NEW_DATA: Priority = Priority::Ordinary;
/// The same of what others have already: it was let in when there was room.
pub(crate) const LET_IN: Priority = Priority::Admitted;
/// What it does not.
pub(crate) const UPKEEP: Priority = Priority::Control;
