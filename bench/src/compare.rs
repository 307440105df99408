//! Brokers side by side: each started for its run on the same CPUs, alternating, medians and ratios,
//! the fake broker among them as the ceiling of harness and machine.

use clap::ValueEnum as _;
use serde::Serialize;

use crate::broker::Broker;
use crate::cli::{self, CompareArgs};
use crate::disk::{self, Limit};
use crate::latency::Percentiles;
use crate::output;
use crate::persistent::Sessions;
use crate::plan::{Load, Plan};
use crate::plot::{self, Curve};
use crate::ratios::{is_saturated, median, ratio, show_ratio};
use crate::report::{self, Outcome};
use crate::run::{self, Place};
use crate::scenario;
use crate::system;
use crate::transport::Transport;

/// Name of the broker the others are related to.
const HERMOD: &str = "hermod";
/// Name of the ceiling.
const FAKE: &str = "fake";
/// The fake's port is Hermod's plus this.
const FAKE_PORT_OFFSET: u16 = 1_000;

/// One broker of the comparison.
#[derive(Debug)]
struct Contestant {
    name: String,
    command: String,
    port: u16,
    transport: Transport,
}

/// All runs of one broker in one scenario.
#[derive(Debug, Serialize)]
struct Row {
    scenario: String,
    broker: String,
    command: String,
    outcomes: Vec<Outcome>,
}

/// Runs the comparison; `false` when a broker lost, repeated, reordered or refused something.
pub(crate) fn compare(arguments: &CompareArgs) -> Result<bool, String> {
    let contestants = contestants(arguments)?;
    let names: Vec<&str> = match arguments.scenario.is_empty() {
        true => scenario::TARGETS.to_vec(),
        false => arguments.scenario.iter().map(String::as_str).collect(),
    };
    let plans: Vec<Plan> =
        names.iter().map(|name| cli::plan(name, &arguments.overrides)).collect::<Result<_, _>>()?;
    // Brokers inherit the limit: each needs a file per connection, as the harness does.
    let files = plans.iter().map(Plan::files).max().unwrap_or(0);
    let _ = system::raise_open_files(files);
    output::line(
        "| scenario | broker | CPU µs/message | Hermod is | messages/s | p50 µs | p99 µs | CPU % | µs/connection | B/connection | B written/message | faults | saturated |",
    );
    output::line("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut all = Vec::new();
    for plan in &plans {
        let mut limits = Vec::new();
        let rows = scenario_rows(arguments, plan, &contestants, &mut limits)?;
        print_rows(plan, &rows);
        disk::print(&limits);
        if let Some(path) = &arguments.plot {
            let name = format!("{}-{}", path.file_stem().unwrap_or_default().to_string_lossy(), plan.name);
            let path = path.with_file_name(name).with_extension("svg");
            plot_rows(&path, plan, &rows).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        all.extend(rows);
    }
    if let Some(path) = &arguments.json {
        report::write_json(path, &all).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(all.iter().flat_map(|row| &row.outcomes).all(Outcome::is_clean))
}

fn contestants(arguments: &CompareArgs) -> Result<Vec<Contestant>, String> {
    if arguments.vs.len() != arguments.vs_port.len() {
        return Err("every --vs needs its --vs-port".to_owned());
    }
    if ![0, arguments.vs.len()].contains(&arguments.vs_transport.len()) {
        return Err("every --vs needs its --vs-transport, or none".to_owned());
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let fake_port = arguments.port.checked_add(FAKE_PORT_OFFSET).ok_or("--port is too high")?;
    let transport = arguments.transport;
    let hermod = Contestant {
        name: HERMOD.to_owned(),
        command: arguments.hermod.clone(),
        port: arguments.port,
        transport,
    };
    let spoken = transport.to_possible_value().expect("none is hidden");
    let fake = Contestant {
        name: FAKE.to_owned(),
        command: format!("'{}' fake --port {fake_port} --transport {}", program.display(), spoken.get_name()),
        port: fake_port,
        transport,
    };
    let mut contestants = vec![hermod];
    for (place, (command, port)) in arguments.vs.iter().zip(&arguments.vs_port).enumerate() {
        let transport = arguments.vs_transport.get(place).copied().unwrap_or_default();
        contestants.push(Contestant {
            name: name_of(command),
            command: command.clone(),
            port: *port,
            transport,
        });
    }
    contestants.push(fake);
    Ok(contestants)
}

/// The program's file name, for the table.
fn name_of(command: &str) -> String {
    let program = command.split_whitespace().find(|word| !word.contains('=')).unwrap_or(command);
    program.rsplit('/').next().unwrap_or(program).to_owned()
}

fn scenario_rows(
    arguments: &CompareArgs,
    plan: &Plan,
    contestants: &[Contestant],
    limits: &mut Vec<Limit>,
) -> Result<Vec<Row>, String> {
    let row = |contestant: &Contestant| Row {
        scenario: plan.name.clone(),
        broker: contestant.name.clone(),
        command: contestant.command.clone(),
        outcomes: Vec::new(),
    };
    // The fake keeps no sessions.
    let takes_part = |contestant: &&Contestant| plan.sessions == Sessions::Clean || contestant.name != FAKE;
    let contestants: Vec<&Contestant> = contestants.iter().filter(takes_part).collect();
    let mut rows: Vec<Row> = contestants.iter().map(|contestant| row(contestant)).collect();
    for round in 0..arguments.rounds as usize {
        for turn in 0..contestants.len() {
            // Everyone goes first once: what the machine does meanwhile falls on all alike.
            let index = (turn + round) % contestants.len();
            let contestant = contestants[index];
            output::remark(format_args!("{} round {}: {}", plan.name, round + 1, contestant.name));
            let broker = Broker::start(&contestant.command, contestant.port, &arguments.broker_cpus.0)?;
            let place = Place {
                target: cli::target(std::net::Ipv4Addr::LOCALHOST, contestant.port, contestant.transport)?,
                pid: Some(broker.pid()),
                threads: arguments.overrides.threads as usize,
                cpus: arguments.bench_cpus.0.clone(),
                spin: arguments.overrides.spin(plan),
            };
            let outcome = run::run(plan, &place);
            let mut outcome = outcome.map_err(|error| format!("{}: {error}", contestant.name))?;
            outcome.broker_name.clone_from(&contestant.name);
            rows[index].outcomes.push(outcome);
        }
        if let Some(directory) = &arguments.disk {
            limits.extend(disk::limits(directory, plan.payload_bytes)?);
        }
    }
    Ok(rows)
}

impl Row {
    fn median(&self, value: impl Fn(&Outcome) -> Option<f64>) -> Option<f64> {
        median(self.outcomes.iter().filter_map(value))
    }

    fn cost(&self) -> Option<f64> {
        self.median(|outcome| {
            let broker = outcome.broker?;
            (outcome.messages() > 0).then_some(broker.cpu_us_per_message)
        })
    }

    /// What the ratio relates: CPU per message, or per connection where there are no messages.
    fn compared(&self) -> Option<f64> {
        self.cost().or_else(|| self.median(|outcome| outcome.connect.broker_cpu_us_each))
    }

    fn rate(&self) -> Option<f64> {
        self.median(|outcome| (outcome.messages() > 0).then(|| outcome.rate()))
    }
}

fn print_rows(plan: &Plan, rows: &[Row]) {
    let ours = rows.iter().find(|row| row.broker == HERMOD).and_then(Row::compared);
    let ceiling = rows.iter().find(|row| row.broker == FAKE).and_then(Row::rate);
    let closed = plan.sessions == Sessions::Clean
        && plan.flows.iter().any(|flow| matches!(flow.load, Load::Window(_)));
    for row in rows {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
        };
        let latency = |value: fn(&Percentiles) -> f64| {
            row.median(|outcome| {
                let shown = outcome.shown_latency();
                (shown.count > 0).then(|| value(&shown))
            })
        };
        let compared = match row.broker.as_str() {
            HERMOD => "–".to_owned(),
            _ => show_ratio(ratio(ours, row.compared())),
        };
        let saturated = match row.rate().filter(|_| closed && row.broker != FAKE) {
            Some(rate) if is_saturated(rate, ceiling) => "yes".to_owned(),
            Some(rate) => format!("no: fake {:.2}×", ceiling.unwrap_or(0.0) / rate.max(1.0)),
            None => "–".to_owned(),
        };
        output::line(format_args!(
            "| {} | {} | {} | {compared} | {} | {} | {} | {} | {} | {} | {} | {} | {saturated} |",
            row.scenario,
            row.broker,
            number(row.cost(), 2),
            number(row.rate(), 0),
            number(latency(|shown| shown.p50), 0),
            number(latency(|shown| shown.p99), 0),
            number(row.median(|outcome| Some(outcome.broker?.cpu_share * 100.0)), 0),
            number(row.median(|outcome| outcome.connect.broker_cpu_us_each), 1),
            number(row.median(|outcome| outcome.connect.broker_user_bytes_each), 0),
            number(row.median(|outcome| Some(outcome.broker?.written_bytes_per_message)), 0),
            faults(row),
        ));
    }
}

/// What went wrong over all rounds, in words; nothing is `none`.
fn faults(row: &Row) -> String {
    let sum = |part: fn(&Outcome) -> u64| row.outcomes.iter().map(part).sum::<u64>();
    let parts = [
        ("lost", sum(|outcome| outcome.faults.lost)),
        ("undelivered", sum(|outcome| outcome.faults.undelivered)),
        ("duplicates", sum(|outcome| outcome.faults.duplicates)),
        ("reordered", sum(|outcome| outcome.faults.reordered)),
        ("misrouted", sum(|outcome| outcome.faults.misrouted)),
        ("corrupt", sum(|outcome| outcome.faults.corrupt)),
        ("foreign", sum(|outcome| outcome.faults.foreign)),
        ("refused", sum(|outcome| outcome.faults.refused)),
        ("unacknowledged", sum(|outcome| outcome.faults.unacknowledged)),
        ("connections failed", sum(|outcome| outcome.connect.failed)),
    ];
    let words: Vec<String> =
        parts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// Draws the round of every broker whose p99 is the median one.
fn plot_rows(path: &std::path::Path, plan: &Plan, rows: &[Row]) -> std::io::Result<()> {
    let mut curves = Vec::new();
    for row in rows {
        let mut outcomes: Vec<&Outcome> = row.outcomes.iter().collect();
        outcomes.sort_by(|one, other| one.shown_latency().p99.total_cmp(&other.shown_latency().p99));
        if let Some(outcome) = outcomes.get(outcomes.len() / 2) {
            curves.push(Curve { name: row.broker.clone(), points: &outcome.latency_curve });
        }
    }
    plot::write(path, &plan.name, &curves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{BrokerOutcome, Faults};

    fn row(costs: &[f64]) -> Row {
        let outcome = |cost: &f64| Outcome {
            delivered: 10,
            delivered_per_s: 1.0 / cost,
            broker: Some(BrokerOutcome { cpu_us_per_message: *cost, ..BrokerOutcome::default() }),
            ..Outcome::default()
        };
        let outcomes = costs.iter().map(outcome).collect();
        Row { scenario: String::new(), broker: String::new(), command: String::new(), outcomes }
    }

    /// A row's cost is the median of its rounds, and faults of all rounds are added up and named.
    #[test]
    fn a_row_is_its_median_round() {
        let mut rounds = row(&[3.0, 100.0, 2.0]);
        assert_eq!(rounds.cost(), Some(3.0));
        assert_eq!(faults(&rounds), "none");
        rounds.outcomes[0].faults = Faults { lost: 2, ..Faults::default() };
        rounds.outcomes[2].faults = Faults { lost: 3, reordered: 1, ..Faults::default() };
        assert_eq!(faults(&rounds), "5 lost, 1 reordered");
    }

    /// A command is called by its program.
    #[test]
    fn commands_have_names() {
        assert_eq!(name_of("/usr/sbin/mosquitto -c bench/mosquitto.conf"), "mosquitto");
        assert_eq!(name_of("RUST_LOG=warn ./target/release/hermod"), "hermod");
    }
}
