//! The kernel's table of the process's descriptors, grown before it has to be.
//!
//! Linux doubles the table when a descriptor finds no place in it, and in a process of several threads it waits then
//! until every CPU has passed through the scheduler: 10 to 30 ms, in which whoever wants a descriptor waits, too. Two
//! cores that accepted a crowd of 10 000 stood still for it eight times. So the table is large from the start, and
//! grows further by the node's thread when it is half full.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use rustix::io::fcntl_dupfd_cloexec;

use crate::sys::EventFd;

/// Places in the table from the start, of 8 bytes each.
const FIRST: RawFd = 65_536;

/// Makes room for descriptors up to the limit, if that is not too many to begin with.
pub(crate) fn reserve_first(open_files: u64) -> io::Result<()> {
    reserve(FIRST, open_files)
}

/// A core has one of this number: makes room for four times as many.
pub(crate) fn reserve_more(descriptor: RawFd, open_files: u64) -> io::Result<()> {
    reserve(descriptor.saturating_mul(4), open_files)
}

/// Makes room for so many descriptors, if there may be as many. The table never shrinks.
fn reserve(count: RawFd, open_files: u64) -> io::Result<()> {
    let count = count.min(RawFd::try_from(open_files).unwrap_or(RawFd::MAX));
    // The highest of them, for a moment.
    fcntl_dupfd_cloexec(EventFd::new()?.as_fd(), count.saturating_sub(1))?;
    Ok(())
}

/// Notices, on one core, that the table fills.
#[derive(Debug)]
pub(crate) struct Filling {
    /// Number from which on more room has to be made.
    next: RawFd,
}

impl Default for Filling {
    fn default() -> Filling {
        Filling { next: FIRST / 2 }
    }
}

impl Filling {
    /// A socket was accepted. Some: room is to be made, by its number.
    pub(crate) fn on_accepted(&mut self, socket: &impl AsRawFd) -> Option<RawFd> {
        let descriptor = socket.as_raw_fd();
        (descriptor >= self.next).then(|| {
            self.next = descriptor.saturating_mul(2);
            descriptor
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> RawFd {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        line.trim().parse().unwrap()
    }

    /// The table is as large as it is asked to be, as far as the limit allows.
    #[test]
    fn the_table_grows() {
        reserve(600, 800).unwrap();
        assert!(table() >= 600);
        reserve(RawFd::MAX, 900).unwrap();
        assert!(table() >= 900);
    }

    /// Room is asked for when half of it is used, and then when half of what that gave is.
    #[test]
    fn room_is_made_ahead() {
        let mut filling = Filling::default();
        let told: Vec<_> =
            (0..200_000).step_by(100).filter_map(|number| filling.on_accepted(&number)).collect();
        assert_eq!(told, [32_800, 65_600, 131_200]);
        let mut room = FIRST;
        for number in told {
            assert!(number < room, "in time");
            room = number * 4;
        }
    }
}
