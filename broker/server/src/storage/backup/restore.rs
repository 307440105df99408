//! Making a data directory of a backup. Every file is compared with the backup's list, every log read as a start would;
//! then the files get their names, the one last without which no start takes the directory for data.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use clap::Args;
use wal::{SegmentInput, files, inspect};

use super::manifest::{self, Entry, Manifest, ManifestError};
use super::{BackupError, Copied, PIECE_BYTES, at, check_checkpoints, copy, sync_directory, write};

/// Where files are before they get their names.
const ASIDE: &str = "restore.partial";

/// The file without which data is refused.
const LAST: &str = "format";

/// Restoring.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup: what `hermod backup` has made.
    backup: PathBuf,

    /// The data directory to make of it; one that is there has to be empty, and stays its owner's.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

impl Restore {
    /// Restores, and says what to standard output.
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let Copied { logs, files, bytes } = self.restore()?;
        let data = self.data.display();
        writeln!(io::stdout(), "{data}: {logs} logs in {files} files, of {} KiB", bytes.div_ceil(1024))?;
        Ok(())
    }

    fn restore(&self) -> Result<Copied, BackupError> {
        let Restore { backup, data } = self;
        let manifest = read_manifest(backup)?;
        fs::create_dir_all(data).map_err(at(data))?;
        let lock = data.join("lock");
        let lock = File::create(&lock).map_err(at(&lock))?;
        lock.try_lock().map_err(|_| BackupError::InUse(data.clone()))?;
        let aside = data.join(ASIDE);
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(at(&aside))?;
        }
        for entry in fs::read_dir(data).map_err(at(data))? {
            if entry.map_err(at(data))?.file_name() != "lock" {
                return Err(BackupError::NotEmpty(data.clone()));
            }
        }
        let restored = copy_all(backup, &manifest, &aside).and_then(|()| give_names(&aside, data));
        if restored.is_err() {
            let _ = fs::remove_dir_all(&aside);
        }
        restored?;
        let bytes = manifest.files.iter().map(|entry| entry.stored).sum();
        Ok(Copied { logs: manifest.logs.len(), files: manifest.files.len(), bytes })
    }
}

fn read_manifest(backup: &Path) -> Result<Manifest, BackupError> {
    let refused = |error| BackupError::Manifest(backup.to_owned(), error);
    let bytes = fs::read(backup.join(manifest::NAME)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refused(ManifestError::Missing),
        _ => BackupError::Io(backup.to_owned(), error),
    })?;
    let text = String::from_utf8(bytes).map_err(|_| refused(ManifestError::Damaged))?;
    let manifest = Manifest::decode(&text).map_err(refused)?;
    let format = backup.join(LAST);
    let format = fs::read_to_string(&format).map_err(|_| BackupError::Changed(format))?;
    if !files::is_known_format(&format) {
        let message = format!("{} {}", backup.display(), files::other_format(&format));
        return Err(BackupError::OtherFormat(message));
    }
    Ok(manifest)
}

fn copy_all(backup: &Path, manifest: &Manifest, aside: &Path) -> Result<(), BackupError> {
    let folders = manifest.logs.iter().map(|(log, _)| format!("log-{:04}", log.0));
    let folders: Vec<_> = folders.chain(["checkpoints".to_owned()]).map(|name| aside.join(name)).collect();
    fs::create_dir(aside).map_err(at(aside))?;
    folders.iter().try_for_each(|path| fs::create_dir(path).map_err(at(path)))?;
    manifest.files.iter().try_for_each(|entry| copy_one(backup, entry, aside))?;
    for (log, last) in &manifest.logs {
        let directory = aside.join(format!("log-{:04}", log.0));
        let mut segments = Vec::new();
        for segment in files::find_segments(&directory).map_err(at(&directory))? {
            segments.push((segment, files::map_segment(&directory, segment).map_err(at(&directory))?));
        }
        let inputs: Vec<_> =
            segments.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect();
        let report = inspect::verify(&inputs).map_err(|error| BackupError::Log(*log, error))?;
        let is_whole = report.as_ref().is_none_or(|report| report.damage.is_empty());
        if !is_whole || report.map_or(0, |report| report.last.0) != last.0 {
            return Err(BackupError::Changed(backup.join(format!("log-{:04}", log.0))));
        }
        check_checkpoints(aside, *log, &inputs)?;
    }
    folders.iter().try_for_each(|path| sync_directory(path))?;
    sync_directory(aside)
}

/// Copies a file, with all its zeros: a segment is written to again one day, and has its space before.
fn copy_one(backup: &Path, entry: &Entry, aside: &Path) -> Result<(), BackupError> {
    let (path, to) = (backup.join(&entry.name), aside.join(&entry.name));
    let changed = || BackupError::Changed(path.clone());
    let from = File::open(&path).map_err(|_| changed())?;
    if from.metadata().map_err(at(&path))?.len() != entry.bytes {
        return Err(changed());
    }
    let mut stored = from.take(entry.stored);
    let (mut file, stored, hash) = copy(&mut stored, &to)?;
    if (stored, hash) != (entry.stored, entry.hash) {
        return Err(changed());
    }
    let (zeros, mut unsynced, mut left) = (vec![0; PIECE_BYTES], 0, entry.bytes - stored);
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        write(&mut file, &zeros[..piece], &mut unsynced).map_err(at(&to))?;
        left -= piece as u64;
    }
    file.sync_all().map_err(at(&to))
}

/// Moves all files out of `aside`, and gives them the data directory's owner.
fn give_names(aside: &Path, data: &Path) -> Result<(), BackupError> {
    let owner = fs::metadata(data).map_err(at(data))?;
    let mut names = Vec::new();
    for entry in fs::read_dir(aside).map_err(at(aside))? {
        names.push(entry.map_err(at(aside))?.file_name());
    }
    names.sort_by_key(|name| name == LAST);
    for name in &names {
        let (from, to) = (aside.join(name), data.join(name));
        give(&from, owner.uid(), owner.gid())?;
        if name == LAST {
            sync_directory(data)?;
        }
        fs::rename(&from, &to).map_err(at(&to))?;
    }
    let lock = data.join("lock");
    give(&lock, owner.uid(), owner.gid())?;
    fs::remove_dir(aside).map_err(at(aside))?;
    sync_directory(data)
}

/// Gives a file, or a directory with what is in it, to somebody, if it is not theirs.
fn give(path: &Path, user: u32, group: u32) -> Result<(), BackupError> {
    let metadata = fs::metadata(path).map_err(at(path))?;
    if (metadata.uid(), metadata.gid()) != (user, group) {
        chown(path, Some(user), Some(group)).map_err(at(path))?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(at(path))? {
            give(&entry.map_err(at(path))?.path(), user, group)?;
        }
    }
    Ok(())
}
