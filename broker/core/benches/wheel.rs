//! Nanoseconds per operation of the timer wheel with a million timers armed.
//!
//! `cargo bench -p broker_core --bench wheel`. Best of five rounds, because the machine's other work only ever adds.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::time::{Duration, Instant};

use broker_core::wheel::{TICK_NS, TimerId, Wheel};

const TIMERS: usize = 1_000_000;
const ROUNDS: usize = 5;
const SECOND_NS: u64 = 1_000_000_000;

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn line(name: &str, value: f64, unit: &str) {
    println!("{name:<64}{value:>10.1} {unit}");
}

/// A million keep-alives of 90 seconds, armed in the course of their first 90 seconds.
fn armed() -> (Wheel<u64>, Vec<TimerId>) {
    let mut wheel = Wheel::new(0);
    let ids = (0..TIMERS as u64).map(|key| wheel.arm(90 * SECOND_NS * key / TIMERS as u64, key)).collect();
    (wheel, ids)
}

struct Best {
    arm: Duration,
    rearm: Duration,
    cancel: Duration,
}

fn arm_and_cancel() {
    let mut best = Best { arm: Duration::MAX, rearm: Duration::MAX, cancel: Duration::MAX };
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let (mut wheel, mut ids) = armed();
        best.arm = best.arm.min(begin.elapsed());

        let mut state = 1;
        let begin = Instant::now();
        for _ in 0..TIMERS {
            let at = (random(&mut state) % TIMERS as u64) as usize;
            wheel.cancel(ids[at]);
            ids[at] = wheel.arm(90 * SECOND_NS + random(&mut state) % SECOND_NS, at as u64);
        }
        best.rearm = best.rearm.min(begin.elapsed());

        let begin = Instant::now();
        for &id in &ids {
            wheel.cancel(id);
        }
        best.cancel = best.cancel.min(begin.elapsed());
        assert!(wheel.is_empty());
    }
    let per_timer = |time: Duration| time.as_nanos() as f64 / TIMERS as f64;
    line("arm, the slab growing from nothing", per_timer(best.arm), "ns");
    line("cancel and arm again, at random", per_timer(best.rearm), "ns");
    line("cancel", per_timer(best.cancel), "ns");
}

/// Follows `next_deadline` until all have fired.
fn advance() {
    const BUDGET: usize = 1024;
    let (mut best, mut longest, mut calls) = (Duration::MAX, Duration::MAX, 0);
    let mut fired = Vec::with_capacity(BUDGET);
    for _ in 0..ROUNDS {
        let (mut wheel, _) = armed();
        let (mut total, mut round_longest, mut count) = (Duration::ZERO, Duration::ZERO, 0);
        calls = 0;
        while let Some(next) = wheel.next_deadline() {
            let mut more = true;
            while more {
                let begin = Instant::now();
                more = wheel.advance(next, &mut fired, BUDGET);
                let elapsed = begin.elapsed();
                total += elapsed;
                round_longest = round_longest.max(elapsed);
                calls += 1;
                count += fired.len();
                fired.clear();
            }
        }
        assert_eq!(count, TIMERS);
        best = best.min(total);
        longest = longest.min(round_longest);
    }
    line("advance until all have fired, per timer", best.as_nanos() as f64 / TIMERS as f64, "ns");
    line(
        &format!("advance, longest of {calls} calls with a budget of {BUDGET}"),
        longest.as_nanos() as f64 / 1e3,
        "us",
    );
}

/// What a turn pays when nothing is due.
fn idle() {
    const CALLS: u64 = 1_000_000;
    let mut wheel = Wheel::new(0);
    for key in 0..TIMERS as u64 {
        wheel.arm(3600 * SECOND_NS + key * TICK_NS, key);
    }
    let mut fired = Vec::new();
    let mut wakes = 0;
    let begin = Instant::now();
    for now in 0..CALLS {
        wheel.advance(now * 1_000, &mut fired, 1024);
        wakes += u64::from(wheel.next_deadline().is_some());
    }
    assert_eq!((wakes, fired.len()), (CALLS, 0));
    line("advance and next_deadline, nothing due", begin.elapsed().as_nanos() as f64 / CALLS as f64, "ns");
}

fn main() {
    println!("{TIMERS} timers");
    arm_and_cancel();
    advance();
    idle();
}
