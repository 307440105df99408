//! One node: the production cores, hosted in one thread as the shell hosts them in many, with every freedom
//! the shell has drawn from the seed.
//!
//! The contract is `broker_core::input`. Free are: which core has the next turn and how many inputs fall
//! into it and in which order, how long messages between cores take (first in, first out for each pair),
//! how many bytes each receive and each send carries, and whether what a send or a close came to is told in
//! the same turn (as the shell does) or in a later one.

mod act;
mod breach;
mod disks;
mod restart;
mod socket;
mod space;
mod turn;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use broker_core::Core;
use broker_core::access::Decided;
use broker_core::config::Config;
use broker_core::counters::{Counters, DROP_REASONS};
use broker_core::identity::ConnectionId;
use broker_core::input::{Handover, Outputs};
use broker_core::peer::PeerMessage;
use broker_core::storage::StorageAnswer;
use broker_core::time::{Mono, Now, Wall};
use mqtt::Version;

pub use self::breach::Breach;
use self::disks::Disks;
use self::socket::{Place, Socket, Stage};
use crate::history::{Fact, Link};
use crate::random::Random;
use crate::scenario::{DiskHabits, Habits};
use crate::trace::Trace;

/// The wall clock when the monotonic one is 0: 14 November 2023.
const WALL_EPOCH_MS: u64 = 1_700_000_000_000;

/// Both clocks at a moment of virtual time.
#[must_use]
pub fn now(at: Mono) -> Now {
    Now { monotonic: at, wall: Wall(WALL_EPOCH_MS + at.0 / 1_000_000) }
}

/// All cores, the mailboxes between them and the sockets of all clients.
pub struct Node {
    cores: Vec<Hosted>,
    /// From core i to core j at i × cores + j.
    mailboxes: Vec<VecDeque<Letter>>,
    /// By [`Link`].
    sockets: Vec<Socket>,
    /// There if its logs outlive it.
    disks: Option<Disks>,
    config: Arc<Config>,
    /// How often it has been started.
    starts: u64,
    /// When it ended last, as far as its next start knows.
    ended: Wall,
    /// What its former lives have counted.
    counted: Counters,
    habits: Habits,
    random: Random,
    /// What happened, for the history.
    facts: Vec<Fact>,
    /// What crossed the cores' borders.
    pub trace: Trace,
    /// What it does wrong, for tests of the checkers.
    pub breach: Option<Breach>,
    /// The history says that a log takes nothing new.
    told_full: bool,
}

/// One core and what its host keeps for it.
struct Hosted {
    core: Core,
    slots: Vec<Slot>,
    outputs: Outputs,
    /// Answers to questions, and when they are ready.
    answers: Vec<(Mono, Decided)>,
    /// What the disks have done.
    stored: VecDeque<StorageAnswer>,
    /// Configurations that it has not been told of yet.
    configs: VecDeque<Arc<Config>>,
    last_turn: Mono,
}

impl Hosted {
    fn new(core: Core, cores: u16, at: Mono) -> Hosted {
        Hosted {
            core,
            slots: Vec::new(),
            outputs: Outputs::new(cores),
            answers: Vec::new(),
            stored: VecDeque::new(),
            configs: VecDeque::new(),
            last_turn: at,
        }
    }
}

/// A slot of the connection table.
#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u32,
    link: Option<Link>,
}

/// Something on its way between two cores.
struct Letter {
    due: Mono,
    item: Item,
}

enum Item {
    Messages(Vec<PeerMessage>),
    Socket(Link, Box<Handover>),
}

impl Node {
    /// A node that has just started, in memory or with empty disks.
    #[must_use]
    pub fn new(
        config: &Arc<Config>,
        (habits, disk): (Habits, Option<&DiskHabits>),
        mut random: Random,
        at: Mono,
        trace: Trace,
    ) -> Node {
        let seed = random.bits();
        let disks = disk.map(|habits| Disks::new(config, habits, random.split()));
        let pairs = usize::from(config.cores) * usize::from(config.cores);
        Node {
            cores: restart::first_cores(config, disks.as_ref(), seed, at),
            mailboxes: (0..pairs).map(|_| VecDeque::new()).collect(),
            sockets: Vec::new(),
            disks,
            config: Arc::clone(config),
            starts: 1,
            ended: Wall(0),
            counted: Counters::default(),
            habits,
            random,
            facts: Vec::new(),
            trace,
            breach: None,
            told_full: false,
        }
    }

    /// How many cores it has.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// What has happened since this was last asked.
    pub fn take_facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    /// Gives all cores another configuration, each as soon as its turn comes.
    pub fn configure(&mut self, at: Mono, config: &Config) {
        let Config { cores, logs, .. } = *self.config;
        self.config = Arc::new(Config { cores, logs, ..Config::clone(config) });
        self.trace.note(at, format_args!("configure: {:?}", self.config.settings));
        for hosted in &mut self.cores {
            hosted.configs.push_back(Arc::clone(&self.config));
        }
    }

    // The clients' side of the sockets.

    /// A client connects; the kernel gives its socket to one core's listener.
    pub fn open(&mut self, version: Version, core: u16) -> Link {
        let (low, high) = self.habits.socket_bytes;
        let room = self.random.between(low, high) as usize;
        self.sockets.push(Socket::new(version, core, room));
        Link(self.sockets.len() as u32 - 1)
    }

    /// Does the client's kernel take more?
    #[must_use]
    pub fn takes(&self, link: Link) -> bool {
        self.socket(link).to_node.len() < 64 * 1024
    }

    /// A client writes.
    pub fn write(&mut self, link: Link, bytes: &[u8]) {
        let socket = self.socket_mut(link);
        assert!(!socket.fin && !socket.reset, "a client does not write after it has left");
        if socket.stage != Stage::Closed {
            socket.to_node.extend(bytes);
        }
    }

    /// A client reads at most so many bytes.
    pub fn read(&mut self, link: Link, bytes_max: usize, into: &mut Vec<u8>) -> usize {
        let socket = self.socket_mut(link);
        let bytes = socket.to_client.len().min(bytes_max);
        into.extend(socket.to_client.drain(..bytes));
        bytes
    }

    /// How much a client could read.
    #[must_use]
    pub fn readable(&self, link: Link) -> usize {
        self.socket(link).to_client.len()
    }

    /// Has the client read everything there will ever be?
    #[must_use]
    pub fn has_ended(&self, link: Link) -> bool {
        self.socket(link).end && self.socket(link).to_client.is_empty()
    }

    /// A client closes its socket.
    pub fn leave(&mut self, link: Link, reset: bool) {
        let socket = self.socket_mut(link);
        socket.to_client.clear();
        if reset {
            socket.reset = true;
        } else {
            socket.fin = true;
        }
        self.facts.push(Fact::Left { link, reset });
    }

    fn socket(&self, link: Link) -> &Socket {
        &self.sockets[link.0 as usize]
    }

    fn socket_mut(&mut self, link: Link) -> &mut Socket {
        &mut self.sockets[link.0 as usize]
    }

    // What the simulation asks about the node.

    /// When the first core wants to be called for its timers.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        self.cores.iter().filter_map(|hosted| hosted.core.next_timeout()).min()
    }

    /// When the next message between cores, or answer, is due.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Mono> {
        let letters = self.mailboxes.iter().filter_map(|mailbox| mailbox.front()).map(|letter| letter.due);
        let answers = self.cores.iter().flat_map(|hosted| &hosted.answers).map(|(due, _)| *due);
        letters.chain(answers).min()
    }

    /// How long the core that has waited longest has had something to do and no turn.
    #[must_use]
    pub fn most_neglected(&self, at: Mono) -> Option<(usize, Duration)> {
        let busy = (0..self.cores.len()).filter(|core| self.has_work(*core, at));
        busy.map(|core| (core, at.since(self.cores[core].last_turn))).max_by_key(|(_, waited)| *waited)
    }

    /// Why the node is not at rest; `None` if it is.
    #[must_use]
    pub fn unrest(&self, at: Mono) -> Option<String> {
        if self.next_arrival().is_some() {
            return Some("messages between cores or answers are on their way".to_owned());
        }
        for (index, socket) in self.sockets.iter().enumerate() {
            let matter = match socket.place {
                Place::Gone => continue,
                Place::Listening(_) => "not accepted",
                Place::Travelling => "travelling",
                Place::Open(core, id) => {
                    let unsent = self.cores[usize::from(core)].core.unsent(id).any(|slice| !slice.is_empty());
                    match socket {
                        Socket { sent_unreported: 1.., .. } | Socket { closed_unreported: true, .. } => {
                            "has reports"
                        }
                        _ if unsent && socket.stage != Stage::Lingering => "has unsent bytes",
                        _ if socket.is_readable() && socket.stage != Stage::Closed => {
                            if socket.held {
                                "has unread bytes that its core does not want"
                            } else {
                                "has unread bytes"
                            }
                        }
                        _ => continue,
                    }
                }
            };
            return Some(format!("connection {index} {matter}"));
        }
        if !self.disks_are_idle() || self.has_unflushed() {
            return Some("the disks have something to do".to_owned());
        }
        let due = |hosted: &Hosted| {
            !hosted.stored.is_empty() || hosted.core.next_timeout().is_some_and(|due| due <= at)
        };
        let core = self.cores.iter().position(due)?;
        Some(format!("core {core} wants to be called at once"))
    }

    /// The counters of all cores together.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut sum = self.counted.clone();
        for hosted in &self.cores {
            let counters = hosted.core.counters();
            sum.connections_accepted += counters.connections_accepted;
            sum.clients_greeted += counters.clients_greeted;
            sum.handovers += counters.handovers;
            sum.protocol_errors += counters.protocol_errors;
            sum.keep_alive_expired += counters.keep_alive_expired;
            sum.take_overs += counters.take_overs;
            sum.messages_crossed += counters.messages_crossed;
            sum.disk_waits += counters.disk_waits;
            sum.match_hits += counters.match_hits;
            sum.match_misses += counters.match_misses;
            sum.publishers_slowed += counters.publishers_slowed;
            for (sum, count) in sum.limited.0.iter_mut().zip(&counters.limited.0) {
                *sum += count;
            }
            for qos in 0..3 {
                sum.publishes_received[qos] += counters.publishes_received[qos];
                sum.publishes_sent[qos] += counters.publishes_sent[qos];
            }
            for reason in 0..DROP_REASONS {
                sum.dropped[reason] += counters.dropped[reason];
            }
        }
        sum
    }

    /// Is there anything to do for a core, besides what it is free to leave?
    #[must_use]
    pub fn has_work(&self, core: usize, at: Mono) -> bool {
        let hosted = &self.cores[core];
        let due = hosted.core.next_timeout().is_some_and(|due| due <= at);
        let mail = (0..self.cores.len()).any(|from| {
            let mailbox = &self.mailboxes[from * self.cores.len() + core];
            mailbox.front().is_some_and(|letter| letter.due <= at)
        });
        let answers = hosted.answers.iter().any(|(due, _)| *due <= at);
        let stored = !hosted.stored.is_empty() || !hosted.configs.is_empty();
        due || mail
            || answers
            || stored
            || self.sockets.iter().any(|socket| self.socket_has_work(core, socket))
    }

    fn socket_has_work(&self, core: usize, socket: &Socket) -> bool {
        match socket.place {
            Place::Listening(listener) => usize::from(listener) == core,
            Place::Open(place, id) if usize::from(place) == core => {
                let readable = socket.is_readable()
                    && !socket.held
                    && socket.stage != Stage::Closed
                    && self.cores[core].core.wants_clients();
                let unsent = socket.room() > 0
                    && socket.stage != Stage::Lingering
                    && self.cores[core].core.unsent(id).any(|slice| !slice.is_empty());
                socket.sent_unreported > 0 || socket.closed_unreported || readable || unsent
            }
            _ => false,
        }
    }

    /// The connection in a slot, if it is still the one that is meant.
    fn link_at(&self, core: usize, id: ConnectionId) -> Option<Link> {
        let slot = self.cores[core].slots.get(id.slot as usize)?;
        slot.link.filter(|_| slot.generation == id.generation)
    }
}
