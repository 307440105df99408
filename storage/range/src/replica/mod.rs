//! Hot path. One replica of one range.
//!
//! ```text
//!           propose            turn: one entry,              durable LSN          turn
//! command ──────────► batch ───────────────────► Raft, log ─────────────► commit ──────► apply ──► effects,
//!                                one record        │    ▲     (a quorum of voters)                 decisions
//!                                                  ▼    │
//!                                                 messages
//! ```
//!
//! The host calls [`Replica::turn`] at the end of every turn in which it proposed, stepped or ticked, and
//! when the log's durable LSN has passed what [`Replica::waits_for`] names. A lone voter is leader from the
//! start, sends nothing, needs no tick, and commits what is durable.
//!
//! Each step is a file here: `propose`, `turn` (what Raft wants), `persist` (into the log), `apply`,
//! `checkpoint`, `sleep`, `read`, `open`.

mod apply;
mod checkpoint;
mod open;
mod persist;
mod propose;
mod read;
mod sleep;
mod turn;

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{Entry, Message};
use raft::{RawNode, StateRole};
use wal::{ClusterId, Lsn, RangeId};

use crate::batch::Batch;
use crate::entries::{Entries, Place};
use crate::format::state::StateRecord;
use crate::identity::{LogIndex, MessageId, ReplicaId, Term, Ticket, Wall};
use crate::machine::{Effects, StateMachine};
use crate::raft_log::RaftLog;

pub use propose::{Priority, Refused};
pub use read::{Payload, ReadError, Stored};
pub use turn::StepError;

use checkpoint::Checkpoint;

/// The limits of a replica. Names are those of the settings under `range.`.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The cluster, for checkpoints.
    pub cluster: ClusterId,
    /// Where election timeouts come from: the same seed gives the same elections.
    pub seed: u64,
    /// `wal.record_bytes_max`: a command and its payload must fit into one record.
    pub record_bytes_max: u32,
    /// From so many bytes on a turn's commands go into more than one entry.
    pub entry_bytes: usize,
    /// Bytes proposed and not decided, above which ordinary proposals are refused.
    pub proposed_bytes_max: usize,
    /// Bytes of entries in one message, if there is more than one.
    pub message_bytes: u64,
    /// Bytes of applied entries a replica with peers keeps in memory for them.
    pub recent_bytes_max: usize,
    /// A checkpoint begins when the log has grown by so much since the last one, and by the last one's size.
    pub checkpoint_log_bytes: u64,
    /// Size of a chunk: what a turn spends on a checkpoint.
    pub chunk_bytes: usize,
    /// A follower that has heard nothing for so many ticks, or up to twice as many, asks to be elected.
    pub election_ticks: usize,
    /// A leader lets itself be heard every so many ticks.
    pub heartbeat_ticks: usize,
}

impl Config {
    /// The shipped limits.
    #[must_use]
    pub fn new(cluster: ClusterId, seed: u64) -> Config {
        Config {
            cluster,
            seed,
            record_bytes_max: 257 << 20,
            entry_bytes: 1 << 20,
            proposed_bytes_max: 64 << 20,
            message_bytes: 1 << 20,
            recent_bytes_max: 4 << 20,
            checkpoint_log_bytes: 64 << 20,
            chunk_bytes: 64 << 10,
            election_ticks: 10,
            heartbeat_ticks: 2,
        }
    }
}

/// A replica. Lives on the core that serves its log; a view of one range on one node.
pub struct Replica<S: StateMachine> {
    range: RangeId,
    config: Config,
    raft: RawNode<RaftLog>,
    machine: S,
    /// Commands of this turn; the last one is open.
    batches: VecDeque<Batch>,
    /// What Raft has of this node's commands and has not decided.
    proposed: VecDeque<Proposed>,
    proposed_bytes: usize,
    /// One Ready of Raft, as far as the log has not taken it.
    writing: Option<Writing>,
    /// Ready numbers in the log that are not durable.
    persisting: VecDeque<Persisting>,
    /// The newest of this replica's records.
    last_lsn: Lsn,
    /// Counts them.
    sequence: u64,
    /// What the newest state record says, or will.
    state: StateRecord,
    state_place: Option<Place>,
    applied: LogIndex,
    tally: Tally,
    /// Greatest wall time in the log.
    wall: Wall,
    entries: Entries,
    effects: Effects<S::Effect>,
    checkpoint: Checkpoint,
    /// Up to here every voter is known to have the log.
    everywhere: LogIndex,
    idle_ticks: usize,
    asleep: bool,
    /// The log refuses new data until space is found.
    disk_full: bool,
    /// Reused: the metadata of a record.
    metadata: Vec<u8>,
}

/// What a replica has applied since it was opened, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries of the Raft log, each one record.
    pub entries: u64,
    /// Commands in them.
    pub commands: u64,
}

/// An entry with this node's commands.
struct Proposed {
    index: LogIndex,
    term: Term,
    bytes: usize,
    tickets: Vec<Ticket>,
}

struct Writing {
    number: u64,
    state: bool,
    entries: VecDeque<(Entry, u64)>,
    /// To be sent when all of it is durable.
    messages: Vec<Message>,
}

struct Persisting {
    number: u64,
    lsn: Lsn,
    messages: Vec<Message>,
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<O> {
    /// It is committed and applied.
    Applied {
        /// Its name from now on.
        id: MessageId,
        /// What the state machine answered.
        outcome: O,
    },
    /// It is not applied, and never will be: another leader has taken its place in the log.
    Dropped,
}

/// A frame for a replica on another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToReplica {
    /// For whom.
    pub to: ReplicaId,
    /// As [`decode`](crate::format::message::decode) reads it.
    pub frame: Bytes,
}

/// What a replica asks of its host, for a thread off the cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Write a piece of a checkpoint: [`files::write_checkpoint`](crate::files::write_checkpoint). Answered by
    /// [`Replica::on_checkpoint_written`]; there is one at a time per replica.
    WriteCheckpoint {
        /// Of which range.
        range: RangeId,
        /// Which one.
        number: u64,
        /// Where in the file; at 0 it begins anew.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
        /// Then make it durable under its name.
        last: bool,
    },
    /// Remove a checkpoint, whole or unfinished. Not answered.
    RemoveCheckpoint {
        /// Of which range.
        range: RangeId,
        /// Which one.
        number: u64,
    },
}

/// Everything a turn leads to. The host empties it.
pub struct Outputs<S: StateMachine> {
    /// The host's proposals that are decided, each once.
    pub decided: Vec<(Ticket, Decision<S::Outcome>)>,
    /// What committed commands ask for, in their order.
    pub effects: Vec<S::Effect>,
    /// What goes to other nodes.
    pub messages: Vec<ToReplica>,
    /// What goes to a thread off the cores.
    pub requests: Vec<Request>,
}

impl<S: StateMachine> Default for Outputs<S> {
    fn default() -> Outputs<S> {
        Outputs { decided: Vec::new(), effects: Vec::new(), messages: Vec::new(), requests: Vec::new() }
    }
}

impl<S: StateMachine> Replica<S> {
    /// Which range.
    #[must_use]
    pub fn range(&self) -> RangeId {
        self.range
    }

    /// Which member of the group.
    #[must_use]
    pub fn id(&self) -> ReplicaId {
        self.state.replica
    }

    /// The state, to be read. Commands alone change it.
    #[must_use]
    pub fn machine(&self) -> &S {
        &self.machine
    }

    /// Does it take proposals?
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    /// Who does, as far as this replica knows.
    #[must_use]
    pub fn leader(&self) -> Option<ReplicaId> {
        let leader = self.raft.raft.leader_id;
        (leader != 0).then_some(ReplicaId(leader))
    }

    /// The present term.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.raft.raft.term)
    }

    /// The last entry the state contains.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The last entry of the Raft log.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.raft.raft.store().last())
    }

    /// What it has applied since it was opened.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The checkpoint that a start would begin with; 0 if there is none.
    #[must_use]
    pub fn checkpoint(&self) -> u64 {
        self.state.checkpoint
    }

    /// Entries that are Raft log.
    #[must_use]
    pub fn log_entries(&self) -> u64 {
        let log = self.raft.raft.store();
        log.last() + 1 - log.first()
    }

    /// Records that only their payloads keep.
    #[must_use]
    pub fn payloads_kept(&self) -> usize {
        let unwritten = self.writing.as_ref().map_or(0, |writing| writing.entries.len());
        self.entries.len() + unwritten - usize::try_from(self.log_entries()).expect("as many as there are")
    }

    /// Are there commands that no turn has taken yet?
    #[must_use]
    pub fn has_proposals(&self) -> bool {
        self.batches.iter().any(|batch| !batch.is_empty())
    }

    /// Is it worth while to call [`Replica::turn`] again though nothing has happened? What the log has refused
    /// waits for news of the log: a commit, a segment, space.
    #[must_use]
    pub fn wants_turn(&self) -> bool {
        let is_pending = self.has_proposals() || self.raft.has_ready();
        (is_pending && self.writing.is_none()) || self.checkpoint.wants_turn()
    }

    /// Is there anything that is begun and not handed to the log or the host?
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.writing.is_some() || self.has_proposals() || self.raft.has_ready() || self.checkpoint.is_dirty()
    }

    /// [`Replica::turn`] wants to be called when the log is durable up to here.
    #[must_use]
    pub fn waits_for(&self) -> Option<Lsn> {
        let truncation = self.checkpoint.truncating.map(|(lsn, _)| lsn);
        let ready = self.persisting.front().map(|persisting| persisting.lsn);
        ready.into_iter().chain(truncation).min()
    }

    fn is_alone(&self) -> bool {
        self.state.voters == [self.state.replica]
    }
}
