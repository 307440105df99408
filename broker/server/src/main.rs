//! Hermod, the broker's process: the shell around the cores' state machines. Only this crate has threads,
//! sockets and clocks; what MQTT says is decided in `broker_core`.
//!
//! Read on in `node.rs` (the process), then `driver/mod.rs` (a core's turn).

mod authenticator;
mod cli;
mod clock;
mod connections;
mod cores;
mod doctor;
mod driver;
mod listener;
mod log;
mod mailboxes;
mod node;
mod poller;
mod signals;
mod sys;
mod watchdog;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Doctor(wanted)) => doctor::examine(&wanted),
        None => {
            let _log = log::start(cli.serve.filter());
            node::serve(&cli.serve).unwrap_or_else(|error| {
                // Not through the log, which may be filtered.
                let _ = writeln!(io::stderr(), "hermod: {error}");
                ExitCode::FAILURE
            })
        }
    }
}
