//! For people: what is in a stopped node's log, and whether all of it is.

use std::fmt;

use crate::format::{RecordHeader, SegmentHeader, segment_table};
use crate::identity::{LogIdentity, Lsn, RangeId, SegmentId};
use crate::recovery::{Damage, Quarantine, Records, RecoveryError, RecoveryOptions, SegmentInput, judge};

/// Result of [`verify`]; prints as a report.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose log.
    pub identity: LogIdentity,
    /// Segments the log consists of.
    pub segments: Vec<SegmentId>,
    /// Other files: spares and what is to be recycled.
    pub segments_free: u64,
    /// Whole records, the log's own included.
    pub records: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Everything up to here was known to be flushed.
    pub durable: Lsn,
    /// The end of the log.
    pub last: Lsn,
    /// Whole records beyond the end.
    pub cut_records: u64,
    /// What is missing.
    pub damage: Vec<Damage>,
    /// What is missing and was accepted by an earlier start.
    pub damage_accepted: Vec<Damage>,
    /// What a quarantining start would go on without.
    pub quarantine: Quarantine,
}

/// Reads every record of a log and says what is missing. Whose log it is says its first segment; none if no
/// file has been begun.
pub fn verify(segments: &[SegmentInput<'_>]) -> Result<Option<Report>, RecoveryError> {
    let Some(identity) = identity(segments) else { return Ok(None) };
    let options = RecoveryOptions { quarantine: true, ..RecoveryOptions::default() };
    let recovery = judge::judge(&identity, segments, &options)?;
    let (mut records, mut bytes) = (0, 0);
    for record in Records::all(&recovery) {
        records += 1;
        bytes += u64::from(record.bytes);
    }
    Ok(Some(Report {
        identity,
        segments: recovery.segments_kept().collect(),
        segments_free: recovery.free.len() as u64,
        records,
        bytes,
        durable: recovery.durable,
        last: recovery.last,
        cut_records: recovery.cut.map_or(0, |cut| cut.records),
        damage: recovery.damage,
        damage_accepted: recovery.damage_accepted,
        quarantine: recovery.quarantine,
    }))
}

/// Writes one line per record, in order, or per record of one range; and one per damaged place at the end.
pub fn dump(
    segments: &[SegmentInput<'_>],
    range: Option<RangeId>,
    out: &mut impl fmt::Write,
) -> Result<(), DumpError> {
    let Some(identity) = identity(segments) else { return Ok(()) };
    let options = RecoveryOptions { quarantine: true, ..RecoveryOptions::default() };
    let recovery = judge::judge(&identity, segments, &options).map_err(DumpError::Log)?;
    let wanted = |header: &RecordHeader| range.is_none_or(|range| header.range == range);
    for record in Records::all(&recovery).filter(|record| wanted(&record.header)) {
        let header = &record.header;
        let what = if header.kind == segment_table::KIND { " segment table" } else { "" };
        writeln!(
            out,
            "{} {}+{} range {:032x} kind {} v{} metadata {} payload {} previous {} durable {}{what}",
            header.lsn,
            record.position.segment,
            record.position.offset(),
            header.range.0,
            header.kind,
            header.version,
            record.metadata.len(),
            record.payload.len(),
            header.range_previous,
            header.durable,
        )?;
    }
    for damage in recovery.damage.iter().chain(&recovery.damage_accepted) {
        writeln!(out, "{damage}")?;
    }
    Ok(())
}

/// Why a dump ended.
#[derive(Debug)]
pub enum DumpError {
    /// Not a log of this format, or files of several.
    Log(RecoveryError),
    /// The output took no more.
    Output(fmt::Error),
}

impl From<fmt::Error> for DumpError {
    fn from(error: fmt::Error) -> DumpError {
        DumpError::Output(error)
    }
}

fn identity(segments: &[SegmentInput<'_>]) -> Option<LogIdentity> {
    segments.iter().find_map(|file| SegmentHeader::decode(file.bytes).ok()).map(|header| header.identity)
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { first, last, offset, offset_end, .. } = self;
        match self.segment {
            Some(segment) if self.missing => {
                write!(f, "lost: LSN {first} to {last}: segment {segment} is missing")
            }
            Some(segment) => {
                write!(
                    f,
                    "lost: LSN {first} to {last}: damage in segment {segment} between bytes {offset} and {offset_end}"
                )
            }
            None => write!(f, "lost: LSN {first} to {last}: the segments before the oldest one are missing"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogIdentity { cluster, node, log } = self.identity;
        writeln!(f, "log {} of node {:016x}, cluster {:032x}", log.0, node.0, cluster.0)?;
        writeln!(f, "segments: {} in use, {} free", self.segments.len(), self.segments_free)?;
        writeln!(f, "records: {} in {} bytes, to LSN {}", self.records, self.bytes, self.last)?;
        writeln!(f, "known to be flushed: to LSN {}", self.durable)?;
        if self.cut_records > 0 {
            writeln!(f, "beyond the end, never acknowledged: {} records", self.cut_records)?;
        }
        for damage in &self.damage {
            writeln!(f, "{damage}")?;
        }
        for damage in &self.damage_accepted {
            writeln!(f, "{damage} (accepted by an earlier start)")?;
        }
        for range in &self.quarantine.touched {
            writeln!(f, "range {:032x} has lost records", range.0)?;
        }
        for range in &self.quarantine.suspected {
            writeln!(f, "range {:032x} may have lost records", range.0)?;
        }
        let verdict = if self.damage.is_empty() { "whole" } else { "DAMAGED" };
        write!(f, "verdict: {verdict}")
    }
}
