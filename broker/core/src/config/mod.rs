//! The configuration tree: plain values, checked once at start, the same on all cores of a node.
//!
//! Every limit of the broker is here. A counter or log line that reports a limit names it as it is
//! spelled here ([`Settings`] fields are `tenant.<name>`).

mod key;
mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use key::{Field, Key, Kind, Value};
pub use settings::{Ack, QueueDrop, Settings, SharedStrategy, Sinks, Types};

/// All of a node's configuration that its cores need.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How many cores the node has; every core gets the same number.
    pub cores: u16,
    /// How many logs the node's data is cut over: it had so many cores when its data directory was made. 0: as
    /// many as it has now.
    pub logs: u16,
    /// How clients prove who they are.
    pub authentication: Authentication,
    /// The tenant of clients for whom neither authentication nor listener names one.
    pub default_tenant: Arc<str>,
    /// What is special about listeners, by their number.
    pub listeners: Vec<Listener>,
    /// Settings of tenants that have none of their own.
    pub settings: Arc<Settings>,
    /// Settings by tenant.
    pub tenants: BTreeMap<String, Arc<Settings>>,
    /// Time from accept to a complete CONNECT, milliseconds. BifroMQ has 20 s.
    pub connect_timeout_ms: u32,
    /// The largest CONNECT packet, bytes: all that an unauthenticated client can make us keep.
    pub connect_bytes_max: u32,
    /// Bytes of packets that have not come whole, of all of a core's clients.
    pub unfinished_bytes_max: u32,
    /// The most properties, user properties included, in one packet.
    pub packet_properties_max: u16,
    /// How long a closed connection may take to read its last packet, milliseconds.
    pub close_linger_ms: u32,
    /// Connections per core; beyond, sockets are closed on accept.
    pub connections_max: u32,
    /// Topics in a core's match cache.
    pub match_cache_topics_max: u32,
    /// Bytes of unprocessed data in one direction between two cores beyond which the sender stops reading
    /// its clients.
    pub mailbox_bytes_max: u32,
    /// Time after which a request to another core is repeated, milliseconds; at most twice that. A publish that
    /// another core does not answer for ends its connection after two to four times that.
    pub request_timeout_ms: u32,
    /// Deliveries in one turn after which the rest of the input waits for the next; eight routes that are found or
    /// passed on cost as much as one.
    pub turn_deliveries_max: u32,
    /// Clients told of a stop per second and core (DISCONNECT 0x8B); BifroMQ has 1 000 per node.
    pub stop_disconnects_per_second: u32,
    /// Bans on one core.
    pub bans_max: u32,
    /// Whether connections' comings and goings are told to the host, to be logged.
    pub notices: bool,
}

/// What is special about the clients of a listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listener {
    /// Their tenant, if it is fixed.
    pub tenant: Option<Arc<str>>,
    /// Whether a user name `tenant/user` names the tenant.
    pub tenant_from_username: bool,
    /// Tenants by the name, in lower case, under which a client asks for us; before [`Listener::tenant`].
    pub tenants_by_name: BTreeMap<String, Arc<str>>,
    /// Time from accept to a complete CONNECT, milliseconds, if it is another than [`Config::connect_timeout_ms`].
    pub connect_timeout_ms: Option<u32>,
    /// Settings that differ from those of their tenants, by name: keys of [`Settings`] for which
    /// [`Settings::is_of_tenant`] is false.
    pub settings: BTreeMap<&'static str, Value>,
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// They need not: everybody is let in with all permissions ([`Config::identify`]).
    Open,
    /// The host is asked ([`crate::access::Question`]).
    Ask,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            cores: 1,
            logs: 0,
            authentication: Authentication::Open,
            default_tenant: Arc::from("default"),
            settings: Arc::new(Settings::default()),
            listeners: Vec::new(),
            tenants: BTreeMap::new(),
            connect_timeout_ms: 20_000,
            connect_bytes_max: 1024 * 1024,
            unfinished_bytes_max: 512 * 1024 * 1024,
            packet_properties_max: 1024,
            close_linger_ms: 2_000,
            connections_max: 1_000_000,
            match_cache_topics_max: 200_000,
            mailbox_bytes_max: 16 * 1024 * 1024,
            request_timeout_ms: 10_000,
            turn_deliveries_max: 16_384,
            stop_disconnects_per_second: 10_000,
            bans_max: 100_000,
            notices: false,
        }
    }
}

/// A configuration that cannot be served: which setting is not what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting's name.
    pub setting: String,
    /// What it takes.
    pub expected: Kind,
}

/// A user name names a tenant that is not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTenant;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: must be {}", self.setting, self.expected)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// What bounds the process and each of its cores: section `[limits]`.
    pub const KEYS: &'static [Key<Config>] = crate::keys!(Config {
        connect_timeout_ms in 1..=86_400_000,
        connect_bytes_max in 64..=268_435_460,
        unfinished_bytes_max in 65_536..=4_294_967_295,
        packet_properties_max,
        close_linger_ms,
        connections_max in 1..=4_294_967_295,
        match_cache_topics_max,
        mailbox_bytes_max,
        request_timeout_ms in 1..=86_400_000,
        turn_deliveries_max in 1..=4_294_967_295,
        stop_disconnects_per_second in 1..=4_294_967_295,
        bans_max in 1..=4_294_967_295,
    } beside { cores, logs, authentication, default_tenant, listeners, settings, tenants, notices });

    /// How many logs the node's data is cut over.
    #[must_use]
    pub fn logs(&self) -> u16 {
        if self.logs == 0 { self.cores } else { self.logs }
    }

    /// The settings of a tenant.
    #[must_use]
    pub fn settings(&self, tenant: &str) -> &Arc<Settings> {
        self.tenants.get(tenant).unwrap_or(&self.settings)
    }

    /// Whether a client can be of this tenant.
    #[must_use]
    pub fn has_tenant(&self, name: &str) -> bool {
        let fixed = || self.listeners.iter().filter_map(|listener| listener.tenant.as_deref());
        name == &*self.default_tenant || self.tenants.contains_key(name) || fixed().any(|it| it == name)
    }

    /// The settings of a tenant for the clients of one listener, if they differ there.
    #[must_use]
    pub fn settings_on(&self, listener: u16, tenant: &str) -> Option<Settings> {
        let listener = self.listeners.get(usize::from(listener)).filter(|it| !it.settings.is_empty())?;
        let mut settings = Settings::clone(self.settings(tenant));
        for (name, value) in &listener.settings {
            let key = Settings::KEYS.iter().find(|key| key.name == *name).expect("checked at start");
            assert!(key.set(&mut settings, value), "checked at start");
        }
        Some(settings)
    }

    /// The tenant of clients that come to a listener under a name, in lower case.
    #[must_use]
    pub fn tenant_by_name(&self, listener: u16, name: &str) -> Option<&Arc<str>> {
        let names = &self.listeners.get(usize::from(listener))?.tenants_by_name;
        let any = || format!("*.{}", name.split_once('.').map_or("", |(_, parent)| parent));
        names.get(name).or_else(|| if names.is_empty() { None } else { names.get(&any()) })
    }

    /// The time from accept to a complete CONNECT on a listener, milliseconds.
    #[must_use]
    pub fn connect_timeout_ms_on(&self, listener: u16) -> u32 {
        let listener = self.listeners.get(usize::from(listener));
        listener.and_then(|listener| listener.connect_timeout_ms).unwrap_or(self.connect_timeout_ms)
    }

    /// What a client becomes when nobody is asked: the tenant that its user name, the name it has asked for or its
    /// listener says, and the user in it.
    ///
    /// # Errors
    /// The user name names a tenant that is not configured: strangers make no tenants.
    pub fn identify<'a>(
        &self,
        listener: u16,
        tenant_by_name: Option<&Arc<str>>,
        username: Option<&'a str>,
    ) -> Result<(Arc<str>, &'a str), UnknownTenant> {
        let listener = self.listeners.get(usize::from(listener));
        let of_listener = || listener.and_then(|listener| listener.tenant.as_ref());
        let fixed = tenant_by_name.or_else(of_listener).unwrap_or(&self.default_tenant);
        let username = username.unwrap_or_default();
        let named = username.split_once('/').filter(|_| listener.is_some_and(|it| it.tenant_from_username));
        match named {
            None => Ok((Arc::clone(fixed), username)),
            Some((tenant, user)) if tenant == &**fixed => Ok((Arc::clone(fixed), user)),
            Some((tenant, user)) if tenant == &*self.default_tenant => {
                Ok((Arc::clone(&self.default_tenant), user))
            }
            Some((tenant, user)) if self.tenants.contains_key(tenant) => Ok((Arc::from(tenant), user)),
            Some(_) => Err(UnknownTenant),
        }
    }

    /// Checks what no type can.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |setting: String, expected| Err(ConfigError { setting, expected });
        if self.cores == 0 {
            return fail("cores".to_owned(), Kind::Number { min: 1, max: i64::from(u16::MAX) });
        }
        if self.default_tenant.is_empty() {
            return fail("default_tenant".to_owned(), Kind::Text("a name"));
        }
        if let Some(key) = Key::out_of_range(Config::KEYS, self) {
            return fail(key.name.to_owned(), key.kind);
        }
        for settings in std::iter::once(&self.settings).chain(self.tenants.values()) {
            let wrong = Key::out_of_range(Settings::KEYS, settings).map(|key| (key.name, key.kind));
            if let Some((name, expected)) = wrong.or_else(|| settings.contradiction()) {
                return fail(format!("tenant.{name}"), expected);
            }
        }
        self.check_listeners()
    }

    fn check_listeners(&self) -> Result<(), ConfigError> {
        for (name, value) in self.listeners.iter().flat_map(|listener| &listener.settings) {
            let key = Settings::KEYS.iter().find(|key| key.name == *name && !Settings::is_of_tenant(name));
            let expected = key.map_or(Kind::Text("a setting that listeners have"), |key| key.kind);
            if !key.is_some_and(|key| key.set(&mut Settings::default(), value)) {
                return Err(ConfigError { setting: format!("listener.{name}"), expected });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults are a configuration that can be served.
    #[test]
    fn defaults_are_valid() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    /// What is out of range is refused by its name and with its range: limits, settings of tenants and those of
    /// listeners, which cannot have all.
    #[test]
    fn refused_by_name() {
        let refused = |config: Config| config.check().unwrap_err().to_string();
        let settings = Arc::new(Settings { inflight_max: 0, ..Settings::default() });
        let expected = "tenant.inflight_max: must be a whole number from 1 to 65535";
        assert_eq!(refused(Config { settings: Arc::clone(&settings), ..Config::default() }), expected);
        assert_eq!(
            refused(Config { tenants: [("a".into(), settings)].into(), ..Config::default() }),
            expected
        );
        let expected = "connections_max: must be a whole number from 1 to 4294967295";
        assert_eq!(refused(Config { connections_max: 0, ..Config::default() }), expected);
        let listener = |name, value| Config {
            listeners: vec![Listener {
                settings: [(name, Value::Number(value))].into(),
                ..Listener::default()
            }],
            ..Config::default()
        };
        assert_eq!(listener("qos_max", 2).check(), Ok(()));
        assert_eq!(refused(listener("qos_max", 3)), "listener.qos_max: must be a whole number from 0 to 2");
        let expected = "listener.queue_messages_max: must be a setting that listeners have";
        assert_eq!(refused(listener("queue_messages_max", 3)), expected);
    }

    /// A minimum above its maximum is refused by name.
    #[test]
    fn contradictions_are_refused() {
        let refused = |settings| {
            let config = Config { settings: Arc::new(settings), ..Config::default() };
            config.check().unwrap_err().to_string()
        };
        let keep_alive =
            Settings { keep_alive_seconds_min: 5, keep_alive_seconds_max: 4, ..Settings::default() };
        let expected = "tenant.keep_alive_seconds_min: must be at most keep_alive_seconds_max";
        assert_eq!(refused(keep_alive), expected);
        let expiry =
            Settings { session_expiry_seconds_min: 5, session_expiry_seconds_max: 4, ..Settings::default() };
        let expected = "tenant.session_expiry_seconds_min: must be at most session_expiry_seconds_max";
        assert_eq!(refused(expiry), expected);
    }

    /// Every key reads what it writes, refuses the other kinds and changes nothing then.
    #[test]
    fn keys_read_what_they_write() {
        for key in Settings::KEYS {
            let (mut settings, value) = (Settings::default(), key.get(&Settings::default()));
            assert!(key.set(&mut settings, &value), "{}", key.name);
            let wrong = match key.kind {
                Kind::Switch => Value::Number(1),
                Kind::Number { max, .. } if max < i64::MAX => Value::Number(max + 1),
                Kind::Number { .. } => Value::Number(-1),
                Kind::Word(_) | Kind::Text(_) => Value::Text("neither".into()),
            };
            assert!(!key.set(&mut settings, &wrong), "{}", key.name);
            assert_eq!(settings, Settings::default(), "{}", key.name);
        }
        assert!(Settings::OF_TENANT.iter().all(|name| Settings::KEYS.iter().any(|key| key.name == *name)));
    }

    /// The tenant comes from the user name where the listener has it so and the tenant is configured, else from
    /// the listener, else it is the default.
    #[test]
    fn tenant_of_a_client() {
        let fixed = Listener { tenant: Some(Arc::from("fixed")), ..Listener::default() };
        let open = Listener { tenant_from_username: true, ..Listener::default() };
        let both = Listener { tenant_from_username: true, ..fixed.clone() };
        let config = Config {
            listeners: vec![fixed, open, both],
            tenants: [("a".into(), Arc::default())].into(),
            ..Config::default()
        };
        for (listener, username, expected) in [
            (0, None, Ok(("fixed", ""))),
            (0, Some("a/b"), Ok(("fixed", "a/b"))),
            (1, None, Ok(("default", ""))),
            (1, Some("b"), Ok(("default", "b"))),
            (1, Some("a/b/c"), Ok(("a", "b/c"))),
            (1, Some("default/b"), Ok(("default", "b"))),
            (1, Some("unknown/b"), Err(UnknownTenant)),
            (1, Some("/b"), Err(UnknownTenant)),
            (2, Some("b"), Ok(("fixed", "b"))),
            (2, Some("a/b"), Ok(("a", "b"))),
            (2, Some("default/b"), Ok(("default", "b"))),
            (9, Some("a/b"), Ok(("default", "a/b"))),
        ] {
            let identity = config.identify(listener, None, username);
            let identity = identity.as_ref().map(|(tenant, user)| (&**tenant, *user)).map_err(|error| *error);
            assert_eq!(identity, expected, "{listener} {username:?}");
        }
    }

    /// The name that a client asks for says its tenant before the listener does: whole, or as one level of any name;
    /// what the user name says is over both.
    #[test]
    fn tenant_of_a_name() {
        let tenants_by_name =
            [("a.example".into(), Arc::from("a")), ("*.b.example".into(), Arc::from("b"))].into();
        let tenant = Some(Arc::from("fixed"));
        let listener =
            Listener { tenant, tenants_by_name, tenant_from_username: true, ..Listener::default() };
        let config = Config {
            listeners: vec![listener],
            tenants: [("c".into(), Arc::default())].into(),
            ..Config::default()
        };
        for (name, username, expected) in [
            ("a.example", "u", "a"),
            ("x.b.example", "u", "b"),
            ("x.a.example", "u", "fixed"),
            ("b.example", "u", "fixed"),
            ("x.y.b.example", "u", "fixed"),
            ("", "u", "fixed"),
            ("a.example", "c/u", "c"),
            ("a.example", "a/u", "a"),
        ] {
            let by_name = config.tenant_by_name(0, name);
            let (tenant, user) = config.identify(0, by_name, Some(username)).expect("a known tenant");
            assert_eq!((&*tenant, user), (expected, "u"), "{name} {username}");
        }
    }

    /// A listener's settings lie over those of each tenant, and only there.
    #[test]
    fn settings_of_a_listener() {
        let listener = Listener { settings: [("qos_max", Value::Number(0))].into(), ..Listener::default() };
        let inflight = Arc::new(Settings { inflight_max: 7, ..Settings::default() });
        let config = Config {
            listeners: vec![Listener::default(), listener],
            tenants: [("a".into(), inflight)].into(),
            ..Config::default()
        };
        assert_eq!(config.settings_on(0, "a"), None);
        let settings = config.settings_on(1, "a").expect("it differs");
        assert_eq!((settings.qos_max, settings.inflight_max), (mqtt::QoS::AtMostOnce, 7));
        assert_eq!(config.settings("a").qos_max, mqtt::QoS::ExactlyOnce);
    }
}
