//! The length of a core's turns: a histogram that its core writes and anybody may read, and an alarm for
//! turns in which a client waits noticeably. It reads no clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker_core::time::Mono;

/// A turn longer than this is logged.
pub(crate) const ALARM: Duration = Duration::from_millis(10);

/// At most one alarm in this time; those between are counted in it.
const ALARM_INTERVAL: Duration = Duration::from_secs(1);

/// Bucket `i` counts turns of less than 2^i microseconds that no earlier bucket counts; the last counts
/// all longer ones, from 17 minutes on.
const BUCKETS: usize = 32;

/// How long one core's turns took. Written by that core alone, so without read-modify-write; a view of
/// the core since its start.
#[derive(Debug, Default)]
pub(crate) struct TurnHistogram {
    buckets: [AtomicU64; BUCKETS],
    longest_us: AtomicU64,
    total_us: AtomicU64,
}

impl TurnHistogram {
    fn add(&self, length: Duration) {
        let length_us = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - length_us.leading_zeros()) as usize;
        let count = &self.buckets[bucket.min(BUCKETS - 1)];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.total_us.store(self.total_us.load(Ordering::Relaxed).wrapping_add(length_us), Ordering::Relaxed);
        if length_us > self.longest_us.load(Ordering::Relaxed) {
            self.longest_us.store(length_us, Ordering::Relaxed);
        }
    }

    /// How many turns there were.
    pub(crate) fn turns(&self) -> u64 {
        self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// What all turns took together, microseconds.
    pub(crate) fn total_us(&self) -> u64 {
        self.total_us.load(Ordering::Relaxed)
    }

    /// How many turns took less than so many microseconds and no less than what stands before; None: any time.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let count = |(bucket, count): (usize, &AtomicU64)| {
            ((bucket + 1 < BUCKETS).then(|| 1 << bucket), count.load(Ordering::Relaxed))
        };
        self.buckets.iter().enumerate().map(count)
    }

    /// The longest turn, microseconds.
    pub(crate) fn longest_us(&self) -> u64 {
        self.longest_us.load(Ordering::Relaxed)
    }

    /// A length, microseconds, that at least `share` (0 to 1) of the turns stayed below: the upper edge of
    /// a bucket, so up to twice the true value.
    pub(crate) fn quantile_us(&self, share: f64) -> u64 {
        let turns = self.turns();
        let mut below = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += count.load(Ordering::Relaxed);
            #[expect(clippy::cast_precision_loss, reason = "a statistic")]
            if below as f64 >= share * turns as f64 {
                return (1 << bucket).min(self.longest_us());
            }
        }
        self.longest_us()
    }
}

/// Watches one core's turns. Lives on that core.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    next_alarm: Mono,
    alarms: u64,
}

impl Watchdog {
    /// Takes one turn's length. `Some` when the alarm is to be raised: how many turns were too long since
    /// the last time it was.
    pub(crate) fn on_turn(&mut self, histogram: &TurnHistogram, begun: Mono, ended: Mono) -> Option<u64> {
        let length = ended.since(begun);
        histogram.add(length);
        if length <= ALARM {
            return None;
        }
        self.alarms += 1;
        if ended < self.next_alarm {
            return None;
        }
        self.next_alarm = ended.after(ALARM_INTERVAL);
        Some(std::mem::take(&mut self.alarms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    /// Quantiles are the edges of the buckets, the longest turn is exact.
    #[test]
    fn quantiles_are_bucket_edges() {
        let histogram = TurnHistogram::default();
        assert_eq!(histogram.quantile_us(0.5), 0);
        for length_us in [0, 3, 3, 100, 5000] {
            histogram.add(Duration::from_micros(length_us));
        }
        assert_eq!(histogram.turns(), 5);
        assert_eq!(histogram.quantile_us(0.5), 4);
        assert_eq!(histogram.quantile_us(0.8), 128);
        assert_eq!(histogram.quantile_us(1.0), 5000);
        assert_eq!(histogram.total_us(), 5106);
        histogram.add(Duration::MAX);
        assert_eq!(histogram.turns(), 6);
        let buckets: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(buckets, [(Some(1), 1), (Some(4), 2), (Some(128), 1), (Some(8192), 1), (None, 1)]);
    }

    /// Long turns raise one alarm a second, which counts those that raised none.
    #[test]
    fn alarms_are_rate_limited() {
        let histogram = TurnHistogram::default();
        let mut watchdog = Watchdog::default();
        assert_eq!(watchdog.on_turn(&histogram, ms(0), ms(10)), None);
        assert_eq!(watchdog.on_turn(&histogram, ms(10), ms(21)), Some(1));
        assert_eq!(watchdog.on_turn(&histogram, ms(21), ms(40)), None);
        assert_eq!(watchdog.on_turn(&histogram, ms(1010), ms(1030)), Some(2));
    }
}
