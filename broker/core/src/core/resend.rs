//! Sending again on the same connection, for 3.x clients whose tenant asks for it (`resend_seconds`). MQTT 5 forbids it
//! [MQTT-4.4.0-1], and a connection loses nothing: it is for clients that do.

use std::time::Duration;

use mqtt::Version;

use super::Core;
use super::timers::Timer;
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::time::Now;

impl Core {
    /// A client is greeted.
    pub(super) fn arm_resend(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let seconds = connection.settings().resend_seconds;
        if seconds > 0 && connection.version != Version::V5 {
            let after = Duration::from_secs(u64::from(seconds));
            self.wheel.arm(now.monotonic.after(after).0, Timer::Resend(id));
        }
    }

    pub(super) fn on_resend_timer(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id).filter(|it| it.is_online()) else { return };
        let (seconds, times_max) =
            (connection.settings().resend_seconds, connection.settings().resend_times_max);
        let quiet = now.monotonic.since(connection.last_progress) >= Duration::from_secs(u64::from(seconds));
        let slot = connection.session;
        let session = self.sessions.get(slot);
        let waits = match &session.stored {
            Some(stored) => stored.is_in_flight(),
            None => session.queue.is_in_flight(),
        };
        let resent = &mut connection.extras().resent;
        if !quiet {
            *resent = 0;
        } else if waits && *resent < times_max && connection.send.is_empty() {
            connection.extras().resent += 1;
            self.counters.resends += 1;
            self.rewind(slot);
            self.pump(now, id, out);
        }
        self.arm_resend(now, id);
    }
}
