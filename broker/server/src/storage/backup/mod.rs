//! Backups: a directory that holds each log of a node as it was at one LSN, its checkpoints, and a list of all files
//! with their checksums, written last. `take` copies a stopped node's data directory, or the snapshot of a running one;
//! `restore` makes a data directory of a backup. Both write aside, sync, and give names at the end. They run in
//! processes of their own.

mod manifest;
mod restore;
mod take;

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use wal::format::HeaderError;
use wal::{LogId, Lsn, RecoveryError, SegmentId, SegmentInput};
use xxhash_rust::xxh3::Xxh3;

use self::manifest::ManifestError;
pub(crate) use self::restore::Restore;
pub(crate) use self::take::{of_running, of_stopped};
use super::damage::recovery_error;
use super::inspect::{self, InspectError};

/// Bytes that are read and written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes that may wait for the disk: a node's commits wait behind them.
const UNSYNCED_BYTES_MAX: u64 = 16 << 20;

/// How much a backup steps back behind the cores, by nice(2).
const NICE: i32 = 10;

/// What was copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copied {
    pub(crate) logs: usize,
    pub(crate) files: usize,
    /// That they take in the backup.
    pub(crate) bytes: u64,
}

/// Why there is no backup, or nothing is restored of one.
#[derive(Debug)]
pub(crate) enum BackupError {
    /// The file system says no, about this file.
    Io(PathBuf, io::Error),
    /// Something is there where a backup is to be.
    Exists(PathBuf),
    /// The data directory to back up is none, or is in use.
    Source(InspectError),
    /// A file of a log has another format.
    Format(LogId, SegmentId, u32),
    /// What is in a log's files is no log.
    Log(LogId, RecoveryError),
    /// A log has lost records: the first lines of what is missing.
    Damaged(LogId, String),
    /// A checkpoint that a log names is missing or damaged: what was found of each.
    Checkpoint(LogId, String),
    /// A log ends before what its node called durable.
    Short {
        /// Which.
        log: LogId,
        /// Its end.
        found: Lsn,
        /// What there should be.
        expected: Lsn,
    },
    /// The snapshot is gone from under the copy.
    GivenUp,
    /// There is no list of files that could be trusted.
    Manifest(PathBuf, ManifestError),
    /// A file of the backup is not as it was written.
    Changed(PathBuf),
    /// A data directory is not empty.
    NotEmpty(PathBuf),
    /// A data directory is in use.
    InUse(PathBuf),
    /// What is backed up has another format.
    OtherFormat(String),
}

impl Error for BackupError {}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            BackupError::Exists(path) if path.extension().is_some_and(|it| it == "partial") => {
                write!(f, "{} is of a backup that was not finished: take it away first", path.display())
            }
            BackupError::Exists(path) => {
                write!(f, "{} is there already: a backup gets a directory of its own", path.display())
            }
            BackupError::Source(InspectError::Directory(path, wal::files::OpenError::InUse)) => write!(
                f,
                "{} is in use by a running node: leave --data out, and the node is asked (--admin)",
                path.display()
            ),
            BackupError::Source(error) => error.fmt(f),
            BackupError::Format(log, segment, version) => {
                let error = RecoveryError::Version { segment: *segment, version: *version };
                write!(f, "log {} {}", log.0, recovery_error(&error))
            }
            BackupError::Log(log, error) => write!(f, "log {} {}", log.0, recovery_error(error)),
            BackupError::Damaged(log, lines) => write!(f, "log {} is damaged:{lines}", log.0),
            BackupError::Checkpoint(log, lines) => {
                write!(f, "log {} has not all of its checkpoints:\n{}", log.0, lines.trim_end())
            }
            BackupError::Short { log, found, expected } => {
                write!(f, "log {} ends at LSN {found}, and {expected} was durable", log.0)
            }
            BackupError::GivenUp => f.write_str(
                "the node has given up its snapshot: its disk is full, or it has started anew; its log says which",
            ),
            BackupError::Manifest(path, error) => write!(f, "{} {error}", path.display()),
            BackupError::Changed(path) => write!(
                f,
                "{} is missing, cut, or not what was backed up: this backup cannot be restored",
                path.display()
            ),
            BackupError::NotEmpty(path) => {
                write!(f, "{} is not empty: a backup is restored into a directory of its own", path.display())
            }
            BackupError::InUse(path) => write!(f, "{} is in use by another process", path.display()),
            BackupError::OtherFormat(message) => f.write_str(message),
        }
    }
}

/// An error about a file.
fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |error| BackupError::Io(path, error)
}

/// Copies all that `from` has into a new file, which is synced; what there was, and its checksum.
fn copy(from: &mut dyn Read, to: &Path) -> Result<(File, u64, u128), BackupError> {
    let mut file = File::create_new(to).map_err(at(to))?;
    let (mut piece, mut hash, mut bytes, mut unsynced) = (vec![0; PIECE_BYTES], Xxh3::new(), 0, 0);
    loop {
        let read = from.read(&mut piece).map_err(at(to))?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        write(&mut file, &piece[..read], &mut unsynced).map_err(at(to))?;
        bytes += read as u64;
    }
    Ok((file, bytes, hash.digest128()))
}

/// Writes, and waits for the disk from time to time.
fn write(file: &mut File, bytes: &[u8], unsynced: &mut u64) -> io::Result<()> {
    file.write_all(bytes)?;
    *unsynced += bytes.len() as u64;
    if *unsynced >= UNSYNCED_BYTES_MAX {
        *unsynced = 0;
        file.sync_data()?;
    }
    Ok(())
}

/// Whether the checkpoints that a log names are whole, in a copy that has them.
fn check_checkpoints(copy: &Path, log: LogId, inputs: &[SegmentInput<'_>]) -> Result<(), BackupError> {
    let mut lines = String::new();
    match inspect::verify_checkpoints(copy, log, inputs, &mut lines) {
        Ok(true) => Ok(()),
        Ok(false) => Err(BackupError::Checkpoint(log, lines)),
        Err(error) => Err(BackupError::Source(error)),
    }
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(at(path))
}

impl From<(LogId, SegmentId, HeaderError)> for BackupError {
    fn from((log, segment, error): (LogId, SegmentId, HeaderError)) -> BackupError {
        match error {
            HeaderError::Version(version) => BackupError::Format(log, segment, version),
            HeaderError::Blank => unreachable!("a spare is no error"),
        }
    }
}
