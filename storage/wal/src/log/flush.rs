//! Hot path. Group commit: everything appended since the last one leaves as one, and its completion is what
//! makes records durable.

use smallvec::SmallVec;

use crate::identity::{CommitNumber, Lsn, Mono};
use crate::request::{Commit, FlushError, Request, Write};

use super::{Log, Pending, Poison};

impl Log {
    /// Ends a turn: what the log wants of its host goes to `out`. A commit is among it when something was
    /// appended, fewer than two are in flight, and waiting for company no longer pays.
    pub fn flush(&mut self, now: Mono, out: &mut Vec<Request>) {
        if self.poison.is_some() {
            return;
        }
        self.push_table_if_wanted(now);
        if self.flush_at().is_some_and(|at| at <= now) {
            out.push(Request::Flush(self.begin_commit(now)));
        }
        self.ask(now, out);
        self.ask_reclaim(out);
        self.ask_windows(out);
        self.image_unused.turn(now);
    }

    /// The next commit does not wait for company.
    pub fn hurry(&mut self) {
        self.pending.urgent = true;
    }

    /// When the pending records are to leave; none while nothing is pending or two commits are in flight.
    pub(super) fn flush_at(&self) -> Option<Mono> {
        let since = self.pending.since?;
        if self.commits.is_full() {
            return None;
        }
        if self.pending.urgent || self.pending.bytes >= self.config.commit_bytes_full {
            return Some(since);
        }
        let wait_ns = self.linger.wait_ns(self.commits.in_flight(), self.config.linger_ns_max);
        let from = self.commits.newest_since().unwrap_or(since);
        Some(from.after(wait_ns).max(since).min(since.after(self.config.linger_ns_max)))
    }

    fn begin_commit(&mut self, now: Mono) -> Commit {
        let mut writes: SmallVec<[Write; 1]> = std::mem::take(&mut self.unwritten);
        writes.extend(self.tail.as_mut().and_then(super::tail::Tail::take));
        assert!(!writes.is_empty(), "pending records are in some segment");
        self.tally.written_bytes += writes.iter().map(|write| u64::from(write.bytes)).sum::<u64>();
        let Pending { records, bytes, .. } = std::mem::take(&mut self.pending);
        let last = self.next_lsn.previous();
        let number = self.commits.begin(now, last, bytes, records);
        Commit { log: self.config.identity.log, number, last, writes }
    }

    /// The bytes of a write that is in flight. They do not move and do not change until its commit is
    /// answered; they begin at a multiple of 4096 in memory too.
    ///
    /// # Panics
    /// When the write is not one of a commit in flight.
    #[must_use]
    pub fn bytes_to_write(&self, write: &Write) -> &[u8] {
        let image = match &self.tail {
            Some(tail) if tail.segment == write.segment => &tail.image,
            _ => self.sealed.image(write.segment).expect("a segment with a commit in flight is in memory"),
        };
        let offset = usize::try_from(write.offset).expect("within a segment");
        &image.bytes()[offset..offset + write.bytes as usize]
    }

    /// A commit is on disk, or failed. Answers the new durable LSN if that moved: the completion of a later
    /// commit moves nothing until the earlier one is complete too, and after a failure nothing moves.
    pub fn on_flushed(
        &mut self,
        now: Mono,
        number: CommitNumber,
        result: Result<(), FlushError>,
    ) -> Option<Lsn> {
        if self.poison.is_some() {
            return None;
        }
        if let Err(error) = result {
            self.poison = Some(Poison { commit: number, error });
            return None;
        }
        let (took_ns, records) = self.commits.complete(now, number);
        self.linger.on_commit(took_ns, records);
        self.tally.on_commit(took_ns, records);
        let before = self.durable;
        while let Some(last) = self.commits.pop_complete() {
            assert!(last > self.durable, "commits are acknowledged in order");
            self.durable = last;
        }
        if self.durable == before {
            return None;
        }
        self.on_durable();
        Some(self.durable)
    }

    /// Segments whose successor table became durable are free when nobody reads them.
    pub(super) fn on_durable(&mut self) {
        self.sealed.find_dead(self.durable);
        let spares = &mut self.spares;
        self.sealed.release(self.durable, |segment, bytes| spares.give_back(segment, bytes));
    }
}
