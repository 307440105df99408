//! Hot path. Commands of this node, on their way into Raft.

use wal::Log;

use super::{Decision, Outputs, Proposed, Replica};
use crate::batch::Batch;
use crate::format::entry::HEADER_BYTES;
use crate::identity::{LogIndex, ReplicaId, Term, Ticket, Wall};
use crate::machine::StateMachine;

/// Bytes of a record beside the commands', at most.
const RECORD_OVERHEAD_BYTES: usize = wal::format::RECORD_HEADER_BYTES + HEADER_BYTES + 128;

/// Commands of one entry: an ordinal fits into 16 bits, for those who pack it.
const COMMANDS_MAX: usize = 1 << 14;

/// What a command is for decides whether a full disk refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// It brings new data.
    Ordinary,
    /// It brings new data that others have already, for there was room when it was let in. It may use up what is kept
    /// for [`Priority::Control`], so the host lets in no more as soon as it knows of a full disk.
    Admitted,
    /// It gives space back, or must not stop: acknowledgement, detach, delete.
    Control,
}

/// Why a proposal was not taken. It is certain that it will not be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another replica leads, or none at the moment.
    NotLeader(Option<ReplicaId>),
    /// The command and its payload fit into no record (`wal.record_bytes_max`).
    TooLarge {
        /// Their size.
        bytes: usize,
        /// The limit.
        bytes_max: u32,
    },
    /// Too much is undecided (`range.proposed_bytes_max`); again when some of it is.
    Behind {
        /// Bytes undecided.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The log takes no more until its host has done something; again in a later turn.
    LogBehind,
    /// The disk is full.
    DiskFull,
}

impl<S: StateMachine> Replica<S> {
    /// Takes a command into this turn's entry. The ticket comes back once in [`Outputs::decided`], unless the
    /// process ends before.
    pub fn propose(
        &mut self,
        priority: Priority,
        ticket: Ticket,
        body: &[u8],
        payload: &[u8],
    ) -> Result<(), Refused> {
        let bytes = body.len() + payload.len();
        self.check_proposal(priority, bytes)?;
        self.wake();
        let open = self.batches.back();
        let bytes_max =
            self.config.entry_bytes.min(self.config.record_bytes_max as usize - RECORD_OVERHEAD_BYTES);
        let has_room = |batch: &Batch| {
            let fits = batch.bytes() + bytes <= bytes_max && batch.commands() < COMMANDS_MAX;
            batch.is_empty() || fits
        };
        if !open.is_some_and(has_room) {
            self.batches.push_back(Batch::default());
        }
        self.proposed_bytes += bytes;
        self.batches.back_mut().expect("one is open").push(ticket, body, payload);
        Ok(())
    }

    fn check_proposal(&self, priority: Priority, bytes: usize) -> Result<(), Refused> {
        if !self.is_leader() {
            return Err(Refused::NotLeader(self.leader()));
        }
        let bytes_max = self.config.record_bytes_max;
        if bytes + RECORD_OVERHEAD_BYTES > bytes_max as usize {
            return Err(Refused::TooLarge { bytes, bytes_max });
        }
        let bytes_max = self.config.proposed_bytes_max;
        // What gives space back may always go a little further.
        let slack = if priority == Priority::Control { bytes_max / 4 } else { 0 };
        if self.proposed_bytes > 0 && self.proposed_bytes + bytes > bytes_max + slack {
            return Err(Refused::Behind { bytes: self.proposed_bytes, bytes_max });
        }
        if priority == Priority::Ordinary && self.disk_full {
            return Err(Refused::DiskFull);
        }
        if priority != Priority::Control && self.writing.is_some() {
            return Err(Refused::LogBehind);
        }
        Ok(())
    }

    /// Hands this turn's commands to Raft, as one entry where they fit into one.
    pub(super) fn propose_batches(&mut self, wall: Wall, log: &Log, out: &mut Outputs<S>) {
        self.disk_full = log.is_disk_full();
        if self.batches.iter().all(Batch::is_empty) {
            return;
        }
        self.wall = self.wall.max(wall);
        let mut batches = std::mem::take(&mut self.batches);
        for batch in &mut batches {
            self.propose_batch(batch, out);
        }
        // The first one's memory serves the next turn.
        batches.truncate(1);
        self.batches = batches;
    }

    fn propose_batch(&mut self, batch: &mut Batch, out: &mut Outputs<S>) {
        let bytes = batch.command_bytes();
        let tickets = if self.is_leader() {
            let (content, tickets) = batch.take(self.wall);
            if self.raft.propose(Vec::new(), content).is_ok() {
                let index = LogIndex(self.raft.raft.raft_log.last_index());
                let term = Term(self.raft.raft.term);
                self.proposed.push_back(Proposed { index, term, bytes, tickets });
                return;
            }
            tickets
        } else {
            batch.take_tickets()
        };
        self.proposed_bytes -= bytes;
        out.decided.extend(tickets.into_iter().map(|ticket| (ticket, Decision::Dropped)));
    }
}
