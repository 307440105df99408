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
    /// Whether clients are let in that give neither user name nor password.
    pub(crate) allow_anonymous: Anonymous,
    /// Threads that check passwords.
    pub(crate) login_threads: u16,
    /// Logins that may wait for one of them.
    pub(crate) login_queue_max: u32,
}

impl Settings {
    pub(crate) const KEYS: &'static [Key<Settings>] = keys!(Settings {
        password_file,
        acl_file,
        allow_anonymous,
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
            Anonymous::Yes | Anonymous::Auto if self.password_file.path().is_none() => Authentication::Open,
            _ => Authentication::Ask,
        }
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
            allow_anonymous: Anonymous::Auto,
            login_threads: 2,
            login_queue_max: 1024,
        }
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
