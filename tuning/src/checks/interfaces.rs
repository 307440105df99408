//! Network interfaces: whether packets reach as many processors as there are cores to take them.

use std::collections::BTreeSet;

use super::counted;
use crate::{Finding, Host, Interface, Level, Wanted};

pub(crate) fn check(host: &Host, wanted: &Wanted, findings: &mut Vec<Finding>) {
    for interface in &host.interfaces {
        findings.push(queues(interface, wanted));
        findings.extend(interrupts(interface, wanted));
        findings.extend(packet_steering(interface, wanted));
    }
}

fn queues(interface: &Interface, wanted: &Wanted) -> Finding {
    const CHECK: &str = "network queues";
    const WHY: &str = "A receive queue is served by one processor at a time. With fewer queues than cores \
                       some processors do all the packet work, and the cores on them fall behind.";
    let Interface { name, receive_queues, transmit_queues, .. } = interface;
    let cores = u32::from(wanted.cores);
    let found = format!(
        "{name}: {} and {} for {}",
        counted(*receive_queues, "receive queue"),
        counted(*transmit_queues, "transmit queue"),
        counted(cores, "core")
    );
    if *receive_queues >= cores {
        return Finding::ok(CHECK, found, WHY);
    }
    // Many devices have no more queues than this, which `ethtool -l` tells; packet steering then helps.
    Finding::new(CHECK, Level::Advice, found, WHY)
        .remedy(format!("ethtool -l {name} && ethtool -L {name} combined {cores}"))
}

fn interrupts(interface: &Interface, wanted: &Wanted) -> Option<Finding> {
    const CHECK: &str = "network interrupts";
    const WHY: &str = "The processor that takes a queue's interrupt also does its packet work. Interrupts \
                       that all go to one processor make it the bottleneck of the host, and of the core \
                       that is pinned to it.";
    let Interface { name, interrupts, .. } = interface;
    if interrupts.is_empty() {
        return None;
    }
    let processors: BTreeSet<u16> =
        interrupts.iter().flat_map(|interrupt| interrupt.processors.iter().copied()).collect();
    let found = format!(
        "{name}: {} on {}",
        counted(interrupts.len() as u64, "queue interrupt"),
        counted(processors.len() as u64, "processor")
    );
    let spread = interrupts.len().min(usize::from(wanted.cores));
    let level = match processors.len() {
        on if on >= spread => return Some(Finding::ok(CHECK, found, WHY)),
        1 => Level::Warning,
        _ => Level::Advice,
    };
    let numbers: Vec<String> = interrupts.iter().map(|interrupt| interrupt.number.to_string()).collect();
    Some(Finding::new(CHECK, level, found, WHY).remedy(format!(
        "systemctl stop irqbalance; cpu=0; for irq in {}; do echo $cpu > /proc/irq/$irq/smp_affinity_list; \
         cpu=$(( (cpu + 1) % {} )); done",
        numbers.join(" "),
        wanted.cores
    )))
}

fn packet_steering(interface: &Interface, wanted: &Wanted) -> Option<Finding> {
    const CHECK: &str = "packet steering";
    const WHY: &str = "Where a device has fewer queues than there are cores, RPS lets the kernel spread a \
                       queue's packets over processors by the connection's hash, so that TCP's work is \
                       shared although the interrupt's is not.";
    let Interface { name, receive_queues, spread_queues, .. } = interface;
    let cores = wanted.cores;
    if *receive_queues >= u32::from(cores) || *receive_queues == 0 {
        return None;
    }
    let found = format!("{name}: RPS on {spread_queues} of {}", counted(*receive_queues, "receive queue"));
    if spread_queues == receive_queues {
        return Some(Finding::ok(CHECK, found, WHY));
    }
    Some(Finding::new(CHECK, Level::Advice, found, WHY).remedy(format!(
        "for queue in /sys/class/net/{name}/queues/rx-*; do echo {} > $queue/rps_cpus; done",
        processor_mask(cores)
    )))
}

/// The first `processors` processors as the kernel writes masks: hexadecimal, in groups of 32 bits, the
/// highest first.
fn processor_mask(processors: u16) -> String {
    let groups = processors.div_ceil(32).max(1);
    let group = |index: u16| match processors - index * 32 {
        32.. => u32::MAX,
        bits => (1 << bits) - 1,
    };
    let masks: Vec<String> = (0..groups)
        .rev()
        .map(|index| {
            if index + 1 == groups { format!("{:x}", group(index)) } else { format!("{:08x}", group(index)) }
        })
        .collect();
    masks.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Interrupt;

    fn findings(interface: Interface, cores: u16) -> Vec<Finding> {
        let host = Host { interfaces: vec![interface], ..Host::default() };
        let mut findings = Vec::new();
        check(&host, &Wanted::new(1, cores), &mut findings);
        findings
    }

    fn interface(queues: u32, interrupts: &[&[u16]]) -> Interface {
        Interface {
            name: "eth0".to_owned(),
            receive_queues: queues,
            transmit_queues: queues,
            interrupts: (40..)
                .zip(interrupts)
                .map(|(number, processors)| Interrupt { number, processors: processors.to_vec() })
                .collect(),
            ..Interface::default()
        }
    }

    fn levels(findings: &[Finding]) -> Vec<(&str, Level)> {
        findings.iter().map(|finding| (finding.check, finding.level)).collect()
    }

    /// Goal: as many queues as cores, each on a processor of its own, is in order. Method: four of each.
    #[test]
    fn a_queue_and_a_processor_per_core() {
        let findings = findings(interface(4, &[&[0], &[1], &[2], &[3]]), 4);
        assert_eq!(levels(&findings), [("network queues", Level::Ok), ("network interrupts", Level::Ok)]);
    }

    /// Goal: one queue for four cores asks for more queues and for RPS, but not for a spread of one
    /// interrupt. Method: a small virtual machine's device.
    #[test]
    fn one_queue_for_four_cores() {
        let mut one = interface(1, &[&[2]]);
        let first = findings(one.clone(), 4);
        assert_eq!(
            levels(&first),
            [
                ("network queues", Level::Advice),
                ("network interrupts", Level::Ok),
                ("packet steering", Level::Advice)
            ]
        );
        assert_eq!(
            first[2].remedy.as_deref(),
            Some("for queue in /sys/class/net/eth0/queues/rx-*; do echo f > $queue/rps_cpus; done")
        );
        one.spread_queues = 1;
        assert_eq!(findings(one, 4)[2].level, Level::Ok);
    }

    /// Goal: interrupts that pile up are a warning on one processor, advice on a few. Method: four
    /// interrupts on one and on two.
    #[test]
    fn interrupts_that_pile_up() {
        let piled = findings(interface(4, &[&[0], &[0], &[0], &[0]]), 4).remove(1);
        assert_eq!(piled.level, Level::Warning);
        assert!(piled.remedy.unwrap().contains("for irq in 40 41 42 43;"));
        assert_eq!(findings(interface(4, &[&[0], &[0], &[1], &[1]]), 4)[1].level, Level::Advice);
    }

    /// Goal: masks as the kernel reads them. Method: around the 32 bits of a group.
    #[test]
    fn processor_masks() {
        assert_eq!(processor_mask(1), "1");
        assert_eq!(processor_mask(12), "fff");
        assert_eq!(processor_mask(32), "ffffffff");
        assert_eq!(processor_mask(33), "1,ffffffff");
        assert_eq!(processor_mask(96), "ffffffff,ffffffff,ffffffff");
    }
}
