//! `conf/90-hermod-sysctl.conf` against the checks: what is shipped is checked, satisfies the checks, and
//! is what the remedies set.

use std::collections::BTreeMap;
use std::fs;

use tuning::{Finding, Host, Level, Wanted, inspect};

/// Goal: nobody has to guess what a line is for. Method: each setting stands below a comment that names
/// its unit.
#[test]
fn each_setting_has_its_reason_and_unit() {
    let text = shipped_text();
    let mut comment = String::new();
    for line in text.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment += text;
        } else {
            assert!(line.is_empty() || comment.contains("Unit: "), "{line} has no comment with its unit");
            comment.clear();
        }
    }
}

/// Goal: each key of the file corresponds to a check that bites. Method: a host on which every key has a
/// bad value; the check of that name finds it, and its remedy sets the shipped value.
#[test]
fn each_key_is_checked_and_its_remedy_sets_what_is_shipped() {
    let findings = inspect(&host_with(&bad_values()), &wanted());
    for (key, value) in &shipped() {
        let finding = named(&findings, key);
        assert!(finding.level > Level::Ok, "{key} is wrong and {finding:?} does not say so");
        assert_eq!(finding.remedy.as_deref(), Some(format!("sysctl -w '{key}={value}'").as_str()));
    }
}

/// Goal: a host with the file installed passes. Method: the shipped values, for a million connections on
/// 64 cores and 50 000 outgoing ones.
#[test]
fn shipped_values_satisfy_the_checks() {
    let shipped = shipped();
    let findings = inspect(&host_with(&shipped), &wanted());
    for key in shipped.keys() {
        let finding = named(&findings, key);
        assert_eq!(finding.level, Level::Ok, "{finding:?}");
    }
}

fn wanted() -> Wanted {
    Wanted { outgoing: 50_000, ..Wanted::new(1_000_000, 64) }
}

fn named<'a>(findings: &'a [Finding], key: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.check == key).unwrap_or_else(|| panic!("no check of {key}"))
}

/// A host on which every check of a sysctl has a reason to look: swap, and two nodes.
fn host_with(values: &BTreeMap<String, String>) -> Host {
    let mut host = Host { page_bytes: 4096, ..Host::default() };
    host.memory.swap_bytes = 1 << 30;
    host.processors.numa_nodes = 2;
    for (key, value) in values {
        host.sysctls.insert(key.clone().leak(), value.clone());
    }
    host
}

/// The kernel's own value where that is bad, and one that somebody may have set where it is not.
fn bad_values() -> BTreeMap<String, String> {
    let stock = [
        ("fs.nr_open", "1048576"),
        ("fs.file-max", "800000"),
        ("kernel.io_uring_disabled", "2"),
        ("kernel.numa_balancing", "1"),
        ("net.core.netdev_max_backlog", "1000"),
        ("net.core.somaxconn", "4096"),
        ("net.ipv4.ip_local_port_range", "32768\t60999"),
        ("net.ipv4.tcp_keepalive_intvl", "75"),
        ("net.ipv4.tcp_keepalive_probes", "9"),
        ("net.ipv4.tcp_keepalive_time", "7200"),
        ("net.ipv4.tcp_max_syn_backlog", "4096"),
        ("net.ipv4.tcp_rmem", "4096\t131072\t33554432"),
        ("net.ipv4.tcp_slow_start_after_idle", "1"),
        ("net.ipv4.tcp_syncookies", "0"),
        ("net.ipv4.tcp_tw_reuse", "2"),
        ("net.ipv4.tcp_wmem", "4096\t262144\t4194304"),
        ("vm.max_map_count", "32768"),
        ("vm.swappiness", "60"),
    ];
    stock.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn shipped() -> BTreeMap<String, String> {
    let text = shipped_text();
    let settings = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let settings: BTreeMap<String, String> = settings
        .map(|line| {
            let (key, value) = line.split_once(" = ").expect("a setting is `key = value`");
            (key.trim_start_matches('-').to_owned(), value.to_owned())
        })
        .collect();
    assert!(settings.len() >= 15, "the file was read whole");
    settings
}

fn shipped_text() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/90-hermod-sysctl.conf");
    fs::read_to_string(path).expect("the shipped file is there")
}
