//! The core: inputs in, outputs out, one turn at a time.

use std::sync::Arc;

use crate::config::Config;
use crate::counters::Counters;
use crate::identity::{ConnectionId, CoreId};
use crate::input::{Input, Outputs};
use crate::time::{Mono, Now};

/// Everything one CPU of a node owns. See the crate's documentation.
pub struct Core {
    counters: Counters,
}

impl Core {
    /// A core of a node that has just started. `node_incarnation` is the start's own number, greater than
    /// that of any earlier start; `seed` feeds everything that looks random.
    #[must_use]
    pub fn new(config: Arc<Config>, id: CoreId, node_incarnation: u64, seed: u64, now: Now) -> Core {
        let _ = (config, id, node_incarnation, seed, now);
        Core { counters: Counters::default() }
    }

    /// Takes one input. What it causes is appended to `out`.
    pub fn on_input(&mut self, now: Now, input: Input<'_>, out: &mut Outputs) {
        let _ = (now, input, out);
    }

    /// Does what is due: timers, and what an earlier turn's budget left undone. To be called when
    /// [`Core::next_timeout`] has come; calling it early does no harm.
    pub fn on_timeout(&mut self, now: Now, out: &mut Outputs) {
        let _ = (now, out);
    }

    /// Ends a turn: everything gathered per turn is worked off and leaves. To be called once after the
    /// turn's inputs, before the host acts on `out`.
    pub fn end_turn(&mut self, now: Now, out: &mut Outputs) {
        let _ = (now, out);
    }

    /// When [`Core::on_timeout`] wants to be called next; a time in the past means at once.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        None
    }

    /// Whether the host should receive for this connection. When it becomes true again the connection is
    /// in [`Outputs::resumed`].
    #[must_use]
    pub fn wants_bytes(&self, connection: ConnectionId) -> bool {
        let _ = connection;
        true
    }

    /// Whether clients should be read at all: false while another core has not caught up with what this
    /// one sent it. To be asked once a turn; messages from that core end it.
    #[must_use]
    pub fn wants_clients(&self) -> bool {
        true
    }

    /// The connection's unsent bytes, in order; empty for a connection that is gone.
    pub fn unsent(&self, connection: ConnectionId) -> impl Iterator<Item = &[u8]> {
        let _ = connection;
        std::iter::empty()
    }

    /// What this core has counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// True when an orderly stop has told every client and nothing is left to send.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        false
    }
}
