//! What a core's logs ask for is done here: commits by the core's ring or a thread, files by
//! others.
//! Nothing here decides what is written; that do the logs, in the core.
//!
//! ```text
//!           ┌─ commits ────────────► ring of the core, or writer thread ─────────────┐
//! core ─────┼─ pages to be read ───► reader thread ──────────────────────────────────┼──► answers, wake ──► core
//!           └─ files, checkpoints ─► background thread, which also looks at the space ┘
//! ```
//!
//! `start` opens a data directory and makes the logs from it; `inspect` reads a stopped node's; `snapshot` holds one as
//! it is while it is served, for `backup`, which copies it and puts copies back.

mod alive;
mod alone;
mod background;
pub(crate) mod backup;
pub(crate) mod damage;

pub(crate) mod inspect;
mod rate;
mod reader;
pub(crate) mod snapshot;
pub(crate) mod start;
mod writer;
mod writer_thread;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use broker_core::Core;
use broker_core::storage::{StorageAnswer, StorageRequest, StoredLog};
use broker_core::time::Wall;
use crossbeam_channel::{Receiver, Sender, unbounded};
use wal::{Completion, LogId, Pages, Request, SegmentId};

use self::background::{Background, Job};
use self::writer::Writer;
use crate::configuration::Append;
use crate::poller::{Flushed, Poller};
use crate::sys::{self, EventFd};

/// What one core begins with, of the data directory.
pub(crate) struct Stored {
    /// The logs that it serves, ascending.
    pub(crate) logs: Vec<StoredLog>,
    /// When the last process that had them was gone, at the latest.
    pub(crate) ended: Wall,
    pub(crate) place: Place,
}

/// Where logs are, and how they are written.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The data directory.
    pub(crate) data: PathBuf,
    pub(crate) append: Append,
    /// To be left free on the file system.
    pub(crate) space_free_bytes: u64,
    /// Of a segment that everybody may write to.
    pub(crate) segment_bytes: u64,
}

/// One thing that a thread has done.
#[derive(Debug)]
enum Done {
    /// For the core.
    Answer(StorageAnswer),
    /// A segment is there to be written by the ring; its answer follows.
    Opened(LogId, SegmentId, File),
}

/// The way back from a thread to its core.
#[derive(Clone)]
struct Answers {
    done: Sender<Done>,
    wake: Arc<EventFd>,
}

impl Answers {
    /// False if the core is gone.
    fn send(&self, done: Done) -> bool {
        let is_heard = self.done.send(done).is_ok();
        if is_heard {
            self.wake.signal();
        }
        is_heard
    }
}

/// The disk of one core. Lives on it.
pub(crate) struct Storage {
    logs: Vec<LogId>,
    writer: Writer,
    /// The logs ask for a bounded number of things at a time.
    background: Sender<Job>,
    reader: Sender<(LogId, Pages)>,
    done: Receiver<Done>,
}

impl Storage {
    /// Starts the threads, which run on all of `cpus`.
    pub(crate) fn start(
        place: &Place,
        logs: Vec<LogId>,
        poller: &Poller,
        (wake, cpus): (&Arc<EventFd>, &[usize]),
    ) -> io::Result<Storage> {
        let (sender, done) = unbounded();
        let answers = Answers { done: sender, wake: Arc::clone(wake) };
        let writer = Writer::start(place, poller, &answers, cpus)?;
        let reader = reader::start(&place.data, answers.clone(), cpus)?;
        let background = Background::start(place, &logs, writer.is_ring(), answers, cpus)?;
        Ok(Storage { logs, writer, background, reader, done })
    }

    /// Begins one thing that a log asks for.
    pub(crate) fn serve(&mut self, request: StorageRequest, core: &Core, poller: &mut Poller) {
        let job = match request {
            StorageRequest::Log(id, Request::Flush(commit)) => {
                let log = core.stored_log(id).expect("it asked").log();
                return self.writer.begin(&commit, log, poller);
            }
            StorageRequest::Log(id, Request::Prefetch(pages)) => {
                let _ = self.reader.send((id, pages));
                return;
            }
            StorageRequest::Log(id, request) => {
                // All of it is on the disk, or nothing ever will be written there.
                if let Request::MapSegment(segment) | Request::RemoveSegment(segment) = request {
                    self.writer.close(id, segment);
                }
                Job::Log(id, request)
            }
            StorageRequest::Checkpoint(id, request) => Job::Checkpoint(id, request),
        };
        // It is gone only after a panic of its own; then the logs run out of segments, which they say.
        let _ = self.background.send(job);
    }

    /// The next thing that is done.
    pub(crate) fn next(&mut self, poller: &mut Poller) -> Option<StorageAnswer> {
        if let Some(Flushed { log, number, result }) = poller.next_flushed() {
            return Some(StorageAnswer::Log(log, Completion::Flushed(number, result)));
        }
        loop {
            match self.done.try_recv().ok()? {
                Done::Answer(answer) => return Some(answer),
                Done::Opened(log, segment, file) => self.writer.opened(log, segment, file),
            }
        }
    }

    /// Why nothing is acknowledged any more, if so: in words.
    pub(crate) fn poison(&self, core: &Core) -> Option<String> {
        let poison = |id: &LogId| Some((id.0, core.stored_log(*id)?.log().poison()?));
        let (log, poison) = self.logs.iter().find_map(poison)?;
        Some(format!("log {log} cannot be written: {}", damage::flush_error(poison.error)))
    }
}

/// Gives a thread of this module its CPUs, whatever the thread has that starts it, and its name.
fn start_thread(name: &str, cpus: &[usize], run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let cpus = cpus.to_vec();
    let run = move || {
        if let Err(error) = sys::allow(&cpus) {
            tracing::warn!("a thread of the logs shares its core's CPU: {error}");
        }
        run();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}
