//! epoll, where io_uring is not to be had. Edge-triggered and for everything from the beginning, so that a
//! descriptor costs one call to watch, and none to begin waiting again.
//!
//! Hot path.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::{Readiness, Report, Source, Token, What};

/// Reports taken in one call; those beyond come with the next.
const REPORTS_MAX: usize = 1024;

/// The epoll of one core. Lives on its thread.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Epoll {
    pub(super) fn new() -> io::Result<Epoll> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Epoll { epoll, events: Vec::with_capacity(REPORTS_MAX) })
    }

    pub(super) fn watch(&self, source: Source, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        use epoll::EventFlags as Flags;
        let mut flags = Flags::ET | Flags::IN | Flags::RDHUP;
        flags.set(Flags::OUT, matches!(source, Source::Connection(_)));
        let token = epoll::EventData::new_u64(Token::of(source).0);
        Ok(epoll::add(&self.epoll, descriptor, token, flags)?)
    }

    pub(super) fn forget(&self, descriptor: BorrowedFd<'_>) {
        // It was watched, and is still open; and what could fail would end with the descriptor.
        let _ = epoll::delete(&self.epoll, descriptor);
    }

    pub(super) fn poll(&mut self, timeout: Duration, reports: &mut Vec<Report>) {
        self.events.clear();
        let timeout = Timespec::try_from(timeout).ok();
        // Interrupted is the only failure: as if nothing had happened.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref());
        reports.extend(self.events.iter().filter_map(read));
    }
}

fn read(event: &epoll::Event) -> Option<Report> {
    use epoll::EventFlags as Flags;
    let (flags, token) = (event.flags, Token(event.data.u64()));
    let hung_up = flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR);
    let readable = hung_up || flags.contains(Flags::IN);
    let readiness = Readiness { readable, hung_up, writable: flags.intersects(Flags::OUT) };
    Some(Report { source: token.source()?, what: What::Ready(readiness) })
}
