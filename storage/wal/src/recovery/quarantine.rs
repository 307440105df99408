//! Whose records were lost: from headers that survived, and from the survivors' `previous`.

use std::collections::{BTreeMap, BTreeSet};

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
    let mut suspected = not_cleared(recovery, &unidentified);
    touched.remove(&RangeId::LOG);
    suspected.remove(&RangeId::LOG);
    let suspected = suspected.difference(&touched).copied().collect();
    let touched = touched.into_iter().collect();
    Quarantine { touched, suspected, unidentified, named_since: Vec::new() }
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

/// Ranges that some lost LSN may belong to: those of which no surviving record reaches from before it to after
/// it by its `previous`. A later record alone clears nobody, because the records between may be reclaimed.
fn not_cleared(recovery: &Recovery<'_>, unidentified: &[(Lsn, Lsn)]) -> BTreeSet<RangeId> {
    let mut cleared: BTreeMap<RangeId, BTreeSet<usize>> = BTreeMap::new();
    for record in Records::all(recovery) {
        let header = &record.header;
        if recovery.is_left_out(header.range, header.lsn) {
            continue;
        }
        let from = unidentified.partition_point(|(first, _)| *first <= header.range_previous);
        let spanned = (from..unidentified.len()).take_while(|at| unidentified[*at].1 < header.lsn);
        cleared.entry(header.range).or_default().extend(spanned);
    }
    cleared.retain(|_, cleared| cleared.len() < unidentified.len());
    cleared.into_keys().collect()
}
