//! Three ways to carry out the commits of a log: through an io_uring, on a thread, by stores into a mapping.
//!
//! ```text
//! ring    write(O_DIRECT) ──link──► fdatasync      both in the kernel, the core goes on
//! thread  copy ──► pwrite, fdatasync               for hosts without io_uring
//! mapped  store into the mapping (on the core) ──► fdatasync on the thread
//! ```
//!
//! All take a [`Commit`] with [`Writer::submit`] and report with [`Writer::reap`], in whatever order the
//! commits complete; the log puts them in order.

pub mod ring;
pub mod thread;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wal::files;
use wal::mapping::MappedSegment;
use wal::{Commit, CommitNumber, FlushError, Log, SegmentId};

use ring::Ring;
use thread::{Job, Thread};

/// How a commit ended.
pub type Answer = (CommitNumber, Result<(), FlushError>);

/// Carries out the commits of one log. Lives on its core.
pub struct Writer {
    directory: PathBuf,
    open: BTreeMap<SegmentId, Open>,
    way: Way,
}

struct Open {
    file: Arc<File>,
    mapped: Option<MappedSegment>,
}

enum Way {
    Ring(Box<Ring>),
    Thread(Thread),
    Mapped(Thread),
}

impl Writer {
    /// Through an io_uring; fails where the kernel forbids one.
    pub fn ring(directory: &Path) -> io::Result<Writer> {
        Ok(Writer::new(directory, Way::Ring(Box::new(Ring::new()?))))
    }

    /// On a thread.
    pub fn thread(directory: &Path) -> Writer {
        Writer::new(directory, Way::Thread(Thread::start()))
    }

    /// By stores, synced on a thread.
    pub fn mapped(directory: &Path) -> Writer {
        Writer::new(directory, Way::Mapped(Thread::start()))
    }

    fn new(directory: &Path, way: Way) -> Writer {
        Writer { directory: directory.to_path_buf(), open: BTreeMap::new(), way }
    }

    /// Begins a commit. Its bytes stay in place in the log until it is answered, so it is answered (by
    /// [`Writer::reap`]) before the log goes away.
    pub fn submit(&mut self, commit: &Commit, log: &Log) -> io::Result<()> {
        for write in &commit.writes {
            self.open(write.segment)?;
        }
        let writes = commit.writes.iter();
        match &mut self.way {
            Way::Ring(ring) => {
                for write in writes {
                    let file = &self.open[&write.segment].file;
                    ring.write_and_sync(commit.number, file, write.offset, log.bytes_to_write(write))?;
                }
                ring.submit()
            }
            Way::Thread(thread) => {
                let jobs = writes.map(|write| Job {
                    file: Arc::clone(&self.open[&write.segment].file),
                    offset: write.offset,
                    bytes: log.bytes_to_write(write).to_vec(),
                });
                thread.submit(commit.number, jobs.collect());
                Ok(())
            }
            Way::Mapped(thread) => {
                let mut jobs = Vec::new();
                for write in writes {
                    let open = self.open.get_mut(&write.segment).expect("opened above");
                    let mapped = open.mapped.as_mut().expect("opened to be mapped");
                    let offset = usize::try_from(write.offset).expect("64-bit");
                    mapped.write(offset, log.bytes_to_write(write));
                    jobs.push(Job { file: Arc::clone(&open.file), offset: write.offset, bytes: Vec::new() });
                }
                thread.submit(commit.number, jobs);
                Ok(())
            }
        }
    }

    /// Commits that have ended since; waits for one if asked to and there is one.
    pub fn reap(&mut self, wait: bool, out: &mut Vec<Answer>) -> io::Result<()> {
        match &mut self.way {
            Way::Ring(ring) => ring.reap(wait, out),
            Way::Thread(thread) | Way::Mapped(thread) => {
                thread.reap(wait, out);
                Ok(())
            }
        }
    }

    /// Closes the files before this one. No commit for them is under way: the kernel looks for the file of a
    /// linked sync only when its turn comes.
    pub fn close_before(&mut self, segment: SegmentId) {
        self.open.retain(|open, _| *open >= segment);
    }

    fn open(&mut self, segment: SegmentId) -> io::Result<()> {
        if self.open.contains_key(&segment) {
            return Ok(());
        }
        let open = match &self.way {
            Way::Ring(_) => {
                let (file, _) = files::open_segment(&self.directory, segment, true)?;
                Open { file: Arc::new(file), mapped: None }
            }
            Way::Thread(_) => {
                let (file, _) = files::open_segment(&self.directory, segment, false)?;
                Open { file: Arc::new(file), mapped: None }
            }
            Way::Mapped(_) => {
                let (file, mapped) = files::open_mapped(&self.directory, segment)?;
                Open { file: Arc::new(file), mapped: Some(mapped) }
            }
        };
        self.open.insert(segment, open);
        Ok(())
    }
}
