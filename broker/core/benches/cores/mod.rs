//! Cores in one thread, with their mailboxes, and how long their turns take. A turn takes all that there is, as the
//! shell's does; what it sends to clients is taken at once, and not counted.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(dead_code, reason = "each benchmark uses some of it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker_core::Core;
use broker_core::config::Config;
use broker_core::identity::{ConnectionId, CoreId};
use broker_core::input::{Input, Outputs};
use broker_core::peer::PeerMessage;
use broker_core::sight::{Answer, Ask, Said, What};
use broker_core::time::{Mono, Now, Wall};
use mqtt::encode::{self, SubscribeOut};
use mqtt::{Connect, PacketId, QoS, RetainHandling, SubscribeFilter, SubscriptionOptions, Version};

/// Cores, what is on its way to them, and how long their turns took.
pub struct Cores {
    pub cores: Vec<Core>,
    /// From clients, by core.
    pub bytes: Vec<Vec<(ConnectionId, Vec<u8>)>>,
    /// Messages between cores.
    pub mailed: usize,
    pub turns: u32,
    /// The longest turn, and all together.
    pub longest: Duration,
    pub all: Duration,
    config: Arc<Config>,
    mail: Vec<Vec<(CoreId, Vec<PeerMessage>)>>,
    asks: Vec<Vec<Ask>>,
    answers: Vec<Answer>,
    /// Of the last turn with a question: all of it, and what the answer took.
    asked: (Duration, Duration),
    now: Now,
    slots: u32,
}

impl Cores {
    pub fn new(config: Config) -> Cores {
        let now = Now { monotonic: Mono(5_000_000_000), wall: Wall(1) };
        let (count, config) = (config.cores, Arc::new(config));
        Cores {
            cores: (0..count).map(|id| Core::new(Arc::clone(&config), CoreId(id), 1, 1, now)).collect(),
            bytes: (0..count).map(|_| Vec::new()).collect(),
            mailed: 0,
            turns: 0,
            longest: Duration::ZERO,
            all: Duration::ZERO,
            mail: (0..count).map(|_| Vec::new()).collect(),
            asks: (0..count).map(|_| Vec::new()).collect(),
            answers: Vec::new(),
            asked: (Duration::ZERO, Duration::ZERO),
            config,
            now,
            slots: 0,
        }
    }

    /// What was measured so far does not count.
    pub fn forget(&mut self) {
        (self.turns, self.longest, self.all) = (0, Duration::ZERO, Duration::ZERO);
    }

    /// A client that is at home on a core; its session outlives it if it `lasts`.
    pub fn connect(&mut self, core: u16, lasts: bool) -> ConnectionId {
        let number = self.slots + 1;
        let mut names = (0..).map(|n| format!("client-{number}-{n}"));
        let config = Arc::clone(&self.config);
        let name = names.find(|name| config.home("default", name).0 == core).expect("one of them");
        let connection = self.begin_to_connect(core, (&name, None), lasts);
        self.run();
        connection
    }

    /// A client of a name that comes to its home core, with a user name.
    pub fn begin_to_connect(
        &mut self,
        core: u16,
        (name, user): (&str, Option<&str>),
        lasts: bool,
    ) -> ConnectionId {
        self.slots += 1;
        let connection = ConnectionId { slot: self.slots, generation: 1 };
        let accepted = Input::ClientAccepted { connection, listener: 0, peer: None };
        self.cores[usize::from(core)].on_input(self.now, accepted, &mut Outputs::new(self.config.cores));
        let mut connect = Connect { clean_start: !lasts, username: user, ..Connect::new(Version::V5, name) };
        connect.properties.session_expiry = if lasts { u32::MAX } else { 0 };
        connect.properties.session_expiry_given = lasts;
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, &connect);
        self.bytes[usize::from(core)].push((connection, bytes));
        connection
    }

    pub fn subscribe(&mut self, core: u16, connection: ConnectionId, filters: &[String]) {
        for filters in filters.chunks(500) {
            self.begin_to_subscribe(core, connection, filters);
            self.run();
        }
    }

    pub fn begin_to_subscribe(&mut self, core: u16, connection: ConnectionId, filters: &[String]) {
        let options = SubscriptionOptions {
            qos: QoS::AtMostOnce,
            retain_handling: RetainHandling::DoNotSend,
            ..Default::default()
        };
        let filters: Vec<_> = filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
        let subscribe = SubscribeOut {
            packet_id: PacketId::new(1).expect("not 0"),
            subscription_id: None,
            user_properties: Default::default(),
            filters: &filters,
        };
        let mut bytes = Vec::new();
        encode::subscribe(&mut bytes, Version::V5, &subscribe);
        self.bytes[usize::from(core)].push((connection, bytes));
    }

    /// Asks a core in its next turn: the answer, the turn's time, and the answer's part of it.
    pub fn ask(&mut self, core: usize, what: What) -> (Said, Duration, Duration) {
        self.asks[core].push(Ask { number: 0, what });
        self.turn(core);
        let (turn, answer) = self.asked;
        (self.answers.pop().expect("answered in the same turn").said, turn, answer)
    }

    /// Turns until nothing is left to do.
    pub fn run(&mut self) {
        loop {
            let worked: usize = (0..self.cores.len()).map(|core| usize::from(self.turn(core))).sum();
            if worked == 0 {
                break;
            }
        }
    }

    /// One turn of a core with all that there is for it; false if there is nothing.
    pub fn turn(&mut self, at: usize) -> bool {
        let mut out = Outputs::new(self.config.cores);
        let (mail, bytes) = (std::mem::take(&mut self.mail[at]), std::mem::take(&mut self.bytes[at]));
        let (core, asks) = (&mut self.cores[at], std::mem::take(&mut self.asks[at]));
        let due = core.next_timeout().is_some_and(|due| due <= self.now.monotonic);
        if mail.is_empty() && bytes.is_empty() && asks.is_empty() && !due {
            return false;
        }
        let (begin, is_asked) = (Instant::now(), !asks.is_empty());
        for (from, messages) in mail {
            core.on_input(self.now, Input::PeerMessages { from, messages }, &mut out);
        }
        let begin_of_answer = Instant::now();
        for ask in asks {
            core.on_input(self.now, Input::Ask(Box::new(ask)), &mut out);
        }
        let answer = begin_of_answer.elapsed();
        for (connection, bytes) in &bytes {
            core.on_input(self.now, Input::ClientBytes { connection: *connection, bytes }, &mut out);
        }
        core.on_timeout(self.now, &mut out);
        core.end_turn(self.now, &mut out);
        let taken = begin.elapsed();
        if is_asked {
            self.asked = (taken, answer);
        }
        self.turns += 1;
        self.longest = self.longest.max(taken);
        self.all += taken;
        assert!(out.close.is_empty() && out.handover.is_empty(), "the cores serve it");
        self.answers.append(&mut out.answers);
        self.deliver(at, out);
        true
    }

    /// Carries a turn's messages to other cores, and its bytes to clients.
    fn deliver(&mut self, at: usize, out: Outputs) {
        for (to, messages) in out.messages.into_iter().enumerate() {
            if !messages.is_empty() {
                self.mailed += messages.len();
                self.mail[to].push((CoreId(u16::try_from(at).expect("few cores")), messages));
            }
        }
        let core = &mut self.cores[at];
        for connection in out.dirty {
            let bytes = core.unsent(connection).map(<[u8]>::len).sum();
            let sent = Input::ClientSent { connection, bytes };
            core.on_input(self.now, sent, &mut Outputs::new(self.config.cores));
        }
    }
}
