//! Hot path. What clients have acknowledged, and nobody waits for, is held until their log is written anyway: alone it
//! would be a commit of its own for each message. Lost with the process it costs a client a message with DUP, as an
//! acknowledgement does that was lost on its way here.
//!
//! It is proposed before anything else that is proposed to the log, so that no other command meets a fuller queue than
//! it would have met otherwise; and when the wheel ticks, or much is held, or a queue is more than half full.

use super::Core;
use super::stored::StoredSessions;
use super::timers::Timer;
use crate::config::Settings;
use crate::identity::Incarnation;
use crate::input::Outputs;
use crate::ranges::inbox::Queue;
use crate::sessions::Haste;
use crate::storage::LogSlot;
use crate::time::Now;

/// Sessions of one log whose acknowledgements are held: so many commands are one turn's work for a log.
const SESSIONS_MAX: usize = 64;

/// Sessions whose acknowledgements are held.
#[derive(Default)]
pub(super) struct Held {
    /// By log. One that proposed meanwhile is not in it any more.
    sessions: Vec<Vec<Incarnation>>,
    /// The next tick of the wheel ends the waiting.
    is_timed: bool,
}

impl Held {
    /// Of a core with so many logs.
    pub(super) fn new(logs: usize) -> Held {
        Held { sessions: vec![Vec::new(); logs], is_timed: false }
    }

    fn of(&mut self, log: LogSlot) -> &mut Vec<Incarnation> {
        &mut self.sessions[usize::from(log.0)]
    }
}

impl StoredSessions {
    /// What a session has to propose may have become more, or more urgent.
    pub(super) fn note_haste(&mut self, (log, session): (LogSlot, Incarnation), before: Haste, after: Haste) {
        match after {
            _ if after <= before => {}
            Haste::Due => self.progressed.push(session),
            Haste::CanWait | Haste::Nothing => self.held.of(log).push(session),
        }
    }
}

/// Whether a queue holds so much that what is acknowledged must leave it at once: publishers are slowed for its sake,
/// or its next message could find it full.
pub(super) fn is_pressed(queue: &Queue, settings: &Settings) -> bool {
    queue.len() > settings.queue_messages_max / 2 || queue.bytes() > settings.queue_bytes_max / 2
}

impl Core {
    /// Something is proposed to a log: what is held goes before it.
    pub(super) fn propose_held(&mut self, log: LogSlot, out: &mut Outputs) {
        if self.stored.held.of(log).is_empty() {
            return;
        }
        let mut sessions = std::mem::take(self.stored.held.of(log));
        for session in sessions.drain(..) {
            // It may have gone, or proposed by itself.
            if let Some(slot) = self.sessions.find(session) {
                self.propose_progress_of(slot, out);
            }
        }
        *self.stored.held.of(log) = sessions;
    }

    /// What is held goes with what is written in any case.
    pub(super) fn propose_held_along(&mut self, out: &mut Outputs) {
        for log in self.storage.slots() {
            let held = self.stored.held.of(log).len();
            if held >= SESSIONS_MAX || held > 0 && self.storage.log(log).is_about_to_write() {
                self.propose_held(log, out);
            }
        }
    }

    /// The turn ends: the wait of what is still held does, too.
    pub(super) fn time_held(&mut self, now: Now) {
        let held = &mut self.stored.held;
        if !held.is_timed && held.sessions.iter().any(|sessions| !sessions.is_empty()) {
            held.is_timed = true;
            self.wheel.arm(now.monotonic.0 + 1, Timer::Held);
        }
    }

    pub(super) fn on_held_timer(&mut self, out: &mut Outputs) {
        self.stored.held.is_timed = false;
        for log in self.storage.slots() {
            self.propose_held(log, out);
        }
    }
}
