//! `[auth]`: who is let in, and what for.

use std::fmt;
use std::path::{Path, PathBuf};

use broker_core::config::{Authentication, Field, Key, Kind, Value};
use broker_core::keys;

/// What can be said about who is let in. `conf/hermod.toml` says what each key means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Users and their passwords.
    pub(crate) password_file: FileName,
    /// What clients may publish and receive.
    pub(crate) acl_file: FileName,
    /// Who is kept out.
    pub(crate) ban_file: FileName,
    /// Whether clients are let in that give neither user name nor password.
    pub(crate) allow_anonymous: Anonymous,
    /// Who is asked, one after the other.
    pub(crate) methods: Methods,
    /// The key of those who issue tokens.
    pub(crate) jwt_key_file: FileName,
    /// The issuer that a token has to name; empty: any.
    pub(crate) jwt_issuer: Text,
    /// The audience that a token has to name; empty: any.
    pub(crate) jwt_audience: Text,
    /// Seconds that clocks may differ.
    pub(crate) jwt_leeway_seconds: u32,
    /// The claim that names the user.
    pub(crate) jwt_user_claim: Text,
    /// The claim that names the tenant.
    pub(crate) jwt_tenant_claim: Text,
    /// The claim that says what the client may do.
    pub(crate) jwt_acl_claim: Text,
    /// The service that says who a client is.
    pub(crate) webhook_url: Text,
    /// The service that says what a client may do.
    pub(crate) webhook_acl_url: Text,
    /// Authorities of those services.
    pub(crate) webhook_ca: FileName,
    /// How long they may take.
    pub(crate) webhook_timeout_ms: u32,
    /// How long an answer holds.
    pub(crate) webhook_cache_seconds: u32,
    /// Answers that a thread keeps.
    pub(crate) webhook_cache_max: u32,
    /// Threads that check passwords.
    pub(crate) login_threads: u16,
    /// Logins that may wait for one of them.
    pub(crate) login_queue_max: u32,
}

impl Settings {
    pub(crate) const KEYS: &'static [Key<Settings>] = keys!(Settings {
        password_file,
        acl_file,
        ban_file,
        allow_anonymous,
        methods,
        jwt_key_file,
        jwt_issuer,
        jwt_audience,
        jwt_leeway_seconds in 0..=3600,
        jwt_user_claim,
        jwt_tenant_claim,
        jwt_acl_claim,
        webhook_url,
        webhook_acl_url,
        webhook_ca,
        webhook_timeout_ms in 1..=60_000,
        webhook_cache_seconds in 0..=86_400,
        webhook_cache_max in 1..=1_000_000,
        login_threads in 1..=64,
        login_queue_max in 1..=1_000_000,
    } beside {});

    /// Keys that take effect with the next start only.
    pub(crate) const FIXED: [&'static str; 2] = ["login_threads", "login_queue_max"];

    /// Takes over from `new` what can change while the process runs.
    pub(crate) fn reload(&mut self, new: &Settings) {
        let Settings { login_threads, login_queue_max, .. } = *self;
        *self = Settings { login_threads, login_queue_max, ..new.clone() };
    }

    /// Whether the core has to ask at all.
    pub(crate) fn authentication(&self) -> Authentication {
        match self.allow_anonymous {
            Anonymous::Yes | Anonymous::Auto if !self.can_prove() => Authentication::Open,
            _ => Authentication::Ask,
        }
    }

    /// Whether a client can show anything.
    fn can_prove(&self) -> bool {
        self.password_file.path().is_some() || self.jwt_key_file.path().is_some() || self.asks_webhook()
    }

    /// Whether a service is asked about clients.
    pub(super) fn asks_webhook(&self) -> bool {
        !(self.webhook_url.0.is_empty() && self.webhook_acl_url.0.is_empty())
    }

    /// Whether strangers are let in from anywhere although nobody has said so.
    pub(crate) fn is_open_by_default(&self) -> bool {
        self.authentication() == Authentication::Open && self.allow_anonymous == Anonymous::Auto
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            password_file: FileName::default(),
            acl_file: FileName::default(),
            ban_file: FileName::default(),
            allow_anonymous: Anonymous::Auto,
            methods: Methods(vec![Method::Jwt, Method::Password, Method::Webhook]),
            jwt_key_file: FileName::default(),
            jwt_issuer: Text::default(),
            jwt_audience: Text::default(),
            jwt_leeway_seconds: 30,
            jwt_user_claim: Text("sub".to_owned()),
            jwt_tenant_claim: Text("tenant".to_owned()),
            jwt_acl_claim: Text("acl".to_owned()),
            webhook_url: Text::default(),
            webhook_acl_url: Text::default(),
            webhook_ca: FileName::default(),
            webhook_timeout_ms: 2000,
            webhook_cache_seconds: 60,
            webhook_cache_max: 10_000,
            login_threads: 2,
            login_queue_max: 256,
        }
    }
}

/// Any text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) String);

impl Field for Text {
    const KIND: Kind = Kind::Text("a text");

    fn read(value: &Value) -> Option<Text> {
        match value {
            Value::Text(text) => Some(Text(text.clone())),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Text(self.0.clone())
    }
}

/// Something that can tell who a client is by its user name and password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// The password is a token.
    Jwt,
    /// The password file knows the user.
    Password,
    /// The service is asked.
    Webhook,
    /// Nobody else is let in: what comes after it is not asked.
    Deny,
}

impl Method {
    const ALL: [(&'static str, Method); 4] = [
        ("jwt", Method::Jwt),
        ("password", Method::Password),
        ("webhook", Method::Webhook),
        ("deny", Method::Deny),
    ];
}

/// Methods in their order, each at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Methods(pub(crate) Vec<Method>);

impl Field for Methods {
    const KIND: Kind = Kind::Text("jwt, password, webhook and deny in any order, as in \"jwt, password\"");

    fn read(value: &Value) -> Option<Methods> {
        let Value::Text(text) = value else { return None };
        let mut methods = Vec::new();
        for word in text.split(',').map(str::trim) {
            let (_, method) = Method::ALL.into_iter().find(|(name, _)| *name == word)?;
            if methods.contains(&method) {
                return None;
            }
            methods.push(method);
        }
        Some(Methods(methods))
    }

    fn write(&self) -> Value {
        let name =
            |method: &Method| Method::ALL.iter().find(|(_, other)| other == method).map(|(name, _)| *name);
        Value::Text(self.0.iter().filter_map(name).collect::<Vec<_>>().join(", "))
    }
}

/// A file, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileName(pub(crate) Option<PathBuf>);

impl FileName {
    /// The file, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl Field for FileName {
    const KIND: Kind = Kind::Text("a file, or \"\" for none");

    fn read(value: &Value) -> Option<FileName> {
        match value {
            Value::Text(text) if text.is_empty() => Some(FileName(None)),
            Value::Text(text) => Some(FileName(Some(text.into()))),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        let path = self.path().unwrap_or(Path::new(""));
        Value::Text(path.display().to_string())
    }
}

/// Whether clients are let in that give neither user name nor password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Anonymous {
    /// Where there is nothing else to show, and only on loopback addresses.
    Auto,
    /// Everywhere.
    #[value(name = "true")]
    Yes,
    /// Nowhere.
    #[value(name = "false")]
    No,
}

impl fmt::Display for Anonymous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Anonymous::Auto => "auto",
            Anonymous::Yes => "true",
            Anonymous::No => "false",
        })
    }
}

impl Field for Anonymous {
    const KIND: Kind = Kind::Text("true, false or \"auto\"");

    fn read(value: &Value) -> Option<Anonymous> {
        match value {
            Value::Switch(true) => Some(Anonymous::Yes),
            Value::Switch(false) => Some(Anonymous::No),
            Value::Text(text) if text == "auto" => Some(Anonymous::Auto),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        match self {
            Anonymous::Auto => Value::Text(self.to_string()),
            Anonymous::Yes => Value::Switch(true),
            Anonymous::No => Value::Switch(false),
        }
    }
}
