//! `hermod-bench restart`: queues are filled, the broker is killed and started again, and every message that was
//! acknowledged is fetched. Told is how long it takes until the first one comes, from the start of the process on.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::broker::Broker;
use crate::cli::{self, RestartArgs};
use crate::clock;
use crate::output;
use crate::persistent;
use crate::plan::Plan;
use crate::report;
use crate::run::{Carried, Place};
use crate::transport::Transport;

/// Whose sessions and load it takes.
const SCENARIO: &str = "offline-drain";
/// Longest time to fill the queues, and to fetch what is in them.
const LONGEST: Duration = Duration::from_secs(600);

/// Runs it; `false` when something was lost, repeated or reordered.
pub(crate) fn restart(arguments: &RestartArgs) -> Result<bool, String> {
    let mut plan = cli::plan(SCENARIO, &arguments.overrides)?;
    let publishers = u64::from(plan.publishers());
    plan = Plan {
        messages: Some(arguments.queued.div_ceil(publishers)),
        duration: LONGEST,
        drain: LONGEST,
        ..plan
    };
    let start = || Broker::start(&arguments.broker, arguments.port, &arguments.broker_cpus.0);
    let place = |broker: &Broker| {
        Ok::<Place, String>(Place {
            target: cli::target(Ipv4Addr::LOCALHOST, arguments.port, Transport::Tcp)?,
            pid: Some(broker.pid()),
            threads: arguments.overrides.threads as usize,
            cpus: arguments.bench_cpus.0.clone(),
            spin: arguments.overrides.spin(&plan),
        })
    };
    let mut carried = Carried::new();
    let broker = start()?;
    let filled =
        persistent::fill(&plan, &place(&broker)?, &mut carried).map_err(|error| error.to_string())?;
    report::print(&filled);
    match arguments.gently {
        true => drop(broker),
        false => broker.kill(arguments.port),
    }
    let begin = clock::now();
    let broker = start()?;
    let listens = clock::now();
    let back = persistent::fetch(&plan, &place(&broker)?, &mut carried).map_err(|error| error.to_string())?;
    report::print(&back);
    let seconds = clock::seconds(listens - begin);
    output::line(format_args!(
        "{} queued: listens {seconds:.3} s after its start, first delivery {:.3} s, all {:.3} s",
        carried.sent(),
        seconds + back.first_delivery_s.unwrap_or(f64::NAN),
        seconds + back.seconds,
    ));
    Ok(filled.is_clean() && back.is_clean())
}
