//! What the tests of whole replicas share: a state machine, a node on a disk in memory, random numbers.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod disk;
pub mod machine;
pub mod node;

/// xorshift64*: the same on every machine, and all a test needs.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Less than `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 33) % end as u64).expect("it was a usize")
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// The seeds of a run: so many, or as many as `SEEDS` says, or the one that `SEED` names. The last line of a
/// failing test's output repeats it.
pub fn seeds(test: &str, count: u64) -> impl Iterator<Item = u64> + '_ {
    let number = |name| std::env::var(name).ok().and_then(|value: String| value.parse::<u64>().ok());
    let seeds = number("SEED").map_or(1..=number("SEEDS").unwrap_or(count), |seed| seed..=seed);
    seeds.inspect(move |seed| say(format_args!("SEED={seed} cargo test -p range {test}")))
}

/// Did the run have the seeds whose coverage is known?
pub fn is_usual_run() -> bool {
    std::env::var("SEED").is_err() && std::env::var("SEEDS").is_err()
}

/// A line of the test's output.
#[expect(clippy::print_stdout, reason = "what a failing test shows")]
pub fn say(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}
