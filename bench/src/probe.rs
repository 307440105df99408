//! Whether everybody is there: after a long silence every client asks its connection for a PINGRESP, and
//! silence is loss only if all of them came and nothing else did.
//!
//! An answer comes behind everything that the broker had for its connection, and proves that the client's thread
//! and the broker's both run: one that was stopped has its messages lying in a socket, and not lost. Within a
//! broker a message may go from core to core before it is with its subscriber's; so there are several rounds, each
//! begun when the one before is answered.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Rounds that say that nothing comes any more: a message passes three cores at most.
pub(crate) const ROUNDS: u64 = 4;

/// How far one thread's clients are with a round. Written by it alone.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    round: AtomicU64,
    missing: AtomicU64,
}

impl Answers {
    /// The thread has seen that a round has begun, and has so many clients to answer it.
    pub(crate) fn begin(&self, round: u64, clients: u64) {
        self.missing.store(clients, Relaxed);
        self.round.store(round, Release);
    }

    /// One of them has answered, and what came before the answer is counted; or it has ended.
    pub(crate) fn answer(&self) {
        self.missing.store(self.missing.load(Relaxed) - 1, Release);
    }

    /// The round that the thread has come to.
    pub(crate) fn round(&self) -> u64 {
        self.round.load(Relaxed)
    }

    /// Whether all of the thread's clients have answered.
    pub(crate) fn is_complete(&self, round: u64) -> bool {
        self.round.load(Acquire) == round && self.missing.load(Acquire) == 0
    }
}

/// One client's part in it.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    /// PINGREQs without an answer.
    unanswered: u32,
    /// The last round that it takes part in.
    round: u64,
    /// It has not answered that one.
    owes: bool,
}

impl Pings {
    /// A client of a thread that has come to `round`, which goes on without it.
    pub(crate) fn join(&mut self, round: u64) {
        self.round = round;
    }

    /// Whether it has to send a PINGREQ because a round has begun.
    pub(crate) fn is_asked(&mut self, round: u64) -> bool {
        let asked = self.round < round;
        self.owes |= asked;
        self.round = round;
        asked
    }

    /// It sends a PINGREQ, whatever for.
    pub(crate) fn on_request(&mut self) {
        self.unanswered += 1;
    }

    /// It has got a PINGRESP; `false` if it asked for none.
    pub(crate) fn on_response(&mut self) -> bool {
        let known = self.unanswered > 0;
        self.unanswered = self.unanswered.saturating_sub(1);
        known
    }

    /// Whether it now has what it owes to the round; once.
    pub(crate) fn take_answered(&mut self) -> bool {
        self.unanswered == 0 && std::mem::take(&mut self.owes)
    }

    /// It ends; whether the round still waited for it.
    pub(crate) fn owes(&self, round: u64) -> bool {
        self.owes || self.round < round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client answers a round once all its pings are answered, those of before included, and joins none that
    /// began without it.
    #[test]
    fn a_round_waits_for_the_last_ping() {
        let mut pings = Pings::default();
        pings.join(1);
        assert!(!pings.is_asked(1) && !pings.owes(1));
        pings.on_request(); // its keep alive
        assert!(pings.is_asked(2) && !pings.is_asked(2));
        pings.on_request();
        assert!(pings.on_response() && !pings.take_answered() && pings.owes(2));
        assert!(pings.on_response() && pings.take_answered() && !pings.take_answered());
        assert!(!pings.owes(2) && pings.owes(3));
        assert!(!pings.on_response());
    }

    /// A thread that has not seen the round has answered nothing.
    #[test]
    fn a_thread_that_stands_still_is_missed() {
        let answers = Answers::default();
        assert!(answers.is_complete(0) && !answers.is_complete(1));
        answers.begin(1, 2);
        answers.answer();
        assert!(!answers.is_complete(1));
        answers.answer();
        assert!(answers.is_complete(1) && !answers.is_complete(2));
    }
}
