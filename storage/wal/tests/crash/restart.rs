//! Failing disks, ends of the process, and starts.

use wal::log::append::Class;
use wal::simulated_disk::Crash;
use wal::{AppendError, Log, RangeId, RecoveryOptions, SegmentInput, recover};

use crate::driver::{Driver, IDENTITY, faults};
use crate::owner::{Content, Owner};

impl Driver {
    /// The disk begins to fail, until the next restart.
    pub(crate) fn fail_soon(&mut self) {
        let mut faults = self.disk.faults();
        if self.random.once_in(2) {
            faults.flush_fails_once_in = 4;
        } else {
            faults.segment_fails_once_in = 3;
        }
        self.disk.set_faults(faults);
    }

    /// After a failed write or sync nothing is acknowledged any more, and nothing is taken.
    pub(crate) fn after_poison(&mut self) {
        let durable = self.log.durable();
        let content = Content::data(self.next_id, RangeId(1), 10);
        let refused = self.log.append(self.now, Class::Control, &content.record());
        assert!(matches!(refused, Err(AppendError::Poisoned(_))), "a poisoned log takes nothing");
        for _ in 0..20 {
            self.disk_step();
            let mut requests = Vec::new();
            self.log.flush(self.now, &mut requests);
            assert!(requests.is_empty(), "a poisoned log asks for nothing");
        }
        assert_eq!(self.log.durable(), durable, "a poisoned log acknowledges nothing");
        self.crash_and_restart();
    }

    /// Ends the process in some way and starts again; starts may be interrupted too.
    pub(crate) fn crash_and_restart(&mut self) {
        self.held.clear();
        self.in_flight.clear();
        self.disk.set_faults(faults(self.capacity_bytes, self.mutant));
        self.log = Log::new(self.config);
        let crash = if self.random.once_in(3) { Crash::Kill } else { Crash::Power };
        self.disk.crash(crash);
        while !self.start() {}
        self.tally.restarts += 1;
    }

    /// Answers whether the start was not interrupted.
    fn start(&mut self) -> bool {
        if self.random.once_in(6) {
            self.damage_at_rest();
        }
        let files = self.disk.segments();
        let inputs: Vec<SegmentInput<'_>> =
            files.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect();
        let recovery = recover(&IDENTITY, &inputs, &RecoveryOptions::default()).expect("no damage");
        self.journal.check(&recovery, self.acknowledged);
        let last = recovery.next_lsn().previous();
        let interrupted = self.random.once_in(5);
        self.disk.settle(&recovery.unproven(), interrupted);
        if interrupted {
            return false;
        }
        self.tally.cuts += u64::from(recovery.cut().is_some());
        self.journal.cut(last);
        self.acknowledged = last;
        self.owner = Owner::rebuild(&recovery);
        let resume = recovery.resume();
        let bytes = self.disk.map_all();
        self.log = Log::resume(self.config, resume, bytes);
        self.log.on_space(self.space_available);
        self.owner.announce(&mut self.log);
        true
    }
}
