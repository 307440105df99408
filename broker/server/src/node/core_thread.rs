//! The thread of a core: what it begins with, and how it ends.

use std::any::Any;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use broker_core::Core;
use broker_core::config::Config;
use broker_core::counters::Counters;
use broker_core::storage::StoredLog;
use crossbeam_channel::{Receiver, Sender};

use super::{Control, Event};
use crate::admin::Answers;
use crate::admission::Gate;
use crate::auth::Authenticator;
use crate::cli::Io;
use crate::clock::Clock;
use crate::driver::{Driver, Parts};
use crate::events::Events;
use crate::mailboxes::Mailboxes;
use crate::poller::Poller;
use crate::storage::{Storage, Stored};
use crate::sys::{self, EventFd};
use crate::transport::Protocol;
use crate::watchdog::TurnHistogram;

/// What the node has of a core. Lives on the main thread.
pub(super) struct CoreHandle {
    /// Returns what the core has counted, unless it has failed.
    pub(super) thread: JoinHandle<Option<Counters>>,
    pub(super) control: Sender<Control>,
    pub(super) wake: Arc<EventFd>,
    pub(super) histogram: Arc<TurnHistogram>,
    /// Stopped, panicked or told to exit.
    pub(super) done: bool,
}

impl CoreHandle {
    /// Starts the thread, which hears by `control`.
    pub(super) fn start(place: Place, control: Sender<Control>) -> io::Result<CoreHandle> {
        let id = place.mailboxes.own();
        let wake = Arc::clone(&place.mailboxes.wake().event);
        let histogram = Arc::clone(&place.histogram);
        let builder = thread::Builder::new().name(format!("core-{}", id.0));
        let thread = builder.spawn(move || run_core(place))?;
        Ok(CoreHandle { thread, control, wake, histogram, done: false })
    }

    /// False if the core does not take it: full only if it is stuck, gone only if it has panicked.
    pub(super) fn tell(&self, control: Control) -> bool {
        let taken = self.control.try_send(control).is_ok();
        self.wake.signal();
        taken
    }
}

/// All that a core's thread begins with.
pub(super) struct Place {
    pub(super) cpu: usize,
    pub(super) io: Io,
    pub(super) authenticator: Authenticator,
    pub(super) config: Arc<Config>,
    pub(super) incarnation: u64,
    pub(super) stored: Option<Stored>,
    pub(super) seed: u64,
    pub(super) clock: Clock,
    pub(super) mailboxes: Mailboxes,
    pub(super) listeners: Vec<(u16, OwnedFd)>,
    pub(super) protocols: Arc<[Protocol]>,
    pub(super) gates: Arc<[Gate]>,
    pub(super) control: Receiver<Control>,
    pub(super) events: Sender<Event>,
    pub(super) journal: Events,
    pub(super) announced_max: usize,
    pub(super) histogram: Arc<TurnHistogram>,
    pub(super) answers: Answers,
}

/// A core's thread.
fn run_core(place: Place) -> Option<Counters> {
    let (id, events) = (place.mailboxes.own(), place.events.clone());
    let event = match catch_unwind(AssertUnwindSafe(|| start_core(place))) {
        Ok(Ok(counters)) => return Some(counters),
        Ok(Err(error)) => Event::Failed(id, error),
        // The panic hook has logged it.
        Err(panic) => {
            forget(panic);
            Event::Panicked(id)
        }
    };
    let _ = events.send(event);
    None
}

fn start_core(place: Place) -> io::Result<Counters> {
    let cpus = sys::affinity()?;
    sys::pin(place.cpu)?;
    let (poller, waiting) = Poller::new(place.io)?;
    let (id, events) = (place.mailboxes.own(), place.events.clone());
    let (config, incarnation, seed, now) = (place.config, place.incarnation, place.seed, place.clock.now());
    let (core, storage) = match place.stored {
        None => (Core::new(config, id, incarnation, seed, now), None),
        Some(Stored { logs, ended, place: disk }) => {
            let ids = logs.iter().map(StoredLog::id).collect();
            let wake = &place.mailboxes.wake().event;
            let storage = Storage::start(&disk, ids, &poller, (wake, &cpus))?;
            (Core::open(config, id, incarnation, seed, logs, ended, now), Some(storage))
        }
    };
    let parts = Parts {
        core,
        storage,
        authenticator: place.authenticator,
        clock: place.clock,
        mailboxes: place.mailboxes,
        listeners: place.listeners,
        protocols: place.protocols,
        gates: place.gates,
        control: place.control,
        events: place.events,
        journal: place.journal,
        announced_max: place.announced_max,
        histogram: place.histogram,
        answers: place.answers,
    };
    let driver = Driver::new(parts, poller)?;
    let _ = events.send(Event::Started(id, waiting));
    Ok(driver.run())
}

/// A panic's payload may panic when it is dropped.
fn forget(panic: Box<dyn Any + Send>) {
    let _ = std::mem::ManuallyDrop::new(panic);
}
