//! Whether counted drops can explain missing deliveries, when each missing one may only have been counted
//! under some reasons: Hall's condition, over the few different sets of reasons that come up.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::counters::{Counters, DropReason};

use super::expected::Reasons;

/// A set of reasons under which more deliveries are missing than were counted: the set, how many are
/// missing and how many were counted.
pub(super) fn uncovered(
    missing: &BTreeMap<Reasons, u64>,
    counters: &Counters,
) -> Option<(Reasons, u64, u64)> {
    let mut unions: BTreeSet<Reasons> = BTreeSet::new();
    for reasons in missing.keys() {
        let joined: Vec<Reasons> = unions.iter().map(|union| union | reasons).collect();
        unions.extend(joined);
        unions.insert(*reasons);
    }
    unions.into_iter().find_map(|union| {
        let within = |reasons: &Reasons| reasons & !union == 0;
        let lost: u64 = missing.iter().filter(|(reasons, _)| within(reasons)).map(|(_, copies)| copies).sum();
        let counted = counted(union, counters);
        (lost > counted).then_some((union, lost, counted))
    })
}

/// How many were counted under a set of reasons.
pub(super) fn counted(reasons: Reasons, counters: &Counters) -> u64 {
    let within = DropReason::ALL.iter().filter(|reason| reasons & (1 << **reason as u32) != 0);
    within.map(|reason| counters.dropped(*reason)).sum()
}

/// The names of a set of reasons.
pub(super) fn names(reasons: Reasons) -> String {
    let names: Vec<&str> = DropReason::ALL
        .iter()
        .filter(|reason| reasons & (1 << **reason as u32) != 0)
        .map(|reason| reason.name())
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two losses that only one reason explains are not covered by drops of another reason, even when the
    /// sum over all reasons would do.
    #[test]
    fn each_set_needs_its_own_cover() {
        let (full, slow) = (1 << DropReason::QueueFull as u32, 1 << DropReason::SlowReader as u32);
        let missing = BTreeMap::from([(full, 2), (full | slow, 1)]);
        let mut counters = Counters::default();
        counters.drop_messages(DropReason::QueueFull, 1);
        counters.drop_messages(DropReason::SlowReader, 5);
        assert_eq!(uncovered(&missing, &counters), Some((full, 2, 1)));
        counters.drop_messages(DropReason::QueueFull, 1);
        assert_eq!(uncovered(&missing, &counters), None);
        assert_eq!(names(full | slow), "queue_full, slow_reader");
    }
}
