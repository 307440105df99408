//! The crash rules, held by random runs on a simulated disk.

mod driver;
mod owner;
mod rest;
mod restart;

use driver::{Driver, Mutant};
use wal::simulated_disk::Lie;

/// Some hundred random lives of a log keep every promise. Thousands more:
/// `cargo run --release -p wal --example crash_seeds -- --seeds 5000`.
#[test]
fn every_seed_keeps_the_promises() {
    let mut tally = driver::Tally::default();
    for seed in 0..300 {
        let mut driver = Driver::new(seed, None);
        driver.run(1500);
        tally.restarts += driver.tally.restarts;
        tally.cuts += driver.tally.cuts;
        tally.moved += driver.tally.moved;
        tally.full += driver.tally.full;
        tally.poisoned += driver.tally.poisoned;
        tally.damage_refused += driver.tally.damage_refused;
    }
    // The runs come to every place that they are to hold.
    assert!(tally.restarts > 1000 && tally.cuts > 50 && tally.moved > 10_000, "{tally:?}");
    assert!(tally.full > 50 && tally.poisoned > 50 && tally.damage_refused > 50, "{tally:?}");
}

/// A range lost a record, and the one that named it as its predecessor had been reclaimed: the range passed
/// for whole, because a later record of it was there.
#[test]
fn a_range_whose_links_were_reclaimed_is_not_taken_for_whole() {
    for seed in [55, 60, 63, 114] {
        Driver::new(seed, None).run(3000);
    }
}

/// A run with a defect built in fails for some seed: the checks are no decoration.
fn is_noticed(mutant: Mutant, seeds: u64) {
    let noticed = (0..seeds).any(|seed| {
        let run = || Driver::new(seed, Some(mutant)).run(1500);
        std::panic::catch_unwind(run).is_err()
    });
    assert!(noticed, "{mutant:?} passes {seeds} seeds");
}

#[test]
fn a_disk_that_skips_syncs_is_noticed() {
    is_noticed(Mutant::Disk(Lie::SyncIsSkipped), 10);
}

#[test]
fn a_disk_that_skips_directory_syncs_is_noticed() {
    is_noticed(Mutant::Disk(Lie::DirectorySyncIsSkipped), 10);
}

#[test]
fn an_answer_before_the_sync_is_noticed() {
    is_noticed(Mutant::Disk(Lie::AnsweredBeforeSync), 10);
}

#[test]
fn a_start_that_does_not_settle_is_noticed() {
    is_noticed(Mutant::Disk(Lie::SettleIsSkipped), 100);
}

#[test]
fn an_acknowledgement_out_of_order_is_noticed() {
    is_noticed(Mutant::EarlierAreAnsweredToo, 300);
}

#[test]
fn an_early_acknowledgement_is_noticed() {
    is_noticed(Mutant::AcknowledgedTooEarly, 10);
}

#[test]
fn a_tombstone_that_dies_too_early_is_noticed() {
    is_noticed(Mutant::TombstonesDieTooEarly, 100);
}
