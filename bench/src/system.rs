//! The system calls the standard library does not wrap: open-file limit, CPU affinity, signals.
#![expect(unsafe_code, reason = "thin wrappers over libc, one call each")]

use std::io;
use std::mem::{size_of, zeroed};

/// Raises the soft limit of open files to the hard one, and beyond it where `wanted` needs more and
/// the process may. Returns the limit in force.
pub(crate) fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit that outlives the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    if limit.rlim_max < wanted {
        let more = libc::rlimit { rlim_cur: wanted, rlim_max: wanted };
        // SAFETY: `more` is a valid rlimit that outlives the call.
        if check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const more) }).is_ok() {
            return Ok(wanted);
        }
    }
    Ok(limit.rlim_cur)
}

/// Binds the calling thread, and what it starts from now on, to `cpus`.
pub(crate) fn pin(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    for cpu in cpus.iter().copied().filter(|cpu| *cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: `cpu` is below CPU_SETSIZE, so it lies in the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: `set` is a valid cpu_set_t of the size given; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })
}

/// The CPUs the calling thread may run on.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: `set` is a valid cpu_set_t of the size given; 0 is the calling thread.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    let in_set = |cpu: &usize| {
        // SAFETY: `cpu` is below CPU_SETSIZE, so it lies in the set.
        unsafe { libc::CPU_ISSET(*cpu, &set) }
    };
    Ok((0..libc::CPU_SETSIZE as usize).filter(in_set).collect())
}

/// Asks a process to end (SIGTERM). Only ever called with the id of a child not yet waited for.
pub(crate) fn terminate(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: kill takes no memory; `pid` is a positive process id.
    check(unsafe { libc::kill(pid, libc::SIGTERM) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pinning to one of the allowed CPUs is what the kernel reports afterwards.
    #[test]
    fn pinning_is_seen() {
        let first = allowed_cpus().unwrap()[0];
        pin(&[first]).unwrap();
        assert_eq!(allowed_cpus().unwrap(), [first]);
    }

    /// The soft limit ends at the hard one, or at what was asked for.
    #[test]
    fn open_files_are_raised() {
        let limit = raise_open_files(0).unwrap();
        assert_eq!(raise_open_files(0).unwrap(), limit);
    }
}
