//! Random lives of a log on a simulated disk, as many as asked for: the crash tests with more seeds.
//!
//! `cargo run --release -p wal --example crash_seeds -- --seeds 5000` runs seeds from 0 on on all CPUs;
//! `-- --seed 17` repeats one.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

#[path = "../tests/crash/driver.rs"]
#[expect(dead_code, reason = "defects are built in by tests alone")]
mod driver;
#[path = "../tests/crash/owner.rs"]
mod owner;
#[path = "../tests/crash/rest.rs"]
mod rest;
#[path = "../tests/crash/restart.rs"]
mod restart;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use driver::Driver;

const STEPS: u64 = 3000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let (first, count) = match (number("--seed"), number("--seeds")) {
        (Some(seed), _) => (seed, 1),
        (None, count) => (0, count.unwrap_or(1000)),
    };
    let next = AtomicU64::new(first);
    let failed = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    if std::panic::catch_unwind(|| Driver::new(seed, None).run(STEPS)).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        eprintln!(
                            "repeat: cargo run --release -p wal --example crash_seeds -- --seed {seed}"
                        );
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{count} seeds, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
