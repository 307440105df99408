//! Hot path for topics that are not cached. What was asked for once: fingerprints, in a table that forgets.
//!
//! ```text
//! set: four fingerprints of 16 bits, 0: none       a topic's hash says which set and which fingerprint
//! ```
//!
//! A set that is full loses any of its fingerprints, not always the oldest and not always the same: topics that
//! come round in a cycle longer than the table would else displace each other for ever, and none be seen again.

use crate::random::Random;

/// Fingerprints in a set.
const WAYS: usize = 4;

/// Sets: 512 KiB a core for as many topics as the match cache holds by default, and no more for a larger one.
const SETS_MAX: usize = 1 << 16;

/// See the module's documentation.
pub(super) struct Seen {
    sets: Box<[[u16; WAYS]]>,
    /// Whom a full set loses.
    random: Random,
}

impl Seen {
    /// For a cache of so many topics.
    pub(super) fn new(seed: u64, topics_max: usize) -> Seen {
        let sets = (topics_max / WAYS).next_power_of_two().min(SETS_MAX);
        Seen { sets: vec![[0; WAYS]; sets].into_boxed_slice(), random: Random::new(seed) }
    }

    /// Whether a topic of this hash was asked for before; from now on it was. Wrong once in 16 000 times: a topic is
    /// cached on its first sight then.
    pub(super) fn again(&mut self, hash: u64) -> bool {
        let fingerprint = ((hash >> 48) as u16).max(1);
        let set = &mut self.sets[hash as usize % self.sets.len()];
        if set.contains(&fingerprint) {
            return true;
        }
        let free = set.iter().position(|kept| *kept == 0);
        let way = free.unwrap_or_else(|| self.random.below(WAYS));
        set[way] = fingerprint;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes as different as topics'.
    fn hashes(count: usize) -> Vec<u64> {
        let mut random = Random::new(7);
        (0..count).map(|_| random.next()).collect()
    }

    /// A topic is new once, and known after that.
    #[test]
    fn the_second_sight_is_one() {
        let mut seen = Seen::new(1, 1000);
        let hashes = hashes(100);
        assert!(hashes.iter().all(|hash| !seen.again(*hash)));
        assert!(hashes.iter().all(|hash| seen.again(*hash)));
    }

    /// As many topics as are cached, coming round in a cycle, are seen again within a few rounds. Found by
    /// `sat-wildcard`: of 100 000 through a table of 65 536 single places four fifths displaced each other for ever.
    #[test]
    fn topics_in_a_cycle_displaced_each_other_for_ever() {
        for topics in [50_000, 100_000, 200_000] {
            let mut seen = Seen::new(1, 200_000);
            let mut left = hashes(topics);
            for _ in 0..12 {
                left.retain(|hash| !seen.again(*hash));
            }
            assert!(left.len() < topics / 100, "{} of {topics}", left.len());
        }
    }
}
