//! Commits on a thread: by pwrite where there is no ring, or by stores into the mapped segment.
//!
//! ```text
//! copy ──► pwrite ──► fdatasync              for hosts without io_uring
//! copy ──► store ───► fdatasync              wal.append = "mapped"
//! ```
//!
//! The stores are here, too, and not on the core: one that meets a page on its way to the disk waits for the
//! file system, up to 16 ms of waiting that were measured.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use broker_core::storage::StorageAnswer;
use crossbeam_channel::{Receiver, Sender, unbounded};
use wal::mapping::MappedSegment;
use wal::{CommitNumber, Completion, FlushError, LogId, SegmentId, files};

use super::{Answers, Done, Place, start_thread};

/// What the thread is to do, in order.
pub(super) enum Job {
    /// Write these, and make them durable.
    Commit((LogId, CommitNumber), Vec<Write>),
    /// A segment is not written any more.
    Close(LogId, SegmentId),
}

/// One write of a commit.
pub(super) struct Write {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// Ends when the way to it is dropped.
pub(super) struct WriterThread {
    data: PathBuf,
    mapped: bool,
    open: BTreeMap<(LogId, SegmentId), Open>,
}

struct Open {
    file: File,
    mapped: Option<MappedSegment>,
}

impl WriterThread {
    /// At most two commits of each log wait for it.
    pub(super) fn start(
        place: &Place,
        mapped: bool,
        answers: Answers,
        cpus: &[usize],
    ) -> io::Result<Sender<Job>> {
        let (jobs, incoming) = unbounded();
        let thread = WriterThread { data: place.data.clone(), mapped, open: BTreeMap::new() };
        start_thread("log-writer", cpus, move || thread.run(&incoming, &answers))?;
        Ok(jobs)
    }

    fn run(mut self, jobs: &Receiver<Job>, answers: &Answers) {
        for job in jobs {
            match job {
                Job::Commit((log, number), writes) => {
                    let result = writes.iter().try_for_each(|write| self.write(log, write));
                    let answer = StorageAnswer::Log(log, Completion::Flushed(number, result));
                    if !answers.send(Done::Answer(answer)) {
                        return;
                    }
                }
                Job::Close(log, segment) => drop(self.open.remove(&(log, segment))),
            }
        }
    }

    fn write(&mut self, log: LogId, write: &Write) -> Result<(), FlushError> {
        let errno = |error: io::Error| error.raw_os_error().unwrap_or(0);
        let open = self.open(log, write.segment).map_err(|error| FlushError::Write(errno(error)))?;
        match &mut open.mapped {
            None => files::write_and_sync(&open.file, write.offset, &write.bytes),
            Some(mapped) => {
                mapped.write(usize::try_from(write.offset).expect("64-bit"), &write.bytes);
                open.file.sync_data().map_err(|error| FlushError::Sync(errno(error)))
            }
        }
    }

    fn open(&mut self, log: LogId, segment: SegmentId) -> io::Result<&mut Open> {
        use std::collections::btree_map::Entry;
        match self.open.entry((log, segment)) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => {
                let directory = files::log_directory(&self.data, log)?;
                let open = if self.mapped {
                    let (file, mapped) = files::open_mapped(&directory, segment)?;
                    Open { file, mapped: Some(mapped) }
                } else {
                    Open { file: files::open_segment(&directory, segment, false)?.0, mapped: None }
                };
                Ok(place.insert(open))
            }
        }
    }
}
