//! Nanoseconds per decision of an access list: what a publish and, once per cached topic, a delivery pay.
//!
//! `cargo bench -p broker_core --bench access`. Best of five rounds, because the machine's other work only ever
//! adds.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use broker_core::access::{Action, Rule, Rules};

const DECISIONS: u32 = 1_000_000;
const ROUNDS: usize = 5;

fn rule(action: Action, filter: String, allow: bool) -> Rule {
    Rule { action, filter: filter.into(), allow }
}

/// As many rules as a section has, of the kinds that people write.
fn rules(count: usize) -> Rules {
    Rules::new((0..count).map(|number| match number % 4 {
        0 => rule(Action::Any, format!("site/{number}/#"), true),
        1 => rule(Action::Subscribe, format!("site/+/unit{number}/state"), true),
        2 => rule(Action::Publish, format!("up/{number}"), true),
        _ => rule(Action::Any, format!("site/0/secret{number}/#"), false),
    }))
}

fn main() {
    for count in [1, 5, 50, 1000] {
        let rules = rules(count);
        for topic in ["site/0/unit1/state", "elsewhere/a/b"] {
            let mut best = Duration::MAX;
            for _ in 0..ROUNDS {
                let begun = Instant::now();
                for _ in 0..DECISIONS {
                    black_box(rules.decide(Action::Publish, black_box(topic)));
                }
                best = best.min(begun.elapsed());
            }
            let ns = best.as_secs_f64() * 1e9 / f64::from(DECISIONS);
            println!("{:<64}{ns:>10.1} ns", format!("{count} rules, {topic}"));
        }
    }
}
