//! Whose records were lost: from headers that survived, and from the survivors' `previous`.

use std::collections::BTreeSet;

use crate::format::RecordHeader;
use crate::identity::{Lsn, RangeId};

use super::{Damage, Quarantine, Records, Recovery};

/// Names the ranges that damage touches. `broken` are whole headers of records whose content is not.
pub(super) fn name(recovery: &Recovery<'_>, lost: &[Damage], broken: &[RecordHeader]) -> Quarantine {
    let is_lost = |lsn: Lsn| lost.iter().any(|damage| damage.first <= lsn && lsn <= damage.last);
    let mut touched = BTreeSet::new();
    let mut identified = BTreeSet::new();
    let mut note = |header: &RecordHeader| {
        for lsn in [header.lsn, header.range_previous].into_iter().filter(|lsn| is_lost(*lsn)) {
            identified.insert(lsn);
            // A range that has left loses nothing.
            if !recovery.is_left_out(header.range, lsn) {
                touched.insert(header.range);
            }
        }
    };
    broken.iter().for_each(&mut note);
    Records::all(recovery).for_each(|record| note(&record.header));
    let unidentified = unidentified(lost, &identified);
    let mut suspected = BTreeSet::new();
    if let Some((first, _)) = unidentified.first() {
        suspected = without_record_after(recovery, *first);
    }
    touched.remove(&RangeId::LOG);
    suspected.remove(&RangeId::LOG);
    let suspected = suspected.difference(&touched).copied().collect();
    Quarantine { touched: touched.into_iter().collect(), suspected, unidentified }
}

/// Lost LSNs that nobody claimed, as ascending intervals.
fn unidentified(lost: &[Damage], identified: &BTreeSet<Lsn>) -> Vec<(Lsn, Lsn)> {
    let mut intervals = Vec::new();
    for damage in lost {
        let mut next = damage.first;
        for claimed in identified.range(damage.first..=damage.last) {
            if next < *claimed {
                intervals.push((next, claimed.previous()));
            }
            next = claimed.next();
        }
        if next <= damage.last {
            intervals.push((next, damage.last));
        }
    }
    intervals.sort_unstable();
    intervals
}

/// Ranges whose last surviving record is before `lsn`: the lost one may be theirs. A range with a later
/// record is not among them: its chain of `previous` passes over the lost one or has named it.
fn without_record_after(recovery: &Recovery<'_>, lsn: Lsn) -> BTreeSet<RangeId> {
    let mut before = BTreeSet::new();
    let mut after = BTreeSet::new();
    for record in Records::all(recovery) {
        if recovery.is_left_out(record.header.range, record.header.lsn) {
            continue;
        }
        if record.header.lsn < lsn {
            before.insert(record.header.range)
        } else {
            after.insert(record.header.range)
        };
    }
    before.difference(&after).copied().collect()
}
