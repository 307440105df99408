//! Readiness of many sockets.
#![expect(unsafe_code, reason = "thin wrappers over epoll, one call each")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Sockets looked at in one turn.
const EVENTS_MAX: usize = 1024;

/// An epoll instance; level-triggered.
#[derive(Debug)]
pub(super) struct Epoll {
    descriptor: OwnedFd,
}

/// What a socket is ready for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    /// The number it was added with.
    pub(super) token: u64,
    /// Bytes, an end or an error wait.
    pub(super) readable: bool,
    /// There is room to send.
    pub(super) writable: bool,
}

impl Epoll {
    /// Watches nothing yet.
    pub(super) fn new() -> io::Result<Epoll> {
        // SAFETY: takes no memory.
        let descriptor = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: epoll_create1 has just returned it, so nothing else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Epoll { descriptor })
    }

    /// Watches a socket for bytes; closing it ends that.
    pub(super) fn add(&self, socket: &impl AsRawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, token, false)
    }

    /// Watches it for bytes, and for room to send as well.
    pub(super) fn watch_room(&self, socket: &impl AsRawFd, token: u64, room: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, token, room)
    }

    fn control(&self, operation: i32, socket: &impl AsRawFd, token: u64, room: bool) -> io::Result<()> {
        let events = libc::EPOLLIN | if room { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        let (epoll, socket) = (self.descriptor.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: `event` is a valid epoll_event that outlives the call.
        let result = unsafe { libc::epoll_ctl(epoll, operation, socket, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits up to `timeout_ms` (negative: for ever) and lists what is ready.
    pub(super) fn wait(&self, ready: &mut Vec<Ready>, timeout_ms: i32) -> io::Result<()> {
        ready.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let epoll = self.descriptor.as_raw_fd();
        // SAFETY: `events` has room for EVENTS_MAX events and outlives the call.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS_MAX as i32, timeout_ms) };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        };
        ready.extend(events[..count].iter().map(|event| {
            let (events, token) = (event.events as i32, event.u64);
            let readable = events & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR) != 0;
            Ready { token, readable, writable: events & libc::EPOLLOUT != 0 }
        }));
        Ok(())
    }
}
