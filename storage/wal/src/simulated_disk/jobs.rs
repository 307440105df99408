//! What a request comes to, step by step.

use std::sync::Arc;

use super::directory::FileId;
use super::file::{SECTOR_BYTES, SimulatedFile};
use super::{Completion, Lie, SimulatedDisk};
use crate::identity::{CommitNumber, SegmentId};
use crate::log::Log;
use crate::mapping::SegmentBytes;
use crate::request::{FlushError, Pages, Request, SegmentError};

/// What the kernel says when the device fails.
const EIO: i32 = 5;

pub(super) enum Job {
    Commit { number: CommitNumber, writes: Vec<Write> },
    Create { segment: SegmentId, bytes: usize, file: Option<FileId>, stage: Stage },
    Recycle { segment: SegmentId, former: SegmentId, stage: Stage },
    Remove(SegmentId),
    Map(SegmentId),
    Prefetch(Pages),
}

pub(super) struct Write {
    segment: SegmentId,
    offset: usize,
    bytes: Vec<u8>,
    written: bool,
    synced: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Stage {
    Begin,
    Written,
    Synced,
    Renamed,
}

pub(super) enum Step {
    More,
    Done(Option<Completion>),
}

impl Job {
    pub(super) fn new(request: &Request, log: &Log) -> Job {
        let size = |bytes: u64| usize::try_from(bytes).expect("in memory");
        match request {
            Request::Flush(commit) => Job::Commit {
                number: commit.number,
                writes: commit
                    .writes
                    .iter()
                    .map(|write| Write {
                        segment: write.segment,
                        offset: size(write.offset),
                        bytes: log.bytes_to_write(write).to_vec(),
                        written: false,
                        synced: false,
                    })
                    .collect(),
            },
            Request::AllocateSegment { segment, bytes, recycle: None } => {
                Job::Create { segment: *segment, bytes: size(*bytes), file: None, stage: Stage::Begin }
            }
            Request::AllocateSegment { segment, recycle: Some(former), .. } => {
                Job::Recycle { segment: *segment, former: *former, stage: Stage::Begin }
            }
            Request::RemoveSegment(segment) => Job::Remove(*segment),
            Request::MapSegment(segment) => Job::Map(*segment),
            Request::Prefetch(pages) => Job::Prefetch(*pages),
        }
    }

    /// What it takes of the disk under no name yet.
    pub(super) fn unnamed_bytes(&self) -> u64 {
        match self {
            Job::Create { bytes, file: Some(_), stage: Stage::Written | Stage::Synced, .. } => *bytes as u64,
            _ => 0,
        }
    }
}

impl SimulatedDisk {
    pub(super) fn advance(&mut self, job: &mut Job) -> Step {
        match job {
            Job::Commit { number, writes } => self.advance_commit(*number, writes),
            Job::Create { segment, bytes, file, stage } => self.advance_create(*segment, *bytes, file, stage),
            Job::Recycle { segment, former, stage } => self.advance_recycle(*segment, *former, stage),
            Job::Remove(segment) => {
                let file = self.directory.find(*segment).expect("a file is removed once");
                self.directory.rename(file, None);
                Step::Done(None)
            }
            Job::Map(segment) => {
                let file = self.directory.find(*segment).expect("what is mapped exists");
                let bytes = Arc::new(SegmentBytes::from_memory(self.files[&file].cached.clone()));
                self.mapped.push((*segment, bytes.reader()));
                Step::Done(Some(Completion::Mapped(*segment, bytes)))
            }
            Job::Prefetch(pages) => Step::Done(Some(Completion::Prefetched(*pages))),
        }
    }

    /// One write or one sync; a sync comes after its own write, and that is all the order there is.
    fn advance_commit(&mut self, number: CommitNumber, writes: &mut [Write]) -> Step {
        let mut open: Vec<&mut Write> = writes.iter_mut().filter(|write| !write.synced).collect();
        let at = self.random.index(open.len());
        let write = &mut *open[at];
        let file = self.directory.find(write.segment).expect("a commit is for a file that exists");
        let file = self.files.get_mut(&file).expect("a named file");
        let fails = self.random.once_in(self.faults.flush_fails_once_in);
        if !write.written && fails {
            let written = self.random.index(write.bytes.len()) / SECTOR_BYTES * SECTOR_BYTES;
            file.write(write.offset, &write.bytes[..written]);
            let count = |bytes: usize| u32::try_from(bytes).expect("below 4 GiB");
            let short = FlushError::Short { written: count(written), asked: count(write.bytes.len()) };
            let error = if self.random.once_in(2) { short } else { FlushError::Write(EIO) };
            return Step::Done(Some(Completion::Flushed(number, Err(error))));
        }
        if !write.written {
            file.write(write.offset, &write.bytes);
            write.written = true;
            write.synced = self.faults.lie == Some(Lie::AnsweredBeforeSync);
        } else if fails {
            file.fail_sync(&mut self.random);
            return Step::Done(Some(Completion::Flushed(number, Err(FlushError::Sync(EIO)))));
        } else {
            if self.faults.lie != Some(Lie::SyncIsSkipped) {
                file.sync();
            }
            write.synced = true;
        }
        if writes.iter().all(|write| write.synced) {
            return Step::Done(Some(Completion::Flushed(number, Ok(()))));
        }
        Step::More
    }

    fn advance_create(
        &mut self,
        segment: SegmentId,
        bytes: usize,
        file: &mut Option<FileId>,
        stage: &mut Stage,
    ) -> Step {
        match (*stage, *file) {
            (Stage::Begin, _) => {
                if self.used_bytes() + bytes as u64 > self.faults.capacity_bytes {
                    return Step::Done(Some(Completion::SegmentFailed(segment, SegmentError::Full)));
                }
                self.next_file += 1;
                let id = FileId(self.next_file);
                self.files.insert(id, SimulatedFile::new(bytes, &mut self.random));
                *file = Some(id);
                *stage = Stage::Written;
                Step::More
            }
            (Stage::Written, Some(id)) => {
                if self.random.once_in(self.faults.segment_fails_once_in) {
                    self.files.remove(&id);
                    return Step::Done(Some(Completion::SegmentFailed(segment, SegmentError::Io(EIO))));
                }
                self.files.get_mut(&id).expect("created before").sync();
                *stage = Stage::Synced;
                Step::More
            }
            (Stage::Synced, Some(id)) => {
                self.directory.rename(id, Some(segment));
                *stage = Stage::Renamed;
                Step::More
            }
            _ => self.finish_segment(segment),
        }
    }

    fn advance_recycle(&mut self, segment: SegmentId, former: SegmentId, stage: &mut Stage) -> Step {
        if matches!(stage, Stage::Renamed) {
            return self.finish_segment(segment);
        }
        if self.random.once_in(self.faults.segment_fails_once_in) {
            return Step::Done(Some(Completion::SegmentFailed(segment, SegmentError::Io(EIO))));
        }
        let file = self.directory.find(former).expect("a file that is recycled exists");
        self.directory.rename(file, Some(segment));
        *stage = Stage::Renamed;
        Step::More
    }

    fn finish_segment(&mut self, segment: SegmentId) -> Step {
        if self.faults.lie != Some(Lie::DirectorySyncIsSkipped) {
            self.directory.sync();
            self.collect();
        }
        Step::Done(Some(Completion::SegmentReady(segment)))
    }
}
