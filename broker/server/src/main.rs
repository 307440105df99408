//! Hermod, the broker's process: the shell around the cores' state machines. Only this crate has threads,
//! sockets and clocks; what MQTT says is decided in `broker_core`.
//!
//! Read on in `node/mod.rs` (the process), then `driver/mod.rs` (a core's turn).

mod admin;
mod admission;
mod auth;
mod cli;
mod clock;
mod configuration;
mod connections;
mod cores;
mod descriptors;
mod doctor;
mod driver;
mod events;
mod http;
mod listener;
mod log;
mod mailboxes;
mod manual;
mod memory;
mod node;
mod poller;
mod reloading;
mod remote;
mod replace;
mod run_queue;
mod service;
mod signals;
mod storage;
mod sys;
mod transport;
mod watchdog;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, Serve};
use crate::clock::Clock;
use crate::configuration::Configuration;
use crate::reloading::Reloading;
use crate::service::Manager;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Doctor(wanted)) => doctor::examine(&wanted),
        Some(Command::Passwd(wanted)) => match wanted.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Some(Command::Wal(wanted)) => wanted.run().unwrap_or_else(|error| fail(&*error)),
        Some(Command::Restore(wanted)) => match wanted.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&*error),
        },
        Some(Command::Remote(wanted)) => match wanted.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Some(Command::Completions(wanted)) => wanted.run(),
        Some(Command::Manual) => manual::run().unwrap_or_else(|error| fail(&error)),
        None => serve(&cli.serve).unwrap_or_else(|error| fail(&*error)),
    }
}

/// Says why. Not through the log, which may be filtered.
fn fail(error: &dyn Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "hermod: {error}");
    ExitCode::FAILURE
}

fn serve(serve: &Serve) -> Result<ExitCode, Box<dyn Error>> {
    let configuration = Configuration::load(serve)?;
    if serve.test_config {
        node::test_config(&configuration)?;
        writeln!(io::stdout(), "the configuration can be served")?;
        return Ok(ExitCode::SUCCESS);
    }
    let (log, _written) = log::start(&configuration.log.filter);
    let clock = Clock::start();
    let mut manager = Manager::from_environment(clock.monotonic());
    let served = node::serve(configuration, &Reloading { serve, log }, clock, &mut manager);
    if let Err(error) = &served {
        manager.fail(error);
    }
    Ok(served?)
}
