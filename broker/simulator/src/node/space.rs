//! What goes wrong with a node's disks in the middle of its life: writes fail, and the file system is full at times.
//! It is one for all logs, and what a thread off the cores says of it comes like any other answer.

use broker_core::storage::StorageAnswer;
use broker_core::time::Mono;
use wal::LogId;
use wal::simulated_disk::Faults;

use super::Node;
use crate::history::Fact;

/// How much room a file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// Enough.
    Free,
    /// Less than the watermark: the logs are told, and what still comes finds its room.
    Low,
    /// None: no segment can be made, no checkpoint written.
    Exhausted,
}

impl Node {
    /// The file system is full: below its watermark, or without any room before anybody has seen that.
    pub fn fill_disks(&mut self, at: Mono, exhausted: bool) {
        self.set_space(at, if exhausted { Space::Exhausted } else { Space::Low });
    }

    /// There is room again.
    pub fn free_disks(&mut self, at: Mono) {
        self.set_space(at, Space::Free);
    }

    /// Is the file system full?
    #[must_use]
    pub fn disks_are_full(&self) -> bool {
        self.disks.as_ref().is_some_and(|disks| disks.space != Space::Free)
    }

    /// Is there no room at all?
    #[must_use]
    pub fn disks_are_exhausted(&self) -> bool {
        self.disks.as_ref().is_some_and(|disks| disks.space == Space::Exhausted)
    }

    /// From now on every segment can be made.
    pub fn end_segment_failures(&mut self) {
        if let Some(disks) = &mut self.disks {
            disks.change_faults(|_, faults| Faults { segment_fails_once_in: 0, ..faults });
        }
    }

    /// Writes and syncs fail once in so many; 0: never.
    pub fn set_disk_failures(&mut self, once_in: u64) {
        if let Some(disks) = &mut self.disks {
            disks.change_faults(|_, faults| Faults { flush_fails_once_in: once_in, ..faults });
        }
    }

    /// Can a log not be written any more?
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.cores.iter().any(|hosted| hosted.core.is_poisoned())
    }

    fn set_space(&mut self, at: Mono, space: Space) {
        let Some(disks) = &mut self.disks else { return };
        self.trace.note(at, format_args!("space: {space:?}"));
        disks.space = space;
        disks.change_faults(|disk, faults| Faults {
            capacity_bytes: if space == Space::Exhausted { disk.used_bytes() } else { u64::MAX },
            ..faults
        });
        if space != Space::Exhausted {
            self.tell_space();
        }
    }

    /// The thread beside the cores has looked at the space.
    pub(super) fn tell_space(&mut self) {
        let Some(disks) = &self.disks else { return };
        let available = disks.space == Space::Free;
        for log in 0..self.config.logs() {
            let core = usize::from(log) % self.cores.len();
            self.cores[core].stored.push_back(StorageAnswer::Space(LogId(log), available));
        }
    }

    /// Notes whether a core knows of a log that takes nothing new.
    pub(super) fn note_fullness(&mut self) {
        let is_full = self.cores.iter().any(|hosted| hosted.core.is_disk_full());
        if is_full != self.told_full {
            self.told_full = is_full;
            self.facts.push(Fact::DiskFull(is_full));
        }
    }
}
