//! What a configuration that was read again changes: now, from a client's next CONNECT on, or only with the
//! next start of the process.

use std::collections::BTreeSet;
use std::fmt;

use broker_core::config::Settings;

use super::apply::flatten;
use super::{Configuration, Listener};
use crate::auth;

/// One key whose value is another than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// With its sections.
    pub(crate) key: String,
    /// What is there now; None: nothing.
    value: Option<String>,
    pub(crate) effect: Effect,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// At once.
    Now,
    /// For each client with its next CONNECT: until then it has what it was told in CONNACK.
    NextConnect,
    /// When the process is started again; the old value stays until then.
    Restart,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { key, value, effect } = self;
        let value = value.as_deref().unwrap_or("gone");
        match effect {
            Effect::Now => write!(f, "{key} is {value} now"),
            Effect::NextConnect => write!(f, "{key} is {value} now, for clients from their next CONNECT on"),
            Effect::Restart => write!(f, "{key} is {value} in the configuration: a restart is needed for it"),
        }
    }
}

/// Limits by which a core has sized something, or that have to be the same while a CONNECT is on its way.
const LIMITS_FIXED: [&str; 3] = ["connect_bytes_max", "packet_properties_max", "match_cache_topics_max"];

impl Configuration {
    /// Takes over from `new` what can change while the process runs. All that differs, with its effect.
    pub(crate) fn reload(&mut self, new: &Configuration) -> Vec<Change> {
        let same_places = self.places().eq(new.places());
        let (old_keys, new_keys) = (flatten(self), flatten(new));
        let names: BTreeSet<_> = old_keys.keys().chain(new_keys.keys()).collect();
        let mut changes = Vec::new();
        for key in names {
            let value = new_keys.get(key).map(|(value, _)| value.to_string());
            if let Some(name) = self.come_or_gone(new, key) {
                let value = new.tenants.contains_key(name).then(|| "a tenant".to_owned());
                let change = Change { key: format!("tenants.{name}"), value, effect: Effect::NextConnect };
                if changes.last() != Some(&change) {
                    changes.push(change);
                }
            } else if value != old_keys.get(key).map(|(value, _)| value.to_string()) {
                changes.push(Change { key: key.clone(), value, effect: effect(key, same_places) });
            }
        }
        let mut limits = new.limits.clone();
        limits.connect_bytes_max = self.limits.connect_bytes_max;
        limits.packet_properties_max = self.limits.packet_properties_max;
        limits.match_cache_topics_max = self.limits.match_cache_topics_max;
        limits.logs = self.limits.logs;
        self.limits = limits;
        self.log = new.log.clone();
        self.auth.reload(&new.auth);
        self.default_tenant = new.default_tenant.clone();
        self.tenants = new.tenants.clone();
        if same_places {
            let modes: Vec<_> = self.listeners.iter().map(|listener| listener.socket_mode).collect();
            self.listeners.clone_from(&new.listeners);
            for (listener, mode) in self.listeners.iter_mut().zip(modes) {
                listener.socket_mode = mode;
            }
        }
        changes
    }

    /// The tenant that a key belongs to, if it is in one of the two configurations only.
    fn come_or_gone<'a>(&self, new: &Configuration, key: &'a str) -> Option<&'a str> {
        let (name, _) = key.strip_prefix("tenants.")?.rsplit_once('.')?;
        (self.tenants.contains_key(name) != new.tenants.contains_key(name)).then_some(name)
    }

    fn places(&self) -> impl Iterator<Item = &crate::cli::Listen> {
        self.listeners.iter().map(|Listener { bind, .. }| bind)
    }
}

/// When a change of a key takes effect; `same_places`: listeners are bound where they were.
pub(super) fn effect(key: &str, same_places: bool) -> Effect {
    let (section, name) = key.split_once('.').expect("every key is in a section");
    let setting = name.rsplit('.').next().unwrap_or(name);
    match section {
        "log" => Effect::Now,
        "auth" if !auth::Settings::FIXED.contains(&name) => Effect::Now,
        "limits" if !LIMITS_FIXED.contains(&name) => Effect::Now,
        "tenants" if Settings::is_of_tenant(setting) => Effect::Now,
        "tenants" => Effect::NextConnect,
        // The socket is there already.
        "listeners" if setting == "socket_mode" => Effect::Restart,
        "listeners" if same_places => Effect::NextConnect,
        _ => Effect::Restart,
    }
}

#[cfg(test)]
mod tests {
    use broker_core::config::Value;

    use super::super::sections::Name;
    use super::*;

    fn effects(old: &Configuration, new: &Configuration) -> (Vec<(String, Effect)>, Configuration) {
        let mut configuration = old.clone();
        let changes = configuration.reload(new);
        (changes.into_iter().map(|change| (change.key, change.effect)).collect(), configuration)
    }

    /// What is the same changes nothing.
    #[test]
    fn nothing_changes() {
        let configuration = Configuration::default();
        assert_eq!(effects(&configuration, &configuration), (Vec::new(), configuration));
    }

    /// Each part has its own time, and what waits for a restart keeps its old value.
    #[test]
    fn each_part_has_its_time() {
        let old = Configuration::default();
        let mut new = old.clone();
        new.node.io = crate::cli::Io::Epoll;
        new.log.filter.0 = "debug".to_owned();
        new.auth.allow_anonymous = auth::Anonymous::No;
        new.auth.login_threads = 7;
        new.limits.connections_max = 5;
        new.limits.connect_bytes_max = 5000;
        new.default_tenant.queue_messages_max = 6;
        new.default_tenant.receive_maximum = 7;
        new.listeners[0].tenant = Name("a".to_owned());
        new.listeners[0].settings.insert("qos_max", Value::Number(1));
        let (changes, reloaded) = effects(&old, &new);
        let expected = [
            ("auth.allow_anonymous", Effect::Now),
            ("auth.login_threads", Effect::Restart),
            ("limits.connect_bytes_max", Effect::Restart),
            ("limits.connections_max", Effect::Now),
            ("listeners.0.settings.qos_max", Effect::NextConnect),
            ("listeners.0.tenant", Effect::NextConnect),
            ("log.filter", Effect::Now),
            ("node.io", Effect::Restart),
            ("tenants.default.queue_messages_max", Effect::Now),
            ("tenants.default.receive_maximum", Effect::NextConnect),
        ];
        assert_eq!(changes, expected.map(|(key, effect)| (key.to_owned(), effect)));
        let mut merged = new;
        merged.node.io = old.node.io;
        merged.auth.login_threads = old.auth.login_threads;
        merged.limits.connect_bytes_max = old.limits.connect_bytes_max;
        assert_eq!(reloaded, merged);
    }

    /// A tenant that comes or goes is one change, however many settings it has.
    #[test]
    fn tenants_come_and_go() {
        let old = Configuration::default();
        let mut new = old.clone();
        new.tenants.insert("a.b".to_owned(), Settings::default());
        let key = "tenants.a.b".to_owned();
        let expected = vec![(key, Effect::NextConnect)];
        assert_eq!(effects(&old, &new), (expected.clone(), new.clone()));
        assert_eq!(effects(&new, &old), (expected, old));
    }

    /// Listeners that are bound elsewhere wait for a restart with all they have: their numbers stand in
    /// connections.
    #[test]
    fn listeners_are_bound_once() {
        let old = Configuration::default();
        let mut new = old.clone();
        new.listeners.push(Listener { tenant: Name("a".to_owned()), ..Listener::default() });
        let (changes, reloaded) = effects(&old, &new);
        assert!(
            changes.iter().all(|(key, effect)| key.starts_with("listeners.1.") && *effect == Effect::Restart)
        );
        assert_eq!((changes.len(), reloaded), (Listener::KEYS.len(), old));
    }

    /// The number of logs is no key: it is the data directory's, and stays what it was at the start.
    #[test]
    fn logs_stay_as_many_as_there_are() {
        let mut old = Configuration::default();
        old.limits.logs = 3;
        let (changes, reloaded) = effects(&old, &Configuration::default());
        assert_eq!((changes, reloaded.core(2, false).logs()), (Vec::new(), 3));
    }

    /// The keys that the list of fixed limits names are there.
    #[test]
    fn fixed_limits_are_limits() {
        let keys = flatten(&Configuration::default());
        assert!(LIMITS_FIXED.iter().all(|name| keys.contains_key(&format!("limits.{name}"))));
    }
}
