//! What a core waits for, and what of it has happened: the driver's one place to learn that a descriptor is
//! ready, and the one place where a core sleeps. Nothing here receives, sends or sees the state machine.
//!
//! Reports are edges: one comes when something has arrived, and none follows for what is left lying. Who is
//! told that a descriptor is readable receives until nothing is left.
//!
//! Hot path: no allocation per report, no system call to begin waiting again.

mod commits;
mod epoll;
mod ring;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use broker_core::identity::ConnectionId;
use wal::{CommitNumber, LogId};

pub(crate) use self::commits::Flushed;
use self::epoll::Epoll;
use self::ring::Ring;
use crate::cli::Io;

/// Whose descriptor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A connection.
    Connection(ConnectionId),
    /// A listener, by index.
    Listener(u16),
    /// The eventfd through which other threads wake this core.
    Wake,
}

/// What the kernel says of one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) source: Source,
    pub(crate) what: What,
}

/// What has happened to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It can be used.
    Ready(Readiness),
    /// It is not waited on any more, for want of room for the report: to be watched again.
    Lapsed,
    /// It cannot be waited on: an error number.
    Failed(i32),
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// There is something to receive, or an end or an error.
    pub(crate) readable: bool,
    /// Nothing comes after what is there to receive: no other report will say so.
    pub(crate) hung_up: bool,
    /// There is room to send.
    pub(crate) writable: bool,
}

/// What a core waits with, for the log.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// io_uring.
    Ring,
    /// epoll, and what kept us from io_uring unless it was asked for.
    Epoll {
        /// The error of io_uring's set-up.
        why: Option<io::Error>,
    },
}

/// All that one core waits for. Lives on its thread, which must be the one that makes it.
pub(crate) enum Poller {
    /// A ring of the core's own.
    Ring(Box<Ring>),
    /// Where io_uring is not to be had.
    Epoll(Epoll),
}

impl Poller {
    /// For the calling thread.
    pub(crate) fn new(io: Io) -> io::Result<(Poller, Waiting)> {
        let ring = || Ok((Poller::Ring(Box::new(Ring::new()?)), Waiting::Ring));
        let epoll = |why| Ok((Poller::Epoll(Epoll::new()?), Waiting::Epoll { why }));
        match io {
            Io::Uring => ring(),
            Io::Epoll => epoll(None),
            Io::Auto => ring().or_else(|error| epoll(Some(error))),
        }
    }

    /// Reports from now on whenever something arrives at a descriptor, at once if something is there. Fails
    /// only with epoll, and only for want of memory or of `fs.epoll.max_user_watches`.
    pub(crate) fn watch(&mut self, source: Source, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Poller::Ring(ring) => ring.watch(source, descriptor),
            Poller::Epoll(epoll) => return epoll.watch(source, descriptor),
        }
        Ok(())
    }

    /// Reports once when there is room to send, after a send that found too little.
    pub(crate) fn watch_writable(&mut self, connection: ConnectionId, socket: BorrowedFd<'_>) {
        match self {
            Poller::Ring(ring) => ring.watch_writable(connection, socket),
            // Watched for everything from the beginning.
            Poller::Epoll(_) => {}
        }
    }

    /// Ends the watch on a descriptor, which may be closed or given away then. Reports already on their way
    /// may still come, under the name it had.
    pub(crate) fn forget(&mut self, source: Source, descriptor: BorrowedFd<'_>) {
        match self {
            Poller::Ring(ring) => ring.forget(source),
            Poller::Epoll(epoll) => epoll.forget(descriptor),
        }
    }

    /// Whether commits can be written by it.
    pub(crate) fn is_ring(&self) -> bool {
        matches!(self, Poller::Ring(_))
    }

    /// Begins a write of a commit and the fdatasync that is linked to it. A commit that consists of several is
    /// begun as a whole before anything else is asked of this poller. It has to be a ring.
    ///
    /// # Safety
    /// Until the commit is answered by [`Poller::next_flushed`], or this poller is dropped, the bytes stay in
    /// place and the file stays open.
    #[expect(unsafe_code, reason = "the kernel is handed a pointer")]
    pub(crate) unsafe fn write_and_sync(
        &mut self,
        (log, number): (LogId, CommitNumber),
        file: BorrowedFd<'_>,
        offset: u64,
        bytes: &[u8],
    ) {
        match self {
            // SAFETY: the caller's promise.
            Poller::Ring(ring) => unsafe { ring.write_and_sync((log, number), file, offset, bytes) },
            Poller::Epoll(_) => unreachable!("a thread writes where there is no ring"),
        }
    }

    /// The next commit that has ended, of those that [`Poller::poll`] has brought.
    pub(crate) fn next_flushed(&mut self) -> Option<Flushed> {
        match self {
            Poller::Ring(ring) => ring.next_flushed(),
            Poller::Epoll(_) => None,
        }
    }

    /// Sleeps until something happens, or for as long as `timeout`; then adds what has happened to
    /// `reports`, in order.
    pub(crate) fn poll(&mut self, timeout: Duration, reports: &mut Vec<Report>) {
        match self {
            Poller::Ring(ring) => ring.poll(timeout, reports),
            Poller::Epoll(epoll) => epoll.poll(timeout, reports),
        }
    }
}

/// What the kernel gives back with a report: whose it is, and for the ring of which operation.
///
/// ```text
///  63     61 60            32 31                0
/// ┌─────────┬────────────────┬───────────────────┐
/// │ kind    │ slot or index  │ generation        │
/// └─────────┴────────────────┴───────────────────┘
/// ```
///
/// The generation keeps what comes late from the next connection in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token(u64);

/// The kind of a [`Token`]; every other operation of a core's ring gets one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Kind {
    Connection,
    /// A connection again, for its one wait for room to send.
    Writable,
    Listener,
    Wake,
    /// A write of a commit, or its sync: the generation says which.
    Commit,
    /// An operation whose end nobody waits for.
    Nobody,
}

impl Token {
    const NOBODY: Token = Token::new(Kind::Nobody, 0, 0);

    const KIND_SHIFT: u32 = 61;
    const SLOT_SHIFT: u32 = 32;
    const SLOT_BITS: u32 = Self::KIND_SHIFT - Self::SLOT_SHIFT;

    const fn new(kind: Kind, slot: u32, generation: u32) -> Token {
        assert!(slot < 1 << Self::SLOT_BITS, "half a billion connections on one core");
        Token((kind as u64) << Self::KIND_SHIFT | (slot as u64) << Self::SLOT_SHIFT | generation as u64)
    }

    fn of(source: Source) -> Token {
        match source {
            Source::Connection(id) => Token::new(Kind::Connection, id.slot, id.generation),
            Source::Listener(index) => Token::new(Kind::Listener, u32::from(index), 0),
            Source::Wake => Token::new(Kind::Wake, 0, 0),
        }
    }

    fn of_writable(id: ConnectionId) -> Token {
        Token::new(Kind::Writable, id.slot, id.generation)
    }

    fn kind(self) -> Kind {
        match self.0 >> Self::KIND_SHIFT {
            kind if kind == Kind::Connection as u64 => Kind::Connection,
            kind if kind == Kind::Writable as u64 => Kind::Writable,
            kind if kind == Kind::Listener as u64 => Kind::Listener,
            kind if kind == Kind::Wake as u64 => Kind::Wake,
            kind if kind == Kind::Commit as u64 => Kind::Commit,
            _ => Kind::Nobody,
        }
    }

    /// Whose descriptor it is about; `None` if nobody's.
    fn source(self) -> Option<Source> {
        match self.kind() {
            Kind::Connection | Kind::Writable => {
                Some(Source::Connection(ConnectionId { slot: self.slot(), generation: self.generation() }))
            }
            Kind::Listener => u16::try_from(self.slot()).ok().map(Source::Listener),
            Kind::Wake => Some(Source::Wake),
            Kind::Commit | Kind::Nobody => None,
        }
    }

    fn slot(self) -> u32 {
        let slot = (self.0 >> Self::SLOT_SHIFT) & ((1 << Self::SLOT_BITS) - 1);
        u32::try_from(slot).unwrap_or_else(|_| unreachable!("29 bits"))
    }

    fn generation(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
