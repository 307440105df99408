//! What holds when a log comes to rest, when its disk is full, and when its disk is damaged.

use wal::log::append::Class;
use wal::{AppendError, RangeId, RecoveryError, RecoveryOptions, SegmentInput, inspect, recover};

use crate::driver::{Driver, IDENTITY};
use crate::owner::id_of;

impl Driver {
    /// Lets everything finish: then all that was appended is acknowledged, and the disk use is bounded by
    /// what lives and the target.
    pub(crate) fn come_to_rest(&mut self) {
        self.restore_disk();
        // Reclaiming asks for pages, walks a piece, and waits a second for space: some turns change nothing.
        let (mut idle, mut rounds) = (0, 0);
        while idle < 20 {
            let before = (self.log.next_lsn(), self.log.usage());
            self.turn();
            self.now = self.now.after(60_000_000);
            while !self.disk.is_idle() {
                self.disk_step();
            }
            rounds += 1;
            assert!(rounds < 20_000, "no rest: {:?}", self.log.usage());
            let after = (self.log.next_lsn(), self.log.usage());
            idle = if before == after { idle + 1 } else { 0 };
        }
        assert_eq!(self.log.durable().next(), self.log.next_lsn(), "at rest everything is durable");
        let usage = self.log.usage();
        let segment = u64::from(self.config.segment_bytes);
        // In segments as small as these headers, tables, padding and large records' own files take a lot.
        let share = u64::from(self.config.live_percent_target).min(25);
        let bound = usage.live_bytes * 100 / share + 3 * segment;
        assert!(self.log.is_disk_full() || usage.sealed_bytes <= bound, "above {bound}: {usage:?}");
        assert_eq!(usage.leaving_bytes, 0, "at rest nothing is on its way out");
        let files = usage.sealed_bytes + usage.spare_bytes + usage.tail_bytes;
        assert!(self.disk.used_bytes() <= files, "{} bytes in files, {usage:?}", self.disk.used_bytes());
    }

    fn restore_disk(&mut self) {
        let mut faults = self.disk.faults();
        (faults.flush_fails_once_in, faults.segment_fails_once_in) = (0, 0);
        self.disk.set_faults(faults);
        self.release_held();
    }

    /// The disk fills up: ordinary appends are refused by that name, control records go on until one segment
    /// is left, and when space returns so do the appends, by themselves.
    pub(crate) fn fill_up(&mut self) {
        self.come_to_rest();
        let mut faults = self.disk.faults();
        faults.capacity_bytes =
            self.disk.used_bytes() + self.random.below(4) * u64::from(self.config.segment_bytes);
        self.disk.set_faults(faults);
        let refused = (0..100_000).find_map(|_| self.append_or_refuse(Class::Ordinary));
        if refused == Some(AppendError::SegmentsMax) {
            return;
        }
        assert_eq!(refused, Some(AppendError::DiskFull), "a full disk is named");
        self.tally.full += 1;
        let is_provisioned = self.log.usage().segments_ready >= self.config.segments_reserved;
        if is_provisioned && self.random.once_in(2) {
            self.make_room_by_deaths();
            return;
        }
        if is_provisioned {
            let refused = (0..100_000).find_map(|_| self.append_or_refuse(Class::Control));
            assert_eq!(refused, Some(AppendError::DiskFull));
            assert!(self.log.usage().segments_ready <= 1, "the reserve is for control records");
        }
        assert!(self.disk.used_bytes() <= faults.capacity_bytes, "nobody writes beyond a full disk");
        if self.random.once_in(3) {
            self.crash_and_restart();
        }
        faults.capacity_bytes = self.disk.used_bytes() + self.capacity_bytes;
        self.capacity_bytes = faults.capacity_bytes;
        self.disk.set_faults(faults);
        self.come_to_rest();
        let taken = self.append_or_refuse(Class::Ordinary);
        assert!(matches!(taken, None | Some(AppendError::SegmentsMax)), "with space it goes on: {taken:?}");
    }

    /// On a full disk everything is revoked: the log takes appends again without a byte more of space.
    fn make_room_by_deaths(&mut self) {
        let live = self.owner.unrevoked().len();
        for _ in 0..8 * (live + 1) {
            self.revoke();
            self.turn();
            self.now = self.now.after(50_000);
            while !self.disk.is_idle() {
                self.disk_step();
            }
        }
        self.come_to_rest();
        if self.owner.unrevoked().is_empty() {
            let taken = self.append_or_refuse(Class::Ordinary);
            let usage = self.log.usage();
            // On a disk of a few segments the reserve may be all that fits.
            let is_reserve_whole = usage.segments_ready >= self.config.segments_reserved;
            assert!(taken.is_none() || is_reserve_whole, "deaths make room: {taken:?} {usage:?}");
        }
        let mut faults = self.disk.faults();
        faults.capacity_bytes = self.disk.used_bytes() + self.capacity_bytes;
        self.capacity_bytes = faults.capacity_bytes;
        self.disk.set_faults(faults);
    }

    /// Appends, waiting for the disk where that helps; answers what it was refused with for good.
    fn append_or_refuse(&mut self, class: Class) -> Option<AppendError> {
        for _ in 0..50 {
            if self.append_data_of(class, RangeId(1), 1000) {
                return None;
            }
            self.turn();
            self.now = self.now.after(50_000);
            while !self.disk.is_idle() {
                self.disk_step();
            }
        }
        self.probe(class)
    }

    /// One bit of what was known to be flushed is flipped: the start is refused and says where; a
    /// quarantining one goes on without the range and with all of the others.
    pub(crate) fn damage_at_rest(&mut self) {
        let files = self.disk.segments();
        let inputs: Vec<SegmentInput<'_>> =
            files.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect();
        let options = RecoveryOptions::default();
        let whole = recover(&IDENTITY, &inputs, &options).expect("no damage");
        let proven: Vec<_> = whole.records().filter(|record| record.header.lsn <= whole.durable()).collect();
        if proven.is_empty() {
            return;
        }
        let record = proven[self.random.index(proven.len())];
        let content = usize::try_from(record.header.length).expect("small");
        let offset = record.position.offset() + self.random.index(64 + content);
        let bit = u8::try_from(self.random.below(8)).expect("below 8");
        self.disk.flip(record.position.segment, offset, bit);
        let files = self.disk.segments();
        let inputs: Vec<SegmentInput<'_>> =
            files.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect();
        let (lsn, range) = (record.header.lsn, record.header.range);
        let Err(RecoveryError::Damaged(damage)) = recover(&IDENTITY, &inputs, &options) else {
            panic!("damage to LSN {lsn} below {} was not refused", whole.durable());
        };
        assert!(damage.iter().any(|damage| damage.first <= lsn && lsn <= damage.last), "the damage is named");
        let report = inspect::verify(&inputs).expect("a log").expect("of somebody");
        assert_eq!(report.damage, damage, "verify finds what a start finds");
        let options = RecoveryOptions { quarantine: true, ..options };
        let rest = recover(&IDENTITY, &inputs, &options).expect("a quarantining start goes on");
        let quarantine = rest.quarantine();
        let unidentified = quarantine.unidentified.iter().any(|(first, last)| *first <= lsn && lsn <= *last);
        assert!(quarantine.contains(range) || unidentified, "LSN {lsn} is somebody's");
        // Nothing is left of a range that is not named, so there is nothing to go on with by mistake.
        let mut of_range = whole.records().filter(|record| record.header.range == range);
        assert!(quarantine.contains(range) || of_range.all(|record| record.header.lsn == lsn));
        let shown: Vec<_> = rest.records().map(|record| (record.header.lsn, id_of(&record))).collect();
        let others = whole.records().filter(|record| !quarantine.contains(record.header.range));
        let others = others.filter(|record| record.header.lsn != lsn);
        assert!(others.map(|record| (record.header.lsn, id_of(&record))).eq(shown), "the others are whole");
        self.disk.flip(record.position.segment, offset, bit);
        self.tally.damage_refused += 1;
    }
}
