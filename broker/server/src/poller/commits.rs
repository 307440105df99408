//! Commits of logs on their way through a ring: each write linked to an fdatasync of its file.
//!
//! ```text
//! write(O_DIRECT) ──link──► fdatasync      a short or failed write breaks the link: the sync is cancelled
//! ```
//!
//! A write that succeeds is not told of: it would wake the core for nothing. So a commit of one write is told of once, by
//! its sync, or by its write if that failed; whether the kernel then tells of the cancelled sync, too, does not matter.
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
    /// Counts the writes: what is told late of one is not taken for the next in its slot.
    begun: u32,
    ended: VecDeque<Flushed>,
}

/// One write with its sync.
#[derive(Clone, Copy, Debug)]
struct Write {
    log: LogId,
    number: CommitNumber,
    name: u32,
    asked: u32,
    /// How the write ended, if not as it should.
    failed: Option<i32>,
    synced: Option<i32>,
    /// The kernel took the write without its sync, which may have come too early then.
    is_cut: bool,
}

impl Commits {
    /// Makes room for one write with its sync. Returns its slot.
    pub(super) fn begin(&mut self, log: LogId, number: CommitNumber, asked: u32) -> u32 {
        self.begun = self.begun.wrapping_add(1);
        let name = self.begun;
        let write = Write { log, number, name, asked, failed: None, synced: None, is_cut: false };
        let free = self.writes.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.writes.push(None);
            self.writes.len() - 1
        });
        self.writes[slot] = Some(write);
        u32::try_from(slot).expect("a few of each log")
    }

    /// The tokens of a write and of its sync: the last bit says which.
    pub(super) fn tokens(&self, slot: u32) -> [Token; 2] {
        let name = self.writes[slot as usize].as_ref().expect("begun before").name << 1;
        [name, name | 1].map(|name| Token::new(Kind::Commit, slot, name))
    }

    /// The link between a write and its sync did not hold. The write may go on when this is told as a failure of its
    /// commit: that ends the log, which keeps its bytes until the process is gone.
    pub(super) fn cut(&mut self, slot: u32) {
        self.writes[slot as usize].as_mut().expect("it is on its way").is_cut = true;
    }

    /// Takes a completion, if it is one of a commit.
    pub(super) fn on_completion(&mut self, completion: &cqueue::Entry) {
        let token = Token(completion.user_data());
        if token.kind() != Kind::Commit {
            return;
        }
        self.on_told(token, completion.result());
    }

    /// The kernel tells of a sync, or of a write.
    fn on_told(&mut self, token: Token, result: i32) {
        let (slot, is_sync) = (token.slot() as usize, token.generation() & 1 == 1);
        let own = |write: &&mut Write| write.name << 1 == token.generation() & !1;
        let Some(write) = self.writes[slot].as_mut().filter(own) else { return };
        if is_sync {
            write.synced = Some(result);
        } else if u32::try_from(result) != Ok(write.asked) {
            write.failed = Some(result);
            write.synced = Some(-libc::ECANCELED);
        }
        let (log, number) = (write.log, write.number);
        self.answer(log, number);
    }

    fn answer(&mut self, log: LogId, number: CommitNumber) {
        let is_of = |write: &Write| (write.log, write.number) == (log, number);
        let mut own = self.writes.iter().flatten().filter(|write| is_of(write));
        if own.clone().any(|write| write.synced.is_none()) {
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
        let synced = self.synced.expect("complete");
        match self.failed.map(|written| u32::try_from(written).map_err(|_| -written)) {
            Some(Err(error)) => Err(FlushError::Write(error)),
            Some(Ok(written)) => Err(FlushError::Short { written, asked: self.asked }),
            None if synced < 0 => Err(FlushError::Sync(-synced)),
            None if self.is_cut => Err(FlushError::Sync(libc::EAGAIN)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write as _;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::cli::Io;
    use crate::poller::Poller;

    /// Begins these writes as one commit, and waits for what becomes of it.
    fn commit(number: u64, file: impl AsFd, writes: &[(u64, &[u8])]) -> Result<(), FlushError> {
        let mut poller = Poller::new(Io::Uring).unwrap().0;
        for (offset, bytes) in writes {
            let name = (LogId(7), CommitNumber(number));
            // SAFETY: the poller is dropped before this returns, and file and bytes stay for longer.
            #[expect(unsafe_code, reason = "the kernel is handed a pointer")]
            unsafe {
                poller.write_and_sync(name, file.as_fd(), *offset, bytes);
            }
        }
        loop {
            poller.poll(Duration::from_secs(60), &mut Vec::new());
            if let Some(flushed) = poller.next_flushed() {
                assert_eq!((flushed.log, flushed.number), (LogId(7), CommitNumber(number)));
                assert_eq!(poller.next_flushed(), None, "answered once");
                return flushed.result;
            }
        }
    }

    /// A commit of two writes is answered once, when both are there.
    #[test]
    fn a_commit_is_answered_as_a_whole() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(commit(1, &file, &[(0, &[1; 8192]), (65_536, &[2; 4096])]), Ok(()));
        let mut byte = [0; 2];
        file.read_exact_at(&mut byte[..1], 8191).unwrap();
        file.read_exact_at(&mut byte[1..], 65_536 + 4095).unwrap();
        assert_eq!(byte, [1, 2]);
    }

    /// Each failure is told by name: of the write, of the sync, and of a write that ended early.
    #[test]
    fn failures_are_told_apart() {
        let open = |path: &str| OpenOptions::new().write(true).open(path).unwrap();
        let not_writable = File::open("/dev/null").unwrap();
        assert_eq!(commit(1, not_writable, &[(0, &[0; 4096])]), Err(FlushError::Write(libc::EBADF)));
        assert_eq!(commit(2, open("/dev/full"), &[(0, &[0; 4096])]), Err(FlushError::Write(libc::ENOSPC)));
        assert_eq!(commit(3, open("/dev/null"), &[(0, &[0; 4096])]), Err(FlushError::Sync(libc::EINVAL)));
        let (mut end, _other) = UnixStream::pair().unwrap();
        end.set_nonblocking(true).unwrap();
        let room = 1 << 22;
        let result = commit(4, &end, &[(0, &vec![0; room])]);
        let Err(FlushError::Short { written, asked }) = result else { panic!("{result:?}") };
        assert!(written < asked && asked as usize == room);
        assert!(end.write(&[0]).is_err(), "it is full");
    }

    /// A link that was cut is a failure, though both of its ends succeeded.
    #[test]
    fn a_cut_link_is_a_failure() {
        let mut commits = Commits::default();
        let slot = commits.begin(LogId(0), CommitNumber(1), 0);
        commits.cut(slot);
        let [_, sync] = commits.tokens(slot);
        commits.on_told(sync, 0);
        assert_eq!(commits.next().map(|it| it.result), Some(Err(FlushError::Sync(libc::EAGAIN))));
        assert!(commits.is_idle());
    }

    /// What the kernel tells of a sync whose write has failed is not taken for the sync of the next write in its slot.
    #[test]
    fn a_cancelled_sync_is_nobody_elses() {
        let mut commits = Commits::default();
        let slot = commits.begin(LogId(0), CommitNumber(1), 4096);
        let [write, sync] = commits.tokens(slot);
        commits.on_told(write, -libc::EIO);
        assert_eq!(commits.next().map(|it| it.result), Some(Err(FlushError::Write(libc::EIO))));
        commits.on_told(sync, -libc::ECANCELED);
        assert_eq!(commits.begin(LogId(1), CommitNumber(1), 4096), slot);
        commits.on_told(sync, -libc::ECANCELED);
        assert!(commits.next().is_none() && !commits.is_idle());
        let [_, sync] = commits.tokens(slot);
        commits.on_told(sync, 0);
        assert_eq!(commits.next().map(|it| (it.log, it.result)), Some((LogId(1), Ok(()))));
        assert!(commits.is_idle());
    }
}
