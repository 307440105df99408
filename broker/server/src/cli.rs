//! The command line: what can be asked for, and how that becomes a configuration. It reads no file and
//! opens nothing.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use broker_core::config::{Config, Settings};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::cores::CpuList;

/// Port of `tcp://` listeners that name none.
const PORT: u16 = 1883;

/// Hermod, an MQTT broker: MQTT 3.1, 3.1.1 and 5.0, one thread per CPU.
///
/// Without a command it serves clients until SIGTERM or SIGINT, which stop it in order: listeners close,
/// clients are told, the process exits with 0. A second signal ends it at once.
#[derive(Debug, Parser)]
#[command(name = "hermod", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

/// What else there is than serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check this machine for what a busy broker needs, and say for each finding why it matters.
    ///
    /// Nothing is changed. Exits with 0 if nothing is worse than advice, with 1 for a warning, with 2 if
    /// the machine cannot carry what is wanted.
    Doctor(Doctor),
}

/// Checking the machine.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Client connections the machine is to carry.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub(crate) connections: u32,

    /// CPUs to run a core on, as for serving.
    #[arg(long, value_name = "CPUS")]
    pub(crate) cores: Option<CpuList>,

    /// A directory whose disk is to be timed as a store's; one small file is written there and removed.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// Serving clients.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to accept clients; may be given several times.
    ///
    /// `tcp://ADDRESS:PORT`, with port 1883 if none is named and a free one, which the log names, if it
    /// is 0. `tcp://[::]:1883` takes IPv4 and IPv6 on all interfaces.
    #[arg(long, value_name = "URL", default_value = "tcp://127.0.0.1:1883")]
    pub(crate) listen: Vec<Listen>,

    /// CPUs to run a core on, as in `0,1` or `0-3`.
    ///
    /// One thread is pinned to each. Default: all CPUs of the inherited affinity mask, or as many of
    /// them as the control group's CPU quota is worth, rounded up.
    #[arg(long, value_name = "CPUS")]
    pub(crate) cores: Option<CpuList>,

    /// Directory of the durable store, or `none`.
    ///
    /// With `none` sessions, queued and retained messages live in memory, and end with the process.
    #[arg(long, value_name = "DIR", default_value = "none", value_parser = data_is_none)]
    pub(crate) data: String,

    /// What to log: a level (error, warn, info, debug), or a filter as in `info,hermod=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = filter_is_valid)]
    pub(crate) log: String,

    /// Client connections per core; further sockets are closed when they are accepted.
    #[arg(long, value_name = "COUNT", default_value_t = NonZeroU32::new(Config::default().connections_max).unwrap_or(NonZeroU32::MAX))]
    pub(crate) max_connections: NonZeroU32,

    /// Seconds from accepting a socket to a complete CONNECT packet; then it is closed.
    #[arg(long, value_name = "SECONDS", default_value_t = Config::default().connect_timeout_ms / 1000,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) connect_timeout_seconds: u32,

    /// Bytes of the largest packet taken from a client, announced to it as Maximum Packet Size.
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().packet_bytes_max,
          value_parser = clap::value_parser!(u32).range(128..=268_435_460))]
    pub(crate) max_packet_bytes: u32,

    /// Messages that may wait for one session, those in flight included.
    #[arg(long, value_name = "COUNT", default_value_t = Settings::default().queue_messages_max,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_queued_messages: u32,

    /// How cores wait for the kernel.
    #[arg(long, value_name = "DRIVER", value_enum, default_value_t = Io::Auto, hide = true)]
    pub(crate) io: Io,
}

/// How cores wait for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Io {
    /// io_uring, or epoll where io_uring is not to be had.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

impl Serve {
    /// The configuration all cores share.
    pub(crate) fn config(&self, cores: u16) -> Config {
        let settings = Settings {
            packet_bytes_max: self.max_packet_bytes,
            queue_messages_max: self.max_queued_messages,
            ..Settings::default()
        };
        Config {
            cores,
            connections_max: self.max_connections.get(),
            connect_timeout_ms: self.connect_timeout_seconds * 1000,
            settings: Arc::new(settings),
            ..Config::default()
        }
    }

    /// What is to be logged.
    pub(crate) fn filter(&self) -> EnvFilter {
        // Checked when the command line was parsed.
        EnvFilter::try_new(&self.log).unwrap_or_default()
    }
}

/// A place to accept clients, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// An address or a name that resolves to some.
    pub(crate) host: String,
    /// 0 for any free one.
    pub(crate) port: u16,
}

/// Why a text is no place to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenError {
    /// No `tcp://` in front.
    Scheme,
    /// Nothing between `tcp://` and the port.
    Host,
    /// Not a port number.
    Port,
}

impl std::error::Error for ListenError {}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenError::Scheme => "must begin with tcp://, the one transport there is so far",
            ListenError::Host => "names no address; tcp://[::]:1883 listens on all",
            ListenError::Port => "the port must be 0 to 65535",
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "tcp://[{}]:{}", self.host, self.port),
            false => write!(f, "tcp://{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Listen, ListenError> {
        let place = text.strip_prefix("tcp://").ok_or(ListenError::Scheme)?.trim_end_matches('/');
        // An IPv6 address stands in brackets, because of its colons.
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or(ListenError::Port)?)),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(ListenError::Host);
        }
        let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| ListenError::Port))?;
        Ok(Listen { host: host.to_owned(), port })
    }
}

fn data_is_none(text: &str) -> Result<String, &'static str> {
    match text {
        "none" => Ok(text.to_owned()),
        _ => Err("durable storage is not there yet: only 'none' (memory only) can be served"),
    }
}

fn filter_is_valid(text: &str) -> Result<String, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn serve(arguments: &[&str]) -> Result<Serve, clap::Error> {
        Cli::try_parse_from([&["hermod"], arguments].concat()).map(|cli| cli.serve)
    }

    /// The definition holds together, and every flag explains itself.
    #[test]
    fn flags_explain_themselves() {
        Cli::command().debug_assert();
        for argument in Cli::command().get_arguments() {
            assert!(argument.get_help().is_some(), "{} has no help", argument.get_id());
        }
    }

    /// Listeners are read with and without port, IPv6 in brackets.
    #[test]
    fn listeners_are_read() {
        let listen = |host: &str, port| Ok(Listen { host: host.to_owned(), port });
        for (text, expected) in [
            ("tcp://127.0.0.1:1", listen("127.0.0.1", 1)),
            ("tcp://broker.example", listen("broker.example", 1883)),
            ("tcp://[::]:1883", listen("::", 1883)),
            ("tcp://[::1]/", listen("::1", 1883)),
            ("127.0.0.1:1883", Err(ListenError::Scheme)),
            ("tls://127.0.0.1:1883", Err(ListenError::Scheme)),
            ("tcp://:1883", Err(ListenError::Host)),
            ("tcp://a:x", Err(ListenError::Port)),
            ("tcp://[::1]x", Err(ListenError::Port)),
            ("tcp://a:65536", Err(ListenError::Port)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        assert_eq!("tcp://[::1]:1".parse::<Listen>().unwrap().to_string(), "tcp://[::1]:1");
    }

    /// The defaults and every flag give a configuration that can be served.
    #[test]
    fn flags_reach_the_configuration() {
        assert_eq!(serve(&[]).unwrap().config(2), Config { cores: 2, ..Config::default() });
        let flags = [
            "--max-connections=7",
            "--connect-timeout-seconds=3",
            "--max-packet-bytes=4096",
            "--max-queued-messages=9",
        ];
        let config = serve(&flags).unwrap().config(1);
        assert_eq!(config.check(), Ok(()));
        assert_eq!((config.connections_max, config.connect_timeout_ms), (7, 3000));
        assert_eq!((config.settings.packet_bytes_max, config.settings.queue_messages_max), (4096, 9));
    }

    /// A store that would not store is refused, not ignored.
    #[test]
    fn only_memory_is_served() {
        assert_eq!(serve(&["--data", "none"]).unwrap().data, "none");
        let error = serve(&["--data", "/var/lib/hermod"]).unwrap_err().to_string();
        assert!(error.contains("not there yet"), "{error}");
    }
}
