//! Processors: enough of them, at full speed, undivided, near the network; and the clock.

use super::counted;
use super::sysctl::{Bound, Rule};
use crate::{ClockSource, Finding, Host, Level, Processors, Wanted};

pub(crate) fn check(host: &Host, wanted: &Wanted, findings: &mut Vec<Finding>) {
    findings.extend(allowed(&host.processors, wanted));
    findings.extend(quota(&host.processors, wanted));
    findings.extend(governor(&host.processors));
    if host.processors.numa_nodes > 0 {
        findings.push(numa(host));
    }
    if host.processors.numa_nodes > 1 {
        findings.extend(NUMA_BALANCING.judge(host));
    }
    findings.extend(host.processors.clock.as_ref().map(clock));
}

fn allowed(processors: &Processors, wanted: &Wanted) -> Option<Finding> {
    const CHECK: &str = "processors";
    const WHY: &str = "Each core is a thread pinned to a processor. Two on one take turns in time slices of \
                       milliseconds, and each waits for the other's turn to end.";
    let usable = processors.allowed.len();
    if usable == 0 {
        return None;
    }
    let found =
        format!("{} usable for {}", counted(usable as u64, "processor"), counted(wanted.cores, "core"));
    let finding = if usable >= usize::from(wanted.cores) {
        Finding::ok(CHECK, found, WHY)
    } else {
        Finding::new(CHECK, Level::Warning, found, WHY)
            .remedy("systemctl set-property hermod.service AllowedCPUs=")
    };
    Some(finding)
}

fn quota(processors: &Processors, wanted: &Wanted) -> Option<Finding> {
    const CHECK: &str = "processor quota";
    const WHY: &str = "A control group that has used its share stands still until the period ends, all its \
                       threads at once and usually for tens of milliseconds: clients see it as latency. Pin \
                       the broker to fewer processors rather than give it parts of many.";
    if processors.allowed.is_empty() {
        return None;
    }
    let cores = f64::from(wanted.cores);
    let finding = match processors.quota {
        None => Finding::ok(CHECK, "none", WHY),
        Some(quota) if quota >= cores => Finding::ok(CHECK, format!("time of {quota:.1} processors"), WHY),
        Some(quota) => {
            let found = format!("time of {quota:.1} processors, {cores:.0} wanted");
            Finding::new(CHECK, Level::Warning, found, WHY)
                .remedy("systemctl set-property hermod.service CPUQuota=")
        }
    };
    Some(finding)
}

fn governor(processors: &Processors) -> Option<Finding> {
    const CHECK: &str = "frequency governor";
    const WHY: &str = "A core sleeps between bursts. Governors other than performance lower the clock in the \
                       pauses and raise it milliseconds into the next burst.";
    if processors.governors.is_empty() {
        return None;
    }
    let found: Vec<String> = processors
        .governors
        .iter()
        .map(|(governor, &count)| format!("{governor} on {}", counted(count, "processor")))
        .collect();
    let found = found.join(", ");
    let finding = if processors.governors.keys().eq(["performance"]) {
        Finding::ok(CHECK, found, WHY)
    } else {
        Finding::new(CHECK, Level::Advice, found, WHY)
            .remedy("echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    };
    Some(finding)
}

fn numa(host: &Host) -> Finding {
    const CHECK: &str = "NUMA nodes";
    const WHY: &str = "A core's memory belongs on its own node, and packets are cheapest on the node of the \
                       network device: memory of another node takes about twice as long to reach.";
    let nodes = host.processors.numa_nodes;
    if nodes == 1 {
        return Finding::ok(CHECK, "1", WHY);
    }
    let places: Vec<String> = host
        .interfaces
        .iter()
        .filter_map(|interface| Some(format!("{} on node {}", interface.name, interface.numa_node?)))
        .collect();
    let found = if places.is_empty() { nodes.to_string() } else { format!("{nodes}; {}", places.join(", ")) };
    let node = host.interfaces.iter().find_map(|interface| interface.numa_node).unwrap_or(0);
    // Running on one node is right for a broker whose cores fit there; a larger one is better off with
    // local allocation, which is the kernel's default for pinned threads.
    Finding::new(CHECK, Level::Advice, found, WHY)
        .remedy(format!("numactl --cpunodebind={node} --membind={node} hermod"))
}

const NUMA_BALANCING: Rule = Rule {
    key: "kernel.numa_balancing",
    bound: Bound::Exactly(0),
    set: 0,
    level: Level::Advice,
    unit: "(1 samples accesses)",
    why: "The kernel finds out which node uses which memory by unmapping pages and taking the faults. Pinned \
          threads gain nothing from it and pay for the faults.",
};

fn clock(clock: &ClockSource) -> Finding {
    const CHECK: &str = "clock source";
    const WHY: &str = "Each turn reads the clock once or twice. With these it is read without a system call; \
                       with hpet or acpi_pm it is a read from a device, a microsecond or more.";
    /// Read in user space, on bare metal and in virtual machines.
    const FAST: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];
    let ClockSource { current, available } = clock;
    if FAST.contains(&current.as_str()) {
        return Finding::ok(CHECK, current.as_str(), WHY);
    }
    let better = FAST.iter().find(|fast| available.iter().any(|source| source == *fast));
    let finding =
        Finding::new(CHECK, Level::Warning, format!("{current}; available: {}", available.join(" ")), WHY);
    match better {
        Some(better) => finding.remedy(format!(
            "echo {better} > /sys/devices/system/clocksource/clocksource0/current_clocksource"
        )),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Interface;

    fn findings(processors: Processors, cores: u16) -> Vec<Finding> {
        let host = Host { processors, ..Host::default() };
        let mut findings = Vec::new();
        check(&host, &Wanted::new(1, cores), &mut findings);
        findings
    }

    /// Goal: cores are measured against the processors and the time the process may use. Method: eight
    /// cores wanted where four processors and the time of two and a half are granted.
    #[test]
    fn fewer_processors_than_cores() {
        let processors = Processors { allowed: vec![0, 1, 2, 3], quota: Some(2.5), ..Processors::default() };
        let short = findings(processors.clone(), 8);
        assert_eq!([short[0].level, short[1].level], [Level::Warning; 2]);
        assert_eq!(short[0].found, "4 processors usable for 8 cores");
        assert_eq!(short[1].found, "time of 2.5 processors, 8 wanted");
        let enough = findings(Processors { quota: Some(4.0), ..processors }, 4);
        assert_eq!([enough[0].level, enough[1].level], [Level::Ok; 2]);
    }

    /// Goal: one slow processor shows. Method: governors mixed and alone.
    #[test]
    fn governors() {
        let governors = |list: &[(&str, u32)]| Processors {
            governors: list.iter().map(|&(name, count)| (name.to_owned(), count)).collect(),
            ..Processors::default()
        };
        assert_eq!(findings(governors(&[("performance", 8)]), 1)[0].level, Level::Ok);
        let mixed = findings(governors(&[("performance", 7), ("schedutil", 1)]), 1).remove(0);
        assert_eq!(mixed.level, Level::Advice);
        assert_eq!(mixed.found, "performance on 7 processors, schedutil on 1 processor");
    }

    /// Goal: the remedy names a clock this host has, and none where it has none. Method: hpet with and
    /// without tsc at hand.
    #[test]
    fn clocks() {
        let finding = |current: &str, available: &[&str]| {
            let available = available.iter().map(|&name| name.to_owned()).collect();
            clock(&ClockSource { current: current.to_owned(), available })
        };
        assert_eq!(finding("kvm-clock", &["kvm-clock"]).level, Level::Ok);
        let slow = finding("hpet", &["tsc", "hpet", "acpi_pm"]);
        assert_eq!(slow.level, Level::Warning);
        assert!(slow.remedy.unwrap().starts_with("echo tsc >"));
        assert_eq!(finding("hpet", &["hpet", "acpi_pm"]).remedy, None);
    }

    /// Goal: with several nodes the device's node is named. Method: two nodes, the device on the second.
    #[test]
    fn nodes() {
        let mut host = Host::default();
        host.processors.numa_nodes = 2;
        let interface = Interface { name: "eth0".to_owned(), numa_node: Some(1), ..Interface::default() };
        host.interfaces.push(interface);
        let finding = numa(&host);
        assert_eq!(finding.found, "2; eth0 on node 1");
        assert_eq!(finding.remedy.as_deref(), Some("numactl --cpunodebind=1 --membind=1 hermod"));
    }
}
