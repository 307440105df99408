//! What an operator wants to know of what happens to messages: why one was delivered or not.

use crate::network::Network;
use crate::notice::Notice;
use crate::time::{Mono, Now};

/// A trace to be started, on all cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its name. The asker chooses it.
    pub number: u64,
    /// What it follows.
    pub of: Traced,
    /// How long.
    pub seconds: u32,
    /// Lines that each core keeps.
    pub lines_max: u32,
}

/// What a trace follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traced {
    /// What happens to a client, to messages for it, and to messages from it wherever they go.
    Client {
        /// Its tenant.
        tenant: Box<str>,
        /// Its id.
        client: Box<str>,
    },
    /// What happens to messages on topics.
    Topic {
        /// Whose.
        tenant: Box<str>,
        /// Which.
        filter: Box<str>,
    },
    /// What happens on connections from addresses, and to messages from there wherever they go.
    Address(Network),
}

/// How a trace stands on one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceState {
    /// What was asked for.
    pub trace: Trace,
    /// When it began.
    pub begun: Mono,
    /// Its time is not over, and nobody has stopped it.
    pub running: bool,
    /// Lines there are.
    pub lines: u32,
    /// Lines for which there was no room.
    pub missed: u64,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceLine {
    /// When the turn began in which it happened.
    pub at: Now,
    /// What happened, and to whom.
    pub notice: Notice,
}
