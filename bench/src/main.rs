//! `hermod-bench`: load for MQTT brokers on this machine, and what it costs them.
//!
//! A run is a [`plan`] (made by a named [`scenario`]), driven by [`run`]: threads ([`worker`]) of
//! clients ([`client`]) in the roles of [`publisher`], [`subscriber`] and [`getter`], over
//! [`connection`]s, plain or through a [`transport`]. Every message carries a stamp ([`payload`]) by which [`detect`] finds loss,
//! duplicates and reordering and [`latency`] is measured, in an open loop from the time [`pace`] had
//! it due. [`compare`] starts brokers by turns and relates them; [`fake`] is the broker that proves
//! the harness.

mod broker;
mod cli;
mod client;
mod clock;
mod compare;
mod connection;
mod connector;
mod detect;
mod dial;
mod disk;
mod fake;
mod getter;
mod latency;
mod output;
mod pace;
mod packet_ids;
mod payload;
mod persistent;
mod plan;
mod plot;
mod probe;
mod process;
mod progress;
mod publisher;
mod ratios;
mod report;
mod restart;
mod run;
mod scenario;
mod shared;
mod subscriber;
mod system;
mod template;
mod transport;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command, RunArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::List => {
            list();
            Ok(true)
        }
        Command::Run(arguments) => run_scenario(&arguments),
        Command::Restart(arguments) => restart::restart(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Fake(options) => fake::serve(&options).map(|()| true).map_err(|error| error.to_string()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            output::remark(format_args!("hermod-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn list() {
    for scenario in scenario::CATALOGUE {
        output::line(format_args!("{:<26} {}", scenario.name, scenario.about));
    }
}

/// Runs one scenario; `false` when something was lost, repeated, reordered or refused.
fn run_scenario(arguments: &RunArgs) -> Result<bool, String> {
    let plan = cli::plan(&arguments.scenario, &arguments.overrides)?;
    let place = run::Place {
        target: cli::target(arguments.host, arguments.port, arguments.transport)?,
        pid: arguments.pid.or_else(|| process::listener_of(arguments.port)),
        threads: arguments.overrides.threads as usize,
        cpus: arguments.bench_cpus.clone().map(|cpus| cpus.0).unwrap_or_default(),
        spin: arguments.overrides.spin(&plan),
    };
    let outcome = run::run(&plan, &place).map_err(|error| error.to_string())?;
    if arguments.json.as_deref() != Some("-".as_ref()) {
        report::print(&outcome);
    }
    if let Some(path) = &arguments.json {
        report::write_json(path, &outcome).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(path) = &arguments.plot {
        let curve = plot::Curve { name: outcome.scenario.clone(), points: &outcome.latency_curve };
        plot::write(path, &outcome.settings, &[curve])
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(directory) = &arguments.disk {
        disk::print(&disk::limits(directory, plan.payload_bytes)?);
    }
    Ok(outcome.is_clean())
}
