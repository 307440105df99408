//! Backups, with real processes: of a node under load, of a stopped one, onto a disk that is full; what of them is
//! restored, and what is refused.

#![expect(clippy::disallowed_methods, reason = "tests of a process need threads and the clock")]

#[path = "support/http.rs"]
mod http;
mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use support::data::{Data, Small, WAYS};
use support::load::{Ledger, Publisher, Reader, Subscriber};
use support::packets::{Connect, Heard, PUBACK, Publish, Wire};
use support::{Broker, DEADLINE};
use tempfile::TempDir;

/// The program, run to its end.
fn hermod(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hermod")).args(arguments).output().expect("the binary starts")
}

/// What it says when it fails.
fn refused(arguments: &[&str]) -> String {
    let output = hermod(arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("it writes UTF-8")
}

fn succeeds(arguments: &[&str]) -> String {
    let output = hermod(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("it writes UTF-8")
}

/// A place for backups and what is restored of them.
struct Shelf(TempDir);

impl Shelf {
    fn new() -> Shelf {
        Shelf(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn names(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.0.path()).expect("readable");
        names.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
    }

    /// What is restored of a backup.
    fn restore(&self, backup: &str) -> Data {
        let folder = self.0.path().join(format!("{backup}-restored"));
        fs::create_dir(&folder).expect("new");
        let data = Data::inside(&folder);
        succeeds(&["restore", &self.path(backup), "--data", &data.path().display().to_string()]);
        let (code, report) = data.wal("verify", &[]);
        assert_eq!(code, Some(0), "{report}");
        data
    }
}

/// A node that is administered, whose logs have room for a load that nobody takes.
fn start(data: &Data, [io, append]: [&str; 2], arguments: &[&str]) -> (Broker, String) {
    let flags = ["--admin", "127.0.0.1:0", "--max-queued-messages", "100000000"];
    let mut command = data.command(&[&flags[..], arguments].concat());
    command.env("HERMOD__NODE__IO", io).env("HERMOD__WAL__APPEND", append);
    command.env("HERMOD__WAL__SEGMENT_BYTES", "262144");
    // Checkpoints come and go, and what they stand for is reclaimed, all the time.
    command.env("HERMOD__WAL__CHECKPOINT_LOG_BYTES", "262144");
    let mut broker = Broker::run(command);
    let admin = http::address(&mut broker).to_string();
    (broker, admin)
}

/// All segments of a data directory.
fn segments(data: &Data) -> BTreeSet<PathBuf> {
    let entries = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).expect("readable").map(|entry| entry.expect("readable").path()).collect()
    };
    let logs = entries(data.path()).into_iter().filter(|path| path.to_string_lossy().contains("/log-"));
    logs.flat_map(|log| entries(&log)).filter(|path| path.extension().is_some_and(|it| it == "seg")).collect()
}

/// Waits for what has to become so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not until the deadline: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Sessions of clients that are away, and what is acknowledged for them by a load that goes on.
struct Load {
    away: Vec<Subscriber>,
    ledger: Ledger,
    living: Vec<thread::JoinHandle<()>>,
}

/// Clients that are away: their names and what they are granted.
const AWAY: [(&str, bool, u8); 3] = [("away-1", true, 2), ("away-2", false, 2), ("away-3", true, 1)];

impl Load {
    fn start(address: SocketAddr) -> Load {
        let (events, inbox) = channel();
        let subscriber = |(reader, (id, v5, qos)): (usize, (&str, bool, u8))| {
            Subscriber::new(address, id, v5, 0, (reader, "load/#", qos))
        };
        let away = AWAY.into_iter().enumerate().map(subscriber).collect();
        // What one takes that is there need not be moved on.
        let present = Subscriber::new(address, "present", true, 0, (AWAY.len(), "load/#", 2));
        let readers = AWAY.map(|(_, _, qos)| qos).into_iter().chain([2]);
        let ledger = Ledger::new(readers.map(|qos| Reader::new(false, qos)).collect(), inbox);
        let mut living = Vec::new();
        for index in 0..3 {
            let (events, publisher) = (events.clone(), Publisher::new(index, index != 1, index == 0));
            living.push(thread::spawn(move || drop(publisher.run(address, u32::MAX, &events))));
        }
        living.push(thread::spawn(move || drop(present.run(address, &events))));
        living.push(thread::spawn(move || replace_for_ever(address)));
        Load { away, ledger, living }
    }

    /// Waits for so many more acknowledgements.
    fn go_on(&mut self, acknowledged: usize) {
        let enough = self.ledger.acknowledged.len() + acknowledged;
        self.ledger.until(|ledger, _| ledger.acknowledged.len() >= enough);
    }

    /// The clients that are away come to another broker: they get all of this.
    fn expect(self, broker: &Broker, acknowledged: BTreeSet<(u32, u32)>) {
        self.living.into_iter().for_each(|client| client.join().expect("a client that fails has said why"));
        let (events, inbox) = channel();
        let mut ledger = Ledger::new(AWAY.map(|(_, _, qos)| Reader::new(false, qos)).into(), inbox);
        ledger.acknowledged = acknowledged;
        let address = broker.address();
        for subscriber in self.away {
            let events = events.clone();
            thread::spawn(move || subscriber.run(address, &events));
        }
        ledger.until(|ledger, _| ledger.is_complete());
    }
}

/// Retained messages, each in the place of the one before, until the connection breaks: the log has much to reclaim.
fn replace_for_ever(address: SocketAddr) {
    let (mut wire, _) = Wire::connect(address, &Connect::clean("replaces", true)).expect("it listens");
    for number in (0..8).cycle() {
        let topic = format!("replaced/{number}");
        let payload = "x".repeat(2000);
        wire.send(&Publish { qos: 1, retain: true, packet_id: 1, topic, payload, ..Publish::default() });
        if !matches!(wire.hear(), Ok(Heard::Answer(PUBACK, 1, _))) {
            return;
        }
    }
}

/// What was acknowledged before a backup of a node under load began is in it, and served by a node that is restored of
/// it, by every way of writing; the node gives back what it held, and reclaims on.
#[test]
fn a_backup_under_load_holds_what_was_acknowledged_before() {
    for way in WAYS {
        let (data, shelf) = (Data::new(), Shelf::new());
        let (broker, admin) = start(&data, way, &["--cores", "0,1"]);
        let mut load = Load::start(broker.address());
        let mut before = BTreeSet::new();
        for backup in ["first", "second", "third"] {
            load.go_on(600);
            load.ledger.catch_up();
            before.clone_from(&load.ledger.acknowledged);
            let said = succeeds(&["backup", &shelf.path(backup), "--admin", &admin]);
            assert!(said.contains("logs") && said.contains('2'), "{said}");
            assert!(!data.path().join("snapshot").exists(), "{way:?}: it is given back");
        }
        let then = segments(&data);
        // One may have left already.
        let is_held = |path: &&PathBuf| fs::metadata(path).is_ok_and(|it| it.nlink() > 1);
        assert_eq!(then.iter().find(is_held), None, "{way:?}");
        load.go_on(600);
        until("some segment leaves", || !segments(&data).is_superset(&then));
        broker.kill();
        assert_eq!(shelf.names().len(), 3, "nothing else: {:?}", shelf.names());
        let restored = shelf.restore("third");
        // Of another number of cores than the one that was backed up.
        let broker = restored.start(&["--cores", "0"]);
        load.expect(&broker, before);
        broker.stop();
    }
}

/// A stopped node's directory is copied whole; a running one's is not taken for that, and who keeps nothing says so.
#[test]
fn a_stopped_node_is_backed_up_by_its_directory() {
    let (data, shelf) = (Data::new(), Shelf::new());
    let path = data.path().display().to_string();
    let (broker, _) = start(&data, WAYS[0], &["--cores", "0"]);
    let error = refused(&["backup", &shelf.path("a"), "--data", &path]);
    assert!(error.contains("leave --data out"), "{error}");
    let mut load = Load::start(broker.address());
    load.go_on(300);
    broker.stop();
    load.ledger.catch_up();
    let before = load.ledger.acknowledged.clone();
    succeeds(&["backup", &shelf.path("a"), "--data", &path]);
    let error = refused(&["backup", &shelf.path("a"), "--data", &path]);
    assert!(error.contains("is there already"), "{error}");
    let broker = shelf.restore("a").start(&["--cores", "0,1"]);
    load.expect(&broker, before);
    broker.stop();
    let mut broker = Broker::start(&["--admin", "127.0.0.1:0"]);
    let admin = http::address(&mut broker).to_string();
    let error = refused(&["backup", &shelf.path("b"), "--admin", &admin]);
    assert!(error.contains("the node keeps nothing"), "{error}");
    let error = refused(&["backup", &shelf.path("b"), "--data", &shelf.path("nowhere")]);
    assert!(error.contains("is no data directory"), "{error}");
}

/// A backup that is cut, changed or not finished is refused, with the file that is wrong, and leaves nothing; so is one
/// of a newer format, with both versions. What is whole is not put over something.
#[test]
fn a_torn_backup_is_refused() {
    let (data, shelf) = (Data::new(), Shelf::new());
    let broker = data.start_and_write(WAYS[0], &["--cores", "0"]);
    broker.stop();
    succeeds(&["backup", &shelf.path("a"), "--data", &data.path().display().to_string()]);
    let backup = PathBuf::from(shelf.path("a"));
    let segment = fs::read_dir(backup.join("log-0000")).unwrap().next().expect("one").unwrap().path();
    let into = shelf.path("restored");
    let refuses = |path: &Path, content: Option<Vec<u8>>, says: &str| {
        let whole = fs::read(path).unwrap();
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let error = refused(&["restore", &shelf.path("a"), "--data", &into]);
        assert!(error.contains(says), "{says}: {error}");
        let left: Vec<_> =
            fs::read_dir(&into).into_iter().flatten().map(|it| it.unwrap().file_name()).collect();
        assert!(left.is_empty() || left == ["lock"], "{left:?}");
        fs::write(path, whole).unwrap();
    };
    let bytes = fs::read(&segment).unwrap();
    let list = fs::read(backup.join("backup")).unwrap();
    let mut changed = bytes.clone();
    changed[4100] ^= 1;
    refuses(&segment, None, "cannot be restored");
    refuses(&segment, Some(bytes[..bytes.len() - 4096].to_vec()), "cannot be restored");
    refuses(&segment, Some(changed), "cannot be restored");
    refuses(&backup.join("catalog"), Some(Vec::new()), "cannot be restored");
    refuses(&backup.join("backup"), None, "none that was finished");
    refuses(
        &backup.join("backup"),
        Some(list[..list.len() - 1000.min(list.len() / 2)].to_vec()),
        "is cut or damaged",
    );
    let newer = String::from_utf8(list).unwrap().replace("format 1\n", "format 2\n").into_bytes();
    refuses(&backup.join("backup"), Some(newer), "of format 2, and this version of hermod knows format 1");
    let newer = b"hermod data format 2\n".to_vec();
    refuses(
        &backup.join("format"),
        Some(newer),
        "\"hermod data format 2\", and not \"hermod data format 1\"",
    );
    succeeds(&["restore", &shelf.path("a"), "--data", &into]);
    let error = refused(&["restore", &shelf.path("a"), "--data", &into]);
    assert!(error.contains("is not empty"), "{error}");
}

/// A disk that is full ends a backup by name, with nothing left of it there; the node goes on, and the next one is
/// taken.
#[test]
#[expect(clippy::print_stderr, reason = "a test that cannot be made says so")]
fn a_backup_onto_a_full_disk_fails() {
    let Some(small) = Small::new(128 << 10) else {
        return eprintln!("skipped: this needs the right to mount a tmpfs");
    };
    let (data, shelf) = (Data::new(), Shelf::new());
    let (broker, admin) = start(&data, WAYS[0], &["--cores", "0"]);
    let mut load = Load::start(broker.address());
    load.go_on(2000);
    let error = refused(&["backup", &small.path().join("a").display().to_string(), "--admin", &admin]);
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(fs::read_dir(small.path()).unwrap().count(), 0);
    assert!(!data.path().join("snapshot").exists());
    load.go_on(200);
    load.ledger.catch_up();
    let before = load.ledger.acknowledged.clone();
    succeeds(&["backup", &shelf.path("a"), "--admin", &admin]);
    broker.kill();
    let broker = shelf.restore("a").start(&["--cores", "0"]);
    load.expect(&broker, before);
}

/// One backup at a time; one whose process has gone gives way to the next, or is given up without one, and a start
/// takes away what is left.
#[test]
fn what_nobody_copies_is_given_back() {
    let (data, shelf) = (Data::new(), Shelf::new());
    let (broker, admin) = start(&data, WAYS[0], &["--cores", "0"]);
    let address: SocketAddr = admin.parse().unwrap();
    let snapshot = data.path().join("snapshot");
    assert_eq!(http::request(address, "POST", "/api/v1/snapshot", &[], "").status, 200);
    let held = File::open(snapshot.join("lock")).expect("it can be held");
    held.lock_shared().expect("nobody else does");
    let error = refused(&["backup", &shelf.path("a"), "--admin", &admin]);
    assert!(error.contains("another backup is under way"), "{error}");
    drop(held);
    succeeds(&["backup", &shelf.path("a"), "--admin", &admin]);
    assert!(!snapshot.exists());
    assert_eq!(http::request(address, "POST", "/api/v1/snapshot", &[], "").status, 200);
    assert!(snapshot.exists());
    until("it is given up", || !snapshot.exists());
    assert_eq!(http::request(address, "POST", "/api/v1/snapshot", &[], "").status, 200);
    broker.kill();
    assert!(snapshot.exists());
    data.start(&["--cores", "0"]).stop();
    assert!(!snapshot.exists());
}

/// A node has one name from start to start, and what is restored of its backup has the same; the rest of a backup that
/// was not finished is said to be that.
#[test]
fn a_copy_has_the_name_of_the_original() {
    let (data, shelf) = (Data::new(), Shelf::new());
    let name = |admin: &str| {
        let cluster = http::get(admin.parse().expect("an address"), "/cluster").json();
        cluster["local"].as_str().expect("a name").to_owned()
    };
    let (broker, admin) = start(&data, WAYS[0], &[]);
    let first = name(&admin);
    fs::create_dir(shelf.path("monday.partial")).expect("new");
    let said = refused(&["backup", &shelf.path("monday"), "--admin", &admin]);
    assert!(said.contains("monday.partial is of a backup that was not finished"), "{said}");
    fs::remove_dir(shelf.path("monday.partial")).expect("it is empty");
    succeeds(&["backup", &shelf.path("monday"), "--admin", &admin]);
    broker.stop();
    for data in [&data, &shelf.restore("monday")] {
        let (broker, admin) = start(data, WAYS[0], &[]);
        assert_eq!(name(&admin), first);
        broker.stop();
    }
}
