//! The longest turns of two cores when one client's publishes meet very many routes at once: topics that nobody has
//! looked up before, against filters all of which match them. Prints milliseconds, by what the routes lead to.
//!
//! `cargo bench -p broker_core --bench turns`. A turn takes all that there is, as the shell's does; what it sends to
//! clients is taken at once, and not counted.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker_core::Core;
use broker_core::config::{Config, Settings};
use broker_core::identity::{ConnectionId, CoreId};
use broker_core::input::{Input, Outputs};
use broker_core::peer::PeerMessage;
use broker_core::time::{Mono, Now, Wall};
use mqtt::encode::{self, PublishOut, SubscribeOut};
use mqtt::{Connect, PacketId, QoS, RetainHandling, SubscribeFilter, SubscriptionOptions, Version};

const CORES: u16 = 2;
/// Filters that match each topic: every mix of "+" and a literal at so many levels.
const LEVELS: u32 = 13;
const TOPICS: usize = 200;

/// Both cores, their mailboxes, and how long their turns took.
struct Bench {
    cores: Vec<Core>,
    mail: Vec<Vec<(CoreId, Vec<PeerMessage>)>>,
    bytes: Vec<Vec<(ConnectionId, Vec<u8>)>>,
    now: Now,
    slots: u32,
    mailed: usize,
    turns: u32,
    longest: Duration,
    all: Duration,
}

impl Bench {
    fn new() -> Bench {
        let now = Now { monotonic: Mono(5_000_000_000), wall: Wall(1) };
        let settings = Settings {
            queue_messages_max: 10_000_000,
            queue_bytes_max: 4_000_000_000,
            subscriptions_max: 100_000,
            ..Settings::default()
        };
        let config = Arc::new(Config { cores: CORES, settings: Arc::new(settings), ..Config::default() });
        Bench {
            cores: (0..CORES).map(|id| Core::new(Arc::clone(&config), CoreId(id), 1, 1, now)).collect(),
            mail: (0..CORES).map(|_| Vec::new()).collect(),
            bytes: (0..CORES).map(|_| Vec::new()).collect(),
            now,
            slots: 0,
            mailed: 0,
            turns: 0,
            longest: Duration::ZERO,
            all: Duration::ZERO,
        }
    }

    /// A client that is at home on a core; its session outlives it if it `lasts`.
    fn connect(&mut self, core: usize, lasts: bool) -> ConnectionId {
        self.slots += 1;
        let config = Config { cores: CORES, ..Config::default() };
        let mut names = (0..).map(|n| format!("client-{}-{n}", self.slots));
        let name = names.find(|name| config.home("default", name).index() == core).expect("one of them");
        let connection = ConnectionId { slot: self.slots, generation: 1 };
        let accepted = Input::ClientAccepted { connection, listener: 0, peer: None };
        self.cores[core].on_input(self.now, accepted, &mut Outputs::new(CORES));
        let mut connect = Connect { clean_start: !lasts, ..Connect::new(Version::V5, &name) };
        connect.properties.session_expiry = if lasts { u32::MAX } else { 0 };
        connect.properties.session_expiry_given = lasts;
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, &connect);
        self.bytes[core].push((connection, bytes));
        self.run();
        connection
    }

    fn subscribe(&mut self, core: usize, connection: ConnectionId, filters: &[String]) {
        for filters in filters.chunks(500) {
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
            self.bytes[core].push((connection, bytes));
            self.run();
        }
    }

    fn run(&mut self) {
        loop {
            let worked: usize = (0..self.cores.len()).map(|core| usize::from(self.turn(core))).sum();
            if worked == 0 {
                break;
            }
        }
    }

    /// One turn of a core with all that there is for it; false if there is nothing.
    fn turn(&mut self, at: usize) -> bool {
        let mut out = Outputs::new(CORES);
        let (mail, bytes) = (std::mem::take(&mut self.mail[at]), std::mem::take(&mut self.bytes[at]));
        let core = &mut self.cores[at];
        let due = core.next_timeout().is_some_and(|due| due <= self.now.monotonic);
        if mail.is_empty() && bytes.is_empty() && !due {
            return false;
        }
        let begin = Instant::now();
        for (from, messages) in mail {
            core.on_input(self.now, Input::PeerMessages { from, messages }, &mut out);
        }
        for (connection, bytes) in &bytes {
            core.on_input(self.now, Input::ClientBytes { connection: *connection, bytes }, &mut out);
        }
        core.on_timeout(self.now, &mut out);
        core.end_turn(self.now, &mut out);
        let taken = begin.elapsed();
        self.turns += 1;
        self.longest = self.longest.max(taken);
        self.all += taken;
        assert!(out.close.is_empty() && out.handover.is_empty(), "the cores serve it");
        for (to, messages) in out.messages.into_iter().enumerate() {
            if !messages.is_empty() {
                self.mailed += messages.len();
                self.mail[to].push((CoreId(u16::try_from(at).expect("few cores")), messages));
            }
        }
        for connection in out.dirty {
            let bytes = core.unsent(connection).map(<[u8]>::len).sum();
            core.on_input(self.now, Input::ClientSent { connection, bytes }, &mut Outputs::new(CORES));
        }
        true
    }
}

/// Filters below a root, all of which match `<root>/b/a/…/a/x`.
fn filters(root: &str) -> Vec<String> {
    let mixes = 0..1_u32 << LEVELS;
    let filter = |mix: u32| {
        let levels: Vec<_> = (0..LEVELS).map(|bit| if mix >> bit & 1 == 1 { "+" } else { "a" }).collect();
        format!("{root}/b/{}/#", levels.join("/"))
    };
    mixes.map(filter).collect()
}

/// A first level whose routes are hosted by a core: the other one hears nothing of a new subscription.
fn root_at(core: u16) -> String {
    let hosts = |root: &String| {
        let mut bench = Bench::new();
        let connection = bench.connect(usize::from(core), false);
        bench.mailed = 0;
        bench.subscribe(usize::from(core), connection, &[format!("{root}/b/x")]);
        bench.mailed == 0
    };
    (0..).map(|number| format!("r{number}")).find(hosts).expect("one of them")
}

/// Subscribes `sessions` sessions of a core, publishes, and prints what the turns took.
fn measure(name: &str, (subscriber, host): (u16, u16), (lasts, shared): (bool, bool), sessions: usize) {
    let mut bench = Bench::new();
    let root = root_at(host);
    let all = if sessions == 1 { filters(&root) } else { vec![format!("{root}/b/#")] };
    let all: Vec<_> = all.into_iter().map(|it| if shared { format!("$share/g/{it}") } else { it }).collect();
    for _ in 0..sessions {
        let connection = bench.connect(usize::from(subscriber), lasts);
        bench.subscribe(usize::from(subscriber), connection, &all);
    }
    let publisher = bench.connect(0, false);
    let mut bytes = Vec::new();
    for topic in 0..TOPICS {
        let topic = format!("{root}/b/{}/{topic}", ["a"; LEVELS as usize].join("/"));
        encode::publish(&mut bytes, Version::V5, &PublishOut { topic: &topic, ..PublishOut::default() });
    }
    (bench.turns, bench.longest, bench.all) = (0, Duration::ZERO, Duration::ZERO);
    bench.bytes[0].push((publisher, bytes));
    bench.run();
    println!(
        "{name:<52}{:>10.2}{:>10}{:>12.1}",
        bench.longest.as_secs_f64() * 1e3,
        bench.turns,
        bench.all.as_secs_f64() * 1e3
    );
}

fn main() {
    let only = std::env::args().nth(1).filter(|it| !it.starts_with('-'));
    println!("{:<52}{:>10}{:>10}{:>12}", "", "longest ms", "turns", "all ms");
    for (name, places, kind, sessions) in [
        ("volatile: one client, routes here", (0, 0), (false, false), 1),
        ("volatile: one client, routes elsewhere", (0, 1), (false, false), 1),
        ("volatile: one client elsewhere", (1, 1), (false, false), 1),
        ("persistent: one client, routes here", (0, 0), (true, false), 1),
        ("persistent: one client, routes elsewhere", (0, 1), (true, false), 1),
        ("persistent: one client elsewhere", (1, 1), (true, false), 1),
        ("persistent: 8192 clients elsewhere", (1, 1), (true, false), 8192),
        ("shared: 8192 groups of one client, routes here", (0, 0), (false, true), 1),
        ("shared: 8192 groups, routes elsewhere", (0, 1), (false, true), 1),
        ("shared: 8192 groups of a client elsewhere", (1, 1), (false, true), 1),
    ] {
        if only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
            measure(name, places, kind, sessions);
        }
    }
}
