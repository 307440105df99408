//! What is wrong is said with its place, its name and what it should be.

use std::path::Path;

use super::apply::apply;
use super::tree::{overlay, parse};

/// The complaints about a file of this text, line by line.
fn complaints(text: &str) -> String {
    apply(&parse(Path::new("x.toml"), text).expect("it is TOML")).expect_err("it is refused").to_string()
}

/// A key that there is not is named with its line and the one that was meant; so is a section.
#[test]
fn unknown_keys() {
    let text = "[limits]\n\nconections_max = 5\n[tenants.acme]\nqso_max = 1\n[[listeners]]\nport = 5\n";
    assert_eq!(
        complaints(text),
        "x.toml:3: limits.conections_max: there is no such key; did you mean connections_max?\n\
         x.toml:7: listeners.0.port: there is no such key\n\
         x.toml:5: tenants.acme.qso_max: there is no such key; did you mean qos_max?"
    );
    assert_eq!(complaints("[limit]\n"), "x.toml:1: limit: there is no such key; did you mean limits?");
    assert_eq!(complaints("[zzz]\n"), "x.toml:1: zzz: there is no such key");
}

/// A value of another kind or out of range is refused with what the key takes.
#[test]
fn unfit_values() {
    for (text, expected) in [
        (
            "[limits]\nconnections_max = 0",
            "limits.connections_max: must be a whole number from 1 to 4294967295, not 0",
        ),
        (
            "[limits]\nconnections_max = 1.5",
            "limits.connections_max: must be a whole number from 1 to 4294967295, not a number with a fraction",
        ),
        (
            "[limits]\nconnections_max = '5'",
            "limits.connections_max: must be a whole number from 1 to 4294967295, not \"5\"",
        ),
        ("[tenants.default]\nretain = 1", "tenants.default.retain: must be true or false, not 1"),
        (
            "[tenants.default]\nqueue_drop = 'all'",
            "tenants.default.queue_drop: must be one of \"newest\", \"oldest\", not \"all\"",
        ),
        ("[tenants.a]\nqos_max = 3", "tenants.a.qos_max: must be a whole number from 0 to 2, not 3"),
        ("[node]\ndata = ''", "node.data: must be a directory, or \"none\", not \"\""),
        (
            "[node]\ncores = '3-1'",
            "node.cores: must be \"auto\" or a list of CPUs such as \"0-3,6\", not \"3-1\"",
        ),
        (
            "[node]\ncores = [1]",
            "node.cores: must be \"auto\" or a list of CPUs such as \"0-3,6\", not a list",
        ),
        (
            "[roles]\nretain = false",
            "roles.retain: must be true: this node stands alone, and no other could take the role",
        ),
        ("\nlimits = 5", "limits: must be a section with keys"),
        ("\nlisteners = 5", "listeners: must be a list of sections, each headed [[listeners]]"),
        ("\nlisteners = []", "listeners: 1 to 65535 are needed"),
        (
            "[[listeners]]\nbind = '127.0.0.1:1883'",
            "listeners.0.bind: must be \"tcp://ADDRESS:PORT\", or with tls, ws or wss in front, and IPv6 addresses in brackets, or \"unix:///PATH\", not \"127.0.0.1:1883\"",
        ),
        (
            "[[listeners]]\nbind = 'tcp://256.1.1.1:1'",
            "listeners.0.bind: must be \"tcp://ADDRESS:PORT\", or with tls, ws or wss in front, and IPv6 addresses in brackets, or \"unix:///PATH\", not \"tcp://256.1.1.1:1\"",
        ),
        (
            "[[listeners]]\nsettings.qos_max = 7",
            "listeners.0.settings.qos_max: must be a whole number from 0 to 2, not 7",
        ),
        (
            "[[listeners]]\nsettings.queue_qos0 = true",
            "listeners.0.settings.queue_qos0: is the same for all clients of a tenant: it stands in [tenants.NAME]",
        ),
        (
            "[tenants]\n'a/b' = {}",
            "tenants.a/b: must be a name of 1 to 64 letters, digits, _, - and ., not \"a/b\"",
        ),
    ] {
        assert_eq!(complaints(text), format!("x.toml:2: {expected}"), "{text}");
    }
}

/// Values that contradict each other are refused by their names.
#[test]
fn contradictions() {
    let text = "[tenants.a]\nkeep_alive_seconds_max = 5\nkeep_alive_seconds_min = 6\n";
    assert_eq!(complaints(text), "tenant.keep_alive_seconds_min: must be at most keep_alive_seconds_max");
}

/// A variable of the environment is named where a line would be.
#[test]
fn environment() {
    let mut table = parse(Path::new("x.toml"), "[limits]\nconnections_max = 5\n").expect("it is TOML");
    let variables = [("HERMOD__LIMITS__CONNECTIONS_MAX", "many"), ("HERMOD__LIMIT__X", "1")];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    overlay(&mut table, variables).expect("paths are fine");
    assert_eq!(
        apply(&table).expect_err("it is refused").to_string(),
        "HERMOD__LIMIT__X: limit: there is no such key; did you mean limits?\n\
         HERMOD__LIMITS__CONNECTIONS_MAX: limits.connections_max: must be a whole number from 1 to 4294967295, not \"many\""
    );
}

/// A tenant begins with what the default tenant says, wherever that stands in the file.
#[test]
fn tenants_inherit() {
    let text = "[tenants.a]\nqos_max = 1\n[tenants.default]\nqos_max = 0\nretain = false\n";
    let configuration = apply(&parse(Path::new("x.toml"), text).expect("it is TOML")).expect("it is fine");
    let settings = &configuration.tenants["a"];
    assert_eq!((settings.qos_max, settings.retain), (mqtt::QoS::AtLeastOnce, false));
    let config = configuration.core(1, false);
    assert_eq!(config.settings("a").qos_max, mqtt::QoS::AtLeastOnce);
    assert_eq!(config.settings("b").qos_max, mqtt::QoS::AtMostOnce);
}
