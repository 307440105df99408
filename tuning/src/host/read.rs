//! Takes the snapshot. The only place of this crate, with its siblings below `host`, that does I/O.

use std::path::{Path, PathBuf};

use super::tree::{Tree, processor_list};
use super::{ClockSource, Host, Limit, Memory, Processors, SYSCTLS, disk, network, system_calls};
use crate::Wanted;

/// Where the kernel's file systems are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys`.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into() }
    }
}

impl Host {
    /// Looks at this host. Where a data directory is wanted, also writes and removes one small file in it,
    /// to time at most 64 flushes within about two seconds.
    pub fn read(wanted: &Wanted) -> Host {
        Self::read_from(&Roots::default(), wanted)
    }

    /// [`Host::read`] with `/proc` and `/sys` elsewhere. The system calls and the data directory stay this
    /// host's.
    pub fn read_from(roots: &Roots, wanted: &Wanted) -> Host {
        let proc = Tree(roots.proc.clone());
        let sys = Tree(roots.sys.clone());
        let sysctl =
            |key: &'static str| Some((key, proc.text(Path::new("sys").join(key.replace('.', "/")))?));
        let groups = Groups::read(&proc);
        let limits = proc.text("self/limits");
        Host {
            page_bytes: page_bytes(&proc).unwrap_or(0),
            kernel: proc.text("sys/kernel/osrelease").and_then(|release| kernel_version(&release)),
            systemd: proc.text("1/comm").as_deref() == Some("systemd"),
            open_files: limits.as_deref().and_then(|limits| limit(limits, "Max open files")),
            locked_memory: limits.as_deref().and_then(|limits| limit(limits, "Max locked memory")),
            may_lock_memory: may_lock_memory(&proc),
            ring: Some(system_calls::probe_ring()),
            sysctls: SYSCTLS.iter().filter_map(|&key| sysctl(key)).collect(),
            processors: processors(&proc, &sys, &groups),
            memory: memory(&proc, &sys, &groups),
            interfaces: network::interfaces(&proc, &sys),
            disk: wanted.data_dir.as_deref().map(|path| disk::read(&proc, &sys, path)),
        }
    }
}

/// From the auxiliary vector: pairs of words, of which number 6 (AT_PAGESZ) is the page size.
fn page_bytes(proc: &Tree) -> Option<u64> {
    const WORD_BYTES: usize = size_of::<usize>();
    const PAGE_BYTES_KEY: usize = 6;
    let vector = std::fs::read(proc.at("self/auxv")).ok()?;
    let words: Vec<usize> =
        vector.as_chunks::<WORD_BYTES>().0.iter().copied().map(usize::from_ne_bytes).collect();
    let pair = words.chunks_exact(2).find(|pair| pair[0] == PAGE_BYTES_KEY)?;
    u64::try_from(pair[1]).ok()
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// One line of `/proc/self/limits`: the name, then soft and hard limit.
fn limit(limits: &str, name: &str) -> Option<Limit> {
    let mut values = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    let mut next = || match values.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some(Limit { soft: next()?, hard: next()? })
}

/// The kernel asks for CAP_IPC_LOCK in the initial user namespace; in another one the bit says nothing.
fn may_lock_memory(proc: &Tree) -> bool {
    const IPC_LOCK: u64 = 1 << 14;
    let initial =
        proc.text("self/uid_map").is_some_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    let effective = proc
        .text("self/status")
        .and_then(|status| u64::from_str_radix(status_value(&status, "CapEff:")?, 16).ok());
    initial && effective.is_some_and(|bits| bits & IPC_LOCK != 0)
}

fn status_value<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn processors(proc: &Tree, sys: &Tree, groups: &Groups) -> Processors {
    let status = proc.text("self/status").unwrap_or_default();
    let mut read = Processors {
        allowed: status_value(&status, "Cpus_allowed_list:").map(processor_list).unwrap_or_default(),
        quota: groups.quota(sys),
        ..Processors::default()
    };
    for name in sys.names("devices/system/cpu") {
        let governor = Path::new("devices/system/cpu").join(name).join("cpufreq/scaling_governor");
        if let Some(governor) = sys.text(governor) {
            *read.governors.entry(governor).or_default() += 1;
        }
    }
    let with_processors = sys.text("devices/system/node/has_cpu").unwrap_or_default();
    read.numa_nodes = u32::try_from(processor_list(&with_processors).len()).unwrap_or(u32::MAX);
    let clock = Path::new("devices/system/clocksource/clocksource0");
    read.clock = sys.text(clock.join("current_clocksource")).map(|current| ClockSource {
        current,
        available: sys
            .text(clock.join("available_clocksource"))
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    });
    read
}

fn memory(proc: &Tree, sys: &Tree, groups: &Groups) -> Memory {
    let text = proc.text("meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let kibibytes = status_value(&text, name)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?;
        Some(kibibytes * 1024)
    };
    Memory {
        total_bytes: bytes("MemTotal:").unwrap_or(0),
        swap_bytes: bytes("SwapTotal:").unwrap_or(0),
        limit_bytes: groups.memory_limit(sys),
        huge_pages: sys.choice("kernel/mm/transparent_hugepage/enabled"),
        huge_pages_defrag: sys.choice("kernel/mm/transparent_hugepage/defrag"),
    }
}

/// This process's control groups. A limit of any group from its own up to the root binds, so the smallest
/// is the one that counts.
struct Groups {
    /// Lines of `/proc/self/cgroup`: hierarchy, controllers, path.
    lines: Vec<(String, PathBuf)>,
}

impl Groups {
    fn read(proc: &Tree) -> Self {
        let text = proc.text("self/cgroup").unwrap_or_default();
        let lines = text.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(":/")?;
            Some((controllers.to_owned(), PathBuf::from(path)))
        });
        Self { lines: lines.collect() }
    }

    /// Directories below `/sys` from the process's own group up to the root: of the unified hierarchy when
    /// `controller` is empty, else of that controller's own.
    fn directories(&self, controller: &str) -> Vec<PathBuf> {
        let line = self.lines.iter().find(|(controllers, _)| controllers.split(',').any(|c| c == controller));
        let Some((_, path)) = line else { return Vec::new() };
        let root = Path::new("fs/cgroup").join(controller);
        path.ancestors().map(|path| root.join(path)).collect()
    }

    /// Processors' worth of time.
    fn quota(&self, sys: &Tree) -> Option<f64> {
        let unified = self.directories("").into_iter().filter_map(|group| {
            let text = sys.text(group.join("cpu.max"))?;
            let (quota, period) = text.split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        });
        let own = self.directories("cpu").into_iter().filter_map(|group| {
            // -1 is no quota, and no unsigned number either.
            let quota = sys.number(group.join("cpu.cfs_quota_us"))?;
            let period = sys.number(group.join("cpu.cfs_period_us"))?;
            Some(quota as f64 / period as f64)
        });
        unified.chain(own).min_by(f64::total_cmp)
    }

    /// Bytes.
    fn memory_limit(&self, sys: &Tree) -> Option<u64> {
        let unified = self.directories("").into_iter().map(|group| group.join("memory.max"));
        let own = self.directories("memory").into_iter().map(|group| group.join("memory.limit_in_bytes"));
        // No limit is `max` in one hierarchy and close to 2^63 in the other.
        unified.chain(own).filter_map(|file| sys.number(file)).min().filter(|&bytes| bytes < 1 << 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: versions as distributions write them. Method: compare.
    #[test]
    fn kernel_versions() {
        assert_eq!(kernel_version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(kernel_version("5.14.0-427.el9.x86_64"), Some((5, 14)));
        assert_eq!(kernel_version("6.1-rc3"), Some((6, 1)));
        assert_eq!(kernel_version("unknown"), None);
    }

    /// Goal: limits with numbers and without. Method: lines as the kernel prints them.
    #[test]
    fn limits() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         unlimited            unlimited            bytes     \n";
        assert_eq!(limit(text, "Max open files"), Some(Limit { soft: Some(1024), hard: Some(524_288) }));
        assert_eq!(limit(text, "Max locked memory"), Some(Limit { soft: None, hard: None }));
        assert_eq!(limit(text, "Max processes"), None);
    }
}
