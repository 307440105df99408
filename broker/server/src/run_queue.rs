//! How long a core's thread was ready to run and something else had its CPU: what a turn's length has of others' making.
//! It reads no clock.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use broker_core::time::Mono;

/// Between two readings at the begin of turns, a system call of about a microsecond each. So far a turn's wait may be
/// told too long.
const INTERVAL: Duration = Duration::from_millis(1);

/// The kernel's account of one thread. Lives on it.
#[derive(Debug)]
pub(crate) struct RunQueue {
    /// None where the kernel keeps no such account.
    account: Option<File>,
    read_at: Mono,
    waited: Duration,
}

impl RunQueue {
    /// Of the calling thread.
    pub(crate) fn of_this_thread() -> RunQueue {
        let account = File::open("/proc/thread-self/schedstat").ok();
        RunQueue { account, read_at: Mono::default(), waited: Duration::ZERO }
    }

    /// A turn begins.
    pub(crate) fn on_turn(&mut self, now: Mono) {
        if now.since(self.read_at) >= INTERVAL {
            self.read_at = now;
            self.waited = self.read();
        }
    }

    /// How long the thread has waited since the turn began; a millisecond too long at most.
    pub(crate) fn waited(&self) -> Duration {
        self.read().saturating_sub(self.waited)
    }

    /// Since the thread's start.
    fn read(&self) -> Duration {
        let mut text = [0; 64];
        let length = self.account.as_ref().and_then(|account| account.read_at(&mut text, 0).ok());
        let text = std::str::from_utf8(&text[..length.unwrap_or(0)]).unwrap_or_default();
        waited_of(text).unwrap_or_default()
    }
}

/// "CPU time, wait, number of times", in nanoseconds.
fn waited_of(schedstat: &str) -> Option<Duration> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wait is the second of the account's numbers; an account of another form says nothing.
    #[test]
    fn waits_are_read() {
        assert_eq!(waited_of("123 4567 8\n"), Some(Duration::from_nanos(4567)));
        for other in ["", "123", "1 x 2"] {
            assert_eq!(waited_of(other), None);
        }
    }

    /// What a turn has waited counts from its begin, or from a little before.
    #[test]
    fn waits_count_from_the_begin_of_a_turn() {
        let mut queue = RunQueue::of_this_thread();
        queue.on_turn(Mono(5_000_000));
        let begun = queue.waited;
        assert!(queue.read() >= begun, "it does not go back");
        queue.waited = Duration::MAX;
        queue.on_turn(Mono(5_900_000));
        assert_eq!(
            (queue.waited, queue.waited()),
            (Duration::MAX, Duration::ZERO),
            "it was read just before"
        );
        queue.on_turn(Mono(6_000_000));
        assert!(queue.waited >= begun && queue.waited < Duration::MAX);
    }
}
