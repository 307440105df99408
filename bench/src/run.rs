//! One run from the first connection to the last goodbye: starts the threads, calls the phases, takes
//! the broker's CPU time and memory at their borders.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use mqtt::QoS;

use crate::clock;
use crate::detect::Findings;
use crate::latency::{self, Percentiles};
use crate::output;
use crate::persistent::{self, Sessions, Stage};
use crate::plan::{Load, Plan};
use crate::probe;
use crate::process::{self, Usage};
use crate::progress::Progress;
use crate::report::{BrokerOutcome, ConnectOutcome, Faults, Outcome};
use crate::shared::{Counters, Phase, Shared};
use crate::system;
use crate::transport::{Endpoint, Transport};
use crate::worker::{self, WorkerReport};

/// How often the orchestrating thread looks.
const LOOK: Duration = Duration::from_millis(5);
/// Time to get all connections ready, beyond what the connect rate takes.
const SETUP_NS_MAX: u64 = 120_000_000_000;
/// Silence after which it is asked whether anything more is to come.
const QUIET_NS: u64 = 1_500_000_000;
/// Entries of a thread's rings.
const RING_DEPTH: usize = 1024;
/// Registered memory of a thread: the harness does no file I/O.
const RING_MEMORY: usize = 64 << 10;

/// Where and with what a plan runs.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Where the broker is.
    pub(crate) target: Endpoint,
    /// The broker's process, when it can be watched.
    pub(crate) pid: Option<u32>,
    /// Threads of the harness.
    pub(crate) threads: usize,
    /// CPUs of the harness; empty: all.
    pub(crate) cpus: Vec<usize>,
    /// How long a thread looks for work before it sleeps.
    pub(crate) spin: Duration,
}

/// Why there is no outcome.
#[derive(Debug)]
pub(crate) enum RunError {
    /// The broker's process cannot be read.
    Usage(std::io::Error),
    /// An executor did not start: io_uring is forbidden, or memlock too low.
    Executor(String),
    /// The hard limit of open files is too low.
    OpenFiles {
        /// Files the run needs.
        needed: u64,
        /// Files it may have.
        limit: u64,
    },
    /// No connection became ready.
    NoConnection(Vec<String>),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunError::Usage(error) => write!(formatter, "the broker's process cannot be read: {error}"),
            RunError::Executor(error) => {
                write!(formatter, "glommio: {error} (is io_uring allowed, and `ulimit -l` at least 512?)")
            }
            RunError::OpenFiles { needed, limit } => {
                write!(formatter, "{needed} open files are needed and {limit} allowed: raise `ulimit -Hn`")
            }
            RunError::NoConnection(errors) => {
                write!(formatter, "no connection became ready: {}", errors.join("; "))
            }
        }
    }
}

/// Counters and usage at one moment.
#[derive(Debug, Clone, Copy)]
struct Snapshot {
    at: u64,
    sent: u64,
    delivered: u64,
    broker: Option<Usage>,
    bench_cpu_ns: u64,
}

/// The borders of the measured time, and whether messages were still coming at the very end.
#[derive(Debug, Clone, Copy)]
struct Measured {
    from: Snapshot,
    to: Snapshot,
    cut_off: bool,
    /// And somebody was silent then who was asked for an answer.
    unanswered: bool,
}

/// Runs a plan, and before it the plan that writes what it reads.
pub(crate) fn run(plan: &Plan, place: &Place) -> Result<Outcome, RunError> {
    if let Some(populate) = &plan.populate {
        run_stage(populate, place, &mut Carried::new())?;
    }
    match plan.sessions {
        Sessions::Clean => run_stage(plan, place, &mut Carried::new()),
        _ => persistent::run(plan, place),
    }
}

/// What one run of a scenario leaves to the next.
#[derive(Debug)]
pub(crate) struct Carried {
    tag: u16,
    /// Messages sent, by publisher.
    sent: Vec<u64>,
}

impl Carried {
    /// Nothing was sent yet.
    pub(crate) fn new() -> Carried {
        Carried { tag: clock::run_tag(), sent: Vec::new() }
    }

    /// Messages of all publishers.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.iter().sum()
    }
}

/// Runs one stage.
pub(crate) fn run_stage(plan: &Plan, place: &Place, carried: &mut Carried) -> Result<Outcome, RunError> {
    let mut plan = plan.clone();
    let files = system::raise_open_files(plan.files()).map_err(RunError::Usage)?;
    match plan.fit(files) {
        Some(0) => {}
        Some(less) => output::remark(format_args!(
            "open files are limited to {files} (`ulimit -Hn`): {less} idle connections fewer"
        )),
        None => return Err(RunError::OpenFiles { needed: plan.files(), limit: files }),
    }
    let mut progress = Progress::new(&plan.name);
    let shared = Arc::new(Shared::new(plan, place.target.clone(), carried.tag, place.threads, &carried.sent));
    let begin = snapshot(&shared, place)?;
    let threads = start(&shared, place)?;
    let all_ready = wait_ready(&shared, &mut progress);
    let ready = snapshot(&shared, place)?;
    let connected = shared.total(|counters| &counters.connected);
    let measured = (connected > 0).then(|| match shared.plan.stage {
        Stage::Back => queues(&shared, place, begin, &mut progress),
        Stage::Attach | Stage::Clear => {
            Ok(Measured { from: ready, to: ready, cut_off: false, unanswered: false })
        }
        Stage::All | Stage::Away => traffic(&shared, place, &mut progress),
    });
    shared.enter(Phase::Close);
    let reports: Vec<WorkerReport> = threads
        .into_iter()
        .map(|thread| thread.join().map_err(|error| RunError::Executor(error.to_string())))
        .collect::<Result<_, _>>()?;
    progress.finish();
    let mut errors: Vec<String> = reports.iter().flat_map(|report| report.errors.clone()).collect();
    let Some(measured) = measured else { return Err(RunError::NoConnection(errors)) };
    let measured = measured?;
    if !all_ready {
        errors.push("not all connections became ready in time".to_owned());
    }
    if measured.unanswered {
        errors
            .push("pings were not answered in time: the broker was held up, or a thread of ours".to_owned());
    }
    let mut outcome = outcome(&shared, &reports, measured);
    outcome.connect = connect_outcome(&shared, &reports, begin, ready, connected);
    outcome.errors = errors;
    if shared.plan.stage == Stage::Back {
        let first = shared.first_delivery();
        outcome.first_delivery_s = first.map(|time| clock::seconds(time.saturating_sub(begin.at)));
    }
    carried.sent = shared.publishers.iter().map(|progress| progress.sent.load(Relaxed)).collect();
    Ok(outcome)
}

fn start(shared: &Arc<Shared>, place: &Place) -> Result<Vec<ExecutorJoinHandle<WorkerReport>>, RunError> {
    let mut threads = Vec::new();
    for index in 0..place.threads {
        // Glommio looks for work before it sleeps only on a thread bound to one CPU.
        let placement = match place.cpus.as_slice() {
            [] => Placement::Unbound,
            cpus => Placement::Fixed(cpus[index % cpus.len()]),
        };
        let shared = Arc::clone(shared);
        let thread = LocalExecutorBuilder::new(placement)
            .name(&format!("bench-{index}"))
            .ring_depth(RING_DEPTH)
            .io_memory(RING_MEMORY)
            .spin_before_park(place.spin)
            .spawn(move || worker::work(shared, index))
            .map_err(|error| RunError::Executor(error.to_string()))?;
        threads.push(thread);
    }
    Ok(threads)
}

fn snapshot(shared: &Shared, place: &Place) -> Result<Snapshot, RunError> {
    let broker = place.pid.map(process::usage).transpose().map_err(RunError::Usage)?;
    Ok(Snapshot {
        at: clock::now(),
        sent: shared.total(|counters| &counters.sent),
        delivered: shared.total(|counters| &counters.delivered),
        broker,
        bench_cpu_ns: process::usage(std::process::id()).map_or(0, |usage| usage.cpu_ns),
    })
}

/// Waits until every connection is ready or has failed; `false` when time ran out.
fn wait_ready(shared: &Shared, progress: &mut Progress) -> bool {
    let connections = u64::from(shared.plan.connections());
    let paced = shared.plan.connect_rate.map_or(0, |rate| (connections as f64 / rate * 1e9) as u64);
    let deadline = clock::now() + SETUP_NS_MAX + paced;
    loop {
        let done = shared.total(|counters| &counters.ready) + shared.total(|counters| &counters.failed);
        if done >= connections {
            return true;
        }
        if clock::now() > deadline {
            return false;
        }
        progress.show(format_args!("{done} of {connections} connections ready"));
        clock::sleep(LOOK);
    }
}

/// Warm-up, measured time, drain.
fn traffic(shared: &Shared, place: &Place, progress: &mut Progress) -> Result<Measured, RunError> {
    shared.enter(Phase::Publish);
    if shared.plan.messages.is_none() {
        wait_traffic(shared, shared.plan.warmup, "warm-up", progress);
    }
    let from = snapshot(shared, place)?;
    shared.measure_from(from.at);
    wait_traffic(shared, shared.plan.duration, "measuring", progress);
    let to = snapshot(shared, place)?;
    shared.measure_to(to.at);
    shared.enter(Phase::Drain);
    let cut_off = settle(shared, progress);
    Ok(Measured { from, to, cut_off, unanswered: cut_off && !shared.is_answered() })
}

/// What waited for the sessions that are back, from the first dial on.
fn queues(
    shared: &Shared,
    place: &Place,
    from: Snapshot,
    progress: &mut Progress,
) -> Result<Measured, RunError> {
    let cut_off = settle(shared, progress);
    let to = snapshot(shared, place)?;
    Ok(Measured { from, to, cut_off, unanswered: cut_off && !shared.is_answered() })
}

/// Waits until nothing is under way, nothing comes any more though everybody is there ([`probe`]), or the time for
/// it is over. `true`: something may still come.
fn settle(shared: &Shared, progress: &mut Progress) -> bool {
    let deadline = clock::now() + shared.plan.drain.as_nanos() as u64;
    let (mut before, mut since, mut rounds) = (u64::MAX, 0, 0);
    while clock::now() < deadline {
        // Whether all have answered is asked before what came: what came before an answer is counted by then.
        let answered = shared.is_answered();
        let left = shared.outstanding() + unacknowledged(shared);
        if left == 0 {
            return false;
        }
        let seen = shared.total(|counters| &counters.delivered) + shared.total(|counters| &counters.acked);
        if seen != before {
            (before, since, rounds) = (seen, clock::now(), 0);
        } else if rounds == 0 && clock::now() - since > QUIET_NS || rounds > 0 && answered {
            if rounds == probe::ROUNDS {
                return false;
            }
            rounds += 1;
            shared.begin_round();
        }
        progress.show(format_args!("{left} messages under way"));
        clock::sleep(LOOK);
    }
    true
}

/// Waits for `duration`, or until every publisher has sent all it had to and all of it arrived.
fn wait_traffic(shared: &Shared, duration: Duration, what: &str, progress: &mut Progress) {
    let begin = clock::now();
    let publishers = u64::from(shared.plan.publishers());
    while clock::now() - begin < duration.as_nanos() as u64 {
        let finished = publishers > 0 && shared.total(|counters| &counters.finished) == publishers;
        if finished {
            settle(shared, progress);
            return;
        }
        let rate = progress.rate(shared.total(|counters| &counters.delivered));
        progress.show(format_args!(
            "{what} {:.0} s: {} sent, {} delivered, {rate:.0}/s",
            clock::seconds(clock::now() - begin),
            shared.total(|counters| &counters.sent),
            shared.total(|counters| &counters.delivered),
        ));
        clock::sleep(LOOK);
    }
}

/// Publishes of QoS 1 and 2 whose last acknowledgement has not come.
fn unacknowledged(shared: &Shared) -> u64 {
    if !shared.plan.stage.has_publishers() {
        return 0;
    }
    let mut sent = 0;
    for (number, flow) in shared.plan.flows.iter().enumerate() {
        if flow.qos != QoS::AtMostOnce {
            let first = shared.plan.first_publisher(number) as usize;
            let publishers = &shared.publishers[first..first + flow.publishing() as usize];
            sent += publishers.iter().map(|progress| progress.sent.load(Relaxed)).sum::<u64>();
        }
    }
    sent.saturating_sub(shared.total(|counters| &counters.acked))
}

fn outcome(shared: &Shared, reports: &[WorkerReport], measured: Measured) -> Outcome {
    let Measured { from, to, cut_off, .. } = measured;
    let (mut latency, mut ack_latency) = (latency::histogram(), latency::histogram());
    for report in reports {
        latency.add(&report.latency).expect("equal bounds");
        ack_latency.add(&report.ack_latency).expect("equal bounds");
    }
    let shown = if latency.is_empty() { &ack_latency } else { &latency };
    let seconds = clock::seconds(to.at - from.at).max(1e-9);
    let (sent, delivered) = (to.sent - from.sent, to.delivered - from.delivered);
    let mut outcome = Outcome {
        scenario: shared.plan.name.clone(),
        settings: settings(&shared.plan, shared.target.transport),
        seconds,
        sent,
        delivered,
        sent_per_s: sent as f64 / seconds,
        delivered_per_s: delivered as f64 / seconds,
        latency_us: Percentiles::of(&latency),
        ack_latency_us: Percentiles::of(&ack_latency),
        faults: faults(shared, reports, cut_off),
        bench_cpu_share: clock::seconds(to.bench_cpu_ns.saturating_sub(from.bench_cpu_ns)) / seconds,
        latency_curve: latency::curve(shown),
        ..Outcome::default()
    };
    if let (Some(before), Some(after)) = (from.broker, to.broker) {
        let cpu_s = clock::seconds(after.cpu_ns.saturating_sub(before.cpu_ns));
        outcome.broker = Some(BrokerOutcome {
            cpu_s,
            cpu_share: cpu_s / seconds,
            cpu_us_per_message: cpu_s * 1e6 / outcome.messages().max(1) as f64,
            resident_bytes: after.resident_bytes,
            user_bytes: after.user_bytes,
            user_bytes_grown: after.user_bytes.cast_signed() - before.user_bytes.cast_signed(),
            written_bytes_per_message: after.written_bytes.saturating_sub(before.written_bytes) as f64
                / if outcome.sent > 0 { outcome.sent } else { outcome.delivered.max(1) } as f64,
        });
    }
    outcome
}

fn faults(shared: &Shared, reports: &[WorkerReport], cut_off: bool) -> Faults {
    let mut findings = Findings::default();
    let mut faults = Faults { unacknowledged: unacknowledged(shared), ..Faults::default() };
    for report in reports {
        findings.add(report.findings);
        faults.misrouted += report.notes.misrouted;
        faults.corrupt += report.notes.corrupt;
        faults.foreign += report.notes.foreign;
        faults.refused += report.notes.refused;
    }
    for (number, flow) in shared.plan.flows.iter().enumerate() {
        let mut groups = reports.iter().filter_map(|report| report.groups.get(number)?.as_ref());
        let Some(first) = groups.next() else { continue };
        let mut group = crate::detect::GroupTracker::new(flow.publishers);
        std::iter::once(first).chain(groups).for_each(|other| group.merge(other));
        let start = shared.plan.first_publisher(number) as usize;
        let publishers = &shared.publishers[start..start + flow.publishers as usize];
        findings.add(group.findings(publishers.iter().map(|progress| progress.sent.load(Relaxed))));
    }
    // What misses at the end is lost when nothing came any more, and under way when it was still coming.
    let (lost_tail, undelivered) = if cut_off { (0, findings.tail) } else { (findings.tail, 0) };
    Faults {
        lost: findings.lost + lost_tail,
        undelivered,
        duplicates: findings.duplicates,
        reordered: findings.reordered,
        ..faults
    }
}

fn connect_outcome(
    shared: &Shared,
    reports: &[WorkerReport],
    begin: Snapshot,
    ready: Snapshot,
    connected: u64,
) -> ConnectOutcome {
    let mut latency = latency::histogram();
    for report in reports {
        latency.add(&report.connect_latency).expect("equal bounds");
    }
    let seconds = clock::seconds(ready.at - begin.at).max(1e-9);
    let each = |part: fn(&Usage) -> u64| {
        let (before, after) = (begin.broker.as_ref()?, ready.broker.as_ref()?);
        Some(part(after).saturating_sub(part(before)) as f64 / connected.max(1) as f64)
    };
    let failed = |counters: &Counters| counters.failed.load(Relaxed);
    ConnectOutcome {
        connected,
        failed: shared.counters.iter().map(failed).sum(),
        seconds,
        per_s: connected as f64 / seconds,
        latency_us: Percentiles::of(&latency),
        broker_cpu_us_each: each(|usage| usage.cpu_ns).map(|nanos| nanos / 1e3),
        broker_user_bytes_each: each(|usage| usage.user_bytes),
    }
}

fn settings(plan: &Plan, transport: Transport) -> String {
    let mut text = format!("MQTT {:?} over {transport:?}, {} B payload", plan.version, plan.payload_bytes);
    if plan.idle > 0 {
        text += &format!("; {} idle", plan.idle);
    }
    for flow in &plan.flows {
        let load = match flow.load {
            Load::Window(window) => format!("window {window}"),
            Load::Rate(rate) => format!("{rate} msg/s"),
        };
        text += &format!(
            "; {:?} {} -> {}, {} topics, QoS {}, {load}",
            flow.shape,
            flow.publishers,
            flow.subscribers,
            flow.topics,
            flow.qos.bits()
        );
    }
    text
}
