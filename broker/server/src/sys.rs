//! System calls that neither the standard library nor socket2 wraps, with the shell's defaults. It keeps no
//! state and decides nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, recv};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Receives what is there, without waiting: `WouldBlock` if nothing is, 0 at the end of the stream.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (bytes, _) = retry_on_intr(|| recv(socket, &mut *buffer, RecvFlags::DONTWAIT))?;
    Ok(bytes)
}

/// A counter in the kernel that reports each time it is raised: how a sleeping core is woken.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    /// A new one.
    pub(crate) fn new() -> io::Result<EventFd> {
        Ok(EventFd(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Raises it. Nobody lowers it: it is full after 2^64 of these.
    pub(crate) fn signal(&self) {
        // Full is the only failure.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The CPUs this thread may run on, ascending.
pub(crate) fn affinity() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Binds the calling thread to one CPU.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Lets the calling thread run on these CPUs.
pub(crate) fn allow(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU).for_each(|&cpu| set.set(cpu));
    Ok(sched_setaffinity(None, &set)?)
}

/// Raises the soft limit of open descriptors to the hard one, and returns it.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    // The kernel knows no infinity here, but the type does.
    Ok(limit.current.unwrap_or(u64::MAX))
}

/// Lowers the calling thread's right to the CPU, by as many steps of nice(2).
pub(crate) fn step_back(steps: i32) -> io::Result<()> {
    rustix::process::nice(steps)?;
    Ok(())
}

/// Random bits from the kernel.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0_u8; size_of::<u64>()];
    // Up to 256 bytes are delivered whole or not at all.
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thread's own mask names at least one CPU; it can be pinned to each of them, and be let go again.
    #[test]
    fn pins_to_each_cpu_of_the_mask() {
        let mask = affinity().unwrap();
        assert!(!mask.is_empty());
        for &cpu in &mask {
            pin(cpu).unwrap();
            assert_eq!(affinity().unwrap(), [cpu]);
        }
        allow(&mask).unwrap();
        assert_eq!(affinity().unwrap(), mask);
        assert!(pin(usize::MAX).is_err());
    }

    /// Two draws differ.
    #[test]
    fn random_differs() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
