//! Nanoseconds per operation of the topic trie, and what a million filters weigh.
//!
//! `cargo bench -p broker_core --bench trie`. Each line is the best of five rounds, because the machine's other work
//! only ever adds.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use broker_core::trie::Trie;

const ROUNDS: usize = 5;

/// SplitMix64: paths are visited in random order, so that caches see what they see in a broker.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Paths made in the order in which they are visited, as a receive buffer holds them.
fn shuffled(seed: u64, count: usize, path: impl Fn(usize) -> String) -> Vec<String> {
    let mut numbers: Vec<_> = (0..count).collect();
    let mut state = seed;
    for at in (1..count).rev() {
        numbers.swap(at, (random(&mut state) % (at as u64 + 1)) as usize);
    }
    numbers.into_iter().map(path).collect()
}

/// Prints the best of the rounds, per operation.
fn report(name: &str, operations: usize, mut round: impl FnMut()) {
    // Long enough for the clock and the branch predictor.
    let repeats = 100_000_usize.div_ceil(operations);
    let best = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            (0..repeats).for_each(|_| round());
            begin.elapsed()
        })
        .min()
        .unwrap_or_default();
    println!("{name:<64}{:>10.1} ns", best.as_nanos() as f64 / (operations * repeats) as f64);
}

fn build(paths: &[String]) -> Trie<u32> {
    let mut trie = Trie::new(1);
    for (value, path) in (0..).zip(paths) {
        trie.insert(path, value);
    }
    trie
}

fn matching(name: &str, trie: &Trie<u32>, topics: &[String]) {
    report(name, topics.len(), || {
        for topic in topics {
            trie.matching_filters(topic, |value| {
                black_box(*value);
            });
        }
    });
}

fn routing(count: usize) {
    println!("{count} filters dev/<i>/+/state");
    let filters = shuffled(1, count, |i| format!("dev/{i}/+/state"));
    let trie = build(&filters);
    println!("{:<64}{:>10.1} B", "  memory per filter", trie.memory_bytes() as f64 / count as f64);
    let topics = shuffled(2, count, |i| format!("dev/{i}/temperature/state"));
    matching("  match dev/<i>/temperature/state, one found", &trie, &topics);
    let topics = shuffled(2, count, |i| format!("dev/{i}/state"));
    matching("  match dev/<i>/state, none found", &trie, &topics);
    let topics = shuffled(2, count, |i| format!("dev/x{i}/temperature/state"));
    matching("  match dev/x<i>/temperature/state, none found", &trie, &topics);
    let gets = shuffled(3, count, |i| format!("dev/{i}/+/state"));
    report("  get", count, || {
        for filter in &gets {
            black_box(trie.get(filter));
        }
    });
    let mut trie = trie;
    report("  insert and remove one more", count, || {
        for (value, filter) in (0..).zip(&filters) {
            trie.remove(filter);
            trie.insert(filter, value);
        }
    });
    report("  build", count, || {
        black_box(build(&filters));
    });
}

fn shapes() {
    println!("other shapes");
    let filters = shuffled(1, 100_000, |i| format!("{i:08x}-7c1e-4f0a-9d55-0123456789ab/+/state"));
    let trie = build(&filters);
    let topics = shuffled(2, 100_000, |i| format!("{i:08x}-7c1e-4f0a-9d55-0123456789ab/temperature/state"));
    matching("  match <uuid>/temperature/state among 100000", &trie, &topics);

    let filters = shuffled(1, 100_000, |i| match i % 4 {
        0 => format!("site/{}/+/{}/#", i % 97, i % 1009),
        1 => format!("site/+/line/{i}/state"),
        2 => format!("+/{}/line/{i}/+", i % 97),
        _ => format!("site/{}/line/{i}/state", i % 97),
    });
    let trie = build(&filters);
    let topics = shuffled(2, 100_000, |i| format!("site/{}/line/{i}/state", i % 97));
    matching("  match site/<a>/line/<i>/state, wildcards everywhere", &trie, &topics);

    let mut hostile = Trie::new(1);
    for mix in 0..1_u32 << 16 {
        let levels: Vec<_> = (0..16).map(|bit| if mix >> bit & 1 == 1 { "+" } else { "a" }).collect();
        hostile.insert(&levels.join("/"), mix);
    }
    let topic = ["a"; 16].join("/");
    report("  match a/a/… against all 65536 mixes of a and +, per filter", 1 << 16, || {
        hostile.matching_filters(&topic, |value| {
            black_box(*value);
        });
    });
}

fn retained() {
    const TOPICS: usize = 100_000;
    println!("{TOPICS} topics dev/<i>/state");
    let trie = build(&shuffled(1, TOPICS, |i| format!("dev/{i}/state")));
    for filter in ["#", "dev/+/state", "+/+/+"] {
        report(&format!("  find topics of {filter}, per topic"), TOPICS, || {
            trie.matching_topics(filter, |value| {
                black_box(*value);
                ControlFlow::Continue(())
            });
        });
    }
}

fn million() {
    const FILTERS: usize = 1_000_000;
    println!("{FILTERS} filters, growing from nothing");
    let filters = shuffled(1, FILTERS, |i| format!("dev/{i}/+/state"));
    let mut trie = Trie::new(1);
    let mut worst = Duration::ZERO;
    for (value, filter) in (0..).zip(&filters) {
        let begin = Instant::now();
        trie.insert(filter, value);
        worst = worst.max(begin.elapsed());
    }
    println!("{:<64}{:>10.1} us", "  longest insert", worst.as_nanos() as f64 / 1e3);
    println!("{:<64}{:>10.1} MB", "  memory", trie.memory_bytes() as f64 / 1e6);
}

fn main() {
    routing(100);
    routing(100_000);
    routing(1_000_000);
    shapes();
    retained();
    million();
}
