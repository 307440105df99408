//! Time as plain numbers. The shell reads the clocks and passes [`Now`] down; nothing below it can ask.

use std::time::Duration;

/// Nanoseconds of a clock that never goes back; its zero is the shell's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// Nanoseconds of a clock that a core stops while it reads none of its clients: for how long one was silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadingTime(pub u64);

/// Milliseconds since the Unix epoch, as the machine's wall clock has them. Stored times are of this kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

/// One reading of both clocks; a turn uses one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For intervals within this process.
    pub monotonic: Mono,
    /// For times that outlive it.
    pub wall: Wall,
}

impl Mono {
    /// The moment `duration` later, at most the end of the clock.
    #[must_use]
    pub fn after(self, duration: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it is still to come.
    #[must_use]
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl ReadingTime {
    /// How long ago `earlier` was; zero if it is still to come.
    #[must_use]
    pub fn since(self, earlier: ReadingTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Wall {
    /// The end of time: never.
    pub const MAX: Wall = Wall(u64::MAX);

    /// The moment `seconds` later.
    #[must_use]
    pub fn after_seconds(self, seconds: u32) -> Wall {
        Wall(self.0.saturating_add(u64::from(seconds) * 1000))
    }

    /// Whole seconds until `later`, rounded up; zero if it has passed.
    #[must_use]
    pub fn seconds_until(self, later: Wall) -> u32 {
        u32::try_from(later.0.saturating_sub(self.0).div_ceil(1000)).unwrap_or(u32::MAX)
    }
}
