//! A disk in memory: segments and checkpoints of one log. What is in flight at a crash is kept in any subset
//! of its sectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use wal::{Commit, CommitNumber, Log, Request, SegmentBytes, SegmentId, SegmentInput};

use super::Random;

const SECTOR: usize = 512;

#[derive(Default)]
pub struct Disk {
    pub segments: BTreeMap<SegmentId, Vec<u8>>,
    in_flight: Vec<InFlight>,
    /// Range and number → content; true when it stands under its name.
    pub checkpoints: BTreeMap<(u128, u64), (Vec<u8>, bool)>,
    /// Says of commits that they are on disk while its cache alone has them: what no test may survive.
    pub lies: bool,
    cache: Vec<(SegmentId, usize, Vec<u8>)>,
}

struct InFlight {
    commit: Commit,
    writes: Vec<(SegmentId, usize, Vec<u8>)>,
}

impl Disk {
    pub fn flushes(&self) -> usize {
        self.in_flight.len()
    }

    /// Does what the log asks for; commits stay in flight.
    pub fn on_request(&mut self, log: &mut Log, request: Request, salt: u64) {
        match request {
            Request::Flush(commit) => {
                let copy = |write: &wal::Write| {
                    let offset = usize::try_from(write.offset).unwrap();
                    (write.segment, offset, log.bytes_to_write(write).to_vec())
                };
                let writes = commit.writes.iter().map(copy).collect();
                self.in_flight.push(InFlight { commit, writes });
            }
            Request::AllocateSegment { segment, bytes, recycle } => {
                let file = recycle.and_then(|former| self.segments.remove(&former));
                let file = file.unwrap_or_else(|| vec![0; usize::try_from(bytes).unwrap()]);
                self.segments.insert(segment, file);
                log.on_segment_ready(segment, salt);
            }
            Request::RemoveSegment(segment) => {
                self.segments.remove(&segment);
            }
            Request::MapSegment(segment) => {
                self.write_cache();
                let bytes = Arc::new(SegmentBytes::from_memory(self.segments[&segment].clone()));
                log.on_mapped(segment, bytes);
            }
            Request::Prefetch(segment) => log.on_prefetched(segment),
        }
    }

    /// Completes one of the commits in flight.
    pub fn complete(&mut self, at: usize) -> CommitNumber {
        let done = self.in_flight.remove(at);
        self.cache.extend(done.writes);
        if !self.lies {
            self.write_cache();
        }
        done.commit.number
    }

    fn write_cache(&mut self) {
        for (segment, offset, bytes) in self.cache.drain(..) {
            let file = self.segments.get_mut(&segment).unwrap();
            file[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
    }

    pub fn crash(&mut self, random: &mut Random) {
        self.cache.clear();
        for lost in std::mem::take(&mut self.in_flight) {
            for (segment, offset, bytes) in lost.writes {
                let file = self.segments.get_mut(&segment).unwrap();
                for (at, sector) in bytes.chunks(SECTOR).enumerate() {
                    if random.one_in(2) {
                        let begin = offset + at * SECTOR;
                        file[begin..begin + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
        self.checkpoints.retain(|_, (_, whole)| *whole);
    }

    pub fn inputs(&self) -> Vec<SegmentInput<'_>> {
        self.segments.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect()
    }

    pub fn on_range_request(&mut self, request: range::Request, torn: bool) -> Option<(u128, u64, bool)> {
        match request {
            range::Request::WriteCheckpoint { range, number, offset, bytes, last } => {
                let (file, whole) = self.checkpoints.entry((range.0, number)).or_default();
                file.truncate(usize::try_from(offset).unwrap());
                file.extend_from_slice(&bytes);
                *whole = last && !torn;
                Some((range.0, number, !torn))
            }
            range::Request::RemoveCheckpoint { range, number } => {
                self.checkpoints.remove(&(range.0, number));
                None
            }
        }
    }
}
