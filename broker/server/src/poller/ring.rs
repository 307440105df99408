//! The io_uring of a core, in which it sleeps. Every descriptor has one multishot poll in it for as long as
//! it lives: no allocation, one completion each time that something came, none to begin waiting again.
//!
//! ```text
//! watch ──► reported, more to come ──► reported … ──► lapsed (the completion queue was full) ──► watch
//!                                                └──► forgotten, under a name that is not used again
//! ```
//!
//! The commits of the core's logs go the same way ([`commits`](super::commits)): entries under tokens of a kind
//! of their own.
//!
//! Hot path.

#![expect(unsafe_code, reason = "submissions are unsafe because others than polls point to memory")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use broker_core::identity::ConnectionId;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use wal::{CommitNumber, LogId};

use super::commits::{Commits, Flushed};
use super::{Kind, Readiness, Report, Source, Token, What};

/// Entries told to the kernel in one call; a turn rarely has as many.
const SUBMISSIONS: u32 = 256;

/// Completions between two turns for which there is room: with the submissions 276 KiB of locked memory.
/// What goes beyond is kept by the kernel, which ends the polls concerned.
const COMPLETIONS: u32 = 16 * 1024;

/// Calls in one turn that let the kernel bring completions in; it brings about 20 at a time.
const ROUNDS_MAX: u32 = 64;

/// Something to receive, or no more to come.
const READABLE: u32 = bits(libc::POLLIN | libc::POLLRDHUP);

/// Nothing comes after these.
const HUNG_UP: u32 = bits(libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR);

/// The ring of one core. Lives on its thread.
pub(crate) struct Ring {
    ring: IoUring,
    /// What the kernel has not been told yet, in order. A poll whose descriptor is closed meanwhile is
    /// followed by its cancellation, so it does not matter whom the number belongs to by then.
    unsubmitted: VecDeque<Entry>,
    /// The same for writes of commits, each with its sync and its slot.
    linked: VecDeque<([Entry; 2], u32)>,
    commits: Commits,
}

impl Ring {
    /// On the thread that will wait. `EINVAL` before Linux 6.1.
    pub(super) fn new() -> io::Result<Ring> {
        Ring::with_completions(COMPLETIONS)
    }

    pub(super) fn with_completions(completions: u32) -> io::Result<Ring> {
        // Deferred: otherwise each arrival interrupts a busy core for a completion of its own. Multishot
        // polls are older.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(completions)
            .build(SUBMISSIONS.min(completions))?;
        let (unsubmitted, linked) = (VecDeque::new(), VecDeque::new());
        Ok(Ring { ring, unsubmitted, linked, commits: Commits::default() })
    }

    pub(super) fn watch(&mut self, source: Source, descriptor: BorrowedFd<'_>) {
        let poll = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), READABLE).multi(true);
        self.queue(poll.build(), Token::of(source));
    }

    pub(super) fn watch_writable(&mut self, connection: ConnectionId, socket: BorrowedFd<'_>) {
        let poll = opcode::PollAdd::new(Fd(socket.as_raw_fd()), bits(libc::POLLOUT));
        self.queue(poll.build(), Token::of_writable(connection));
    }

    /// Not by `PollRemove`, which does nothing while an event is on its way. A wait for room to send ends
    /// when the socket is shut down.
    pub(super) fn forget(&mut self, source: Source) {
        self.queue(opcode::AsyncCancel::new(Token::of(source).0).build(), Token::NOBODY);
    }

    fn queue(&mut self, entry: Entry, token: Token) {
        self.unsubmitted.push_back(entry.user_data(token.0));
    }

    /// See [`Poller::write_and_sync`](super::Poller::write_and_sync). The kernel is told at once: the disk works
    /// while the turn goes on.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn write_and_sync(
        &mut self,
        (log, number): (LogId, CommitNumber),
        file: BorrowedFd<'_>,
        offset: u64,
        bytes: &[u8],
    ) {
        let asked = u32::try_from(bytes.len()).expect("writes are below 4 GiB");
        let slot = self.commits.begin(log, number, asked);
        let [write, sync] = self.commits.tokens(slot);
        let file = Fd(file.as_raw_fd());
        let write = opcode::Write::new(file, bytes.as_ptr(), asked).offset(offset).build().user_data(write.0);
        let sync = opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build().user_data(sync.0);
        self.linked.push_back(([write.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS), sync], slot));
        self.submit_linked();
    }

    /// A link holds only between entries that the kernel takes in one call. So they are alone in the queue, and
    /// if one of two is left there, the link is cut.
    fn submit_linked(&mut self) {
        while let Some((pair, slot)) = self.linked.pop_front() {
            if !self.ring.submission().is_empty() {
                let _ = self.ring.submit();
            }
            if !self.ring.submission().is_empty() {
                // No memory: again with the next poll.
                self.linked.push_front((pair, slot));
                return;
            }
            // SAFETY: whoever began the write keeps its bytes in place and its file open.
            unsafe { self.ring.submission().push_multiple(&pair) }.expect("the queue is empty");
            let _ = self.ring.submit();
            if self.ring.submission().len() == 1 {
                self.commits.cut(slot);
            }
        }
    }

    pub(super) fn next_flushed(&mut self) -> Option<Flushed> {
        self.commits.next()
    }

    pub(super) fn poll(&mut self, timeout: Duration, reports: &mut Vec<Report>) {
        // An error (no memory, no room for completions) leaves entries for the next turn, which comes at once:
        // nobody sleeps over them, because sleeping begins by submitting.
        let _ = self.submit_and_sleep(timeout);
        for _ in 0..ROUNDS_MAX {
            for completion in self.ring.completion() {
                match read(&completion) {
                    Some(report) => reports.push(report),
                    None => self.commits.on_completion(&completion),
                }
            }
            if !self.has_more_to_bring() || self.ring.submit().is_err() {
                break;
            }
        }
    }

    fn submit_and_sleep(&mut self, timeout: Duration) -> io::Result<()> {
        if !self.linked.is_empty() {
            self.submit_linked();
        }
        while !self.fill() {
            self.ring.submit()?;
        }
        let idle = self.ring.completion().is_empty() && !self.has_more_to_bring();
        if idle && !timeout.is_zero() {
            let timeout = Timespec::from(timeout);
            self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))?;
        } else if !self.ring.submission().is_empty() {
            self.ring.submit()?;
        }
        Ok(())
    }

    /// Moves entries to the submission queue; false if not all fit.
    fn fill(&mut self) -> bool {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.unsubmitted.front() {
            // SAFETY: polls and cancellations point to no memory.
            if unsafe { queue.push(entry) }.is_err() {
                return false;
            }
            self.unsubmitted.pop_front();
        }
        true
    }

    /// The kernel has completions that it writes only when it is called.
    fn has_more_to_bring(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }
}

impl Drop for Ring {
    /// The kernel reads the logs' memory until the last completion of a commit.
    fn drop(&mut self) {
        self.submit_linked();
        while !self.commits.is_idle() && self.ring.submit_and_wait(1).is_ok() {
            for completion in self.ring.completion() {
                self.commits.on_completion(&completion);
            }
        }
    }
}

/// Events as the kernel numbers them.
const fn bits(events: libc::c_short) -> u32 {
    events.cast_unsigned() as u32
}

fn read(completion: &cqueue::Entry) -> Option<Report> {
    let token = Token(completion.user_data());
    let source = token.source()?;
    let what = match (u32::try_from(completion.result()), token.kind()) {
        // An error shows in the send that follows.
        (_, Kind::Writable) => What::Ready(Readiness { writable: true, ..Readiness::default() }),
        // What it says is said again when it is watched again.
        (Ok(_), _) if !cqueue::more(completion.flags()) => What::Lapsed,
        (Ok(events), _) => {
            let hung_up = events & HUNG_UP != 0;
            What::Ready(Readiness { readable: true, hung_up, writable: false })
        }
        (Err(_), _) => What::Failed(-completion.result()),
    };
    Some(Report { source, what })
}
