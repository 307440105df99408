//! Idle groups: a leader that has nothing to say tells its followers so, and then none of them ticks. Whether
//! its node lives is for the nodes' membership to notice, which then wakes the followers.

use super::{Outputs, Replica, ToReplica};
use crate::format::message;
use crate::identity::{LogIndex, Term};
use crate::machine::StateMachine;

impl<S: StateMachine> Replica<S> {
    /// Does time mean anything to this replica? Not to a lone voter, and not to a group that sleeps.
    #[must_use]
    pub fn needs_tick(&self) -> bool {
        !self.asleep && !self.is_alone()
    }

    /// Ends the sleep: the host suspects the leader's node, or something came.
    pub fn wake(&mut self) {
        self.idle_ticks = 0;
        if std::mem::take(&mut self.asleep) && self.is_leader() {
            self.raft.ping();
        }
    }

    /// Counts a tick in which nothing happened. After an election timeout of them, with everything everywhere
    /// and committed, the group goes to sleep.
    pub(super) fn fall_asleep(&mut self, out: &mut Outputs<S>) {
        if !self.is_leader() || !self.is_settled() {
            self.idle_ticks = 0;
            return;
        }
        self.idle_ticks += 1;
        // A heartbeat of this tick would arrive behind the message, and wake them again.
        if self.idle_ticks < self.config.election_ticks || !self.raft.raft.msgs.is_empty() {
            return;
        }
        let index = self.raft.raft.raft_log.last_index();
        let me = self.state.replica;
        for to in self.state.voters.iter().copied().filter(|to| *to != me) {
            let mut frame = Vec::new();
            message::encode_sleep(self.range, (me, to), (self.raft.raft.term, index), &mut frame);
            out.messages.push(ToReplica { to, frame: frame.into() });
        }
        self.asleep = true;
    }

    fn is_settled(&self) -> bool {
        let raft = &self.raft.raft;
        let last = raft.raft_log.last_index();
        self.batches.iter().all(crate::batch::Batch::is_empty)
            && self.writing.is_none()
            && self.applied.0 == last
            && raft.lead_transferee.is_none()
            && raft.prs().iter().all(|(_, progress)| progress.matched == last)
    }

    /// A leader goes to sleep. Its followers do, if they have what it has; the others go on ticking, ask to
    /// be elected in time, and so wake it.
    pub(super) fn on_sleep(&mut self, term: Term, index: LogIndex) {
        let log = &self.raft.raft.raft_log;
        if term == self.term() && !self.is_leader() && log.last_index() == index.0 && self.applied == index {
            self.asleep = true;
        }
    }
}
