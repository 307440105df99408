//! The longest turns of cores that hold very many connections while an operator asks: what `/metrics` asks, and the
//! lists. Prints microseconds: the longest turn with a question, the part of it that the answer took, and how many
//! turns it takes until a core has said all.
//!
//! `cargo bench -p broker_core --bench sight`. In each turn with a question 64 clients publish, so that it finds other
//! things in the CPU's caches than its own. Each list is asked for `ROUNDS` times; of each of its turns the median
//! counts, so that waiting for the CPU does not, and then the longest of them; `worst` is the longest of all.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

mod cores;

use std::sync::Arc;
use std::time::Duration;

use broker_core::config::{Config, Listener, Settings};
use broker_core::identity::ConnectionId;
use broker_core::sight::{FindSessions, FindSubscriptions, Place, Said, What};
use cores::Cores;
use mqtt::Version;
use mqtt::encode::{self, PublishOut};

const TENANTS: u32 = 1_000;
const ROUNDS: usize = 7;
const PUBLISHERS: usize = 64;
/// Sessions on one page, at most, as the administration asks for them.
const PAGE_MAX: u16 = 500;

/// The cores, and who is connected to each of them.
struct Bench {
    cores: Cores,
    clients: Vec<Vec<ConnectionId>>,
    next: usize,
}

/// The next question of a list, by the answer to the one before.
type Next = fn(Option<&Said>) -> Option<What>;

impl Bench {
    /// Cores with so many connections each, a tenth of which have a session that outlives them.
    fn new(cores: u16, connections: u32) -> Bench {
        let settings = Arc::new(Settings::default());
        let tenants = (0..TENANTS).map(|n| (format!("tenant-{n:04}"), Arc::clone(&settings))).collect();
        let listeners = vec![Listener { tenant_from_username: true, ..Listener::default() }];
        let config = Config { cores, tenants, listeners, settings, ..Config::default() };
        let mut bench = Bench {
            cores: Cores::new(config.clone()),
            clients: vec![Vec::new(); usize::from(cores)],
            next: 0,
        };
        for number in 0..connections * u32::from(cores) {
            let tenant = format!("tenant-{:04}", number % TENANTS);
            let (name, user) = (format!("meter-{number:07}"), format!("{tenant}/meter"));
            let core = config.home(&tenant, &name).0;
            let client = bench.cores.begin_to_connect(core, (&name, Some(&user)), number % 10 == 0);
            bench.cores.begin_to_subscribe(core, client, &[format!("to/{name}/#")]);
            bench.clients[usize::from(core)].push(client);
            if number % 512 == 0 {
                bench.cores.run();
            }
        }
        bench.cores.run();
        bench
    }

    /// Clients of a core publish.
    fn publish(&mut self, core: usize) {
        for _ in 0..PUBLISHERS {
            // Far from each other, and each once before one comes again.
            self.next = (self.next + 7_919) % self.clients[core].len();
            let mut bytes = Vec::new();
            let publish = PublishOut { topic: "from/a/meter", payload: &[0; 64], ..PublishOut::default() };
            encode::publish(&mut bytes, Version::V5, &publish);
            self.cores.bytes[core].push((self.clients[core][self.next], bytes));
        }
    }

    /// Asks a core for all of a list. The time of each turn and of each answer.
    fn all(&mut self, core: usize, next: Next) -> Vec<(Duration, Duration)> {
        let (mut times, mut what) = (Vec::new(), next(None));
        while let Some(ask) = what {
            self.publish(core);
            let (said, turn, answer) = self.cores.ask(core, ask);
            times.push((turn, answer));
            what = next(Some(&said));
        }
        times
    }

    fn measure(&mut self, name: &str, next: Next) {
        let rounds: Vec<_> = (0..ROUNDS).map(|_| self.all(0, next)).collect();
        let median = |mut times: Vec<Duration>| {
            times.sort();
            times[times.len() / 2]
        };
        let of_turn = |turn: usize, time: fn(&(Duration, Duration)) -> Duration| {
            median(rounds.iter().map(|round| time(&round[turn])).collect())
        };
        let longest = |time: fn(&(Duration, Duration)) -> Duration| {
            (0..rounds[0].len()).map(|turn| of_turn(turn, time)).max().unwrap_or_default().as_secs_f64() * 1e6
        };
        let worst =
            rounds.iter().flatten().map(|(turn, _)| *turn).max().unwrap_or_default().as_secs_f64() * 1e6;
        let (turn, answer, turns) = (longest(|it| it.0), longest(|it| it.1), rounds[0].len());
        println!("{name:<40}{turn:>10.0}{answer:>10.0}{worst:>10.0}{turns:>8}");
    }
}

fn census(said: Option<&Said>) -> Option<What> {
    match said {
        None => Some(What::Census { from: 0 }),
        Some(Said::Census(page)) => page.next.map(|from| What::Census { from }),
        Some(other) => panic!("a census, not {other:?}"),
    }
}

fn tenants(said: Option<&Said>) -> Option<What> {
    match said {
        None => Some(What::Tenants { from: 0 }),
        Some(Said::Tenants(page)) => page.next.map(|from| What::Tenants { from }),
        Some(other) => panic!("tenants, not {other:?}"),
    }
}

fn find_sessions(said: Option<&Said>, find: FindSessions) -> Option<What> {
    let from = match said {
        None => Some(0),
        Some(Said::Sessions(page)) => page.next,
        Some(other) => panic!("sessions, not {other:?}"),
    };
    from.map(|from| What::Sessions(Box::new(FindSessions { from, max: PAGE_MAX, ..find })))
}

fn find_subscriptions(said: Option<&Said>, find: FindSubscriptions) -> Option<What> {
    let from = match said {
        None => Some(Place::default()),
        Some(Said::Subscriptions(page)) => page.next.clone(),
        Some(other) => panic!("subscriptions, not {other:?}"),
    };
    from.map(|from| What::Subscriptions(Box::new(FindSubscriptions { from, max: PAGE_MAX, ..find })))
}

fn main() {
    for (cores, connections) in [(4, 25_000), (1, 100_000)] {
        let mut bench = Bench::new(cores, connections);
        println!("{cores} cores, {connections} connections each, {TENANTS} tenants; microseconds");
        println!("{:<40}{:>10}{:>10}{:>10}{:>8}", "", "turn", "answer", "worst", "turns");
        bench.measure("/metrics: totals", |said| said.is_none().then_some(What::Totals));
        bench.measure("/metrics: tenants", tenants);
        bench.measure("/metrics: census", census);
        bench.measure("clients: all", |said| find_sessions(said, FindSessions::default()));
        bench.measure("clients: one found by a part of its id", |said| {
            let client_contains = Some("r-0009999".into());
            find_sessions(said, FindSessions { client_contains, ..FindSessions::default() })
        });
        bench.measure("clients: of a user", |said| {
            find_sessions(said, FindSessions { user: Some("nobody".into()), ..FindSessions::default() })
        });
        bench.measure("subscriptions: all", |said| find_subscriptions(said, FindSubscriptions::default()));
        bench.measure("subscriptions: found by a part", |said| {
            let filter_contains = Some("r-0009999".into());
            find_subscriptions(said, FindSubscriptions { filter_contains, ..FindSubscriptions::default() })
        });
    }
}
