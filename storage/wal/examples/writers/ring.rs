//! Commits through an io_uring: each write linked to an fdatasync of its file.

#![expect(unsafe_code, reason = "the kernel is handed pointers")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::squeue::Flags;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode};
use wal::{CommitNumber, FlushError};

use super::Answer;

/// Two commits of two writes each, twice over.
const ENTRIES: u32 = 16;

pub struct Ring {
    ring: IoUring,
    in_flight: Vec<InFlight>,
    next: u64,
}

/// One write with its sync. `user_data` of the write is `id`, that of the sync `id + 1`.
struct InFlight {
    id: u64,
    number: CommitNumber,
    asked: u32,
    written: Option<i32>,
    synced: Option<i32>,
}

impl Ring {
    pub fn new() -> io::Result<Ring> {
        // COOP_TASKRUN: no interrupt of the core to say that something is done; it looks every turn.
        let ring = IoUring::builder().setup_coop_taskrun().build(ENTRIES);
        let ring = ring.or_else(|_| IoUring::new(ENTRIES))?;
        Ok(Ring { ring, in_flight: Vec::new(), next: 0 })
    }

    pub fn write_and_sync(
        &mut self,
        number: CommitNumber,
        file: &File,
        offset: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        let asked = u32::try_from(bytes.len()).expect("writes are below 4 GiB");
        let fd = Fd(file.as_raw_fd());
        let id = self.next;
        self.next += 2;
        let write = opcode::Write::new(fd, bytes.as_ptr(), asked).offset(offset).build();
        let write = write.flags(Flags::IO_LINK).user_data(id);
        let sync = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build().user_data(id + 1);
        // A link must not be cut by a full queue: both fit or neither is pushed.
        let queue = self.ring.submission();
        let room = queue.capacity() - queue.len();
        drop(queue);
        if room < 2 {
            self.ring.submit()?;
        }
        // SAFETY: the log keeps the bytes in place and unchanged until the commit is answered, and the
        // writer keeps the file open for as long.
        unsafe { self.ring.submission().push_multiple(&[write, sync]) }.map_err(io::Error::other)?;
        self.in_flight.push(InFlight { id, number, asked, written: None, synced: None });
        Ok(())
    }

    pub fn submit(&mut self) -> io::Result<()> {
        self.ring.submit().map(drop)
    }

    pub fn reap(&mut self, wait: bool, out: &mut Vec<Answer>) -> io::Result<()> {
        let answered = out.len();
        loop {
            for entry in self.ring.completion() {
                let id = entry.user_data();
                let one = self.in_flight.iter_mut().find(|one| one.id == id & !1);
                let one = one.expect("only what was submitted completes");
                if id == one.id {
                    one.written = Some(entry.result());
                } else {
                    one.synced = Some(entry.result());
                }
            }
            self.answer(out);
            if !wait || out.len() > answered || self.in_flight.is_empty() {
                return Ok(());
            }
            self.ring.submit_and_wait(1)?;
        }
    }

    /// A commit is answered when all its writes and syncs have completed, with the first error.
    fn answer(&mut self, out: &mut Vec<Answer>) {
        let mut at = 0;
        while let Some(one) = self.in_flight.get(at) {
            let number = one.number;
            let mine = || self.in_flight.iter().filter(|one| one.number == number);
            if mine().any(|one| one.written.is_none() || one.synced.is_none()) {
                at += 1;
                continue;
            }
            out.push((number, mine().try_for_each(InFlight::result)));
            self.in_flight.retain(|one| one.number != number);
            at = 0;
        }
    }
}

impl Drop for Ring {
    /// The kernel reads the log's memory until the last completion.
    fn drop(&mut self) {
        let mut answers = Vec::new();
        while !self.in_flight.is_empty() && self.reap(true, &mut answers).is_ok() {}
    }
}

impl InFlight {
    fn result(&self) -> Result<(), FlushError> {
        let (written, synced) = (self.written.expect("complete"), self.synced.expect("complete"));
        match u32::try_from(written) {
            Err(_) => Err(FlushError::Write(-written)),
            Ok(written) if written < self.asked => Err(FlushError::Short { written, asked: self.asked }),
            Ok(_) if synced < 0 => Err(FlushError::Sync(-synced)),
            Ok(_) => Ok(()),
        }
    }
}
