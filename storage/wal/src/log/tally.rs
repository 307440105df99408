//! What a log has done since it was opened, for metrics.

/// Commits are counted by how long they took: up to 2^n µs, the last ones anything longer (over two seconds).
pub const BUCKETS: usize = 22;

/// Counts since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commits that are on the disk.
    pub commits: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes handed out to be written, in whole blocks.
    pub written_bytes: u64,
    /// Bytes of live records that reclaiming copied forward; among those written.
    pub reclaimed_bytes: u64,
    /// Nanoseconds that commits took, from the moment they were handed out.
    pub commit_ns: u64,
    /// Commits by duration: see [`Tally::bucket_us`].
    pub commits_by_duration: [u64; BUCKETS],
}

impl Tally {
    /// Most microseconds of the commits in a bucket; None: no bound.
    #[must_use]
    pub fn bucket_us(bucket: usize) -> Option<u64> {
        (bucket + 1 < BUCKETS).then(|| 1 << bucket)
    }

    pub(super) fn on_commit(&mut self, took_ns: u64, records: u32) {
        self.commits += 1;
        self.records += u64::from(records);
        self.commit_ns += took_ns;
        let us = took_ns.div_ceil(1000).max(1);
        let bucket = us.next_power_of_two().trailing_zeros() as usize;
        self.commits_by_duration[bucket.min(BUCKETS - 1)] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A commit stands in the bucket whose bound it does not exceed.
    #[test]
    fn commits_are_counted_by_duration() {
        let mut tally = Tally::default();
        for (took_ns, bucket) in
            [(0, 0), (1_000, 0), (1_001, 1), (2_000, 1), (140_000, 8), (u64::MAX >> 1, 21)]
        {
            let before = tally.commits_by_duration[bucket];
            tally.commit_ns = 0;
            tally.on_commit(took_ns, 1);
            assert_eq!(tally.commits_by_duration[bucket], before + 1, "{took_ns} ns");
            assert!(Tally::bucket_us(bucket).is_none_or(|us| took_ns <= us * 1000));
        }
        assert_eq!(tally.commits, 6);
    }
}
