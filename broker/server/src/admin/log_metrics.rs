//! The logs' part of `/metrics`: what commits cost, how many share one, and where the disk's bytes are.

use std::fmt::Display;

use broker_core::sight::LogTotals;
use wal::Tally;

use super::exposition::{Exposition, Kind};
use super::gather::CoreNumbers;

/// Of all logs of all cores.
pub(super) fn write(page: &mut Exposition, cores: &[CoreNumbers]) {
    let mut logs: Vec<&LogTotals> = cores.iter().flat_map(|core| &core.totals.logs).collect();
    logs.sort_unstable_by_key(|log| log.log);
    counts(page, &logs);
    commits(page, &logs);
    sizes(page, &logs);
    ranges(page, &logs);
}

/// One number for each log.
fn by_log<T: Display>(
    page: &mut Exposition,
    logs: &[&LogTotals],
    (kind, name, help): (Kind, &'static str, &str),
    of: impl Fn(&LogTotals) -> T,
) {
    let mut family = page.family(kind, name, help);
    for log in logs {
        family.sample(&[("log", &log.log.0.to_string())], of(log));
    }
}

fn counts(page: &mut Exposition, logs: &[&LogTotals]) {
    let mut count = |name, help, of: fn(&Tally) -> u64| {
        by_log(page, logs, (Kind::Counter, name, help), |log| of(&log.tally));
    };
    count("hermod_log_records_total", "Records that were made durable.", |tally| tally.records);
    count("hermod_log_written_bytes_total", "Bytes written to the log, in whole blocks.", |tally| {
        tally.written_bytes
    });
    count(
        "hermod_log_reclaimed_bytes_total",
        "Bytes of what still lived in sparse segments, written again.",
        |tally| tally.reclaimed_bytes,
    );
}

/// How long a write with its fdatasync took: buckets double from a microsecond on.
fn commits(page: &mut Exposition, logs: &[&LogTotals]) {
    let help = "How long commits took, each one write and one fdatasync.";
    let mut family = page.family(Kind::Histogram, "hermod_log_commit_seconds", help);
    for LogTotals { log, tally, .. } in logs {
        let log = log.0.to_string();
        let mut count = 0;
        for (bucket, commits) in tally.commits_by_duration.iter().enumerate() {
            count += commits;
            let upper = Tally::bucket_us(bucket).map_or_else(|| "+Inf".to_owned(), |us| seconds(us * 1000));
            family.sample_of("_bucket", &[("log", &log), ("le", &upper)], count);
        }
        family.sample_of("_sum", &[("log", &log)], seconds(tally.commit_ns));
        family.sample_of("_count", &[("log", &log)], count);
    }
}

fn sizes(page: &mut Exposition, logs: &[&LogTotals]) {
    let help =
        "Bytes of a log's files: sealed and needed, sealed and about to leave, being written, and ready.";
    let mut family = page.family(Kind::Gauge, "hermod_log_file_bytes", help);
    for LogTotals { log, usage, .. } in logs {
        let log = log.0.to_string();
        let states = [
            ("sealed", usage.sealed_bytes),
            ("leaving", usage.leaving_bytes),
            ("tail", usage.tail_bytes),
            ("spare", usage.spare_bytes),
        ];
        for (state, bytes) in states {
            family.sample(&[("log", &log), ("state", state)], bytes);
        }
    }
    let mut gauge = |name, help, of: fn(&LogTotals) -> u64| by_log(page, logs, (Kind::Gauge, name, help), of);
    gauge("hermod_log_live_bytes", "Bytes of records that are still needed.", |log| log.usage.live_bytes);
    gauge("hermod_log_unflushed_bytes", "Bytes appended that are not durable yet.", |log| {
        log.usage.unflushed_bytes
    });
    gauge("hermod_log_commits_in_flight", "Commits that the disk works on.", |log| {
        u64::from(log.usage.commits_in_flight)
    });
    gauge("hermod_log_segments_ready", "Empty segments that wait to be written.", |log| {
        u64::from(log.usage.segments_ready)
    });
    gauge("hermod_log_disk_full", "1 while the log takes no new messages for want of space.", |log| {
        u64::from(log.is_disk_full)
    });
}

/// Commands per record is how many messages and acknowledgements share a write.
fn ranges(page: &mut Exposition, logs: &[&LogTotals]) {
    type Of = fn(&range::replica::Tally) -> u64;
    let families: [(&'static str, &str, Of); 2] = [
        ("hermod_range_entries_total", "Entries applied, each one record of the log.", |tally| tally.entries),
        (
            "hermod_range_commands_total",
            "Commands in them: messages, acknowledgements and the like.",
            |tally| tally.commands,
        ),
    ];
    for (name, help, of) in families {
        let mut family = page.family(Kind::Counter, name, help);
        for LogTotals { log, inbox, retain, .. } in logs {
            let log = log.0.to_string();
            for (service, tally) in [("inbox", inbox), ("retain", retain)] {
                family.sample(&[("log", &log), ("service", service)], of(tally));
            }
        }
    }
}

/// Nanoseconds as seconds.
fn seconds(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}
