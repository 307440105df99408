//! A checkpoint of the running state, a chunk per turn; then the log before it is let go.
//!
//! ```text
//!  due ──► chunk ──► written ──► chunk … last chunk written, under its name ──► state record ──► durable:
//!            (host)                                                                              truncate
//! ```

use wal::{Log, Lsn, Mono};

use super::{Outputs, Replica, Request};
use crate::checkpoint::{Header, Writer};
use crate::identity::LogIndex;
use crate::machine::StateMachine;

/// Where the replica stands with its checkpoints.
#[derive(Default)]
pub(super) struct Checkpoint {
    /// Bytes of entries in the log since the last one began.
    pub(super) log_bytes: u64,
    /// Size of the last one.
    pub(super) bytes: u64,
    wanted: bool,
    writer: Option<Writer>,
    /// The host is writing a piece.
    waiting: bool,
    /// All pieces are handed out.
    complete: bool,
    /// The file is there; the state record is to name it, in place of this one.
    written: Option<Header>,
    /// When this is durable, the log ends at that index, and a former checkpoint may go.
    pub(super) truncating: Option<(Lsn, LogIndex)>,
    former: u64,
    failures: u64,
}

impl Checkpoint {
    /// Is there something to do that waits for nobody?
    pub(super) fn wants_turn(&self) -> bool {
        !self.is_busy() && (self.wanted || self.writer.is_some())
    }

    /// Is there nothing to do before somebody answers, or the log takes a record?
    fn is_busy(&self) -> bool {
        self.waiting || self.written.is_some() || self.truncating.is_some()
    }

    /// Is there something that is not handed to the log or the host?
    pub(super) fn is_dirty(&self) -> bool {
        self.written.is_some() || (!self.waiting && (self.wanted || self.writer.is_some()))
    }
}

impl<S: StateMachine> Replica<S> {
    /// Begins a checkpoint with the next turn, if none is under way.
    pub fn start_checkpoint(&mut self) {
        self.checkpoint.wanted = true;
    }

    /// Checkpoints that could not be written.
    #[must_use]
    pub fn checkpoint_failures(&self) -> u64 {
        self.checkpoint.failures
    }

    /// A piece of a checkpoint is written (with the last one: durable under its name), or could not be: then
    /// this checkpoint is given up, and the next begins when the log has grown as much again.
    pub fn on_checkpoint_written(&mut self, number: u64, whole: bool, out: &mut Outputs<S>) {
        assert!(std::mem::take(&mut self.checkpoint.waiting), "a piece is answered once");
        let writer = self.checkpoint.writer.as_ref().expect("a checkpoint is under way");
        assert_eq!(writer.header.number, number, "of the checkpoint that is under way");
        if !whole {
            self.checkpoint.failures += 1;
            self.checkpoint.writer = None;
            self.checkpoint.complete = false;
            out.requests.push(Request::RemoveCheckpoint { range: self.range, number });
        } else if std::mem::take(&mut self.checkpoint.complete) {
            let writer = self.checkpoint.writer.take().expect("a checkpoint is under way");
            self.checkpoint.bytes = writer.offset;
            self.checkpoint.written = Some(writer.header);
        }
    }

    pub(super) fn continue_checkpoint(&mut self, now: Mono, log: &mut Log, out: &mut Outputs<S>) {
        self.truncate(log, out);
        self.name_checkpoint(now, log);
        let checkpoint = &self.checkpoint;
        if checkpoint.is_busy() {
            return;
        }
        let due = checkpoint.log_bytes >= self.config.checkpoint_log_bytes.max(checkpoint.bytes);
        if checkpoint.writer.is_none() && !due && !checkpoint.wanted {
            return;
        }
        if self.applied > self.state.checkpoint_index || checkpoint.writer.is_some() {
            self.write_chunk(out);
        } else {
            self.checkpoint.wanted = false;
            self.checkpoint.log_bytes = 0;
        }
    }

    fn write_chunk(&mut self, out: &mut Outputs<S>) {
        let mut bytes = Vec::with_capacity(self.config.chunk_bytes);
        let mut writer = self.checkpoint.writer.take().unwrap_or_else(|| {
            self.checkpoint.wanted = false;
            self.checkpoint.log_bytes = 0;
            Writer::begin(self.checkpoint_header(), &mut bytes)
        });
        let machine = &self.machine;
        let fill = |after: Option<&[u8]>, chunk: &mut _| machine.checkpoint(after, chunk);
        let last = writer.chunk(self.applied, self.config.chunk_bytes, fill, &mut bytes);
        let (number, offset) = (writer.header.number, writer.offset);
        writer.offset += bytes.len() as u64;
        self.checkpoint.complete = last;
        self.checkpoint.waiting = true;
        self.checkpoint.writer = Some(writer);
        out.requests.push(Request::WriteCheckpoint { range: self.range, number, offset, bytes, last });
    }

    fn checkpoint_header(&self) -> Header {
        let log = self.raft.raft.store();
        Header {
            cluster: self.config.cluster,
            range: self.range,
            number: self.state.checkpoint + 1,
            index: self.applied,
            term: log.term_at(self.applied).expect("what is applied is in the log"),
            wall: self.wall,
        }
    }

    /// Says in the state record that the checkpoint counts, and that the log begins behind it, or behind
    /// what the slowest voter has.
    fn name_checkpoint(&mut self, now: Mono, log: &mut Log) {
        let Some(header) = self.checkpoint.written else { return };
        if self.writing.is_some() {
            return;
        }
        if self.is_leader() {
            self.everywhere = self.matched_everywhere();
        }
        let former = (self.state.checkpoint, self.state.checkpoint_index, self.state.truncated);
        let end = if self.is_alone() { header.index } else { header.index.min(self.everywhere) };
        if let Some(mark) = self.raft.raft.store().mark(end) {
            self.state.truncated = mark;
        }
        self.state.checkpoint = header.number;
        self.state.checkpoint_index = header.index;
        match self.write_state(now, log) {
            Ok(lsn) => {
                self.checkpoint.written = None;
                self.checkpoint.former = former.0;
                self.checkpoint.truncating = Some((lsn, self.state.truncated.index));
            }
            // The log has no room now; again with the next turn.
            Err(_) => (self.state.checkpoint, self.state.checkpoint_index, self.state.truncated) = former,
        }
    }

    /// Takes off the Raft log what the durable state record no longer counts to it. Entries whose payloads
    /// are referred to stay in the write-ahead log; the others are dead.
    fn truncate(&mut self, log: &mut Log, out: &mut Outputs<S>) {
        let Some((lsn, end)) = self.checkpoint.truncating else { return };
        if lsn > log.durable() {
            return;
        }
        self.checkpoint.truncating = None;
        let number = std::mem::take(&mut self.checkpoint.former);
        if number != 0 {
            out.requests.push(Request::RemoveCheckpoint { range: self.range, number });
        }
        let first = self.raft.raft.store().first();
        if first > end.0 {
            return;
        }
        for index in (first..=end.0).map(LogIndex) {
            let record = self.entries.get(index).expect("what is applied is written");
            if record.references == 0 {
                log.dead(record.place.position, record.place.bytes);
                self.entries.remove(index);
            }
        }
        self.raft.mut_store().truncate(end);
        self.raft.mut_store().shrink(self.applied, self.config.recent_bytes_max);
    }
}
