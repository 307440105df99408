//! CPU time and memory of a process, read from /proc.

use std::fs;
use std::io;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// Nanoseconds on a CPU, all threads.
    pub(crate) cpu_ns: u64,
    /// Resident memory in bytes.
    pub(crate) resident_bytes: u64,
    /// The part of it that is the process's own (anonymous: heap, stacks, rings).
    pub(crate) user_bytes: u64,
    /// Bytes it had written to disks, through the page cache (counted when a page gets dirty) or past it.
    pub(crate) written_bytes: u64,
}

/// Reads the usage of process `pid`.
pub(crate) fn usage(pid: u32) -> io::Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(Usage {
        cpu_ns: cpu_ns(pid)?,
        resident_bytes: status_bytes(&status, "VmRSS:"),
        user_bytes: status_bytes(&status, "RssAnon:"),
        written_bytes: written_bytes(pid),
    })
}

/// CPU time over all living threads, from their schedstat: nanoseconds on a CPU, without the time
/// they waited for one. Threads that end in between take theirs along.
fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let schedstat = task?.path().join("schedstat");
        if let Ok(text) = fs::read_to_string(schedstat) {
            total += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(total)
}

/// `write_bytes` of /proc/PID/io; 0 when it is not ours to see.
fn written_bytes(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    written.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// A field of /proc/PID/status in bytes; 0 when it is not there.
fn status_bytes(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The process that listens on TCP `port`, found by its socket's inode; `None` when it is not ours
/// to see.
pub(crate) fn listener_of(port: u16) -> Option<u32> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inodes: Vec<String> = tables
        .iter()
        .flat_map(|table| table.lines())
        .filter_map(|line| listening_inode(line, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|mut files| {
            files.any(|file| {
                let target = file.and_then(|file| fs::read_link(file.path()));
                target.is_ok_and(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str()))
            })
        })
    })
}

/// The inode of a line of /proc/net/tcp, when it is a listener on `port`.
fn listening_inode(line: &str, port: u16) -> Option<&str> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let local_port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    if state != LISTEN || local_port != port {
        return None;
    }
    fields.nth(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a status file are found by name and read in kibibytes.
    #[test]
    fn status_fields_are_read() {
        let status = "Name:\tx\nVmRSS:\t    1234 kB\nRssAnon:\t     100 kB\n";
        assert_eq!(status_bytes(status, "VmRSS:"), 1234 * 1024);
        assert_eq!(status_bytes(status, "RssAnon:"), 100 * 1024);
        assert_eq!(status_bytes(status, "RssFile:"), 0);
    }

    /// A listener's line gives its inode, a connection's and another port's do not.
    #[test]
    fn listeners_are_told_from_connections() {
        let line = "   0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0";
        assert_eq!(listening_inode(line, 1883), Some("4242"));
        assert_eq!(listening_inode(line, 1884), None);
        assert_eq!(listening_inode(&line.replace(" 0A ", " 01 "), 1883), None);
    }

    /// This process uses CPU and memory, and owns the port it listens on.
    #[test]
    fn this_process_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pid = std::process::id();
        let used = usage(pid).unwrap();
        assert!(used.cpu_ns > 0 && used.user_bytes > 0 && used.resident_bytes >= used.user_bytes);
        assert_eq!(listener_of(listener.local_addr().unwrap().port()), Some(pid));
    }
}
