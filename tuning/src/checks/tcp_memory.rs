//! What connections cost the kernel: buffers, their defaults, and the sum over all sockets.

use super::{KIB, bytes, sysctl};
use crate::{Finding, Host, Level, Wanted};

/// Kernel memory of a connection that carries nothing: socket, inode, file and directory entry. Measured
/// on Linux 6.18: 3.93 KiB over 18 000 sockets.
pub(super) const IDLE_BYTES: u64 = 4 * KIB;
/// Buffers of a connection that carries a little both ways: a page each. What the kernel grants even
/// under pressure.
const BUSY_BYTES: u64 = 8 * KIB;
/// Connections from which defaults are worth lowering.
const MANY: u32 = 50_000;

pub(crate) fn check(host: &Host, wanted: &Wanted, findings: &mut Vec<Finding>) {
    findings.extend(total(host, wanted));
    findings.extend(buffers(host, wanted, &RECEIVE));
    findings.extend(buffers(host, wanted, &SEND));
}

fn total(host: &Host, wanted: &Wanted) -> Option<Finding> {
    const CHECK: &str = "net.ipv4.tcp_mem";
    const WHY: &str = "Pages of buffers of all TCP sockets together: below the first the kernel does not \
                       mind, from the second on it shrinks windows, at the third it drops packets and kills \
                       orphans. Idle connections hold no buffers; those that carry something hold two pages \
                       at least. The right value follows from the memory, so no file can ship it.";
    let &[_, pressure, most] = host.sysctl_numbers(CHECK)?.as_slice() else { return None };
    let page = host.page_bytes;
    if page == 0 {
        return None;
    }
    let connections = u64::from(wanted.connections) + u64::from(wanted.outgoing);
    let needed = connections * BUSY_BYTES;
    let found = format!(
        "pressure from {}, at most {}; {} wanted for {connections} connections with a page each way",
        bytes(pressure.saturating_mul(page)),
        bytes(most.saturating_mul(page)),
        bytes(needed)
    );
    if pressure.saturating_mul(page) >= needed {
        return Some(Finding::ok(CHECK, found, WHY));
    }
    let finding = Finding::new(CHECK, Level::Warning, found, WHY);
    // Twice what is needed at the top leaves room for bursts; half of the memory is the broker's.
    let top = 2 * needed / page;
    if 2 * needed > host.usable_memory() / 2 {
        return Some(finding);
    }
    Some(finding.remedy(sysctl::set(CHECK, format!("{} {} {top}", top / 2, top / 4 * 3))))
}

/// One direction's buffer sizes: smallest, first and largest.
struct Direction {
    key: &'static str,
    /// Above this the first size is worth lowering when there are many connections.
    first_max: u64,
    set: &'static str,
    why: &'static str,
}

const RECEIVE: Direction = Direction {
    key: "net.ipv4.tcp_rmem",
    first_max: 32 * KIB,
    set: "4096 32768 4194304",
    why: "Bytes per socket: smallest, first and largest receive buffer. About half of the first is the window \
          every client may fill before the broker reads; the kernel grows it for those that use it. Many \
          connections with small messages need little, and a small first one bounds what a broker that \
          has stopped reading can be made to hold.",
};

const SEND: Direction = Direction {
    key: "net.ipv4.tcp_wmem",
    first_max: 32 * KIB,
    set: "4096 16384 4194304",
    why: "Bytes per socket: smallest, first and largest send buffer. What a client that does not read makes \
          the kernel hold, before the broker's own queue for it fills.",
};

fn buffers(host: &Host, wanted: &Wanted, direction: &Direction) -> Option<Finding> {
    let &[_, first, largest] = host.sysctl_numbers(direction.key)?.as_slice() else { return None };
    let found = format!(
        "first {}, largest {}: full, 100 000 connections hold {} at the first and {} at the largest",
        bytes(first),
        bytes(largest),
        bytes(first.saturating_mul(100_000)),
        bytes(largest.saturating_mul(100_000))
    );
    let finding = if wanted.connections >= MANY && first > direction.first_max {
        let finding = Finding::new(direction.key, Level::Advice, found, direction.why);
        finding.remedy(sysctl::set(direction.key, direction.set))
    } else {
        Finding::ok(direction.key, found, direction.why)
    };
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::GIB;

    fn host(key: &'static str, value: &str) -> Host {
        let mut host = Host { page_bytes: 4096, ..Host::default() };
        host.memory.total_bytes = 48 * GIB;
        host.sysctls.insert(key, value.to_owned());
        host
    }

    fn finding(host: &Host, wanted: &Wanted) -> Finding {
        let mut findings = Vec::new();
        check(host, wanted, &mut findings);
        findings.remove(0)
    }

    /// Goal: the kernel's bound on all buffers holds the wanted connections, and the remedy is one it
    /// would itself accept. Method: the stock bound of 16 GiB of memory, then the remedy applied.
    #[test]
    fn sum_over_all_sockets() {
        let wanted = Wanted::new(1_000_000, 16);
        let short = finding(&host("net.ipv4.tcp_mem", "190000\t254000\t380000"), &wanted);
        assert_eq!(short.level, Level::Warning);
        let remedy = short.remedy.unwrap();
        let value = remedy.split(['=', '\'']).nth(2).unwrap();
        assert_eq!(finding(&host("net.ipv4.tcp_mem", value), &wanted).level, Level::Ok);

        let mut small = host("net.ipv4.tcp_mem", "190000\t254000\t380000");
        small.memory.limit_bytes = Some(16 * GIB);
        assert_eq!(finding(&small, &wanted).remedy, None, "not half of the memory for buffers");
    }

    /// Goal: first sizes matter only to many connections. Method: the stock receive buffer.
    #[test]
    fn first_sizes() {
        let host = host("net.ipv4.tcp_rmem", "4096\t131072\t33554432");
        assert_eq!(finding(&host, &Wanted::new(1000, 4)).level, Level::Ok);
        let many = finding(&host, &Wanted::new(100_000, 4));
        assert_eq!(many.level, Level::Advice);
        assert!(many.found.contains("12.2 GiB at the first"), "{}", many.found);
    }
}
