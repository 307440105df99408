//! The data directory's disk: whether a flush is one, how long it takes, and how much room there is.

use super::{GIB, bytes, counted};
use crate::{Device, Disk, Finding, Flush, Host, Level, Wanted};

pub(crate) fn check(host: &Host, wanted: &Wanted, findings: &mut Vec<Finding>) {
    let Some(disk) = &host.disk else { return };
    findings.push(directory(disk));
    if !disk.file_system.is_empty() {
        findings.push(file_system(disk));
    }
    findings.extend(disk.free_bytes.map(|free| free_space(free, wanted)));
    if let Some(device) = &disk.device {
        findings.extend(scheduler(device));
        findings.extend(write_cache(device));
    }
    findings.extend(disk.flush.map(flush_latency));
}

fn directory(disk: &Disk) -> Finding {
    const CHECK: &str = "data directory";
    const WHY: &str = "The broker keeps its log here and acknowledges a message only when it is written. It \
                       must be writable for the user the broker runs as.";
    let path = disk.path.display();
    let is_read_only = disk.options.iter().any(|option| option == "ro");
    match &disk.write_error {
        _ if is_read_only => Finding::new(CHECK, Level::Failure, format!("{path} is mounted read-only"), WHY)
            .remedy(format!("mount -o remount,rw \"$(findmnt -n -o TARGET -T {})\"", quoted(disk))),
        _ if !disk.exists => Finding::new(CHECK, Level::Warning, format!("{path} is no directory yet"), WHY)
            .remedy(format!("install -d -o hermod -g hermod -m 750 {}", quoted(disk))),
        Some(error) => Finding::new(CHECK, Level::Failure, format!("{path} cannot be written: {error}"), WHY)
            .remedy(format!("chown -R hermod:hermod {}", quoted(disk))),
        None => Finding::ok(CHECK, format!("{path} is writable"), WHY),
    }
}

/// The path as one word for a shell.
fn quoted(disk: &Disk) -> String {
    format!("'{}'", disk.path.display().to_string().replace('\'', "'\\''"))
}

fn file_system(disk: &Disk) -> Finding {
    const CHECK: &str = "file system";
    const WHY: &str = "An acknowledgement promises that the message survives a loss of power. ext4 and xfs on a \
                       local disk keep that promise and write in place, which makes flushes short.";
    let name = disk.file_system.as_str();
    if let Some(option) =
        disk.options.iter().find(|option| matches!(option.as_str(), "nobarrier" | "barrier=0"))
    {
        let found = format!("{name}, mounted with {option}: flushes do not reach the platter");
        return Finding::new(CHECK, Level::Failure, found, WHY)
            .remedy(format!("mount -o remount,barrier \"$(findmnt -n -o TARGET -T {})\"", quoted(disk)));
    }
    let (level, remark) = match name {
        "ext4" | "xfs" => (Level::Ok, ""),
        "tmpfs" | "ramfs" => (Level::Failure, ": it is memory, gone at the next boot"),
        "overlay" | "aufs" => {
            (Level::Warning, ": a container's layer, gone with the container; use a volume")
        }
        "btrfs" | "zfs" | "bcachefs" | "f2fs" => (Level::Advice, ": copies on write, so a flush writes more"),
        "nfs" | "nfs4" | "cifs" | "ceph" | "9p" | "virtiofs" => {
            (Level::Warning, ": the network or the host decides how long a flush takes and what it means")
        }
        other if other.starts_with("fuse") => (Level::Warning, ": what a flush means is up to a program"),
        _ => (Level::Advice, ": not one we have measured"),
    };
    Finding::new(CHECK, level, format!("{name}{remark}"), WHY)
}

fn free_space(free: u64, wanted: &Wanted) -> Finding {
    const CHECK: &str = "free space";
    const WHY: &str = "A core's log needs segments ready ahead of its writes, and a segment stays as long as a \
                       message in it is owed to somebody. Where there is no room, messages that must be \
                       kept have to be refused.";
    /// Two spare segments of the largest size, 256 MiB, and as much again in use.
    const BYTES_PER_CORE: u64 = GIB;
    let needed = u64::from(wanted.cores) * BYTES_PER_CORE;
    let found = format!("{}, {} wanted: 1 GiB per core", bytes(free), bytes(needed));
    let level = match free {
        _ if free >= needed => Level::Ok,
        _ if free >= needed / 4 => Level::Warning,
        _ => Level::Failure,
    };
    Finding::new(CHECK, level, found, WHY)
}

fn scheduler(device: &Device) -> Option<Finding> {
    const CHECK: &str = "disk scheduler";
    const WHY: &str = "The log is one writer with one flush at a time. none and mq-deadline pass that on; bfq \
                       and cfq hold requests back to be fair to others, and a commit waits.";
    let Device { name, scheduler, rotational, .. } = device;
    let scheduler = scheduler.as_deref()?;
    let found = format!(
        "{name}: {scheduler}{}",
        if *rotational { ", which the kernel takes for a spinning disk" } else { "" }
    );
    let finding = match scheduler {
        "none" | "mq-deadline" | "kyber" | "noop" | "deadline" => Finding::ok(CHECK, found, WHY),
        _ => {
            let better = if *rotational { "mq-deadline" } else { "none" };
            Finding::new(CHECK, Level::Advice, found, WHY)
                .remedy(format!("echo {better} > /sys/block/{name}/queue/scheduler"))
        }
    };
    Some(finding)
}

fn write_cache(device: &Device) -> Option<Finding> {
    const CHECK: &str = "disk write cache";
    const WHY: &str = "With write back each flush empties the device's volatile cache, which is the longer part \
                       of a commit on disks without protection against power loss. Write through says that \
                       there is nothing to empty: true of protected disks, a lost message on others.";
    let cache = device.write_cache.as_deref()?;
    Some(Finding::ok(CHECK, format!("{}: {cache}", device.name), WHY))
}

fn flush_latency(flush: Flush) -> Finding {
    const CHECK: &str = "flush latency";
    const WHY: &str = "Each commit of a core is one write and one fdatasync; a publisher waits for one or two of \
                       them. Messages of a turn share a commit, so this bounds latency and not throughput.";
    /// Solid-state disks do better; spinning ones take about 8 ms.
    const SLOW_US: u64 = 2_000;
    const VERY_SLOW_US: u64 = 10_000;
    /// Shorter than a request takes to a device and back.
    const TOO_FAST_US: u64 = 10;
    /// Stalls that clients notice.
    const STALL_US: u64 = 100_000;
    let Flush { samples, median_us, longest_us } = flush;
    let found =
        format!("median {median_us} µs, longest {longest_us} µs in {} of 4 KiB", counted(samples, "sample"));
    let (level, remark) = match flush {
        _ if median_us < TOO_FAST_US => (Level::Warning, ": too fast for a disk, is it cached elsewhere?"),
        _ if median_us > VERY_SLOW_US => (Level::Warning, ": too slow for acknowledgements at once"),
        _ if longest_us > STALL_US => (Level::Warning, ": stalls"),
        _ if median_us > SLOW_US => (Level::Advice, ": slow"),
        _ => (Level::Ok, ""),
    };
    Finding::new(CHECK, level, found + remark, WHY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::MIB;

    fn findings(disk: Disk, cores: u16) -> Vec<Finding> {
        let host = Host { disk: Some(disk), ..Host::default() };
        let mut findings = Vec::new();
        check(&host, &Wanted::new(1, cores), &mut findings);
        findings
    }

    fn disk() -> Disk {
        Disk {
            path: "/var/lib/hermod".into(),
            exists: true,
            file_system: "ext4".to_owned(),
            ..Disk::default()
        }
    }

    /// Goal: a directory that cannot hold the log says why and how to mend it. Method: missing, not ours,
    /// read-only, with a quote in its name.
    #[test]
    fn directories() {
        let missing = findings(Disk { exists: false, ..disk() }, 1).remove(0);
        assert_eq!(missing.level, Level::Warning);
        assert_eq!(missing.remedy.unwrap(), "install -d -o hermod -g hermod -m 750 '/var/lib/hermod'");

        let denied =
            Disk { write_error: Some("Permission denied".to_owned()), path: "/a'b".into(), ..disk() };
        let denied = findings(denied, 1).remove(0);
        assert_eq!(denied.level, Level::Failure);
        assert_eq!(denied.remedy.unwrap(), "chown -R hermod:hermod '/a'\\''b'");

        let read_only = Disk { options: vec!["ro".to_owned()], ..disk() };
        assert_eq!(findings(read_only, 1)[0].level, Level::Failure);
    }

    /// Goal: file systems on which an acknowledgement would mean nothing are failures. Method: one of each
    /// kind.
    #[test]
    fn file_systems() {
        let level = |name: &str, option: &str| {
            let disk = Disk { file_system: name.to_owned(), options: vec![option.to_owned()], ..disk() };
            findings(disk, 1)[1].level
        };
        assert_eq!(level("xfs", "rw"), Level::Ok);
        assert_eq!(level("ext4", "barrier=0"), Level::Failure);
        assert_eq!(level("tmpfs", "rw"), Level::Failure);
        assert_eq!(level("overlay", "rw"), Level::Warning);
        assert_eq!(level("fuse.sshfs", "rw"), Level::Warning);
        assert_eq!(level("btrfs", "rw"), Level::Advice);
    }

    /// Goal: room grows with cores. Method: 3 GiB for one, four and sixteen.
    #[test]
    fn room() {
        let level = |cores| findings(Disk { free_bytes: Some(3 * GIB + MIB), ..disk() }, cores)[2].level;
        assert_eq!([level(1), level(4), level(16)], [Level::Ok, Level::Warning, Level::Failure]);
    }

    /// Goal: flushes are judged by median and by the longest, in both directions. Method: one disk of each
    /// kind.
    #[test]
    fn flushes() {
        let level = |median_us, longest_us| flush_latency(Flush { samples: 64, median_us, longest_us }).level;
        assert_eq!(level(160, 900), Level::Ok, "a solid-state disk");
        assert_eq!(level(8_000, 20_000), Level::Advice, "a spinning disk");
        assert_eq!(level(30_000, 60_000), Level::Warning, "a network disk");
        assert_eq!(level(160, 250_000), Level::Warning, "a disk that stalls");
        assert_eq!(level(2, 9), Level::Warning, "no disk at all");
    }

    /// Goal: a scheduler that holds requests back is named with the one to take. Method: both kinds of
    /// disk.
    #[test]
    fn schedulers() {
        let finding = |scheduler: &str, rotational| {
            let device = Device {
                name: "sda".to_owned(),
                scheduler: Some(scheduler.to_owned()),
                rotational,
                ..Device::default()
            };
            super::scheduler(&device).unwrap()
        };
        assert_eq!(finding("mq-deadline", true).level, Level::Ok);
        assert_eq!(finding("bfq", false).remedy.unwrap(), "echo none > /sys/block/sda/queue/scheduler");
        assert_eq!(finding("bfq", true).remedy.unwrap(), "echo mq-deadline > /sys/block/sda/queue/scheduler");
    }
}
