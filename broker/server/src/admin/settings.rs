//! `[admin]`: where the node is looked at and administered, and by whom.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use broker_core::config::{Field, Key, Kind, Value};
use broker_core::keys;

use crate::auth::FileName;

/// `[admin]`: what can be said of the administration over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// Where it listens.
    pub(crate) bind: Bind,
    /// The token that its users show.
    pub(crate) token_file: FileName,
    /// Where bans are kept that are asked for.
    pub(crate) bans_file: FileName,
    /// Connections at a time.
    pub(crate) connections_max: u32,
    /// Time for a client to send a request, and to take its answer.
    pub(crate) request_timeout_ms: u32,
    /// Tenants that metrics name.
    pub(crate) metrics_tenants_max: u32,
    /// How often `$SYS` is published.
    pub(crate) sys_interval_seconds: u32,
}

impl Settings {
    pub(crate) const KEYS: &'static [Key<Settings>] = keys!(Settings {
        bind,
        token_file,
        bans_file,
        connections_max in 1..=65_535,
        request_timeout_ms in 100..=3_600_000,
        metrics_tenants_max in 0..=100_000,
        sys_interval_seconds in 0..=86_400,
    } beside {});
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            bind: Bind::default(),
            token_file: FileName::default(),
            bans_file: FileName::default(),
            connections_max: 64,
            request_timeout_ms: 30_000,
            metrics_tenants_max: 1000,
            sys_interval_seconds: 10,
        }
    }
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bind(pub(crate) Option<SocketAddr>);

impl Default for Bind {
    fn default() -> Bind {
        Bind(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9883))))
    }
}

impl FromStr for Bind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Bind, &'static str> {
        match text {
            "" => Ok(Bind(None)),
            _ => text
                .parse()
                .map(|address| Bind(Some(address)))
                .map_err(|_| "must be ADDRESS:PORT, or empty for none"),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| address.fmt(f))
    }
}

impl Field for Bind {
    const KIND: Kind = Kind::Text("\"ADDRESS:PORT\", or \"\" for none");

    fn read(value: &Value) -> Option<Bind> {
        match value {
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Text(self.to_string())
    }
}
