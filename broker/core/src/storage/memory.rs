//! A disk for logs that need not outlive the process: it has room, never fails, and is done at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use wal::{Completion, LogId, Request, SegmentBytes, SegmentId};

use super::{StorageAnswer, StorageRequest, StoredLog};

/// See the module's documentation.
#[derive(Default)]
pub(super) struct MemoryDisk {
    segments: BTreeMap<(LogId, SegmentId), Segment>,
}

/// One file.
#[derive(Default)]
struct Segment {
    /// How large it is.
    file_bytes: usize,
    written: Vec<u8>,
}

impl MemoryDisk {
    /// Does one thing; the answer, if there is one.
    pub fn serve(&mut self, request: StorageRequest, log: &StoredLog) -> Option<StorageAnswer> {
        match request {
            StorageRequest::Log(id, request) => {
                self.serve_log(id, request, log).map(|completion| StorageAnswer::Log(id, completion))
            }
            StorageRequest::Checkpoint(log, range::Request::WriteCheckpoint { range, number, .. }) => {
                Some(StorageAnswer::Checkpoint { log, range, number, whole: true })
            }
            StorageRequest::Checkpoint(_, range::Request::RemoveCheckpoint { .. }) => None,
        }
    }

    fn serve_log(&mut self, id: LogId, request: Request, log: &StoredLog) -> Option<Completion> {
        match request {
            Request::Flush(commit) => {
                for write in &commit.writes {
                    let segment = self.segments.entry((id, write.segment)).or_default();
                    let begin = usize::try_from(write.offset).expect("in memory");
                    let end = begin + write.bytes as usize;
                    let written = &mut segment.written;
                    written.resize(written.len().max(end), 0);
                    written[begin..end].copy_from_slice(log.bytes_to_write(write));
                }
                Some(Completion::Flushed(commit.number, Ok(())))
            }
            Request::AllocateSegment { segment, bytes, recycle } => {
                if let Some(former) = recycle {
                    self.segments.remove(&(id, former));
                }
                let file_bytes = usize::try_from(bytes).expect("in memory");
                self.segments.insert((id, segment), Segment { file_bytes, written: Vec::new() });
                Some(Completion::SegmentReady(segment))
            }
            Request::RemoveSegment(segment) => {
                self.segments.remove(&(id, segment));
                None
            }
            Request::MapSegment(segment) => {
                let Segment { file_bytes, written: mut bytes } =
                    self.segments.remove(&(id, segment)).expect("it was written");
                bytes.resize(file_bytes, 0);
                Some(Completion::Mapped(segment, Arc::new(SegmentBytes::from_memory(bytes))))
            }
            Request::Prefetch(pages) => Some(Completion::Prefetched(pages)),
        }
    }
}
