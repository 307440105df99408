//! The longest turns of two cores when one client's publishes meet very many routes at once: topics that nobody has
//! looked up before, against filters all of which match them. Prints milliseconds, by what the routes lead to.
//!
//! `cargo bench -p broker_core --bench turns`. A turn takes all that there is, as the shell's does; what it sends to
//! clients is taken at once, and not counted.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

mod cores;

use std::sync::Arc;

use broker_core::config::{Config, Settings};
use cores::Cores;
use mqtt::Version;
use mqtt::encode::{self, PublishOut};

const CORES: u16 = 2;
/// Filters that match each topic: every mix of "+" and a literal at so many levels.
const LEVELS: u32 = 13;
const TOPICS: usize = 200;

fn new() -> Cores {
    let settings = Settings {
        queue_messages_max: 10_000_000,
        queue_bytes_max: 4_000_000_000,
        subscriptions_max: 100_000,
        ..Settings::default()
    };
    Cores::new(Config { cores: CORES, settings: Arc::new(settings), ..Config::default() })
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
        let mut bench = new();
        let connection = bench.connect(core, false);
        bench.mailed = 0;
        bench.subscribe(core, connection, &[format!("{root}/b/x")]);
        bench.mailed == 0
    };
    (0..).map(|number| format!("r{number}")).find(hosts).expect("one of them")
}

/// Subscribes `sessions` sessions of a core, publishes, and prints what the turns took.
fn measure(name: &str, (subscriber, host): (u16, u16), (lasts, shared): (bool, bool), sessions: usize) {
    let mut bench = new();
    let root = root_at(host);
    let all = if sessions == 1 { filters(&root) } else { vec![format!("{root}/b/#")] };
    let all: Vec<_> = all.into_iter().map(|it| if shared { format!("$share/g/{it}") } else { it }).collect();
    for _ in 0..sessions {
        let connection = bench.connect(subscriber, lasts);
        bench.subscribe(subscriber, connection, &all);
    }
    let publisher = bench.connect(0, false);
    let mut bytes = Vec::new();
    for topic in 0..TOPICS {
        let topic = format!("{root}/b/{}/{topic}", ["a"; LEVELS as usize].join("/"));
        encode::publish(&mut bytes, Version::V5, &PublishOut { topic: &topic, ..PublishOut::default() });
    }
    bench.forget();
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
