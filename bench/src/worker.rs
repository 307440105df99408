//! Hot path. One thread of the harness: a glommio executor with a share of the clients.
//!
//! Everything here is this thread's own; what other threads see lies in [`Shared`].

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::timer::Timer;
use mqtt::ReasonCode;

use crate::client::{Client, ClientError, Role};
use crate::clock;
use crate::connection::Connection;
use crate::connector::{self, Job};
use crate::detect::{Findings, GroupTracker, MemberOrder};
use crate::latency::{self, Latency};
use crate::pace::Pace;
use crate::plan::{Load, Shape};
use crate::shared::{Counters, Phase, Shared, bump};

/// Bytes one read can take.
const SCRATCH_BYTES: usize = 512 << 10;
/// How often a thread looks for a new phase.
const TICK: Duration = Duration::from_millis(2);
/// How often it looks for credit that another thread gave.
const CREDIT_TICK: Duration = Duration::from_micros(200);
/// Ticks between looks at publishers that wait for messages that may be lost.
const STALL_NS: u64 = 50_000_000;
/// Shortest sleep of a schedule: due messages that fall into it leave together.
const PACE_SLEEP_MIN_NS: u64 = 20_000;
/// Messages of errors kept.
const ERRORS_MAX: usize = 5;
/// Longest wait for goodbyes.
const CLOSE_NS_MAX: u64 = 5_000_000_000;

/// What came that no detector counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Notes {
    /// Messages of another run, or of another program.
    pub(crate) foreign: u64,
    /// Messages of a wrong length.
    pub(crate) corrupt: u64,
    /// Messages of this run at a subscriber they were not for.
    pub(crate) misrouted: u64,
    /// Acknowledgements that say no.
    pub(crate) refused: u64,
}

/// What a thread leaves behind.
#[derive(Debug)]
pub(crate) struct WorkerReport {
    /// From the time a message was due to its arrival.
    pub(crate) latency: Latency,
    /// From the time a message was due to its PUBACK or PUBCOMP.
    pub(crate) ack_latency: Latency,
    /// From dialling to CONNACK.
    pub(crate) connect_latency: Latency,
    /// Of all subscribers that see everything.
    pub(crate) findings: Findings,
    /// Of shared subscriptions, by flow: to be merged with the other threads'.
    pub(crate) groups: Vec<Option<GroupTracker>>,
    /// The rest.
    pub(crate) notes: Notes,
    /// The first errors, in words.
    pub(crate) errors: Vec<String>,
}

/// Publishers of one flow on this thread, and their schedule in an open loop.
#[derive(Debug, Default)]
struct FlowTurns {
    slots: Vec<usize>,
    pace: Cell<Option<Pace>>,
    due: Cell<u64>,
}

/// One thread's state.
#[derive(Debug)]
pub(crate) struct Worker {
    /// What all threads share.
    pub(crate) shared: Arc<Shared>,
    index: usize,
    /// By client.
    wakers: RefCell<Vec<Option<Waker>>>,
    /// By client: a publisher whose window is full.
    stalled: Vec<Cell<bool>>,
    /// By publisher of the run: its client here, or `usize::MAX`.
    publisher_slots: Vec<usize>,
    flows: Vec<FlowTurns>,
    groups: RefCell<Vec<Option<GroupTracker>>>,
    scratch: RefCell<Box<[u8]>>,
    pool: RefCell<crate::connection::BufferPool>,
    latency: RefCell<Latency>,
    ack_latency: RefCell<Latency>,
    connect_latency: RefCell<Latency>,
    notes: Cell<Notes>,
    errors: RefCell<Vec<String>>,
    ended: RefCell<Vec<Role>>,
    /// Clients between SYN and CONNACK, and who waits for fewer of them.
    handshakes: Cell<u32>,
    connector: RefCell<Option<Waker>>,
    /// Clients that have not ended yet.
    live: Cell<usize>,
    /// Those among them that have their CONNACK.
    online: Cell<u64>,
}

/// Runs thread `index` to its end.
pub(crate) async fn work(shared: Arc<Shared>, index: usize) -> WorkerReport {
    let jobs = connector::jobs(&shared.plan, index, shared.threads);
    let worker = Rc::new(Worker::new(shared, index, &jobs));
    let connecting = glommio::spawn_local(connector::connect_all(Rc::clone(&worker), jobs)).detach();
    let mut phase = Phase::Connect;
    let mut looked = clock::now();
    let mut closing = u64::MAX;
    while phase != Phase::Close || worker.live.get() > 0 && clock::now() < closing {
        let tick = if worker.needs_credit_ticks(phase) { CREDIT_TICK } else { TICK };
        Timer::new(tick).await;
        let now = clock::now();
        let new_phase = worker.shared.phase();
        if new_phase != phase {
            phase = new_phase;
            worker.on_phase(phase, now);
            closing = now + CLOSE_NS_MAX;
        }
        worker.look_for_round();
        if tick == CREDIT_TICK || now - looked > STALL_NS {
            looked = now;
            worker.wake_stalled();
        }
    }
    connecting.await;
    worker.report()
}

impl Worker {
    fn new(shared: Arc<Shared>, index: usize, jobs: &[Job]) -> Worker {
        let mut publisher_slots = vec![usize::MAX; shared.publishers.len()];
        let mut flows: Vec<FlowTurns> = shared.plan.flows.iter().map(|_| FlowTurns::default()).collect();
        for (slot, job) in jobs.iter().enumerate() {
            if let Job::Publisher { flow, index, .. } = *job {
                publisher_slots[(shared.plan.first_publisher(flow) + index) as usize] = slot;
                flows[flow].slots.push(slot);
            }
        }
        let group = |flow: &crate::plan::Flow| {
            (flow.shape == Shape::Shared).then(|| GroupTracker::new(flow.publishers))
        };
        let groups = shared.plan.flows.iter().map(group).collect();
        Worker {
            shared,
            index,
            wakers: RefCell::new(vec![None; jobs.len()]),
            stalled: vec![Cell::new(false); jobs.len()],
            publisher_slots,
            flows,
            groups: RefCell::new(groups),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            pool: RefCell::default(),
            latency: RefCell::new(latency::histogram()),
            ack_latency: RefCell::new(latency::histogram()),
            connect_latency: RefCell::new(latency::histogram()),
            notes: Cell::default(),
            errors: RefCell::default(),
            ended: RefCell::default(),
            handshakes: Cell::new(0),
            connector: RefCell::new(None),
            live: Cell::new(0),
            online: Cell::new(0),
        }
    }

    /// This thread's counters.
    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters[self.index]
    }

    /// The buffer every read of this thread goes into.
    pub(crate) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// Buffers for those who hold bytes across tasks.
    pub(crate) fn pool(&self) -> RefMut<'_, crate::connection::BufferPool> {
        self.pool.borrow_mut()
    }

    /// Remembers how to wake client `slot`.
    pub(crate) fn keep_waker(&self, slot: usize, waker: &Waker) {
        let place = &mut self.wakers.borrow_mut()[slot];
        if place.is_none() {
            *place = Some(waker.clone());
        }
    }

    fn wake(&self, slot: usize) {
        if let Some(waker) = &self.wakers.borrow()[slot] {
            waker.wake_by_ref();
        }
    }

    /// Publisher client `slot` waits for deliveries.
    pub(crate) fn stall(&self, slot: usize) {
        self.stalled[slot].set(true);
    }

    fn wake_stalled(&self) {
        for flow in &self.flows {
            for slot in flow.slots.iter().copied().filter(|slot| self.stalled[*slot].replace(false)) {
                self.wake(slot);
            }
        }
        if self.shared.plan.flows.iter().any(|flow| flow.shape == Shape::RetainedGet) {
            (0..self.stalled.len()).for_each(|slot| self.wake(slot));
        }
    }

    /// Whether deliveries on other threads may free windows of publishers here.
    fn needs_credit_ticks(&self, phase: Phase) -> bool {
        let crosses = |flow: &crate::plan::Flow| {
            matches!(flow.shape, Shape::FanOut | Shape::Shared) && matches!(flow.load, Load::Window(_))
        };
        phase == Phase::Publish && self.shared.threads > 1 && self.shared.plan.flows.iter().any(crosses)
    }

    /// `count` deliveries of publisher `number` are done.
    pub(crate) fn on_arrived(&self, number: u32, count: u64) {
        self.shared.publishers[number as usize].arrived.fetch_add(count, Relaxed);
        let slot = self.publisher_slots[number as usize];
        if slot != usize::MAX && self.stalled[slot].replace(false) {
            self.wake(slot);
        }
    }

    /// A member of flow `flow`'s shared subscription got a message; 1 when it is a new one.
    pub(crate) fn on_group_message(
        &self,
        flow: usize,
        order: &mut MemberOrder,
        publisher: u32,
        sequence: u32,
    ) -> u32 {
        let mut groups = self.groups.borrow_mut();
        let group = groups[flow].as_mut().expect("a shared flow has a group");
        u32::from(group.on_message(order, publisher, sequence))
    }

    /// Records a delivery of a message sent or due at `since`, when it counts.
    pub(crate) fn record_latency(&self, since: u64, now: u64) {
        if self.shared.measured().contains(&since) {
            self.latency.borrow_mut().saturating_record(now.saturating_sub(since).max(1));
        }
    }

    /// Records an acknowledgement.
    pub(crate) fn record_ack(&self, since: u64, now: u64) {
        if self.shared.measured().contains(&since) {
            self.ack_latency.borrow_mut().saturating_record(now.saturating_sub(since).max(1));
        }
    }

    fn note(&self, change: impl FnOnce(&mut Notes)) {
        let mut notes = self.notes.get();
        change(&mut notes);
        self.notes.set(notes);
    }

    /// A message that is none of this run.
    pub(crate) fn note_foreign(&self) {
        self.note(|notes| notes.foreign += 1);
    }

    /// A message of the wrong length.
    pub(crate) fn note_corrupt(&self) {
        self.note(|notes| notes.corrupt += 1);
    }

    /// A message at the wrong subscriber.
    pub(crate) fn note_misrouted(&self) {
        self.note(|notes| notes.misrouted += 1);
    }

    /// An acknowledgement's reason: errors are counted.
    pub(crate) fn note_reason(&self, reason: ReasonCode) {
        if reason.is_error() {
            self.note(|notes| notes.refused += 1);
        }
    }

    /// Publishers of a flow on this thread.
    pub(crate) fn turns(&self, flow: usize) -> u64 {
        self.flows[flow].slots.len() as u64
    }

    /// Messages due so far in an open loop, over the flow's publishers on this thread.
    pub(crate) fn due(&self, flow: usize) -> u64 {
        self.flows[flow].due.get()
    }

    /// When message `n` of those is due.
    pub(crate) fn due_at(&self, flow: usize, n: u64) -> u64 {
        self.flows[flow].pace.get().map_or(0, |pace| pace.at(n))
    }

    /// A client got its CONNACK.
    pub(crate) fn on_connected(&self, dialled: u64, now: u64) {
        bump(&self.counters().connected, 1);
        self.online.set(self.online.get() + 1);
        self.connect_latency.borrow_mut().saturating_record((now - dialled).max(1));
        self.on_handshake_done();
    }

    fn on_handshake_done(&self) {
        self.handshakes.set(self.handshakes.get() - 1);
        if let Some(waker) = self.connector.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until another handshake may begin, and counts it.
    pub(crate) async fn begin_handshake(&self) {
        let max = self.shared.plan.handshakes_max.div_ceil(self.shared.threads as u32);
        std::future::poll_fn(|context| {
            if self.handshakes.get() < max || self.shared.phase() == Phase::Close {
                self.handshakes.set(self.handshakes.get() + 1);
                return Poll::Ready(());
            }
            *self.connector.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        self.live.set(self.live.get() + 1);
    }

    /// Drives one client to its end.
    pub(crate) async fn run_client(
        self: Rc<Self>,
        connection: Connection,
        role: Role,
        slot: usize,
        number: u32,
    ) {
        let mut client = Client::new(&self, connection, role, slot, number);
        let result = std::future::poll_fn(|context| client.poll(context, &self)).await;
        let connected = client.is_connected();
        let answers = &self.counters().answers;
        if client.owes_answer(answers.round()) {
            answers.answer();
        }
        self.ended.borrow_mut().push(client.into_role());
        if let Err(error) = result {
            self.on_failed(&error);
        }
        self.on_ended(connected);
    }

    /// A connection that never came to be.
    pub(crate) fn on_not_dialled(&self, role: Role, error: std::io::Error) {
        self.ended.borrow_mut().push(role);
        self.on_failed(&ClientError::Io(error));
        self.on_ended(false);
    }

    fn on_failed(&self, error: &ClientError) {
        bump(&self.counters().failed, 1);
        let mut errors = self.errors.borrow_mut();
        if errors.len() < ERRORS_MAX {
            errors.push(error.to_string());
        }
    }

    fn on_ended(&self, connected: bool) {
        if connected {
            self.online.set(self.online.get() - 1);
        } else {
            self.on_handshake_done();
        }
        self.live.set(self.live.get() - 1);
    }

    fn wake_all(&self) {
        for waker in self.wakers.borrow().iter().flatten() {
            waker.wake_by_ref();
        }
    }

    /// Has the clients send their pings if a round has begun.
    fn look_for_round(&self) {
        let (round, answers) = (self.shared.round(), &self.counters().answers);
        if round != answers.round() {
            answers.begin(round, self.online.get());
            self.wake_all();
        }
    }

    fn on_phase(self: &Rc<Self>, phase: Phase, now: u64) {
        if phase == Phase::Publish {
            for (number, flow) in self.shared.plan.flows.iter().enumerate() {
                let turns = self.flows[number].slots.len();
                if let (Load::Rate(rate), 1..) = (flow.load, turns) {
                    let own_rate = rate * turns as f64 / f64::from(flow.publishers);
                    let offset = 1e9 / rate * self.index as f64;
                    self.flows[number].pace.set(Some(Pace::new(now + offset as u64, own_rate)));
                    glommio::spawn_local(Rc::clone(self).keep_pace(number)).detach();
                }
            }
        }
        self.wake_all();
        if let Some(waker) = self.connector.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Lets the publishers of a flow know what is due.
    async fn keep_pace(self: Rc<Self>, flow: usize) {
        let turns = &self.flows[flow];
        let Some(pace) = turns.pace.get() else { return };
        while self.shared.phase() == Phase::Publish {
            let (before, due) = (turns.due.get(), pace.due(clock::now()));
            turns.due.set(due);
            for n in before..due.min(before + turns.slots.len() as u64) {
                self.wake(turns.slots[n as usize % turns.slots.len()]);
            }
            let wait = pace.at(due).saturating_sub(clock::now()).max(PACE_SLEEP_MIN_NS);
            Timer::new(Duration::from_nanos(wait.min(10_000_000))).await;
        }
    }

    fn report(&self) -> WorkerReport {
        let sent = |publisher: u32| self.shared.publishers[publisher as usize].sent.load(Relaxed);
        let mut findings = Findings::default();
        for role in self.ended.borrow().iter() {
            match role {
                Role::Subscriber(subscriber) => findings.add(subscriber.findings(sent)),
                Role::Getter(getter) => findings.add(getter.findings()),
                Role::Idle | Role::Publisher(_) => {}
            }
        }
        WorkerReport {
            latency: self.latency.replace(latency::histogram()),
            ack_latency: self.ack_latency.replace(latency::histogram()),
            connect_latency: self.connect_latency.replace(latency::histogram()),
            findings,
            groups: self.groups.take(),
            notes: self.notes.get(),
            errors: self.errors.take(),
        }
    }
}
