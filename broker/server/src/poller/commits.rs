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
        let write = commits.writes[slot as usize].as_mut().unwrap();
        (write.written, write.synced) = (Some(0), Some(0));
        commits.answer(LogId(0), CommitNumber(1));
        assert_eq!(commits.next().map(|it| it.result), Some(Err(FlushError::Sync(libc::EAGAIN))));
        assert!(commits.is_idle());
    }
}
