//! What the disk can do: commits of so many messages, each a write linked to an fdatasync in a ring, past the page
//! cache, into a file of zeros, and nothing around it. No broker that waits for the disk can be faster.
#![expect(unsafe_code, reason = "the ring is handed a pointer, and memory is aligned for the disk")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use io_uring::squeue::Flags;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode};
use serde::Serialize;

use crate::clock;
use crate::output;
use crate::ratios::median;

/// Messages of a commit.
const BATCHES: [usize; 6] = [1, 16, 64, 256, 1024, 4096];
/// What a log adds to a payload: a header, a topic, where it goes.
const BESIDE_PAYLOAD: usize = 128;
const FILE_BYTES: usize = 64 << 20;
const BLOCK_BYTES: usize = 4096;
const LENGTH_NS: u64 = 300_000_000;
/// As many commits as a broker has under way.
const IN_FLIGHT: [usize; 2] = [1, 2];

/// One size of commit.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Limit {
    batch: usize,
    in_flight: usize,
    commits_per_s: f64,
    p50_us: f64,
}

/// A file that is gone at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whole blocks at an address the disk takes.
struct Blocks {
    at: *mut u8,
    layout: Layout,
}

impl Blocks {
    fn new(bytes: usize) -> Blocks {
        assert!(bytes > 0, "a commit has a block");
        let layout = Layout::from_size_align(bytes, BLOCK_BYTES).expect("a power of two");
        // SAFETY: the layout's size is above zero.
        let at = unsafe { alloc_zeroed(layout) };
        assert!(!at.is_null(), "{bytes} bytes of memory");
        Blocks { at, layout }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nothing is in flight any more.
        unsafe { dealloc(self.at, self.layout) };
    }
}

/// Measures every size of commit with messages of `payload` bytes, in a file in `directory`.
pub(crate) fn limits(directory: &Path, payload: usize) -> Result<Vec<Limit>, String> {
    let failed = |error: io::Error| format!("--disk {}: {error}", directory.display());
    let scratch = Scratch(directory.join(format!("hermod-bench-disk-{}", std::process::id())));
    fs::write(&scratch.0, vec![0; FILE_BYTES]).map_err(failed)?;
    let direct = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&scratch.0);
    let file = direct.or_else(|_| OpenOptions::new().write(true).open(&scratch.0)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let mut limits = Vec::new();
    for in_flight in IN_FLIGHT {
        for batch in BATCHES {
            let bytes = (batch * (payload + BESIDE_PAYLOAD)).next_multiple_of(BLOCK_BYTES);
            if bytes <= FILE_BYTES / 4 {
                limits.push(measure(&file, batch, bytes, in_flight).map_err(failed)?);
            }
        }
    }
    Ok(limits)
}

fn measure(file: &File, batch: usize, bytes: usize, in_flight: usize) -> io::Result<Limit> {
    let blocks = Blocks::new(bytes);
    let mut ring = IoUring::new(8)?;
    let (mut begun, mut took, mut under_way) = (vec![0; in_flight], Vec::new(), 0);
    let (begin, mut offset) = (clock::now(), 0);
    let mut free: Vec<usize> = (0..in_flight).collect();
    while clock::now() - begin < LENGTH_NS || under_way > 0 {
        while let Some(slot) = free.pop_if(|_| clock::now() - begin < LENGTH_NS) {
            let write = opcode::Write::new(Fd(file.as_raw_fd()), blocks.at, bytes as u32)
                .offset(offset as u64)
                .build()
                .flags(Flags::IO_LINK)
                .user_data(u64::MAX);
            let sync = opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC).build();
            begun[slot] = clock::now();
            // SAFETY: file and blocks outlive the loop, which ends when nothing is under way.
            unsafe { ring.submission().push_multiple(&[write, sync.user_data(slot as u64)]) }
                .map_err(|_| io::ErrorKind::OutOfMemory)?;
            offset = if offset + 2 * bytes > FILE_BYTES { 0 } else { offset + bytes };
            under_way += 1;
        }
        ring.submit_and_wait(1)?;
        let done: Vec<(u64, i32)> =
            ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        for (name, result) in done {
            if result < 0 {
                return Err(io::Error::from_raw_os_error(-result));
            }
            if name != u64::MAX {
                took.push((clock::now() - begun[name as usize]) as f64 / 1e3);
                free.push(name as usize);
                under_way -= 1;
            }
        }
    }
    let commits_per_s = took.len() as f64 / clock::seconds(clock::now() - begin);
    Ok(Limit { batch, in_flight, commits_per_s, p50_us: median(took).unwrap_or(0.0) })
}

/// Shows medians, by size of commit.
pub(crate) fn print(limits: &[Limit]) {
    for in_flight in IN_FLIGHT {
        for batch in BATCHES {
            let of = |limit: &&Limit| limit.batch == batch && limit.in_flight == in_flight;
            let all = || limits.iter().filter(of);
            let Some(rate) = median(all().map(|limit| limit.commits_per_s)) else { continue };
            let half = median(all().map(|limit| limit.p50_us)).unwrap_or(0.0);
            output::line(format_args!(
                "disk: {batch} messages a commit, {in_flight} in flight: {:.0} messages/s, {rate:.0} commits/s, p50 {half:.0} µs",
                rate * batch as f64
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every size is measured, in a file that is gone afterwards.
    #[test]
    fn every_size_is_measured() {
        let directory = std::env::temp_dir().join(format!("hermod-bench-disk-test-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let limits = limits(&directory, 256).unwrap();
        assert_eq!(limits.len(), BATCHES.len() * IN_FLIGHT.len());
        assert!(limits.iter().all(|limit| limit.commits_per_s > 0.0 && limit.p50_us > 0.0));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir(&directory).unwrap();
    }
}
