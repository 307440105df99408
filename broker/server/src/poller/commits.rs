//! Commits of logs on their way through a ring: each write linked to an fdatasync of its file.
//!
//! ```text
//! write(O_DIRECT) ──link──► fdatasync      a short or failed write breaks the link: the sync is cancelled
//! ```
//!
//! A commit is answered when everything of it has completed, with the first error; which of two commits is
//! answered first is the disk's affair.

use std::collections::VecDeque;

use io_uring::cqueue;
use wal::{CommitNumber, FlushError, LogId};

use super::{Kind, Token};

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flushed {
    pub(crate) log: LogId,
    pub(crate) number: CommitNumber,
    pub(crate) result: Result<(), FlushError>,
}

/// What is on its way, and what has ended. Lives on its core.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// By slot; a few of each log, for there are two commits at most.
    writes: Vec<Option<Write>>,
    ended: VecDeque<Flushed>,
}

/// One write with its sync.
#[derive(Clone, Copy, Debug)]
struct Write {
    log: LogId,
    number: CommitNumber,
    asked: u32,
    written: Option<i32>,
    synced: Option<i32>,
    /// The kernel took the write without its sync, which may have come too early then.
    is_cut: bool,
}

impl Commits {
    /// Makes room for one write with its sync. Returns its slot.
    pub(super) fn begin(&mut self, log: LogId, number: CommitNumber, asked: u32) -> u32 {
        let write = Write { log, number, asked, written: None, synced: None, is_cut: false };
        let free = self.writes.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.writes.push(None);
            self.writes.len() - 1
        });
        self.writes[slot] = Some(write);
        u32::try_from(slot).expect("a few of each log")
    }

    /// The tokens of a write and of its sync.
    pub(super) fn tokens(slot: u32) -> [Token; 2] {
        [Token::new(Kind::Commit, slot, 0), Token::new(Kind::Commit, slot, 1)]
    }

    /// The link between a write and its sync did not hold.
    pub(super) fn cut(&mut self, slot: u32) {
        self.writes[slot as usize].as_mut().expect("it is on its way").is_cut = true;
    }

    /// Takes a completion, if it is one of a commit.
    pub(super) fn on_completion(&mut self, completion: &cqueue::Entry) {
        let token = Token(completion.user_data());
        if token.kind() != Kind::Commit {
            return;
        }
        let (slot, is_sync) = (token.slot() as usize, token.generation() == 1);
        let write = self.writes[slot].as_mut().expect("only what was submitted completes");
        let place = if is_sync { &mut write.synced } else { &mut write.written };
        *place = Some(completion.result());
        let (log, number) = (write.log, write.number);
        self.answer(log, number);
    }

    fn answer(&mut self, log: LogId, number: CommitNumber) {
        let is_of = |write: &Write| (write.log, write.number) == (log, number);
        let mut own = self.writes.iter().flatten().filter(|write| is_of(write));
        if own.clone().any(|write| write.written.is_none() || write.synced.is_none()) {
            return;
        }
        let result = own.try_for_each(Write::result);
        self.ended.push_back(Flushed { log, number, result });
        for place in &mut self.writes {
            place.take_if(|write| is_of(write));
        }
    }

    /// The next commit that has ended.
    pub(super) fn next(&mut self) -> Option<Flushed> {
        self.ended.pop_front()
    }

    /// Whether the kernel has nothing to do any more.
    pub(super) fn is_idle(&self) -> bool {
        self.writes.iter().all(Option::is_none)
    }
}

impl Write {
    fn result(&self) -> Result<(), FlushError> {
        let (written, synced) = (self.written.expect("complete"), self.synced.expect("complete"));
        match u32::try_from(written) {
            Err(_) => Err(FlushError::Write(-written)),
            Ok(written) if written < self.asked => Err(FlushError::Short { written, asked: self.asked }),
            Ok(_) if synced < 0 => Err(FlushError::Sync(-synced)),
            Ok(_) if self.is_cut => Err(FlushError::Sync(libc::EAGAIN)),
            Ok(_) => Ok(()),
        }
    }
}
