//! Taking a backup: the files of a data directory that nobody writes to, or of a snapshot of one that goes on.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::time::Wall;
use wal::format::{HeaderError, SEGMENT_HEADER_BYTES, SegmentHeader};
use wal::{LogId, Lsn, SegmentBytes, SegmentId, SegmentInput, files, inspect, snapshot};

use super::manifest::{self, Entry, Manifest};
use super::{BackupError, Copied, NICE, at, check_checkpoints, copy, sync_directory};
use crate::storage::inspect as stopped;
use crate::storage::snapshot::STABLE;
use crate::sys;

/// Backs up the data directory of a stopped node, to the last record of each log.
pub(crate) fn of_stopped(data: &Path, to: &Path, now: Wall) -> Result<Copied, BackupError> {
    let (_lock, logs) = stopped::open(data).map_err(BackupError::Source)?;
    let logs: Vec<_> = logs.into_iter().map(|log| (log, None)).collect();
    Copy::run(data, &logs, to, now, &|| true)
}

/// Backs up what a running node has given second names, each log up to what was durable then.
pub(crate) fn of_running(
    snapshot: &Path,
    logs: &[(LogId, Lsn)],
    to: &Path,
    now: Wall,
) -> Result<Copied, BackupError> {
    let lock = snapshot.join("lock");
    // As long as it is held the node keeps the names.
    let held = File::open(&lock).map_err(at(&lock))?;
    held.lock_shared().map_err(at(&lock))?;
    if let Err(error) = sys::step_back(NICE) {
        tracing::debug!("the copy has the cores' own right to the CPU: {error}");
    }
    let logs: Vec<_> = logs.iter().map(|(log, durable)| (*log, Some(*durable))).collect();
    // Without a name the snapshot is given up, and its files may be others by now.
    let is_there = || held.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
    match Copy::run(snapshot, &logs, to, now, &is_there) {
        Err(_) if !is_there() => Err(BackupError::GivenUp),
        copied => copied,
    }
}

/// A backup being written.
struct Copy<'a> {
    from: &'a Path,
    /// Where it is written aside.
    to: PathBuf,
    manifest: Manifest,
}

/// A segment's file, as far as it belongs to its log.
struct Segment {
    name: SegmentId,
    bytes: Arc<SegmentBytes>,
    extent: usize,
}

impl Copy<'_> {
    fn run(
        from: &Path,
        logs: &[(LogId, Option<Lsn>)],
        to: &Path,
        now: Wall,
        is_there: &dyn Fn() -> bool,
    ) -> Result<Copied, BackupError> {
        if to.exists() {
            return Err(BackupError::Exists(to.to_owned()));
        }
        let mut aside = to.as_os_str().to_owned();
        aside.push(".partial");
        let aside = PathBuf::from(aside);
        fs::create_dir(&aside).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(aside.clone()),
            _ => BackupError::Io(aside.clone(), error),
        })?;
        let mut copy = Copy { from, to: aside.clone(), manifest: Manifest::new(now) };
        let copied = copy.all(logs).and_then(|()| match is_there() {
            true => copy.finish(to),
            false => Err(BackupError::GivenUp),
        });
        if copied.is_err() {
            // What was taken of a full disk is given back.
            let _ = fs::remove_dir_all(&aside);
        }
        copied
    }

    fn all(&mut self, logs: &[(LogId, Option<Lsn>)]) -> Result<(), BackupError> {
        for name in STABLE {
            self.file(name)?;
        }
        self.checkpoints()?;
        logs.iter().try_for_each(|(log, last)| self.log(*log, *last))
    }

    /// Copies all checkpoints, those that no log names by now as well.
    fn checkpoints(&mut self) -> Result<(), BackupError> {
        let checkpoints = self.from.join("checkpoints");
        let into = self.to.join("checkpoints");
        fs::create_dir(&into).map_err(at(&into))?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&checkpoints).map_err(at(&checkpoints))? {
            let name = entry.map_err(at(&checkpoints))?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".checkpoint") {
                names.push(format!("checkpoints/{name}"));
            }
        }
        names.sort_unstable();
        names.iter().try_for_each(|name| self.file(name))?;
        sync_directory(&into)
    }

    /// Copies a whole file.
    fn file(&mut self, name: &str) -> Result<(), BackupError> {
        let path = self.from.join(name);
        let mut from = File::open(&path).map_err(at(&path))?;
        let (file, stored, hash) = copy(&mut from, &self.to.join(name))?;
        file.sync_all().map_err(at(&path))?;
        self.manifest.files.push(Entry { name: name.to_owned(), stored, bytes: stored, hash });
        Ok(())
    }

    /// Copies a log up to an LSN, or all of it: what `hermod wal verify` calls whole, or nothing.
    fn log(&mut self, log: LogId, last: Option<Lsn>) -> Result<(), BackupError> {
        let folder = format!("log-{:04}", log.0);
        let (directory, into) = (self.from.join(&folder), self.to.join(&folder));
        fs::create_dir(&into).map_err(at(&into))?;
        let segments = read(&directory, log, last)?;
        let input = |segment: &Segment| (segment.name, segment.extent);
        let inputs: Vec<_> = segments
            .iter()
            .map(|segment| (input(segment), &segment.bytes[..]))
            .map(|((segment, extent), bytes)| SegmentInput { segment, bytes: &bytes[..extent] })
            .collect();
        let report = inspect::verify(&inputs).map_err(|error| BackupError::Log(log, error))?;
        let found = report.as_ref().map_or(Lsn::NONE, |report| report.last);
        if let Some(expected) = last.filter(|last| *last != found) {
            return Err(BackupError::Short { log, found, expected });
        }
        if let Some(damaged) = report.as_ref().filter(|report| !report.damage.is_empty()) {
            let lines = damaged.damage.iter().map(|damage| format!("\n  {damage}"));
            return Err(BackupError::Damaged(log, lines.collect()));
        }
        check_checkpoints(&self.to, log, &inputs)?;
        let kept = report.map(|report| report.segments).unwrap_or_default();
        for segment in segments.iter().filter(|segment| kept.contains(&segment.name)) {
            let name = format!("{folder}/{}.seg", segment.name);
            let path = self.to.join(&name);
            let (file, stored, hash) = copy(&mut &segment.bytes[..segment.extent], &path)?;
            let bytes = segment.bytes.len() as u64;
            // The rest takes no space.
            file.set_len(bytes).and_then(|()| file.sync_all()).map_err(at(&path))?;
            self.manifest.files.push(Entry { name, stored, bytes, hash });
        }
        self.manifest.logs.push((log, found));
        sync_directory(&into)
    }

    /// Writes the list, and gives the backup its name.
    fn finish(&self, to: &Path) -> Result<Copied, BackupError> {
        let path = self.to.join(manifest::NAME);
        let write = || {
            let mut file = File::create_new(&path)?;
            file.write_all(self.manifest.encode().as_bytes())?;
            file.sync_all()
        };
        write().map_err(at(&path))?;
        sync_directory(&self.to)?;
        // Somebody may have made an empty directory meanwhile, and no other.
        fs::rename(&self.to, to).map_err(at(to))?;
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_directory(parent)?;
        let files = &self.manifest.files;
        let bytes = files.iter().map(|entry| entry.stored).sum();
        Ok(Copied { logs: self.manifest.logs.len(), files: files.len(), bytes })
    }
}

/// The segments of a log up to `last`. Those that may still be written to are read into memory; the others are mapped.
fn read(directory: &Path, log: LogId, last: Option<Lsn>) -> Result<Vec<Segment>, BackupError> {
    let mut begun = Vec::new();
    for name in files::find_segments(directory).map_err(at(directory))? {
        let path = files::segment_path(directory, name);
        let mut block = vec![0; SEGMENT_HEADER_BYTES];
        let file = File::open(&path).map_err(at(&path))?;
        file.read_exact_at(&mut block, 0).map_err(at(&path))?;
        match SegmentHeader::decode(&block) {
            Ok(header) if header.segment == name => begun.push((header, path, file)),
            Ok(_) | Err(HeaderError::Blank) => {}
            Err(error) => return Err((log, name, error).into()),
        }
    }
    begun.sort_by_key(|(header, ..)| header.sequence);
    let end = last.unwrap_or(Lsn(u64::MAX));
    let mut segments = Vec::new();
    for (index, (header, path, file)) in begun.iter().enumerate() {
        // Where a later one begins that is durable, nothing is written any more.
        let is_sealed = begun[index + 1..].iter().any(|(later, ..)| later.base.previous() <= end);
        let bytes = match is_sealed || last.is_none() {
            true => SegmentBytes::map(file),
            false => fs::read(path).map(SegmentBytes::from_memory),
        };
        let bytes = Arc::new(bytes.map_err(at(path))?);
        let input = SegmentInput { segment: header.segment, bytes: &bytes };
        let extent = snapshot::extent(&input, end).map_err(|error| (log, header.segment, error))?;
        if extent > 0 {
            segments.push(Segment { name: header.segment, bytes, extent });
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was read of a snapshot that has lost its name meanwhile may be of recycled files: it becomes no backup, and
    /// nothing is left of it.
    #[test]
    fn a_snapshot_that_was_given_up_becomes_no_backup() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("snapshot");
        fs::create_dir(&from).unwrap();
        STABLE.iter().for_each(|name| fs::write(from.join(name), name).unwrap());
        ["checkpoints", "log-0000"].iter().for_each(|name| fs::create_dir(from.join(name)).unwrap());
        let to = dir.path().join("backup");
        let logs = [(LogId(0), Some(Lsn::NONE))];
        let refused = Copy::run(&from, &logs, &to, Wall(1), &|| false);
        assert!(matches!(refused, Err(BackupError::GivenUp)), "{refused:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let copied = Copy::run(&from, &logs, &to, Wall(1), &|| true).unwrap();
        assert_eq!((copied.logs, copied.files), (1, 3));
        let short =
            Copy::run(&from, &[(LogId(0), Some(Lsn(1)))], &dir.path().join("other"), Wall(1), &|| true);
        assert!(matches!(short, Err(BackupError::Short { .. })), "{short:?}");
    }
}
