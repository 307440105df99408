//! DISCONNECT from a client.

use mqtt::{Disconnect, ReasonCode, Version};

use super::Core;
use super::greet::granted_expiry;
use crate::identity::ConnectionId;
use crate::input::{Close, Outputs};
use crate::notice::Event;
use crate::time::Now;

impl Core {
    pub(super) fn on_disconnect(
        &mut self,
        now: Now,
        id: ConnectionId,
        disconnect: &Disconnect<'_>,
        out: &mut Outputs,
    ) {
        let Some(connection) = self.connections.get(id) else { return };
        if !connection.is_online() {
            // The client gives up during authentication.
            self.notice(id, Event::AuthenticationAborted, out);
            self.linger(now, id, Close::Flush, out);
            return;
        }
        let mut expiry = None;
        if connection.version == Version::V5 {
            let settings = connection.settings();
            let present = self.sessions.get(connection.session).expiry_seconds();
            expiry = disconnect.session_expiry.map(|seconds| granted_expiry(seconds, settings));
            // A session that was to end with its connection cannot be kept (3.14.2.2.2).
            if present == 0 && expiry.is_some_and(|seconds| seconds > 0) {
                self.refuse(now, id, ReasonCode::PROTOCOL_ERROR, out);
                return;
            }
        }
        // [MQTT-3.14.4-3]: only a normal end discards the will.
        let keep_will = disconnect.reason != ReasonCode::SUCCESS;
        self.notice(id, Event::Left(disconnect.reason), out);
        self.leave_session(now, id, keep_will, expiry, out);
        self.linger(now, id, Close::Flush, out);
    }
}
