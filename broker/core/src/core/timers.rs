//! What the wheel wakes the core for.

use std::time::Duration;

use mqtt::ReasonCode;

use super::Core;
use crate::connection::{Connection, Phase, Pressure};
use crate::identity::{ConnectionId, Incarnation};
use crate::input::{Close, Outputs};
use crate::notice::Event;
use crate::storage::LogSlot;
use crate::time::{Mono, Now, ReadingTime, Wall};

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
    /// A retained message of this log's range may have expired.
    Retained(LogSlot),
    /// What waits for sessions is to be measured.
    Measure,
    /// A 3.x client may have to be sent again what it has not acknowledged.
    Resend(ConnectionId),
    /// Publishers may be forgotten.
    Forget,
    /// What clients have acknowledged has waited long enough.
    Held,
    /// The orderly stop goes on.
    Stop,
}

const _: () = assert!(size_of::<Timer>() <= 16);

/// When a client's time is looked at again while none is read for want of credit.
const PAUSED_RETRY: Duration = Duration::from_secs(1);

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
                    connection.slowed = Pressure::NONE;
                    self.resume(id);
                }
            }
            Timer::Outbound(id) => self.on_outbound_timer(now, id, out),
            Timer::Answers(id, front) => self.on_answers_timer(now, id, front, out),
            Timer::Requests => self.on_requests_timer(),
            Timer::Session(incarnation) => self.on_session_timer(incarnation, out),
            Timer::Retained(slot) => self.on_retained_timer(now, slot),
            Timer::Measure => self.on_measure_timer(),
            Timer::Resend(id) => self.on_resend_timer(now, id, out),
            Timer::Forget => self.on_forget_timer(now, out),
            Timer::Held => self.on_held_timer(out),
            Timer::Stop => self.on_stop_timer(now, out),
        }
    }

    fn on_connection_timer(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        let (linger, heard) = (self.linger_time(), self.reading_time(now));
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.phase {
            Phase::Connecting | Phase::Deciding(_) | Phase::Authenticating(_)
                if self.reading.is_pausing() =>
            {
                // What it sends lies in its socket.
                connection.timer = self.wheel.arm(now.monotonic.after(PAUSED_RETRY).0, Timer::Connection(id));
            }
            Phase::Connecting | Phase::Deciding(_) | Phase::Authenticating(_) => {
                self.counters.connect_timeouts += 1;
                self.notice(id, Event::ConnectTimeout, out);
                self.abort(id, out);
            }
            // It has said all that it has to: the rest is ours, and a log on a full disk may have no room even for
            // who comes back.
            Phase::HearingOut | Phase::Attaching => {
                self.counters.connect_timeouts += 1;
                self.refuse_connect(now, id, ReasonCode::SERVER_UNAVAILABLE, None, out);
            }
            // A timer of the phase before may have fired in the same turn in which the lingering began, or nobody
            // was read meanwhile.
            Phase::Closing if heard.since(connection.last_received) < linger => {
                connection.timer = self.wheel.arm(now.monotonic.after(linger).0, Timer::Connection(id));
            }
            Phase::Closing => out.close.push((id, Close::Abort)),
            Phase::Online => {
                let held_back = connection.slowed != Pressure::NONE && connection.paced;
                let silent = keep_alive_left(connection, now, heard).is_zero();
                if silent && !held_back {
                    // [MQTT-3.1.2-22]
                    self.counters.keep_alive_expired += 1;
                    return self.disconnect(now, id, ReasonCode::KEEP_ALIVE_TIMEOUT, None, out);
                }
                if silent {
                    // What it sends lies before our door: it is not read until its rate allows it.
                    connection.last_received = heard;
                }
                self.arm_keep_alive(now, id);
            }
        }
    }

    /// Arms the keep alive anew, from when a packet last came; each packet only notes the time.
    pub(super) fn arm_keep_alive(&mut self, now: Now, id: ConnectionId) {
        let (heard, pausing) = (self.reading_time(now), self.reading.is_pausing());
        if let Some(connection) = self.connections.get_mut(id)
            && connection.keep_alive_ms > 0
        {
            let left = keep_alive_left(connection, now, heard);
            let left = if pausing { left.max(PAUSED_RETRY) } else { left };
            connection.timer = self.wheel.arm(now.monotonic.after(left).0, Timer::Connection(id));
        }
    }
}

/// For how long a client may go on being silent.
fn keep_alive_left(connection: &Connection, now: Now, heard: ReadingTime) -> Duration {
    let silence = heard.since(connection.last_received);
    let silence = match connection.stalled {
        // While we do not read it, a client that reads us is alive.
        true => silence.min(now.monotonic.since(connection.last_progress)),
        false => silence,
    };
    Duration::from_millis(u64::from(connection.keep_alive_ms)).saturating_sub(silence)
}
