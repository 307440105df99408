//! The data directory, with real processes: whose it is, how it is found again after any end of the process, and
//! what happens when it is damaged or the disk is full.

#![expect(clippy::disallowed_methods, reason = "tests of a process need the clock")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use support::data::{Data, Small, WAYS};
use support::{Broker, DEADLINE};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it writes UTF-8")
}

/// The lines of `hermod wal dump`, without the log's own records.
fn records(data: &Data, log: &str) -> Vec<String> {
    let (code, text) = data.wal("dump", &["--log", log]);
    assert_eq!(code, Some(0), "{text}");
    let of_ranges = |line: &&str| line.contains(" range ") && !line.ends_with("segment table");
    text.lines().filter(of_ranges).map(str::to_owned).collect()
}

/// A start says where data is kept; the directory belongs to that process until it ends, and each start counts.
#[test]
fn a_directory_is_one_process_at_a_time() {
    let data = Data::new();
    let mut broker = data.start(&["--cores", "0"]);
    broker.wait_for_log(&format!("data: {}, 1 logs, start 1", data.path().display()));
    let output = data.refused(&["--cores", "0"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("the data directory {} is in use by another process", data.path().display());
    assert!(text(&output.stderr).contains(&expected), "{}", text(&output.stderr));
    let (code, text) = data.wal("verify", &[]);
    assert!(code == Some(1) && text.contains("stop the node first"), "{text}");
    broker.stop();
    data.start(&["--cores", "0"]).wait_for_log("1 logs, start 2");
}

/// `--data none` says that nothing is kept, and writes nothing.
#[test]
fn nothing_is_kept_where_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hermod"));
    command.args(["--listen", "tcp://127.0.0.1:0", "--data", "none"]).current_dir(folder.path());
    let mut broker = Broker::run(command);
    broker.wait_for_log("data: none, memory only");
    broker.stop();
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
}

/// Whatever the number of cores is at a later start, all logs are there: log i at core i modulo cores.
#[test]
fn another_number_of_cores_serves_everything() {
    let data = Data::new();
    let ranges = |log: &str| -> BTreeSet<String> {
        let records = records(&data, log);
        records.iter().map(|record| record.split(' ').nth(3).expect("a range").to_owned()).collect()
    };
    data.start_and_write(WAYS[0], &["--cores", "0,1"]).stop();
    let before: [BTreeSet<String>; 2] = [ranges("0"), ranges("1")];
    assert!(
        before.iter().all(|ranges| !ranges.is_empty()) && before[0].is_disjoint(&before[1]),
        "{before:?}"
    );
    for (start, cores) in [(2, "0"), (3, "1"), (4, "0,1")] {
        let mut broker = data.start(&["--cores", cores]);
        broker.wait_for_log(&format!("2 logs, start {start}"));
        broker.stop();
    }
    for (log, before) in ["0", "1"].iter().zip(before) {
        assert_eq!(ranges(log), before, "log {log}");
    }
}

/// `kill -9` at any moment of a start or later leaves a directory that the next start serves, whatever writes the
/// log; and an orderly stop leaves one that is whole to its last record.
#[test]
fn kill_9_leaves_a_log_that_is_whole() {
    for way in WAYS {
        let data = Data::new();
        for _ in 0..5 {
            data.start_by(way, &[]).kill();
            let (code, report) = data.wal("verify", &[]);
            assert_eq!(code, Some(0), "{way:?}: {report}");
        }
        data.start_and_write(way, &[]).stop();
        let (code, report) = data.wal("verify", &[]);
        assert!(code == Some(0) && report.contains("verdict: whole"), "{way:?}: {report}");
        for report in report.split_terminator("\n\n") {
            let last = |what: &str| {
                let line = report.lines().find(|line| line.contains(what)).expect("a line of the report");
                line.rsplit_once("LSN ").expect("an LSN").1.parse::<u64>().expect("a number")
            };
            // The mark at the end says of all before that it is on the disk.
            assert_eq!(last("known to be flushed") + 1, last("records: "), "{way:?}: {report}");
        }
    }
}

/// A byte that has changed is refused, with its place and what to do; `--quarantine` gives up the range it belongs
/// to, says so, and later starts go on without it.
#[test]
fn a_damaged_byte_is_refused_and_quarantined() {
    let data = Data::new();
    data.start_and_write(WAYS[0], &["--cores", "0"]).stop();
    let record = records(&data, "0").first().expect("the range's first state").clone();
    let fields: Vec<_> = record.split(' ').collect();
    let (place, range) = (fields[1], fields[3]);
    data.damage(0, place, 70);
    let output = data.refused(&["--cores", "0"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("is damaged:\n  lost: LSN ") && error.contains("--quarantine"), "{error}");
    let (code, report) = data.wal("verify", &[]);
    assert!(code == Some(1) && report.contains("verdict: DAMAGED"), "{report}");
    assert!(report.contains(&format!("range {range} has lost records")), "{report}");
    let mut broker = data.start(&["--cores", "0", "--quarantine"]);
    broker.wait_for_log("quarantine: log 0: lost: LSN ");
    broker.wait_for_log(&format!("quarantine: range {range} is given up: the sessions, "));
    broker.stop();
    let mut broker = data.start(&["--cores", "0"]);
    broker.wait_for_log("listening on");
    broker.stop();
    let name = u128::from_str_radix(range, 16).expect("a name").to_le_bytes();
    let catalog = fs::read(data.path().join("catalog")).expect("readable");
    assert!(!catalog.windows(name.len()).any(|bytes| bytes == name), "it does not come back");
    let (code, report) = data.wal("verify", &[]);
    // Unless the segment has left meanwhile, for nothing in it was needed.
    let known = report.contains("(accepted by an earlier start)") || report.contains("verdict: whole");
    assert!(code == Some(0) && known, "{report}");
}

/// A log whose directory is gone is not begun anew.
#[test]
fn a_missing_log_is_refused() {
    let data = Data::new();
    data.start_and_write(WAYS[0], &["--cores", "0,1"]).stop();
    fs::remove_dir_all(data.path().join("log-0001")).expect("it was there");
    let output = data.refused(&["--cores", "0,1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("its directory log-0001 is missing"), "{}", text(&output.stderr));
}

/// An fdatasync that fails ends the process in order: nothing is acknowledged any more, and nothing is tried
/// again. Method: the thread that writes where there is no ring has the call refused.
#[test]
fn a_failed_sync_ends_the_process() {
    let data = Data::new();
    let command = || {
        let mut command = data.command(&["--cores", "0", "--io", "epoll"]);
        command.stderr(std::process::Stdio::piped());
        command.spawn().expect("the binary starts").wait_with_output().expect("it ends by itself")
    };
    let output = support::without(libc::SYS_fdatasync, libc::EIO, command);
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{log}");
    assert!(log.contains("log 0 cannot be written: fdatasync: Input/output error"), "{log}");
    assert!(log.contains("stopped"), "{log}");
    data.start(&["--cores", "0"]).stop();
}

/// Connects with MQTT 5.0 and a clean session [MQTT-3.1.2-4].
fn connect(broker: &Broker) -> TcpStream {
    let mut stream = TcpStream::connect(broker.address()).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    stream
        .write_all(&[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 1, b'f'])
        .expect("connected");
    assert_eq!(packet(&mut stream), (0x20, 0));
    stream
}

/// Connects with MQTT 5.0 and this session expiry, in seconds; and whether its session was there.
fn resume(broker: &Broker, id: u8, expiry: u32) -> (TcpStream, bool) {
    let mut stream = TcpStream::connect(broker.address()).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let head = b"\x10\x13\x00\x04MQTT\x05\x00\x00\x00\x05\x11";
    let connect = [head.as_slice(), &expiry.to_be_bytes(), &[0, 1, id]].concat();
    stream.write_all(&connect).expect("it is open");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!((answer[0], answer[3]), (0x20, 0));
    (stream, answer[2] == 1)
}

/// Time without a process counts for the sessions of those who were connected when it was killed. Method: it is told
/// that the last one ended an hour ago; what another boot of the machine has said is not believed.
#[test]
fn sessions_expire_while_nobody_serves_them() {
    let data = Data::new();
    let connected_until_killed = || {
        let broker = data.start(&["--cores", "0"]);
        let (short, long) = (resume(&broker, b'a', 600), resume(&broker, b'b', 7_200));
        broker.kill();
        (short.1, long.1)
    };
    assert_eq!(connected_until_killed(), (false, false));
    let alive = data.path().join("alive");
    let said = fs::read_to_string(&alive).expect("it says until when it was there");
    let (boot, at) = said.trim_end().split_once(' ').expect("two words");
    let hour_ago = format!("{:020}\n", at.parse::<u64>().expect("milliseconds") - 3_600_000);
    let other_boot = boot.replace(|digit: char| digit.is_ascii_hexdigit(), "0");
    fs::write(&alive, format!("{other_boot} {hour_ago}")).expect("writable");
    assert_eq!(connected_until_killed(), (true, true));
    fs::write(&alive, format!("{boot} {hour_ago}")).expect("writable");
    assert_eq!(connected_until_killed(), (false, true));
}

/// Publishes a retained message with QoS 1: the reason code of its PUBACK.
fn publish_retained(stream: &mut TcpStream) -> u8 {
    stream.write_all(&[0x33, 8, 0, 1, b't', 0, 7, 0, b'x', b'y']).expect("connected");
    let (kind, reason) = packet(stream);
    assert_eq!(kind, 0x40);
    reason
}

/// A packet's first byte and its reason code, of CONNACK or PUBACK; 0 if it has none.
fn packet(stream: &mut TcpStream) -> (u8, u8) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a packet");
    let mut body = vec![0; usize::from(head[1])];
    stream.read_exact(&mut body).expect("all of it");
    (head[0], body.get(if head[0] == 0x20 { 1 } else { 2 }).copied().unwrap_or(0))
}

/// Below the watermark what is to be kept is refused with 0x97, and taken again when there is space; a disk that is
/// full at a first start keeps the log waiting, and no longer than it is.
#[test]
#[expect(clippy::print_stderr, reason = "a test that cannot be made says so")]
fn a_full_disk_is_waited_out() {
    let Some(small) = Small::new(4 << 20) else {
        return eprintln!("skipped: this needs the right to mount a tmpfs");
    };
    let filler = small.path().join("filler");
    fs::write(&filler, vec![1; (4 << 20) - (128 << 10)]).expect("that is less than there is");
    let data = Data::inside(small.path());
    let mut broker = data.start(&["--cores", "0"]);
    broker.wait_for_log("log 0: segments cannot be made: ");
    fs::remove_file(&filler).expect("it is there");
    broker.wait_for_log("log 0: segments can be made again");
    broker.stop();
    let command = || {
        let mut command = data.command(&["--cores", "0"]);
        command.env("HERMOD__WAL__SPACE_FREE_BYTES", "2097152");
        command
    };
    let mut broker = Broker::run(command());
    let mut client = connect(&broker);
    let published = |client: &mut TcpStream, reasons: &[u8]| {
        let deadline = Instant::now() + DEADLINE;
        while !reasons.contains(&publish_retained(client)) {
            assert!(Instant::now() < deadline, "no PUBACK with one of {reasons:02x?}");
        }
    };
    published(&mut client, &[0, 0x10]);
    fs::write(&filler, vec![1; 2 << 20]).expect("that is less than there is");
    broker.wait_for_log("disk full: ");
    published(&mut client, &[0x97]);
    fs::remove_file(&filler).expect("it is there");
    broker.wait_for_log("bytes are free again");
    published(&mut client, &[0, 0x10]);
    drop(client);
    broker.stop();
    assert_eq!(data.wal("verify", &[]).0, Some(0));
}

/// `hermod wal verify` reads the checkpoints that a start would read: one that is whole, that has changed, that is gone.
#[test]
fn verify_names_a_damaged_checkpoint() {
    let data = Data::new();
    let mut command = data.command(&["--cores", "0"]);
    command.env("HERMOD__WAL__CHECKPOINT_LOG_BYTES", "65536");
    let mut broker = Broker::run(command);
    broker.wait_for_log("listening on");
    let mut client = connect(&broker);
    let directory = data.path().join("checkpoints");
    let checkpoint = || {
        let entries = fs::read_dir(&directory).expect("a start makes it");
        let mut paths = entries.map(|entry| entry.expect("readable").path());
        paths.find(|path| path.extension().is_some_and(|extension| extension == "checkpoint"))
    };
    let deadline = Instant::now() + DEADLINE;
    while checkpoint().is_none() {
        assert!(Instant::now() < deadline, "no checkpoint is written");
        publish_retained(&mut client);
    }
    drop(client);
    broker.stop();
    let (code, report) = data.wal("verify", &[]);
    assert!(code == Some(0) && report.contains(" keys, whole"), "{report}");
    let path = checkpoint().expect("it is there");
    let whole = fs::read(&path).expect("readable");
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).expect("writable");
        let (code, report) = data.wal("verify", &[]);
        assert!(code == Some(1) && report.contains("DAMAGED: "), "{at}: {report}");
    }
    fs::remove_file(&path).expect("it is there");
    let (code, report) = data.wal("verify", &[]);
    assert!(code == Some(1) && report.contains("DAMAGED: "), "{report}");
}
