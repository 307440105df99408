//! What a mailbox costs: `cargo bench -p mailbox`. Each line is the best of [`RUNS`] runs, because other
//! work on the machine only ever adds.
//!
//! A stream counts the time from the first push to the last pop, over all items, with one `must_wake` a
//! turn; both threads poll, as busy cores do.
//!
//! On four virtual cores the one-thread lines repeat within 20 %. The streams do not: over eight runs,
//! pinned and not, 16 B items took 3 to 9 ns in turns of 16 and 14 to 51 ns one by one, and a round trip
//! 3.5 µs in seven and 46 µs in one. Compare streams over several runs.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and starts its own threads")]
#![expect(clippy::print_stdout, reason = "its output is the result")]

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use mailbox::{Full, WakeFlag, channel};

const RUNS: usize = 7;
const CAPACITY: usize = 4096;
const STREAM_ITEMS: usize = 4_000_000;
const ASKS: usize = 20_000_000;
const ROUND_TRIPS: usize = 50_000;

fn main() {
    for turn in [1, 16, 256] {
        println!("stream,  16 B items, {turn:>3} a turn  {:8.1} ns/item", best(|| stream([0u64; 2], turn)));
        println!("stream, 128 B items, {turn:>3} a turn  {:8.1} ns/item", best(|| stream([0u64; 16], turn)));
    }
    println!("push and pop on one core, 16 B    {:8.1} ns/item", best(push_pop));
    println!("must_wake, peer awake             {:8.1} ns", best(ask_awake));
    println!("park, must_wake, unpark           {:8.1} ns", best(ask_parked));
    println!("round trip, both sleep            {:8.1} ns", best(round_trip));
}

fn best(run: impl Fn() -> f64) -> f64 {
    (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// Nanoseconds per item from one thread to another.
fn stream<T: Copy + Send + 'static>(item: T, turn: usize) -> f64 {
    let (mut sender, mut receiver) = channel(CAPACITY, Arc::new(WakeFlag::new()));
    let start = Instant::now();
    let producer = thread::spawn(move || {
        for pushed in 1..=STREAM_ITEMS {
            let mut waiting = item;
            while let Err(Full(back)) = sender.push(waiting) {
                waiting = back;
                spin_loop();
            }
            if pushed.is_multiple_of(turn) {
                black_box(sender.must_wake());
            }
        }
    });
    let mut popped = 0;
    while popped < STREAM_ITEMS {
        match receiver.pop() {
            Some(item) => {
                black_box(item);
                popped += 1;
            }
            None => spin_loop(),
        }
    }
    let elapsed = start.elapsed();
    producer.join().expect("the producer does not panic");
    elapsed.as_nanos() as f64 / STREAM_ITEMS as f64
}

/// Nanoseconds per item without a second core: the instructions alone.
fn push_pop() -> f64 {
    let (mut sender, mut receiver) = channel(CAPACITY, Arc::new(WakeFlag::new()));
    let start = Instant::now();
    for _ in 0..STREAM_ITEMS / 256 {
        for item in 0..256u64 {
            let _ = black_box(sender.push([item; 2]));
        }
        while let Some(item) = receiver.pop() {
            black_box(item);
        }
    }
    start.elapsed().as_nanos() as f64 / STREAM_ITEMS as f64
}

/// Nanoseconds per `must_wake` while the peer is awake: the usual answer, mostly the fence.
fn ask_awake() -> f64 {
    let (sender, _receiver) = channel::<u64>(CAPACITY, Arc::new(WakeFlag::new()));
    let start = Instant::now();
    for _ in 0..ASKS {
        black_box(sender.must_wake());
    }
    start.elapsed().as_nanos() as f64 / ASKS as f64
}

/// Nanoseconds of the flag's part in one sleep, all three calls on one thread.
fn ask_parked() -> f64 {
    let wake = Arc::new(WakeFlag::new());
    let (sender, _receiver) = channel::<u64>(CAPACITY, wake.clone());
    let start = Instant::now();
    for _ in 0..ASKS {
        wake.park();
        assert!(sender.must_wake());
        wake.unpark();
    }
    start.elapsed().as_nanos() as f64 / ASKS as f64
}

/// Nanoseconds for an item there and back where each side sleeps until woken; mostly the scheduler.
fn round_trip() -> f64 {
    let (flag_a, flag_b) = (Arc::new(WakeFlag::new()), Arc::new(WakeFlag::new()));
    let (mut to_b, mut from_a) = channel(1, flag_b.clone());
    let (mut to_a, mut from_b) = channel(1, flag_a.clone());
    let main = thread::current();
    let peer = thread::spawn(move || {
        for _ in 0..ROUND_TRIPS {
            let item: u64 = receive(&flag_b, &mut from_a);
            to_a.push(item).expect("one item is under way at most");
            if to_a.must_wake() {
                main.unpark();
            }
        }
    });
    let start = Instant::now();
    for item in 0..ROUND_TRIPS as u64 {
        to_b.push(item).expect("one item is under way at most");
        if to_b.must_wake() {
            peer.thread().unpark();
        }
        black_box(receive(&flag_a, &mut from_b));
    }
    let elapsed = start.elapsed();
    peer.join().expect("the peer does not panic");
    elapsed.as_nanos() as f64 / ROUND_TRIPS as f64
}

fn receive(flag: &WakeFlag, inbox: &mut mailbox::Receiver<u64>) -> u64 {
    loop {
        if let Some(item) = inbox.pop() {
            return item;
        }
        flag.park();
        if inbox.is_empty() {
            thread::park();
        }
        flag.unpark();
    }
}
