//! `hermod wal rate`: commits a second and what they cost, for each way of writing, beside what the disk itself
//! can do.
//!
//! Every commit is a turn that appends so many records of 200 bytes and flushes. `raw` is a linked write and
//! fdatasync of as many bytes into a file of zeros, with no log around it. In flight: one commit (latency), then
//! two (throughput). Rounds alternate between the ways, and the best round of each is shown: what else the
//! machine does only ever takes away. CPU is the whole process's, the kernel's hands included.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wal::log::append::Class;
use wal::log::reclaim::ReclaimBudget;
use wal::{
    AppendError, ClusterId, CommitNumber, Config, Log, LogId, LogIdentity, Mono, NewRecord, NodeId, RangeId,
    SegmentId, files,
};

use super::alone::{Alone, Way, prepare};
use crate::clock::Clock;

const RECORD_BYTES: usize = 200;
const BATCHES: [usize; 4] = [1, 16, 64, 256];
/// Small, so that making segments ahead does not fill the disk's queue while commits are measured.
const SEGMENT_BYTES: u32 = 16 << 20;
/// How long a commit is waited for before the turn looks again.
const WAIT: Duration = Duration::from_secs(10);
const LOG: LogId = LogId(0);

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What is to be measured.
pub(super) struct Wanted<'a> {
    pub(super) dir: &'a Path,
    pub(super) length: Duration,
    pub(super) rounds: u32,
}

/// One line of the table.
#[derive(Default)]
struct Rate {
    latency_us: Vec<u64>,
    elapsed: Duration,
    cpu: Duration,
}

/// A directory in the one that is measured, gone at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Measures, and prints the table.
pub(super) fn run(wanted: &Wanted<'_>, out: &mut impl Write) -> Outcome<()> {
    writeln!(out, "| records a commit | in flight | way | commits/s | p50 µs | p99 µs | CPU µs a commit |")?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for in_flight_max in [1, 2] {
        for batch in BATCHES {
            let ways = [None, Some(Way::Ring), Some(Way::Thread), Some(Way::Mapped)];
            let mut best = ways.map(|way| (way, Rate::default()));
            for _ in 0..wanted.rounds {
                for (way, best) in &mut best {
                    let rate = measure(wanted, *way, batch, in_flight_max)?;
                    if rate.a_second() > best.a_second() {
                        *best = rate;
                    }
                }
            }
            for (way, rate) in &mut best {
                rate.latency_us.sort_unstable();
                let name = way.map_or("raw", Way::name);
                let (a_second, cpu_us) = (rate.a_second(), rate.cpu_us());
                let [half, most] = [rate.latency_us.len() / 2, rate.latency_us.len() * 99 / 100];
                let [half, most] = [half, most].map(|at| rate.latency_us[at]);
                writeln!(
                    out,
                    "| {batch} | {in_flight_max} | {name} | {a_second:.0} | {half} | {most} | {cpu_us:.1} |"
                )?;
            }
        }
    }
    Ok(())
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn a_second(&self) -> f64 {
        self.latency_us.len() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.latency_us.len() as f64
    }

    fn note(&mut self, took: Duration) {
        self.latency_us.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn measure(wanted: &Wanted<'_>, way: Option<Way>, batch: usize, in_flight_max: usize) -> Outcome<Rate> {
    let folder = Folder(wanted.dir.join(format!("hermod-rate-{}", std::process::id())));
    fs::create_dir_all(&folder.0)?;
    match way {
        None => raw(&folder.0, batch, in_flight_max, wanted.length),
        Some(way) => with_log(&folder.0, way, batch, in_flight_max, wanted.length),
    }
}

/// Writes of the size of a commit, one after the other through a segment's file, round and round.
#[expect(unsafe_code, reason = "the ring is handed pointers")]
fn raw(data: &Path, batch: usize, in_flight_max: usize, length: Duration) -> Outcome<Rate> {
    let directory = files::log_directory(data, LOG)?;
    files::allocate_segment(&directory, SegmentId(1), u64::from(SEGMENT_BYTES), None)?;
    let (file, _) = files::open_segment(&directory, SegmentId(1), true)?;
    let bytes = (batch * wal::format::framed_bytes(RECORD_BYTES)).next_multiple_of(4096);
    // Aligned as O_DIRECT wants it: whole blocks of a mapping.
    files::allocate_segment(&directory, SegmentId(2), bytes as u64, None)?;
    let zeros = files::map_segment(&directory, SegmentId(2))?;
    let mut alone = Alone::new(data, LOG, Way::Ring)?;
    let (mut rate, mut begun, mut ended) = (Rate::default(), Vec::new(), Vec::new());
    let (mut number, mut offset) = (0, 0);
    let (clock, cpu) = (Clock::start(), cpu_time());
    while clock.monotonic().since(Default::default()) < length || !begun.is_empty() {
        while begun.len() < in_flight_max && clock.monotonic().since(Default::default()) < length {
            number += 1;
            begun.push((CommitNumber(number), clock.monotonic()));
            let name = (LOG, CommitNumber(number));
            // SAFETY: file and bytes stay until nothing is in flight, and `alone` is dropped before them.
            unsafe { alone.poller().write_and_sync(name, file.as_fd(), offset, &zeros) };
            let end = offset + 2 * bytes as u64;
            offset = if end > u64::from(SEGMENT_BYTES) { 0 } else { offset + bytes as u64 };
        }
        alone.ended(WAIT, &mut ended);
        for (number, result) in ended.drain(..) {
            result.map_err(super::damage::flush_error)?;
            let at = begun.iter().position(|(other, _)| *other == number).expect("begun before");
            rate.note(clock.monotonic().since(begun.swap_remove(at).1));
        }
    }
    (rate.elapsed, rate.cpu) = (clock.monotonic().since(Default::default()), cpu_time() - cpu);
    Ok(rate)
}

/// Commits of a log; everything appended dies at once, so that segments are recycled as in a broker whose
/// subscribers keep up.
fn with_log(data: &Path, way: Way, batch: usize, in_flight_max: usize, length: Duration) -> Outcome<Rate> {
    let identity = LogIdentity { cluster: ClusterId(1), node: NodeId(1), log: LOG };
    let config = Config { segment_bytes: SEGMENT_BYTES, linger_ns_max: 0, ..Config::new(identity) };
    let mut log = Log::new(config);
    // Dropped before the log that it writes from.
    let mut alone = Alone::new(data, LOG, way)?;
    let (mut rate, mut begun) = (Rate::default(), Vec::new());
    let (mut requests, mut ended) = (Vec::new(), Vec::new());
    prepare(&mut alone, &mut log)?;
    let (clock, cpu) = (Clock::start(), cpu_time());
    loop {
        let turn = clock.monotonic();
        let (now, is_over) = (Mono(turn.0), turn.since(Default::default()) >= length);
        if is_over && begun.is_empty() {
            break;
        }
        if begun.len() < in_flight_max && !is_over {
            append(&mut log, now, batch)?;
        }
        log.flush(now, &mut requests);
        begun.extend(alone.begin(&log, &mut requests).map(|number| (number, turn)));
        alone.serve(&mut log, &mut requests)?;
        let wait = begun.len() >= in_flight_max || is_over;
        alone.ended(if wait { WAIT } else { Duration::ZERO }, &mut ended);
        for (number, result) in ended.drain(..) {
            let now = clock.monotonic();
            let at = begun.iter().position(|(other, _)| *other == number).expect("begun before");
            rate.note(now.since(begun.swap_remove(at).1));
            result.map_err(super::damage::flush_error)?;
            log.on_flushed(Mono(now.0), number, result);
        }
        let budget = ReclaimBudget { copy_bytes: 0, scan_bytes: 0 };
        log.reclaim(now, budget, |_| false, &mut Vec::new()).map_err(|error| format!("{error:?}"))?;
    }
    (rate.elapsed, rate.cpu) = (clock.monotonic().since(Default::default()), cpu_time() - cpu);
    Ok(rate)
}

/// A turn's records, which die at once.
fn append(log: &mut Log, now: Mono, batch: usize) -> Outcome<()> {
    let payload = [7; RECORD_BYTES];
    let record = NewRecord { range: RangeId(9), kind: 1, version: 1, metadata: &[], payload: &payload };
    for _ in 0..batch {
        match log.append(now, Class::Ordinary, &record) {
            Ok(appended) => log.dead(appended.position, appended.bytes),
            Err(AppendError::SegmentsBehind) => break,
            Err(error) => return Err(format!("{error:?}").into()),
        }
    }
    log.hurry();
    Ok(())
}
