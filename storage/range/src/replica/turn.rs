//! Hot path. What Raft wants done, until it wants nothing more.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};
use raft::{Ready, StateRole};
use wal::{Log, Mono};

use super::apply::wall_of;
use super::{Outputs, Replica, ToReplica, Writing};
use crate::format::message::{self, Received, What};
use crate::identity::{LogIndex, ReplicaId, Term, Wall};
use crate::machine::StateMachine;

/// Why a message was not acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// It is for another range or replica.
    NotMine,
    /// Its sender is no member of the group.
    Stranger(ReplicaId),
    /// It speaks of entries this replica has told nobody that it has.
    Impossible,
}

impl<S: StateMachine> Replica<S> {
    /// Ends a turn: proposes what was collected, writes what Raft has for the log, hears how far the log is
    /// durable, applies what is committed. `wall` is the node's clock.
    pub fn turn(&mut self, now: Mono, wall: Wall, log: &mut Log, out: &mut Outputs<S>) {
        self.propose_batches(wall, log, out);
        loop {
            self.write(now, log);
            self.on_durable(log, out);
            self.fetch(log);
            if self.writing.is_some() || !self.raft.has_ready() {
                break;
            }
            let ready = self.raft.ready();
            self.handle(ready, log, out);
        }
        self.continue_checkpoint(now, log, out);
    }

    /// Takes a message of a peer.
    pub fn step(&mut self, received: Received) -> Result<(), StepError> {
        if received.range != self.range || received.to != self.state.replica {
            return Err(StepError::NotMine);
        }
        if received.from == self.state.replica || !self.state.voters.contains(&received.from) {
            return Err(StepError::Stranger(received.from));
        }
        let message = match received.what {
            What::Sleep { term, index } => {
                self.on_sleep(Term(term), LogIndex(index));
                return Ok(());
            }
            What::Raft(message) => message,
        };
        let log = &self.raft.raft.raft_log;
        let impossible = match message.get_msg_type() {
            // Raft takes the leader's word for what was acknowledged; a peer that is wrong about it must not
            // end this process.
            MessageType::MsgHeartbeat => {
                message.term >= self.raft.raft.term && message.commit > log.last_index()
            }
            MessageType::MsgAppend => {
                message.term >= self.raft.raft.term
                    && message.entries.iter().any(|entry| {
                        (log.store.first()..=log.committed).contains(&entry.index)
                            && log.term(entry.index).is_ok_and(|term| term != entry.term)
                    })
            }
            MessageType::MsgAppendResponse => {
                let present = self.is_leader() && message.term == self.raft.raft.term;
                present && !message.reject && message.index > log.last_index()
            }
            _ => false,
        };
        if impossible {
            return Err(StepError::Impossible);
        }
        // Answers to a leader are no reason for it to stay awake.
        if !self.is_leader() || !is_answer(message.get_msg_type()) {
            self.wake();
        }
        if !self.is_leader() {
            self.everywhere = self.everywhere.max(received.everywhere);
        }
        // What Raft refuses it has judged as out of date.
        let _ = self.raft.step(*message);
        self.draw_timeout();
        Ok(())
    }

    /// One tick of the host's clock; to be called while [`Replica::needs_tick`].
    pub fn tick(&mut self, out: &mut Outputs<S>) {
        if !self.needs_tick() {
            return;
        }
        self.raft.tick();
        self.draw_timeout();
        self.fall_asleep(out);
    }

    /// Hands the leadership to a peer, if it is well enough.
    pub fn transfer_leader(&mut self, to: ReplicaId) {
        self.wake();
        self.raft.transfer_leader(to.0);
        self.draw_timeout();
    }

    /// Overwrites the timeout that the raft crate drew from the thread's generator with one that repeats: it
    /// draws when a role or a term begins, and does not say so.
    pub(super) fn draw_timeout(&mut self) {
        let raft = &mut self.raft.raft;
        let ticks = self.config.election_ticks as u64;
        let mut input = [0; 32];
        let drawn_for = [self.config.seed, self.state.replica.0, raft.term, raft.state as u64];
        for (bytes, value) in input.as_chunks_mut::<8>().0.iter_mut().zip(drawn_for) {
            *bytes = value.to_le_bytes();
        }
        let random = xxhash_rust::xxh3::xxh3_64(&input);
        let timeout = usize::try_from(ticks + random % ticks).expect("it was a usize");
        if raft.randomized_election_timeout() != timeout {
            raft.set_randomized_election_timeout(timeout);
        }
    }

    fn handle(&mut self, mut ready: Ready, log: &mut Log, out: &mut Outputs<S>) {
        let messages = ready.take_messages();
        self.send(&messages, out);
        let mut writing = Writing {
            number: ready.number(),
            state: false,
            entries: VecDeque::new(),
            messages: ready.take_persisted_messages(),
        };
        if let Some(hard) = ready.hs() {
            let (term, vote) = (Term(hard.term), ReplicaId(hard.vote));
            writing.state = (term, vote) != (self.state.term, self.state.vote);
            (self.state.term, self.state.vote) = (term, vote);
            self.raft.mut_store().hard_state = hard.clone();
        }
        for entry in ready.take_entries() {
            if !self.is_leader() || entry.term != self.raft.raft.term {
                // Whoever leads next goes on from here, though it may not be applied yet.
                self.wall = self.wall.max(wall_of(&entry));
            }
            self.sequence += 1;
            for overwritten in entry.index..=self.raft.raft.store().last() {
                let record = self.entries.remove(LogIndex(overwritten)).expect("all of the log is written");
                assert_eq!(record.references, 0, "what is overwritten was never applied");
                log.dead(record.place.position, record.place.bytes);
            }
            self.raft.mut_store().append(entry.clone(), self.sequence);
            writing.entries.push_back((entry, self.sequence));
        }
        self.writing = Some(writing);
        let committed = ready.take_committed_entries();
        self.raft.advance_append_async(ready);
        self.apply(&committed, log, out);
    }

    pub(super) fn send(&mut self, messages: &[Message], out: &mut Outputs<S>) {
        if !messages.is_empty() && self.is_leader() {
            self.everywhere = self.matched_everywhere();
        }
        for message in messages {
            let mut frame = Vec::new();
            if message::encode(self.range, message, self.everywhere, &mut frame) {
                out.messages.push(ToReplica { to: ReplicaId(message.to), frame: Bytes::from(frame) });
            }
        }
    }

    /// Up to here the leader knows that every voter has the log.
    pub(super) fn matched_everywhere(&self) -> LogIndex {
        assert_eq!(self.raft.raft.state, StateRole::Leader, "only a leader knows");
        let matched = self.raft.raft.prs().iter().map(|(_, progress)| progress.matched).min();
        LogIndex(matched.unwrap_or(0))
    }
}

fn is_answer(kind: MessageType) -> bool {
    use MessageType::{MsgAppendResponse, MsgHeartbeatResponse};
    matches!(kind, MsgAppendResponse | MsgHeartbeatResponse)
}
