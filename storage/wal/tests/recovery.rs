//! The crash rules one by one, each on a log made for it.

mod host;

use host::{Host, inputs, quarantined, recovered};
use wal::format::record_header::KIND_MAX;
use wal::{Lsn, RangeId, RecoveryError, SegmentId, inspect, snapshot};

/// Everything acknowledged is there after a kill, in order, and the log goes on in a new segment.
#[test]
fn a_recovered_log_continues_in_a_new_segment() {
    let mut host = Host::new();
    let before = host.append(5, b"one");
    host.turn();
    let files = host.kill();
    let inputs = inputs(&files);
    let recovery = recovered(&inputs).expect("whole");
    let payloads: Vec<&[u8]> = recovery.records().map(|record| record.payload).collect();
    assert_eq!(payloads, [b"one"]);
    host.resume(&recovery);
    let after = host.append(5, b"two");
    assert_ne!(before.position.segment, after.position.segment);
    assert_eq!(after.lsn, recovery.next_lsn().next(), "the table of the new segment came first");
}

/// Beyond the durable LSN the log ends at the first hole, whatever follows, and what followed stays hidden
/// when the LSNs are given again.
#[test]
fn a_cut_tail_never_comes_back() {
    let mut host = Host::new();
    host.append(5, b"acknowledged");
    host.turn();
    let lost = host.append(5, &[1; 3000]);
    host.append(5, b"after the hole");
    host.turn();
    let mut files = host.kill();
    let file = files.iter_mut().find(|(segment, _)| *segment == lost.position.segment).expect("the tail");
    // The first block of the second commit never reached the disk.
    file.1[lost.position.offset()..lost.position.offset() + 512].fill(0);
    host.disk.flip(lost.position.segment, lost.position.offset(), 0);
    let inputs_cut = inputs(&files);
    let recovery = recovered(&inputs_cut).expect("only what nobody proved is missing");
    assert_eq!(recovery.next_lsn(), lost.lsn);
    assert_eq!(recovery.cut().map(|cut| (cut.at, cut.records)), Some((lost.lsn, 1)));
    host.resume(&recovery);
    host.append(5, b"new");
    host.turn();
    let files = host.kill();
    let inputs = inputs(&files);
    let recovery = recovered(&inputs).expect("whole");
    let payloads: Vec<&[u8]> = recovery.records().map(|record| record.payload).collect();
    assert_eq!(payloads, [&b"acknowledged"[..], b"new"]);
    assert_eq!(recovery.cut(), None);
}

/// A recycled file's former life has another salt: its records do not continue the new ones, even where
/// their LSNs would.
#[test]
fn a_recycled_file_does_not_show_its_former_life() {
    let mut host = Host::new();
    let first = host.append(5, b"one");
    host.turn();
    host.append(5, b"two");
    host.turn();
    let mut files = host.kill();
    let at = files.iter().position(|(segment, _)| *segment == first.position.segment).expect("the tail");
    let mut other = Host::new();
    // The same log with another salt: one block of it lies behind the first commit.
    other.log.append_mark(other.now).expect("room");
    other.turn();
    let (table, block) = (4096..8192, 8192..12288);
    let stale = files[at].1[block.clone()].to_vec();
    let mut header = wal::format::SegmentHeader::decode(&files[at].1).expect("begun");
    header.salt += 1;
    header.encode(&mut files[at].1[..4096]);
    files[at].1[table].fill(0);
    files[at].1[block].copy_from_slice(&stale);
    let inputs = inputs(&files);
    let recovery = recovered(&inputs).expect("an empty log");
    assert_eq!((recovery.next_lsn(), recovery.records().count()), (Lsn(1), 0));
}

/// Damage below the durable LSN is refused with its place; a quarantining start goes on without the range,
/// and so does every later one, until the range begins anew.
#[test]
fn a_quarantined_range_stays_left_out() {
    let mut host = Host::new();
    let lost = host.append(5, b"lost");
    host.append(6, b"of another range");
    host.turn();
    host.append(5, b"left");
    host.turn();
    host.kill();
    host.disk.flip(lost.position.segment, lost.position.offset() + 70, 3);
    let files = host.disk.segments();
    let damaged = inputs(&files);
    let Err(RecoveryError::Damaged(damage)) = recovered(&damaged) else { panic!("damage is refused") };
    assert_eq!((damage[0].first, damage[0].last), (lost.lsn, lost.lsn));
    assert_eq!(damage[0].segment, Some(lost.position.segment));
    let recovery = quarantined(&damaged);
    assert_eq!(recovery.quarantine().touched, [RangeId(5)]);
    let shown: Vec<&[u8]> = recovery.records().map(|record| record.payload).collect();
    assert_eq!(shown, [b"of another range"]);
    host.resume(&recovery);
    host.append(5, b"anew");
    host.turn();
    let files = host.kill();
    let inputs = inputs(&files);
    let recovery = recovered(&inputs).expect("accepted by the start before");
    let shown: Vec<&[u8]> = recovery.records().map(|record| record.payload).collect();
    assert_eq!(shown, [&b"of another range"[..], b"anew"]);
    assert_eq!(recovery.damage_accepted().len(), 1);
}

/// A segment that the table lists and that is gone is damage; one that was reclaimed is not.
#[test]
fn a_missing_segment_is_damage_and_a_reclaimed_one_is_not() {
    let mut host = Host::new();
    let mut records = Vec::new();
    while records.last().is_none_or(|last: &wal::Appended| last.position.segment.0 < 3) {
        records.push(host.append(5, &[9; 1000]));
        host.turn();
    }
    let gone = records[0].position.segment;
    let all = host.disk.segments();
    let without: Vec<_> = all.into_iter().filter(|(segment, _)| *segment != gone).collect();
    let Err(RecoveryError::Damaged(damage)) = recovered(&inputs(&without)) else { panic!("refused") };
    assert!(damage[0].missing && damage[0].segment == Some(gone));
    for dead in records.iter().filter(|record| record.position.segment == gone) {
        host.log.dead(dead.position, dead.bytes);
    }
    host.turn();
    host.turn();
    let all = host.kill();
    let without: Vec<_> = all.into_iter().filter(|(segment, _)| *segment != gone).collect();
    let inputs = inputs(&without);
    let recovery = recovered(&inputs).expect("nothing that counts is missing");
    assert!(recovery.segments_kept().all(|segment| segment != gone));
}

/// What reclaiming moves says so: a replica must not take it for an overwrite.
#[test]
fn a_moved_record_is_marked() {
    let mut host = Host::new();
    let kept = host.append(5, b"kept");
    host.turn();
    while let Ok(dead) = host.try_append(6, &[1; 900])
        && dead.position.segment.0 < 3
    {
        host.log.dead(dead.position, dead.bytes);
        host.turn();
    }
    let mut moved = Vec::new();
    while moved.is_empty() {
        moved = host.reclaim(|position| position == kept.position).1;
    }
    assert_eq!(moved[0].0, kept.position);
    let read = host.log.read(moved[0].1.position).expect("readable");
    assert!(read.header().moved && read.header().kind == 1 && read.payload() == b"kept");
    let files = host.kill();
    let inputs = inputs(&files);
    let recovery = recovered(&inputs).expect("whole");
    let copies: Vec<bool> = recovery
        .records()
        .filter(|record| record.payload == b"kept")
        .map(|record| record.header.moved)
        .collect();
    assert_eq!(copies.last(), Some(&true));
}

/// A range that has left is not shown again, though its records are still in the files.
#[test]
fn a_forgotten_range_is_not_shown_again() {
    let mut host = Host::new();
    let left = host.append(5, b"left");
    host.append(6, b"stays");
    host.turn();
    host.log.forget_range(RangeId(5));
    host.log.dead(left.position, left.bytes);
    host.turn();
    let files = host.kill();
    let inputs = inputs(&files);
    let recovery = recovered(&inputs).expect("whole");
    let shown: Vec<&[u8]> = recovery.records().map(|record| record.payload).collect();
    assert_eq!(shown, [b"stays"]);
}

/// A target that cannot be reached does not have the same bytes copied for ever.
#[test]
fn a_target_out_of_reach_copies_nothing_twice() {
    let mut host = Host::with(wal::Config { live_percent_target: 75, ..host::config() });
    for _ in 0..60 {
        host.append(5, &[3; 700]);
        host.turn();
    }
    let turns = (0..300).filter(|_| host.reclaim(|_| true).0.records > 0).count();
    let copied_late = (0..50).any(|_| host.reclaim(|_| true).0.records > 0);
    assert!(turns > 0 && !copied_late, "{turns} turns copied");
}

/// A record above a quarter of a segment has a file of its own size, which leaves when it is dead.
#[test]
fn a_large_record_has_its_own_file() {
    let mut host = Host::new();
    let payload = vec![4; 40_000];
    let refused = host.try_append(5, &payload);
    assert_eq!(refused, Err(wal::AppendError::SegmentNeeded));
    host.turn();
    let large = host.append(5, &payload);
    host.append(5, b"small");
    host.turn();
    let size = |host: &Host| {
        let files = host.disk.segments();
        files.iter().find(|(segment, _)| *segment == large.position.segment).map(|(_, bytes)| bytes.len())
    };
    assert_eq!(size(&host), Some((4096 + 64 + 4 + 40_000_usize).next_multiple_of(4096)));
    assert_eq!(host.log.read(large.position).expect("readable").payload(), payload);
    host.log.dead(large.position, large.bytes);
    (0..4).for_each(|_| host.turn());
    assert_eq!(size(&host), None);
}

/// A large control record that came when no file could be made has one as soon as there is room, though nobody asks
/// again; below the watermark at once. New data has to wait for space.
#[test]
fn a_large_record_that_must_not_stop_gets_its_file() {
    let payload = vec![4; 40_000];
    let record = wal::NewRecord { range: RangeId(5), kind: 1, version: 1, metadata: &[], payload: &payload };
    for watermark in [false, true] {
        let mut host = Host::new();
        let mut faults = host.disk.faults();
        if watermark {
            host.log.on_space(false);
        } else {
            host.disk.set_faults(wal::simulated_disk::Faults { capacity_bytes: 0, ..faults });
            assert_eq!(host.try_append(5, &payload), Err(wal::AppendError::SegmentNeeded));
            host.turn();
            assert!(host.log.is_disk_full());
        }
        assert_eq!(host.try_append(5, &payload), Err(wal::AppendError::DiskFull));
        let needed = host.log.append(host.now, wal::Class::Control, &record);
        assert_eq!(needed, Err(wal::AppendError::SegmentNeeded));
        assert_eq!(host.log.next_timeout().is_some(), !watermark, "it asks again by itself");
        faults.capacity_bytes = 1 << 30;
        host.disk.set_faults(faults);
        host.turn();
        assert!(host.log.append(host.now, wal::Class::Control, &record).is_ok(), "{watermark}");
    }
}

/// A log of another node, and one of a later format, are refused and not touched.
#[test]
fn a_foreign_log_is_refused() {
    let mut host = Host::new();
    let record = host.append(5, b"one");
    host.turn();
    let mut files = host.kill();
    let foreign = wal::LogIdentity { node: wal::NodeId(99), ..host::IDENTITY };
    let refused = wal::recover(&foreign, &inputs(&files), &wal::RecoveryOptions::default());
    let found = RecoveryError::Foreign { segment: record.position.segment, found: host::IDENTITY };
    assert_eq!(refused.err(), Some(found));
    let file = files.iter_mut().find(|(segment, _)| *segment == record.position.segment).expect("begun");
    file.1[8] = 2;
    let check = xxhash_rust::xxh3::xxh3_64(&file.1[..72]);
    file.1[72..80].copy_from_slice(&check.to_le_bytes());
    let found = RecoveryError::Version { segment: record.position.segment, version: 2 };
    assert_eq!(recovered(&inputs(&files)).err(), Some(found));
}

/// verify and dump say in words what a start would find.
#[test]
fn verify_and_dump_name_the_damage() {
    let mut host = Host::new();
    let lost = host.append(5, b"lost");
    host.turn();
    host.append(6, b"later");
    host.turn();
    host.kill();
    let report = |host: &Host| {
        let files = host.disk.segments();
        inspect::verify(&inputs(&files)).expect("a log").expect("begun")
    };
    let whole = report(&host);
    assert_eq!((whole.records, whole.segments.len(), whole.durable), (3, 1, Lsn(2)));
    assert!(whole.to_string().ends_with("verdict: whole"), "{whole}");
    host.disk.flip(lost.position.segment, lost.position.offset() + 64, 0);
    let text = report(&host).to_string();
    assert!(text.contains("lost: LSN 2 to 2: damage in segment"), "{text}");
    assert!(text.contains("range 00000000000000000000000000000005 has lost records"), "{text}");
    assert!(text.ends_with("verdict: DAMAGED"), "{text}");
    let mut dumped = String::new();
    let files = host.disk.segments();
    inspect::dump(&inputs(&files), None, &mut dumped).expect("a log");
    let lines: Vec<&str> = dumped.lines().collect();
    assert!(lines[0].starts_with("1 ") && lines[0].ends_with("segment table"), "{dumped}");
    assert!(
        lines[1].contains("range 00000000000000000000000000000006 kind 1 v1 metadata 4 payload 5"),
        "{dumped}"
    );
    assert!(lines[2].starts_with("lost: LSN 2 to 2"), "{dumped}");
    assert_eq!(inspect::verify(&[]).expect("nothing is no error").map(|report| report.records), None);
}

/// Kinds above the greatest are the owner's mistake.
#[test]
#[should_panic(expected = "kinds are below 2^15")]
fn a_kind_with_the_highest_bit_is_refused() {
    let mut host = Host::new();
    let record =
        wal::NewRecord { range: RangeId(5), kind: KIND_MAX + 1, version: 1, metadata: &[], payload: &[] };
    let _ = host.log.append(host.now, wal::Class::Ordinary, &record);
}

/// Of the spare segments ordinary records leave those of `segments_reserved`, control records leave one, and
/// reclaiming takes that too: on a full disk acknowledgements and deletions go on.
#[test]
fn the_last_spares_are_for_control_records_and_reclaiming() {
    let mut host = Host::new();
    let mut faults = host.disk.faults();
    faults.capacity_bytes = host.disk.used_bytes();
    host.disk.set_faults(faults);
    let mut left = Vec::new();
    for class in [wal::Class::Ordinary, wal::Class::Control, wal::Class::Reclaim] {
        let record =
            wal::NewRecord { range: RangeId(5), kind: 1, version: 1, metadata: &[], payload: &[2; 900] };
        let refused = loop {
            match host.log.append(host.now, class, &record) {
                Ok(_) => host.turn(),
                // The log learns that the disk is full when it asks for the next segment.
                Err(wal::AppendError::SegmentsBehind) => host.turn(),
                Err(error) => break error,
            }
        };
        assert_eq!(refused, wal::AppendError::DiskFull);
        left.push(host.log.usage().segments_ready);
    }
    assert_eq!(left, [4, 1, 0]);
    assert!(host.log.is_disk_full());
    faults.capacity_bytes = 1 << 30;
    host.disk.set_faults(faults);
    host.turn();
    host.append(5, b"with space the log takes appends again, by itself");
}

/// With every spare used up and the disk full, deaths still make room: the last blocks of the last segment are
/// kept for the table that gives segments back.
#[test]
fn a_log_without_spares_can_still_give_segments_back() {
    let mut host = Host::new();
    let mut faults = host.disk.faults();
    faults.capacity_bytes = host.disk.used_bytes();
    host.disk.set_faults(faults);
    let mut appended = Vec::new();
    let record = wal::NewRecord { range: RangeId(5), kind: 1, version: 1, metadata: &[], payload: &[2; 900] };
    loop {
        match host.log.append(host.now, wal::Class::Reclaim, &record) {
            Ok(record) => appended.push(record),
            Err(wal::AppendError::SegmentsBehind) => {}
            Err(error) => break assert_eq!(error, wal::AppendError::DiskFull),
        }
        host.turn();
    }
    assert_eq!(host.log.usage().segments_ready, 0);
    for dead in appended {
        host.log.dead(dead.position, dead.bytes);
    }
    (0..6).for_each(|_| host.turn());
    host.append(5, b"in what was given back");
}

/// A spare's name tells nothing: a position into a life of a file that is over is an unknown segment.
#[test]
fn a_position_into_a_former_life_is_unknown() {
    let host = Host::new();
    let position = wal::Position { segment: SegmentId(4711), unit: 256 };
    assert_eq!(host.log.read(position).err(), Some(wal::log::read::ReadError::UnknownSegment));
}

/// A log can be taken as it was at any LSN from files that it has gone on writing to: it ends there, whole, whatever
/// the rest of each block and segment holds. Method: at each LSN of a log of several segments, and with a commit that
/// is written before an earlier one is.
#[test]
fn a_log_can_be_taken_as_it_was() {
    let mut host = Host::new();
    for number in 0..90_u8 {
        host.append(5 + u128::from(number % 3), &vec![number; usize::from(number) * 13]);
        if number % 4 != 0 {
            host.turn();
        }
    }
    host.turn();
    let durable = host.log.durable();
    let files = host.disk.segments();
    assert!(files.len() > 4 && durable > Lsn(90), "{} files, {durable}", files.len());
    for last in 1..=durable.0 {
        let taken = taken(&files, Lsn(last));
        let recovery = recovered(&inputs(&taken)).expect("nothing is missing");
        assert_eq!((recovery.next_lsn(), recovery.cut()), (Lsn(last + 1), None));
    }
    assert!(taken(&files, Lsn::NONE).iter().all(|(_, bytes)| bytes.is_empty()), "it had not begun");
}

/// The files of a log up to an LSN.
fn taken(files: &[(SegmentId, Vec<u8>)], last: Lsn) -> Vec<(SegmentId, Vec<u8>)> {
    let take = |(segment, bytes): &(SegmentId, Vec<u8>)| {
        let extent = snapshot::extent(&wal::SegmentInput { segment: *segment, bytes }, last).expect("ours");
        (*segment, bytes[..extent].to_vec())
    };
    files.iter().map(take).collect()
}
