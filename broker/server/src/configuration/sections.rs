//! The sections that are the node's own affair; limits and tenants are the core's
//! ([`broker_core::config::Config`], [`broker_core::config::Settings`]).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use broker_core::config::{Field, Key, Kind, Value};
use broker_core::keys;
use broker_core::network::Network;
use tracing_subscriber::EnvFilter;

use crate::auth::FileName;
use crate::cli::{Io, Listen};
use crate::cores::CpuList;

/// `[node]`: what the process runs on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// The CPUs to run a core on.
    pub(crate) cores: Cores,
    /// Where sessions and messages are kept.
    pub(crate) data: Data,
    /// How cores wait for the kernel.
    pub(crate) io: Io,
}

/// `[log]`: what is written to stderr.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Log {
    /// A level, or a filter as in `info,hermod=debug`.
    pub(crate) filter: Filter,
}

/// `[cluster]`: to whom the node belongs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cluster {
    /// The cluster's name.
    pub(crate) env: Name,
}

/// `[roles]`: the services that the node takes part in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Roles {
    /// Clients.
    pub(crate) mqtt: bool,
    /// Routes.
    pub(crate) dist: bool,
    /// Sessions.
    pub(crate) inbox: bool,
    /// Retained messages.
    pub(crate) retain: bool,
}

/// `[[listeners]]`: a place where clients are accepted, and what is special about those who come there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listener {
    /// Transport, address and port.
    pub(crate) bind: Listen,
    /// The certificate it shows, with those between it and its authority.
    pub(crate) tls_cert: FileName,
    /// Its key.
    pub(crate) tls_key: FileName,
    /// Authorities of client certificates.
    pub(crate) tls_ca: FileName,
    /// Which clients need one.
    pub(crate) tls_client_certificates: ClientCertificates,
    /// Certificates that are revoked.
    pub(crate) tls_crl: FileName,
    /// Whether the name in a client's certificate is its user name.
    pub(crate) use_identity_as_username: bool,
    /// Proxies that say, by the PROXY protocol, whose connections they hand on.
    pub(crate) proxy_from: Networks,
    /// Who may connect to a socket in the file system.
    pub(crate) socket_mode: Mode,
    /// Connections at a time.
    pub(crate) connections_max: u32,
    /// New connections in a second; 0: any number.
    pub(crate) connects_per_second_max: u32,
    /// Connections whose client is not let in yet.
    pub(crate) handshakes_max: u32,
    /// Milliseconds to a complete CONNECT; 0: what the limits say.
    pub(crate) connect_timeout_ms: u32,
    /// The tenant of its clients.
    pub(crate) tenant: Name,
    /// Whether a user name `tenant/user` names another.
    pub(crate) tenant_from_username: bool,
    /// What differs from the tenants' settings, by key.
    pub(crate) settings: BTreeMap<&'static str, Value>,
    /// Certificates, each with its key, shown to those who ask for the name.
    pub(crate) certificates: BTreeMap<String, PathBuf>,
    /// Tenants of those who ask for the name.
    pub(crate) tenants: BTreeMap<String, Name>,
}

impl Node {
    pub(crate) const KEYS: &'static [Key<Node>] = keys!(Node { cores, data, io } beside {});
}

impl Log {
    pub(crate) const KEYS: &'static [Key<Log>] = keys!(Log { filter } beside {});
}

impl Cluster {
    pub(crate) const KEYS: &'static [Key<Cluster>] = keys!(Cluster { env } beside {});
}

impl Roles {
    pub(crate) const KEYS: &'static [Key<Roles>] = keys!(Roles { mqtt, dist, inbox, retain } beside {});
}

impl Roles {
    /// The names of those that the node has.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let has = |key: &&Key<Roles>| key.get(self) == Value::Switch(true);
        Roles::KEYS.iter().filter(has).map(|key| key.name).collect()
    }
}

impl Listener {
    pub(crate) const KEYS: &'static [Key<Listener>] = keys!(Listener {
            bind,
            tls_cert,
            tls_key,
            tls_ca,
            tls_client_certificates,
            tls_crl,
            use_identity_as_username,
            proxy_from,
            socket_mode,
            connections_max in 1..=4_294_967_295,
            connects_per_second_max,
            handshakes_max in 1..=4_294_967_295,
            connect_timeout_ms in 0..=86_400_000,
            tenant,
            tenant_from_username,
        } beside { settings, certificates, tenants });

    /// Whether nobody comes in without a certificate.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        self.bind.scheme.is_encrypted()
            && self.tls_ca.path().is_some()
            && self.tls_client_certificates == ClientCertificates::Required
    }
}

impl Default for Node {
    fn default() -> Node {
        Node { cores: Cores(None), data: Data::Directory("./hermod-data".into()), io: Io::Auto }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log { filter: Filter("info".to_owned()) }
    }
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster { env: Name("hermod".to_owned()) }
    }
}

impl Default for Roles {
    fn default() -> Roles {
        Roles { mqtt: true, dist: true, inbox: true, retain: true }
    }
}

impl Default for Listener {
    fn default() -> Listener {
        Listener {
            bind: Listen::default(),
            tls_cert: FileName::default(),
            tls_key: FileName::default(),
            tls_ca: FileName::default(),
            tls_client_certificates: ClientCertificates::Required,
            tls_crl: FileName::default(),
            use_identity_as_username: false,
            proxy_from: Networks(Vec::new()),
            socket_mode: Mode(0o660),
            connections_max: u32::MAX,
            connects_per_second_max: 0,
            handshakes_max: u32::MAX,
            connect_timeout_ms: 0,
            tenant: Name("default".to_owned()),
            tenant_from_username: false,
            settings: BTreeMap::new(),
            certificates: BTreeMap::new(),
            tenants: BTreeMap::new(),
        }
    }
}

/// Which clients need a certificate, where there are authorities for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificates {
    /// All.
    Required,
    /// None, but one that is shown has to be good.
    Optional,
}

impl FromStr for ClientCertificates {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<ClientCertificates, Unfit> {
        match text {
            "required" => Ok(ClientCertificates::Required),
            "optional" => Ok(ClientCertificates::Optional),
            _ => Err(Unfit),
        }
    }
}

impl fmt::Display for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClientCertificates::Required => "required",
            ClientCertificates::Optional => "optional",
        })
    }
}

/// The CPUs to run a core on; none named: those that the process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cores(pub(crate) Option<CpuList>);

/// Where sessions and messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// In memory, until the process ends.
    None,
    /// In this directory.
    Directory(PathBuf),
}

/// What to log, in the syntax of `tracing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter(pub(crate) String);

/// A name that is part of keys and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

/// Networks, written one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Networks(pub(crate) Vec<Network>);

/// What a file allows to whom, as chmod(1) has it in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

/// A text is none of what a field takes; its [`Kind`] says what it takes.
pub(crate) struct Unfit;

impl FromStr for Cores {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Cores, Unfit> {
        match text {
            "auto" => Ok(Cores(None)),
            list => list.parse().map(|list| Cores(Some(list))).map_err(|_| Unfit),
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("auto"),
            Some(list) => list.fmt(f),
        }
    }
}

impl FromStr for Data {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Data, Unfit> {
        match text {
            "" => Err(Unfit),
            "none" => Ok(Data::None),
            path => Ok(Data::Directory(path.into())),
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::None => f.write_str("none"),
            Data::Directory(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for Filter {
    type Err = tracing_subscriber::filter::ParseError;

    fn from_str(text: &str) -> Result<Filter, tracing_subscriber::filter::ParseError> {
        EnvFilter::try_new(text).map(|_| Filter(text.to_owned()))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Networks {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Networks, Unfit> {
        if text.trim().is_empty() {
            return Ok(Networks(Vec::new()));
        }
        let networks = text.split(',').map(|network| network.trim().parse());
        networks.collect::<Result<_, _>>().map(Networks).map_err(|_| Unfit)
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{network}")?;
        }
        Ok(())
    }
}

impl FromStr for Mode {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Mode, Unfit> {
        let is_octal = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        let mode = u32::from_str_radix(text, 8).ok().filter(|_| is_octal);
        mode.map(Mode).ok_or(Unfit)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03o}", self.0)
    }
}

impl Name {
    /// The most bytes of one.
    const BYTES_MAX: usize = 64;
}

impl FromStr for Name {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Name, Unfit> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let length = (1..=Name::BYTES_MAX).contains(&text.len());
        if length && text.bytes().all(fits) { Ok(Name(text.to_owned())) } else { Err(Unfit) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Io {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Io, Unfit> {
        match text {
            "auto" => Ok(Io::Auto),
            "uring" => Ok(Io::Uring),
            "epoll" => Ok(Io::Epoll),
            _ => Err(Unfit),
        }
    }
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Io::Auto => "auto",
            Io::Uring => "uring",
            Io::Epoll => "epoll",
        })
    }
}

/// What a [`Name`] is.
pub(crate) const NAME: Kind = Kind::Text("a name of 1 to 64 letters, digits, _, - and .");

/// Types that are written as texts.
macro_rules! text_field {
    ($($type:ty: $kind:expr),+ $(,)?) => {
        $(impl Field for $type {
            const KIND: Kind = $kind;

            fn read(value: &Value) -> Option<$type> {
                match value {
                    Value::Text(text) => text.parse().ok(),
                    _ => None,
                }
            }

            fn write(&self) -> Value {
                Value::Text(self.to_string())
            }
        })+
    };
}

pub(super) use text_field;

text_field!(
    Cores: Kind::Text("\"auto\" or a list of CPUs such as \"0-3,6\""),
    Data: Kind::Text("a directory, or \"none\""),
    Io: Kind::Word(&["auto", "uring", "epoll"]),
    Filter: Kind::Text("a level (\"error\", \"warn\", \"info\", \"debug\") or a filter such as \"info,hermod=debug\""),
    ClientCertificates: Kind::Word(&["required", "optional"]),
    Listen: Kind::Text("\"tcp://ADDRESS:PORT\", or with tls, ws or wss in front, and IPv6 addresses in brackets, or \"unix:///PATH\""),
    Networks: Kind::Text("addresses and networks as in \"10.0.0.0/8, 192.0.2.7\", or \"\" for none"),
    Mode: Kind::Text("three octal digits"),
    Name: NAME,
);
