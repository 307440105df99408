//! What the threads of one run share: the phase, set by the orchestrator, and counters, each written
//! by one thread (or added to once per read) and read by all.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use crate::clock;
use crate::plan::{Plan, Shape};
use crate::probe::Answers;
use crate::transport::Endpoint;

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connections are made and subscriptions placed.
    Connect,
    /// Publishers publish.
    Publish,
    /// No new messages, what is under way arrives.
    Drain,
    /// Every connection says goodbye.
    Close,
}

/// One run's shared state.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What to do.
    pub(crate) plan: Plan,
    /// Where the broker listens, on a 127.0.0.0/8 address, and what it speaks there.
    pub(crate) target: Endpoint,
    /// Of all stamps and client ids of the run.
    pub(crate) tag: u16,
    /// Number of threads.
    pub(crate) threads: usize,
    /// Progress of every publisher, by its number.
    pub(crate) publishers: Box<[PublisherProgress]>,
    /// Counters of every thread.
    pub(crate) counters: Box<[Counters]>,
    phase: AtomicU8,
    round: AtomicU64,
    measure_from: AtomicU64,
    measure_to: AtomicU64,
    first_delivery: AtomicU64,
}

/// How far one publisher's messages have come. On its own cache line: written by two threads.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct PublisherProgress {
    /// Messages written to its connection.
    pub(crate) sent: AtomicU64,
    /// Deliveries done or given up, over all subscribers.
    pub(crate) arrived: AtomicU64,
}

/// Counters of one thread, written by it alone.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counters {
    /// Connections that got their CONNACK.
    pub(crate) connected: AtomicU64,
    /// Connections whose filters are all granted.
    pub(crate) ready: AtomicU64,
    /// Connections that failed or were lost.
    pub(crate) failed: AtomicU64,
    /// Messages written.
    pub(crate) sent: AtomicU64,
    /// Messages whose PUBACK or PUBCOMP has come.
    pub(crate) acked: AtomicU64,
    /// Messages received.
    pub(crate) delivered: AtomicU64,
    /// Publishers that have sent all they had to.
    pub(crate) finished: AtomicU64,
    /// Answers to the round of pings at hand.
    pub(crate) answers: Answers,
}

/// Adds to a counter that only the calling thread writes: no locked instruction.
pub(crate) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed) + by, Relaxed);
}

impl Shared {
    /// Nothing has happened yet but what `sent` says, by publisher: messages of a run before.
    pub(crate) fn new(plan: Plan, target: Endpoint, tag: u16, threads: usize, sent: &[u64]) -> Shared {
        let progress = |index: u32| PublisherProgress {
            sent: AtomicU64::new(sent.get(index as usize).copied().unwrap_or(0)),
            arrived: AtomicU64::new(0),
        };
        let publishers = (0..plan.publishers()).map(progress).collect();
        Shared {
            plan,
            target,
            tag,
            threads,
            publishers,
            counters: (0..threads).map(|_| Counters::default()).collect(),
            phase: AtomicU8::new(Phase::Connect as u8),
            round: AtomicU64::new(0),
            measure_from: AtomicU64::new(u64::MAX),
            measure_to: AtomicU64::new(u64::MAX),
            first_delivery: AtomicU64::new(u64::MAX),
        }
    }

    /// The phase in force.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Connect,
            1 => Phase::Publish,
            2 => Phase::Drain,
            _ => Phase::Close,
        }
    }

    /// Enters a phase.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// The round of pings at hand, by its number; 0 before the first.
    pub(crate) fn round(&self) -> u64 {
        self.round.load(Relaxed)
    }

    /// Has every client send a PINGREQ.
    pub(crate) fn begin_round(&self) {
        self.round.store(self.round() + 1, Relaxed);
    }

    /// Whether every client has answered in the round at hand.
    pub(crate) fn is_answered(&self) -> bool {
        self.counters.iter().all(|counters| counters.answers.is_complete(self.round()))
    }

    /// Messages sent (closed loop) or due (open loop) from `now` on count.
    pub(crate) fn measure_from(&self, now: u64) {
        self.measure_from.store(now, Relaxed);
    }

    /// Messages sent or due from `now` on no longer count.
    pub(crate) fn measure_to(&self, now: u64) {
        self.measure_to.store(now, Relaxed);
    }

    /// The measured time as it is known now.
    pub(crate) fn measured(&self) -> std::ops::Range<u64> {
        self.measure_from.load(Relaxed)..self.measure_to.load(Relaxed)
    }

    /// Messages have come: the first time is kept.
    pub(crate) fn note_delivery(&self) {
        if self.first_delivery.load(Relaxed) == u64::MAX {
            self.first_delivery.fetch_min(clock::now(), Relaxed);
        }
    }

    /// When the first message came.
    pub(crate) fn first_delivery(&self) -> Option<u64> {
        Some(self.first_delivery.load(Relaxed)).filter(|time| *time != u64::MAX)
    }

    /// Sum of one counter over all threads.
    pub(crate) fn total(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.counters.iter().map(|counters| counter(counters).load(Relaxed)).sum()
    }

    /// Deliveries that are still to come, by what was sent and what arrived.
    pub(crate) fn outstanding(&self) -> u64 {
        let mut outstanding = 0;
        if self.plan.flows.iter().any(|flow| flow.shape == Shape::RetainedGet) {
            let asked = self.total(|counters| &counters.sent);
            outstanding += asked.saturating_sub(self.total(|counters| &counters.delivered));
        }
        for (number, flow) in self.plan.flows.iter().enumerate() {
            let first = self.plan.first_publisher(number) as usize;
            for progress in &self.publishers[first..first + flow.publishing() as usize] {
                let owed = progress.sent.load(Relaxed) * u64::from(self.plan.fan(flow));
                outstanding += owed.saturating_sub(progress.arrived.load(Relaxed));
            }
        }
        outstanding
    }
}
