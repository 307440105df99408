//! One log of this node and the replicas of the ranges that write to it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use range::{Outputs, Replica, Wall};
use wal::log::reclaim::ReclaimBudget;
use wal::{AppendError, Appended, Completion, Log, LogId, Lsn, Position, RangeId, Window, Write};

use super::{StorageAnswer, StorageRequest};
use crate::changes::ChangeName;
use crate::message::Message;
use crate::ranges::inbox::InboxRange;
use crate::ranges::retain::RetainRange;
use crate::sight::LogTotals;
use crate::time::{Mono, Now};

/// What one turn spends on reclaiming.
const RECLAIM: ReclaimBudget = ReclaimBudget { copy_bytes: 64 << 10, scan_bytes: 256 << 10 };

/// Marks that an end may write: what is applied late may append once more.
pub(super) const MARKS_MAX: u8 = 4;

type Unwritten = BTreeMap<(Arc<str>, Box<str>), (Arc<Message>, ChangeName)>;

/// See the module's documentation.
pub struct StoredLog {
    pub(super) id: LogId,
    pub(super) log: Log,
    pub(super) inbox: Replica<InboxRange>,
    pub(super) inbox_outputs: Outputs<InboxRange>,
    pub(super) retain: Replica<RetainRange>,
    pub(super) retain_outputs: Outputs<RetainRange>,
    /// Retained messages of the broker's own, by tenant and topic, each with the change that it came with.
    pub(super) unwritten: Unwritten,
    /// Scratch.
    pub(super) asked: Vec<wal::Request>,
    pub(super) moved: Vec<(Position, Appended)>,
    /// What has been read in, for the core to empty.
    pub(super) read_in: VecDeque<Window>,
    /// The last record that says that all before is durable; 0 if this life of the log has none.
    pub(super) mark: Lsn,
    /// How many more of them an end may have.
    pub(super) marks_left: u8,
}

impl StoredLog {
    /// Which log of the node.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The bytes of a write that the log has asked for, until it is answered.
    #[must_use]
    pub fn bytes_to_write(&self, write: &Write) -> &[u8] {
        self.log.bytes_to_write(write)
    }

    /// The log itself, to be read.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What it has done, and what it takes.
    pub(crate) fn totals(&self) -> LogTotals {
        LogTotals {
            log: self.id,
            tally: *self.log.tally(),
            usage: self.log.usage(),
            is_disk_full: self.log.is_disk_full(),
            inbox: self.inbox.tally(),
            retain: self.retain.tally(),
        }
    }

    /// The sessions.
    pub(crate) fn inbox(&self) -> &Replica<InboxRange> {
        &self.inbox
    }

    /// The sessions, for proposals.
    pub(crate) fn inbox_mut(&mut self) -> &mut Replica<InboxRange> {
        &mut self.inbox
    }

    /// What the last turns led to, for the core to empty.
    pub(crate) fn inbox_outputs(&mut self) -> &mut Outputs<InboxRange> {
        &mut self.inbox_outputs
    }

    /// The retained messages.
    pub(crate) fn retain(&self) -> &Replica<RetainRange> {
        &self.retain
    }

    /// The retained messages, for proposals.
    pub(crate) fn retain_mut(&mut self) -> &mut Replica<RetainRange> {
        &mut self.retain
    }

    /// What the last turns led to, for the core to empty.
    pub(crate) fn retain_outputs(&mut self) -> &mut Outputs<RetainRange> {
        &mut self.retain_outputs
    }

    /// Something that has been read in: what waited for it may go on.
    pub(crate) fn next_read_in(&mut self) -> Option<Window> {
        self.read_in.pop_front()
    }

    /// Whether the turn ends with something on its way to the disk that more could go with.
    pub(crate) fn is_about_to_write(&self) -> bool {
        self.inbox.has_proposals() || self.retain.has_proposals() || self.log.has_pending()
    }

    pub(super) fn turn(&mut self, now: Now) {
        let (mono, wall) = (wal::Mono(now.monotonic.0), Wall(now.wall.0));
        self.inbox.turn(mono, wall, &mut self.log, &mut self.inbox_outputs);
        self.retain.turn(mono, wall, &mut self.log, &mut self.retain_outputs);
    }

    pub(super) fn flush(&mut self, now: Now, requests: &mut Vec<StorageRequest>) {
        let mono = wal::Mono(now.monotonic.0);
        self.reclaim(mono);
        self.log.flush(mono, &mut self.asked);
        requests.extend(self.asked.drain(..).map(|request| StorageRequest::Log(self.id, request)));
        let checkpoints = self.inbox_outputs.requests.drain(..).chain(self.retain_outputs.requests.drain(..));
        requests.extend(checkpoints.map(|request| StorageRequest::Checkpoint(self.id, request)));
    }

    /// Moves a little of what still lives in sparse segments forward.
    fn reclaim(&mut self, now: wal::Mono) {
        let (inbox, retain) = (&self.inbox, &self.retain);
        // Without room now, the next turn goes on.
        let _ = self.log.reclaim(
            now,
            RECLAIM,
            |candidate| {
                let (position, header) = (candidate.position, &candidate.header);
                if header.range == inbox.range() {
                    inbox.is_live(position, header, candidate.metadata)
                } else {
                    header.range == retain.range() && retain.is_live(position, header, candidate.metadata)
                }
            },
            &mut self.moved,
        );
        for (from, to) in self.moved.drain(..) {
            let read = self.log.read(to.position).expect("it was appended just now");
            if read.header().range == self.inbox.range() {
                self.inbox.on_moved(&self.log, from, &to);
            } else {
                self.retain.on_moved(&self.log, from, &to);
            }
        }
    }

    pub(super) fn on_answer(&mut self, now: Now, salt: u64, answer: StorageAnswer) {
        match answer {
            StorageAnswer::Log(_, completion) => {
                if let Completion::Prefetched(pages) = &completion {
                    self.read_in.extend(pages.windows());
                }
                completion.tell(wal::Mono(now.monotonic.0), salt, &mut self.log);
            }
            StorageAnswer::Space(_, available) => self.log.on_space(available),
            StorageAnswer::Checkpoint { range, number, whole, .. } => {
                self.on_checkpoint(range, number, whole);
            }
        }
    }

    fn on_checkpoint(&mut self, range: RangeId, number: u64, whole: bool) {
        if range == self.inbox.range() {
            self.inbox.on_checkpoint_written(number, whole, &mut self.inbox_outputs);
        } else {
            assert_eq!(range, self.retain.range(), "of a range of this log");
            self.retain.on_checkpoint_written(number, whole, &mut self.retain_outputs);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Mono> {
        let durable = self.log.durable();
        let waits = self.inbox.waits_for().into_iter().chain(self.retain.waits_for()).min();
        let wants_turn = self.inbox.wants_turn() || self.retain.wants_turn() || !self.read_in.is_empty();
        if wants_turn || waits.is_some_and(|lsn| lsn <= durable) {
            return Some(Mono(0));
        }
        self.log.next_timeout().map(|at| Mono(at.0))
    }

    /// Says in the log that all before is durable, so that damage to it will be noticed. To be called until it is
    /// [`StoredLog::is_closed`].
    pub(super) fn close(&mut self, now: Now) {
        self.log.hurry();
        // Of what is on its way the mark could not say it.
        if self.is_marked() || self.log.usage().unflushed_bytes > 0 {
            return;
        }
        match self.log.append_mark(wal::Mono(now.monotonic.0)) {
            Ok(mark) => (self.mark, self.marks_left) = (mark, self.marks_left - 1),
            // A segment that is being made is worth waiting for.
            Err(AppendError::SegmentsBehind) => {}
            // The log is whole all the same.
            Err(_) => self.marks_left = 0,
        }
        self.log.hurry();
    }

    /// Whether all that was appended is durable, and marked to be.
    pub(super) fn is_closed(&self) -> bool {
        self.is_marked() && self.log.usage().unflushed_bytes == 0
    }

    /// Whether nothing came behind the last mark; or it goes on coming, for reclaiming does not end.
    fn is_marked(&self) -> bool {
        self.log.next_lsn() == self.mark.next() || self.marks_left == 0
    }

    pub(super) fn is_quiet(&self) -> bool {
        !self.inbox.is_dirty()
            && !self.retain.is_dirty()
            && self.log.durable() == self.log.next_lsn().previous()
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.log.poison().is_some()
    }
}
