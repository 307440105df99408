//! Hot path for connections that have rates, and for them alone: what comes too fast is left unread, what goes too
//! fast is left unsent, until a timer says that it is time.

use super::Core;
use super::receive::mark_dirty;
use super::timers::Timer;
use crate::connection::{Connection, Pace, Pressure};
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::limit::Limit;
use crate::time::Now;

/// How long a connection that may send nothing saves up before it goes on, nanoseconds: a few sends in a second
/// cost less than one for each byte.
const OUTBOUND_PAUSE: u64 = 50_000_000;

impl Connection {
    /// Begins to count, if its settings have rates or its tenant's have.
    pub(super) fn start_pace(&mut self, now: Now, by_tenant: bool) {
        let free = || by_tenant.then(|| Pace::free(now.monotonic));
        if let Some(pace) = Pace::new(self.settings(), now.monotonic).or_else(free) {
            self.extras().pace = Some(Box::new(pace));
            self.paced = true;
        }
    }

    fn pace(&mut self) -> Option<&mut Pace> {
        self.extras.as_mut()?.pace.as_deref_mut()
    }

    /// How many of its unsent bytes may leave now.
    pub(super) fn sendable_bytes(&self) -> usize {
        let pace = self.extras.as_ref().filter(|_| self.paced).and_then(|extras| extras.pace.as_ref());
        pace.map_or(usize::MAX, |pace| pace.outbound_open())
    }

    /// A packet of so many bytes is about to be processed.
    pub(super) fn charge_packet(&mut self, now: Now, bytes: usize, is_publish: bool) {
        if let Some(pace) = self.pace() {
            pace.on_packet(now.monotonic, bytes, is_publish);
        }
    }
}

impl Core {
    /// Whether a connection's next packet has to wait; then it goes on by itself when its time has come.
    pub(super) fn hold_back(&mut self, now: Now, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let own = connection.pace().and_then(|pace| pace.inbound_wait(now.monotonic));
        let Some((until, limit)) = own.max(self.tenant_holds_back(now, id)) else { return false };
        let Some(connection) = self.connections.get_mut(id) else { return false };
        connection.slowed = Pressure::FULL;
        let tenant = connection.tenant;
        self.wheel.arm(until.0, Timer::Slowed(id));
        self.bite(tenant, limit);
        true
    }

    /// A paced connection has sent so many bytes.
    pub(super) fn charge_sent(&mut self, now: Now, id: ConnectionId, bytes: usize, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(pace) = connection.pace() else { return };
        pace.on_sent(now.monotonic, bytes);
        if pace.outbound_open() > 0 {
            if !connection.send.is_empty() {
                mark_dirty(connection, out);
            }
        } else if !std::mem::replace(&mut pace.outbound_waits, true) {
            self.counters.limit(Limit::OutboundRate);
            self.wheel.arm(now.monotonic.0 + OUTBOUND_PAUSE, Timer::Outbound(id));
        }
    }

    /// A paced connection may send again.
    pub(super) fn on_outbound_timer(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        if let Some(pace) = self.connections.get_mut(id).and_then(Connection::pace) {
            pace.outbound_waits = false;
            self.charge_sent(now, id, 0, out);
        }
    }
}
