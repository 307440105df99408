//! The orderly stop: clients are told and closed at a bounded rate, so that they do not all come to the
//! next server at once.

use std::time::Duration;

use mqtt::ReasonCode;

use super::Core;
use super::timers::Timer;
use crate::connection::Phase;
use crate::input::Outputs;
use crate::time::Now;

/// How far the stop has come.
pub(super) struct Stopping {
    /// Connections before this slot are told.
    slot: u32,
}

/// The rate is kept in steps of this length.
const STEP: Duration = Duration::from_millis(100);

impl Core {
    pub(super) fn on_stop(&mut self, now: Now, out: &mut Outputs) {
        if self.stopping.is_none() {
            self.stopping = Some(Stopping { slot: 0 });
            self.on_stop_timer(now, out);
        }
    }

    pub(super) fn on_stop_timer(&mut self, now: Now, out: &mut Outputs) {
        let steps_per_second = 1000 / u32::try_from(STEP.as_millis()).expect("below a second");
        let batch = self.config.stop_disconnects_per_second.div_ceil(steps_per_second);
        let mut slot = self.stopping.as_ref().map_or(0, |stopping| stopping.slot);
        for _ in 0..batch {
            let Some(id) = self.connections.at_or_after(slot) else { break };
            slot = id.slot + 1;
            match self.connections.get(id).map(|connection| &connection.phase) {
                Some(Phase::Online) => self.disconnect(now, id, ReasonCode::SERVER_SHUTTING_DOWN, None, out),
                Some(
                    Phase::Deciding(_) | Phase::Authenticating(_) | Phase::HearingOut | Phase::Attaching,
                ) => {
                    self.refuse_connect(now, id, ReasonCode::SERVER_UNAVAILABLE, None, out);
                }
                Some(Phase::Connecting) => self.abort(id, out), // nothing was asked that could be answered
                Some(Phase::Closing) | None => {}               // it was told something else
            }
        }
        self.stopping = Some(Stopping { slot });
        if self.connections.at_or_after(slot).is_some() {
            self.wheel.arm(now.monotonic.after(STEP).0, Timer::Stop);
        }
    }
}
