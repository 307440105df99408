//! The end of a node: its threads are waited for, and what they have counted is logged.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use broker_core::counters::Counters;

use super::{Control, EXIT_POISONED, Event, Node, PANIC_DEADLINE};
use crate::admission::{Bite, Gate};
use crate::driver::FLUSH_DEADLINE;
use crate::watchdog::TurnHistogram;

/// How long events may take to be written when all else has ended.
const JOURNAL_DEADLINE: Duration = Duration::from_secs(2);

impl Node {
    /// Ends the threads.
    pub(super) fn exit(self, mut code: ExitCode) -> ExitCode {
        for core in &self.cores {
            let _ = core.tell(Control::Exit);
        }
        let deadline = self.clock.monotonic().after(FLUSH_DEADLINE + PANIC_DEADLINE);
        let mut counted = Vec::new();
        for (id, core) in self.cores.into_iter().enumerate() {
            // A thread that is stuck in a turn ends with the process.
            while !core.thread.is_finished() && self.clock.monotonic() < deadline {
                thread::park_timeout(Duration::from_millis(1));
            }
            log_turns(id, &core.histogram);
            if core.thread.is_finished() {
                counted.extend(core.thread.join().ok().flatten());
            }
        }
        for event in self.events.try_iter() {
            if let Event::Poisoned(core, why) = event {
                tracing::error!("core {}: {why}: what it had not acknowledged is lost", core.0);
                code = ExitCode::from(EXIT_POISONED);
            }
        }
        self.journals.finish(self.clock, JOURNAL_DEADLINE);
        log_counters(&counted);
        log_gates(&self.gates);
        for (_, door) in &self.places {
            door.clear();
        }
        self.workers.log();
        tracing::info!("stopped");
        code
    }
}

fn log_turns(core: usize, turns: &TurnHistogram) {
    tracing::info!(
        "core {core}: {} turns, half within {} µs, 99 % within {} µs, the longest {} µs, {} µs without waiting for the CPU",
        turns.turns(),
        turns.quantile_us(0.5),
        turns.quantile_us(0.99),
        turns.longest_us(),
        turns.longest_running_us()
    );
}

/// One line with what all cores together have counted, without what never happened.
fn log_counters(cores: &[Counters]) {
    let mut sums = Counters::default().named();
    for core in cores {
        for ((_, sum), (_, count)) in sums.iter_mut().zip(core.named()) {
            *sum += count;
        }
    }
    let line: Vec<_> =
        sums.iter().filter(|(_, sum)| *sum > 0).map(|(name, sum)| format!("{name}={sum}")).collect();
    tracing::info!("counters: {}", line.join(" "));
}

/// A line for each limit of a listener that kept somebody waiting or out.
fn log_gates(gates: &[Gate]) {
    for (listener, gate) in gates.iter().enumerate() {
        for bite in Bite::ALL.into_iter().filter(|bite| gate.counted(*bite) > 0) {
            tracing::info!("listeners.{listener}.{}: {} times", bite.name(), gate.counted(bite));
        }
    }
}
