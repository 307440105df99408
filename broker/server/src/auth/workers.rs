//! Threads beside the cores that check passwords: a bounded queue, a bounded number of hands, and less right to
//! the CPU than a core has, so that a storm of logins delays logins and nothing else.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use broker_core::access::{Decided, Question};
use broker_core::config::Config;
use broker_core::time::Mono;
use crossbeam_channel::{Receiver, Sender, bounded};
use mqtt::ReasonCode;

use super::authenticator::Answer;
use super::scram::Exchange;
use super::webhook::{Caller, Counts};
use super::{Knowledge, Settings, refuse};
use crate::clock::Clock;
use crate::sys::{self, EventFd};

/// How much these threads step back: at 10 a core that wants the same CPU gets nine tenths of it.
const NICE: i32 = 10;

/// One login to be checked.
pub(super) struct Job {
    /// When the core asked.
    pub(super) asked: Mono,
    pub(super) question: Question,
    /// The exchange that it is a step of, if there is one.
    pub(super) exchange: Option<Exchange>,
    /// By what it is to be judged.
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) config: Arc<Config>,
    /// To whom the answer goes, and how it is woken.
    pub(super) answers: Sender<Answer>,
    pub(super) wake: Arc<EventFd>,
}

/// Too many logins wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// The way to the threads. They end when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Workers {
    jobs: Sender<Job>,
    counters: Arc<Counters>,
}

/// What became of logins, on the whole node since its start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Checked, whatever came of it.
    pub(crate) checked: AtomicU64,
    /// Refused because the queue was full (`login_queue_max`).
    pub(crate) busy: AtomicU64,
    /// Not checked because their clients had to be given up meanwhile (`connect_timeout_seconds`).
    pub(crate) late: AtomicU64,
    /// Questions to the webhook.
    pub(crate) webhook_asked: AtomicU64,
    /// Those that an earlier answer still answered.
    pub(crate) webhook_cached: AtomicU64,
    /// Those without an answer that could be understood (`webhook_timeout_ms`).
    pub(crate) webhook_failed: AtomicU64,
}

impl Counters {
    fn add(&self, counts: Counts) {
        self.webhook_asked.fetch_add(counts.asked, Ordering::Relaxed);
        self.webhook_cached.fetch_add(counts.cached, Ordering::Relaxed);
        // The first one, and then about each thousandth.
        let failed = self.webhook_failed.fetch_add(counts.failed, Ordering::Relaxed);
        if counts.failed > 0 && failed.is_multiple_of(1000) {
            tracing::warn!("the webhook does not answer, or not as it should: {} times so far", failed + 1);
        }
    }
}

impl Workers {
    /// Starts the threads.
    pub(crate) fn start(settings: &Settings, config: &Config, clock: Clock) -> io::Result<Workers> {
        let (jobs, incoming) = bounded(settings.login_queue_max as usize);
        let counters = Arc::new(Counters::default());
        for number in 0..settings.login_threads {
            let hand = Hand {
                jobs: incoming.clone(),
                counters: Arc::clone(&counters),
                clock,
                patience: Duration::from_millis(u64::from(config.connect_timeout_ms)),
            };
            thread::Builder::new().name(format!("login-{number}")).spawn(move || hand.work())?;
        }
        Ok(Workers { jobs, counters })
    }

    /// Takes a job, or is busy: too many wait (`login_queue_max`). Never blocks.
    pub(super) fn take(&self, job: Job) -> Result<(), Busy> {
        self.jobs.try_send(job).map_err(|_| {
            // The first one, and then each thousandth: a storm must not fill the log.
            let busy = self.counters.busy.fetch_add(1, Ordering::Relaxed);
            if busy.is_multiple_of(1000) {
                tracing::warn!("logins are refused as busy, {} so far: login_queue_max", busy + 1);
            }
            Busy
        })
    }

    /// Says what has been counted.
    pub(crate) fn log(&self) {
        let Counters { checked, busy, late, webhook_asked, webhook_cached, webhook_failed } = &*self.counters;
        let [asked, cached, failed] =
            [webhook_asked, webhook_cached, webhook_failed].map(|count| count.load(Ordering::Relaxed));
        if asked + cached > 0 {
            tracing::info!("webhook: {asked} questions, {failed} of them failed, {cached} answered before");
        }
        let [checked, busy, late] = [checked, busy, late].map(|count| count.load(Ordering::Relaxed));
        if checked + busy + late > 0 {
            tracing::info!(
                "logins: {checked} checked, {busy} refused as busy, {late} too late to be checked"
            );
        }
    }
}

/// One thread.
struct Hand {
    jobs: Receiver<Job>,
    counters: Arc<Counters>,
    clock: Clock,
    /// How long a client waits for an answer before its core closes it.
    patience: Duration,
}

impl Hand {
    fn work(self) {
        if let Err(error) = sys::step_back(NICE) {
            tracing::warn!("logins are checked with the cores' own right to the CPU: {error}");
        }
        // What was learnt under other settings does not hold.
        let (mut caller, mut knowledge) = (Caller::new(self.clock), None);
        for job in self.jobs {
            if !knowledge.as_ref().is_some_and(|former| Arc::ptr_eq(former, &job.knowledge)) {
                caller = Caller::new(self.clock);
                knowledge = Some(Arc::clone(&job.knowledge));
            }
            if self.clock.monotonic().since(job.asked) > self.patience {
                self.counters.late.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            // The panic hook logs it; whoever was to be judged is refused.
            let judge = || match &job.question.method {
                None => (job.knowledge.decide(&job.config, &job.question, &mut caller), None),
                Some(_) => {
                    job.knowledge.exchange(&job.config, &job.question, job.exchange.clone(), &mut caller)
                }
            };
            let judged = catch_unwind(AssertUnwindSafe(judge));
            self.counters.checked.fetch_add(1, Ordering::Relaxed);
            self.counters.add(caller.take_counts());
            let (verdict, exchange) =
                judged.unwrap_or_else(|_| (refuse(ReasonCode::UNSPECIFIED_ERROR), None));
            let decided = Decided { connection: job.question.connection, verdict };
            if job.answers.send((decided, exchange)).is_ok() {
                job.wake.signal();
            }
        }
    }
}
