//! The log's files on a real file system, and whole logs on them through every way of writing.

#[path = "../examples/writers/mod.rs"]
mod writers;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use wal::log::append::Class;
use wal::recovery::Unproven;
use wal::{
    AppendError, ClusterId, Config, Log, LogId, LogIdentity, Mono, NewRecord, NodeId, RangeId,
    RecoveryOptions, Request, SegmentId, SegmentInput, files, recover,
};
use writers::Writer;

const IDENTITY: LogIdentity = LogIdentity { cluster: ClusterId(1), node: NodeId(2), log: LogId(3) };

/// A directory serves one process at a time, and says so.
#[test]
fn a_directory_in_use_is_refused() {
    let data = tempfile::tempdir().expect("a directory");
    let lock = files::open_directory(data.path()).expect("free");
    assert!(matches!(files::open_directory(data.path()), Err(files::OpenError::InUse)));
    drop(lock);
    assert!(files::open_directory(data.path()).is_ok());
}

/// A directory of a later version is refused, and left as it is.
#[test]
fn a_directory_of_another_format_is_refused() {
    let data = tempfile::tempdir().expect("a directory");
    drop(files::open_directory(data.path()).expect("new"));
    let format = data.path().join("format");
    assert_eq!(fs::read_to_string(&format).expect("written"), "hermod data format 1\n");
    fs::write(&format, "hermod data format 2\n").expect("writable");
    let Err(files::OpenError::Format(found)) = files::open_directory(data.path()) else { panic!("refused") };
    assert_eq!(found, "hermod data format 2\n");
}

/// Logs and segments are listed by number; what an interrupted creation left is removed.
#[test]
fn directories_are_listed_in_order() {
    let data = tempfile::tempdir().expect("a directory");
    for log in [12, 0, 7] {
        files::log_directory(data.path(), LogId(log)).expect("created");
    }
    assert_eq!(files::list_logs(data.path()).expect("readable"), [LogId(0), LogId(7), LogId(12)]);
    let directory = files::log_directory(data.path(), LogId(7)).expect("there already");
    for segment in [0x10, 0x9, 0xa] {
        files::allocate_segment(&directory, SegmentId(segment), 8192, None).expect("space");
    }
    fs::write(directory.join("0000000b.new"), b"half").expect("writable");
    let segments = files::list_segments(&directory).expect("readable");
    assert_eq!(segments, [SegmentId(0x9), SegmentId(0xa), SegmentId(0x10)]);
    assert!(!directory.join("0000000b.new").exists());
}

/// A segment is zeros to its last byte; a recycled one keeps its blocks, and one of another size is replaced.
#[test]
fn segments_are_allocated_and_recycled() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, bytes) = (directory.path(), 3 << 20);
    files::allocate_segment(path, SegmentId(1), bytes, None).expect("space");
    let content = fs::read(files::segment_path(path, SegmentId(1))).expect("readable");
    assert!(content.len() as u64 == bytes && content.iter().all(|byte| *byte == 0));
    fs::write(files::segment_path(path, SegmentId(1)), vec![7; content.len()]).expect("writable");
    files::allocate_segment(path, SegmentId(2), bytes, Some(SegmentId(1))).expect("renamed");
    let content = fs::read(files::segment_path(path, SegmentId(2))).expect("readable");
    assert!(content.iter().all(|byte| *byte == 7), "a rename, no copy");
    files::allocate_segment(path, SegmentId(3), 8192, Some(SegmentId(2))).expect("replaced");
    assert_eq!(files::list_segments(path).expect("readable"), [SegmentId(3)]);
    assert_eq!(fs::metadata(files::segment_path(path, SegmentId(3))).expect("there").len(), 8192);
}

/// An attempt to recycle a file may rename it and fail after that; the next attempt found nothing to recycle
/// and failed for ever.
#[test]
fn a_file_that_was_renamed_already_is_no_error() {
    let directory = tempfile::tempdir().expect("a directory");
    files::allocate_segment(directory.path(), SegmentId(5), 8192, Some(SegmentId(4))).expect("made anew");
    assert_eq!(files::list_segments(directory.path()).expect("readable"), [SegmentId(5)]);
}

/// What does not fit fails before anything is written, and leaves nothing behind.
#[test]
fn a_segment_larger_than_the_disk_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let available = files::space_available(directory.path()).expect("a file system");
    assert!(available > 0);
    let refused = files::allocate_segment(directory.path(), SegmentId(1), 1 << 50, None);
    assert!(refused.is_err());
    assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 0);
}

/// Settling leaves the content as it was read.
#[test]
fn settling_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    files::allocate_segment(directory.path(), SegmentId(1), 16384, None).expect("space");
    let path = files::segment_path(directory.path(), SegmentId(1));
    let content: Vec<u8> = (0..16384_u32).map(|at| at.to_le_bytes()[0]).collect();
    fs::write(&path, &content).expect("writable");
    let unproven = [Unproven { segment: SegmentId(1), offset: 4096, bytes: 8192 }];
    files::settle(directory.path(), &unproven).expect("settled");
    assert_eq!(fs::read(&path).expect("readable"), content);
}

/// Three lives of a log on real files: what was acknowledged in each is read back in the next, and segments
/// are recycled on the way.
fn survives_restarts(writer: impl Fn(&Path) -> Writer) {
    let data = tempfile::tempdir().expect("a directory");
    let directory = files::log_directory(data.path(), IDENTITY.log).expect("created");
    let config = Config { segment_bytes: 64 << 10, linger_ns_max: 0, ..Config::new(IDENTITY) };
    let mut expected: Vec<Vec<u8>> = Vec::new();
    for life in 0..3_u8 {
        let names = files::list_segments(&directory).expect("readable");
        let maps = names.iter().map(|name| files::map_segment(&directory, *name).expect("a segment"));
        let maps: Vec<_> = names.iter().copied().zip(maps).collect();
        let inputs: Vec<SegmentInput<'_>> =
            maps.iter().map(|(segment, bytes)| SegmentInput { segment: *segment, bytes }).collect();
        let recovery = recover(&IDENTITY, &inputs, &RecoveryOptions::default()).expect("whole");
        files::settle(&directory, &recovery.unproven()).expect("settled");
        let found: Vec<_> = recovery.records().map(|record| record.payload.to_vec()).collect();
        assert_eq!(
            found.iter().filter(|payload| payload[1] == 1).collect::<Vec<_>>(),
            expected.iter().collect::<Vec<_>>()
        );
        let shared = maps.iter().map(|(segment, bytes)| (*segment, Arc::clone(bytes))).collect();
        let mut log = Log::resume(config, recovery.resume(), shared);
        for record in recovery.records().filter(|record| record.payload[1] == 1) {
            log.live(record.position, record.bytes);
        }
        log.start_reclaiming();
        drop(maps);
        let mut writer = writer(&directory);
        for turn in 0..200_u8 {
            let lives = u8::from(turn % 50 == 0);
            let payload = [&[life, lives, turn][..], &[turn; 900]].concat();
            append(&mut log, &mut writer, &directory, &payload, lives == 1);
            if lives == 1 {
                expected.push(payload);
            }
        }
        assert_eq!(log.durable().next(), log.next_lsn(), "every turn waited for its commit");
    }
}

/// One turn with one record, which dies at once unless it `lives`; waits for its commit.
fn append(log: &mut Log, writer: &mut Writer, directory: &Path, payload: &[u8], lives: bool) {
    let record = NewRecord { range: RangeId(1), kind: 1, version: 1, metadata: &[], payload };
    loop {
        match log.append(Mono(1), Class::Ordinary, &record) {
            Ok(appended) if lives => {
                assert!(appended.lsn == log.next_lsn().previous());
                break;
            }
            Ok(appended) => break log.dead(appended.position, appended.bytes),
            Err(AppendError::SegmentsBehind) => turn(log, writer, directory),
            Err(error) => panic!("{error:?}"),
        }
    }
    log.hurry();
    turn(log, writer, directory);
}

fn turn(log: &mut Log, writer: &mut Writer, directory: &Path) {
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    log.flush(Mono(1), &mut requests);
    for request in requests {
        match request {
            Request::Flush(commit) => {
                writer.submit(&commit, log).expect("submitted");
                writer.close_before(commit.writes[0].segment);
                writer.reap(true, &mut answers).expect("reaped");
            }
            Request::AllocateSegment { segment, bytes, recycle } => {
                files::allocate_segment(directory, segment, bytes, recycle).expect("space");
                log.on_segment_ready(segment, 77 * u64::from(segment.0));
            }
            Request::RemoveSegment(segment) => files::remove_segment(directory, segment).expect("there"),
            Request::MapSegment(segment) => {
                log.on_mapped(segment, files::map_segment(directory, segment).expect("there"));
            }
            Request::Prefetch(segment) => log.on_prefetched(segment),
        }
    }
    for (number, result) in answers {
        assert_eq!(result, Ok(()));
        log.on_flushed(Mono(1), number, result);
    }
}

#[test]
fn a_log_written_by_the_ring_survives_restarts() {
    survives_restarts(|directory| Writer::ring(directory).expect("io_uring"));
}

#[test]
fn a_log_written_by_a_thread_survives_restarts() {
    survives_restarts(Writer::thread);
}

#[test]
fn a_log_written_by_stores_survives_restarts() {
    survives_restarts(Writer::mapped);
}
