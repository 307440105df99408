//! A log as it was when an LSN was its last, from files to which it writes on meanwhile. Every record up to a durable
//! LSN stays where it is for as long as its file is not recycled; so what there is to do is to leave out the rest.

use crate::format::record_header::find_record;
use crate::format::{HeaderError, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::identity::Lsn;
use crate::recovery::{SegmentInput, scan};

/// Which bytes of a segment's file belong to the log that ends with `last`: so many from its begin; 0 if the file is a
/// spare, or was begun later. With zeros behind them, or nothing, the files are what a crash might have left of the log
/// when `last` was durable and nothing after it was written.
pub fn extent(file: &SegmentInput<'_>, last: Lsn) -> Result<usize, HeaderError> {
    let header = match SegmentHeader::decode(file.bytes) {
        Ok(header) if header.segment == file.segment && header.base <= last => header,
        Ok(_) | Err(HeaderError::Blank) => return Ok(0),
        Err(error) => return Err(error),
    };
    let runs = scan::scan(0, file.bytes, &header).runs;
    let Some(run) = runs.iter().rfind(|run| run.first <= last) else { return Ok(SEGMENT_HEADER_BYTES) };
    if run.last <= last {
        return Ok(run.end);
    }
    let mut end = run.offset;
    while let Some((offset, record)) = find_record(header.salt, file.bytes, end)
        && record.lsn <= last
    {
        end = offset + record.framed_bytes();
    }
    Ok(end)
}
