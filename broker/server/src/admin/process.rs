//! What the kernel says of this process. A number that cannot be read is left out.

use std::fs;

/// What the process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// CPU time of all threads, seconds.
    pub(super) cpu_seconds: Option<f64>,
    /// Memory that is in RAM, bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Open descriptors.
    pub(super) open_files: Option<u64>,
}

impl Process {
    /// Reads `/proc/self`.
    pub(super) fn read() -> Process {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Process {
            cpu_seconds: fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds),
            resident_bytes: resident_bytes(&status),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
        }
    }
}

/// Fields 14 and 15 of proc_pid_stat(5), in ticks; the second field is a name in parentheses, and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Some(seconds)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This process has CPU time, memory and descriptors, and a name with a parenthesis hides nothing.
    #[test]
    fn this_process_is_read() {
        let process = Process::read();
        assert!(process.cpu_seconds.is_some_and(|seconds| seconds >= 0.0));
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1_000_000));
        assert!(process.open_files.is_some_and(|files| files >= 3));
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!("1 (a) b) S 0 0 0 0 0 0 0 0 0 0 {} {ticks} 0", 2 * ticks);
        assert_eq!(cpu_seconds(&stat), Some(3.0));
    }
}
