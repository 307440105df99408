//! `hermod wal`: what is in a stopped node's logs, and whether all of it is; and what a disk can do for a log.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use range::files::{checkpoint_directory, read_checkpoint};
use range::{Recovered, checkpoint};
use wal::files::{self, DirectoryLock, OpenError};
use wal::format::SegmentHeader;
use wal::inspect::{self, DumpError};
use wal::{LogId, RangeId, RecoveryError, RecoveryOptions, SegmentBytes, SegmentId, SegmentInput};

use super::damage::recovery_error;
use super::rate::{self, Wanted};

/// Looking into the logs of a stopped node.
#[derive(Debug, Subcommand)]
pub(crate) enum Inspect {
    /// Read every record of every log and every checkpoint, and say what is missing.
    ///
    /// Exits with 0 if nothing is, with 1 if something is, or if the directory cannot be read.
    Verify {
        /// The data directory.
        dir: PathBuf,
    },

    /// Print a line for each record, in order, and one for each damaged place.
    Dump {
        /// The data directory.
        dir: PathBuf,

        /// One log, by its number. Default: all.
        #[arg(long, value_name = "NUMBER")]
        log: Option<u16>,

        /// Records of one range, by its hexadecimal name. Default: all, the log's own (range 0) included.
        #[arg(long, value_name = "RANGE", value_parser = range_name)]
        range: Option<RangeId>,
    },

    /// Measure the commits a second that a disk takes, by each way of writing, beside its own limit.
    ///
    /// 16 MiB files are written in a folder of its own, and removed.
    Rate {
        /// A directory on the disk.
        dir: PathBuf,

        /// Tenths of a second that each line is measured for, and each round.
        #[arg(long, value_name = "TENTHS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
        tenths: u64,

        /// How often: the best is shown.
        #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
    },
}

fn range_name(text: &str) -> Result<RangeId, std::num::ParseIntError> {
    u128::from_str_radix(text, 16).map(RangeId)
}

/// Why logs cannot be looked into.
#[derive(Debug)]
pub(crate) enum InspectError {
    /// It is none, or is in use, or has another format.
    Directory(PathBuf, OpenError),
    /// There is no such log in it.
    NoLog(LogId),
    /// A log's files cannot be read.
    Files(LogId, io::Error),
    /// What is in them is not one log.
    Log(LogId, RecoveryError),
}

impl Error for InspectError {}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InspectError::Directory(path, error) => {
                let path = path.display();
                match error {
                    OpenError::InUse => write!(f, "{path} is in use by another process: stop the node first"),
                    OpenError::Format(found) => write!(f, "{path} {}", files::other_format(found)),
                    OpenError::Io(error) => write!(f, "{path} is no data directory: {error}"),
                }
            }
            InspectError::NoLog(log) => write!(f, "there is no log {}", log.0),
            InspectError::Files(log, error) => write!(f, "log {} cannot be read: {error}", log.0),
            InspectError::Log(log, error) => write!(f, "log {} {}", log.0, recovery_error(error)),
        }
    }
}

impl Inspect {
    /// Does what is asked for, to standard output.
    pub(crate) fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let mut out = Text(io::stdout().lock());
        match self {
            Inspect::Rate { dir, tenths, rounds } => {
                let length = Duration::from_millis(tenths * 100);
                rate::run(&Wanted { dir, length, rounds: *rounds }, &mut out.0)?;
                Ok(ExitCode::SUCCESS)
            }
            Inspect::Verify { dir } => Ok(verify(dir, &mut out)?),
            Inspect::Dump { dir, log, range } => {
                dump(dir, log.map(LogId), *range, &mut out)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn verify(dir: &Path, out: &mut impl fmt::Write) -> Result<ExitCode, InspectError> {
    let (_lock, logs) = open(dir)?;
    let mut is_whole = true;
    for log in logs {
        let segments = read(dir, log)?;
        is_whole &= verify_checkpoints(dir, log, &inputs(&segments), out)?;
        let report = inspect::verify(&inputs(&segments)).map_err(|error| InspectError::Log(log, error))?;
        // Whoever closes the pipe has read enough.
        let _ = match report {
            None => writeln!(out, "log {}: nothing was ever written\n", log.0),
            Some(report) => {
                is_whole &= report.damage.is_empty();
                writeln!(out, "{report}\n")
            }
        };
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the checkpoints that a log's ranges begin with are there and whole. Of a log that is damaged itself they are
/// not known: then that is said of the log.
pub(super) fn verify_checkpoints(
    dir: &Path,
    log: LogId,
    inputs: &[SegmentInput<'_>],
    out: &mut impl fmt::Write,
) -> Result<bool, InspectError> {
    let headers = inputs.iter().filter_map(|input| SegmentHeader::decode(input.bytes).ok());
    let Some(identity) = headers.map(|header| header.identity).next() else { return Ok(true) };
    let options = RecoveryOptions::default();
    let Ok(recovery) = wal::recover(&identity, inputs, &options) else { return Ok(true) };
    let Ok(mut recovered) = Recovered::collect(&recovery) else { return Ok(true) };
    let directory = checkpoint_directory(dir).map_err(|error| InspectError::Files(log, error))?;
    let mut is_whole = true;
    for range in recovered.ranges().collect::<Vec<_>>() {
        let named = recovered.take(range).ok().flatten().and_then(|records| records.checkpoint());
        let Some(number) = named else { continue };
        let expected = (identity.cluster, range, number);
        let verdict = match read_checkpoint(&directory, range, number).map(|bytes| checkpoint::verify(&bytes))
        {
            Ok(Ok((header, keys))) if (header.cluster, header.range, header.number) == expected => {
                format!("{keys} keys, whole")
            }
            Ok(Ok(_)) => "DAMAGED: it is another one".to_owned(),
            Ok(Err(error)) => format!("DAMAGED: {error:?}"),
            Err(error) => format!("DAMAGED: {error}"),
        };
        is_whole &= !verdict.starts_with("DAMAGED");
        // Whoever closes the pipe has read enough.
        let _ = writeln!(out, "checkpoint {number} of range {:032x}: {verdict}", range.0);
    }
    Ok(is_whole)
}

fn dump(
    dir: &Path,
    wanted: Option<LogId>,
    range: Option<RangeId>,
    out: &mut impl fmt::Write,
) -> Result<(), InspectError> {
    let (_lock, mut logs) = open(dir)?;
    if let Some(wanted) = wanted {
        logs.retain(|log| *log == wanted);
        if logs.is_empty() {
            return Err(InspectError::NoLog(wanted));
        }
    }
    for log in logs {
        let segments = read(dir, log)?;
        if writeln!(out, "log {}", log.0).is_err() {
            return Ok(());
        }
        match inspect::dump(&inputs(&segments), range, out) {
            Ok(()) => {}
            Err(DumpError::Output(_)) => return Ok(()),
            Err(DumpError::Log(error)) => return Err(InspectError::Log(log, error)),
        }
    }
    Ok(())
}

/// Locks a data directory that is there already.
pub(super) fn open(dir: &Path) -> Result<(DirectoryLock, Vec<LogId>), InspectError> {
    let error = |error| InspectError::Directory(dir.to_owned(), error);
    std::fs::metadata(dir.join("format")).map_err(|no| error(OpenError::Io(no)))?;
    let lock = files::open_directory(dir).map_err(error)?;
    let logs = files::list_logs(dir).map_err(|no| error(OpenError::Io(no)))?;
    Ok((lock, logs))
}

type Segments = Vec<(SegmentId, Arc<SegmentBytes>)>;

fn read(dir: &Path, log: LogId) -> Result<Segments, InspectError> {
    let segments = || -> io::Result<Segments> {
        let directory = files::log_directory(dir, log)?;
        let map = |segment| Ok((segment, files::map_segment(&directory, segment)?));
        files::find_segments(&directory)?.into_iter().map(map).collect()
    };
    segments().map_err(|error| InspectError::Files(log, error))
}

fn inputs(segments: &Segments) -> Vec<SegmentInput<'_>> {
    segments.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect()
}

/// Text to where bytes go.
struct Text<W>(W);

impl<W: Write> fmt::Write for Text<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
