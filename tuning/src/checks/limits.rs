//! Open files and locked memory.

use super::sysctl::{Bound, Rule};
use super::{MIB, bytes, unit_remedy};
use crate::{Finding, Host, Level, Wanted};

/// Descriptors per core beside its connections: listeners, ring, eventfd, log segments.
const FILES_PER_CORE: u64 = 64;
/// Descriptors per process beside all that: standard streams, admin listener and its clients, libraries.
const FILES_PER_PROCESS: u64 = 256;
/// Descriptors of everything else on the host.
const FILES_OF_OTHERS: u64 = 65_536;
/// Locked memory per core: its ring takes 276 KiB; the rest is for what else it may carry.
const LOCKED_PER_CORE: u64 = MIB;

pub(crate) fn check(host: &Host, wanted: &Wanted, findings: &mut Vec<Finding>) {
    let files = u64::from(wanted.connections)
        + u64::from(wanted.outgoing)
        + u64::from(wanted.cores) * FILES_PER_CORE
        + FILES_PER_PROCESS;
    findings.extend(open_files(host, files));
    let rules = [
        Rule {
            key: "fs.nr_open",
            bound: Bound::AtLeast(files),
            set: files.next_power_of_two().max(2_097_152),
            level: Level::Failure,
            unit: "files per process",
            why: "Every connection is a descriptor, and no limit of a process, root's neither, can be \
                  raised above this.",
        },
        Rule {
            key: "fs.file-max",
            bound: Bound::AtLeast(files + FILES_OF_OTHERS),
            set: i64::MAX as u64,
            level: Level::Failure,
            unit: "files on the host",
            why: "Every connection is an open file of the host; at this number accept fails with ENFILE \
                  for every process that is not root's.",
        },
    ];
    findings.extend(rules.iter().filter_map(|rule| rule.judge(host)));
    findings.extend(locked_memory(host, u64::from(wanted.cores)));
}

fn open_files(host: &Host, files: u64) -> Option<Finding> {
    const CHECK: &str = "open files";
    const WHY: &str = "Every connection is a descriptor; at the limit accept fails with EMFILE and clients \
                       wait in the backlog. The limits shown are those of the process that looked: a \
                       service has its unit's, not the shell's.";
    let limit = host.open_files?;
    let found = format!(
        "soft limit {}, hard limit {}, {files} wanted",
        limit_text(limit.soft),
        limit_text(limit.hard)
    );
    let is_short = |limit: Option<u64>| limit.is_some_and(|limit| limit < files);
    let finding = if is_short(limit.hard) {
        let finding = Finding::new(CHECK, Level::Failure, found, WHY);
        finding.remedy(if host.systemd {
            unit_remedy("open-files", &format!("LimitNOFILE={files}"))
        } else {
            format!("prlimit --pid $$ --nofile={files}:{files}")
        })
    } else {
        // A soft limit that is too low is in order: the broker raises it to the hard one as it starts.
        Finding::ok(CHECK, found, WHY)
    };
    Some(finding)
}

fn locked_memory(host: &Host, cores: u64) -> Option<Finding> {
    const CHECK: &str = "locked memory";
    const WHY: &str = "The kernel counts a ring's queues as locked memory of the user who sets it up, over \
                       all of that user's processes, unless it has CAP_IPC_LOCK; over the limit the ring \
                       is refused with ENOMEM, and the core runs on epoll or, told to use io_uring, not at \
                       all.";
    let needed = cores * LOCKED_PER_CORE;
    if host.may_lock_memory {
        return Some(Finding::ok(CHECK, "no limit applies: this process has CAP_IPC_LOCK", WHY));
    }
    let limit = host.locked_memory?;
    let found = format!(
        "soft limit {}, hard limit {}, {} wanted: 1 MiB per core",
        limit.soft.map_or("none".to_owned(), bytes),
        limit.hard.map_or("none".to_owned(), bytes),
        bytes(needed)
    );
    let is_short = |limit: Option<u64>| limit.is_some_and(|limit| limit < needed);
    let finding = if is_short(limit.hard) {
        let finding = Finding::new(CHECK, Level::Warning, found, WHY);
        finding.remedy(if host.systemd {
            unit_remedy("locked-memory", "LimitMEMLOCK=infinity")
        } else {
            format!("prlimit --pid $$ --memlock={needed}:{needed}")
        })
    } else if is_short(limit.soft) {
        Finding::new(CHECK, Level::Warning, found, WHY).remedy(format!("ulimit -S -l {}", needed / 1024))
    } else {
        Finding::ok(CHECK, found, WHY)
    };
    Some(finding)
}

fn limit_text(limit: Option<u64>) -> String {
    limit.map_or("none".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limit;

    fn findings(host: &Host, wanted: &Wanted) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(host, wanted, &mut findings);
        findings
    }

    fn limit(soft: u64, hard: u64) -> Option<Limit> {
        Some(Limit { soft: Some(soft), hard: Some(hard) })
    }

    /// Goal: the hard limit counts, since the broker raises the soft one. Method: one host per case.
    #[test]
    fn open_files_by_soft_and_hard_limit() {
        let wanted = Wanted::new(100_000, 4);
        let finding = |open_files, systemd| {
            findings(&Host { open_files, systemd, ..Host::default() }, &wanted).remove(0)
        };
        let short = finding(limit(1024, 524_288), true);
        assert_eq!((short.level, short.remedy), (Level::Ok, None));

        let shorter = finding(limit(1024, 4096), true);
        assert_eq!(shorter.level, Level::Failure);
        assert!(shorter.remedy.unwrap().contains("LimitNOFILE=100512"));
        let no_systemd = finding(limit(1024, 4096), false).remedy.unwrap();
        assert_eq!(no_systemd, "prlimit --pid $$ --nofile=100512:100512");

        assert_eq!(finding(limit(200_000, 200_000), true).level, Level::Ok);
        assert_eq!(finding(Some(Limit { soft: None, hard: None }), true).level, Level::Ok);
    }

    /// Goal: 1 MiB of locked memory per core, and no limit for who may lock. Method: 16 cores under the
    /// usual 8 MiB.
    #[test]
    fn locked_memory_per_core() {
        let mut host = Host { locked_memory: limit(8 * MIB, 8 * MIB), systemd: true, ..Host::default() };
        assert_eq!(findings(&host, &Wanted::new(1, 8))[0].level, Level::Ok);
        let short = findings(&host, &Wanted::new(1, 16)).remove(0);
        assert_eq!(short.level, Level::Warning);
        assert!(short.remedy.unwrap().contains("LimitMEMLOCK=infinity"));
        host.may_lock_memory = true;
        assert_eq!(findings(&host, &Wanted::new(1, 16))[0].level, Level::Ok);
    }

    /// Goal: the kernel's ceilings grow with what is wanted, and so does the remedy. Method: four million
    /// connections on a stock kernel.
    #[test]
    fn ceilings_of_the_kernel() {
        let mut host = Host::default();
        host.sysctls.insert("fs.nr_open", "1048576".to_owned());
        host.sysctls.insert("fs.file-max", "800000".to_owned());
        let findings = findings(&host, &Wanted::new(4_000_000, 64));
        assert!(findings.iter().all(|finding| finding.level == Level::Failure));
        assert_eq!(findings[0].remedy.as_deref(), Some("sysctl -w 'fs.nr_open=4194304'"));
    }
}
