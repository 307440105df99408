//! The clocks, read here and nowhere else. A core reads both once at the beginning of a turn, and the
//! monotonic one once more at its end for the watchdog.

use std::time::{Duration, Instant, SystemTime};

use broker_core::time::{Mono, Now, Wall};

/// Where this process's monotonic time begins; the same on all its cores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that begins now.
    #[expect(clippy::disallowed_methods, reason = "the one place where the shell reads its clocks")]
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        Now { monotonic: self.monotonic(), wall: Clock::wall() }
    }

    /// The monotonic clock alone.
    pub(crate) fn monotonic(&self) -> Mono {
        Mono::default().after(self.origin.elapsed())
    }

    /// The wall clock alone.
    pub(crate) fn wall() -> Wall {
        // A clock set before 1970 reads as 1970: everything that expires is still to come.
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
        Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The kernel's monotonic clock, which other processes read as well.
    pub(crate) fn since_boot() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::try_from(time).unwrap_or_default()
    }

    /// A moment as the standard library's deadlines want it.
    pub(crate) fn instant(&self, moment: Mono) -> Instant {
        self.origin + moment.since(Mono::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A moment made from a reading is that reading.
    #[test]
    fn moments_are_readings() {
        let clock = Clock::start();
        let reading = clock.monotonic();
        assert!(clock.monotonic() >= reading);
        assert_eq!(clock.instant(reading).duration_since(clock.origin), reading.since(Mono::default()));
        assert!(Clock::wall() > Wall(1_700_000_000_000));
    }
}
