//! The end of a whole node, without notice, and its next start: connections are gone, cores and what was on
//! its way between them are forgotten, and the logs hold what the disks kept.

use std::collections::VecDeque;
use std::sync::Arc;

use broker_core::Core;
use broker_core::config::Config;
use broker_core::identity::CoreId;
use broker_core::time::{Mono, Wall};
use wal::simulated_disk::Crash;

use super::disks::Disks;
use super::socket::{Place, Stage};
use super::space::Space;
use super::{Hosted, Node, now};
use crate::history::Fact;

/// How much later than it did the process may be said to have ended, milliseconds.
const GRACE_MS_MAX: u64 = 2_000;

impl Node {
    /// The process ends. What the clients' kernels have stays readable, or, when the machine is gone or sends
    /// resets, is lost.
    pub fn crash(&mut self, at: Mono, crash: Crash) {
        self.trace.note(at, format_args!("crash: {crash:?}"));
        self.counted = self.counters();
        for socket in self.sockets.iter_mut().filter(|socket| socket.place != Place::Gone) {
            socket.place = Place::Gone;
            socket.stage = Stage::Closed;
            socket.end = true;
            socket.to_node.clear();
            socket.sent_unreported = 0;
            socket.closed_unreported = false;
            if self.random.one_in(2) {
                socket.to_client.clear();
            }
        }
        self.disks.as_mut().expect("only a node with disks is started again").crash(crash);
        // Known to a second or two.
        self.ended = Wall(now(at).wall.0 + self.random.below(GRACE_MS_MAX));
        self.cores.clear();
        self.mailboxes.clear();
        self.facts.push(Fact::Crashed);
    }

    /// Starts from what the disks have, with so many cores.
    pub fn start(&mut self, at: Mono, cores: u16) {
        self.trace.note(at, format_args!("start with {cores} cores"));
        let (config, logs) = (&self.config, self.config.logs());
        self.config = Arc::new(Config { cores, logs, ..Config::clone(config) });
        self.starts += 1;
        let (seed, ended) = (self.random.bits(), self.ended);
        let disks = self.disks.as_mut().expect("only a node with disks is started again");
        for id in (0..cores).map(CoreId) {
            let logs = disks.open(id, cores).unwrap_or_else(|error| {
                self.facts.push(Fact::Damaged(error));
                disks.make(id, cores)
            });
            let core = Core::open(Arc::clone(&self.config), id, self.starts, seed, logs, ended, now(at));
            self.cores.push(Hosted::new(core, cores, at));
        }
        let pairs = usize::from(cores) * usize::from(cores);
        self.mailboxes = (0..pairs).map(|_| VecDeque::new()).collect();
        if self.disks.as_ref().is_some_and(|disks| disks.space == Space::Low) {
            self.tell_space();
        }
        self.note_fullness();
    }
}

/// The cores of a node whose disks are empty, or that has none.
pub(super) fn first_cores(config: &Arc<Config>, disks: Option<&Disks>, seed: u64, at: Mono) -> Vec<Hosted> {
    let cores = (0..config.cores).map(CoreId).map(|id| {
        let core = match disks {
            None => Core::new(Arc::clone(config), id, 1, seed, now(at)),
            Some(disks) => {
                let logs = disks.make(id, config.cores);
                Core::open(Arc::clone(config), id, 1, seed, logs, now(at).wall, now(at))
            }
        };
        Hosted::new(core, config.cores, at)
    });
    cores.collect()
}
