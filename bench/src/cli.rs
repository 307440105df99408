//! The command line.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mqtt::{QoS, Version};

use crate::fake::FakeOptions;
use crate::plan::{Load, Plan, Shape};
use crate::scenario;
use crate::transport::{Endpoint, Transport};

/// Longer than a message every 5 000th of a second leaves idle, short enough for a still run to sleep.
const SPIN_US: u64 = 200;

/// Load harness for MQTT brokers on this machine.
#[derive(Debug, Parser)]
#[command(name = "hermod-bench", version, about, args_override_self = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Explain the scenarios.
    List,
    /// Run one scenario against a broker that is running.
    Run(RunArgs),
    /// Compare brokers, each started for its run and pinned to the same CPU: medians and ratios.
    Compare(CompareArgs),
    /// Start a broker, queue messages for sessions that are away, kill it, and start it again: how long until they are served.
    Restart(RestartArgs),
    /// A minimal broker that shows what harness and machine can do, and can fail on purpose.
    Fake(FakeOptions),
}

/// `hermod-bench run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A name of `hermod-bench list`.
    pub(crate) scenario: String,
    /// The broker's address, within 127.0.0.0/8.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: Ipv4Addr,
    /// The broker's port.
    #[arg(long, default_value_t = 1883)]
    pub(crate) port: u16,
    /// What it speaks there.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) transport: Transport,
    /// The broker's process id; found by its port when it is not given.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// CPUs of the harness, as 1 or 2,3 or 4-7; all when not given.
    #[arg(long, value_parser = parse_cpus)]
    pub(crate) bench_cpus: Option<Cpus>,
    /// Write the result as JSON; `-` is standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw latency over percentile as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Measure what the disk under this directory can do, too: write and fdatasync, nothing else.
    #[arg(long, value_name = "DIR")]
    pub(crate) disk: Option<PathBuf>,
    /// The numbers to change.
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// `hermod-bench restart`.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Command that starts the broker, twice: it finds at its second start what its first one kept.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) broker: String,
    /// Its port.
    #[arg(long, default_value_t = 1883)]
    pub(crate) port: u16,
    /// Messages queued over all sessions.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) queued: u64,
    /// End it by SIGTERM, in order, instead of SIGKILL.
    #[arg(long)]
    pub(crate) gently: bool,
    /// CPUs of the broker, as 0 or 0,1.
    #[arg(long, value_parser = parse_cpus, default_value = "0")]
    pub(crate) broker_cpus: Cpus,
    /// CPUs of the harness.
    #[arg(long, value_parser = parse_cpus, default_value = "1")]
    pub(crate) bench_cpus: Cpus,
    /// The numbers to change.
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// `hermod-bench compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Scenario, again for more; the saturated forms when none is given.
    #[arg(long)]
    pub(crate) scenario: Vec<String>,
    /// Command that starts Hermod.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) hermod: String,
    /// Its port.
    #[arg(long, default_value_t = 1883)]
    pub(crate) port: u16,
    /// What it speaks there, and so does the fake.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) transport: Transport,
    /// Command that starts a broker to compare with, again for more.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) vs: Vec<String>,
    /// Its port, once per `--vs` and in their order.
    #[arg(long, value_name = "PORT")]
    pub(crate) vs_port: Vec<u16>,
    /// What it speaks there, once per `--vs` and in their order; tcp when none is given.
    #[arg(long, value_enum)]
    pub(crate) vs_transport: Vec<Transport>,
    /// CPUs of the brokers, as 0 or 0,1.
    #[arg(long, value_parser = parse_cpus, default_value = "0")]
    pub(crate) broker_cpus: Cpus,
    /// CPUs of the harness.
    #[arg(long, value_parser = parse_cpus, default_value = "1")]
    pub(crate) bench_cpus: Cpus,
    /// Rounds, each with one run of every broker; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,
    /// Measure in every round what the disk under this directory can do: write and fdatasync, nothing else.
    #[arg(long, value_name = "DIR")]
    pub(crate) disk: Option<PathBuf>,
    /// Write all outcomes as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw latency over percentile as SVG, one file per scenario: its name goes before the ending.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// The numbers to change.
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// Numbers of a scenario that can be changed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Overrides {
    /// Connections that only stay.
    #[arg(long)]
    connections: Option<u32>,
    /// Publishers of every flow.
    #[arg(long)]
    publishers: Option<u32>,
    /// Subscribers of every flow.
    #[arg(long)]
    subscribers: Option<u32>,
    /// Pairs: publishers and subscribers at once.
    #[arg(long, conflicts_with_all = ["publishers", "subscribers"])]
    pairs: Option<u32>,
    /// Topics, filters or retained messages of every flow.
    #[arg(long)]
    topics: Option<u32>,
    /// Closed loop: messages per publisher under way.
    #[arg(long, conflicts_with = "rate")]
    window: Option<u32>,
    /// Open loop: messages per second over all publishers of a flow.
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of every payload.
    #[arg(long)]
    payload: Option<usize>,
    /// Quality of service of publishers and subscribers.
    #[arg(long, value_parser = parse_qos)]
    qos: Option<QoS>,
    /// Protocol version: 3.1, 3.1.1 or 5.
    #[arg(long, value_parser = parse_version)]
    mqtt: Option<Version>,
    /// As whom every connection logs in.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// With what password.
    #[arg(long, requires = "user")]
    password: Option<String>,
    /// Measured seconds.
    #[arg(long, value_parser = parse_seconds)]
    duration: Option<Duration>,
    /// Seconds of traffic before.
    #[arg(long, value_parser = parse_seconds)]
    warmup: Option<Duration>,
    /// Most seconds to wait for what is under way at the end.
    #[arg(long, value_parser = parse_seconds)]
    drain: Option<Duration>,
    /// Messages per publisher, after which it stops; there is no warm-up then.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    messages: Option<u64>,
    /// Connections opened per second.
    #[arg(long)]
    connect_rate: Option<f64>,
    /// Handshakes at a time.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    handshakes: Option<u32>,
    /// Microseconds a harness thread bound to a CPU looks for work before it sleeps; 200 in open loops,
    /// where the time to wake up would count as latency, else 0.
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    spin_us: Option<u64>,
    /// Threads of the harness.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) threads: u32,
}

/// A list of CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) Vec<usize>);

/// A named scenario with its overrides, checked.
pub(crate) fn plan(name: &str, overrides: &Overrides) -> Result<Plan, String> {
    let found = scenario::find(name);
    let scenario = found.ok_or_else(|| format!("no scenario {name}: see `hermod-bench list`"))?;
    let mut plan = scenario.plan();
    overrides.apply(&mut plan);
    plan.check().map_err(|error| error.to_string())?;
    Ok(plan)
}

impl Overrides {
    /// How long a thread looks for work before it sleeps.
    pub(crate) fn spin(&self, plan: &Plan) -> Duration {
        let open = plan.flows.iter().any(|flow| matches!(flow.load, Load::Rate(_)));
        Duration::from_micros(self.spin_us.unwrap_or(if open { SPIN_US } else { 0 }))
    }

    fn apply(&self, plan: &mut Plan) {
        let set = |place: &mut u32, value: Option<u32>| *place = value.unwrap_or(*place);
        set(&mut plan.idle, self.connections);
        set(&mut plan.handshakes_max, self.handshakes);
        plan.payload_bytes = self.payload.unwrap_or(plan.payload_bytes);
        plan.version = self.mqtt.unwrap_or(plan.version);
        plan.login = self.user.clone().zip(self.password.clone()).or(plan.login.take());
        plan.duration = self.duration.unwrap_or(plan.duration);
        plan.warmup = self.warmup.unwrap_or(plan.warmup);
        plan.drain = self.drain.unwrap_or(plan.drain);
        plan.messages = self.messages.or(plan.messages);
        plan.connect_rate = self.connect_rate.or(plan.connect_rate);
        for flow in &mut plan.flows {
            set(&mut flow.publishers, self.publishers.or(self.pairs));
            set(&mut flow.subscribers, self.subscribers.or(self.pairs));
            set(&mut flow.topics, self.topics);
            flow.qos = self.qos.unwrap_or(flow.qos);
            let window = self.window.map(Load::Window);
            flow.load = self.rate.map(Load::Rate).or(window).unwrap_or(flow.load);
        }
        let reads = plan.flows.first().filter(|flow| flow.shape == Shape::RetainedGet);
        if let (Some(reads), Some(populate)) = (reads, &mut plan.populate) {
            for flow in &mut populate.flows {
                flow.publishers = reads.publishers;
                flow.topics = reads.topics;
            }
            let most = reads.topics.div_ceil(reads.publishers.max(1));
            populate.messages = Some(u64::from(most));
            populate.payload_bytes = plan.payload_bytes;
            populate.version = plan.version;
        }
    }
}

/// Where the broker is.
pub(crate) fn target(host: Ipv4Addr, port: u16, transport: Transport) -> Result<Endpoint, String> {
    if host.is_loopback() {
        Ok(Endpoint::new(SocketAddrV4::new(host, port), transport))
    } else {
        Err(format!("--host {host}: load stays on this machine, 127.0.0.0/8"))
    }
}

fn parse_qos(text: &str) -> Result<QoS, String> {
    text.parse().ok().and_then(QoS::from_bits).ok_or_else(|| "0, 1 or 2".to_owned())
}

fn parse_version(text: &str) -> Result<Version, String> {
    match text {
        "3.1" | "3" => Ok(Version::V31),
        "3.1.1" | "4" => Ok(Version::V311),
        "5" | "5.0" => Ok(Version::V5),
        _ => Err("3.1, 3.1.1 or 5".to_owned()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.trim_end_matches('s').parse().map_err(|_| "seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| format!("{text} is no CPU"));
        cpus.extend(number(first)?..=number(last)?.min(1023));
    }
    if cpus.is_empty() { Err("no CPU".to_owned()) } else { Ok(Cpus(cpus)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// The command line has no contradictions in itself.
    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Overrides reach every flow, and the run that writes what another reads follows it.
    #[test]
    fn overrides_reach_the_plan() {
        let overrides = |arguments: &[&str]| {
            let start = ["hermod-bench", "run", "x"];
            let Command::Run(run) = Cli::parse_from(start.iter().chain(arguments)).command else {
                unreachable!("it is a run")
            };
            run.overrides
        };
        let arguments = ["--pairs", "7", "--qos", "2", "--rate", "50", "--mqtt", "5", "--payload", "16"];
        let changed = plan("sat-p2p", &overrides(&arguments)).unwrap();
        assert_eq!((changed.connections(), changed.payload_bytes), (14, 16));
        assert_eq!(changed.version, Version::V5);
        assert_eq!(changed.flows[0].load, Load::Rate(50.0));
        let read = plan("retained-get", &overrides(&["--publishers", "3", "--topics", "10"])).unwrap();
        assert_eq!(read.populate.unwrap().messages, Some(4));
        assert!(plan("sat-p2p", &overrides(&["--payload", "15"])).is_err());
        assert!(plan("no-such", &overrides(&[])).is_err());
    }

    /// CPU lists read as taskset's do, and only loopback is a target.
    #[test]
    fn arguments_are_parsed() {
        assert_eq!(parse_cpus("0,2-4"), Ok(Cpus(vec![0, 2, 3, 4])));
        assert!(parse_cpus("x").is_err());
        assert!(target(Ipv4Addr::new(10, 0, 0, 1), 1883, Transport::Tcp).is_err());
        assert!(target(Ipv4Addr::new(127, 9, 0, 1), 1883, Transport::Tcp).is_ok());
    }
}
