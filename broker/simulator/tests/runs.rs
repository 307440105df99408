//! Whole runs: the promises hold over some seeds, a seed is always the same run, and a fault between the
//! broker and its clients does not go unseen.

use broker_core::counters::DropReason;
use broker_core::limit::Limit;
use simulator::checkers::Promise;
use simulator::client::tamper::Fault;
use simulator::history::Fact;
use simulator::node::Breach;
use simulator::simulation::{Options, Outcome, run};
use wal::simulated_disk::Lie;

/// The first of the seeds run here; hundreds more are for the binary.
const FIRST: u64 = 400;

fn findings(outcome: &Outcome) -> String {
    let lines = outcome.findings.iter().map(|finding| format!("{}: {}\n", finding.promise, finding.text));
    lines.collect()
}

fn hold(seeds: std::ops::Range<u64>, options: Options) {
    for seed in seeds {
        let outcome = run(seed, options);
        assert!(
            outcome.findings.is_empty(),
            "{}repeat: cargo run --release -p simulator -- --seeds 1 --first {seed} --steps {}{} --disks {} \
             --failing-disks {} --full-disks {}",
            findings(&outcome),
            options.steps,
            options.cores.map_or_else(String::new, |cores| format!(" --cores {cores}")),
            options.disk_percent,
            options.failing_disk_percent,
            options.full_disk_percent,
        );
    }
}

/// The promises hold; and that says something, because messages were delivered, sessions taken over,
/// deliveries dropped and connections handed over while they held.
#[test]
fn promises_hold() {
    hold(FIRST..FIRST + 40, Options::default());
    let (mut delivered, mut taken_over, mut dropped, mut handed_over) = (0, 0, 0, 0);
    for seed in FIRST..FIRST + 20 {
        let counters = run(seed, Options::default()).counters;
        delivered += counters.publishes_sent.iter().sum::<u64>();
        taken_over += counters.take_overs;
        dropped += counters.dropped.iter().sum::<u64>();
        handed_over += counters.handovers;
    }
    assert!(delivered > 10_000, "{delivered}");
    assert!(taken_over > 20, "{taken_over}");
    assert!(dropped > 100, "{dropped}");
    assert!(handed_over > 100, "{handed_over}");
}

/// They hold over the ends of whole nodes, on any number of cores after them.
#[test]
fn promises_hold_over_restarts() {
    let options = Options { disk_percent: 100, steps: 3_000, ..Options::default() };
    hold(FIRST..FIRST + 30, options);
    let crashes = |seed| {
        let events = run(seed, options).history.events;
        events.iter().filter(|event| matches!(event.fact, Fact::Crashed)).count()
    };
    let crashes: Vec<usize> = (FIRST..FIRST + 10).map(crashes).collect();
    assert!(crashes.iter().sum::<usize>() > 10, "{crashes:?}");
}

/// And where writes and syncs fail: the node ends for each, and starts again.
#[test]
fn promises_hold_on_failing_disks() {
    let options =
        Options { disk_percent: 100, failing_disk_percent: 100, steps: 3_000, ..Options::default() };
    hold(FIRST..FIRST + 30, options);
    let crashes = |seed| {
        let events = run(seed, options).history.events;
        events.iter().filter(|event| matches!(event.fact, Fact::Crashed)).count()
    };
    // Of itself a node ends four times at most.
    let failed = (FIRST..FIRST + 10).filter(|seed| crashes(*seed) > 4).count();
    assert!(failed > 1, "{failed}");
}

/// And where the disks are full at times: what is refused is answered and counted, and the rest goes on.
#[test]
fn promises_hold_on_full_disks() {
    let options = Options { disk_percent: 100, full_disk_percent: 100, steps: 3_000, ..Options::default() };
    hold(FIRST..FIRST + 30, options);
    let lost = |seed| run(seed, options).counters.dropped(DropReason::DiskFull);
    let refused = (FIRST..FIRST + 10).filter(|seed| lost(*seed) > 0).count();
    assert!(refused > 3, "{refused}");
}

/// A disk that lies about what it keeps is found out.
#[test]
fn lying_disks_are_found() {
    for lie in [Lie::SyncIsSkipped, Lie::AnsweredBeforeSync, Lie::DirectorySyncIsSkipped] {
        let options = Options { disk_percent: 100, lie: Some(lie), steps: 3_000, ..Options::default() };
        // The core itself may be the first to notice.
        let found = |seed| {
            let outcome = std::panic::catch_unwind(|| run(seed, options));
            outcome.map_or(true, |outcome| !outcome.findings.is_empty())
        };
        assert!((FIRST..FIRST + 60).any(found), "{lie:?}");
    }
}

/// On each number of cores.
#[test]
fn promises_hold_on_any_number_of_cores() {
    for cores in 1..=4 {
        let options = Options { cores: Some(cores), steps: 3_000, ..Options::default() };
        hold(FIRST..FIRST + 8, options);
    }
}

/// The same seed gives the same trace, byte for byte; another seed another one.
#[test]
fn seed_repeats() {
    let mut hashes = Vec::new();
    for seed in FIRST..FIRST + 8 {
        let options = Options { steps: 3_000, ..Options::default() };
        let (first, second) = (run(seed, options), run(seed, options));
        assert!(first.lines > 1_000, "seed {seed}: {} entries", first.lines);
        assert_eq!((first.hash, first.lines), (second.hash, second.lines), "seed {seed}");
        assert_eq!(first.history.events.len(), second.history.events.len(), "seed {seed}");
        hashes.push(first.hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 8);
}

/// Seeds that hold do not hold any more when packets are lost, doubled, swapped or changed on the way, and
/// what is found is the promise that was broken.
#[test]
fn faults_are_found() {
    let cases: [(Fault, &[Promise]); 9] = [
        (Fault::DropPublish, &[Promise::Silent, Promise::Routed, Promise::Retained, Promise::ExactlyOnce]),
        (Fault::DuplicatePublish, &[Promise::ExactlyOnce]),
        (Fault::SwapPublishes, &[Promise::Order]),
        (Fault::WipeDup, &[Promise::ExactlyOnce]),
        (Fault::TurnRetain, &[Promise::Conformance]),
        (Fault::DropAck, &[Promise::Unanswered]),
        (Fault::SwapAcks, &[Promise::Order]),
        (Fault::DropRelease, &[Promise::ExactlyOnce]),
        (Fault::DuplicateSubAck, &[Promise::Conformance]),
    ];
    for (fault, promises) in cases {
        let mut others = String::new();
        let seen = (FIRST..FIRST + 20).any(|seed| {
            let options = Options { steps: 2_000, fault: Some((fault, 5)), ..Options::default() };
            let outcome = run(seed, options);
            others += &findings(&outcome);
            outcome.findings.iter().any(|finding| promises.contains(&finding.promise))
        });
        assert!(seen, "{fault:?} was not found as one of {promises:?}, but as:\n{others}");
    }
}

/// A node that breaks a promise is found out, and the promise named: one that a fault between the broker and its
/// clients cannot break.
#[test]
fn breaches_are_found() {
    let cases = [
        (Breach::ClosesLate, Promise::Owner),
        (Breach::LimitsIgnored, Promise::Bounded),
        (Breach::ResumesNobody, Promise::Contract),
    ];
    for (breach, promise) in cases {
        let mut others = String::new();
        let seen = (FIRST..FIRST + 60).any(|seed| {
            let outcome = run(seed, Options { breach: Some(breach), ..Options::default() });
            others += &findings(&outcome);
            outcome.findings.iter().any(|finding| finding.promise == promise)
        });
        assert!(seen, "{breach:?} was not found as {promise}, but as:\n{others}");
    }
}

/// Paces and changes of the configuration are drawn, and bite, in some of the seeds of a whole run.
#[test]
fn paces_and_changes_are_drawn() {
    let (mut paced, mut changed, mut held_back) = (0, 0, 0);
    for seed in FIRST..FIRST + 20 {
        let outcome = run(seed, Options::default());
        paced += u64::from(outcome.paced);
        changed += outcome.changes;
        held_back += [Limit::PublishRate, Limit::InboundRate, Limit::OutboundRate]
            .map(|limit| outcome.counters.limited(limit))
            .iter()
            .sum::<u64>();
    }
    assert!(paced > 2 && changed > 3 && held_back > 20, "{paced}, {changed}, {held_back}");
}
