//! Reading one segment: which records are whole, wherever they are.

use crate::format::record_header::{RecordHeader, find_record};
use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_table};
use crate::identity::Lsn;

/// Whole records with consecutive LSNs in one segment; there may be padding between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the segment among the inputs.
    pub(crate) input: usize,
    /// First record.
    pub(crate) first: Lsn,
    /// Last record.
    pub(crate) last: Lsn,
    /// Where the first begins.
    pub(crate) offset: usize,
    /// Where the last ends.
    pub(crate) end: usize,
}

/// What was found in one segment.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) runs: Vec<Run>,
    /// The greatest durable LSN in any whole header.
    pub(crate) durable: Lsn,
    /// Whole segment tables: LSN and offset.
    pub(crate) tables: Vec<(Lsn, usize)>,
    /// Headers that are whole and whose content is not.
    pub(crate) broken: Vec<RecordHeader>,
}

/// Walks the segment record by record, and where there is none, 16 bytes by 16 bytes until there is.
/// LSNs of one segment ascend; what does not is no record of this log.
pub(crate) fn scan(input: usize, bytes: &[u8], header: &SegmentHeader) -> Scan {
    let mut scan = Scan::default();
    let mut from = SEGMENT_HEADER_BYTES;
    let mut newest = header.base.previous();
    while let Some((offset, record)) = find_record(header.salt, bytes, from) {
        let rest = &bytes[offset..];
        let end = offset + record.framed_bytes();
        if record.lsn <= newest {
            from = offset + crate::format::RECORD_ALIGN_BYTES;
            continue;
        }
        from = end;
        // Its own check covers what a header says, so this counts even where the content is lost.
        scan.durable = scan.durable.max(record.durable);
        if !record.content_is_whole(record.content(rest)) {
            // The header is right about the length, so what lies in the content is not searched.
            scan.broken.push(record);
            continue;
        }
        newest = record.lsn;
        if record.kind == segment_table::KIND && segment_table::decode(record.content(rest)).is_some() {
            scan.tables.push((record.lsn, offset));
        }
        match scan.runs.last_mut() {
            Some(run) if run.last.next() == record.lsn => {
                run.last = record.lsn;
                run.end = end;
            }
            _ => scan.runs.push(Run { input, first: record.lsn, last: record.lsn, offset, end }),
        }
    }
    scan
}
