//! When each message of an open loop is due: message n at `start + n / rate`, whatever came of the
//! ones before it. Latency is measured from there, so a broker that stalls cannot hide the wait of
//! the messages that should have been sent meanwhile (coordinated omission).

/// A schedule shared by the publishers of one flow on one thread, who take turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    start: u64,
    interval_ns: f64,
}

impl Pace {
    /// `rate` in messages per second, from `start` on.
    pub(crate) fn new(start: u64, rate: f64) -> Pace {
        assert!(rate > 0.0, "a rate is above zero");
        Pace { start, interval_ns: 1e9 / rate }
    }

    /// Messages due by `now`.
    pub(crate) fn due(&self, now: u64) -> u64 {
        match now.checked_sub(self.start) {
            Some(since) => (since as f64 / self.interval_ns) as u64 + 1,
            None => 0,
        }
    }

    /// When message `n` is due.
    pub(crate) fn at(&self, n: u64) -> u64 {
        self.start + (n as f64 * self.interval_ns) as u64
    }
}

/// How many of the first `due` messages fall to publisher `turn` of `turns`, when message n falls to
/// publisher n mod `turns`.
pub(crate) fn share_of(due: u64, turn: u64, turns: u64) -> u64 {
    (due + turns - 1 - turn) / turns
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is due and when it is due agree, and a schedule does not drift over an hour.
    #[test]
    fn due_and_at_agree() {
        let pace = Pace::new(1_000, 20_000.0);
        assert_eq!(pace.due(999), 0);
        assert_eq!(pace.due(1_000), 1);
        assert_eq!(pace.due(1_000 + 49_999), 1);
        assert_eq!(pace.due(1_000 + 50_000), 2);
        for n in [0, 1, 77, 1_000_000, 72_000_000] {
            assert_eq!(pace.at(n), 1_000 + n * 50_000);
            assert_eq!(pace.due(pace.at(n)), n + 1);
        }
    }

    /// A stall does not move the schedule: everything that came due meanwhile is due at once.
    #[test]
    fn a_stall_makes_the_missed_messages_due() {
        let pace = Pace::new(0, 1_000.0);
        assert_eq!(pace.due(500_000_000), 501);
        assert_eq!(pace.at(100), 100_000_000);
    }

    /// Shares of all publishers add up to what is due, whatever is due.
    #[test]
    fn shares_add_up() {
        for turns in [1, 3, 7] {
            for due in 0..40 {
                let total: u64 = (0..turns).map(|turn| share_of(due, turn, turns)).sum();
                assert_eq!(total, due);
            }
        }
        assert_eq!(share_of(4, 0, 3), 2);
        assert_eq!(share_of(4, 1, 3), 1);
    }
}
