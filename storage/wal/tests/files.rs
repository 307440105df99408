//! The log's files on a real file system.

use std::fs;

use wal::recovery::Unproven;
use wal::{LogId, SegmentId, files};

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

/// A segment with a second name keeps its bytes under it, whether it is to be recycled or removed; with one name left it
/// is recycled again.
#[test]
fn a_segment_with_two_names_is_not_recycled() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, second) = (directory.path().join("log"), directory.path().join("second"));
    [&path, &second].iter().for_each(|path| fs::create_dir(path).expect("new"));
    for segment in [1, 2] {
        files::allocate_segment(&path, SegmentId(segment), 8192, None).expect("space");
        fs::write(files::segment_path(&path, SegmentId(segment)), [7; 8192]).expect("writable");
    }
    files::link_segments(&path, &second).expect("one file system");
    files::allocate_segment(&path, SegmentId(3), 8192, Some(SegmentId(1))).expect("made anew");
    files::remove_segment(&path, SegmentId(2)).expect("it is there");
    assert_eq!(files::list_segments(&path).expect("readable"), [SegmentId(3)]);
    assert_eq!(fs::read(files::segment_path(&path, SegmentId(3))).expect("readable"), [0; 8192]);
    for segment in [1, 2] {
        assert_eq!(fs::read(files::segment_path(&second, SegmentId(segment))).expect("readable"), [7; 8192]);
    }
    files::link_segments(&path, &second).expect("one file system");
    fs::remove_dir_all(&second).expect("it is there");
    fs::write(files::segment_path(&path, SegmentId(3)), [8; 8192]).expect("writable");
    files::allocate_segment(&path, SegmentId(4), 8192, Some(SegmentId(3))).expect("renamed");
    assert_eq!(fs::read(files::segment_path(&path, SegmentId(4))).expect("readable"), [8; 8192]);
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
