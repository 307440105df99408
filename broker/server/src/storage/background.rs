//! What the logs of a core need and the core must not wait for: segments made, removed and mapped,
//! checkpoints written, and the file system's space looked at. One thread per core, in the order asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker_core::storage::StorageAnswer;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use wal::{Completion, LogId, Lsn, Request, SegmentBytes, SegmentError, SegmentId, files};

use super::snapshot::{self, Linked, Wish};
use super::{Answers, Done, Place, start_thread};
use crate::sys;

/// How often the space is looked at when nothing else is asked.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// How much the thread steps back: writing zeros ahead of need must not slow what is needed now.
const NICE: i32 = 5;

/// One thing to do.
pub(super) enum Job {
    /// For a log: files made, removed and mapped.
    Log(LogId, Request),
    /// For a range of a log.
    Checkpoint(LogId, range::Request),
    /// Second names for a log's files; the LSN is durable.
    Link(LogId, Lsn, Wish),
}

/// The thread. Ends when the way to it is dropped.
pub(super) struct Background {
    directories: BTreeMap<LogId, PathBuf>,
    checkpoints: PathBuf,
    /// Whether segments are opened for the ring.
    opens: bool,
    space: Space,
    /// What was done last has failed: said once.
    failing: bool,
    answers: Answers,
}

impl Background {
    pub(super) fn start(
        place: &Place,
        logs: &[LogId],
        opens: bool,
        answers: Answers,
        cpus: &[usize],
    ) -> io::Result<Sender<Job>> {
        let directory = |log: &LogId| Ok((*log, files::log_directory(&place.data, *log)?));
        let background = Background {
            directories: logs.iter().map(directory).collect::<io::Result<_>>()?,
            checkpoints: range::files::checkpoint_directory(&place.data)?,
            opens,
            space: Space {
                free_bytes: place.space_free_bytes,
                segment_bytes: place.segment_bytes,
                is_full: false,
            },
            failing: false,
            answers,
        };
        let (jobs, incoming) = unbounded();
        start_thread("log-files", cpus, move || background.run(&incoming))?;
        Ok(jobs)
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        if let Err(error) = sys::step_back(NICE) {
            tracing::warn!("segments are made with the cores' own right to the CPU: {error}");
        }
        loop {
            let is_heard = match jobs.recv_timeout(SPACE_INTERVAL) {
                Ok(Job::Log(log, request)) => self.serve(log, &request),
                Ok(Job::Checkpoint(log, request)) => self.checkpoint(log, request),
                Ok(Job::Link(log, durable, Wish { into, reply })) => {
                    let linked = snapshot::link(log, &self.directories[&log], &self.checkpoints, &into);
                    // Whoever wished it may have given up.
                    let _ = reply.send(Linked { log, durable: linked.map(|()| durable) });
                    true
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !is_heard || !self.look_at_space() {
                return;
            }
        }
    }

    /// Does what a log asks for. False if nobody hears the answer.
    fn serve(&mut self, log: LogId, request: &Request) -> bool {
        let directory = self.directories[&log].clone();
        let completion = match *request {
            Request::AllocateSegment { segment, bytes, recycle } => {
                match self.allocate(&directory, segment, bytes, recycle) {
                    Ok(file) => {
                        self.note(log, "made", None);
                        if let Some(file) = file
                            && !self.answers.send(Done::Opened(log, segment, file))
                        {
                            return false;
                        }
                        Completion::SegmentReady(segment)
                    }
                    Err(error) => {
                        self.note(log, "made", Some(&error));
                        Completion::SegmentFailed(segment, segment_error(&error))
                    }
                }
            }
            Request::RemoveSegment(segment) => {
                if let Err(error) = files::remove_segment(&directory, segment) {
                    tracing::warn!("log {}: segment {segment} cannot be removed: {error}", log.0);
                }
                return true;
            }
            Request::MapSegment(segment) => match map(&directory, segment) {
                Ok(bytes) => Completion::Mapped(segment, bytes),
                Err(error) => {
                    tracing::error!("log {}: segment {segment} stays in memory: {error}", log.0);
                    return true;
                }
            },
            Request::Flush(_) | Request::Prefetch(_) => unreachable!("of other threads"),
        };
        self.answers.send(Done::Answer(StorageAnswer::Log(log, completion)))
    }

    /// Makes a segment, unless the file system would have too little left, and opens it if it is for the ring.
    fn allocate(
        &self,
        directory: &Path,
        segment: SegmentId,
        bytes: u64,
        recycle: Option<SegmentId>,
    ) -> io::Result<Option<File>> {
        let left = || Ok::<_, io::Error>(files::space_available(directory)?.saturating_sub(bytes));
        if recycle.is_none() && left()? < self.space.free_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        files::allocate_segment(directory, segment, bytes, recycle)?;
        if !self.opens {
            return Ok(None);
        }
        files::open_segment(directory, segment, true).map(|(file, _)| Some(file))
    }

    /// Says when segments cannot be made any more, and when they can again; not each time.
    fn note(&mut self, log: LogId, what: &str, error: Option<&io::Error>) {
        match error {
            Some(error) if !self.failing => {
                tracing::warn!("log {}: segments cannot be {what}: {error}", log.0);
            }
            None if self.failing => tracing::info!("log {}: segments can be {what} again", log.0),
            _ => {}
        }
        self.failing = error.is_some();
    }

    /// Does what a range asks for. False if nobody hears the answer.
    fn checkpoint(&mut self, log: LogId, request: range::Request) -> bool {
        match request {
            range::Request::WriteCheckpoint { range, number, offset, bytes, last } => {
                let name = (range, number);
                let result = range::files::write_checkpoint(&self.checkpoints, name, offset, &bytes, last);
                if let Err(error) = &result {
                    tracing::warn!("the checkpoint of range {:032x} cannot be written: {error}", range.0);
                }
                let answer = StorageAnswer::Checkpoint { log, range, number, whole: result.is_ok() };
                self.answers.send(Done::Answer(answer))
            }
            range::Request::RemoveCheckpoint { range, number } => {
                if let Err(error) = range::files::remove_checkpoint(&self.checkpoints, range, number) {
                    tracing::warn!("a checkpoint of range {:032x} cannot be removed: {error}", range.0);
                }
                true
            }
        }
    }

    /// Tells the logs when the space falls below the watermark, and when there is some again. False if nobody
    /// hears it.
    fn look_at_space(&mut self) -> bool {
        let Some(directory) = self.directories.values().next() else { return true };
        // A file system that does not answer is found out by those who write.
        let Ok(available) = files::space_available(directory) else { return true };
        let Some(is_full) = self.space.look(available) else { return true };
        let free_bytes = self.space.free_bytes;
        if is_full {
            tracing::warn!(
                "disk full: {available} bytes are free, less than wal.space_free_bytes = {free_bytes}: \
                 sessions that are kept get no new messages until there is space"
            );
        } else {
            tracing::info!("disk: {available} bytes are free again");
        }
        let mut logs = self.directories.keys();
        logs.all(|log| self.answers.send(Done::Answer(StorageAnswer::Space(*log, !is_full))))
    }
}

/// A segment's bytes, read into memory where no mapping is to be had.
fn map(directory: &Path, segment: SegmentId) -> io::Result<Arc<SegmentBytes>> {
    files::map_segment(directory, segment).or_else(|_| {
        let bytes = std::fs::read(files::segment_path(directory, segment))?;
        Ok(Arc::new(SegmentBytes::from_memory(bytes)))
    })
}

fn segment_error(error: &io::Error) -> SegmentError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SegmentError::Full,
        _ => SegmentError::Io(error.raw_os_error().unwrap_or(0)),
    }
}

/// The watermark of a file system.
#[derive(Debug)]
struct Space {
    /// Less than this is full.
    free_bytes: u64,
    /// So much more is needed to be full no more: room for a segment.
    segment_bytes: u64,
    is_full: bool,
}

impl Space {
    /// Takes what is available. Some if that changes whether the file system is full.
    fn look(&mut self, available: u64) -> Option<bool> {
        let is_full = match self.is_full {
            false => available < self.free_bytes,
            true => available < self.free_bytes.saturating_add(self.segment_bytes),
        };
        let changed = is_full != self.is_full;
        self.is_full = is_full;
        changed.then_some(is_full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Full is below the watermark, not full any more is where a segment fits above it: nothing flaps between.
    #[test]
    fn the_watermark_has_two_edges() {
        let mut space = Space { free_bytes: 100, segment_bytes: 10, is_full: false };
        let looks = [100, 99, 100, 109, 110, 100, 50].map(|available| space.look(available));
        assert_eq!(looks, [None, Some(true), None, None, Some(false), None, Some(true)]);
    }
}
