//! System calls that neither the standard library nor socket2 wraps, each behind a safe signature. It
//! keeps no state and decides nothing; every other file of the shell is free of `unsafe`.

#![expect(unsafe_code, reason = "system calls without a safe wrapper: affinity, limits, eventfd, recv flags")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use monoio::net::udp::UdpSocket;

/// Receives what is there, without waiting: `WouldBlock` if nothing is, 0 at the end of the stream.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the pointer and length are those of a live, exclusively borrowed buffer, and the
        // descriptor stays open while it is borrowed.
        let received = unsafe {
            libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        };
        match usize::try_from(received) {
            Ok(bytes) => return Ok(bytes),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// The descriptor inside a runtime's socket, which has no `AsFd` of its own.
pub(crate) fn borrow(socket: &UdpSocket) -> BorrowedFd<'_> {
    // SAFETY: the socket owns its descriptor and is borrowed for as long as the result lives.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

/// A counter in the kernel that is readable while it is not zero: how a sleeping core is woken.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    /// A new one, at `initial`.
    pub(crate) fn new(initial: u32) -> io::Result<EventFd> {
        // SAFETY: no pointers are passed.
        let descriptor = unsafe { libc::eventfd(initial, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above has just returned it, so nobody else owns it.
        Ok(EventFd(unsafe { File::from_raw_fd(descriptor) }))
    }

    /// Makes it readable.
    pub(crate) fn signal(&self) {
        // Full is the only failure, and a full counter is readable, too.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes it unreadable until it is signalled again.
    pub(crate) fn drain(&self) {
        // The only failure is that nobody has signalled it.
        let _ = (&self.0).read(&mut [0; size_of::<u64>()]);
    }

    /// Another descriptor of the same counter.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }
}

/// The CPUs this thread may run on, ascending.
pub(crate) fn affinity() -> io::Result<Vec<usize>> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the pointer and size are those of `set`; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all-zero is a valid set, and the call has filled it since.
    let set = unsafe { set.assume_init() };
    let cpus = 0..usize::try_from(libc::CPU_SETSIZE).unwrap_or_default();
    // SAFETY: the index is below CPU_SETSIZE.
    Ok(cpus.filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Binds the calling thread to one CPU.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= usize::try_from(libc::CPU_SETSIZE).unwrap_or_default() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: all-zero is a valid, empty set.
    let set = unsafe { set.assume_init_mut() };
    // SAFETY: the index is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, set) };
    // SAFETY: the pointer and size are those of `set`; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the soft limit of open descriptors to the hard one, and returns it.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is that of a live, exclusively borrowed struct.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer is that of a live struct.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Random bits from the kernel.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0_u8; size_of::<u64>()];
    // SAFETY: the pointer and length are those of `bytes`.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Up to 256 bytes are delivered whole or not at all.
    if filled < 0 { Err(io::Error::last_os_error()) } else { Ok(u64::from_ne_bytes(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thread's own mask names at least one CPU, and it can be pinned to each of them.
    #[test]
    fn pins_to_each_cpu_of_the_mask() {
        let mask = affinity().unwrap();
        assert!(!mask.is_empty());
        for &cpu in &mask {
            pin(cpu).unwrap();
            assert_eq!(affinity().unwrap(), [cpu]);
        }
        assert!(pin(usize::MAX).is_err());
    }

    /// A signalled eventfd is drained once, however often it was signalled.
    #[test]
    fn eventfd_counts_and_drains() {
        let event = EventFd::new(0).unwrap();
        event.signal();
        event.signal();
        event.drain();
        event.drain();
        let mut buffer = [0; 8];
        let error = (&event.0).read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    /// Two draws differ.
    #[test]
    fn random_differs() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
