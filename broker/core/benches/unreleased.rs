//! Nanoseconds for a QoS 2 message to come and to be released while others of its client are not: what a session pays
//! for each, once at its connection and once in its range.
//!
//! `cargo bench -p broker_core --bench unreleased`. Best of five rounds, because the machine's other work only ever
//! adds.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use broker_core::unreleased::{Taken, Unreleased};

const MESSAGES: u64 = 500_000;
const ROUNDS: usize = 5;

/// The messages of a client that has `inflight` of them under way, and uses its identifiers in turn.
fn pass(inflight: u64) -> Duration {
    let packet_id = |generation: u64| u16::try_from(generation % 65_535 + 1).expect("at most 65 535");
    let mut all = Unreleased::default();
    let take = |all: &mut Unreleased<bool>, generation| {
        let packet_id = packet_id(generation);
        assert!(all.get(packet_id).is_none());
        all.insert(Taken { packet_id, generation, value: false });
        black_box(all.oldest());
    };
    (0..inflight).for_each(|generation| take(&mut all, generation));
    let begun = Instant::now();
    for generation in inflight..inflight + MESSAGES {
        assert!(all.remove(packet_id(generation - inflight)));
        take(&mut all, generation);
    }
    begun.elapsed()
}

fn main() {
    for inflight in [1, 16, 17, 1024, 65_535] {
        let best = (0..ROUNDS).map(|_| pass(inflight)).min().expect("a round");
        println!(
            "{inflight:>6} not released: {:>8.1} ns a message",
            best.as_nanos() as f64 / MESSAGES as f64
        );
    }
}
