//! The command line: what can be asked for, and how that becomes a configuration. It reads no file and
//! opens nothing.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::admin::Bind;
use crate::auth::{Anonymous, FileName, passwd::Passwd};
use crate::configuration::{Configuration, Cores, Data, Filter, Listener};
use crate::cores::CpuList;
use crate::manual::Completions;
use crate::remote::Remote;
use crate::storage::backup::Restore;
use crate::storage::inspect::Inspect;

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

    /// Add a user to a password file, give it another password, or take it away.
    ///
    /// The password is stored as Argon2id; users that mosquitto_passwd has stored stay as they are. A broker
    /// reads the file again on SIGHUP.
    Passwd(Passwd),

    /// Look into the logs of a stopped node's data directory. Nothing is changed.
    #[command(subcommand)]
    Wal(Inspect),

    /// Make a data directory of a backup that `hermod backup` has made.
    ///
    /// Every file is compared with the checksum that the backup has of it, and every log read as a start would read it;
    /// a backup that is cut or damaged is refused, and nothing is left behind. The node keeps its name: it is the same
    /// one, as it was, and takes the place of the one that was lost. Do not run both.
    Restore(Restore),
    #[command(flatten)]
    Remote(Remote),

    /// Print what a shell has to read to complete commands and flags, as in `source <(hermod completions bash)`.
    Completions(Completions),

    /// Print the page hermod(1).
    #[command(hide = true)]
    Manual,
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
///
/// What is asked for here is put over what the environment says, that over the file, that over the defaults.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration file, in TOML; `conf/hermod.toml` shows every key with its default.
    ///
    /// Each key may also be given in the environment, as in `HERMOD__LIMITS__CONNECTIONS_MAX=5000`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Check the configuration and the files it names, say what is wrong with them, and exit: with 0 if it can be served.
    #[arg(long)]
    pub(crate) test_config: bool,

    /// Where to accept clients, instead of the file's listeners; may be given several times.
    ///
    /// `tcp://ADDRESS:PORT`, with port 1883 if none is named and a free one, which the log names, if it
    /// is 0. `tcp://[::]:1883` takes IPv4 and IPv6 on all interfaces; `tls://ADDRESS:PORT`, port 8883, is the same
    /// under TLS, `ws://` (8083) and `wss://` (8084) the same in WebSockets at /mqtt; `unix:///PATH` is a socket in the
    /// file system. Default: tcp://127.0.0.1:1883.
    #[arg(long, value_name = "URL")]
    pub(crate) listen: Vec<Listen>,

    /// Certificate that TLS listeners show, and those between it and its authority, in PEM (`listeners.tls_cert`).
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM (`listeners.tls_key`).
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Authorities of client certificates, in PEM; TLS listeners want one of each client then
    /// (`listeners.tls_ca`).
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// CPUs to run a core on, as in `0,1` or `0-3` (`node.cores`).
    ///
    /// One thread is pinned to each. Default: all CPUs of the inherited affinity mask, or as many of
    /// them as the control group's CPU quota is worth, rounded up.
    #[arg(long, value_name = "CPUS")]
    pub(crate) cores: Option<CpuList>,

    /// Directory of the durable store, or `none` (`node.data`).
    ///
    /// It is made if it is not there, and belongs to one process at a time. With `none` everything is kept in
    /// memory, and ends with the process. Default: ./hermod-data.
    #[arg(long, value_name = "DIR", value_parser = data)]
    pub(crate) data: Option<Data>,

    /// Start without the ranges of the data directory that are damaged, and say what is missing (`wal.quarantine`).
    ///
    /// What these ranges held is given up for good: copy the directory before.
    #[arg(long)]
    pub(crate) quarantine: bool,

    /// What to log: a level (error, warn, info, debug), or a filter as in `info,hermod=debug` (`log.filter`).
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<Filter>,

    /// Client connections per core; further sockets are closed when they are accepted
    /// (`limits.connections_max`).
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_connections: Option<NonZeroU32>,

    /// Seconds from accepting a socket to a complete CONNECT packet; then it is closed
    /// (`limits.connect_timeout_ms`).
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) connect_timeout_seconds: Option<u32>,

    /// Bytes of the largest packet taken from a client, announced to it as Maximum Packet Size
    /// (`tenants.default.packet_bytes_max`).
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(128..=268_435_460))]
    pub(crate) max_packet_bytes: Option<u32>,

    /// Messages that may wait for one session, those in flight included
    /// (`tenants.default.queue_messages_max`).
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_queued_messages: Option<u32>,

    /// Users and their passwords, in the format of mosquitto_passwd; see `hermod passwd` (`auth.password_file`).
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,

    /// What clients may publish and receive, in the format of Mosquitto's acl_file (`auth.acl_file`).
    #[arg(long, value_name = "FILE")]
    pub(crate) acl_file: Option<PathBuf>,

    /// Whether clients are let in that give neither user name nor password (`auth.allow_anonymous`).
    ///
    /// With auto only without --password-file, and on loopback addresses: a broker that listens on others does
    /// not start then.
    #[arg(long, value_name = "WHETHER", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_anonymous: Option<Anonymous>,

    /// Where the node is administered over HTTP, as in `127.0.0.1:9883`; empty for nowhere (`admin.bind`).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) admin: Option<Bind>,

    /// A file with the token that users of the administration show (`admin.token_file`).
    ///
    /// Where others than this machine can reach it there has to be one.
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,

    /// How cores wait for the kernel (`node.io`).
    #[arg(long, value_name = "DRIVER", value_enum, hide = true)]
    pub(crate) io: Option<Io>,
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
    /// Puts what is asked for over what is configured. Settings of a tenant that has them by name keep it: these
    /// are the default tenant's.
    pub(crate) fn apply(&self, configuration: &mut Configuration) {
        if !self.listen.is_empty() {
            let listener = |bind: &Listen| Listener { bind: bind.clone(), ..Listener::default() };
            configuration.listeners = self.listen.iter().map(listener).collect();
        }
        let file = |path: &Option<PathBuf>| path.clone().map(|path| FileName(Some(path)));
        for listener in &mut configuration.listeners {
            put(&mut listener.tls_cert, file(&self.tls_cert));
            put(&mut listener.tls_key, file(&self.tls_key));
            put(&mut listener.tls_ca, file(&self.tls_ca));
        }
        if let Some(cores) = &self.cores {
            configuration.node.cores = Cores(Some(cores.clone()));
        }
        put(&mut configuration.node.data, self.data.clone());
        configuration.wal.quarantine |= self.quarantine;
        put(&mut configuration.node.io, self.io);
        put(&mut configuration.log.filter, self.log.clone());
        put(&mut configuration.auth.password_file, file(&self.password_file));
        put(&mut configuration.auth.acl_file, file(&self.acl_file));
        put(&mut configuration.auth.allow_anonymous, self.allow_anonymous);
        put(&mut configuration.admin.bind, self.admin);
        put(&mut configuration.admin.token_file, file(&self.admin_token_file));
        put(&mut configuration.limits.connections_max, self.max_connections.map(NonZeroU32::get));
        let timeout_ms = self.connect_timeout_seconds.map(|seconds| seconds * 1000);
        put(&mut configuration.limits.connect_timeout_ms, timeout_ms);
        put(&mut configuration.default_tenant.packet_bytes_max, self.max_packet_bytes);
        put(&mut configuration.default_tenant.queue_messages_max, self.max_queued_messages);
    }
}

fn put<T>(value: &mut T, asked_for: Option<T>) {
    if let Some(asked_for) = asked_for {
        *value = asked_for;
    }
}

/// A place to accept clients, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// What is spoken there.
    pub(crate) scheme: Scheme,
    /// An address or a name that resolves to some.
    pub(crate) host: String,
    /// 0 for any free one.
    pub(crate) port: u16,
}

/// What is spoken at a place, beneath MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// A socket in the file system, whose path is the host.
    Unix,
}

impl Scheme {
    const ALL: [Scheme; 5] = [Scheme::Tcp, Scheme::Tls, Scheme::Ws, Scheme::Wss, Scheme::Unix];

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scheme::Tcp => "tcp",
            Scheme::Tls => "tls",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
            Scheme::Unix => "unix",
        }
    }

    /// The port of listeners that name none.
    fn port(self) -> u16 {
        match self {
            Scheme::Tcp => 1883,
            Scheme::Tls => 8883,
            Scheme::Ws => 8083,
            Scheme::Wss => 8084,
            Scheme::Unix => 0,
        }
    }

    /// Whether there have to be certificates.
    pub(crate) fn is_encrypted(self) -> bool {
        matches!(self, Scheme::Tls | Scheme::Wss)
    }

    /// Whether packets come in frames.
    pub(crate) fn is_websocket(self) -> bool {
        matches!(self, Scheme::Ws | Scheme::Wss)
    }
}

/// Bytes of the longest path of a socket: what the kernel has room for, without the end of the text.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why a text is no place to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenError {
    /// Nothing in front that there is.
    Scheme,
    /// Nothing between that and the port.
    Host,
    /// Neither an address nor what a name can be.
    Address,
    /// Not a port number.
    Port,
    /// No path that a socket can have.
    Path,
}

impl std::error::Error for ListenError {}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenError::Scheme => "must begin with tcp://, tls://, ws://, wss:// or unix://",
            ListenError::Host => "names no address; tcp://[::]:1883 listens on all",
            ListenError::Address => "the host must be an IPv4 address, an IPv6 address in brackets or a name",
            ListenError::Port => "the port must be 0 to 65535",
            ListenError::Path => "the path must begin with / and have at most 107 bytes",
        })
    }
}

impl Default for Listen {
    fn default() -> Listen {
        Listen { scheme: Scheme::Tcp, host: "127.0.0.1".to_owned(), port: Scheme::Tcp.port() }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.name();
        if self.scheme == Scheme::Unix {
            return write!(f, "{scheme}://{}", self.host);
        }
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Listen, ListenError> {
        let (scheme, place) = text.split_once("://").ok_or(ListenError::Scheme)?;
        let scheme = Scheme::ALL.into_iter().find(|known| known.name() == scheme);
        let scheme = scheme.ok_or(ListenError::Scheme)?;
        if scheme == Scheme::Unix {
            let fits = place.starts_with('/') && place.len() <= SOCKET_PATH_BYTES_MAX;
            return if fits {
                Ok(Listen { scheme, host: place.to_owned(), port: 0 })
            } else {
                Err(ListenError::Path)
            };
        }
        let place = place.trim_end_matches('/');
        // An IPv6 address stands in brackets, because of its colons.
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or(ListenError::Port)?)),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(ListenError::Host);
        }
        let is_host = if place.starts_with('[') { is_ipv6(host) } else { is_ipv4_or_name(host) };
        if !is_host {
            return Err(ListenError::Address);
        }
        let port = port.map_or(Ok(scheme.port()), |port| port.parse().map_err(|_| ListenError::Port))?;
        Ok(Listen { scheme, host: host.to_owned(), port })
    }
}

/// Whether this is an IPv6 address, perhaps with the interface that a link-local one is of (`fe80::1%eth0`).
fn is_ipv6(host: &str) -> bool {
    let (address, interface) =
        host.split_once('%').map_or((host, None), |(address, interface)| (address, Some(interface)));
    address.parse::<Ipv6Addr>().is_ok() && interface != Some("")
}

/// Whether this is an IPv4 address or can be the name of a host. What ends in a number is meant as an address: no
/// top-level domain is a number.
fn is_ipv4_or_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    if name.rsplit('.').next().is_some_and(is_number) {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn data(text: &str) -> Result<Data, &'static str> {
    text.parse().map_err(|_| "names no directory; 'none' is memory only")
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
        let at = |scheme, host: &str, port| Ok(Listen { scheme, host: host.to_owned(), port });
        let listen = |host: &str, port| at(Scheme::Tcp, host, port);
        for (text, expected) in [
            ("tcp://127.0.0.1:1", listen("127.0.0.1", 1)),
            ("tcp://broker.example", listen("broker.example", 1883)),
            ("tcp://[::]:1883", listen("::", 1883)),
            ("tcp://[::1]/", listen("::1", 1883)),
            ("127.0.0.1:1883", Err(ListenError::Scheme)),
            ("tls://127.0.0.1", at(Scheme::Tls, "127.0.0.1", 8883)),
            ("ws://a", at(Scheme::Ws, "a", 8083)),
            ("wss://a", at(Scheme::Wss, "a", 8084)),
            ("tls://[::]:1", at(Scheme::Tls, "::", 1)),
            ("unix:///run/a:b.sock", at(Scheme::Unix, "/run/a:b.sock", 0)),
            ("unix://a", Err(ListenError::Path)),
            ("unix://", Err(ListenError::Path)),
            ("udp://127.0.0.1:1883", Err(ListenError::Scheme)),
            ("tcp://:1883", Err(ListenError::Host)),
            ("tcp://a:x", Err(ListenError::Port)),
            ("tcp://[::1]x", Err(ListenError::Port)),
            ("tcp://a:65536", Err(ListenError::Port)),
            ("tcp://256.1.1.1:1", Err(ListenError::Address)),
            ("tcp://1.1.1:1", Err(ListenError::Address)),
            ("tcp://127.0.0.1.:1", Err(ListenError::Address)),
            ("tcp://1883", Err(ListenError::Address)),
            ("tcp://a b:1", Err(ListenError::Address)),
            ("tcp://a/mqtt:1", Err(ListenError::Address)),
            ("tcp://a..b:1", Err(ListenError::Address)),
            ("tcp://[a]:1", Err(ListenError::Address)),
            ("tcp://[::g]:1", Err(ListenError::Address)),
            ("tcp://[127.0.0.1]:1", Err(ListenError::Address)),
            ("tcp://[fe80::1%]:1", Err(ListenError::Address)),
            ("tcp://[fe80::1%eth0]:1", listen("fe80::1%eth0", 1)),
            ("tcp://a_b.4.example.:1", listen("a_b.4.example.", 1)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        assert_eq!("tcp://[::1]:1".parse::<Listen>().unwrap().to_string(), "tcp://[::1]:1");
    }

    /// Every flag reaches what it names, and what is not asked for stays as it is configured.
    #[test]
    fn flags_reach_the_configuration() {
        let configured = |flags: &[&str]| {
            let mut configuration = Configuration::default();
            serve(flags).unwrap().apply(&mut configuration);
            configuration
        };
        assert_eq!(configured(&[]), Configuration::default());
        let configuration = configured(&[
            "--listen=tcp://[::1]:7",
            "--cores=3",
            "--data=/d",
            "--quarantine",
            "--log=warn",
            "--max-connections=7",
            "--connect-timeout-seconds=3",
            "--max-packet-bytes=4096",
            "--max-queued-messages=9",
            "--io=epoll",
            "--tls-cert=c",
            "--tls-key=k",
            "--tls-ca=r",
            "--password-file=p",
            "--acl-file=a",
            "--allow-anonymous",
            "--admin=127.0.0.1:5",
            "--admin-token-file=t",
        ]);
        assert_eq!(configuration.core(1, false).check(), Ok(()));
        assert_eq!(configuration.listeners[0].bind.to_string(), "tcp://[::1]:7");
        assert_eq!(configuration.node.cores.to_string(), "3");
        assert_eq!(configuration.node.io, Io::Epoll);
        assert_eq!(configuration.node.data, Data::Directory("/d".into()));
        assert!(configuration.wal.quarantine);
        assert_eq!(configuration.log.filter.0, "warn");
        let Configuration { limits, default_tenant, auth, admin, listeners, .. } = configuration;
        let file = |name: &str| FileName(Some(name.into()));
        let Listener { tls_cert, tls_key, tls_ca, .. } = listeners[0].clone();
        assert_eq!([tls_cert, tls_key, tls_ca], ["c", "k", "r"].map(file));
        assert_eq!((auth.password_file, auth.acl_file), (file("p"), file("a")));
        assert_eq!((admin.bind.to_string().as_str(), admin.token_file), ("127.0.0.1:5", file("t")));
        assert_eq!(auth.allow_anonymous, Anonymous::Yes);
        assert_eq!((limits.connections_max, limits.connect_timeout_ms), (7, 3000));
        assert_eq!((default_tenant.packet_bytes_max, default_tenant.queue_messages_max), (4096, 9));
        assert!(serve(&["--log=no=such=filter"]).is_err());
    }

    /// A directory, or none: no text that is neither.
    #[test]
    fn data_is_a_directory_or_none() {
        assert_eq!(serve(&["--data", "none"]).unwrap().data, Some(Data::None));
        let directory = Data::Directory("./none".into());
        assert_eq!(serve(&["--data", "./none"]).unwrap().data, Some(directory));
        let error = serve(&["--data", ""]).unwrap_err().to_string();
        assert!(error.contains("names no directory"), "{error}");
    }
}
