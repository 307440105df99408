//! What a run found: a table for people, JSON for programs.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::latency::Percentiles;
use crate::output;

/// All of one run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The scenario's name.
    pub(crate) scenario: String,
    /// Which broker, where several are compared.
    pub(crate) broker_name: String,
    /// Protocol version, payload, flows: what was asked for, in words.
    pub(crate) settings: String,
    /// Opening the connections.
    pub(crate) connect: ConnectOutcome,
    /// The measured time in seconds.
    pub(crate) seconds: f64,
    /// From the first dial to the first delivery, where sessions come back.
    pub(crate) first_delivery_s: Option<f64>,
    /// Messages published in it.
    pub(crate) sent: u64,
    /// Messages delivered in it.
    pub(crate) delivered: u64,
    /// Published per second.
    pub(crate) sent_per_s: f64,
    /// Delivered per second.
    pub(crate) delivered_per_s: f64,
    /// From due (open loop) or written (closed loop) to delivered, microseconds.
    pub(crate) latency_us: Percentiles,
    /// The same to PUBACK or PUBCOMP.
    pub(crate) ack_latency_us: Percentiles,
    /// Over the whole run, warm-up and drain included.
    pub(crate) faults: Faults,
    /// CPU and memory of the broker's process, when it is known.
    pub(crate) broker: Option<BrokerOutcome>,
    /// CPU seconds of the harness per second.
    pub(crate) bench_cpu_share: f64,
    /// The first errors in words.
    pub(crate) errors: Vec<String>,
    /// Latency over percentile: quantile, microseconds.
    pub(crate) latency_curve: Vec<(f64, f64)>,
}

/// Opening the connections.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ConnectOutcome {
    /// Greeted with CONNACK.
    pub(crate) connected: u64,
    /// Refused, failed or lost, until the end of the run.
    pub(crate) failed: u64,
    /// From the first dial until all were ready, subscriptions included.
    pub(crate) seconds: f64,
    /// Ready per second.
    pub(crate) per_s: f64,
    /// From dialling to CONNACK, microseconds.
    pub(crate) latency_us: Percentiles,
    /// Broker CPU microseconds per connection, subscriptions included.
    pub(crate) broker_cpu_us_each: Option<f64>,
    /// Broker user memory (anonymous) per connection in bytes.
    pub(crate) broker_user_bytes_each: Option<f64>,
}

/// What must be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Deliveries that never came.
    pub(crate) lost: u64,
    /// Deliveries still under way when the time to wait for them was over: the broker was overloaded.
    /// They are missing in the latency.
    pub(crate) undelivered: u64,
    /// Deliveries that came again.
    pub(crate) duplicates: u64,
    /// Deliveries that came after a later message of their publisher and topic.
    pub(crate) reordered: u64,
    /// Deliveries to a subscriber they were not for.
    pub(crate) misrouted: u64,
    /// Deliveries of a wrong length.
    pub(crate) corrupt: u64,
    /// Deliveries that belong to no message of this run.
    pub(crate) foreign: u64,
    /// Acknowledgements that said no.
    pub(crate) refused: u64,
    /// Publishes never acknowledged.
    pub(crate) unacknowledged: u64,
}

/// The broker's process over the measured time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct BrokerOutcome {
    /// CPU seconds.
    pub(crate) cpu_s: f64,
    /// CPU seconds per second: 1 is one CPU.
    pub(crate) cpu_share: f64,
    /// CPU microseconds per message: delivered, or published where nobody listens.
    pub(crate) cpu_us_per_message: f64,
    /// Resident memory at the end, bytes.
    pub(crate) resident_bytes: u64,
    /// Anonymous memory at the end, bytes.
    pub(crate) user_bytes: u64,
    /// By how much it grew.
    pub(crate) user_bytes_grown: i64,
    /// Bytes written to disks per published message, or delivered where none was published.
    pub(crate) written_bytes_per_message: f64,
}

impl Faults {
    /// Their sum.
    pub(crate) fn total(&self) -> u64 {
        self.lost
            + self.undelivered
            + self.duplicates
            + self.reordered
            + self.misrouted
            + self.corrupt
            + self.foreign
            + self.refused
            + self.unacknowledged
    }
}

impl Outcome {
    /// Messages the cost is spread over.
    pub(crate) fn messages(&self) -> u64 {
        if self.delivered > 0 { self.delivered } else { self.sent }
    }

    /// Messages per second of the same kind.
    pub(crate) fn rate(&self) -> f64 {
        if self.delivered > 0 { self.delivered_per_s } else { self.sent_per_s }
    }

    /// Latency of deliveries, or of acknowledgements where nobody listens.
    pub(crate) fn shown_latency(&self) -> Percentiles {
        if self.latency_us.count > 0 { self.latency_us } else { self.ack_latency_us }
    }

    /// Whether everything arrived as it should and every connection held.
    pub(crate) fn is_clean(&self) -> bool {
        self.faults.total() == 0 && self.connect.failed == 0
    }
}

/// Shows an outcome.
pub(crate) fn print(outcome: &Outcome) {
    for (name, value) in rows(outcome) {
        output::line(format_args!("{name:<22} {value}"));
    }
}

fn rows(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let connect = &outcome.connect;
    let faults = &outcome.faults;
    let mut rows = vec![
        ("scenario", outcome.scenario.clone()),
        ("settings", outcome.settings.clone()),
        (
            "connections",
            format!(
                "{} in {:.2} s ({:.0}/s), {} failed; CONNACK {}",
                connect.connected,
                connect.seconds,
                connect.per_s,
                connect.failed,
                percentiles(&connect.latency_us)
            ),
        ),
    ];
    if let (Some(cpu), Some(bytes)) = (connect.broker_cpu_us_each, connect.broker_user_bytes_each) {
        rows.push(("broker per connection", format!("{cpu:.1} µs CPU, {bytes:.0} B user memory")));
    }
    rows.push(("measured", format!("{:.2} s", outcome.seconds)));
    if outcome.sent + outcome.delivered > 0 {
        rows.push(("published", format!("{} ({:.0}/s)", outcome.sent, outcome.sent_per_s)));
        rows.push(("delivered", format!("{} ({:.0}/s)", outcome.delivered, outcome.delivered_per_s)));
    }
    if outcome.latency_us.count > 0 {
        rows.push(("latency", percentiles(&outcome.latency_us)));
    }
    if outcome.ack_latency_us.count > 0 {
        rows.push(("acknowledged after", percentiles(&outcome.ack_latency_us)));
    }
    rows.push((
        "faults",
        format!(
            "lost {}, undelivered {}, duplicates {}, reordered {}, misrouted {}, corrupt {}, foreign {}, refused {}, unacknowledged {}",
            faults.lost,
            faults.undelivered,
            faults.duplicates,
            faults.reordered,
            faults.misrouted,
            faults.corrupt,
            faults.foreign,
            faults.refused,
            faults.unacknowledged
        ),
    ));
    if let Some(broker) = &outcome.broker {
        rows.push((
            "broker",
            format!(
                "{:.2} µs CPU per message, {:.0} % of a CPU, {} resident, {} of it user",
                broker.cpu_us_per_message,
                broker.cpu_share * 100.0,
                mebibytes(broker.resident_bytes),
                mebibytes(broker.user_bytes)
            ),
        ));
    }
    if let Some(broker) = outcome.broker.filter(|broker| broker.written_bytes_per_message >= 1.0) {
        let bytes = broker.written_bytes_per_message;
        rows.push(("written to disks", format!("{bytes:.0} B per message")));
    }
    if let Some(seconds) = outcome.first_delivery_s {
        rows.push(("first delivery after", format!("{seconds:.3} s")));
    }
    rows.push(("harness", format!("{:.0} % of a CPU", outcome.bench_cpu_share * 100.0)));
    rows.extend(outcome.errors.iter().map(|error| ("error", error.clone())));
    rows
}

fn percentiles(shown: &Percentiles) -> String {
    let Percentiles { mean, p50, p90, p99, p999, max, .. } = shown;
    format!("mean {mean:.0}, p50 {p50:.0}, p90 {p90:.0}, p99 {p99:.0}, p99.9 {p999:.0}, max {max:.0} µs")
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Writes a result as JSON; `-` is standard output.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    if path == Path::new("-") {
        output::line(text);
        return Ok(());
    }
    std::fs::write(path, text + "\n")
}
