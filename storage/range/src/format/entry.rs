//! Hot path. An entry of the Raft log.
//!
//! ```text
//! record in the log
//!  metadata                                                               payload
//!  0       8      16         24       32                                  ┌─────────────────────┐
//! ┌───────┬──────┬──────────┬────────┬──────────────────────────────────┐ │ the commands'       │
//! │ index │ term │ sequence │ commit │ batch (rkyv), or nothing         │ │ payloads, one after │
//! │ u64   │ u64  │ u64      │ u64    │                                  │ │ the other           │
//! └───────┴──────┴──────────┴────────┴──────────────────────────────────┘ └─────────────────────┘
//!
//! content: what Raft carries, the same on every replica; empty for a leader's first entry
//!  0             4
//! ┌─────────────┬───────┬──────────┐
//! │ batch bytes │ batch │ payloads │
//! │ u32         │ rkyv  │          │
//! └─────────────┴───────┴──────────┘
//!
//! batch: rkyv 0.8, little-endian, unaligned, 32-bit relative pointers
//!   wall       u64        milliseconds since the Unix epoch
//!   bodies     Vec<u8>    the commands' bodies, one after the other
//!   ends       Vec<u32>   where each body ends
//!   payloads   Vec<u32>   where each payload ends
//! ```
//!
//! `commit` is what the replica knew to be committed when it wrote the record.

use rkyv::{Archive, Serialize};

use super::{DecodeError, Reader, length};
use crate::identity::{LogIndex, Term, Wall};

/// The part of the metadata that is the replica's own.
pub const HEADER_BYTES: usize = 32;
const _: () = assert!(HEADER_BYTES == 8 + 8 + 8 + 8);

/// What an entry's record says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryHeader {
    /// Place in the Raft log.
    pub index: LogIndex,
    /// Term of the leader that proposed it.
    pub term: Term,
    /// Order among the replica's records.
    pub sequence: u64,
    /// Known to be committed at the time.
    pub commit: LogIndex,
}

impl EntryHeader {
    /// Appends the header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.index.0.to_le_bytes());
        out.extend_from_slice(&self.term.0.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.commit.0.to_le_bytes());
    }

    /// The header in front of a record's metadata, and the batch behind it.
    pub fn decode(metadata: &[u8]) -> Result<(EntryHeader, &[u8]), DecodeError> {
        let mut reader = Reader(metadata);
        let header = EntryHeader {
            index: LogIndex(reader.u64()?),
            term: Term(reader.u64()?),
            sequence: reader.u64()?,
            commit: LogIndex(reader.u64()?),
        };
        Ok((header, reader.0))
    }
}

/// Commands that were proposed together.
#[derive(Archive, Serialize, Default)]
pub(crate) struct BatchV1 {
    pub(crate) wall: u64,
    pub(crate) bodies: Vec<u8>,
    pub(crate) ends: Vec<u32>,
    pub(crate) payloads: Vec<u32>,
}

/// Raft's content of a batch and its payloads.
pub(crate) fn encode_content(batch: &BatchV1, payloads: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + batch.bodies.len() + 8 * batch.ends.len() + 64 + payloads.len());
    out.extend_from_slice(&[0; 4]);
    let mut out =
        rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(batch, out).expect("memory takes every batch");
    let bytes = length(out.len() - 4);
    out[..4].copy_from_slice(&bytes.to_le_bytes());
    out.extend_from_slice(payloads);
    out
}

/// Cuts Raft's content into the batch, still archived, and the payloads. Empty content has neither.
pub(crate) fn split_content(content: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    if content.is_empty() {
        return Ok((&[], &[]));
    }
    let mut reader = Reader(content);
    let bytes = reader.u32()? as usize;
    let batch = reader.bytes(bytes)?;
    Ok((batch, reader.0))
}

/// Raft's content again, from a record's batch and payload.
pub(crate) fn join_content(batch: &[u8], payload: &[u8]) -> Vec<u8> {
    if batch.is_empty() {
        return Vec::new();
    }
    let mut out = Vec::with_capacity(4 + batch.len() + payload.len());
    out.extend_from_slice(&length(batch.len()).to_le_bytes());
    out.extend_from_slice(batch);
    out.extend_from_slice(payload);
    out
}

/// The commands of an entry, read in place.
#[derive(Clone, Copy)]
pub(crate) struct Commands<'a> {
    batch: Option<&'a ArchivedBatchV1>,
    payloads: &'a [u8],
}

impl<'a> Commands<'a> {
    /// Checks everything the accessors rely on.
    pub(crate) fn decode(batch: &'a [u8], payloads: &'a [u8]) -> Result<Commands<'a>, DecodeError> {
        if batch.is_empty() {
            return Ok(Commands { batch: None, payloads: &[] });
        }
        let batch = rkyv::access::<ArchivedBatchV1, rkyv::rancor::Failure>(batch)
            .map_err(|_| DecodeError::Invalid)?;
        let ascends = |ends: &[rkyv::rend::unaligned::u32_ule], total: usize| {
            ends.is_sorted_by_key(|end| end.to_native())
                && ends.last().is_some_and(|end| end.to_native() as usize == total)
        };
        let whole = batch.ends.len() == batch.payloads.len()
            && ascends(&batch.ends, batch.bodies.len())
            && ascends(&batch.payloads, payloads.len());
        if whole { Ok(Commands { batch: Some(batch), payloads }) } else { Err(DecodeError::Invalid) }
    }

    pub(crate) fn wall(&self) -> Option<Wall> {
        self.batch.map(|batch| Wall(batch.wall.to_native()))
    }

    pub(crate) fn count(&self) -> usize {
        self.batch.map_or(0, |batch| batch.ends.len())
    }

    /// Body and payload of a command.
    pub(crate) fn get(&self, ordinal: usize) -> (&'a [u8], &'a [u8]) {
        let batch = self.batch.expect("an entry with commands");
        let bodies = cut(&batch.ends, ordinal);
        (&batch.bodies[bodies], &self.payloads[cut(&batch.payloads, ordinal)])
    }
}

/// Where a command is: its body in the batch, its payload among the payloads.
pub(crate) type CommandPlace = (std::ops::Range<usize>, std::ops::Range<usize>);

/// Finds one command; none if there is no such. Checks this one's place alone, so that it costs the same
/// however many there are.
pub(crate) fn find_command(
    batch: &[u8],
    payload_bytes: usize,
    ordinal: u32,
) -> Result<Option<CommandPlace>, DecodeError> {
    if batch.is_empty() {
        return Ok(None);
    }
    let archived =
        rkyv::access::<ArchivedBatchV1, rkyv::rancor::Failure>(batch).map_err(|_| DecodeError::Invalid)?;
    let ordinal = ordinal as usize;
    if archived.ends.len() != archived.payloads.len() {
        return Err(DecodeError::Invalid);
    }
    if ordinal >= archived.ends.len() {
        return Ok(None);
    }
    let (body, payload) = (cut(&archived.ends, ordinal), cut(&archived.payloads, ordinal));
    let inside = body.start <= body.end
        && body.end <= archived.bodies.len()
        && payload.start <= payload.end
        && payload.end <= payload_bytes;
    if !inside {
        return Err(DecodeError::Invalid);
    }
    let bodies_at = archived.bodies.as_ptr() as usize - batch.as_ptr() as usize;
    Ok(Some((bodies_at + body.start..bodies_at + body.end, payload)))
}

fn cut(ends: &[rkyv::rend::unaligned::u32_ule], at: usize) -> std::ops::Range<usize> {
    let begin = if at == 0 { 0 } else { ends[at - 1].to_native() as usize };
    begin..ends[at].to_native() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::{damage, hex};

    fn batch() -> (BatchV1, Vec<u8>) {
        let batch = BatchV1 {
            wall: 1_700_000_000_000,
            bodies: b"onetwo".to_vec(),
            ends: vec![3, 6],
            payloads: vec![0, 5],
        };
        (batch, b"bytes".to_vec())
    }

    /// The bytes of version 1, which stand in data that exists.
    #[test]
    fn golden_entry() {
        let mut out = Vec::new();
        let header = EntryHeader { index: LogIndex(7), term: Term(3), sequence: 9, commit: LogIndex(6) };
        header.encode(&mut out);
        assert_eq!(hex(&out), "0700000000000000030000000000000009000000000000000600000000000000");
        assert_eq!(EntryHeader::decode(&out), Ok((header, &[][..])));
        let (batch, payloads) = batch();
        let content = encode_content(&batch, &payloads);
        let golden = concat!(
            "36000000",
            "6f6e6574776f",
            "0300000006000000",
            "0000000005000000",
            "0068e5cf8b010000",
            "e2ffffff06000000",
            "e0ffffff02000000",
            "e0ffffff02000000",
            "6279746573"
        );
        assert_eq!(hex(&content), golden);
    }

    /// What was encoded is read, and joins to the same bytes again.
    #[test]
    fn content_is_cut_and_joined() {
        let (batch, payloads) = batch();
        let content = encode_content(&batch, &payloads);
        let (archived, beside) = split_content(&content).unwrap();
        assert_eq!(join_content(archived, beside), content);
        let commands = Commands::decode(archived, beside).unwrap();
        assert_eq!(commands.wall(), Some(Wall(1_700_000_000_000)));
        assert_eq!(commands.count(), 2);
        assert_eq!(commands.get(0), (&b"one"[..], &b""[..]));
        assert_eq!(commands.get(1), (&b"two"[..], &b"bytes"[..]));
        let (body, payload) = find_command(archived, beside.len(), 1).unwrap().unwrap();
        assert_eq!((&archived[body], &beside[payload]), (&b"two"[..], &b"bytes"[..]));
        assert_eq!(find_command(archived, beside.len(), 2), Ok(None));
        assert_eq!(find_command(archived, beside.len() - 1, 1), Err(DecodeError::Invalid));
        assert_eq!(find_command(&[], 0, 0), Ok(None));
        assert_eq!(split_content(&[]), Ok((&[][..], &[][..])));
        assert_eq!(join_content(&[], &[]), Vec::<u8>::new());
        assert_eq!(Commands::decode(&[], &[]).unwrap().count(), 0);
    }

    /// Damaged content is refused or read within its bounds. Method: 200 000 seeded damages.
    #[test]
    fn damaged_content_stays_in_bounds() {
        let (batch, payloads) = batch();
        let content = encode_content(&batch, &payloads);
        let mut read = 0;
        damage(&content, 200_000, |bytes| {
            let Ok((archived, beside)) = split_content(bytes) else { return };
            let Ok(commands) = Commands::decode(archived, beside) else { return };
            for ordinal in 0..commands.count() {
                let (body, payload) = commands.get(ordinal);
                let found = find_command(archived, beside.len(), u32::try_from(ordinal).unwrap());
                let (at, range) = found.unwrap().unwrap();
                assert_eq!((&archived[at], &beside[range]), (body, payload));
                read += body.len() + payload.len();
            }
        });
        assert!(read > 0, "some damage touches only what nobody can check");
    }
}
