//! Deadlines of what this core has asked of others (`request_timeout_ms`). On one node an answer always comes;
//! between nodes it may not, and nothing here relies on it. A request is overdue after one to two times the
//! setting, a part of a publish after two to four times.
//!
//! | asked | without an answer | when overdue |
//! |---|---|---|
//! | who wants a topic | messages on the topic wait, and their publishers | asked again |
//! | a new route | SUBACK waits | asked again under a new number |
//! | what has a core sent to the ranges of retained messages | SUBACK waits, or what a session is owed | asked again |
//! | a route's end | UNSUBACK waits | asked again under a new number |
//! | a part of a publish | PUBACK or PUBREC waits, and all behind it | the publisher is disconnected (0x89), and may send it again |
//!
//! All but the last are safe to repeat. A part of a publish is not: it may be with its receiver. Its client
//! decides; by what it then sends again a QoS 2 message may come twice, which is better than an acknowledgement
//! that is not true (promise 1).
//!
//! What says something and asks nothing (deliveries, `Slow`, `Busy`, credit) has no answer to wait for.

use std::time::Duration;

use mqtt::ReasonCode;

use super::Core;
use super::timers::Timer;
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::time::Now;

/// Requests of each kind that one turn repeats.
const REPEATED_MAX: usize = 4096;

/// Counts the times that the core has looked at its requests; each notes the present one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Epoch(u64);

/// When the core looks at its requests.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    pub(super) epoch: Epoch,
    armed: bool,
}

impl Core {
    fn request_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.config.request_timeout_ms))
    }

    /// The turn ends: if something was asked, it is looked at later.
    pub(super) fn watch_requests(&mut self, now: Now) {
        let open = self.lookups.len() + self.route_waits.len() + self.points.len();
        if self.deadlines.armed || open == 0 {
            return;
        }
        self.deadlines.armed = true;
        self.wheel.arm(now.monotonic.after(self.request_timeout()).0, Timer::Requests);
    }

    /// What was asked before the last time is overdue.
    pub(super) fn on_requests_timer(&mut self) {
        self.deadlines.armed = false;
        let overdue = self.deadlines.epoch;
        self.deadlines.epoch.0 += 1;
        let repeated =
            self.repeat_lookups(overdue, REPEATED_MAX) + self.repeat_changes(overdue, REPEATED_MAX);
        let repeated = repeated + self.repeat_counts(overdue);
        self.counters.requests_repeated += repeated as u64;
    }

    /// A publish of this connection waits for answers: it is looked at later whether it still does.
    pub(super) fn watch_answers(&mut self, now: Now, id: ConnectionId) {
        // Twice the time of the others: a look-up that it waits for may have to be repeated first.
        let due = now.monotonic.after(2 * self.request_timeout());
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.answers_timer.is_none() {
            let front = connection.window.front() as u32;
            connection.answers_timer = Some(self.wheel.arm(due.0, Timer::Answers(id, front)));
        }
    }

    /// The publish that waited longest is the one of before: it is overdue.
    pub(super) fn on_answers_timer(&mut self, now: Now, id: ConnectionId, front: u32, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.answers_timer = None;
        if !connection.is_online() || connection.window.len() == 0 {
            return;
        }
        if connection.window.front() as u32 != front {
            return self.watch_answers(now, id);
        }
        self.release_unanswered(id);
        self.counters.answers_overdue += 1;
        self.disconnect(now, id, ReasonCode::SERVER_BUSY, None, out);
    }
}
