//! Threads beside the cores that check passwords: a bounded queue, a bounded number of hands, and less right to
//! the CPU than a core has, so that a storm of logins delays logins and nothing else.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use broker_core::access::{Decided, Question};
use broker_core::config::Config;
use broker_core::time::Mono;
use crossbeam_channel::{Receiver, Sender, bounded};
use mqtt::ReasonCode;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use super::authenticator::Answer;
use super::scram::Exchange;
use super::webhook::{Caller, Counts};
use super::{Knowledge, Settings, refuse};
use crate::clock::Clock;
use crate::sys::{self, EventFd};

/// How much these threads step back: at 10 a core that wants the same CPU gets nine tenths of it.
const NICE: i32 = 10;

/// Answers of one thread to one core that the core has not taken.
const ANSWERS_MAX: usize = 64;

/// How often it is written down that the webhook fails.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// How soon a thread tries again whose answer a core has no room for.
const FULL_RETRY: Duration = Duration::from_millis(1);

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
}

/// Too many logins wait; the job that was one more.
pub(super) struct Busy(pub(super) Box<Job>);

/// The threads, for whoever wants to know what they have done. They end when the last core has dropped its [`Desk`].
pub(crate) struct Workers {
    pub(crate) counters: Arc<Logins>,
}

/// One core's way to the threads: rings with one end each, so that the core never waits for a thread that has lost the
/// CPU in the middle of something. (A channel with several ends has a lock: a storm that took the CPU from a thread that
/// held it kept two cores waiting for up to 160 ms.)
pub(crate) struct Desk {
    jobs: Producer<(u16, Job)>,
    core: u16,
    /// Behind the jobs: it is dropped when they are.
    clerk: Clerk,
    /// By thread.
    answers: Vec<Consumer<Answer>>,
    counters: Arc<Logins>,
}

/// Takes jobs from the rings to whichever thread is free; looks again when it is dropped, for that may have been the last.
struct Clerk(Thread);

impl Drop for Clerk {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// What became of logins, on the whole node since its start.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    /// Checked, whatever came of it.
    pub(crate) checked: AtomicU64,
    /// Waiting, or being checked.
    pub(crate) waiting: AtomicU64,
    /// Authentications of clients that are online, refused because the queue was full (`login_queue_max`).
    pub(crate) busy: AtomicU64,
    /// Not checked because their clients had to be given up meanwhile (`connect_timeout_seconds`).
    pub(crate) late: AtomicU64,
    /// Questions to the webhook.
    pub(crate) webhook_asked: AtomicU64,
    /// Those that an earlier answer still answered.
    pub(crate) webhook_cached: AtomicU64,
    /// Those without an answer that could be understood (`webhook_timeout_ms`).
    pub(crate) webhook_failed: AtomicU64,
    /// When that was last written down; 0: never.
    webhook_warned: AtomicU64,
}

impl Logins {
    fn add(&self, counts: Counts, now: Mono) {
        self.webhook_asked.fetch_add(counts.asked, Ordering::Relaxed);
        self.webhook_cached.fetch_add(counts.cached, Ordering::Relaxed);
        let failed = self.webhook_failed.fetch_add(counts.failed, Ordering::Relaxed) + counts.failed;
        let Some(why) = counts.why else { return };
        let warned = self.webhook_warned.load(Ordering::Relaxed);
        let due = warned == 0 || now.since(Mono(warned)) >= WARN_INTERVAL;
        if due && self.webhook_warned.swap(now.0.max(1), Ordering::Relaxed) == warned {
            tracing::warn!("the webhook does not answer, or not as it should, {failed} times so far: {why}");
        }
    }
}

impl Workers {
    /// Starts the threads, for cores that are woken so.
    pub(crate) fn start(
        settings: &Settings,
        config: &Config,
        clock: Clock,
        wakes: &[Arc<EventFd>],
    ) -> io::Result<(Workers, Vec<Desk>)> {
        // What waits, waits in the rings.
        let (jobs, incoming) = bounded(usize::from(settings.login_threads));
        let counters = Arc::new(Logins::default());
        let own = config.listeners.iter().filter_map(|listener| listener.connect_timeout_ms);
        let patience_ms = own.chain([config.connect_timeout_ms]).max().expect("one at least");
        let mut answers: Vec<_> = wakes.iter().map(|_| Vec::new()).collect();
        for number in 0..settings.login_threads {
            let mut cores = Vec::new();
            for (wake, answers) in wakes.iter().zip(&mut answers) {
                let (sender, receiver) = RingBuffer::new(ANSWERS_MAX);
                cores.push((sender, Arc::clone(wake)));
                answers.push(receiver);
            }
            let hand = Hand {
                jobs: incoming.clone(),
                cores,
                counters: Arc::clone(&counters),
                clock,
                patience: Duration::from_millis(u64::from(patience_ms)),
            };
            thread::Builder::new().name(format!("login-{number}")).spawn(move || hand.work())?;
        }
        let share = (settings.login_queue_max as usize).div_ceil(wakes.len());
        let (senders, receivers): (Vec<_>, Vec<_>) = wakes.iter().map(|_| RingBuffer::new(share)).unzip();
        let clerk =
            thread::Builder::new().name("logins".to_owned()).spawn(move || carry(receivers, &jobs))?;
        let desks = (0..).zip(senders).zip(answers).map(|((core, jobs), answers)| Desk {
            jobs,
            core,
            clerk: Clerk(clerk.thread().clone()),
            answers,
            counters: Arc::clone(&counters),
        });
        Ok((Workers { counters: Arc::clone(&counters) }, desks.collect()))
    }

    /// Says what has been counted.
    pub(crate) fn log(&self) {
        let Logins { checked, busy, late, webhook_asked, webhook_cached, webhook_failed, .. } =
            &*self.counters;
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

impl Desk {
    /// Takes a job, or is busy: too many of this core wait (its share of `login_queue_max`). Never blocks.
    pub(super) fn take(&mut self, job: Job) -> Result<(), Busy> {
        match self.jobs.push((self.core, job)) {
            Ok(()) => {
                self.counters.waiting.fetch_add(1, Ordering::Relaxed);
                self.clerk.0.unpark();
                Ok(())
            }
            Err(PushError::Full((_, job))) => Err(Busy(Box::new(job))),
        }
    }

    /// How many more it would take.
    pub(super) fn room(&self) -> usize {
        self.jobs.slots()
    }

    /// Counts one that is refused because there is none.
    pub(super) fn count_busy(&self) {
        // The first one, and then each thousandth: a storm must not fill the log.
        let busy = self.counters.busy.fetch_add(1, Ordering::Relaxed);
        if busy.is_multiple_of(1000) {
            tracing::warn!("logins are refused as busy, {} so far: login_queue_max", busy + 1);
        }
    }

    /// The next answer. Never blocks.
    pub(super) fn next(&mut self) -> Option<Answer> {
        self.answers.iter_mut().find_map(|answers| answers.pop().ok())
    }
}

/// Carries jobs from the cores' rings to the threads, one of each core in turn, until there are no cores any more.
fn carry(mut desks: Vec<Consumer<(u16, Job)>>, jobs: &Sender<(u16, Job)>) {
    loop {
        let mut idle = true;
        for desk in &mut desks {
            if let Ok(job) = desk.pop() {
                idle = false;
                if jobs.send(job).is_err() {
                    return;
                }
            }
        }
        if idle {
            if desks.iter().all(Consumer::is_abandoned) {
                return;
            }
            // Whoever has put something into a ring since ends this at once.
            thread::park();
        }
    }
}

/// One thread.
struct Hand {
    jobs: Receiver<(u16, Job)>,
    /// Where answers go, and how the core is woken, by core.
    cores: Vec<(Producer<Answer>, Arc<EventFd>)>,
    counters: Arc<Logins>,
    clock: Clock,
    /// How long a client waits for an answer before its core closes it, on the most patient listener.
    patience: Duration,
}

impl Hand {
    fn work(mut self) {
        if let Err(error) = sys::step_back(NICE) {
            tracing::warn!("logins are checked with the cores' own right to the CPU: {error}");
        }
        // What was learnt under other settings does not hold.
        let (mut caller, mut knowledge) = (Caller::new(self.clock), None);
        while let Ok((core, job)) = self.jobs.recv() {
            if !knowledge.as_ref().is_some_and(|former| Arc::ptr_eq(former, &job.knowledge)) {
                caller = Caller::new(self.clock);
                knowledge = Some(Arc::clone(&job.knowledge));
            }
            if self.clock.monotonic().since(job.asked) > self.patience {
                self.counters.late.fetch_add(1, Ordering::Relaxed);
                self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
                // There is room for another.
                self.cores[usize::from(core)].1.signal();
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
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counters.add(caller.take_counts(), self.clock.monotonic());
            let (verdict, exchange) =
                judged.unwrap_or_else(|_| (refuse(ReasonCode::UNSPECIFIED_ERROR, None), None));
            let decided = Decided { connection: job.question.connection, verdict };
            self.answer(core, (decided, exchange));
        }
    }

    fn answer(&mut self, core: u16, mut answer: Answer) {
        let (answers, wake) = &mut self.cores[usize::from(core)];
        while let Err(PushError::Full(back)) = answers.push(answer) {
            if answers.is_abandoned() {
                return;
            }
            answer = back;
            thread::park_timeout(FULL_RETRY);
        }
        wake.signal();
    }
}

#[cfg(test)]
mod tests {
    use broker_core::access::{Step, Verdict};
    use broker_core::identity::ConnectionId;

    use super::*;
    use crate::auth::load;

    fn job(slot: u32) -> Job {
        let settings = Settings::default();
        let question = Question {
            connection: ConnectionId { slot, generation: 1 },
            listener: 0,
            tenant_by_name: None,
            peer: None,
            client_id: String::new(),
            username: Some("ann".to_owned()),
            password: Some(b"secret".to_vec()),
            method: None,
            data: None,
            step: Step::Connect,
        };
        let knowledge = load(&settings).unwrap().knowledge;
        Job { asked: Mono(u64::MAX), question, exchange: None, knowledge, config: Arc::default() }
    }

    /// Each core hears the answers to its own questions, as many as it has asked, whatever thread found them; who asks
    /// more than may wait is told so at once.
    #[test]
    fn answers_find_their_core() {
        let settings = Settings { login_threads: 3, login_queue_max: 1000, ..Settings::default() };
        let wakes: Vec<_> = (0..2).map(|_| Arc::new(EventFd::new().unwrap())).collect();
        let (workers, mut desks) =
            Workers::start(&settings, &Config::default(), Clock::start(), &wakes).unwrap();
        let mut taken = [0_usize; 2];
        for slot in 0..2000 {
            for (desk, taken) in desks.iter_mut().zip(&mut taken) {
                *taken += usize::from(desk.take(job(slot)).is_ok());
            }
        }
        let mut slots = [Vec::new(), Vec::new()];
        while (0..2).any(|core| slots[core].len() < taken[core]) {
            // In turn: a thread waits for room at a core that takes no answers.
            for (desk, slots) in desks.iter_mut().zip(&mut slots) {
                if let Some((Decided { connection, verdict }, None)) = desk.next() {
                    assert!(matches!(verdict, Verdict::Refuse { .. }));
                    slots.push(connection.slot);
                }
            }
        }
        for (slots, taken) in slots.iter_mut().zip(taken) {
            assert!(taken >= 500, "as many as may wait");
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), taken);
        }
        assert!(desks.iter_mut().all(|desk| desk.next().is_none()));
        assert_eq!(workers.counters.checked.load(Ordering::Relaxed), (taken[0] + taken[1]) as u64);
    }

    /// The threads end with the last desk.
    #[test]
    fn threads_end() {
        let wakes = [Arc::new(EventFd::new().unwrap())];
        let (workers, desks) =
            Workers::start(&Settings::default(), &Config::default(), Clock::start(), &wakes).unwrap();
        drop(desks);
        while Arc::strong_count(&workers.counters) > 1 {
            thread::yield_now();
        }
    }
}
