//! A data directory, brokers that serve it one after the other, and hands that damage it.

#![expect(clippy::disallowed_methods, reason = "tests of a process need the clock")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Broker, DEADLINE};

/// The ways of writing, as `node.io` and `wal.append`: a ring, a thread, stores.
pub const WAYS: [[&str; 2]; 3] = [["uring", "ring"], ["epoll", "ring"], ["uring", "mapped"]];

/// A directory of the test's own, gone at its end. Its segments are small, so that starts are quick.
pub struct Data {
    path: PathBuf,
    _kept: Option<TempDir>,
}

impl Data {
    /// In the directory for temporary files.
    pub fn new() -> Data {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        Data { path: directory.path().join("data"), _kept: Some(directory) }
    }

    /// Inside a directory that there is.
    pub fn inside(directory: &Path) -> Data {
        Data { path: directory.join("data"), _kept: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program with this directory and small segments; nothing is kept free on the file system.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hermod"));
        command.args(["--listen", "tcp://127.0.0.1:0", "--data"]).arg(&self.path).args(arguments);
        command.env("HERMOD__WAL__SEGMENT_BYTES", "65536").env("HERMOD__WAL__SPACE_FREE_BYTES", "0");
        command
    }

    /// A broker that serves it.
    pub fn start(&self, arguments: &[&str]) -> Broker {
        Broker::run(self.command(arguments))
    }

    /// A broker that serves it in one of the ways of writing.
    pub fn start_by(&self, [io, append]: [&str; 2], arguments: &[&str]) -> Broker {
        let mut command = self.command(arguments);
        command.env("HERMOD__NODE__IO", io).env("HERMOD__WAL__APPEND", append);
        Broker::run(command)
    }

    /// The same, when each of its logs has begun.
    pub fn start_and_write(&self, way: [&str; 2], arguments: &[&str]) -> Broker {
        let broker = self.start_by(way, arguments);
        let deadline = Instant::now() + DEADLINE;
        while !self.logs().iter().all(|log| has_begun(log)) {
            assert!(Instant::now() < deadline, "nothing is written");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        broker
    }

    fn logs(&self) -> Vec<PathBuf> {
        let entries =
            fs::read_dir(&self.path).expect("a start makes it").map(|entry| entry.expect("readable"));
        let is_log = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"log-"))
        };
        entries.map(|entry| entry.path()).filter(is_log).collect()
    }

    /// A start that is to be refused: what it says. It is killed if it is not.
    pub fn refused(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = process.expect("the binary starts");
        let deadline = Instant::now() + DEADLINE;
        while process.try_wait().expect("it is our child").is_none() {
            if Instant::now() >= deadline {
                process.kill().expect("it runs");
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        process.wait_with_output().expect("it has ended")
    }

    /// `hermod wal` with this directory: its exit code and what it says.
    pub fn wal(&self, command: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_hermod"));
        let output = program.args(["wal", command]).arg(&self.path).args(arguments).output();
        let output = output.expect("the binary starts");
        let text = String::from_utf8(if output.status.success() || !output.stdout.is_empty() {
            output.stdout
        } else {
            output.stderr
        });
        (output.status.code(), text.expect("it writes UTF-8"))
    }

    /// Turns a byte of a log's file round: `place` is segment and offset, as `hermod wal dump` names them.
    pub fn damage(&self, log: u16, place: &str, further: u64) {
        let (segment, offset) = place.split_once('+').expect("segment+offset");
        let path = self.path.join(format!("log-{log:04}/{segment}.seg"));
        let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("a segment");
        let (offset, mut byte) = (offset.parse::<u64>().expect("a number") + further, [0]);
        file.read_exact_at(&mut byte, offset).expect("inside the file");
        file.write_all_at(&[!byte[0]], offset).expect("it can be written");
        file.sync_all().expect("a disk");
    }
}

/// Whether some segment of a log has its header.
fn has_begun(log: &Path) -> bool {
    fs::read_dir(log).expect("readable").any(|entry| {
        let mut magic = [0; 8];
        let file = fs::File::open(entry.expect("readable").path());
        file.is_ok_and(|mut file| file.read_exact(&mut magic).is_ok() && magic != [0; 8])
    })
}

/// A file system of its own in memory, gone at its end.
pub struct Small(TempDir);

impl Small {
    /// None where the test may not mount.
    pub fn new(bytes: u32) -> Option<Small> {
        let directory = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(directory.path());
        mount.output().is_ok_and(|output| output.status.success()).then_some(Small(directory))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}
