//! `hermod doctor`: what the `tuning` crate finds on this machine, as a report and an exit code. It changes
//! nothing.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use tuning::{Host, Wanted};

use crate::cli::Doctor;
use crate::cores;
use crate::listener::BACKLOG;

/// Examines this machine for the broker that is wanted.
pub(crate) fn examine(doctor: &Doctor) -> ExitCode {
    let cpus = match cores::choose(doctor.cores.as_ref()) {
        Ok(cpus) => cpus,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hermod: {error}");
            return ExitCode::FAILURE;
        }
    };
    let wanted = Wanted {
        data_dir: doctor.data.clone(),
        backlog: BACKLOG,
        ..Wanted::new(doctor.connections, u16::try_from(cpus.0.len()).unwrap_or(u16::MAX))
    };
    let findings = tuning::inspect(&Host::read(&wanted), &wanted);
    let report = tuning::render(&findings, io::stdout().is_terminal());
    // Whoever closes the pipe has read enough.
    let _ = io::stdout().write_all(report.as_bytes());
    ExitCode::from(tuning::exit_code(&findings))
}
