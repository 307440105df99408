//! How a core's commits get to the disk: by its ring, or by a thread of their own.

#![expect(unsafe_code, reason = "the ring is handed pointers into the logs' memory")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use crossbeam_channel::Sender;
use wal::{Commit, Log, LogId, SegmentId};

use super::writer_thread::{Job, Write, WriterThread};
use super::{Answers, Place};
use crate::configuration::Append;
use crate::poller::Poller;

/// See the module's documentation. Lives on its core.
pub(super) enum Writer {
    /// By the ring, which outlives no file and no memory that it writes from: see the driver.
    Ring {
        /// Segments that are ready, or being written.
        files: BTreeMap<(LogId, SegmentId), File>,
    },
    /// By a thread, by pwrite or by stores.
    Thread(Sender<Job>),
}

impl Writer {
    pub(super) fn start(
        place: &Place,
        poller: &Poller,
        answers: &Answers,
        cpus: &[usize],
    ) -> io::Result<Writer> {
        let mapped = place.append == Append::Mapped;
        if poller.is_ring() && !mapped {
            return Ok(Writer::Ring { files: BTreeMap::new() });
        }
        WriterThread::start(place, mapped, answers.clone(), cpus).map(Writer::Thread)
    }

    /// Whether segments have to be opened for it.
    pub(super) fn is_ring(&self) -> bool {
        matches!(self, Writer::Ring { .. })
    }

    /// A segment can be written.
    pub(super) fn opened(&mut self, log: LogId, segment: SegmentId, file: File) {
        if let Writer::Ring { files } = self {
            files.insert((log, segment), file);
        }
    }

    /// Begins a commit of a log.
    pub(super) fn begin(&mut self, commit: &Commit, log: &Log, poller: &mut Poller) {
        let name = (commit.log, commit.number);
        match self {
            Writer::Ring { files } => {
                for write in &commit.writes {
                    let file = &files[&(commit.log, write.segment)];
                    // SAFETY: the log keeps the bytes in place until it is told that the commit has ended, and asks
                    // for the segment to be mapped or removed, which closes the file, only after that.
                    unsafe {
                        poller.write_and_sync(name, file.as_fd(), write.offset, log.bytes_to_write(write));
                    }
                }
            }
            Writer::Thread(jobs) => {
                let copy = |write: &wal::Write| Write {
                    segment: write.segment,
                    offset: write.offset,
                    bytes: log.bytes_to_write(write).to_vec(),
                };
                // Without the thread nothing is ever acknowledged again.
                let sent = jobs.send(Job::Commit(name, commit.writes.iter().map(copy).collect()));
                assert!(sent.is_ok(), "the thread that writes the logs has ended");
            }
        }
    }

    /// A segment is not written any more.
    pub(super) fn close(&mut self, log: LogId, segment: SegmentId) {
        match self {
            Writer::Ring { files } => drop(files.remove(&(log, segment))),
            Writer::Thread(jobs) => {
                let _ = jobs.send(Job::Close(log, segment));
            }
        }
    }
}
