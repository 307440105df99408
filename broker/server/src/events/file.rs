//! Events as lines of JSON in a file, by a thread of their own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::Receiver;
use serde_json::json;

use super::Counts;
use super::record::Record;

/// The file. Lives on its own thread.
pub(super) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    bytes_max: u64,
}

impl Writer {
    /// Opens it, to write behind what is there.
    pub(super) fn open(path: &Path, bytes_max: u64) -> io::Result<Writer> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Writer { path: path.to_owned(), file: BufWriter::new(file), bytes, bytes_max })
    }

    /// Writes until there is nobody left to send anything.
    pub(super) fn write_all(&mut self, records: &Receiver<Arc<Record>>, counts: &Counts) {
        let (mut told, mut warned) = (0, false);
        for record in records {
            let mut written = self.write(&record.describe().to_json());
            let now_lost = counts.lost();
            if now_lost > told {
                let gap = json!({"at_ms": record.at.0, "type": "EVENTS_LOST", "events": now_lost - told});
                told = now_lost;
                written = written.and(self.write(&gap.to_string()));
            }
            if records.is_empty() {
                written = written.and(self.file.flush());
            }
            if let Err(error) = written
                && !std::mem::replace(&mut warned, true)
            {
                tracing::error!("events.file {}: {error}; events are lost", self.path.display());
            }
        }
    }

    /// Appends a line; a file that is full becomes the one before, in place of a former one.
    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.bytes >= self.bytes_max {
            self.file.flush()?;
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            fs::rename(&self.path, before)?;
            *self = Writer::open(&self.path, self.bytes_max)?;
        }
        self.bytes += line.len() as u64 + 1;
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full file gives way to a new one, and only one old one is kept; together they have all that came last.
    #[test]
    fn files_are_bounded() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("events");
        let mut writer = Writer::open(&path, 100).unwrap();
        for number in 0..100 {
            writer.write(&format!("line number {number:04}")).unwrap();
        }
        writer.file.flush().unwrap();
        let former = fs::read_to_string(folder.path().join("events.1")).unwrap();
        let now = fs::read_to_string(&path).unwrap();
        assert!(former.len() < 200 && now.len() < 200 && now.ends_with("line number 0099\n"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
