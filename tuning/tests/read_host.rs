//! [`Host::read_from`] on a tree of files, and [`Host::read`] on whatever runs the tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tuning::{ClockSource, Device, Host, Interrupt, Limit, Roots, Wanted, exit_code, inspect, render};

/// Goal: every fact is found where a server with a unified control group hierarchy shows it. Method: a
/// tree with a distinct value for each.
#[test]
fn a_server() {
    let tree = Tree::new("server");
    tree.process("0::/system.slice/hermod.service\n");
    tree.proc("1/comm", "systemd\n");
    tree.proc("sys/kernel/osrelease", "6.12.3-arch1\n");
    tree.proc("sys/net/core/somaxconn", "4096\n");
    tree.proc("sys/net/ipv4/tcp_mem", "190000\t254000\t380000\n");
    tree.proc("meminfo", "MemTotal:       16384000 kB\nMemFree:  1 kB\nSwapTotal:       2048 kB\n");
    tree.sys("devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
    tree.sys("devices/system/cpu/cpu1/cpufreq/scaling_governor", "schedutil\n");
    tree.sys("devices/system/node/has_cpu", "0-1\n");
    tree.sys("devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
    tree.sys("devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet \n");
    tree.sys("kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    tree.sys("kernel/mm/transparent_hugepage/defrag", "always defer [defer+madvise] madvise never\n");
    tree.sys("fs/cgroup/system.slice/hermod.service/cpu.max", "max 100000\n");
    tree.sys("fs/cgroup/system.slice/cpu.max", "250000 100000\n");
    tree.sys("fs/cgroup/system.slice/hermod.service/memory.max", "1073741824\n");

    let host = tree.read(None);
    assert_eq!(host.kernel, Some((6, 12)));
    assert!(host.systemd);
    assert_eq!(host.page_bytes, 16_384);
    assert_eq!(host.open_files, Some(Limit { soft: Some(1024), hard: Some(524_288) }));
    assert_eq!(host.locked_memory, Some(Limit { soft: Some(8_388_608), hard: None }));
    assert!(host.may_lock_memory);
    assert_eq!(host.sysctls.get("net.core.somaxconn").map(String::as_str), Some("4096"));
    assert_eq!(host.sysctls.len(), 2);
    assert_eq!(host.processors.allowed, [0, 1, 2, 3, 6]);
    assert_eq!(host.processors.governors.len(), 2);
    assert_eq!(host.processors.quota, Some(2.5), "of the group above");
    assert_eq!(host.processors.numa_nodes, 2);
    let available = vec!["tsc".to_owned(), "hpet".to_owned()];
    assert_eq!(host.processors.clock, Some(ClockSource { current: "tsc".to_owned(), available }));
    assert_eq!(host.memory.total_bytes, 16_384_000 * 1024);
    assert_eq!(host.memory.swap_bytes, 2048 * 1024);
    assert_eq!(host.memory.limit_bytes, Some(1 << 30));
    assert_eq!(host.memory.huge_pages.as_deref(), Some("madvise"));
    assert_eq!(host.memory.huge_pages_defrag.as_deref(), Some("defer+madvise"));
    assert_eq!(host.disk, None);
}

/// Goal: the older control group hierarchies give the same facts, no limit included. Method: a group of
/// its own for each controller.
#[test]
fn control_groups_of_version_one() {
    let tree = Tree::new("groups");
    tree.process("5:memory:/a\n4:cpu,cpuacct:/b\n1:name=systemd:/c\n0::/\n");
    tree.sys("fs/cgroup/cpu/b/cpu.cfs_quota_us", "-1\n");
    tree.sys("fs/cgroup/cpu/b/cpu.cfs_period_us", "100000\n");
    tree.sys("fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
    let unlimited = tree.read(None);
    assert_eq!((unlimited.processors.quota, unlimited.memory.limit_bytes), (None, None));

    tree.sys("fs/cgroup/cpu/b/cpu.cfs_quota_us", "50000\n");
    tree.sys("fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n");
    let limited = tree.read(None);
    assert_eq!((limited.processors.quota, limited.memory.limit_bytes), (Some(0.5), Some(4096)));
}

/// Goal: interfaces with hardware are found with their queues, steering and interrupts; others are not.
/// Method: one with a device, one that is down, and a loopback.
#[test]
fn interfaces() {
    let tree = Tree::new("interfaces");
    tree.sys("devices/pci0/virtio2/numa_node", "1\n");
    for (name, state) in [("eth0", "up\n"), ("eth1", "down\n"), ("lo", "unknown\n")] {
        tree.sys(&format!("class/net/{name}/operstate"), state);
    }
    for name in ["eth0", "eth1"] {
        symlink(
            tree.0.join("sys/devices/pci0/virtio2"),
            tree.0.join("sys/class/net").join(name).join("device"),
        )
        .unwrap();
    }
    tree.sys("class/net/eth0/queues/rx-0/rps_cpus", "00000000,0000000f\n");
    tree.sys("class/net/eth0/queues/rx-1/rps_cpus", "00000000,00000000\n");
    tree.sys("class/net/eth0/queues/tx-0/xps_cpus", "1\n");
    tree.proc(
        "interrupts",
        "           CPU0  CPU1\n 24:  1  0  PCI-MSIX  virtio2-config\n 25:  1  0  PCI-MSIX  virtio2-input.0\n \
         26:  1  0  PCI-MSIX  virtio2-input.1\n",
    );
    tree.proc("irq/25/effective_affinity_list", "3\n");
    tree.proc("irq/26/effective_affinity_list", "\n");
    tree.proc("irq/26/smp_affinity_list", "0-1\n");

    let host = tree.read(None);
    let [eth0] = host.interfaces.as_slice() else { panic!("{:?}", host.interfaces) };
    assert_eq!((eth0.name.as_str(), eth0.numa_node), ("eth0", Some(1)));
    assert_eq!((eth0.receive_queues, eth0.transmit_queues, eth0.spread_queues), (2, 1, 1));
    let interrupt = |number, processors: &[u16]| Interrupt { number, processors: processors.to_vec() };
    assert_eq!(eth0.interrupts, [interrupt(25, &[3]), interrupt(26, &[0, 1])]);
}

/// Goal: the data directory's mount, its device and its flushes. Method: a partition of a fake disk under
/// a real directory, in which nothing is left behind.
#[test]
fn the_disk_of_a_data_directory() {
    let tree = Tree::new("disk");
    tree.proc("self/mountinfo", "27 1 254:1 / / rw,relatime - xfs /dev/vda1 rw,noquota\n");
    tree.sys("devices/vda/queue/scheduler", "[none] mq-deadline bfq\n");
    tree.sys("devices/vda/queue/write_cache", "write back\n");
    tree.sys("devices/vda/queue/rotational", "0\n");
    tree.sys("devices/vda/vda1/partition", "1\n");
    fs::create_dir_all(tree.0.join("sys/dev/block")).unwrap();
    symlink(tree.0.join("sys/devices/vda/vda1"), tree.0.join("sys/dev/block/254:1")).unwrap();
    let data = tree.0.join("data");
    fs::create_dir(&data).unwrap();

    let disk = tree.read(Some(&data)).disk.unwrap();
    assert!(disk.exists && disk.write_error.is_none());
    assert_eq!(disk.file_system, "xfs");
    assert_eq!(disk.options, ["rw", "relatime", "rw", "noquota"]);
    assert!(disk.free_bytes.is_some());
    let device = Device {
        name: "vda".to_owned(),
        scheduler: Some("none".to_owned()),
        write_cache: Some("write back".to_owned()),
        rotational: false,
    };
    assert_eq!(disk.device, Some(device));
    let flush = disk.flush.unwrap();
    assert!((1..=64).contains(&flush.samples) && flush.median_us <= flush.longest_us);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "the flush file is gone");

    let missing = tree.read(Some(&data.join("not/yet"))).disk.unwrap();
    assert!(!missing.exists && missing.flush.is_none());
    assert_eq!(missing.file_system, "xfs", "of the parent that exists");
}

/// Goal: a host that shows nothing is no panic and no finding. Method: empty trees.
#[test]
fn an_empty_host() {
    let host = Host { ring: None, ..Tree::new("empty").read(None) };
    assert_eq!(host, Host::default());
    assert_eq!(inspect(&host, &Wanted::new(1_000_000, 64)), []);
}

/// Goal: the real thing, wherever the tests run: facts are read, every command is one that a shell can
/// parse, the report renders. Method: more than any host has, so that most checks have something to mend.
#[test]
fn this_host() {
    let data_dir = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let wanted = Wanted { data_dir, outgoing: 65_000, ..Wanted::new(u32::MAX, 1024) };
    let host = Host::read(&wanted);
    assert!(host.page_bytes.is_power_of_two());
    assert!(host.kernel.is_some() && host.open_files.is_some() && host.locked_memory.is_some());
    assert!(host.memory.total_bytes > 0 && !host.processors.allowed.is_empty());
    assert!(host.sysctls.contains_key("net.core.somaxconn"));

    let findings = inspect(&host, &wanted);
    assert_eq!(exit_code(&findings), 2);
    for command in findings.iter().filter_map(|finding| finding.remedy.as_deref()) {
        let parsed = Command::new("sh").args(["-n", "-c", command]).stderr(Stdio::null()).status().unwrap();
        assert!(parsed.success(), "not a command: {command}");
    }
    assert!(render(&findings, false).contains("open files"));
}

/// A fake `/proc` and `/sys`, and room beside them.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("proc")).unwrap();
        fs::create_dir_all(root.join("sys")).unwrap();
        Self(root)
    }

    fn proc(&self, path: &str, text: &str) {
        write(&self.0.join("proc").join(path), text.as_bytes());
    }

    fn sys(&self, path: &str, text: &str) {
        write(&self.0.join("sys").join(path), text.as_bytes());
    }

    /// `/proc/self` of a process in these control groups.
    fn process(&self, groups: &str) {
        self.proc("self/cgroup", groups);
        self.proc("self/uid_map", "         0          0 4294967295\n");
        self.proc("self/status", "Name:\thermod\nCapEff:\t0000000000004000\nCpus_allowed_list:\t0-3,6\n");
        self.proc(
            "self/limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max open files            1024                 524288               files     \n\
             Max locked memory         8388608              unlimited            bytes     \n",
        );
        // Pairs of words: the hardware's capabilities, and 16 KiB pages.
        let vector: Vec<u8> =
            [16usize, 7, 6, 16_384, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        write(&self.0.join("proc/self/auxv"), &vector);
    }

    fn read(&self, data_dir: Option<&Path>) -> Host {
        let roots = Roots { proc: self.0.join("proc"), sys: self.0.join("sys") };
        let data_dir = data_dir.map(Path::to_owned);
        Host::read_from(&roots, &Wanted { data_dir, ..Wanted::new(1000, 4) })
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}
