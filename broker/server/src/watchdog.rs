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
    /// The same without the time in which the core's thread waited for its CPU.
    longest_running_us: AtomicU64,
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

    /// The longest turn, microseconds, without the time in which the core's thread waited for its CPU.
    pub(crate) fn longest_running_us(&self) -> u64 {
        self.longest_running_us.load(Ordering::Relaxed)
    }

    /// A turn took so long, waiting for the CPU not counted.
    fn add_running(&self, running: Duration) {
        let running_us = u64::try_from(running.as_micros()).unwrap_or(u64::MAX);
        self.longest_running_us.store(self.longest_running_us().max(running_us), Ordering::Relaxed);
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

/// Turns were too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alarm {
    /// How many, since the last alarm.
    pub(crate) turns: u64,
    /// How long the last of them was.
    pub(crate) length: Duration,
    /// How long it waited for the CPU.
    pub(crate) waited: Duration,
}

impl Watchdog {
    /// Takes one turn's length, and asks how much of it the thread `waited` if it is worth that. `Some` when the
    /// alarm is to be raised.
    pub(crate) fn on_turn(
        &mut self,
        histogram: &TurnHistogram,
        (begun, ended): (Mono, Mono),
        waited: impl FnOnce() -> Duration,
    ) -> Option<Alarm> {
        let length = ended.since(begun);
        histogram.add(length);
        if length <= ALARM && length.as_micros() <= u128::from(histogram.longest_running_us()) {
            return None;
        }
        let waited = waited().min(length);
        histogram.add_running(length - waited);
        if length <= ALARM {
            return None;
        }
        self.alarms += 1;
        if ended < self.next_alarm {
            return None;
        }
        self.next_alarm = ended.after(ALARM_INTERVAL);
        Some(Alarm { turns: std::mem::take(&mut self.alarms), length, waited })
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
        let mut turns = |begun, ended| {
            let alarm = watchdog.on_turn(&histogram, (ms(begun), ms(ended)), || Duration::ZERO);
            alarm.map(|alarm| (alarm.turns, alarm.length.as_millis()))
        };
        assert_eq!(turns(0, 10), None);
        assert_eq!(turns(10, 21), Some((1, 11)));
        assert_eq!(turns(21, 40), None);
        assert_eq!(turns(1010, 1030), Some((2, 20)));
    }

    /// What a turn waited for the CPU is not its own; only turns are asked for it that might be the longest, or raise
    /// the alarm.
    #[test]
    fn waiting_is_told_apart() {
        let (histogram, mut watchdog) = (TurnHistogram::default(), Watchdog::default());
        assert_eq!(watchdog.on_turn(&histogram, (ms(0), ms(8)), || ms(5).since(ms(0))), None);
        assert_eq!((histogram.longest_us(), histogram.longest_running_us()), (8000, 3000));
        assert_eq!(
            watchdog.on_turn(&histogram, (ms(8), ms(11)), || unreachable!("no longer than 3 ms")),
            None
        );
        assert_eq!(watchdog.on_turn(&histogram, (ms(11), ms(15)), || Duration::ZERO), None);
        let alarm = watchdog.on_turn(&histogram, (ms(15), ms(45)), || ms(40).since(ms(10)));
        let (length, waited) = (Duration::from_millis(30), Duration::from_millis(30));
        assert_eq!(alarm, Some(Alarm { turns: 1, length, waited }));
        assert_eq!((histogram.longest_us(), histogram.longest_running_us()), (30_000, 4000));
        // An account that says more than the turn took is of the time before it, too.
        let alarm = watchdog.on_turn(&histogram, (ms(2000), ms(2011)), || Duration::from_millis(12));
        assert_eq!(alarm.map(|alarm| alarm.waited), Some(Duration::from_millis(11)));
    }
}
