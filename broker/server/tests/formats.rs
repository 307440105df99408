//! Data that former versions wrote, served by this one: for each format of the data directory there is one in
//! `formats/`, as it was written when that format was new. What is in it, and that it is served, is told below, and
//! holds for what this version writes as well.
//!
//! A new format gets a new directory: `HERMOD_FORMAT_TO=DIR cargo test -p hermod --test formats this_version` writes
//! it. Those that are there are never written again.

#[path = "support/http.rs"]
mod http;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::Broker;
use support::data::{Data, WAYS};
use support::packets::{Connect, Heard, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, Wire};

/// For ever, as MQTT 5.0 says it: whoever reads this reads it years later.
const NEVER: u32 = u32::MAX;

/// The QoS 2 publish that is not released.
const UNRELEASED: u16 = 7;

/// The packet identifiers of the two QoS 2 messages that a client has taken half: not answered, and not completed.
const HALF: [u16; 2] = [1, 2];

fn persistent(id: &str, v5: bool) -> Connect<'_> {
    Connect { session_expiry_seconds: NEVER, ..Connect::persistent(id, v5) }
}

fn connect(broker: &Broker, connect: &Connect<'_>) -> (Wire, bool) {
    Wire::connect(broker.address(), connect).expect("it listens")
}

/// A client that comes back to its session.
fn return_to(broker: &Broker, client: &Connect<'_>) -> Wire {
    let (wire, present) = connect(broker, client);
    assert!(present, "{}: the session is lost", client.id);
    wire
}

fn publish(topic: &str, payload: &str, qos: u8, packet_id: u16) -> Publish {
    Publish { topic: topic.into(), payload: payload.into(), qos, packet_id, ..Publish::default() }
}

/// Sends a message and takes its acknowledgement; with QoS 2 up to PUBREC.
fn send(wire: &mut Wire, publish: &Publish) {
    wire.send(publish);
    let kind = if publish.qos == 1 { PUBACK } else { PUBREC };
    match wire.hear().expect("an answer") {
        Heard::Answer(answer, packet_id, reason) if reason < 0x80 => {
            assert_eq!((answer, packet_id), (kind, publish.packet_id));
        }
        heard => panic!("{heard:?} for {publish:?}"),
    }
}

fn message(wire: &mut Wire) -> Publish {
    match wire.hear().expect("a message") {
        Heard::Publish(publish) => publish,
        heard => panic!("{heard:?} instead of a message"),
    }
}

/// Whether a checkpoint of some range is there.
fn has_checkpoint(data: &Data) -> bool {
    let mut files = fs::read_dir(data.path().join("checkpoints")).expect("a start makes it");
    files.any(|file| file.expect("readable").path().extension().is_some_and(|it| it == "checkpoint"))
}

/// Writes a data directory in which everything is that is kept, and ends its broker in the middle.
fn write(data: &Data) {
    let mut command = data.command(&["--cores", "0,1"]);
    command.env("HERMOD__WAL__CHECKPOINT_LOG_BYTES", "65536");
    let broker = Broker::run(command);
    for (client, filter) in [
        (persistent("queue-5", true), "queue/#"),
        (persistent("queue-3", false), "queue/+"),
        (persistent("half", true), "half/#"),
        (persistent("heir", false), "wills/#"),
        (persistent("busy", true), "busy/#"),
    ] {
        let (mut wire, present) = connect(&broker, &client);
        assert!(!present);
        wire.subscribe(filter, 2).expect("it answers");
        wire.disconnect().expect("it closes");
    }
    // Until a checkpoint stands for the begin of a log.
    let (mut publisher, _) = connect(&broker, &Connect::clean("passing", true));
    let mut busy = return_to(&broker, &persistent("busy", true));
    let mut round = 0;
    while !has_checkpoint(data) {
        round += 1;
        assert!(round < 10_000, "no checkpoint");
        send(&mut publisher, &publish("busy/a", &"b".repeat(2000), 1, 1));
        let taken = message(&mut busy);
        busy.answer(PUBACK, taken.packet_id);
        busy.flush().expect("connected");
        send(&mut publisher, &Publish { retain: true, ..publish("kept/b", &"k".repeat(2000), 1, 2) });
    }
    for (topic, payload) in [("kept/a", "first"), ("kept/a", "second"), ("kept/c", "gone"), ("kept/c", "")] {
        send(&mut publisher, &Publish { retain: true, ..publish(topic, payload, 1, 3) });
    }
    for (topic, payload, packet_id) in [("half/a", "unanswered", 4), ("half/b", "uncompleted", 5)] {
        send(&mut publisher, &publish(topic, payload, 2, packet_id));
        publisher.answer(PUBREL, packet_id);
        assert_eq!(publisher.hear().expect("an answer"), Heard::Answer(PUBCOMP, packet_id, 0));
    }
    let mut half = return_to(&broker, &persistent("half", true));
    assert_eq!([message(&mut half).packet_id, message(&mut half).packet_id], HALF);
    half.answer(PUBREC, HALF[1]);
    assert_eq!(half.hear().expect("an answer"), Heard::Answer(PUBREL, HALF[1], 0));
    let (mut wire, _) = connect(&broker, &persistent("publisher", false));
    send(&mut wire, &publish("queue/a", "one", 1, 1));
    send(&mut wire, &publish("queue/a", "two", 2, UNRELEASED));
    send(&mut wire, &publish("queue/a", "three", 1, 2));
    let will = |id, v5, delay| Connect { will: Some(("wills/of", id, delay)), ..persistent(id, v5) };
    let connections = [will("dies", false, 0), will("lingers", true, NEVER)].map(|it| connect(&broker, &it));
    broker.kill();
    drop((connections, half, wire, busy, publisher));
}

/// Serves it, and finds everything.
fn serve(data: &Data) {
    let (code, report) = data.wal("verify", &[]);
    assert!(code == Some(0) && report.contains("verdict: whole"), "{report}");
    assert!(has_checkpoint(data), "there is one, and a log behind it");
    let mut broker = data.start_by(WAYS[0], &["--cores", "0", "--admin", "127.0.0.1:0"]);
    let admin = http::address(&mut broker);

    let mut publisher = return_to(&broker, &persistent("publisher", false));
    send(&mut publisher, &Publish { dup: true, ..publish("queue/a", "two", 2, UNRELEASED) });
    publisher.answer(PUBREL, UNRELEASED);
    assert_eq!(publisher.hear().expect("an answer"), Heard::Answer(PUBCOMP, UNRELEASED, 0));
    send(&mut publisher, &publish("queue/a", "end", 1, 1));
    for (id, v5) in [("queue-5", true), ("queue-3", false)] {
        let mut wire = return_to(&broker, &persistent(id, v5));
        let queue = [0; 4].map(|_| message(&mut wire));
        let of = |qos: u8| -> Vec<_> {
            queue.iter().filter(|it| it.qos == qos).map(|it| it.payload.as_str()).collect()
        };
        assert_eq!((of(1), of(2)), (vec!["one", "three", "end"], vec!["two"]), "{id}: each once, in order");
    }

    let mut half = return_to(&broker, &persistent("half", true));
    let mut owed = [half.hear(), half.hear()].map(|heard| heard.expect("two are owed"));
    owed.sort_by_key(|heard| matches!(heard, Heard::Answer(..)));
    let unanswered = Publish { dup: true, ..publish("half/a", "unanswered", 2, HALF[0]) };
    assert_eq!(owed, [Heard::Publish(unanswered), Heard::Answer(PUBREL, HALF[1], 0)]);

    let mut heir = return_to(&broker, &persistent("heir", false));
    assert_eq!(message(&mut heir).payload, "dies");
    let lingers = http::get(admin, "/api/v1/sessions/lingers").json();
    assert_eq!(lingers["will"]["topic"], "wills/of", "{lingers}");
    assert_eq!(lingers["will"]["delay_seconds"], NEVER, "{lingers}");

    let (mut reader, _) = connect(&broker, &Connect::clean("reader", true));
    reader.subscribe("kept/#", 1).expect("it answers");
    let kept = [0; 2].map(|_| message(&mut reader)).map(|it| (it.topic, it.payload));
    let expected = [("kept/a".to_owned(), "second".to_owned()), ("kept/b".to_owned(), "k".repeat(2000))];
    assert_eq!(BTreeSet::from(kept), BTreeSet::from(expected));
    send(&mut publisher, &Publish { retain: true, ..publish("kept/c", "new", 1, 2) });
    assert_eq!(message(&mut reader).payload, "new", "and no other before");
    broker.stop();
}

fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/formats/{format}"))
}

/// A copy of a directory, which a test may change.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it can be made");
    for entry in fs::read_dir(from).expect("readable").map(|entry| entry.expect("readable")) {
        let to = to.join(entry.file_name());
        match entry.file_type().expect("known").is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("there is space")),
        }
    }
}

/// What is written now is served; by way of a backup, which leaves out what a data directory keeps in reserve.
#[test]
fn what_this_version_writes_is_served() {
    let (data, folder) = (Data::new(), tempfile::tempdir().expect("a directory"));
    write(&data);
    let backup = folder.path().join("backup");
    let restored = Data::inside(folder.path());
    let hermod = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_hermod")).args(arguments).output();
        let output = output.expect("the binary starts");
        assert!(output.status.success(), "{output:?}");
    };
    let text = |path: &Path| path.display().to_string();
    hermod(&["backup", &text(&backup), "--data", &text(data.path())]);
    hermod(&["restore", &text(&backup), "--data", &text(restored.path())]);
    if let Some(to) = std::env::var_os("HERMOD_FORMAT_TO") {
        copy(restored.path(), Path::new(&to));
    }
    serve(&restored);
}

/// Every format that there has been is served as it was written then.
#[test]
fn what_former_versions_wrote_is_served() {
    let mut served = 0;
    for format in (1..).take_while(|format| golden(*format).is_dir()) {
        let folder = tempfile::tempdir().expect("a directory");
        let data = Data::inside(folder.path());
        copy(&golden(format), data.path());
        serve(&data);
        served += 1;
    }
    let format = format!("hermod data format {served}\n");
    let newest = fs::read_to_string(golden(served).join("format")).expect("each format has its directory");
    assert_eq!(newest, format);
    let fresh = Data::new();
    fresh.start(&["--cores", "0"]).stop();
    let written = fs::read_to_string(fresh.path().join("format")).expect("a start writes it");
    assert_eq!(written, format, "what is written now has a directory in tests/formats");
}

/// A data directory whose checkpoint is gone is not backed up as if it were whole.
#[test]
fn a_backup_without_its_checkpoint_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().join("data");
    copy(&golden(1), &data);
    let mut checkpoints = fs::read_dir(data.join("checkpoints")).expect("readable");
    fs::remove_file(checkpoints.next().expect("one").expect("readable").path()).expect("it is there");
    let to = folder.path().join("backup");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hermod"));
    let output = command.arg("backup").arg(&to).arg("--data").arg(&data).output().expect("the binary starts");
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success() && error.contains("has not all of its checkpoints"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
}

/// A newer format, of the directory or of a segment alone, is refused with both versions; nothing is changed.
#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = Data::inside(folder.path());
    let refused = |says: &str| {
        let output = data.refused(&["--cores", "0"]);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(
            error.contains("has another format than this version knows") && error.contains(says),
            "{error}"
        );
    };
    copy(&golden(1), data.path());
    let format = data.path().join("format");
    fs::write(&format, "hermod data format 2\n").expect("writable");
    refused("\"hermod data format 2\", and not \"hermod data format 1\"");
    fs::copy(golden(1).join("format"), &format).expect("there is space");
    let mut segments = fs::read_dir(data.path().join("log-0000")).expect("readable");
    let segment = segments.next().expect("one").expect("readable").path();
    let whole = fs::read(&segment).expect("readable");
    let mut newer = whole.clone();
    newer[8] = 2;
    let check = xxhash_rust::xxh3::xxh3_64(&newer[..72]);
    newer[72..80].copy_from_slice(&check.to_le_bytes());
    fs::write(&segment, &newer).expect("writable");
    refused("has version 2, and not 1");
    assert_eq!(fs::read(&segment).expect("readable"), newer);
    fs::write(&segment, whole).expect("writable");
    serve(&data);
}

/// A record or a checkpoint of a newer version is refused with both versions, and is no damage that a quarantining start
/// would give up.
#[test]
fn what_a_newer_version_wrote_is_not_given_up() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = Data::inside(folder.path());
    copy(&golden(1), data.path());
    let refused = || {
        for arguments in [&["--cores", "0"][..], &["--cores", "0", "--quarantine"]] {
            let output = data.refused(arguments);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            let error = String::from_utf8(output.stderr).expect("text");
            assert!(error.contains("has another format than this version knows"), "{error}");
            assert!(error.contains("version 2, and not 1") && !error.contains("damaged"), "{error}");
        }
    };
    let (_, dump) = data.wal("dump", &["--log", "0"]);
    let last = dump.lines().rfind(|line| !line.ends_with("segment table")).expect("a record of a range");
    let (segment, offset) = last.split(' ').nth(1).and_then(|place| place.split_once('+')).expect("a place");
    let path = data.path().join(format!("log-0000/{segment}.seg"));
    let offset: usize = offset.parse().expect("a number");
    let whole = fs::read(&path).expect("readable");
    let mut newer = whole.clone();
    let salt = u64::from_le_bytes(newer[48..56].try_into().expect("8 bytes"));
    newer[offset + 62] = 2;
    let check = xxhash_rust::xxh3::xxh3_64_with_seed(&newer[offset + 8..offset + 64], salt);
    newer[offset..offset + 8].copy_from_slice(&check.to_le_bytes());
    fs::write(&path, newer).expect("writable");
    refused();
    fs::write(&path, whole).expect("writable");
    for entry in fs::read_dir(data.path().join("checkpoints")).expect("readable") {
        let path = entry.expect("readable").path();
        let mut newer = fs::read(&path).expect("readable");
        newer[8] = 2;
        let check = xxhash_rust::xxh3::xxh3_64(&newer[..80]);
        newer[80..88].copy_from_slice(&check.to_le_bytes());
        fs::write(path, newer).expect("writable");
    }
    refused();
    for entry in fs::read_dir(golden(1).join("checkpoints")).expect("readable") {
        let entry = entry.expect("readable");
        fs::copy(entry.path(), data.path().join("checkpoints").join(entry.file_name())).expect("space");
    }
    serve(&data);
}
