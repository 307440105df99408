//! Why a data directory is not served, or not any more, in words that say what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use broker_core::storage::OpenError;
use range::directory::DirectoryError;
use wal::{FlushError, LogId, RecoveryError};

/// Why a data directory is not served.
#[derive(Debug)]
pub(crate) struct StorageError {
    pub(super) data: PathBuf,
    pub(super) reason: Box<Reason>,
}

/// See [`StorageError`].
#[derive(Debug)]
pub(crate) enum Reason {
    /// The directory as a whole.
    Directory(DirectoryError),
    /// The kernel refuses something.
    System(io::Error),
    /// A log's directory is gone.
    LogMissing(LogId),
    /// A log's files cannot be used.
    Files(LogId, io::Error),
    /// What is in them is not a log, or not all of one.
    Log(LogId, RecoveryError),
    /// What is in the log is not what its ranges need.
    Ranges(LogId, OpenError),
}

impl std::error::Error for StorageError {}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.data.display();
        match &*self.reason {
            Reason::Directory(error) => return error.fmt(f),
            Reason::System(error) => return error.fmt(f),
            Reason::LogMissing(log) => {
                write!(f, "the data directory {data} is damaged: its directory log-{:04} is missing", log.0)?;
            }
            Reason::Files(log, error) => return write!(f, "log {} in {data} cannot be used: {error}", log.0),
            Reason::Log(log, error) => {
                write!(f, "log {} in {data} {}", log.0, recovery_error(error))?;
                if !matches!(error, RecoveryError::Damaged(_)) {
                    return Ok(());
                }
            }
            Reason::Ranges(log, error) => match error.other_version() {
                Some((found, known)) => {
                    let log = log.0;
                    return write!(
                        f,
                        "log {log} in {data} has another format than this version knows: {error}: version {found}, \
                         and not {known}"
                    );
                }
                None => write!(f, "log {} in {data} is damaged: {error}", log.0)?,
            },
        }
        write!(
            f,
            "\nwhat was acknowledged is gone, so nothing is served: `hermod wal verify {data}` says what is \
             missing; put back a copy of the directory, or make one and start with --quarantine, which \
             gives up the ranges concerned and serves the others"
        )
    }
}

/// What kept a log from being recovered.
pub(super) fn recovery_error(error: &RecoveryError) -> String {
    match error {
        RecoveryError::Foreign { segment, found } => format!(
            "holds a segment of another log: segment {segment} is of log {} of node {:016x}, cluster {:032x}",
            found.log.0, found.node.0, found.cluster.0
        ),
        RecoveryError::Version { segment, version } => {
            let known = wal::format::segment_header::VERSION;
            format!(
                "has another format than this version knows: segment {segment} has version {version}, and not {known}"
            )
        }
        RecoveryError::Damaged(places) => {
            let lines: Vec<_> = places.iter().map(|damage| format!("\n  {damage}")).collect();
            format!("is damaged:{}", lines.concat())
        }
    }
}

/// What kept a commit from the disk.
pub(super) fn flush_error(error: FlushError) -> String {
    match error {
        FlushError::Write(errno) => format!("write: {}", io::Error::from_raw_os_error(errno)),
        FlushError::Short { written, asked } => format!("only {written} of {asked} bytes were written"),
        FlushError::Sync(errno) => format!("fdatasync: {}", io::Error::from_raw_os_error(errno)),
    }
}
