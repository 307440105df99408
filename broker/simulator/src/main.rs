//! Runs seeds until one fails, and says how to repeat it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use simulator::history::{ClientIndex, Event, Fact, Got, Link, Sent};
use simulator::simulation::{self, Options, Outcome};

/// Runs the broker's cores against simulated clients, seed by seed, and checks the design's promises.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Cores of the node, 1 to 4; drawn from the seed if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4))]
    cores: Option<u16>,
    /// How many of a hundred seeds have disks, and nodes that end and start again.
    #[arg(long, default_value_t = Options::default().disk_percent)]
    disks: u64,
    /// How many of a hundred of those have disks that fail.
    #[arg(long, default_value_t = Options::default().failing_disk_percent)]
    failing_disks: u64,
    /// How many of a hundred of those with disks have some that are full at times.
    #[arg(long, default_value_t = Options::default().full_disk_percent)]
    full_disks: u64,
    /// Chances given out per seed, to clients, cores and time.
    #[arg(long, default_value_t = Options::default().steps)]
    steps: u64,
    /// Print everything that crosses a core's border.
    #[arg(long)]
    trace: bool,
    /// Print what the clients saw, whole.
    #[arg(long)]
    history: bool,
    /// Go on after a seed that fails, and list all that do.
    #[arg(long)]
    keep_going: bool,
}

/// How many of the last events are shown of a run that failed.
const LAST_EVENTS: usize = 40;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        cores: arguments.cores,
        steps: arguments.steps,
        trace: arguments.trace,
        disk_percent: arguments.disks,
        failing_disk_percent: arguments.failing_disks,
        full_disk_percent: arguments.full_disks,
        ..Options::default()
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {msg} ({eta} left)")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let progress = if arguments.trace { ProgressBar::hidden() } else { ProgressBar::new(arguments.seeds) };
    progress.set_style(style);
    let (mut failed, mut events) = (0_u64, 0);
    for seed in arguments.first..arguments.first.saturating_add(arguments.seeds) {
        let outcome = simulation::run(seed, options);
        events += outcome.history.events.len();
        progress.set_message(format!("{events} events"));
        if arguments.history {
            for event in &outcome.history.events {
                say(&line(event));
            }
        }
        if !outcome.findings.is_empty() {
            failed += 1;
            progress.suspend(|| report(seed, &arguments, &outcome));
            if !arguments.keep_going {
                return ExitCode::FAILURE;
            }
        }
        progress.inc(1);
    }
    progress.finish();
    let summary = format!("{} seeds, {events} events, {failed} failed\n", arguments.seeds);
    say(&summary);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was found, what happened last, and the command that repeats it.
fn report(seed: u64, arguments: &Arguments, outcome: &Outcome) {
    let mut text = format!("\nseed {seed} failed after {:?}:\n", outcome.duration);
    for finding in &outcome.findings {
        text += &format!("  {}, event {}: {}\n", finding.promise, finding.moment.0, finding.text);
    }
    if !arguments.keep_going {
        text += &last_events(outcome);
    }
    text += &format!("repeat: cargo run --release -p simulator -- --seeds 1 --first {seed}");
    if let Some(cores) = arguments.cores {
        text += &format!(" --cores {cores}");
    }
    if arguments.disks != Options::default().disk_percent {
        text += &format!(" --disks {}", arguments.disks);
    }
    if arguments.failing_disks != Options::default().failing_disk_percent {
        text += &format!(" --failing-disks {}", arguments.failing_disks);
    }
    if arguments.full_disks != Options::default().full_disk_percent {
        text += &format!(" --full-disks {}", arguments.full_disks);
    }
    if arguments.steps != Options::default().steps {
        text += &format!(" --steps {}", arguments.steps);
    }
    text += "\n";
    say(&text);
}

/// The last events, pings left out: of the client that the last one concerns, and of all.
fn last_events(outcome: &Outcome) -> String {
    let mut clients: BTreeMap<Link, ClientIndex> = BTreeMap::new();
    for event in &outcome.history.events {
        if let Fact::Opened { link, client, .. } = event.fact {
            clients.insert(link, client);
        }
    }
    let client_of = |event: &Event| event.fact.link().and_then(|link| clients.get(&link).copied());
    let events = || {
        let pings =
            |event: &&Event| matches!(event.fact, Fact::Sent(_, Sent::Ping) | Fact::Got(_, Got::Pong));
        outcome.history.events.iter().rev().filter(move |event| !pings(event))
    };
    let list = |title: &str, mut events: Vec<&Event>| {
        events.reverse();
        let mut text = format!("{title}\n");
        for event in events {
            text += &line(event);
        }
        text
    };
    let mut text = String::new();
    let found =
        outcome.findings.first().and_then(|finding| outcome.history.events.get(finding.moment.0 as usize));
    if let Some(client) = found.and_then(client_of) {
        let own = events().filter(|event| client_of(event) == Some(client)).take(LAST_EVENTS);
        text += &list(&format!("the last events of client {}:", client.0), own.collect());
    }
    text + &list("the last events of all:", events().take(LAST_EVENTS / 2).collect())
}

fn line(event: &Event) -> String {
    format!("  {:>6} {:>12.6} {:?}\n", event.moment.0, event.at.0 as f64 / 1e9, event.fact)
}

fn say(text: &str) {
    // Nobody to tell if the terminal is gone.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
