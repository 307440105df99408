//! What a core's thread does: it receives, runs the state machine and sends, a turn at a time. Between turns
//! it is in `poller`, asleep if there is nothing to do; within a turn nothing waits.
//!
//! ```text
//! turn: reports ─ control ─ mailboxes ─ accept ─ receive ─ timers ─ end_turn ─ close, hand over, send ─ post, wake
//!       └──────────────────── inputs.rs ──────────────────┘          └────────────── outputs.rs ──────────────┘
//! ```
//!
//! Whatever has a budget leaves the rest for the next turn. With a rest the driver takes what the kernel has
//! to report and goes on; without, it sleeps until a report, another core or a timer wakes it. So a single
//! message leaves at once, and many share one turn.
//!
//! Hot path.

mod inputs;
mod layered;
mod outputs;
mod stored;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use broker_core::Core;
use broker_core::counters::Counters;
use broker_core::identity::{ConnectionId, CoreId};
use broker_core::input::{Input, Outputs, RECEIVE_BYTES_MAX};
use broker_core::sight::Publish;
use broker_core::time::{Mono, Now};
use crossbeam_channel::{Receiver, Sender};

use self::inputs::Listener;
use self::outputs::Work;
pub(crate) use self::stored::FLUSH_DEADLINE;
use crate::admin::Answers;
use crate::admission::Gate;
use crate::auth::Authenticator;
use crate::clock::Clock;
use crate::connections::Connections;
use crate::descriptors::Filling;
use crate::events::Events;
use crate::mailboxes::Mailboxes;
use crate::memory;
use crate::node::{Control, Event};
use crate::poller::{Poller, Report, Source};
use crate::run_queue::RunQueue;
use crate::storage::Storage;
use crate::transport::Protocol;
use crate::watchdog::{Alarm, TurnHistogram, Watchdog};

/// Rounds of acting on outputs in one turn: what is sent may let more be sent.
const ROUNDS_MAX: u32 = 4;

/// Bytes given to the kernel in a turn, a few milliseconds of copying; the last connection may go beyond.
const SEND_TURN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How soon a batch that a full mailbox did not take is offered again.
const BACKLOG_RETRY: Duration = Duration::from_millis(1);

/// Connections that end before the core, when it has nothing to do for a moment, gives memory back.
const ENDED_MAX: u32 = 1000;

/// The same when one has ended and nothing happened since: it may have had a large queue.
const QUIET: Duration = Duration::from_secs(1);

/// How often it is written down what was not delivered.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(1);

/// The longest sleep: the kernel wants one, and one needless turn an hour costs nothing.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) core: Core,
    /// The disk of its logs; None if they are in memory.
    pub(crate) storage: Option<Storage>,
    pub(crate) authenticator: Authenticator,
    pub(crate) clock: Clock,
    pub(crate) mailboxes: Mailboxes,
    /// Listening sockets, each with the index of its configured listener.
    pub(crate) listeners: Vec<(u16, OwnedFd)>,
    /// What is spoken on each configured listener, by index.
    pub(crate) protocols: Arc<[Protocol]>,
    /// Their doors.
    pub(crate) gates: Arc<[Gate]>,
    pub(crate) control: Receiver<Control>,
    pub(crate) events: Sender<Event>,
    /// Where what happens is written down.
    pub(crate) journal: Events,
    /// How much of that may wait to be published (`events.queue_max`).
    pub(crate) announced_max: usize,
    pub(crate) histogram: Arc<TurnHistogram>,
    /// Where answers to the administration go.
    pub(crate) answers: Answers,
}

/// One core's driver. Lives on its thread, and owns all that the core owns.
pub(crate) struct Driver {
    id: CoreId,
    /// Dropped before the core is: its ring writes from the memory of the core's logs.
    poller: Poller,
    /// What it has reported since the last turn.
    reports: Vec<Report>,

    core: Core,
    storage: Option<Storage>,
    /// The node knows that a log cannot be written any more.
    is_poison_told: bool,
    authenticator: Authenticator,
    clock: Clock,
    now: Now,
    outputs: Outputs,
    /// Lists that `outputs` is exchanged for while it is worked off.
    work: Work,
    /// Inputs were given since the last `end_turn`.
    unended: bool,

    connections: Connections,
    /// Connections that have ended since memory was given back.
    ended: u32,
    /// Connections that may have something to receive.
    ready: VecDeque<ConnectionId>,
    /// The state machine lets clients be read in this turn.
    reading: bool,
    scratch: Box<[u8]>,
    /// What a transport has made of them.
    plain: Vec<u8>,
    /// A buffer for a transport that has to send.
    spare_wire: Vec<u8>,
    /// How many handshakes may still go on in this turn.
    handshakes_left: u32,
    /// How many bytes of former connections may still be heard out in this turn.
    hear_out_bytes_left: usize,
    /// Connections that take bytes again, or whose bytes the turn's budget left.
    sendable: Vec<ConnectionId>,
    /// What is left of the turn's budget for sending.
    send_bytes_left: usize,

    /// None any more once the orderly stop has begun.
    listeners: Vec<Listener>,
    protocols: Arc<[Protocol]>,
    gates: Arc<[Gate]>,
    /// Listeners on which something waits to be accepted.
    acceptable: Vec<u16>,
    /// As many logins wait as may: who has not been let in is not read from.
    logins_full: bool,
    /// Connections that were not read from for that, and have something to say.
    held: VecDeque<ConnectionId>,
    /// Nobody is accepted as long as these wait.
    crowded: bool,
    /// Until when nothing is accepted, for want of descriptors.
    accept_at: Option<Mono>,
    accept_warned: Option<Mono>,
    filling: Filling,

    mailboxes: Mailboxes,
    control: Receiver<Control>,
    events: Sender<Event>,
    journal: Events,
    /// Events that are to be published.
    announced: VecDeque<Publish>,
    announced_max: usize,
    /// What had been counted when that was last written down.
    journaled: (Mono, Counters),
    watchdog: Watchdog,
    run_queue: RunQueue,
    histogram: Arc<TurnHistogram>,
    answers: Answers,
    stop: Stop,
}

/// How far the orderly stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Running,
    Stopping,
    /// Told the node so; other cores may still need this one.
    Stopped,
    Exit,
}

impl Driver {
    /// On the thread that has made the poller.
    pub(crate) fn new(parts: Parts, mut poller: Poller) -> io::Result<Driver> {
        let Parts { core, storage, authenticator, clock, mailboxes, listeners, .. } = parts;
        let Parts { protocols, gates, control, events, journal, announced_max, .. } = parts;
        let Parts { histogram, answers, .. } = parts;
        poller.watch(Source::Wake, mailboxes.wake().event.as_fd())?;
        let listeners = inputs::start_listeners(&mut poller, listeners)?;
        let now = clock.now();
        Ok(Driver {
            id: mailboxes.own(),
            poller,
            reports: Vec::new(),
            core,
            storage,
            is_poison_told: false,
            authenticator,
            clock,
            now,
            outputs: Outputs::new(u16::try_from(mailboxes.cores().count()).unwrap_or(u16::MAX)),
            work: Work::default(),
            unended: false,
            connections: Connections::default(),
            ended: 0,
            ready: VecDeque::new(),
            reading: true,
            scratch: vec![0; RECEIVE_BYTES_MAX].into_boxed_slice(),
            plain: Vec::new(),
            spare_wire: Vec::new(),
            handshakes_left: 0,
            hear_out_bytes_left: 0,
            sendable: Vec::new(),
            send_bytes_left: 0,
            listeners,
            protocols,
            gates,
            acceptable: Vec::new(),
            logins_full: false,
            held: VecDeque::new(),
            crowded: false,
            accept_at: None,
            accept_warned: None,
            filling: Filling::default(),
            mailboxes,
            control,
            events,
            journal,
            announced: VecDeque::new(),
            announced_max,
            journaled: (now.monotonic, Counters::default()),
            watchdog: Watchdog::default(),
            run_queue: RunQueue::of_this_thread(),
            histogram,
            answers,
            stop: Stop::Running,
        })
    }

    /// Runs turns until the node says that it is enough. Returns what the core has counted.
    pub(crate) fn run(mut self) -> Counters {
        loop {
            let rest = self.turn();
            if self.stop == Stop::Exit {
                self.close_logs();
                self.journal_dropped(Duration::ZERO);
                return self.core.counters().clone();
            }
            if rest {
                self.poller.poll(Duration::ZERO, &mut self.reports);
            } else {
                self.sleep();
            }
        }
    }

    /// One turn. True when there is more to do.
    fn turn(&mut self) -> bool {
        self.now = self.clock.now();
        self.run_queue.on_turn(self.now.monotonic);
        self.send_bytes_left = SEND_TURN_BYTES_MAX;
        self.handshakes_left = layered::HANDSHAKES_TURN_MAX;
        self.hear_out_bytes_left = inputs::RECEIVE_TURN_BYTES_MAX;
        self.take_reports();
        self.take_control();
        self.take_answers();
        self.look_at_logins();
        self.take_stored();
        self.announce();
        let mail_left = self.take_mail();
        let accept_left = self.accept();
        self.reading = self.core.wants_clients();
        if self.reading {
            self.receive();
        }
        if self.is_due() {
            self.core.on_timeout(self.now, &mut self.outputs);
        }
        self.end_turn();
        for _ in 0..ROUNDS_MAX {
            self.act();
            if self.unended {
                self.end_turn();
            }
            if !self.has_outputs() || self.send_bytes_left == 0 {
                break;
            }
        }
        self.post();
        if self.stop == Stop::Stopping && self.core.is_stopped() {
            self.stop = Stop::Stopped;
            self.tell(Event::Stopped(self.id));
        }
        self.journal_dropped(JOURNAL_INTERVAL);
        self.watch_turn();
        let receive_left = self.reading && !self.ready.is_empty();
        // A core answers one question of the administration in a turn.
        let asked_left = !self.control.is_empty();
        let announced_left = !self.announced.is_empty();
        mail_left
            || accept_left
            || receive_left
            || asked_left
            || announced_left
            || self.has_outputs()
            || self.is_due()
    }

    /// Gives the state machine one input of this turn.
    fn input(&mut self, input: Input<'_>) {
        self.unended = true;
        self.core.on_input(self.now, input, &mut self.outputs);
    }

    fn end_turn(&mut self) {
        self.core.end_turn(self.now, &mut self.outputs);
        self.unended = false;
    }

    fn is_due(&self) -> bool {
        self.core.next_timeout().is_some_and(|due| due <= self.now.monotonic)
    }

    /// Sleeps until there is something to do.
    fn sleep(&mut self) {
        if self.ended >= ENDED_MAX {
            self.give_memory_back();
        }
        self.mailboxes.park();
        // A sender that came before the announcement has not seen it, and writes nothing.
        let timeout = if self.mailboxes.is_empty() { self.next_due_in() } else { Duration::ZERO };
        let quiet = self.ended > 0 && timeout > QUIET;
        self.poller.poll(if quiet { QUIET } else { timeout }, &mut self.reports);
        self.mailboxes.unpark();
        if quiet && self.reports.is_empty() && self.mailboxes.is_empty() {
            self.give_memory_back();
        }
    }

    fn give_memory_back(&mut self) {
        self.ended = 0;
        memory::give_back();
    }

    /// How long nothing is due.
    fn next_due_in(&self) -> Duration {
        let retry = self.mailboxes.has_backlog().then(|| self.now.monotonic.after(BACKLOG_RETRY));
        let due = [self.core.next_timeout(), self.next_accept(), retry].into_iter().flatten().min();
        due.map_or(SLEEP_MAX, |due| due.since(self.clock.monotonic()).min(SLEEP_MAX))
    }

    /// Writes down what was not delivered, a line for each reason and so much time.
    fn journal_dropped(&mut self, interval: Duration) {
        let (written, before) = &mut self.journaled;
        if self.now.monotonic.since(*written) >= interval {
            *written = self.now.monotonic;
            self.journal.dropped(self.now.wall, self.id, before, self.core.counters());
            before.clone_from(self.core.counters());
        }
    }

    /// Measures the turn that ends, and warns of one that was too long.
    fn watch_turn(&mut self) {
        let turn = (self.now.monotonic, self.clock.monotonic());
        let waited = || self.run_queue.waited();
        if let Some(Alarm { turns, length, waited }) = self.watchdog.on_turn(&self.histogram, turn, waited) {
            tracing::warn!(
                core = self.id.0,
                ?length,
                ?waited,
                turns,
                "a turn was too long: clients waited (`waited` of it the core itself, for its CPU)"
            );
        }
    }

    fn tell(&self, event: Event) {
        // The node waits for events as long as it has cores; without it the process is ending.
        let _ = self.events.send(event);
    }
}
