//! A log without a core: whatever it asks for is done in turn, its commits by the way of writing that is to be
//! measured or tested. In a broker nothing but commits is done on the thread that appends.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker_core::storage::StorageAnswer;
use crossbeam_channel::{Receiver, unbounded};
use wal::{CommitNumber, Completion, FlushError, Log, LogId, Mono, Request, files};

use super::writer::Writer;
use super::{Answers, Done, Place};
use crate::cli::Io;
use crate::configuration::Append;
use crate::poller::{Flushed, Poller, Source};
use crate::sys::{self, EventFd};

/// A way of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By a ring.
    Ring,
    /// By a thread, as where there is no ring.
    Thread,
    /// By stores, on a thread.
    Mapped,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Ring => "ring",
            Way::Thread => "thread",
            Way::Mapped => "mapped",
        }
    }
}

/// See the module's documentation. Dropped before the log that it writes from.
pub(super) struct Alone {
    poller: Poller,
    writer: Writer,
    done: Receiver<Done>,
    directory: PathBuf,
    log: LogId,
    _wake: Arc<EventFd>,
}

impl Alone {
    pub(super) fn new(data: &Path, log: LogId, way: Way) -> io::Result<Alone> {
        let io = if way == Way::Thread { Io::Epoll } else { Io::Uring };
        let (mut poller, _) = Poller::new(io)?;
        let wake = Arc::new(EventFd::new()?);
        poller.watch(Source::Wake, wake.as_fd())?;
        let (sender, done) = unbounded();
        let place = Place {
            data: data.to_owned(),
            append: if way == Way::Mapped { Append::Mapped } else { Append::Ring },
            space_free_bytes: 0,
            segment_bytes: 0,
        };
        let answers = Answers { done: sender, wake: Arc::clone(&wake) };
        let writer = Writer::start(&place, &poller, &answers, &sys::affinity()?)?;
        Ok(Alone { poller, writer, done, directory: files::log_directory(data, log)?, log, _wake: wake })
    }

    /// Begins the commit among what the log asks for, if there is one: which.
    pub(super) fn begin(&mut self, log: &Log, requests: &mut Vec<Request>) -> Option<CommitNumber> {
        let at = requests.iter().position(|request| matches!(request, Request::Flush(_)))?;
        let Request::Flush(commit) = requests.swap_remove(at) else { unreachable!("looked for") };
        self.writer.begin(&commit, log, &mut self.poller);
        Some(commit.number)
    }

    /// Does everything else.
    pub(super) fn serve(&mut self, log: &mut Log, requests: &mut Vec<Request>) -> io::Result<()> {
        for request in requests.drain(..) {
            if let Request::MapSegment(segment) | Request::RemoveSegment(segment) = request {
                self.writer.close(self.log, segment);
            }
            match request {
                Request::AllocateSegment { segment, bytes, recycle } => {
                    files::allocate_segment(&self.directory, segment, bytes, recycle)?;
                    if self.writer.is_ring() {
                        let (file, _) = files::open_segment(&self.directory, segment, true)?;
                        self.writer.opened(self.log, segment, file);
                    }
                    log.on_segment_ready(segment, u64::from(segment.0) * 0x9e37_79b9);
                }
                Request::RemoveSegment(segment) => files::remove_segment(&self.directory, segment)?,
                Request::MapSegment(segment) => {
                    log.on_mapped(segment, files::map_segment(&self.directory, segment)?);
                }
                Request::Prefetch(pages) => log.on_prefetched(Mono(0), pages),
                Request::Flush(_) => unreachable!("begun before"),
            }
        }
        Ok(())
    }

    /// Commits that have ended since; waits for one at most so long.
    pub(super) fn ended(&mut self, wait: Duration, out: &mut Vec<(CommitNumber, Result<(), FlushError>)>) {
        self.poller.poll(wait, &mut Vec::new());
        while let Some(Flushed { number, result, .. }) = self.poller.next_flushed() {
            out.push((number, result));
        }
        for done in self.done.try_iter() {
            if let Done::Answer(StorageAnswer::Log(_, Completion::Flushed(number, result))) = done {
                out.push((number, result));
            }
        }
    }

    /// The poller itself, for what has no log.
    pub(super) fn poller(&mut self) -> &mut Poller {
        &mut self.poller
    }
}

/// Prepares the first segments of a log.
pub(super) fn prepare(alone: &mut Alone, log: &mut Log) -> io::Result<()> {
    let mut requests = Vec::new();
    log.flush(Mono(0), &mut requests);
    alone.serve(log, &mut requests)
}

#[cfg(test)]
mod tests {
    use wal::log::append::Class;
    use wal::{
        AppendError, ClusterId, Config, LogIdentity, NewRecord, NodeId, RangeId, RecoveryOptions,
        SegmentInput, recover,
    };

    use super::*;

    const IDENTITY: LogIdentity = LogIdentity { cluster: ClusterId(1), node: NodeId(2), log: LogId(3) };

    /// Three lives of a log on real files: what was acknowledged in each is read back in the next, and segments
    /// are recycled on the way.
    fn survives_restarts(way: Way) {
        let data = tempfile::tempdir().expect("a directory");
        let directory = files::log_directory(data.path(), IDENTITY.log).expect("created");
        let config = Config { segment_bytes: 64 << 10, linger_ns_max: 0, ..Config::new(IDENTITY) };
        let mut expected: Vec<Vec<u8>> = Vec::new();
        for life in 0..3_u8 {
            let names = files::list_segments(&directory).expect("readable");
            let map = |name| files::map_segment(&directory, name).expect("a segment");
            let maps: Vec<_> = names.into_iter().map(|name| (name, map(name))).collect();
            let inputs: Vec<SegmentInput<'_>> =
                maps.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect();
            let recovery = recover(&IDENTITY, &inputs, &RecoveryOptions::default()).expect("whole");
            files::settle(&directory, &recovery.unproven()).expect("settled");
            let lives = |payload: &&[u8]| payload[1] == 1;
            let found: Vec<_> = recovery.records().map(|record| record.payload).filter(lives).collect();
            assert_eq!(found, expected);
            let mut log = Log::resume(config, recovery.resume(), maps.clone());
            for record in recovery.records().filter(|record| record.payload[1] == 1) {
                log.live(record.position, record.bytes);
            }
            log.start_reclaiming();
            drop(maps);
            let mut alone = Alone::new(data.path(), IDENTITY.log, way).expect("a way of writing");
            for turn in 0..200_u8 {
                let lives = u8::from(turn % 50 == 0);
                let payload = [&[life, lives, turn][..], &[turn; 900]].concat();
                append(&mut log, &mut alone, &payload, lives == 1);
                if lives == 1 {
                    expected.push(payload);
                }
            }
            assert_eq!(log.durable().next(), log.next_lsn(), "every turn waited for its commit");
        }
    }

    /// One turn with one record, which dies at once unless it `lives`; waits for its commit.
    fn append(log: &mut Log, alone: &mut Alone, payload: &[u8], lives: bool) {
        let record = NewRecord { range: RangeId(1), kind: 1, version: 1, metadata: &[], payload };
        loop {
            match log.append(Mono(1), Class::Ordinary, &record) {
                Ok(_) if lives => break,
                Ok(appended) => break log.dead(appended.position, appended.bytes),
                Err(AppendError::SegmentsBehind) => turn(log, alone),
                Err(error) => panic!("{error:?}"),
            }
        }
        log.hurry();
        turn(log, alone);
    }

    fn turn(log: &mut Log, alone: &mut Alone) {
        let (mut requests, mut ended) = (Vec::new(), Vec::new());
        log.flush(Mono(1), &mut requests);
        if alone.begin(log, &mut requests).is_some() {
            while ended.is_empty() {
                alone.ended(Duration::from_secs(60), &mut ended);
            }
        }
        alone.serve(log, &mut requests).expect("a disk with room");
        for (number, result) in ended {
            assert_eq!(result, Ok(()));
            log.on_flushed(Mono(1), number, result);
        }
    }

    #[test]
    fn a_log_written_by_the_ring_survives_restarts() {
        survives_restarts(Way::Ring);
    }

    #[test]
    fn a_log_written_by_a_thread_survives_restarts() {
        survives_restarts(Way::Thread);
    }

    #[test]
    fn a_log_written_by_stores_survives_restarts() {
        survives_restarts(Way::Mapped);
    }
}
