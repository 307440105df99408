//! Host checks: what a machine must offer for a broker of a wanted size, what it does offer, and the
//! command that mends the difference.
//!
//! [`Host::read`] is the only function with I/O: it takes a snapshot of plain facts from `/proc`, `/sys`
//! and two system calls. [`inspect`] compares that snapshot with [`Wanted`] and is pure, so every check is
//! tested on hosts that do not exist. Nothing here changes the host; remedies are text. Called by the
//! binary's `doctor`, never by a core.

mod checks;
mod finding;
mod host;
mod report;

use std::path::PathBuf;

pub use finding::{Finding, Level, exit_code};
pub use host::{
    ClockSource, Device, Disk, Flush, Host, Interface, Interrupt, Limit, Memory, Processors, RingProbe, Roots,
};
pub use report::render;

/// What the host is asked to carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Client connections open at the same time.
    pub connections: u32,
    /// Broker cores: pinned threads, each with its own ring.
    pub cores: u16,
    /// Where the broker keeps its log. [`Host::read`] looks at its disk, and times flushes there, only when
    /// this is given.
    pub data_dir: Option<PathBuf>,
    /// Connections that a listener lets wait for its accept: the backlog it passes to `listen`.
    pub backlog: u32,
    /// Connections this host opens itself to one address and port, as load generators and bridges do.
    pub outgoing: u32,
}

impl Wanted {
    /// A broker of that size with the backlog that its listeners ask for, that opens no connections
    /// itself, and whose disk is not looked at.
    pub fn new(connections: u32, cores: u16) -> Self {
        Self { connections, cores: cores.max(1), data_dir: None, backlog: 16 * 1024, outgoing: 0 }
    }
}

/// Compares a host with what is wanted of it. Findings come in a fixed order, one per check and, where
/// there are several, per network interface; a check whose facts the host does not have is left out.
pub fn inspect(host: &Host, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Vec::new();
    checks::limits(host, wanted, &mut findings);
    checks::ring(host, wanted, &mut findings);
    checks::sockets(host, wanted, &mut findings);
    checks::tcp_memory(host, wanted, &mut findings);
    checks::interfaces(host, wanted, &mut findings);
    checks::processors(host, wanted, &mut findings);
    checks::memory(host, wanted, &mut findings);
    checks::disk(host, wanted, &mut findings);
    findings
}
