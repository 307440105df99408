//! A file is replaced whole: written aside, flushed, renamed, and its directory flushed. Who reads it meanwhile sees the
//! old or the new one, and so does a start after power was lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use crate::sys;

/// Puts a file of this text in the place of the one at `path`, or where none is: readable by its owner alone, who stays
/// the same, and by its group in a directory whose files are its group's, as /etc/hermod of the Debian package.
///
/// # Errors
/// What is there is as it was, unless the directory could not be flushed.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    // Behind a link is the file that is meant.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{:016x}", sys::random()?));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = if fs::metadata(folder)?.mode() & SET_GROUP == 0 { 0o600 } else { 0o640 };
    let written = write_aside(&aside, mode, path, text).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
        return written;
    }
    // The name is as durable as what it names.
    File::open(folder)?.sync_all()
}

/// What is made in such a directory is its group's: see inode(7).
const SET_GROUP: u32 = 0o2000;

fn write_aside(aside: &Path, mode: u32, path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(aside)?;
    file.write_all(text.as_bytes())?;
    // A broker that runs as somebody else could not read it any more.
    if let Ok(former) = fs::metadata(path)
        && let Ok(ours) = file.metadata()
        && (former.uid(), former.gid()) != (ours.uid(), ours.gid())
    {
        fchown(&file, Some(former.uid()), Some(former.gid()))?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file is made, and replaced, behind a link, too; its owner alone reads it unless its directory says otherwise, and
    /// nothing is left beside it, not even when it cannot be replaced.
    #[test]
    fn files_are_replaced_whole() {
        let folder = tempfile::TempDir::new().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        replace(&path, "one").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("by something")).unwrap();
        assert!(replace(&taken, "three").is_err());
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["file", "link", "taken"]);
    }
}
