//! The time for which this core's clients are answerable: it stands still while the core reads none of them for want
//! of credit at another core (`mailbox_bytes_max`), and while it does not run though it should: its process was stopped,
//! or its machine. What a client sends meanwhile lies in its socket, so its silence proves nothing. Keep alive is counted
//! in it.

use super::Core;
use crate::time::{Mono, Now, ReadingTime};

/// A pause that counts as reading, nanoseconds. A core that is always short of credit reads between many short pauses;
/// if they all stopped the clock, it would hardly go, and clients that are gone would stay.
const PAUSE: u64 = 50_000_000;

/// See the module's documentation. Lives on its core.
#[derive(Debug, Default)]
pub(super) struct ReadingClock {
    /// Nanoseconds for which it has stood still.
    stood: u64,
    /// Since when there is no credit.
    pausing: Option<Mono>,
    /// Bytes of clients came in this turn.
    read: bool,
    /// When the last turn was.
    last_turn: Option<Mono>,
}

impl ReadingClock {
    /// What it shows.
    pub(super) fn at(&self, now: Mono) -> ReadingTime {
        let upto = self.pausing.map_or(now.0, |since| now.0.min(since.0 + PAUSE));
        ReadingTime(upto - self.stood)
    }

    /// Whether it stands still, or is about to.
    pub(super) fn is_pausing(&self) -> bool {
        self.pausing.is_some()
    }

    /// A turn begins that was due then. If it comes late, nobody knows since when the core has not run: since its last
    /// turn, it may be.
    pub(super) fn begin_turn(&mut self, now: Mono, due: Option<Mono>) {
        let (Some(due), Some(last_turn), None) = (due, self.last_turn, self.pausing) else { return };
        if now.0.saturating_sub(due.max(last_turn).0) > PAUSE {
            self.stood += now.0 - last_turn.0 - PAUSE;
        }
    }

    /// Bytes of a client have come.
    pub(super) fn on_bytes(&mut self) {
        self.read = true;
    }

    /// A turn ends. Whether clients are read in the next is not known before; that they were read in this one is.
    pub(super) fn end_turn(&mut self, now: Mono, have_credit: bool) {
        let reads = have_credit || self.read;
        if let Some(since) = self.pausing.take_if(|_| reads) {
            self.stood += (now.0 - since.0).saturating_sub(PAUSE);
        }
        if !have_credit && self.pausing.is_none() {
            self.pausing = Some(now);
        }
        self.read = false;
        self.last_turn = Some(now);
    }
}

impl Core {
    /// The time for which clients are answerable.
    pub(super) fn reading_time(&self, now: Now) -> ReadingTime {
        self.reading.at(now.monotonic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// The time before a turn that comes late is no time in which clients were silent; a core that slept because nothing was due was
    /// answerable all the time, and one that pauses stands once and not twice.
    #[test]
    fn the_clock_stands_while_the_core_does_not_run() {
        let mut clock = ReadingClock::default();
        let at = |clock: &ReadingClock, ms| clock.at(Mono(ms * MS)).0 / MS;
        let due = |ms| Some(Mono(ms * MS));
        clock.begin_turn(Mono(1000 * MS), due(0));
        clock.end_turn(Mono(1000 * MS), true);
        clock.begin_turn(Mono(9000 * MS), None);
        assert_eq!(at(&clock, 9000), 9000);
        clock.end_turn(Mono(9000 * MS), true);
        clock.begin_turn(Mono(30_000 * MS), due(10_000));
        assert_eq!(at(&clock, 30_000), 9_050);
        clock.end_turn(Mono(30_000 * MS), true);
        clock.begin_turn(Mono(31_000 * MS), due(0));
        assert_eq!(at(&clock, 31_000), 9_100, "at once is after the last turn");
        clock.end_turn(Mono(31_000 * MS), false);
        clock.begin_turn(Mono(40_000 * MS), due(0));
        clock.end_turn(Mono(40_000 * MS), true);
        assert_eq!(at(&clock, 40_000), 9_150);
    }

    /// The clock stands still beyond a short pause, goes on without a leap when clients are read again, and goes as
    /// it should where pauses are short.
    #[test]
    fn the_clock_stands_while_nobody_is_read() {
        let mut clock = ReadingClock::default();
        let at = |clock: &ReadingClock, ms| clock.at(Mono(ms * MS)).0 / MS;
        clock.end_turn(Mono(1000 * MS), true);
        assert_eq!(at(&clock, 1000), 1000);
        clock.end_turn(Mono(1000 * MS), false);
        assert_eq!([at(&clock, 1040), at(&clock, 1050), at(&clock, 9000)], [1040, 1050, 1050]);
        clock.end_turn(Mono(9000 * MS), false);
        assert_eq!(at(&clock, 9500), 1050);
        clock.end_turn(Mono(9500 * MS), true);
        assert_eq!([at(&clock, 9500), at(&clock, 9600)], [1050, 1150]);
        for turn in 1..=100 {
            clock.on_bytes(); // and credit is lost again
            clock.end_turn(Mono((9600 + 20 * turn) * MS), false);
        }
        assert_eq!(at(&clock, 11_600), 3150);
    }
}
