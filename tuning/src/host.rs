//! The host as plain facts. Nothing here judges: `checks` does. A fact that the host does not have, or
//! does not show to this process, is `None` or absent.

mod disk;
mod network;
mod read;
mod system_calls;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use read::Roots;

/// Every sysctl that some check looks at, in the kernel's dotted names.
pub(crate) const SYSCTLS: &[&str] = &[
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "kernel.io_uring_group",
    "kernel.numa_balancing",
    "net.core.netdev_max_backlog",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "vm.max_map_count",
    "vm.overcommit_memory",
    "vm.swappiness",
];

/// A snapshot of one host. The default is a host of which nothing is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    /// Bytes of a memory page; 0 when unknown.
    pub page_bytes: u64,
    /// Kernel version: major and minor.
    pub kernel: Option<(u32, u32)>,
    /// Whether systemd started the host, so that a service's limits are set by its unit.
    pub systemd: bool,
    /// Descriptors this process may open (RLIMIT_NOFILE).
    pub open_files: Option<Limit>,
    /// Bytes this process may lock (RLIMIT_MEMLOCK).
    pub locked_memory: Option<Limit>,
    /// Whether the limit on locked memory does not apply: CAP_IPC_LOCK in the initial user namespace.
    pub may_lock_memory: bool,
    /// What the kernel said to setting up a ring.
    pub ring: Option<RingProbe>,
    /// Values as `/proc/sys` shows them, by dotted name; absent where the kernel has no such key.
    pub sysctls: BTreeMap<&'static str, String>,
    /// Processors and clock.
    pub processors: Processors,
    /// Memory and its policies.
    pub memory: Memory,
    /// Network interfaces with a device behind them that are not down.
    pub interfaces: Vec<Interface>,
    /// Disk of the data directory, when one was asked for.
    pub disk: Option<Disk>,
}

/// A resource limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In force now; the process may raise it up to `hard`.
    pub soft: Option<u64>,
    /// Its ceiling; only root raises it.
    pub hard: Option<u64>,
}

/// The kernel's answer to `io_uring_setup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingProbe {
    /// A ring with SINGLE_ISSUER and DEFER_TASKRUN, as the broker's cores want it (Linux 6.1).
    Deferred,
    /// A ring, but not with these flags.
    Plain,
    /// No ring at all, with this errno.
    Refused(i32),
}

/// Processors, what may be used of them, and the clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Processors {
    /// Processors this process may run on; empty when unknown.
    pub allowed: Vec<u16>,
    /// Frequency governors in use and on how many processors; empty where frequency is not ours to set.
    pub governors: BTreeMap<String, u32>,
    /// Processor time that the control group grants, in processors; `None` is no quota.
    pub quota: Option<f64>,
    /// NUMA nodes with processors.
    pub numa_nodes: u32,
    /// The kernel's clock.
    pub clock: Option<ClockSource>,
}

/// What the kernel reads its clock from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockSource {
    /// In use.
    pub current: String,
    /// All that would work here, in use included.
    pub available: Vec<String>,
}

/// Memory and its policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of memory; 0 when unknown.
    pub total_bytes: u64,
    /// Bytes of swap.
    pub swap_bytes: u64,
    /// Bytes that the control group grants; `None` is no limit.
    pub limit_bytes: Option<u64>,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// What a page fault does to get a huge page: `always`, `defer`, `madvise`, …
    pub huge_pages_defrag: Option<String>,
}

/// A network interface with a device behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's name.
    pub name: String,
    /// Receive queues in use.
    pub receive_queues: u32,
    /// Transmit queues in use.
    pub transmit_queues: u32,
    /// Receive queues whose packets RPS spreads over processors.
    pub spread_queues: u32,
    /// Interrupts of its queues.
    pub interrupts: Vec<Interrupt>,
    /// NUMA node the device hangs on, where there are several.
    pub numa_node: Option<u32>,
}

/// One interrupt of an interface's queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Number in `/proc/irq`.
    pub number: u32,
    /// Processors that it goes to.
    pub processors: Vec<u16>,
}

/// The disk under the data directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disk {
    /// The data directory as asked for.
    pub path: PathBuf,
    /// Whether it exists; if not, the rest describes its nearest existing parent.
    pub exists: bool,
    /// File system type, as `/proc/self/mountinfo` names it; empty when unknown.
    pub file_system: String,
    /// Mount options, of the mount and of the file system.
    pub options: Vec<String>,
    /// Bytes a process that is not root can still write.
    pub free_bytes: Option<u64>,
    /// The block device, where there is one.
    pub device: Option<Device>,
    /// Flush times; measured only in an existing directory.
    pub flush: Option<Flush>,
    /// What the operating system said when the flush file could not be written.
    pub write_error: Option<String>,
}

/// A block device's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The kernel's name.
    pub name: String,
    /// I/O scheduler in use.
    pub scheduler: Option<String>,
    /// `write back` or `write through`.
    pub write_cache: Option<String>,
    /// Whether it has spinning platters, as far as the kernel knows.
    pub rotational: bool,
}

/// Times of writing 4 KiB to a file that already has its blocks, and `fdatasync`, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// How many were timed.
    pub samples: u32,
    /// Median in microseconds.
    pub median_us: u64,
    /// The longest in microseconds.
    pub longest_us: u64,
}

impl Host {
    /// The value of a sysctl, if this kernel has it.
    pub(crate) fn sysctl(&self, key: &str) -> Option<&str> {
        assert!(SYSCTLS.contains(&key), "{key} is looked at and never read");
        self.sysctls.get(key).map(String::as_str)
    }

    /// The numbers of a sysctl: several for keys like `net.ipv4.tcp_mem`.
    pub(crate) fn sysctl_numbers(&self, key: &str) -> Option<Vec<u64>> {
        self.sysctl(key)?.split_whitespace().map(|number| number.parse().ok()).collect()
    }

    /// Bytes of memory that the broker can have: the host's or its control group's.
    pub(crate) fn usable_memory(&self) -> u64 {
        self.memory.limit_bytes.unwrap_or(u64::MAX).min(self.memory.total_bytes)
    }
}
