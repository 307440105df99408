//! A disk that forgets what nobody synced, for simulators: it does what a [`Log`] asks, one small step at a
//! time and in an order of its own, fails on request, and survives crashes as badly as a disk may. Everything
//! follows from a seed.
//!
//! ```text
//! submit ──► jobs ──► step: one write, one sync, one rename, … of one job chosen at random ──► Completion
//!              └─ crash: jobs are gone, files keep what they must and any part of the rest
//! ```
//!
//! Files are sectors of 512 bytes. A write may be kept or lost by each sector; a sync makes a file's sectors
//! certain; a name is certain when the directory is synced. Whoever drives it passes completions on to the
//! log, and after a crash reads the files with [`SimulatedDisk::segments`].

mod directory;
mod file;
mod jobs;
mod random;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::identity::SegmentId;
use crate::log::Log;
use crate::mapping::SegmentBytes;
use crate::recovery::Unproven;
use crate::request::Request;
use directory::{Directory, FileId};
use file::SimulatedFile;
use jobs::Job;

pub use crate::request::Completion;
pub use random::Random;

/// What goes wrong, how often, and how much there is room for.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// One write or sync of a commit in so many fails; 0 for never.
    pub flush_fails_once_in: u64,
    /// One preparation of a segment in so many fails; 0 for never.
    pub segment_fails_once_in: u64,
    /// Bytes of all files together.
    pub capacity_bytes: u64,
    /// A sabotaged disk, to prove that a test notices.
    pub lie: Option<Lie>,
}

/// How a disk can betray the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A sync reports success and does nothing.
    SyncIsSkipped,
    /// Directories are not synced.
    DirectorySyncIsSkipped,
    /// A commit is answered when its writes are done, before their syncs.
    AnsweredBeforeSync,
    /// After a restart nothing is written again.
    SettleIsSkipped,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// With the machine.
    Power,
    /// Alone: what it wrote is still there for readers, what the disk was doing for it may have been done.
    Kill,
}

/// The disk of one log.
pub struct SimulatedDisk {
    random: Random,
    faults: Faults,
    files: BTreeMap<FileId, SimulatedFile>,
    directory: Directory,
    next_file: u64,
    jobs: Vec<Job>,
    /// Whoever holds a mapping would see a file change under it.
    mapped: Vec<(SegmentId, Arc<()>)>,
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> SimulatedDisk {
        SimulatedDisk {
            random: Random::new(seed),
            faults,
            files: BTreeMap::new(),
            directory: Directory::default(),
            next_file: 0,
            jobs: Vec::new(),
            mapped: Vec::new(),
        }
    }

    /// From now on these things go wrong.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Takes a request of the log to be carried out.
    pub fn submit(&mut self, request: &Request, log: &Log) {
        if let Request::AllocateSegment { recycle: Some(segment), .. } | Request::RemoveSegment(segment) =
            request
        {
            self.assert_unread(*segment);
        }
        self.jobs.push(Job::new(request, log));
    }

    fn assert_unread(&mut self, segment: SegmentId) {
        self.mapped.retain(|(_, reader)| Arc::strong_count(reader) > 1);
        assert!(
            self.mapped.iter().all(|(mapped, _)| *mapped != segment),
            "segment {segment} is given up while somebody reads it"
        );
    }

    /// Is there nothing to do?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// One step of one job; the answer if that was its last.
    pub fn step(&mut self) -> Option<Completion> {
        if self.jobs.is_empty() {
            return None;
        }
        let at = self.random.index(self.jobs.len());
        let mut job = self.jobs.swap_remove(at);
        match self.advance(&mut job) {
            jobs::Step::Done(completion) => completion,
            jobs::Step::More => {
                self.jobs.push(job);
                None
            }
        }
    }

    /// The process ends, and with it whatever it had under way.
    pub fn crash(&mut self, crash: Crash) {
        let mut jobs = std::mem::take(&mut self.jobs);
        while crash == Crash::Kill && !jobs.is_empty() && !self.random.once_in(4) {
            let at = self.random.index(jobs.len());
            if matches!(self.advance(&mut jobs[at]), jobs::Step::Done(_)) {
                jobs.swap_remove(at);
            }
        }
        self.mapped.clear();
        if crash == Crash::Power {
            self.directory.lose_power(&mut self.random);
            for file in self.files.values_mut() {
                file.lose_power(&mut self.random);
            }
        }
        self.collect();
        // Those that never had a name end in .new: the next start removes them.
        self.files.retain(|file, _| self.directory.knows(*file));
    }

    /// The files as a reader finds them, by name.
    #[must_use]
    pub fn segments(&self) -> Vec<(SegmentId, Vec<u8>)> {
        let mut segments: Vec<_> =
            self.directory.files().map(|(name, file)| (name, self.files[&file].cached.clone())).collect();
        segments.sort_unstable_by_key(|(name, _)| *name);
        segments
    }

    /// The files as mappings, for [`Log::resume`]. None of them may be given up while one is held.
    pub fn map_all(&mut self) -> Vec<(SegmentId, Arc<SegmentBytes>)> {
        let mut segments = Vec::new();
        for (segment, bytes) in self.segments() {
            let bytes = Arc::new(SegmentBytes::from_memory(bytes));
            self.mapped.push((segment, bytes.reader()));
            segments.push((segment, bytes));
        }
        segments
    }

    /// [`files::settle`](crate::files::settle). Where `crash` says so, the power fails in the middle.
    pub fn settle(&mut self, unproven: &[Unproven], crash: bool) {
        if self.faults.lie == Some(Lie::SettleIsSkipped) {
            return;
        }
        for range in unproven {
            let file = self.directory.find(range.segment).expect("recovery has read it");
            let file = self.files.get_mut(&file).expect("a named file");
            let at = |bytes: u64| usize::try_from(bytes).expect("in memory");
            file.settle(at(range.offset), at(range.bytes));
            if crash && self.random.once_in(2) {
                break;
            }
            file.sync();
        }
        if crash {
            self.crash(Crash::Power);
        } else {
            self.directory.sync();
            self.collect();
        }
    }

    /// Damage at rest: flips one bit.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn flip(&mut self, segment: SegmentId, offset: usize, bit: u8) {
        let file = self.directory.find(segment).expect("the file exists");
        self.files.get_mut(&file).expect("a named file").flip(offset, bit);
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let named = self.directory.files().map(|(_, file)| self.files[&file].cached.len() as u64);
        named.sum::<u64>() + self.jobs.iter().map(Job::unnamed_bytes).sum::<u64>()
    }

    /// Drops files that have lost their name for good.
    fn collect(&mut self) {
        for file in self.directory.take_nameless() {
            self.files.remove(&file);
        }
    }
}
