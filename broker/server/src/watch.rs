//! The tasks of a core that wait for the kernel, one per descriptor, and what they report to the one task
//! that acts, the driver. A waiting task receives nothing, sends nothing and never sees the state machine.
//!
//! ```text
//! armed ──readable──► reported ──rearm──► armed          any ──end──► ending ──► removed, reported as ended
//! ```
//!
//! Hot path: no allocation per report.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use broker_core::identity::ConnectionId;
use monoio::time::Sleep;
use slab::Slab;

use crate::runtime::Descriptor;

/// Whose descriptor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The connection in this slot.
    Connection(u32),
    /// A listener, by index.
    Listener(u16),
    /// The eventfd through which other threads wake this core.
    Wake,
}

/// Names a watch from [`Watches::start`] until it is reported as ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchKey(u32);

/// All watches of one core. Shared by the driver and the waiting tasks, all on the core's thread; borrowed
/// only within a call, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    watches: Slab<Watch>,
    reports: Reports,
    /// The driver, once it has waited.
    driver: Option<Waker>,
    /// There are reports that the driver has not taken.
    notified: bool,
}

#[derive(Debug)]
struct Watch {
    source: PackedSource,
    state: State,
    /// The waiting task.
    waker: Option<Waker>,
}

/// A [`Source`] in four bytes: a slot, or one of the numbers above all slots.
#[derive(Clone, Copy, Debug)]
struct PackedSource(u32);

// There is one per connection.
const _: () = assert!(size_of::<Watch>() == 24);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Armed,
    Reported,
    Ending,
}

/// What the waiting tasks have reported, in order.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// Descriptors with something to receive; each waits for [`Watches::rearm`].
    pub(crate) ready: Vec<Source>,
    /// Connections to which something can be sent again.
    pub(crate) writable: Vec<ConnectionId>,
    /// Watches whose task has ended: nothing waits on the descriptor any more.
    pub(crate) ended: Vec<Source>,
}

impl Watches {
    /// Begins to wait on a descriptor, armed.
    pub(crate) fn start(self: &Rc<Self>, source: Source, descriptor: Rc<Descriptor>) -> WatchKey {
        let watch = Watch { source: PackedSource::new(source), state: State::Armed, waker: None };
        let key = self.inner.borrow_mut().watches.insert(watch);
        drop(monoio::spawn(watch_readable(Rc::clone(self), key, descriptor)));
        WatchKey(u32::try_from(key).unwrap_or_else(|_| unreachable!("descriptors are 31-bit numbers")))
    }

    /// Waits again, after what was reported has been received.
    pub(crate) fn rearm(&self, key: WatchKey) {
        self.inner.borrow_mut().go_on(key, State::Armed);
    }

    /// Ends a watch, whatever it waits for; it is reported as ended, soon.
    pub(crate) fn end(&self, key: WatchKey) {
        self.inner.borrow_mut().go_on(key, State::Ending);
    }

    /// Waits once until something can be sent.
    pub(crate) fn start_writable(self: &Rc<Self>, connection: ConnectionId, descriptor: Rc<Descriptor>) {
        let watches = Rc::clone(self);
        drop(monoio::spawn(async move {
            // An error shows in the send that follows.
            let _ = descriptor.writable().await;
            let mut inner = watches.inner.borrow_mut();
            inner.reports.writable.push(connection);
            inner.notify();
        }));
    }

    /// Exchanges all reports for `empty`, whose lists serve for the next ones.
    pub(crate) fn take(&self, empty: &mut Reports) {
        let inner = &mut *self.inner.borrow_mut();
        std::mem::swap(&mut inner.reports, empty);
        inner.notified = false;
    }

    /// Waits for a report, or for the timer if there is one. Only the driver calls this.
    pub(crate) async fn notified(&self, mut timer: Option<Pin<&mut Sleep>>) {
        poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            if inner.notified {
                return Poll::Ready(());
            }
            keep(&mut inner.driver, context.waker());
            match &mut timer {
                Some(timer) => timer.as_mut().poll(context),
                None => Poll::Pending,
            }
        })
        .await;
    }

    /// Whether a watch is in another state than `state`; if not, its task will be woken when it is.
    fn poll_left(&self, key: usize, state: State, context: &Context<'_>) -> Poll<State> {
        let watch = &mut self.inner.borrow_mut().watches[key];
        if watch.state != state {
            return Poll::Ready(watch.state);
        }
        keep(&mut watch.waker, context.waker());
        Poll::Pending
    }

    /// Reports a watch; false if it is ending.
    fn report(&self, key: usize) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let watch = &mut inner.watches[key];
        if watch.state == State::Ending {
            return false;
        }
        watch.state = State::Reported;
        inner.reports.ready.push(watch.source.source());
        inner.notify();
        true
    }

    fn remove(&self, key: usize) {
        let inner = &mut *self.inner.borrow_mut();
        let watch = inner.watches.remove(key);
        inner.reports.ended.push(watch.source.source());
        inner.notify();
    }
}

impl PackedSource {
    const WAKE: u32 = u32::MAX;
    const FIRST_LISTENER: u32 = u32::MAX - u16::MAX as u32 - 1;

    fn new(source: Source) -> PackedSource {
        match source {
            Source::Connection(slot) => {
                assert!(slot < Self::FIRST_LISTENER, "descriptors are 31-bit numbers");
                PackedSource(slot)
            }
            Source::Listener(index) => PackedSource(Self::FIRST_LISTENER + u32::from(index)),
            Source::Wake => PackedSource(Self::WAKE),
        }
    }

    fn source(self) -> Source {
        match self.0 {
            Self::WAKE => Source::Wake,
            number => match number.checked_sub(Self::FIRST_LISTENER).map(u16::try_from) {
                Some(index) => Source::Listener(index.unwrap_or(u16::MAX)),
                None => Source::Connection(number),
            },
        }
    }
}

impl Inner {
    fn go_on(&mut self, WatchKey(key): WatchKey, state: State) {
        let watch = &mut self.watches[key as usize];
        if watch.state != State::Ending && watch.state != state {
            watch.state = state;
            if let Some(task) = &watch.waker {
                task.wake_by_ref();
            }
        }
    }

    fn notify(&mut self) {
        if !std::mem::replace(&mut self.notified, true)
            && let Some(driver) = &self.driver
        {
            driver.wake_by_ref();
        }
    }
}

fn keep(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

/// The waiting task. One function and one block, because each nested future keeps its arguments twice, and
/// this is most of what an idle connection costs.
#[expect(clippy::manual_async_fn, reason = "an async function would keep its arguments twice, too")]
fn watch_readable(watches: Rc<Watches>, key: usize, descriptor: Rc<Descriptor>) -> impl Future<Output = ()> {
    async move {
        loop {
            {
                let mut readable = pin!(descriptor.readable());
                poll_fn(|context| match watches.poll_left(key, State::Armed, context) {
                    Poll::Ready(_) => Poll::Ready(()),
                    // An error shows when the driver receives.
                    Poll::Pending => readable.as_mut().poll(context).map(|_| ()),
                })
                .await;
            }
            if !watches.report(key) {
                break;
            }
            if poll_fn(|context| watches.poll_left(key, State::Reported, context)).await == State::Ending {
                break;
            }
        }
        drop(descriptor);
        watches.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::cli::Io;
    use crate::runtime::{Yielder, build};
    use crate::sys;
    use std::os::fd::AsFd;

    async fn next(watches: &Watches) -> Reports {
        watches.notified(None).await;
        let mut reports = Reports::default();
        watches.take(&mut reports);
        reports
    }

    /// A watch reports once per arming, as long as there is something to receive, and ends from every
    /// state: driven over a socket pair, with both drivers.
    #[test]
    fn reports_once_per_arming() {
        for io in [Io::Uring, Io::Epoll] {
            let (mut runtime, waiting) = build(io).unwrap();
            runtime.block_on(async move {
                let yielder = Yielder::new(&waiting).unwrap();
                let (mut other, ours) = UnixStream::pair().unwrap();
                let descriptor = Rc::new(Descriptor::new(ours.into()).unwrap());
                let watches = Rc::new(Watches::default());
                let source = Source::Connection(7);
                let key = watches.start(source, Rc::clone(&descriptor));
                yielder.pass().await;

                let mut buffer = [0; 8];
                for byte in 0..3 {
                    other.write_all(&[byte]).unwrap();
                    assert_eq!(next(&watches).await.ready, [source]);
                    yielder.pass().await;
                    let mut reports = Reports::default();
                    watches.take(&mut reports);
                    assert!(reports.ready.is_empty(), "{io:?}: reported again without being armed");
                    assert_eq!(sys::receive(descriptor.as_fd(), &mut buffer).unwrap(), 1);
                    watches.rearm(key);
                    yielder.pass().await;
                }

                watches.end(key);
                assert_eq!(next(&watches).await.ended, [source]);
                let key = watches.start(source, Rc::clone(&descriptor));
                drop(other);
                assert_eq!(next(&watches).await.ready, [source]);
                watches.end(key);
                assert_eq!(next(&watches).await.ended, [source]);
                yielder.pass().await;
                assert_eq!(Rc::strong_count(&descriptor), 1, "{io:?}");
            });
        }
    }

    /// Every source survives being packed.
    #[test]
    fn sources_are_packed() {
        for source in [
            Source::Wake,
            Source::Listener(0),
            Source::Listener(u16::MAX),
            Source::Connection(0),
            Source::Connection(i32::MAX.unsigned_abs()),
        ] {
            assert_eq!(PackedSource::new(source).source(), source);
        }
    }

    /// The memory that an idle connection costs in the waiting task stays what it is.
    #[test]
    fn waiting_task_is_small() {
        let (mut runtime, _) = build(Io::Epoll).unwrap();
        runtime.block_on(async {
            let (ours, _other) = UnixStream::pair().unwrap();
            let descriptor = Rc::new(Descriptor::new(ours.into()).unwrap());
            let task = watch_readable(Rc::new(Watches::default()), 0, descriptor);
            assert!(size_of_val(&task) <= 168, "{} bytes", size_of_val(&task));
        });
    }
}
