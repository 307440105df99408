//! A core's runtime: monoio on io_uring, or on epoll where io_uring is not to be had. The rest of the
//! shell sees a [`Descriptor`] whose readiness can be awaited, a [`Yielder`] and nothing else of monoio's;
//! it never reads or writes through the runtime, because a read that is dropped loses bytes.
//!
//! Rules for everything that runs on it, each for a defect of monoio 0.2.4:
//!
//! - A task never wakes itself: it would run again before all others, for ever. To let the kernel in, await
//!   [`Yielder::pass`].
//! - The runtime's timers only bound a sleep: they do not fire while any task can run.
//! - Readiness is asked for with `relaxed = false`: with epoll the other way reports what is long gone.

use std::future::{Future, poll_fn};
use std::io;
use std::net::UdpSocket as StdUdpSocket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;

use monoio::net::udp::UdpSocket;
use monoio::time::TimeDriver;
use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::cli::Io;
use crate::sys::{self, EventFd};

/// Entries of a core's submission queue; the completion queue has twice as many, and the kernel keeps
/// what does not fit. Measured need: 384 KiB of locked memory per core.
const RING_ENTRIES: u32 = 4096;

/// A core's runtime. Lives on its thread, which must be the one that builds it.
pub(crate) type Runtime = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

/// What a runtime waits with.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// io_uring; `deferred` if completions are only handled when the core asks for them (Linux 6.1).
    Ring {
        /// Whether the ring has `DEFER_TASKRUN`.
        deferred: bool,
    },
    /// epoll, and what kept us from io_uring unless it was asked for.
    Epoll {
        /// The error of io_uring's set-up.
        why: Option<io::Error>,
    },
}

/// Builds the runtime of the calling thread.
pub(crate) fn build(io: Io) -> io::Result<(Runtime, Waiting)> {
    match io {
        Io::Uring => ring(),
        Io::Epoll => epoll(None),
        Io::Auto => ring().or_else(|error| epoll(Some(error))),
    }
}

fn ring() -> io::Result<(Runtime, Waiting)> {
    let build = |builder: io_uring::Builder| {
        RuntimeBuilder::<IoUringDriver>::new()
            .uring_builder(builder)
            .with_entries(RING_ENTRIES)
            .enable_timer()
            .build()
    };
    let mut deferred = io_uring::IoUring::builder();
    deferred.setup_single_issuer().setup_defer_taskrun();
    match build(deferred) {
        Ok(runtime) => Ok((runtime.into(), Waiting::Ring { deferred: true })),
        // The kernel does not know these flags.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let runtime = build(io_uring::IoUring::builder())?;
            Ok((runtime.into(), Waiting::Ring { deferred: false }))
        }
        Err(error) => Err(error),
    }
}

fn epoll(why: Option<io::Error>) -> io::Result<(Runtime, Waiting)> {
    let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(RING_ENTRIES).enable_timer();
    Ok((builder.build()?.into(), Waiting::Epoll { why }))
}

/// An open descriptor of any kind, known to the runtime of this thread. Dropping it closes it, through the
/// ring and so a little later; what must happen now is done with `shutdown`.
///
/// Inside is monoio's UDP socket: the thinnest of its types that can be awaited and says nothing about
/// what the descriptor is.
#[derive(Debug)]
pub(crate) struct Descriptor(UdpSocket);

impl Descriptor {
    /// Makes a descriptor known to the runtime of this thread. It need not be non-blocking.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Descriptor> {
        UdpSocket::from_std(StdUdpSocket::from(descriptor)).map(Descriptor)
    }

    /// Waits until there is something to receive, an end of the stream or an error. Dropping the future
    /// loses nothing.
    pub(crate) fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.readable(false)
    }

    /// Waits until something can be sent, or an error. Dropping the future loses nothing.
    pub(crate) fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.writable(false)
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        sys::borrow(&self.0)
    }
}

/// How a task with more to do lets the kernel in: what has completed meanwhile is reported, timers fire,
/// all other tasks run, and then it goes on. One per core; 2 µs on the ring.
pub(crate) struct Yielder {
    descriptor: Descriptor,
    /// With epoll a descriptor that stays readable is reported once only, so it is made readable anew
    /// each time.
    edge: Option<EventFd>,
}

impl Yielder {
    /// For the runtime of this thread.
    pub(crate) fn new(waiting: &Waiting) -> io::Result<Yielder> {
        match waiting {
            Waiting::Ring { .. } => {
                let always = EventFd::new(1)?;
                Ok(Yielder { descriptor: Descriptor::new(always.duplicate()?)?, edge: None })
            }
            Waiting::Epoll { .. } => {
                let edge = EventFd::new(0)?;
                Ok(Yielder { descriptor: Descriptor::new(edge.duplicate()?)?, edge: Some(edge) })
            }
        }
    }

    /// Goes once through the kernel.
    pub(crate) async fn pass(&self) {
        let mut readable = pin!(self.descriptor.readable());
        let Some(edge) = &self.edge else {
            // The descriptor is always readable; should the kernel not say so, not waiting is no harm.
            let _ = readable.await;
            return;
        };
        let mut signalled = false;
        poll_fn(|context| {
            let poll = readable.as_mut().poll(context).map(|_| ());
            // Only after the runtime has seen it unreadable does it wait for the change.
            if poll.is_pending() && !std::mem::replace(&mut signalled, true) {
                edge.signal();
            }
            poll
        })
        .await;
        edge.drain();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use monoio::time::{Instant, sleep_until};

    use super::*;

    /// A task that always has more to do starves neither other tasks nor timers, if it passes through the
    /// kernel in between: it counts its rounds until another task's timer has fired.
    #[test]
    fn yielding_starves_nobody() {
        for io in [Io::Uring, Io::Epoll] {
            let (mut runtime, waiting) = build(io).unwrap();
            runtime.block_on(async {
                let fired = Rc::new(Cell::new(false));
                let seen = Rc::clone(&fired);
                monoio::spawn(async move {
                    sleep_until(Instant::now() + std::time::Duration::from_millis(20)).await;
                    fired.set(true);
                });
                let yielder = Yielder::new(&waiting).unwrap();
                let mut rounds = 0_u32;
                while !seen.get() {
                    yielder.pass().await;
                    rounds += 1;
                    assert!(rounds < 10_000_000, "{io:?}: the timer never fired");
                }
                assert!(rounds > 10, "{io:?}: {rounds} rounds in 20 ms");
            });
        }
    }
}
