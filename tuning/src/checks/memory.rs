//! Memory: enough for the connections, and policies that neither stall a core nor refuse it memory.

use super::bytes;
use super::sysctl::{self, Bound, Rule};
use super::tcp_memory::IDLE_BYTES;
use crate::{Finding, Host, Level, Wanted};

/// Memory of the broker for a connection that carries nothing, without its session: measured.
const USER_BYTES: u64 = 360;

pub(crate) fn check(host: &Host, wanted: &Wanted, findings: &mut Vec<Finding>) {
    findings.extend(total(host, wanted));
    findings.extend(huge_pages(host));
    findings.extend(huge_pages_defrag(host));
    findings.extend(swap(host));
    findings.extend(overcommit(host));
    findings.extend(MAP_COUNT.judge(host));
}

fn total(host: &Host, wanted: &Wanted) -> Option<Finding> {
    const CHECK: &str = "memory";
    const WHY: &str = "An idle connection takes 4 KiB of the kernel and 360 B of the broker before its session, \
                       its queues and any buffer. Memory of the kernel counts against the control group too; \
                       at its limit the whole broker is killed.";
    let usable = host.usable_memory();
    if usable == 0 {
        return None;
    }
    let connections = u64::from(wanted.connections);
    let idle = connections * (IDLE_BYTES + USER_BYTES);
    let found = format!("{} usable; {connections} idle connections take {}", bytes(usable), bytes(idle));
    let level = match idle {
        _ if idle > usable => Level::Failure,
        _ if idle > usable / 2 => Level::Warning,
        _ => Level::Ok,
    };
    let finding = Finding::new(CHECK, level, found, WHY);
    let is_limited = host.memory.limit_bytes.is_some_and(|limit| limit < host.memory.total_bytes);
    if level > Level::Ok && is_limited {
        return Some(finding.remedy("systemctl set-property hermod.service MemoryMax=infinity"));
    }
    Some(finding)
}

fn huge_pages(host: &Host) -> Option<Finding> {
    const CHECK: &str = "transparent huge pages";
    const WHY: &str = "With always the kernel backs every allocation with 2 MiB pages: memory grows by what \
                       is never touched, and a background thread that joins pages holds locks the cores \
                       wait for. With madvise those get them that ask.";
    let policy = host.memory.huge_pages.as_deref()?;
    if policy != "always" {
        return Some(Finding::ok(CHECK, policy, WHY));
    }
    let remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
    Some(Finding::new(CHECK, Level::Advice, policy, WHY).remedy(remedy))
}

fn huge_pages_defrag(host: &Host) -> Option<Finding> {
    const CHECK: &str = "huge page compaction";
    const WHY: &str = "With always a page fault waits until memory has been moved together for a huge page: \
                       milliseconds in which the core serves nobody.";
    let policy = host.memory.huge_pages_defrag.as_deref()?;
    if policy != "always" || host.memory.huge_pages.as_deref() == Some("never") {
        return Some(Finding::ok(CHECK, policy, WHY));
    }
    let remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/defrag";
    Some(Finding::new(CHECK, Level::Warning, policy, WHY).remedy(remedy))
}

fn swap(host: &Host) -> Option<Finding> {
    const CHECK: &str = "vm.swappiness";
    const WHY: &str = "An idle connection's state is what the kernel swaps out first. When its client sends \
                       again the core reads it back from disk and serves nobody meanwhile.";
    const MOST: u64 = 10;
    let &[swappiness] = host.sysctl_numbers(CHECK)?.as_slice() else { return None };
    let found = format!("{swappiness}, with {} of swap", bytes(host.memory.swap_bytes));
    if host.memory.swap_bytes == 0 || swappiness <= MOST {
        return Some(Finding::ok(CHECK, found, WHY));
    }
    let found = format!("{found}; at most {MOST} wanted");
    Some(Finding::new(CHECK, Level::Warning, found, WHY).remedy(sysctl::set(CHECK, 1)))
}

fn overcommit(host: &Host) -> Option<Finding> {
    const CHECK: &str = "vm.overcommit_memory";
    const WHY: &str = "With 2 the kernel counts reserved addresses as if they were memory. The allocator and \
                       mapped log segments reserve far more than they touch and would be refused.";
    let finding = match host.sysctl(CHECK)? {
        "2" => Finding::new(CHECK, Level::Warning, "2: no overcommit, 0 wanted", WHY)
            .remedy(sysctl::set(CHECK, 0)),
        other => Finding::ok(CHECK, other, WHY),
    };
    Some(finding)
}

const MAP_COUNT: Rule = Rule {
    key: "vm.max_map_count",
    bound: Bound::AtLeast(65_530),
    set: 262_144,
    level: Level::Warning,
    unit: "mappings per process",
    why: "Each sealed log segment and each part of the heap is a mapping; at the limit allocation fails \
          although there is memory.",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::GIB;

    fn findings(host: &Host, connections: u32) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(host, &Wanted::new(connections, 4), &mut findings);
        findings
    }

    /// Goal: idle connections are weighed against the memory that is really granted. Method: a million of
    /// them (4.1 GiB) on 48 GiB, and in a group of 6 and of 2 GiB.
    #[test]
    fn memory_for_idle_connections() {
        let mut host = Host::default();
        host.memory.total_bytes = 48 * GIB;
        assert_eq!(findings(&host, 1_000_000)[0].level, Level::Ok);
        host.memory.limit_bytes = Some(6 * GIB);
        assert_eq!(findings(&host, 1_000_000)[0].level, Level::Warning);
        host.memory.limit_bytes = Some(2 * GIB);
        let short = findings(&host, 1_000_000).remove(0);
        assert_eq!(short.level, Level::Failure);
        assert_eq!(short.found, "2.0 GiB usable; 1000000 idle connections take 4.1 GiB");
    }

    /// Goal: swappiness matters only where there is swap. Method: the stock 60 without and with.
    #[test]
    fn swappiness() {
        let mut host = Host::default();
        host.sysctls.insert("vm.swappiness", "60".to_owned());
        assert_eq!(findings(&host, 1)[0].level, Level::Ok);
        host.memory.swap_bytes = GIB;
        assert_eq!(findings(&host, 1)[0].level, Level::Warning);
    }

    /// Goal: compaction on faults is a warning unless there are no huge pages at all. Method: both.
    #[test]
    fn huge_page_policies() {
        let mut host = Host::default();
        host.memory.huge_pages = Some("always".to_owned());
        host.memory.huge_pages_defrag = Some("always".to_owned());
        let both = findings(&host, 1);
        assert_eq!([both[0].level, both[1].level], [Level::Advice, Level::Warning]);
        host.memory.huge_pages = Some("never".to_owned());
        assert!(findings(&host, 1).iter().all(|finding| finding.level == Level::Ok));
    }
}
