//! The records of a recovered log, in order.

use crate::format::RecordHeader;
use crate::format::record_header::find_record;
use crate::format::segment_table;
use crate::identity::{Lsn, Position};

use super::Recovery;

/// One recovered record, in place.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it says about itself: LSN, range, kind, version.
    pub header: RecordHeader,
    /// Where it is.
    pub position: Position,
    /// What it takes there, for [`Log::live`](crate::Log::live).
    pub bytes: u32,
    /// First part of the content.
    pub metadata: &'a [u8],
    /// Second part.
    pub payload: &'a [u8],
}

/// Iterates over the valid records up to the end of the log.
pub struct Records<'a, 'r> {
    recovery: &'r Recovery<'a>,
    all: bool,
    run: usize,
    /// Where in the run to go on; 0 at its begin.
    offset: usize,
}

impl<'a, 'r> Records<'a, 'r> {
    pub(super) fn new(recovery: &'r Recovery<'a>) -> Records<'a, 'r> {
        Records { recovery, all: false, run: 0, offset: 0 }
    }

    /// With the log's own records and those that are left out.
    pub(crate) fn all(recovery: &'r Recovery<'a>) -> Records<'a, 'r> {
        Records { all: true, ..Records::new(recovery) }
    }

    /// All with an LSN above.
    pub(crate) fn since(
        recovery: &'r Recovery<'a>,
        lsn: Lsn,
    ) -> impl Iterator<Item = Record<'a>> + use<'a, 'r> {
        let mut records = Records::all(recovery);
        records.run = recovery.runs.partition_point(|run| run.last <= lsn);
        records.skip_while(move |record| record.header.lsn <= lsn)
    }

    fn next_of_all(&mut self) -> Option<Record<'a>> {
        let run = self.recovery.runs.get(self.run)?;
        let input = &self.recovery.segments[run.input];
        let from = self.offset.max(run.offset);
        // Runs hold whole records only, so between them there is nothing but padding.
        let (offset, header) =
            find_record(self.recovery.salts[run.input], input.bytes, from).expect("the scan found it");
        self.offset = offset + header.framed_bytes();
        if header.lsn == run.last {
            self.run += 1;
            self.offset = 0;
        }
        let (metadata, payload) =
            header.content(&input.bytes[offset..]).split_at(header.metadata_length as usize);
        Some(Record {
            header,
            position: Position::new(input.segment, offset),
            bytes: u32::try_from(header.framed_bytes()).expect("records are below 4 GiB"),
            metadata,
            payload,
        })
    }
}

impl<'a> Iterator for Records<'a, '_> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            let record = self.next_of_all()?;
            debug_assert!(record.header.lsn > Lsn::NONE, "LSNs count from 1");
            let header = &record.header;
            let own = header.kind == segment_table::KIND;
            if self.all || !(own || self.recovery.is_left_out(header.range, header.lsn)) {
                return Some(record);
            }
        }
    }
}
