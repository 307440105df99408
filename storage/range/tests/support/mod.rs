//! What the tests of whole replicas share: a state machine, and a node on a simulated disk.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod machine;
pub mod node;

/// The seeds of a run: so many, or as many as `RANGE_SEEDS` says, or the one that `RANGE_SEED` names. The last line of a
/// failing test's output repeats it.
pub fn seeds(test: &str, count: u64) -> impl Iterator<Item = u64> + '_ {
    let number = |name| std::env::var(name).ok().and_then(|value: String| value.parse::<u64>().ok());
    let seeds = number("RANGE_SEED").map_or(1..=number("RANGE_SEEDS").unwrap_or(count), |seed| seed..=seed);
    seeds.inspect(move |seed| say(format_args!("RANGE_SEED={seed} cargo test -p range {test}")))
}

/// Did the run have the seeds whose coverage is known?
pub fn is_usual_run() -> bool {
    std::env::var("RANGE_SEED").is_err() && std::env::var("RANGE_SEEDS").is_err()
}

/// A line of the test's output.
#[expect(clippy::print_stdout, reason = "what a failing test shows")]
pub fn say(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}
