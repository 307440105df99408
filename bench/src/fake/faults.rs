//! Failing on purpose, so that the harness's detectors can be seen to bite.

/// What to do with one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// As it should be.
    Deliver,
    /// Never.
    Drop,
    /// Twice.
    Duplicate,
    /// After the next one to the same subscriber.
    Swap,
    /// When the subscriber pings.
    Hold,
}

/// Counts deliveries and picks those that go wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Faults {
    drop_every: u64,
    dup_every: u64,
    swap_every: u64,
    hold_after: u64,
    deliveries: u64,
}

impl Faults {
    /// Every n-th delivery each, and all of them after so many; 0 is never.
    pub(super) fn new(drop_every: u64, dup_every: u64, swap_every: u64, hold_after: u64) -> Faults {
        Faults { drop_every, dup_every, swap_every, hold_after, deliveries: 0 }
    }

    /// Whether anything ever goes wrong.
    pub(super) fn is_none(&self) -> bool {
        self.drop_every == 0 && self.dup_every == 0 && self.swap_every == 0 && self.hold_after == 0
    }

    /// The fate of the next delivery.
    pub(super) fn next(&mut self) -> Fate {
        self.deliveries += 1;
        let falls = |every: u64| every > 0 && self.deliveries.is_multiple_of(every);
        if falls(self.drop_every) {
            Fate::Drop
        } else if falls(self.dup_every) {
            Fate::Duplicate
        } else if falls(self.swap_every) {
            Fate::Swap
        } else if self.hold_after > 0 && self.deliveries > self.hold_after {
            Fate::Hold
        } else {
            Fate::Deliver
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exactly every n-th delivery meets its fate.
    #[test]
    fn every_nth_goes_wrong() {
        let mut faults = Faults::new(3, 0, 2, 0);
        let fates: Vec<Fate> = (0..6).map(|_| faults.next()).collect();
        let expected = [Fate::Deliver, Fate::Swap, Fate::Drop, Fate::Swap, Fate::Deliver, Fate::Drop];
        assert_eq!(fates, expected);
        assert!(Faults::new(0, 0, 0, 0).is_none());
        let mut faults = Faults::new(0, 0, 0, 1);
        assert_eq!([faults.next(), faults.next(), faults.next()], [Fate::Deliver, Fate::Hold, Fate::Hold]);
    }
}
