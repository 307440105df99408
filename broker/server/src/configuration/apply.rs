//! From names and values to a configuration: every name has to be a key, every value what the key takes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use broker_core::config::{Config, ConfigError, Field, Key, Kind, Settings, Value};

use super::sections::{Cluster, Listener, Log, NAME, Name, Node, Roles};
use super::tree::{Content, Entry, Table};
use super::wrong::{Reason, Wrong};
use super::{Configuration, Refused, Wal};
use crate::admin;
use crate::auth::{self, FileName};
use crate::events;

/// What is wrong so far.
type Wrongs = Vec<Wrong>;

/// The sections there are.
const SECTIONS: [&str; 11] =
    ["node", "listeners", "log", "auth", "admin", "events", "limits", "tenants", "wal", "cluster", "roles"];

/// Reads a whole tree over the defaults.
pub(super) fn apply(table: &Table) -> Result<Configuration, Refused> {
    let mut configuration = Configuration::default();
    let mut wrongs = Wrongs::new();
    for (name, entry) in table {
        let Configuration { node, log, auth, admin, events, cluster, roles, wal, limits, .. } =
            &mut configuration;
        match name.as_str() {
            "node" => section(entry, name, Node::KEYS, node, &mut wrongs),
            "log" => section(entry, name, Log::KEYS, log, &mut wrongs),
            "auth" => section(entry, name, auth::Settings::KEYS, auth, &mut wrongs),
            "admin" => section(entry, name, admin::Settings::KEYS, admin, &mut wrongs),
            "events" => section(entry, name, events::Settings::KEYS, events, &mut wrongs),
            "cluster" => section(entry, name, Cluster::KEYS, cluster, &mut wrongs),
            "wal" => section(entry, name, Wal::KEYS, wal, &mut wrongs),
            "roles" => apply_roles(entry, roles, &mut wrongs),
            "limits" => section(entry, name, Config::KEYS, limits, &mut wrongs),
            "tenants" => apply_tenants(entry, &mut configuration, &mut wrongs),
            "listeners" => configuration.listeners = listeners(entry, &mut wrongs),
            _ => fail(entry, name, Reason::unknown(name, SECTIONS.into_iter()), &mut wrongs),
        }
    }
    if wrongs.is_empty()
        && let Err(ConfigError { setting, expected }) = configuration.core(1, false).check()
    {
        // What no key alone can say, and so no line.
        let reason = Reason::Other(format!("must be {expected}"));
        wrongs.push(Wrong { origin: None, key: setting, reason });
    }
    if wrongs.is_empty() { Ok(configuration) } else { Err(Refused(wrongs)) }
}

fn fail(entry: &Entry, key: &str, reason: Reason, wrongs: &mut Wrongs) {
    wrongs.push(Wrong { origin: Some(entry.origin.clone()), key: key.to_owned(), reason });
}

/// The entries of a section; none, and a complaint, if it is something else.
fn entries<'a>(entry: &'a Entry, path: &str, wrongs: &mut Wrongs) -> Option<&'a Table> {
    match &entry.content {
        Content::Table(table) => Some(table),
        _ => {
            fail(entry, path, Reason::NoSection, wrongs);
            None
        }
    }
}

/// Reads a section of which all that it may hold are keys.
fn section<T>(entry: &Entry, path: &str, keys: &'static [Key<T>], of: &mut T, wrongs: &mut Wrongs) {
    for (name, entry) in entries(entry, path, wrongs).into_iter().flatten() {
        set(entry, &format!("{path}.{name}"), name, keys, of, wrongs);
    }
}

/// Sets what one entry names.
fn set<T>(entry: &Entry, path: &str, name: &str, keys: &'static [Key<T>], of: &mut T, wrongs: &mut Wrongs) {
    let Some(key) = keys.iter().find(|key| key.name == name) else {
        return fail(entry, path, Reason::unknown(name, keys.iter().map(|key| key.name)), wrongs);
    };
    let found = match &entry.content {
        Content::Value(value) if key.set(of, value) => return,
        Content::Value(value) => value.to_string(),
        Content::Other(found) => (*found).to_owned(),
        Content::Table(_) => "a section".to_owned(),
        Content::List(_) => "a list".to_owned(),
    };
    fail(entry, path, Reason::Unfit { expected: key.kind, found }, wrongs);
}

/// A role can be left to other nodes only if there are some.
fn apply_roles(entry: &Entry, roles: &mut Roles, wrongs: &mut Wrongs) {
    section(entry, "roles", Roles::KEYS, roles, wrongs);
    for key in Roles::KEYS.iter().filter(|key| key.get(roles) == Value::Switch(false)) {
        let entry = entries(entry, "roles", wrongs).and_then(|table| table.get(key.name)).unwrap_or(entry);
        let reason = "must be true: this node stands alone, and no other could take the role";
        fail(entry, &format!("roles.{}", key.name), Reason::Other(reason.to_owned()), wrongs);
    }
}

/// `[tenants.default]` first: the others begin with what it says.
fn apply_tenants(entry: &Entry, configuration: &mut Configuration, wrongs: &mut Wrongs) {
    let Some(table) = entries(entry, "tenants", wrongs) else { return };
    if let Some(entry) = table.get("default") {
        let default = &mut configuration.default_tenant;
        section(entry, "tenants.default", Settings::KEYS, default, wrongs);
    }
    for (name, entry) in table.iter().filter(|(name, _)| *name != "default") {
        let path = format!("tenants.{name}");
        let value = Value::Text(name.clone());
        if Name::read(&value).is_none() {
            fail(entry, &path, Reason::unfit(NAME, &value), wrongs);
        }
        let mut settings = configuration.default_tenant.clone();
        section(entry, &path, Settings::KEYS, &mut settings, wrongs);
        configuration.tenants.insert(name.clone(), settings);
    }
}

/// `[[listeners]]`: those that are named replace the default one.
fn listeners(entry: &Entry, wrongs: &mut Wrongs) -> Vec<Listener> {
    let Content::List(list) = &entry.content else {
        let reason = "must be a list of sections, each headed [[listeners]]".to_owned();
        fail(entry, "listeners", Reason::Other(reason), wrongs);
        return Vec::new();
    };
    if list.is_empty() || list.len() > usize::from(u16::MAX) {
        let reason = "1 to 65535 are needed".to_owned();
        fail(entry, "listeners", Reason::Other(reason), wrongs);
    }
    let read = |(index, entry)| listener(entry, &format!("listeners.{index}"), wrongs);
    list.iter().enumerate().map(read).collect()
}

fn listener(entry: &Entry, path: &str, wrongs: &mut Wrongs) -> Listener {
    let mut listener = Listener::default();
    for (name, entry) in entries(entry, path, wrongs).into_iter().flatten() {
        let path = format!("{path}.{name}");
        if name == "settings" {
            listener.settings = own_settings(entry, &path, wrongs);
        } else if name == "certificates" {
            listener.certificates = certificates(entry, &path, wrongs);
        } else if name == "tenants" {
            listener.tenants = tenants_by_name(entry, &path, wrongs);
        } else {
            set(entry, &path, name, Listener::KEYS, &mut listener, wrongs);
        }
    }
    listener
}

/// Files by the names that clients ask for.
fn certificates(entry: &Entry, path: &str, wrongs: &mut Wrongs) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    for (name, entry) in entries(entry, path, wrongs).into_iter().flatten() {
        match &entry.content {
            Content::Value(Value::Text(file)) if !file.is_empty() => {
                files.insert(name.clone(), PathBuf::from(file));
            }
            _ => {
                let reason = "must be a file with a certificate and its key, in PEM".to_owned();
                fail(entry, &format!("{path}.{name}"), Reason::Other(reason), wrongs);
            }
        }
    }
    files
}

/// Tenants by the names that clients ask for.
fn tenants_by_name(entry: &Entry, path: &str, wrongs: &mut Wrongs) -> BTreeMap<String, Name> {
    let mut tenants = BTreeMap::new();
    for (name, entry) in entries(entry, path, wrongs).into_iter().flatten() {
        let tenant = match &entry.content {
            Content::Value(value) => Name::read(value),
            _ => None,
        };
        match tenant {
            Some(tenant) => drop(tenants.insert(name.clone(), tenant)),
            None => {
                let reason = "must be the name of a tenant".to_owned();
                fail(entry, &format!("{path}.{name}"), Reason::Other(reason), wrongs);
            }
        }
    }
    tenants
}

/// What a listener's clients have otherwise than the rest of their tenants.
fn own_settings(entry: &Entry, path: &str, wrongs: &mut Wrongs) -> BTreeMap<&'static str, Value> {
    let (mut own, mut scratch) = (BTreeMap::new(), Settings::default());
    for (name, entry) in entries(entry, path, wrongs).into_iter().flatten() {
        let path = format!("{path}.{name}");
        if Settings::is_of_tenant(name) {
            let reason = "is the same for all clients of a tenant: it stands in [tenants.NAME]".to_owned();
            fail(entry, &path, Reason::Other(reason), wrongs);
            continue;
        }
        set(entry, &path, name, Settings::KEYS, &mut scratch, wrongs);
        if let Some(key) = Settings::KEYS.iter().find(|key| key.name == name) {
            own.insert(key.name, key.get(&scratch));
        }
    }
    own
}

/// Every key of a configuration by its full name, as it would be written. For comparing two of them, and for
/// comparing one with its documentation.
pub(super) fn flatten(configuration: &Configuration) -> BTreeMap<String, (Value, Kind)> {
    let mut all = BTreeMap::new();
    list(&mut all, "node", Node::KEYS, &configuration.node);
    list(&mut all, "log", Log::KEYS, &configuration.log);
    list(&mut all, "auth", auth::Settings::KEYS, &configuration.auth);
    list(&mut all, "admin", admin::Settings::KEYS, &configuration.admin);
    list(&mut all, "events", events::Settings::KEYS, &configuration.events);
    list(&mut all, "cluster", Cluster::KEYS, &configuration.cluster);
    list(&mut all, "roles", Roles::KEYS, &configuration.roles);
    list(&mut all, "wal", Wal::KEYS, &configuration.wal);
    list(&mut all, "limits", Config::KEYS, &configuration.limits);
    list(&mut all, "tenants.default", Settings::KEYS, &configuration.default_tenant);
    for (name, settings) in &configuration.tenants {
        list(&mut all, &format!("tenants.{name}"), Settings::KEYS, settings);
    }
    for (index, listener) in configuration.listeners.iter().enumerate() {
        let path = format!("listeners.{index}");
        list(&mut all, &path, Listener::KEYS, listener);
        for (name, value) in &listener.settings {
            let key = Settings::KEYS.iter().find(|key| key.name == *name).expect("was read by it");
            all.insert(format!("{path}.settings.{name}"), (value.clone(), key.kind));
        }
        for (name, file) in &listener.certificates {
            let file = FileName(Some(file.clone()));
            all.insert(format!("{path}.certificates.{name}"), (file.write(), FileName::KIND));
        }
        for (name, tenant) in &listener.tenants {
            all.insert(format!("{path}.tenants.{name}"), (tenant.write(), NAME));
        }
    }
    all
}

fn list<T>(all: &mut BTreeMap<String, (Value, Kind)>, path: &str, keys: &[Key<T>], of: &T) {
    all.extend(keys.iter().map(|key| (format!("{path}.{}", key.name), (key.get(of), key.kind))));
}
