//! The state of a range, written piece by piece while it goes on changing. The same bytes stand in a file of
//! the data directory and travel between nodes.
//!
//! ```text
//!  0         8         12    16        32      48        56      64     72      80
//! ┌─────────┬─────────┬─────┬─────────┬───────┬─────────┬───────┬──────┬───────┬───────┬──────────────────────
//! │ magic   │ version │ 0   │ cluster │ range │ number  │ index │ term │ wall  │ check │ chunk, chunk, … the
//! │ 8       │ u32     │ u32 │ u128    │ u128  │ u64     │ u64   │ u64  │ u64   │ u64   │ last one says so
//! └─────────┴─────────┴─────┴─────────┴───────┴─────────┴───────┴──────┴───────┴───────┴──────────────────────
//! chunk
//!  0       8        12      16      24        28
//! ┌───────┬────────┬───────┬───────┬─────────┬─────────┬────────────────────────────┐
//! │ check │ length │ flags │ index │ key end │ key end │ item, item, … to the end   │   length counts what is
//! │ u64   │ u32    │ u32   │ u64   │ u32     │ bytes   │                            │   behind itself
//! └───────┴────────┴───────┴───────┴─────────┴─────────┴────────────────────────────┘
//! item
//! ┌──────┬───────┬─────┬───────┐
//! │ key  │ value │ key │ value │
//! │ u32  │ u32   │     │       │
//! └──────┴───────┴─────┴───────┘
//! ```
//!
//! A chunk speaks for all keys behind the previous chunk's `key end`, up to its own (the last one, flag 1:
//! up to the end), and says which of them exist, and with which values, at `index`. So an entry up to `index`
//! is skipped for a key of the chunk whether the key exists or not, and the entries from the lowest index on,
//! which is that of the first chunk and of the header, make the state whole: it is fuzzy, and exact.
//! `check` is xxh3-64 over what follows it in the header or chunk; that of a chunk is seeded with the
//! header's, so that no chunk counts in another checkpoint.

mod read;
mod write;

pub use read::{RestoreError, Restored, restore, verify};
pub use write::Chunk;
pub(crate) use write::Writer;

use wal::{ClusterId, RangeId};

use crate::identity::{LogIndex, Term, Wall};

/// First bytes of a checkpoint.
pub const MAGIC: [u8; 8] = *b"HERMODCP";
/// The version this crate writes and reads.
pub const VERSION: u32 = 1;
/// In front of the chunks.
pub const HEADER_BYTES: usize = 88;
const _: () = assert!(HEADER_BYTES == 8 + 4 + 4 + 16 + 16 + 8 + 8 + 8 + 8 + 8);
/// In front of a chunk's items, without the key.
const CHUNK_BYTES: usize = 28;
const _: () = assert!(CHUNK_BYTES == 8 + 4 + 4 + 8 + 4);
const FLAG_LAST: u32 = 1;

/// What a checkpoint says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Whose.
    pub cluster: ClusterId,
    /// Of which range.
    pub range: RangeId,
    /// Counts the checkpoints of a replica, from 1.
    pub number: u64,
    /// The lowest index at which any key stands.
    pub index: LogIndex,
    /// Term of that entry.
    pub term: Term,
    /// Time of that entry.
    pub wall: Wall,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::format::tests::{damage, hex};
    use crate::identity::MessageId;
    use crate::machine::{Apply, Command, Effects, StateMachine};

    #[derive(Default, Debug, PartialEq)]
    struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

    impl StateMachine for Map {
        type Effect = ();
        type Outcome = ();

        fn apply(&mut self, _: &Apply<'_>, _: &Command<'_>, _: &mut Effects<()>) {}

        fn references(&self, _: &mut dyn FnMut(MessageId)) {}

        fn checkpoint(&self, after: Option<&[u8]>, chunk: &mut Chunk) -> bool {
            for (key, value) in &self.0 {
                if after.is_none_or(|after| &key[..] > after) {
                    if chunk.is_full() {
                        return false;
                    }
                    chunk.put(key, value);
                }
            }
            true
        }

        fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
            self.0.insert(key.to_vec(), value.to_vec());
            Ok(())
        }
    }

    const EXPECTED: (ClusterId, RangeId, u64) = (ClusterId(1), RangeId(2), 3);

    fn written() -> (Map, Vec<u8>) {
        let items = [("a", "1"), ("bb", "22"), ("c", ""), ("d", "4")];
        let map =
            Map(items.iter().map(|(key, value)| (key.as_bytes().into(), value.as_bytes().into())).collect());
        let header = Header {
            cluster: EXPECTED.0,
            range: EXPECTED.1,
            number: EXPECTED.2,
            index: LogIndex(10),
            term: Term(4),
            wall: Wall(5),
        };
        let mut out = Vec::new();
        let mut writer = Writer::begin(header, &mut out);
        let mut index = LogIndex(10);
        while !writer.chunk(index, 16, |after, chunk| map.checkpoint(after, chunk), &mut out) {
            index = index.next();
        }
        (map, out)
    }

    /// The bytes of version 1: header, a chunk with an end, the last chunk.
    #[test]
    fn golden_checkpoint() {
        let golden = concat!(
            "4845524d4f4443500100000000000000",
            "01000000000000000000000000000000",
            "02000000000000000000000000000000",
            "03000000000000000a0000000000000004000000000000000500000000000000",
            "7815ae3fc52a1fe0",
            "6b51877aea3f7b1728000000000000000a00000000000000020000006262",
            "01000000010000006131",
            "020000000200000062623232",
            "be777524776a2a6223000000010000000b000000000000000000000001000000000000006301000000010000006434",
        );
        assert_eq!(hex(&written().1), golden);
    }

    /// What was written comes back, and each interval stands at its own index, whether a key is there or not.
    #[test]
    fn a_checkpoint_comes_back() {
        let (map, bytes) = written();
        let mut machine = Map::default();
        let (header, restored) = restore(&bytes, EXPECTED, &mut machine).unwrap();
        assert_eq!(machine, map);
        assert_eq!((header.index, header.term, header.wall), (LogIndex(10), Term(4), Wall(5)));
        let stands =
            |key: &str| (1..20).take_while(|index| restored.has(key.as_bytes(), LogIndex(*index))).count();
        assert_eq!(
            ["a", "aa", "bb", "bba", "c", "cx", "d", "zz"].map(stands),
            [10, 10, 10, 11, 11, 11, 11, 11]
        );
        assert_eq!(restored.greatest(), LogIndex(11));
        assert!(!Restored::default().has(b"a", LogIndex(1)));
    }

    /// Another's checkpoint, and another version's, are refused by name.
    #[test]
    fn foreign_checkpoints_are_refused() {
        let (_, bytes) = written();
        let of = |expected| restore(&bytes, expected, &mut Map::default()).unwrap_err();
        for expected in
            [(ClusterId(9), RangeId(2), 3), (ClusterId(1), RangeId(9), 3), (ClusterId(1), RangeId(2), 4)]
        {
            assert!(matches!(of(expected), RestoreError::Foreign(_)));
        }
        let mut later = bytes.clone();
        later[8] = 2;
        let check = xxhash_rust::xxh3::xxh3_64(&later[..HEADER_BYTES - 8]);
        later[HEADER_BYTES - 8..HEADER_BYTES].copy_from_slice(&check.to_le_bytes());
        assert_eq!(restore(&later, EXPECTED, &mut Map::default()).err(), Some(RestoreError::Version(2)));
    }

    /// No damage goes unseen. Method: every cut, every single bit, and 50 000 seeded damages.
    #[test]
    fn damage_is_seen() {
        let (_, bytes) = written();
        let refused = |bytes: &[u8]| restore(bytes, EXPECTED, &mut Map::default()).is_err();
        for end in 0..bytes.len() {
            assert!(refused(&bytes[..end]), "cut at {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&bytes), "bit {bit}");
        }
        damage(&bytes, 50_000, |damaged| assert!(damaged == bytes || refused(damaged)));
    }
}
