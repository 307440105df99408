//! Commits a second and their latency, for each way of writing, beside what the disk itself can do.
//!
//! `cargo run --release -p wal --example commit_rate -- --directory /var/lib/hermod --seconds 0.5 --rounds 5`
//!
//! Every commit is a turn that appends so many records of 200 bytes and flushes. `raw` is a linked write and
//! fdatasync of as many bytes into a file of zeros, with no log around it. In flight: one commit (latency),
//! then two (throughput). The stall is the longest a turn kept its core, submission included.
//! Rounds alternate between the ways, and the best round of each is shown: what else the machine does only
//! ever takes away.

#![expect(clippy::print_stdout, reason = "a program for people")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

mod writers;

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use wal::log::append::Class;
use wal::log::reclaim::ReclaimBudget;
use wal::{
    AppendError, ClusterId, CommitNumber, Config, Log, LogId, LogIdentity, Mono, NewRecord, NodeId, RangeId,
    Request, files,
};

use writers::Writer;
use writers::ring::Ring;

const RECORD_BYTES: usize = 200;
const BATCHES: [usize; 5] = [1, 4, 16, 64, 256];
/// Small, so that making segments ahead does not fill the disk's queue while commits are measured.
const SEGMENT_BYTES: u32 = 16 << 20;

const WAYS: [&str; 4] = ["raw", "ring", "thread", "mapped"];

type Outcome<T> = Result<T, Box<dyn Error>>;

/// One line of the table.
struct Rate {
    commits: u64,
    elapsed: Duration,
    latency_us: Histogram<u64>,
    stall: Duration,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let data = value("--directory").map_or_else(std::env::temp_dir, Into::into);
    let seconds = value("--seconds").map_or(Ok(0.5), |text| text.parse::<f64>())?;
    let rounds = value("--rounds").map_or(Ok(5), |text| text.parse::<u32>())?;
    let length = Duration::from_secs_f64(seconds.clamp(0.1, 60.0));
    println!(
        "| records a commit | in flight | way | commits/s | records/s | p50 µs | p99 µs | longest stall µs |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for in_flight_max in [1, 2] {
        for batch in BATCHES {
            let mut best: [Option<Rate>; WAYS.len()] = Default::default();
            for _ in 0..rounds {
                for (best, way) in best.iter_mut().zip(WAYS) {
                    let directory = tempfile::tempdir_in(&data)?;
                    let rate = measure(directory.path(), way, batch, in_flight_max, length)?;
                    if best.as_ref().is_none_or(|best| best.a_second() < rate.a_second()) {
                        *best = Some(rate);
                    }
                }
            }
            for (rate, way) in best.iter().flatten().zip(WAYS) {
                line(batch, in_flight_max, way, rate);
            }
        }
    }
    Ok(())
}

fn measure(
    directory: &Path,
    way: &str,
    batch: usize,
    in_flight_max: usize,
    length: Duration,
) -> Outcome<Rate> {
    let mut writer = match way {
        "raw" => return raw(directory, batch, in_flight_max, length),
        "ring" => Writer::ring(directory)?,
        "thread" => Writer::thread(directory),
        _ => Writer::mapped(directory),
    };
    with_log(directory, &mut writer, batch, in_flight_max, length)
}

fn line(batch: usize, in_flight_max: usize, way: &str, rate: &Rate) {
    let a_second = rate.a_second();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let records = a_second * batch as f64;
    println!(
        "| {batch} | {in_flight_max} | {way} | {a_second:.0} | {records:.0} | {} | {} | {} |",
        rate.latency_us.value_at_quantile(0.5),
        rate.latency_us.value_at_quantile(0.99),
        rate.stall.as_micros()
    );
}

impl Rate {
    fn new() -> Outcome<Rate> {
        let latency_us = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Rate { commits: 0, elapsed: Duration::ZERO, latency_us, stall: Duration::ZERO })
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn a_second(&self) -> f64 {
        self.commits as f64 / self.elapsed.as_secs_f64()
    }

    fn note(&mut self, took: Duration) -> Outcome<()> {
        self.commits += 1;
        self.latency_us.record(u64::try_from(took.as_micros())?.max(1))?;
        Ok(())
    }
}

/// Writes of the size of a commit, one after the other through a segment's file, round and round.
fn raw(directory: &Path, batch: usize, in_flight_max: usize, length: Duration) -> Outcome<Rate> {
    files::allocate_segment(directory, wal::SegmentId(1), u64::from(SEGMENT_BYTES), None)?;
    let (file, _) = files::open_segment(directory, wal::SegmentId(1), true)?;
    let bytes = (batch * wal::format::framed_bytes(RECORD_BYTES)).next_multiple_of(4096);
    // Aligned as O_DIRECT wants it.
    let memory = memmap2::MmapMut::map_anon(bytes)?;
    let mut ring = Ring::new()?;
    let (mut rate, mut begun, mut answers) = (Rate::new()?, Vec::new(), Vec::new());
    let (mut number, mut offset) = (0, 0);
    let begin = Instant::now();
    while begin.elapsed() < length {
        while begun.len() < in_flight_max {
            number += 1;
            let now = Instant::now();
            ring.write_and_sync(CommitNumber(number), &file, offset, &memory)?;
            ring.submit()?;
            begun.push((CommitNumber(number), now));
            rate.stall = rate.stall.max(now.elapsed());
            let end = offset + 2 * bytes as u64;
            offset = if end > u64::from(SEGMENT_BYTES) { 0 } else { offset + bytes as u64 };
        }
        ring.reap(true, &mut answers)?;
        for (number, result) in answers.drain(..) {
            result.map_err(|error| format!("{error:?}"))?;
            let at = begun.iter().position(|(other, _)| *other == number).expect("begun before");
            rate.note(begun.swap_remove(at).1.elapsed())?;
        }
    }
    rate.elapsed = begin.elapsed();
    Ok(rate)
}

/// Commits of a log; everything appended dies at once, so that segments are recycled as in a broker whose
/// subscribers keep up.
fn with_log(
    directory: &Path,
    writer: &mut Writer,
    batch: usize,
    in_flight_max: usize,
    length: Duration,
) -> Outcome<Rate> {
    let identity = LogIdentity { cluster: ClusterId(1), node: NodeId(1), log: LogId(0) };
    let config = Config { segment_bytes: SEGMENT_BYTES, linger_ns_max: 0, ..Config::new(identity) };
    let mut log = Log::new(config);
    let payload = [7; RECORD_BYTES];
    let record = NewRecord { range: RangeId(9), kind: 1, version: 1, metadata: &[], payload: &payload };
    let (mut rate, mut begun) = (Rate::new()?, Vec::new());
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    prepare(directory, &mut log)?;
    let begin = Instant::now();
    while begin.elapsed() < length || !begun.is_empty() {
        let turn = Instant::now();
        let now = Mono(u64::try_from(begin.elapsed().as_nanos())?);
        if begun.len() < in_flight_max && begin.elapsed() < length {
            for _ in 0..batch {
                match log.append(now, Class::Ordinary, &record) {
                    Ok(appended) => log.dead(appended.position, appended.bytes),
                    Err(AppendError::SegmentsBehind) => break,
                    Err(error) => return Err(format!("{error:?}").into()),
                }
            }
            log.hurry();
        }
        log.flush(now, &mut requests);
        if let Some(at) = requests.iter().position(|request| matches!(request, Request::Flush(_))) {
            let Request::Flush(commit) = requests.swap_remove(at) else { unreachable!("looked for") };
            if begun.is_empty() {
                writer.close_before(commit.writes[0].segment);
            }
            writer.submit(&commit, &log)?;
            begun.push((commit.number, turn));
            rate.stall = rate.stall.max(turn.elapsed());
        }
        // In a broker a thread off the core does these; here they are not part of a turn.
        serve(directory, &mut log, &mut requests)?;
        writer.reap(begun.len() >= in_flight_max || begin.elapsed() >= length, &mut answers)?;
        for (number, result) in answers.drain(..) {
            let at = begun.iter().position(|(other, _)| *other == number).expect("begun before");
            rate.note(begun.swap_remove(at).1.elapsed())?;
            log.on_flushed(Mono(u64::try_from(begin.elapsed().as_nanos())?), number, result);
        }
    }
    rate.elapsed = begin.elapsed();
    Ok(rate)
}

fn prepare(directory: &Path, log: &mut Log) -> Outcome<()> {
    let mut requests = Vec::new();
    log.flush(Mono(0), &mut requests);
    serve(directory, log, &mut requests)
}

fn serve(directory: &Path, log: &mut Log, requests: &mut Vec<Request>) -> Outcome<()> {
    for request in requests.drain(..) {
        match request {
            Request::AllocateSegment { segment, bytes, recycle } => {
                files::allocate_segment(directory, segment, bytes, recycle)?;
                log.on_segment_ready(segment, u64::from(segment.0) * 0x9e37_79b9);
            }
            Request::RemoveSegment(segment) => files::remove_segment(directory, segment)?,
            Request::MapSegment(segment) => log.on_mapped(segment, files::map_segment(directory, segment)?),
            Request::Prefetch(segment) => log.on_prefetched(segment),
            Request::Flush(_) => unreachable!("taken before"),
        }
    }
    let budget = ReclaimBudget { copy_bytes: 0, scan_bytes: 0 };
    log.reclaim(Mono(0), budget, |_| false, &mut Vec::new()).map_err(|error| format!("{error:?}"))?;
    Ok(())
}
