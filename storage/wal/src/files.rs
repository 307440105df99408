//! The files of a log, as plain blocking functions: for a thread off the cores. Whatever a crash leaves of
//! these steps is either a whole segment file under its name or a `.new` file that the next start removes.
//!
//! ```text
//! <data>/format                  "hermod data format 1"
//! <data>/lock                    held by the process that serves the directory
//! <data>/log-0007/00000012.seg   a segment, by its name in hexadecimal
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};

use crate::identity::{LogId, SegmentId};
use crate::image::Image;
use crate::mapping::{MappedSegment, SegmentBytes};
use crate::recovery::Unproven;
use crate::request::FlushError;

/// First line of the file `format`, with the version behind it.
const FORMAT: &str = "hermod data format ";
/// The layout of the data directory this crate writes and reads.
pub const FORMAT_VERSION: u32 = 1;
const ZEROS_BYTES: usize = 1 << 20;
const SETTLE_BYTES: usize = 1 << 20;

/// Keeps other processes out of a data directory while it exists.
#[derive(Debug)]
pub struct DirectoryLock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

/// Why a data directory cannot be served.
#[derive(Debug)]
pub enum OpenError {
    /// Another process serves it.
    InUse,
    /// It was written by a version whose layout this one does not know.
    Format(String),
    /// The file system says no.
    Io(io::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        OpenError::Io(error)
    }
}

/// Creates the directory if it is not there, locks it, and checks (in a new one, writes) its format version.
pub fn open_directory(data: &Path) -> Result<DirectoryLock, OpenError> {
    fs::create_dir_all(data)?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(data.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse),
        Err(TryLockError::Error(error)) => return Err(OpenError::Io(error)),
    }
    let format = data.join("format");
    match fs::read_to_string(&format) {
        Ok(text) if is_known_format(&text) => {}
        Ok(text) => return Err(OpenError::Format(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut file = File::create(data.join("format.new"))?;
            writeln!(file, "{FORMAT}{FORMAT_VERSION}")?;
            file.sync_all()?;
            fs::rename(data.join("format.new"), &format)?;
            sync_directory(data)?;
        }
        Err(error) => return Err(OpenError::Io(error)),
    }
    Ok(DirectoryLock(lock))
}

/// Whether the text of a file `format` names the layout that this crate writes and reads.
#[must_use]
pub fn is_known_format(text: &str) -> bool {
    text.trim_end().strip_prefix(FORMAT) == Some(&FORMAT_VERSION.to_string())
}

/// In words, behind the name of a directory: what its file `format` says, and what it should.
#[must_use]
pub fn other_format(text: &str) -> String {
    let known = format!("{FORMAT}{FORMAT_VERSION}");
    format!("has another format than this version knows: {:?}, and not {known:?}", text.trim_end())
}

/// Where the segments of a log are; created if need be.
pub fn log_directory(data: &Path, log: LogId) -> io::Result<PathBuf> {
    let directory = data.join(format!("log-{:04}", log.0));
    if !directory.is_dir() {
        fs::create_dir(&directory)?;
        sync_directory(data)?;
    }
    Ok(directory)
}

/// The logs of a data directory, ascending.
pub fn list_logs(data: &Path) -> io::Result<Vec<LogId>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(data)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("log-"));
        logs.extend(number.and_then(|number| number.parse().ok()).map(LogId));
    }
    logs.sort_unstable();
    Ok(logs)
}

/// The path of a segment.
#[must_use]
pub fn segment_path(directory: &Path, segment: SegmentId) -> PathBuf {
    directory.join(format!("{segment}.seg"))
}

/// The segments of a log, ascending by name. Removes what an interrupted creation left.
pub fn list_segments(directory: &Path) -> io::Result<Vec<SegmentId>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "new") {
            fs::remove_file(path)?;
        }
    }
    find_segments(directory)
}

/// The segments of a log, ascending by name. Changes nothing.
pub fn find_segments(directory: &Path) -> io::Result<Vec<SegmentId>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        segments.extend(stem.and_then(|stem| u32::from_str_radix(stem, 16).ok()).map(SegmentId));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Answers [`Request::AllocateSegment`](crate::Request::AllocateSegment): a file of so many bytes under that
/// name, whose every block is allocated and written, or the file to recycle under the new name. A file to
/// recycle that has another size, or another name beside its own (see [`link_segments`]), is replaced.
pub fn allocate_segment(
    directory: &Path,
    segment: SegmentId,
    bytes: u64,
    recycle: Option<SegmentId>,
) -> io::Result<()> {
    let path = segment_path(directory, segment);
    if let Some(former) = recycle {
        let former = segment_path(directory, former);
        let is_ours = |metadata: fs::Metadata| metadata.len() == bytes && metadata.nlink() == 1;
        if fs::metadata(&former).is_ok_and(is_ours) {
            fs::rename(former, path)?;
            return sync_directory(directory);
        }
        // It may be gone: an attempt before may have renamed it and then failed.
        if let Err(error) = fs::remove_file(former)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    let unfinished = directory.join(format!("{segment}.new"));
    let result = write_zeros(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, &path));
    if result.is_err() {
        // What was taken of a full disk is given back; the error that counts is the first.
        let _ = fs::remove_file(&unfinished);
    }
    result?;
    sync_directory(directory)
}

/// Space first, so that a full disk is found before anything is written; then zeros, because a block that
/// is allocated but unwritten costs a journal transaction at its first commit (2 to 8 times the time).
fn write_zeros(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = vec![0; ZEROS_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let piece = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(ZEROS_BYTES);
        file.write_all_at(&zeros[..piece], offset)?;
        offset += piece as u64;
    }
    file.sync_all()
}

/// Gives all segments of a log a second name in another directory of the same file system. As long as it lasts, what is
/// durable in them stays there: a file with two names is not recycled, and removing one name leaves the other.
pub fn link_segments(directory: &Path, into: &Path) -> io::Result<()> {
    find_segments(directory)?
        .into_iter()
        .try_for_each(|segment| fs::hard_link(segment_path(directory, segment), segment_path(into, segment)))
}

/// Answers [`Request::RemoveSegment`](crate::Request::RemoveSegment). No sync: if the removal is lost, the
/// next start finds a file nobody needs.
pub fn remove_segment(directory: &Path, segment: SegmentId) -> io::Result<()> {
    fs::remove_file(segment_path(directory, segment))
}

/// Opens a segment for commits, past the page cache where the file system allows; says whether it did.
pub fn open_segment(directory: &Path, segment: SegmentId, direct: bool) -> io::Result<(File, bool)> {
    let path = segment_path(directory, segment);
    if direct {
        match OpenOptions::new().write(true).custom_flags(direct_flag()).open(&path) {
            Ok(file) => return Ok((file, true)),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((OpenOptions::new().write(true).open(&path)?, false))
}

fn direct_flag() -> i32 {
    i32::try_from(OFlags::DIRECT.bits()).expect("a flag of open(2)")
}

/// Opens a segment for commits by stores ([`MappedSegment`]), and for the syncs after them.
pub fn open_mapped(directory: &Path, segment: SegmentId) -> io::Result<(File, MappedSegment)> {
    let file = OpenOptions::new().read(true).write(true).open(segment_path(directory, segment))?;
    let mapped = MappedSegment::map(&file)?;
    Ok((file, mapped))
}

/// One write of a commit, for hosts without a ring: pwrite, then fdatasync. Neither is ever tried again.
pub fn write_and_sync(file: &File, offset: u64, bytes: &[u8]) -> Result<(), FlushError> {
    let errno = |error: io::Error| error.raw_os_error().unwrap_or(0);
    let written = file.write_at(bytes, offset).map_err(|error| FlushError::Write(errno(error)))?;
    if written < bytes.len() {
        let count = |bytes: usize| u32::try_from(bytes).expect("writes are below 4 GiB");
        return Err(FlushError::Short { written: count(written), asked: count(bytes.len()) });
    }
    file.sync_data().map_err(|error| FlushError::Sync(errno(error)))
}

/// Answers [`Request::MapSegment`](crate::Request::MapSegment), and opens segments for recovery.
pub fn map_segment(directory: &Path, segment: SegmentId) -> io::Result<Arc<SegmentBytes>> {
    SegmentBytes::map(&File::open(segment_path(directory, segment))?).map(Arc::new)
}

/// Makes what recovery read durable, before anything is done with it: after `kill -9` the newest records may
/// be in the page cache alone, and after a failed fsync the kernel calls pages clean that are not on the
/// disk. What the disk itself says (read past the page cache) is left alone, so that acknowledged blocks are
/// never written again; the rest, and everything where the file system cannot say, is.
pub fn settle(directory: &Path, unproven: &[Unproven]) -> io::Result<()> {
    let (mut seen, mut stored) = (Image::new(SETTLE_BYTES), Image::new(SETTLE_BYTES));
    for range in unproven {
        let path = segment_path(directory, range.segment);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let direct = OpenOptions::new().read(true).custom_flags(direct_flag()).open(&path).ok();
        let end = range.offset + range.bytes;
        let mut offset = range.offset;
        while offset < end {
            let piece = usize::try_from(end - offset).unwrap_or(usize::MAX).min(SETTLE_BYTES);
            let (seen, stored) = (&mut seen.bytes_mut()[..piece], &mut stored.bytes_mut()[..piece]);
            file.read_exact_at(seen, offset)?;
            let read = direct.as_ref().is_some_and(|file| file.read_exact_at(stored, offset).is_ok());
            if !read || seen != stored {
                file.write_all_at(seen, offset)?;
            }
            offset += piece as u64;
        }
        file.sync_data()?;
    }
    sync_directory(directory)
}

/// Bytes a file system has left for this process: what the watermark is compared with.
pub fn space_available(directory: &Path) -> io::Result<u64> {
    let space = statvfs(directory)?;
    Ok(space.f_bavail * space.f_frsize)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
