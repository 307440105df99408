//! The one place that reads clocks and waits: nanoseconds since the process began to measure.
//!
//! Every thread shares the same zero, so a stamp written by one is read by another.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static ZERO: OnceLock<Instant> = OnceLock::new();

/// Nanoseconds since the first call in this process.
#[expect(clippy::disallowed_methods, reason = "the harness measures real time, and reads it here alone")]
pub(crate) fn now() -> u64 {
    let zero = *ZERO.get_or_init(Instant::now);
    u64::try_from(zero.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Blocks the orchestrating thread, which carries no traffic.
#[expect(clippy::disallowed_methods, reason = "only the thread that waits for the workers sleeps")]
pub(crate) fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// Twelve bits that tell one run's messages from another's.
#[expect(clippy::disallowed_methods, reason = "the harness measures real time, and reads it here alone")]
pub(crate) fn run_tag() -> u16 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let mixed = (nanos as u64 >> 10).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 52) as u16
}

/// Whole and broken seconds of a duration in nanoseconds.
pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
