//! What the kernel allows of sockets: backlogs, ports, keep-alive, connection tracking.

use super::sysctl::{self, Bound, Rule};
use crate::{Finding, Host, Level, Wanted};

/// Ports that the broker listens on unless configured otherwise.
const LISTENER_PORTS: [u64; 4] = [1883, 8083, 8084, 8883];

pub(crate) fn check(host: &Host, wanted: &Wanted, findings: &mut Vec<Finding>) {
    findings.extend(backlog_rules(wanted).iter().filter_map(|rule| rule.judge(host)));
    findings.extend(local_ports(host, wanted));
    findings.extend(connection_rules(wanted).iter().filter_map(|rule| rule.judge(host)));
    findings.extend(connection_tracking(host, wanted));
}

fn backlog_rules(wanted: &Wanted) -> [Rule; 4] {
    let backlog = u64::from(wanted.backlog);
    [
        Rule {
            key: "net.core.somaxconn",
            bound: Bound::AtLeast(backlog),
            set: backlog.max(65_535),
            level: Level::Warning,
            unit: "connections per listener",
            why: "Caps every listener's backlog without a word. When clients reconnect all at once, those \
                  that find it full lose their handshake and try again after 1, 2, 4 … seconds.",
        },
        Rule {
            key: "net.ipv4.tcp_max_syn_backlog",
            bound: Bound::AtLeast(backlog),
            set: backlog.max(65_535),
            level: Level::Warning,
            unit: "half-open connections per listener",
            why: "Handshakes that wait for the client's answer. When clients reconnect all at once it \
                  fills; from then on the kernel answers with SYN cookies, which lose window scaling for \
                  clients without timestamps, or drops them.",
        },
        Rule {
            key: "net.ipv4.tcp_syncookies",
            bound: Bound::AtLeast(1),
            set: 1,
            level: Level::Warning,
            unit: "(1 when the backlog is full, 2 always)",
            why: "Lets clients in when a flood, or all clients at once, have filled the backlog of \
                  half-open connections.",
        },
        Rule {
            key: "net.core.netdev_max_backlog",
            bound: Bound::AtLeast(4096),
            set: 16_384,
            level: Level::Advice,
            unit: "packets per processor",
            why: "Where RPS spreads packets over processors they wait here for their core; when it is full \
                  they are dropped, and show only in the second column of /proc/net/softnet_stat.",
        },
    ]
}

fn connection_rules(wanted: &Wanted) -> Vec<Rule> {
    const KEEPALIVE: &str = "Finds peers that vanished without a word, for sockets that ask for it. MQTT's own \
                             keep-alive finds them at one and a half times its interval; a client that set \
                             it to 0 leaves only this, by default after more than two hours.";
    let keepalive = |key, most, set, unit| Rule {
        key,
        bound: Bound::AtMost(most),
        set,
        level: Level::Advice,
        unit,
        why: KEEPALIVE,
    };
    let mut rules = vec![
        keepalive("net.ipv4.tcp_keepalive_time", 600, 300, "s of silence before the first probe"),
        keepalive("net.ipv4.tcp_keepalive_intvl", 60, 30, "s between probes"),
        keepalive("net.ipv4.tcp_keepalive_probes", 6, 5, "probes without answer"),
        Rule {
            key: "net.ipv4.tcp_slow_start_after_idle",
            bound: Bound::Exactly(0),
            set: 0,
            level: Level::Advice,
            unit: "(1 restarts slowly)",
            why: "MQTT connections are silent for long and then carry a burst; with 1 each burst starts \
                  from the initial window again and takes more round trips.",
        },
    ];
    if wanted.outgoing > 0 {
        rules.push(Rule {
            key: "net.ipv4.tcp_tw_reuse",
            bound: Bound::Exactly(1),
            set: 1,
            level: Level::Advice,
            unit: "(0 never, 1 always, 2 on the loopback only)",
            why: "A port whose connection this host closed is blocked for 60 s; with 1 a new connection to \
                  the same peer may take it after 1 s. It concerns only connections this host opens.",
        });
    }
    rules
}

fn local_ports(host: &Host, wanted: &Wanted) -> Option<Finding> {
    const CHECK: &str = "net.ipv4.ip_local_port_range";
    const WHY: &str = "Each connection that this host opens to one address and port takes a port of this \
                       range; when there is none left, connect fails with EADDRNOTAVAIL. A port of a \
                       listener inside the range may be taken by such a connection while the broker \
                       restarts.";
    let &[first, last] = host.sysctl_numbers(CHECK)?.as_slice() else { return None };
    let ports = (last + 1).saturating_sub(first);
    let outgoing = u64::from(wanted.outgoing);
    let remedy = sysctl::set(CHECK, "10240 65535");
    let found = format!("{first} to {last}: {ports} ports");
    let finding = if ports < outgoing {
        const REMEDIED_PORTS: u64 = 65_535 - 10_240 + 1;
        let finding =
            Finding::new(CHECK, Level::Warning, format!("{found}, {outgoing} connections wanted"), WHY);
        if ports < REMEDIED_PORTS { finding.remedy(remedy) } else { finding }
    } else if let Some(port) = LISTENER_PORTS.iter().find(|port| (first..=last).contains(port)) {
        let found = format!("{found}, among them {port}, which the broker listens on");
        Finding::new(CHECK, Level::Warning, found, WHY).remedy(remedy)
    } else {
        Finding::ok(CHECK, found, WHY)
    };
    Some(finding)
}

fn connection_tracking(host: &Host, wanted: &Wanted) -> Option<Finding> {
    const CHECK: &str = "net.netfilter.nf_conntrack_max";
    const WHY: &str = "A firewall that tracks connections keeps an entry for each, closed ones for two \
                       minutes more. When the table is full the packets of new connections are dropped; \
                       only the kernel's log says so. Sparing the broker's ports the tracking is better \
                       still.";
    let &[max] = host.sysctl_numbers(CHECK)?.as_slice() else { return None };
    let used = host.sysctl("net.netfilter.nf_conntrack_count").unwrap_or("unknown");
    let connections = u64::from(wanted.connections) + u64::from(wanted.outgoing);
    // A quarter more for closed connections that linger and for everything else on the host.
    let needed = connections + connections / 4;
    let found = format!("{max} entries, {used} in use, {needed} wanted");
    let level = match max {
        _ if max >= needed => return Some(Finding::ok(CHECK, found, WHY)),
        _ if max >= connections => Level::Warning,
        _ => Level::Failure,
    };
    let remedy = sysctl::set(CHECK, needed.next_power_of_two());
    Some(Finding::new(CHECK, level, found, WHY).remedy(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(key: &'static str, value: &str, wanted: &Wanted) -> Option<Finding> {
        let mut host = Host::default();
        host.sysctls.insert(key, value.to_owned());
        let mut findings = Vec::new();
        check(&host, wanted, &mut findings);
        assert!(findings.len() <= 1);
        findings.pop()
    }

    /// Goal: a backlog is measured against what the listeners ask for. Method: the stock 4096 under two
    /// wishes.
    #[test]
    fn backlogs() {
        let mut wanted = Wanted::new(1_000_000, 8);
        let short = finding("net.core.somaxconn", "4096", &wanted).unwrap();
        assert_eq!(short.level, Level::Warning);
        assert_eq!(short.remedy.as_deref(), Some("sysctl -w 'net.core.somaxconn=65535'"));
        wanted.backlog = 4096;
        assert_eq!(finding("net.core.somaxconn", "4096", &wanted).unwrap().level, Level::Ok);
    }

    /// Goal: ports are counted for who opens connections, and listeners' ports are kept out of the range.
    /// Method: the stock range with and without outgoing connections, and a range that is too wide.
    #[test]
    fn port_range() {
        const KEY: &str = "net.ipv4.ip_local_port_range";
        let mut wanted = Wanted::new(1000, 4);
        assert_eq!(finding(KEY, "32768\t60999", &wanted).unwrap().level, Level::Ok);
        let caught = finding(KEY, "1024\t65535", &wanted).unwrap();
        assert!(caught.level == Level::Warning && caught.found.contains("1883"));
        wanted.outgoing = 50_000;
        let short = finding(KEY, "32768\t60999", &wanted).unwrap();
        assert_eq!(short.remedy.as_deref(), Some("sysctl -w 'net.ipv4.ip_local_port_range=10240 65535'"));
        wanted.outgoing = 100_000;
        assert_eq!(finding(KEY, "10240\t65535", &wanted).unwrap().remedy, None);
    }

    /// Goal: a tracking table that is too small is a failure, none at all is no finding. Method: around
    /// the number wanted.
    #[test]
    fn tracking_table() {
        const KEY: &str = "net.netfilter.nf_conntrack_max";
        let wanted = Wanted::new(262_144, 4);
        let level = |value| finding(KEY, value, &wanted).unwrap().level;
        assert_eq!(level("65536"), Level::Failure);
        assert_eq!(level("262144"), Level::Warning);
        assert_eq!(level("524288"), Level::Ok);
        assert_eq!(finding("vm.swappiness", "60", &wanted), None);
    }
}
