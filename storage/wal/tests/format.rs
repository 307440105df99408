//! Golden bytes of every format, and every decoder against garbage.

mod host;

use host::{Host, inputs};
use wal::format::segment_table::{self, SegmentTable};
use wal::format::{HeaderError, SegmentHeader};
use wal::simulated_disk::Random;
use wal::{Lsn, RangeId, RecoveryOptions, SegmentId, inspect, recover};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a segment's file, from `from` on.
fn file(host: &Host, segment: SegmentId) -> Vec<u8> {
    let files = host.disk.segments();
    files.into_iter().find(|(name, _)| *name == segment).expect("the file").1
}

/// A segment header, byte by byte. A change here is a new format version.
#[test]
fn a_segment_header_is_these_bytes() {
    let header = SegmentHeader {
        identity: host::IDENTITY,
        segment: SegmentId(0x0a0b_0c0d),
        sequence: 3,
        salt: 0x0102_0304_0506_0708,
        base: Lsn(99),
        next_segment: SegmentId(0x0a0b_0c0e),
    };
    let mut block = vec![0xff; 4096];
    header.encode(&mut block);
    let golden = [
        "4845524d4f44574c",                 // magic HERMODWL
        "01000000",                         // version
        "07000000",                         // log
        "22221111000000000000000000000000", // cluster
        "3300000000000000",                 // node
        "0300000000000000",                 // sequence
        "0807060504030201",                 // salt
        "6300000000000000",                 // base LSN
        "0d0c0b0a",                         // segment
        "0e0c0b0a",                         // next segment
        "83ba8d819043e140",
    ];
    assert_eq!(hex(&block[..80]), golden.concat());
    assert!(block[80..].iter().all(|byte| *byte == 0));
    assert_eq!(SegmentHeader::decode(&block), Ok(header));
    for at in 0..80 {
        block[at] ^= 0x10;
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderError::Blank), "byte {at} is covered");
        block[at] ^= 0x10;
    }
}

/// A record, its header, and the table in front of it, byte by byte.
#[test]
fn records_are_these_bytes() {
    let mut host = Host::new();
    let record = host.append(0xaabb, b"payload");
    host.turn();
    let bytes = file(&host, record.position.segment);
    let table = [
        "56a2104ff7dea274",
        "688952c7656aa6d0",
        "0100000000000000",                 // LSN
        "0000000000000000",                 // previous
        "00000000000000000000000000000000", // range: the log's own
        "10000000",                         // length
        "10000000",                         // of metadata
        "01000000",                         // behind
        "0000",                             // kind
        "0100",                             // version
        "00000000000000000000000000000000", // no segments, no ranges
    ];
    assert_eq!(hex(&bytes[4096..4176]), table.concat());
    let golden = [
        "2a6ed215115ce588",
        "74129cf0ef42d04c",
        "0200000000000000",                 // LSN
        "0000000000000000",                 // previous
        "bbaa0000000000000000000000000000", // range
        "0b000000",                         // length
        "04000000",                         // of metadata
        "02000000",                         // behind
        "0100",                             // kind
        "0100",                             // version
        "6d657461",                         // metadata
        "7061796c6f6164",                   // payload
        "0000000000",                       // padding
    ];
    assert_eq!(record.position.offset(), 4176);
    assert_eq!(hex(&bytes[4176..4256]), golden.concat());
    assert!(bytes[4256..].iter().all(|byte| *byte == 0));
}

/// A segment table with a segment, a damaged one and a range that has left.
#[test]
fn a_segment_table_is_these_bytes() {
    let golden = [
        "02000000",                         // segments
        "01000000",                         // ranges
        "0000000000000000",                 //
        "05000000",                         // segment
        "00000000",                         // flags
        "0100000000000000",                 // sequence
        "0a00000000000000",                 // base LSN
        "1400000000000000",                 // last LSN
        "06000000",                         // segment
        "01000000",                         // flags: damaged
        "0200000000000000",                 // sequence
        "1500000000000000",                 // base LSN
        "1e00000000000000",                 // last LSN
        "cc000000000000000000000000000000", // range
        "1900000000000000",                 // last LSN
    ]
    .concat();
    let bytes: Vec<u8> = (0..golden.len() / 2)
        .map(|at| u8::from_str_radix(&golden[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect();
    let entry = |segment, sequence, base, last, damaged| segment_table::Entry {
        segment: SegmentId(segment),
        sequence,
        base: Lsn(base),
        last: Lsn(last),
        damaged,
    };
    let table = SegmentTable {
        entries: vec![entry(5, 1, 10, 20, false), entry(6, 2, 21, 30, true)],
        forgotten: vec![segment_table::Forgotten { range: RangeId(0xcc), last: Lsn(25) }],
    };
    assert_eq!(segment_table::decode(&bytes), Some(table.clone()));
    assert_eq!(segment_table::encode(&table.entries, &table.forgotten), bytes);
    assert_eq!(segment_table::decode(&bytes[..bytes.len() - 1]), None);
}

/// Whatever is in the files, recovery, verify and dump come to an answer, and a table is a table or none.
#[test]
fn garbage_is_judged_and_never_believed() {
    let mut host = Host::new();
    for at in 0..60_u8 {
        let record = host.append(u128::from(at % 3) + 1, &vec![at; usize::from(at) * 30]);
        if at % 4 == 0 {
            host.log.dead(record.position, record.bytes);
        }
        host.turn();
    }
    let whole = host.kill();
    let mut random = Random::new(4);
    for _ in 0..1500 {
        let mut files = whole.clone();
        for _ in 0..=random.below(6) {
            let file = random.index(files.len());
            let bytes = &mut files[file].1;
            let (from, length) = (random.index(bytes.len()), random.index(9000));
            let to = (from + length).min(bytes.len());
            match random.below(4) {
                0 => bytes[from] ^= 1 << random.below(8),
                1 => bytes[from..to].fill(0),
                2 => bytes[from..to].iter_mut().for_each(|byte| *byte = random.number().to_le_bytes()[0]),
                _ => bytes.truncate(from),
            }
        }
        let inputs = inputs(&files);
        let options = RecoveryOptions { quarantine: true, ..RecoveryOptions::default() };
        let recovery = recover(&host::IDENTITY, &inputs, &options).expect("no whole header is foreign");
        for record in recovery.records() {
            let original = record.payload.iter().all(|byte| usize::from(*byte) * 30 == record.payload.len());
            assert!(original, "a record that was never appended");
        }
        inspect::verify(&inputs).expect("a log of ours");
        inspect::dump(&inputs, None, &mut String::new()).expect("a log of ours");
        let table: Vec<u8> = (0..random.below(200)).map(|_| random.below(3).to_le_bytes()[0]).collect();
        if let Some(table) = segment_table::decode(&table) {
            assert!(table.entries.len() * 32 + table.forgotten.len() * 24 < 200);
        }
    }
}
