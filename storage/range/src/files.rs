//! Checkpoints as files, by plain blocking functions: for start-up and for a thread off the cores. Whatever a
//! crash leaves of these steps is either whole under its name or a `.new` file that the next start removes.
//!
//! ```text
//! <data>/checkpoints/<range>-<number>.checkpoint        both in hexadecimal
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use wal::RangeId;

/// Where the checkpoints of a node are; created if need be.
pub fn checkpoint_directory(data: &Path) -> io::Result<PathBuf> {
    let directory = data.join("checkpoints");
    if !directory.is_dir() {
        fs::create_dir(&directory)?;
        sync_directory(data)?;
    }
    Ok(directory)
}

/// The path of a checkpoint.
#[must_use]
pub fn checkpoint_path(directory: &Path, range: RangeId, number: u64) -> PathBuf {
    directory.join(format!("{:032x}-{number:016x}.checkpoint", range.0))
}

fn unfinished_path(directory: &Path, range: RangeId, number: u64) -> PathBuf {
    checkpoint_path(directory, range, number).with_extension("new")
}

/// Answers [`Request::WriteCheckpoint`](crate::Request::WriteCheckpoint): writes a piece aside; with the last
/// one the file is synced and gets its name. An error ends that checkpoint.
pub fn write_checkpoint(
    directory: &Path,
    (range, number): (RangeId, u64),
    offset: u64,
    bytes: &[u8],
    last: bool,
) -> io::Result<()> {
    let unfinished = unfinished_path(directory, range, number);
    let file = OpenOptions::new().create(true).truncate(offset == 0).write(true).open(&unfinished)?;
    file.write_all_at(bytes, offset)?;
    if last {
        file.sync_all()?;
        fs::rename(&unfinished, checkpoint_path(directory, range, number))?;
        sync_directory(directory)?;
    }
    Ok(())
}

/// Answers [`Request::RemoveCheckpoint`](crate::Request::RemoveCheckpoint). One that is not there is removed.
pub fn remove_checkpoint(directory: &Path, range: RangeId, number: u64) -> io::Result<()> {
    let there = [checkpoint_path(directory, range, number), unfinished_path(directory, range, number)];
    there.iter().try_for_each(|path| match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
}

/// The checkpoint that a replica's records name.
pub fn read_checkpoint(directory: &Path, range: RangeId, number: u64) -> io::Result<Vec<u8>> {
    fs::read(checkpoint_path(directory, range, number))
}

/// Gives all checkpoints a second name in another directory of the same file system. One that goes meanwhile, or has
/// such a name already, is passed over.
pub fn link_checkpoints(directory: &Path, into: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "checkpoint") {
            continue;
        }
        let name = path.file_name().expect("an entry has a name");
        match fs::hard_link(&path, into.join(name)) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes all checkpoints but those that are named: what a crash left between two steps. For a start, when
/// every replica is open.
pub fn retain_checkpoints(directory: &Path, kept: &[(RangeId, u64)]) -> io::Result<u64> {
    let kept: Vec<PathBuf> =
        kept.iter().map(|(range, number)| checkpoint_path(directory, *range, *number)).collect();
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let ours = path.extension().is_some_and(|extension| extension == "checkpoint" || extension == "new");
        if ours && !kept.contains(&path) {
            fs::remove_file(path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Puts a whole file in the place of another: written aside, synced, renamed.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}.new"));
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(name))?;
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: RangeId = RangeId(0xAB);

    /// Pieces become a file under its name with the last one, and only then; beginning anew shortens it.
    #[test]
    fn a_checkpoint_gets_its_name_with_the_last_piece() {
        let data = tempfile::tempdir().unwrap();
        let directory = checkpoint_directory(data.path()).unwrap();
        write_checkpoint(&directory, (RANGE, 1), 0, b"abcdef", false).unwrap();
        write_checkpoint(&directory, (RANGE, 1), 0, b"ab", false).unwrap();
        assert!(read_checkpoint(&directory, RANGE, 1).is_err());
        write_checkpoint(&directory, (RANGE, 1), 2, b"cd", true).unwrap();
        assert_eq!(read_checkpoint(&directory, RANGE, 1).unwrap(), b"abcd");
        let name = "000000000000000000000000000000ab-0000000000000001.checkpoint";
        assert!(directory.join(name).is_file());
    }

    /// Whole checkpoints get second names, once; what is written in place of one that is gone is another file.
    #[test]
    fn checkpoints_can_have_second_names() {
        let data = tempfile::tempdir().unwrap();
        let directory = checkpoint_directory(data.path()).unwrap();
        let into = data.path().join("into");
        fs::create_dir(&into).unwrap();
        write_checkpoint(&directory, (RANGE, 1), 0, b"one", true).unwrap();
        write_checkpoint(&directory, (RANGE, 2), 0, b"two", false).unwrap();
        link_checkpoints(&directory, &into).unwrap();
        remove_checkpoint(&directory, RANGE, 1).unwrap();
        link_checkpoints(&directory, &into).unwrap();
        assert_eq!(read_checkpoint(&into, RANGE, 1).unwrap(), b"one");
        assert_eq!(fs::read_dir(&into).unwrap().count(), 1, "what is not whole has no name");
    }

    /// Removing leaves nothing, not even of an unfinished one; a start removes what no replica names.
    #[test]
    fn only_what_is_named_stays() {
        let data = tempfile::tempdir().unwrap();
        let directory = checkpoint_directory(data.path()).unwrap();
        for number in 1..=3 {
            write_checkpoint(&directory, (RANGE, number), 0, b"x", number < 3).unwrap();
        }
        fs::write(directory.join("somebody-else"), b"").unwrap();
        remove_checkpoint(&directory, RANGE, 9).unwrap();
        assert_eq!(retain_checkpoints(&directory, &[(RANGE, 2)]).unwrap(), 2);
        assert_eq!(read_checkpoint(&directory, RANGE, 2).unwrap(), b"x");
        remove_checkpoint(&directory, RANGE, 2).unwrap();
        let left: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["somebody-else"]);
    }
}
