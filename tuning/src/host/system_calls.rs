//! The two facts that no file shows: whether the kernel sets up a ring, and how much room a file system
//! has.
#![expect(unsafe_code, reason = "io_uring_setup and statvfs are not in the standard library")]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::RingProbe;

/// `IORING_SETUP_SINGLE_ISSUER` and `IORING_SETUP_DEFER_TASKRUN`, Linux 6.1: the ring belongs to one thread,
/// and completions wait until that thread asks for them.
const DEFERRED: u32 = 1 << 12 | 1 << 13;

/// `struct io_uring_params` in 32-bit words: ten of its own, of which `flags` is the third, and ten each
/// for the offsets of the two queues.
const PARAMS_WORDS: usize = 30;
const PARAMS_FLAGS: usize = 2;
const _: () = assert!(PARAMS_WORDS * 4 == 120);

/// Sets up a ring as the broker does, only small, and takes it down again.
pub(super) fn probe_ring() -> RingProbe {
    if set_up_ring(DEFERRED).is_ok() {
        return RingProbe::Deferred;
    }
    match set_up_ring(0) {
        Ok(()) => RingProbe::Plain,
        Err(error) => RingProbe::Refused(error.raw_os_error().unwrap_or(0)),
    }
}

fn set_up_ring(flags: u32) -> io::Result<()> {
    const ENTRIES: libc::c_long = 8;
    let mut params = [0u32; PARAMS_WORDS];
    params[PARAMS_FLAGS] = flags;
    // SAFETY: the kernel reads and writes 120 bytes at the pointer, which is what `params` has (asserted
    // above); the array outlives the call.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, params.as_mut_ptr()) };
    let ring = RawFd::try_from(ring).ok().filter(|&ring| ring >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just opened this descriptor for us and nobody else knows its number.
    drop(unsafe { OwnedFd::from_raw_fd(ring) });
    Ok(())
}

/// Bytes that a process which is not root can still write to the file system of `path`.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut room = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a terminated string and `room` has the size of the structure; both outlive the
    // call.
    let status = unsafe { libc::statvfs(path.as_ptr(), room.as_mut_ptr()) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statvfs answered 0, so it has filled the structure.
    let room = unsafe { room.assume_init() };
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}
