//! How long a commit waits for company: a pure function of the commits before it.
//!
//! A commit costs the disk the same whether it carries one record or hundreds, so with many streams it pays
//! to wait a little; with one stream, waiting is nothing but latency. The past tells which: if commits
//! carried several records, others will come.

/// Weighted means of the past: each new commit counts an eighth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Linger {
    /// Nanoseconds from hand-out to completion.
    commit_ns: u64,
    /// Records per commit, in sixteenths.
    records_16: u64,
}

/// Below two records per commit nobody else is coming.
const RECORDS_16_ALONE: u64 = 2 * 16;

impl Linger {
    pub(crate) fn on_commit(&mut self, took_ns: u64, records: u32) {
        self.commit_ns = mean(self.commit_ns, took_ns);
        self.records_16 = mean(self.records_16, u64::from(records) * 16);
    }

    /// Longest wait of the oldest record. With nothing in flight a quarter of a commit, with one in flight
    /// half of one, so that two in flight are evenly apart; a lone stream does not wait.
    pub(crate) fn wait_ns(&self, in_flight: u32, wait_ns_max: u64) -> u64 {
        if self.records_16 < RECORDS_16_ALONE {
            return 0;
        }
        let share = if in_flight == 0 { self.commit_ns / 4 } else { self.commit_ns / 2 };
        share.min(wait_ns_max)
    }
}

fn mean(before: u64, new: u64) -> u64 {
    if before == 0 { new } else { before - before / 8 + new / 8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lone stream never waits, whatever its commits cost: one record per commit, wait is 0.
    #[test]
    fn a_lone_stream_does_not_wait() {
        let mut linger = Linger::default();
        assert_eq!(linger.wait_ns(0, 500_000), 0);
        for _ in 0..100 {
            linger.on_commit(4_000_000, 1);
            assert_eq!(linger.wait_ns(0, 500_000), 0);
            assert_eq!(linger.wait_ns(1, 500_000), 0);
        }
    }

    /// With company the wait follows the commit's cost up to its bound, and goes away with the company.
    #[test]
    fn the_wait_follows_the_cost_and_is_bounded() {
        let mut linger = Linger::default();
        for _ in 0..100 {
            linger.on_commit(200_000, 50);
        }
        assert_eq!(linger.wait_ns(0, 500_000), 50_000);
        assert_eq!(linger.wait_ns(1, 500_000), 100_000);
        for _ in 0..100 {
            linger.on_commit(10_000_000, 50);
        }
        assert_eq!(linger.wait_ns(1, 500_000), 500_000);
        let commits = (1..).take_while(|_| {
            linger.on_commit(200_000, 1);
            linger.wait_ns(0, 500_000) > 0
        });
        assert!(commits.count() < 60);
    }
}
