//! Hot path. Loss, duplicates and reordering, told from sequence numbers.
//!
//! [`Tracker`] follows one publisher at one subscriber that must see every message; [`GroupTracker`]
//! follows the publishers of a shared subscription, whose members see a part each.
//!
//! A publisher may spread its messages over several topics in turn, and MQTT promises order within
//! a topic alone: a message is out of order when a later one *of its topic* came before it.

/// Runs of missing sequence numbers kept per tracker. Beyond it the oldest is given up as lost.
const GAPS_MAX: usize = 4096;

/// What the detectors found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Findings {
    /// Sent and never seen, though later ones of the same publisher were.
    pub(crate) lost: u64,
    /// Sent after the last one that was seen: lost, or still under way when the run was cut off.
    pub(crate) tail: u64,
    /// Seen again.
    pub(crate) duplicates: u64,
    /// Seen after a later one of the same topic.
    pub(crate) reordered: u64,
}

impl Findings {
    /// Adds another tracker's findings.
    pub(crate) fn add(&mut self, other: Findings) {
        self.lost += other.lost;
        self.tail += other.tail;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
    }
}

/// One publisher seen by one subscriber.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// Everything below was seen or lies in `gaps`.
    next: u32,
    /// Runs `[from, to)` below `next` that were not seen, ascending.
    gaps: Vec<(u32, u32)>,
    given_up: u64,
    duplicates: u64,
    reordered: u64,
}

impl Tracker {
    /// Takes one message and says by how many sequence numbers the front moved: 1 in order, more
    /// when some were skipped, 0 when it was late or known. `topics`: how many topics the publisher
    /// takes in turn.
    pub(crate) fn on_message(&mut self, sequence: u32, topics: u32) -> u32 {
        if sequence == self.next {
            self.next += 1;
            return 1;
        }
        if sequence > self.next {
            let advance = sequence - self.next + 1;
            if self.gaps.len() == GAPS_MAX {
                let (from, to) = self.gaps.remove(0);
                self.given_up += u64::from(to - from);
            }
            self.gaps.push((self.next, sequence));
            self.next = sequence + 1;
            return advance;
        }
        self.on_late(sequence, topics);
        0
    }

    fn on_late(&mut self, sequence: u32, topics: u32) {
        let Some(index) = self.gap_of(sequence) else {
            self.duplicates += 1;
            return;
        };
        let (from, to) = self.gaps[index];
        let parts = [(from, sequence), (sequence + 1, to)];
        self.gaps.splice(index..=index, parts.into_iter().filter(|(from, to)| from < to));
        let mut later = sequence.checked_add(topics);
        while let Some(candidate) = later.filter(|candidate| *candidate < self.next) {
            if self.gap_of(candidate).is_none() {
                self.reordered += 1;
                return;
            }
            later = candidate.checked_add(topics);
        }
    }

    fn gap_of(&self, sequence: u32) -> Option<usize> {
        let index = self.gaps.partition_point(|(_, to)| *to <= sequence);
        self.gaps.get(index).filter(|(from, _)| *from <= sequence).map(|_| index)
    }

    /// What was found, when the publisher has sent `sent` messages and no more will come.
    pub(crate) fn findings(&self, sent: u64) -> Findings {
        let missing: u64 = self.gaps.iter().map(|(from, to)| u64::from(to - from)).sum();
        Findings {
            lost: missing + self.given_up,
            tail: sent.saturating_sub(u64::from(self.next)),
            duplicates: self.duplicates,
            reordered: self.reordered,
        }
    }
}

/// The publishers of a shared subscription, as one thread's members see them.
#[derive(Debug, Default)]
pub(crate) struct GroupTracker {
    /// Per publisher, one bit per sequence number seen.
    seen: Vec<Vec<u64>>,
    duplicates: u64,
    reordered: u64,
}

/// What one member of a shared subscription saw last, for order is promised to each member alone.
#[derive(Debug, Default)]
pub(crate) struct MemberOrder {
    /// Per publisher, the sequence number after the highest seen.
    after: Vec<u32>,
}

impl GroupTracker {
    /// Follows `publishers` publishers.
    pub(crate) fn new(publishers: u32) -> GroupTracker {
        GroupTracker { seen: vec![Vec::new(); publishers as usize], ..GroupTracker::default() }
    }

    /// Takes one message of one member and says whether it is a new one.
    pub(crate) fn on_message(&mut self, member: &mut MemberOrder, publisher: u32, sequence: u32) -> bool {
        let publisher = publisher as usize;
        let bits = &mut self.seen[publisher];
        let (word, bit) = (sequence as usize / 64, 1u64 << (sequence % 64));
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        if bits[word] & bit != 0 {
            self.duplicates += 1;
            return false;
        }
        bits[word] |= bit;
        if member.after.is_empty() {
            member.after = vec![0; self.seen.len()];
        }
        let after = &mut member.after[publisher];
        if sequence < *after {
            self.reordered += 1;
        }
        *after = (*after).max(sequence + 1);
        true
    }

    /// Joins what the members of another thread saw.
    pub(crate) fn merge(&mut self, other: &GroupTracker) {
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        for (mine, theirs) in self.seen.iter_mut().zip(&other.seen) {
            if mine.len() < theirs.len() {
                mine.resize(theirs.len(), 0);
            }
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                self.duplicates += u64::from((*mine & theirs).count_ones());
                *mine |= theirs;
            }
        }
    }

    /// What was found, given what each publisher has sent.
    pub(crate) fn findings(&self, sent: impl Iterator<Item = u64>) -> Findings {
        let mut findings =
            Findings { duplicates: self.duplicates, reordered: self.reordered, ..Findings::default() };
        for (bits, sent) in self.seen.iter().zip(sent) {
            let seen = bits.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
            let last = bits.last().map_or(0, |word| 64 - u64::from(word.leading_zeros()));
            let end = (bits.len() as u64).saturating_sub(1) * 64 + last;
            findings.lost += end.saturating_sub(seen);
            findings.tail += sent.saturating_sub(end);
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(sequences: &[u32], topics: u32, sent: u64) -> Findings {
        let mut tracker = Tracker::default();
        let advance: u64 = sequences.iter().map(|n| u64::from(tracker.on_message(*n, topics))).sum();
        assert_eq!(advance, u64::from(tracker.next), "the front moves by what it says");
        tracker.findings(sent)
    }

    /// In order and complete: nothing found.
    #[test]
    fn nothing_is_found_in_a_clean_run() {
        assert_eq!(feed(&[0, 1, 2, 3], 1, 4), Findings::default());
    }

    /// Holes in the middle are loss, what is missing at the end is told apart.
    #[test]
    fn holes_and_tail_are_found() {
        assert_eq!(feed(&[0, 2, 5], 1, 8), Findings { lost: 3, tail: 2, ..Findings::default() });
        assert_eq!(feed(&[], 1, 3), Findings { tail: 3, ..Findings::default() });
    }

    /// A second copy is a duplicate, whether it comes at once or much later.
    #[test]
    fn a_second_copy_is_a_duplicate() {
        assert_eq!(feed(&[0, 0, 1, 2, 1], 1, 3), Findings { duplicates: 2, ..Findings::default() });
    }

    /// A late message is reordering and no loss, from any place of its gap, and its second copy is
    /// a duplicate.
    #[test]
    fn a_late_message_is_reordered() {
        assert_eq!(feed(&[1, 0, 2], 1, 3), Findings { reordered: 1, ..Findings::default() });
        assert_eq!(feed(&[0, 5, 3, 1, 4, 2], 1, 6), Findings { reordered: 4, ..Findings::default() });
        assert_eq!(feed(&[1, 0, 0], 1, 2), Findings { reordered: 1, duplicates: 1, ..Findings::default() });
    }

    /// Order is promised per topic: with three topics in turn, 1 after 2 is fine and 0 after 3 is not.
    #[test]
    fn order_is_per_topic() {
        assert_eq!(feed(&[0, 2, 1, 3], 3, 4), Findings::default());
        assert_eq!(feed(&[1, 2, 3, 0], 3, 4), Findings { reordered: 1, ..Findings::default() });
        assert_eq!(feed(&[3, 2, 1, 0], u32::MAX, 4), Findings::default());
    }

    /// More gaps than are kept: given up as lost, never forgotten.
    #[test]
    fn gaps_are_bounded() {
        let sequences: Vec<u32> = (0..2 * GAPS_MAX as u32 + 100).map(|n| 2 * n + 1).collect();
        let sent = u64::from(*sequences.last().unwrap()) + 1;
        assert_eq!(feed(&sequences, 1, sent).lost, sent / 2);
    }

    /// A group: one copy at each of two members is a duplicate, order counts per member only, and a
    /// message no member saw is lost.
    #[test]
    fn a_group_is_judged_as_a_whole() {
        let mut group = GroupTracker::new(2);
        let (mut one, mut two) = (MemberOrder::default(), MemberOrder::default());
        assert!(group.on_message(&mut one, 0, 1));
        assert!(group.on_message(&mut two, 0, 0));
        assert!(!group.on_message(&mut two, 0, 1));
        assert!(group.on_message(&mut one, 1, 70));
        assert!(group.on_message(&mut one, 1, 69));
        let found = group.findings([3, 71].into_iter());
        assert_eq!(found, Findings { lost: 69, tail: 1, duplicates: 1, reordered: 1 });
    }

    /// Members on two threads: the union decides about loss, the overlap is duplicates.
    #[test]
    fn groups_of_two_threads_merge() {
        let mut here = GroupTracker::new(1);
        let mut there = GroupTracker::new(1);
        let mut order = MemberOrder::default();
        here.on_message(&mut order, 0, 0);
        there.on_message(&mut MemberOrder::default(), 0, 0);
        there.on_message(&mut MemberOrder::default(), 0, 100);
        here.merge(&there);
        let found = here.findings([105].into_iter());
        assert_eq!(found, Findings { lost: 99, tail: 4, duplicates: 1, reordered: 0 });
    }
}
