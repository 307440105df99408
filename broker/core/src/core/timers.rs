//! What the wheel wakes the core for.

use mqtt::ReasonCode;

use super::Core;
use crate::connection::Phase;
use crate::identity::{ConnectionId, Incarnation};
use crate::input::{Close, Outputs};
use crate::notice::Event;
use crate::time::{Mono, Now, Wall};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The time to CONNECT, the keep alive, or the end of lingering: the connection's phase says which.
    Connection(ConnectionId),
    /// What a client has shown to be let in runs out.
    Expiry(ConnectionId),
    /// A slowed publisher may go on.
    Slowed(ConnectionId),
    /// A connection may send again.
    Outbound(ConnectionId),
    /// The publish of this number was in front of a connection's window: does it still wait?
    Answers(ConnectionId, u32),
    /// Requests to other cores may be overdue.
    Requests,
    /// A session expires, or its will is due.
    Session(Incarnation),
    /// A retained message may have expired; which one stands in the core's table of them.
    Retained(u32),
    /// The orderly stop goes on.
    Stop,
}

const _: () = assert!(size_of::<Timer>() <= 16);

/// Timers that fire in one turn at most.
const FIRED_MAX: usize = 10_000;

/// The moment on the monotonic clock at which the wall clock will show `at`.
pub(super) fn due(now: Now, at: Wall) -> Mono {
    let milliseconds = at.0.saturating_sub(now.wall.0);
    Mono(now.monotonic.0.saturating_add(milliseconds.saturating_mul(1_000_000)))
}

impl Core {
    pub(super) fn on_timers(&mut self, now: Now, out: &mut Outputs) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(now.monotonic.0, &mut fired, FIRED_MAX);
        for timer in fired.drain(..) {
            self.on_timer(now, timer, out);
        }
        self.fired = fired;
    }

    fn on_timer(&mut self, now: Now, timer: Timer, out: &mut Outputs) {
        match timer {
            Timer::Connection(id) => self.on_connection_timer(now, id, out),
            Timer::Expiry(id) => self.on_expiry_timer(now, id, out),
            Timer::Slowed(id) => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.slowed = false;
                    self.resume(id);
                }
            }
            Timer::Outbound(id) => self.on_outbound_timer(now, id, out),
            Timer::Answers(id, front) => self.on_answers_timer(now, id, front, out),
            Timer::Requests => self.on_requests_timer(),
            Timer::Session(incarnation) => {
                let mut effects = std::mem::take(&mut self.effects);
                self.inboxes.on_due(incarnation, now.wall, &mut effects);
                self.settle(now, effects, out);
            }
            Timer::Retained(slot) => self.on_retained_timer(now, slot),
            Timer::Stop => self.on_stop_timer(now, out),
        }
    }

    fn on_connection_timer(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        let Some(connection) = self.connections.get(id) else { return };
        match connection.phase {
            Phase::Connecting | Phase::Deciding(_) | Phase::Authenticating(_) => {
                self.counters.connect_timeouts += 1;
                self.notice(id, Event::ConnectTimeout, out);
                self.abort(id, out);
            }
            // A timer of the phase before may have fired in the same turn in which the lingering began.
            Phase::Closing if now.monotonic < connection.last_received.after(self.linger_time()) => {}
            Phase::Closing => out.close.push((id, Close::Abort)),
            Phase::Online => {
                let deadline = keep_alive_deadline(connection);
                let held_back = connection.slowed && connection.paced;
                if now.monotonic >= deadline && held_back {
                    // What it sends lies before our door: it is not read until its rate allows it.
                    self.arm_keep_alive_held_back(now, id);
                } else if now.monotonic >= deadline {
                    // [MQTT-3.1.2-22]
                    self.counters.keep_alive_expired += 1;
                    self.disconnect(now, id, ReasonCode::KEEP_ALIVE_TIMEOUT, None, out);
                } else {
                    self.arm_keep_alive(now, id);
                }
            }
        }
    }

    /// Arms the keep alive anew, from when a packet last came; each packet only notes the time.
    pub(super) fn arm_keep_alive(&mut self, _now: Now, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.keep_alive_ms > 0
        {
            connection.timer = self.wheel.arm(keep_alive_deadline(connection).0, Timer::Connection(id));
        }
    }
}

impl Core {
    fn arm_keep_alive_held_back(&mut self, now: Now, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.last_received = now.monotonic;
            self.arm_keep_alive(now, id);
        }
    }
}

fn keep_alive_deadline(connection: &crate::connection::Connection) -> Mono {
    // While we do not read it, a client that reads us is alive.
    let progress = if connection.stalled { connection.last_progress } else { Mono(0) };
    Mono(connection.last_received.max(progress).0 + u64::from(connection.keep_alive_ms) * 1_000_000)
}
