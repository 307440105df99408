//! The judgement: D, the end of the log, what should be there below D, and what is not.

use crate::format::segment_table::{self, Entry, SegmentTable};
use crate::format::{HeaderError, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::identity::{LogIdentity, Lsn, SegmentId};

use super::scan::{Run, Scan, scan};
use super::{Cut, Damage, Quarantine, Recovery, RecoveryError, RecoveryOptions, SegmentInput, quarantine};

/// One segment that has been begun.
struct Candidate {
    /// Index among the inputs.
    input: usize,
    header: SegmentHeader,
    /// A later segment begins here: what this one has from there on was cut once.
    limit: Lsn,
    /// None where it was not read.
    scan: Option<Scan>,
}

/// LSNs that should be there, and in which file.
struct Expected {
    segment: Option<SegmentId>,
    input: Option<usize>,
    first: Lsn,
    last: Lsn,
    damage_accepted: bool,
}

pub(crate) fn judge<'a>(
    identity: &LogIdentity,
    segments: &[SegmentInput<'a>],
    options: &RecoveryOptions,
) -> Result<Recovery<'a>, RecoveryError> {
    let mut candidates = headers(identity, segments)?;
    read(&mut candidates, segments, options);
    let durable = candidates.iter().filter_map(|candidate| candidate.scan.as_ref());
    let durable = durable.map(|scan| scan.durable).max().unwrap_or(Lsn::NONE);
    let runs = runs(&candidates);
    let last = end(&runs, durable);
    let table = newest_table(&candidates, segments, last);
    let (expected, kept) = expectations(&candidates, segments, table.as_ref(), durable, last);
    let (mut damage, mut damage_accepted) = (Vec::new(), Vec::new());
    for expected in &expected {
        let skipped = expected.input.is_some_and(|input| {
            candidates.iter().any(|candidate| candidate.input == input && candidate.scan.is_none())
        });
        if !skipped {
            let found = if expected.damage_accepted { &mut damage_accepted } else { &mut damage };
            gaps(expected, &runs, segments, found);
        }
    }
    let cut = cut(&runs, &candidates, last);
    let kept_inputs = |run: &&Run| {
        kept.iter().any(|entry| entry.segment == segments[run.input].segment && run.first <= entry.last)
    };
    let runs: Vec<Run> = runs.iter().filter(kept_inputs).copied().filter(|run| run.first <= last).collect();
    let lost: Vec<Damage> = damage.iter().chain(&damage_accepted).copied().collect();
    let mut kept = kept;
    for entry in &mut kept {
        entry.damaged |= damage.iter().any(|damage| damage.segment == Some(entry.segment));
    }
    let mut recovery = Recovery {
        durable,
        last,
        cut,
        damage,
        damage_accepted,
        quarantine: Quarantine::default(),
        salts: salts(&candidates, segments.len()),
        next_sequence: candidates.iter().map(|candidate| candidate.header.sequence + 1).max().unwrap_or(0),
        next_segment: next_segment(&candidates, segments),
        free: free(segments, &kept),
        segments: segments.to_vec(),
        runs: clip(runs, last),
        kept,
        forgotten: table.map_or_else(Vec::new, |table| table.content.forgotten),
    };
    if !recovery.damage.is_empty() {
        let broken = candidates.iter().filter_map(|candidate| candidate.scan.as_ref());
        let broken: Vec<RecordHeader> = broken.flat_map(|scan| scan.broken.iter().copied()).collect();
        recovery.quarantine = quarantine::name(&recovery, &lost, &broken);
    }
    Ok(recovery)
}

/// Segments with a valid header under their own name, in the order in which they were begun.
fn headers(identity: &LogIdentity, segments: &[SegmentInput<'_>]) -> Result<Vec<Candidate>, RecoveryError> {
    let mut candidates = Vec::new();
    for (input, file) in segments.iter().enumerate() {
        let segment = file.segment;
        match SegmentHeader::decode(file.bytes) {
            Err(HeaderError::Blank) => {}
            Err(HeaderError::Version(version)) => return Err(RecoveryError::Version { segment, version }),
            Ok(header) if header.identity != *identity => {
                return Err(RecoveryError::Foreign { segment, found: header.identity });
            }
            Ok(header) if header.segment != segment => {}
            Ok(header) => candidates.push(Candidate { input, header, limit: Lsn(u64::MAX), scan: None }),
        }
    }
    candidates.sort_by_key(|candidate| candidate.header.sequence);
    let mut limit = Lsn(u64::MAX);
    for candidate in candidates.iter_mut().rev() {
        candidate.limit = limit;
        limit = limit.min(candidate.header.base);
    }
    Ok(candidates)
}

/// Scans from the newest back, until everything further back is below `scan_from` and a table was seen.
fn read(candidates: &mut [Candidate], segments: &[SegmentInput<'_>], options: &RecoveryOptions) {
    let mut table_seen = false;
    for candidate in candidates.iter_mut().rev() {
        if table_seen && candidate.limit <= options.scan_from {
            continue;
        }
        let scan = scan(candidate.input, segments[candidate.input].bytes, &candidate.header);
        table_seen |= scan.tables.iter().any(|(lsn, _)| *lsn < candidate.limit);
        candidate.scan = Some(scan);
    }
}

/// All runs below their segments' limits: in ascending order, because the limits are.
fn runs(candidates: &[Candidate]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for candidate in candidates {
        let Some(scan) = &candidate.scan else { continue };
        for run in scan.runs.iter().filter(|run| run.first < candidate.limit) {
            runs.push(Run { last: run.last.min(candidate.limit.previous()), ..*run });
        }
    }
    runs
}

/// The end of the log: from D on as far as no LSN is missing.
fn end(runs: &[Run], durable: Lsn) -> Lsn {
    let mut last = durable;
    for run in runs {
        if run.first <= last.next() && run.last > last {
            last = run.last;
        }
    }
    last
}

/// The newest table that counts, and the sequence of its own segment.
struct Table {
    sequence: u64,
    content: SegmentTable,
}

fn newest_table(candidates: &[Candidate], segments: &[SegmentInput<'_>], last: Lsn) -> Option<Table> {
    let tables = candidates.iter().filter_map(|candidate| {
        let limit = candidate.limit.min(last.next());
        let scan = candidate.scan.as_ref()?;
        let (lsn, offset) = *scan.tables.iter().rfind(|(lsn, _)| *lsn < limit)?;
        Some((lsn, offset, candidate))
    });
    let (_, offset, candidate) = tables.max_by_key(|(lsn, _, _)| *lsn)?;
    let rest = &segments[candidate.input].bytes[offset..];
    let header = RecordHeader::decode(candidate.header.salt, rest).expect("the scan found it");
    let content = segment_table::decode(header.content(rest)).expect("the scan has decoded it");
    Some(Table { sequence: candidate.header.sequence, content })
}

/// What should be there up to D, and the segments the log consists of.
fn expectations(
    candidates: &[Candidate],
    segments: &[SegmentInput<'_>],
    table: Option<&Table>,
    durable: Lsn,
    last: Lsn,
) -> (Vec<Expected>, Vec<Entry>) {
    let (mut expected, mut kept) = (Vec::new(), Vec::new());
    for entry in table.map_or(&[][..], |table| &table.content.entries) {
        let candidate = candidates.iter().find(|candidate| {
            candidate.header.segment == entry.segment && candidate.header.sequence == entry.sequence
        });
        if candidate.is_some() {
            kept.push(*entry);
        }
        expected.push(Expected {
            segment: Some(entry.segment),
            input: candidate.map(|candidate| candidate.input),
            first: entry.base,
            last: entry.last.min(durable),
            damage_accepted: entry.damaged,
        });
    }
    let since = table.map_or(0, |table| table.sequence);
    let mut next = table.is_none().then_some(Lsn(1));
    for candidate in candidates.iter().filter(|candidate| candidate.header.sequence >= since) {
        let base = candidate.header.base;
        if base >= candidate.limit || base > last {
            continue;
        }
        if let Some(next) = next.filter(|next| *next < base) {
            let before = base.previous().min(durable);
            let (segment, input) = (None, None);
            expected.push(Expected { segment, input, first: next, last: before, damage_accepted: false });
        }
        next = None;
        let segment = segments[candidate.input].segment;
        let end = candidate.limit.previous().min(last);
        expected.push(Expected {
            segment: Some(segment),
            input: Some(candidate.input),
            first: base,
            last: end.min(durable),
            damage_accepted: false,
        });
        let sequence = candidate.header.sequence;
        kept.push(Entry { segment, sequence, base, last: end, damaged: false });
    }
    (expected, kept)
}

/// The parts of `expected` that no run covers.
fn gaps(expected: &Expected, runs: &[Run], segments: &[SegmentInput<'_>], found: &mut Vec<Damage>) {
    let mut next = expected.first;
    let mut offset = SEGMENT_HEADER_BYTES;
    let mine = runs.iter().filter(|run| expected.input == Some(run.input));
    for run in mine {
        if next > expected.last {
            return;
        }
        if run.last < next {
            continue;
        }
        if run.first > next {
            let last = run.first.previous().min(expected.last);
            found.push(damage(expected, next, last, offset, run.offset));
        }
        next = next.max(run.last.next());
        offset = run.end;
    }
    if next <= expected.last {
        let end = expected.input.map_or(0, |input| segments[input].bytes.len());
        found.push(damage(expected, next, expected.last, offset.min(end), end));
    }
}

fn damage(expected: &Expected, first: Lsn, last: Lsn, offset: usize, offset_end: usize) -> Damage {
    Damage {
        segment: expected.segment,
        missing: expected.input.is_none(),
        offset: offset as u64,
        offset_end: offset_end as u64,
        first,
        last,
    }
}

/// Valid records beyond the end that no recovery has hidden yet.
fn cut(runs: &[Run], candidates: &[Candidate], last: Lsn) -> Option<Cut> {
    let beyond = runs.iter().filter(|run| run.last > last);
    let records: u64 = beyond.clone().map(|run| run.last.0 - last.0.max(run.first.0 - 1)).sum();
    let greatest = beyond.map(|run| run.last).max();
    let broken = candidates.iter().filter_map(|candidate| {
        let scan = candidate.scan.as_ref()?;
        scan.broken.iter().map(|header| header.lsn).find(|lsn| *lsn > last && *lsn < candidate.limit)
    });
    if greatest.is_none() && broken.count() == 0 {
        return None;
    }
    Some(Cut { at: last.next(), records, last: greatest.unwrap_or(last) })
}

/// Ends the last run where the log ends.
fn clip(mut runs: Vec<Run>, last: Lsn) -> Vec<Run> {
    for run in &mut runs {
        run.last = run.last.min(last);
    }
    runs
}

fn salts(candidates: &[Candidate], inputs: usize) -> Vec<u64> {
    let mut salts = vec![0; inputs];
    for candidate in candidates {
        salts[candidate.input] = candidate.header.salt;
    }
    salts
}

/// Every other file: spares, cut segments, reclaimed ones that were not recycled yet.
fn free(segments: &[SegmentInput<'_>], kept: &[Entry]) -> Vec<(SegmentId, u64)> {
    let others = segments.iter().filter(|file| kept.iter().all(|entry| entry.segment != file.segment));
    others.map(|file| (file.segment, file.bytes.len() as u64)).collect()
}

/// A name no file has or had: every segment says which name was next when it was begun, so the names of
/// files that are gone are below that of their successors.
fn next_segment(candidates: &[Candidate], segments: &[SegmentInput<'_>]) -> SegmentId {
    let begun = candidates.iter().map(|candidate| candidate.header.next_segment.0);
    let names = segments.iter().map(|file| file.segment.0 + 1);
    SegmentId(names.chain(begun).max().unwrap_or(1))
}
