//! What replicas of a range send each other. Whoever carries it may lose, repeat and reorder it.
//!
//! ```text
//!  0         2      3       4       20     28   36     44         52      60       68            76            84
//! ┌─────────┬──────┬───────┬───────┬──────┬────┬──────┬──────────┬───────┬────────┬─────────────┬─────────────┬────────────┬─────────┬─────────┬────────
//! │ version │ kind │ flags │ range │ from │ to │ term │ log term │ index │ commit │ commit term │ reject hint │ everywhere │ context │ entries │ entry …
//! │ u16     │ u8   │ u8    │ u128  │ u64  │ u64│ u64  │ u64      │ u64   │ u64    │ u64         │ u64         │ u64        │ u8, n B │ u32     │
//! └─────────┴──────┴───────┴───────┴──────┴────┴──────┴──────────┴───────┴────────┴─────────────┴─────────────┴────────────┴─────────┴─────────┴────────
//! entry
//! ┌───────┬──────┬────────┬─────────┐
//! │ index │ term │ length │ content │   content as in `entry`
//! │ u64   │ u64  │ u32    │         │
//! └───────┴──────┴────────┴─────────┘
//! ```
//!
//! Flag 1: rejected. `everywhere`: up to here every voter is known to have the log, so nobody needs it sent
//! again. The other fields are Raft's.

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use wal::RangeId;

use super::entry::{Commands, split_content};
use super::{DecodeError, Reader, VERSION, length};
use crate::identity::{LogIndex, ReplicaId};

const FLAG_REJECT: u8 = 1;
/// Raft's own kinds, by number; what is not here is not sent.
const KINDS: [(u8, MessageType); 9] = [
    (1, MessageType::MsgAppend),
    (2, MessageType::MsgAppendResponse),
    (3, MessageType::MsgRequestVote),
    (4, MessageType::MsgRequestVoteResponse),
    (5, MessageType::MsgHeartbeat),
    (6, MessageType::MsgHeartbeatResponse),
    (7, MessageType::MsgTimeoutNow),
    (8, MessageType::MsgRequestPreVote),
    (9, MessageType::MsgRequestPreVoteResponse),
];
/// The leader has nothing to say and will be silent: so may be its followers.
const KIND_SLEEP: u8 = 10;

/// A message as it was received: checked, and not yet acted upon.
#[derive(Clone, Debug)]
pub struct Received {
    /// For which range.
    pub range: RangeId,
    /// From which of its replicas.
    pub from: ReplicaId,
    /// To which.
    pub to: ReplicaId,
    pub(crate) everywhere: LogIndex,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Raft(Box<Message>),
    /// Up to `index` of `term` all is known to be everywhere and committed.
    Sleep {
        term: u64,
        index: u64,
    },
}

/// Appends the frame of a message; false, and nothing appended, for a kind that is not sent.
pub(crate) fn encode(range: RangeId, message: &Message, everywhere: LogIndex, out: &mut Vec<u8>) -> bool {
    let Some((kind, _)) = KINDS.iter().find(|(_, kind)| *kind == message.get_msg_type()) else {
        return false;
    };
    encode_kind(range, *kind, message, everywhere, out);
    true
}

/// Appends the frame that sends a follower to sleep.
pub(crate) fn encode_sleep(
    range: RangeId,
    (from, to): (ReplicaId, ReplicaId),
    (term, index): (u64, u64),
    out: &mut Vec<u8>,
) {
    let message = Message { from: from.0, to: to.0, term, index, ..Message::default() };
    encode_kind(range, KIND_SLEEP, &message, LogIndex(index), out);
}

fn encode_kind(range: RangeId, kind: u8, message: &Message, everywhere: LogIndex, out: &mut Vec<u8>) {
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.push(kind);
    out.push(if message.reject { FLAG_REJECT } else { 0 });
    out.extend_from_slice(&range.0.to_le_bytes());
    for value in [
        message.from,
        message.to,
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
        everywhere.0,
    ] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.push(u8::try_from(message.context.len()).expect("Raft's contexts are short"));
    out.extend_from_slice(&message.context);
    out.extend_from_slice(&length(message.entries.len()).to_le_bytes());
    for entry in &message.entries {
        out.extend_from_slice(&entry.index.to_le_bytes());
        out.extend_from_slice(&entry.term.to_le_bytes());
        out.extend_from_slice(&length(entry.data.len()).to_le_bytes());
        out.extend_from_slice(&entry.data);
    }
}

/// Reads a frame. The entries share its memory.
pub fn decode(frame: &Bytes) -> Result<Received, DecodeError> {
    let mut reader = Reader(frame);
    let version = reader.u16()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let (kind, flags) = (reader.u8()?, reader.u8()?);
    if flags & !FLAG_REJECT != 0 {
        return Err(DecodeError::Invalid);
    }
    let range = RangeId(reader.u128()?);
    let mut message = Message {
        from: reader.u64()?,
        to: reader.u64()?,
        term: reader.u64()?,
        log_term: reader.u64()?,
        index: reader.u64()?,
        commit: reader.u64()?,
        commit_term: reader.u64()?,
        reject_hint: reader.u64()?,
        reject: flags & FLAG_REJECT != 0,
        ..Message::default()
    };
    let everywhere = LogIndex(reader.u64()?);
    let context = reader.u8()? as usize;
    message.context = frame.slice_ref(reader.bytes(context)?);
    decode_entries(frame, &mut reader, &mut message)?;
    reader.end()?;
    let (from, to) = (ReplicaId(message.from), ReplicaId(message.to));
    if message.from == 0 || message.to == 0 || message.term == 0 {
        return Err(DecodeError::Invalid);
    }
    let what = if kind == KIND_SLEEP {
        What::Sleep { term: message.term, index: message.index }
    } else {
        let (_, kind) = KINDS.iter().find(|(number, _)| *number == kind).ok_or(DecodeError::Invalid)?;
        if *kind != MessageType::MsgAppend && !message.entries.is_empty() {
            return Err(DecodeError::Invalid);
        }
        message.set_msg_type(*kind);
        What::Raft(Box::new(message))
    };
    Ok(Received { range, from, to, everywhere, what })
}

fn decode_entries(frame: &Bytes, reader: &mut Reader<'_>, message: &mut Message) -> Result<(), DecodeError> {
    let count = reader.u32()?;
    let mut before = (message.index, message.log_term);
    // The count alone allocates nothing: every entry takes at least 20 bytes of the frame.
    for _ in 0..count {
        let (index, term) = (reader.u64()?, reader.u64()?);
        let bytes = reader.u32()? as usize;
        let content = reader.bytes(bytes)?;
        let follows = before.0.checked_add(1) == Some(index) && before.1 <= term && term <= message.term;
        if !follows {
            return Err(DecodeError::Invalid);
        }
        let (batch, payloads) = split_content(content)?;
        Commands::decode(batch, payloads)?;
        before = (index, term);
        message.entries.push(Entry { index, term, data: frame.slice_ref(content), ..Entry::default() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{BatchV1, encode_content};
    use crate::format::tests::{damage, hex};

    fn append() -> Message {
        let batch = BatchV1 { wall: 1, bodies: b"body".to_vec(), ends: vec![4], payloads: vec![7] };
        let data: Bytes = encode_content(&batch, b"payload").into();
        let mut message = Message {
            from: 1,
            to: 2,
            term: 9,
            log_term: 8,
            index: 40,
            commit: 39,
            entries: vec![
                Entry { index: 41, term: 8, data, ..Entry::default() },
                Entry { index: 42, term: 9, ..Entry::default() },
            ]
            .into(),
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgAppend);
        message
    }

    fn frame(message: &Message) -> Bytes {
        let mut out = Vec::new();
        assert!(encode(RangeId(0xAB), message, LogIndex(30), &mut out));
        out.into()
    }

    fn raft(received: Received) -> Message {
        let What::Raft(message) = received.what else { panic!("a message of Raft's") };
        *message
    }

    /// The bytes of version 1, which other nodes read.
    #[test]
    fn golden_message() {
        let mut message = Message { entries: Vec::new().into(), ..append() };
        message.set_msg_type(MessageType::MsgAppendResponse);
        message.reject = true;
        message.reject_hint = 38;
        message.commit_term = 7;
        message.context = Bytes::from_static(b"xy");
        let word = |value: u64| hex(&value.to_le_bytes());
        let golden = [
            "0100".into(),
            "02".into(),
            "01".into(),
            "ab000000000000000000000000000000".into(),
            [1, 2, 9, 8, 40, 39, 7, 38, 30].map(word).concat(),
            "027879".into(),
            "00000000".into(),
        ];
        let frame = frame(&message);
        assert_eq!(hex(&frame), golden.concat());
        let received = decode(&frame).unwrap();
        assert_eq!((received.range, received.from, received.to), (RangeId(0xAB), ReplicaId(1), ReplicaId(2)));
        assert_eq!(received.everywhere, LogIndex(30));
        assert_eq!(raft(received), message);
    }

    /// Entries go and come back, in the memory of the frame.
    #[test]
    fn entries_travel() {
        let frame = frame(&append());
        let message = raft(decode(&frame).unwrap());
        assert_eq!(message, append());
        let inside = frame.as_ptr_range();
        assert!(inside.contains(&message.entries[0].data.as_ptr()), "no copy");
    }

    /// What no replica sends is refused: holes, falling terms, terms to come, entries in a heartbeat.
    #[test]
    fn impossible_frames_are_refused() {
        let refused = |change: &dyn Fn(&mut Message)| {
            let mut message = append();
            change(&mut message);
            assert_eq!(decode(&frame(&message)).err(), Some(DecodeError::Invalid), "{message:?}");
        };
        refused(&|message| message.entries[1].index = 43);
        refused(&|message| message.entries[0].term = 7);
        refused(&|message| message.entries[1].term = 10);
        refused(&|message| message.from = 0);
        refused(&|message| message.entries[0].data = Bytes::from_static(&[1, 0, 0, 0, 7]));
        refused(&|message| message.set_msg_type(MessageType::MsgHeartbeat));
        let mut out = Vec::new();
        let mut message = append();
        message.set_msg_type(MessageType::MsgSnapshot);
        assert!(!encode(RangeId(1), &message, LogIndex(0), &mut out), "nor is it sent");
        let mut later = frame(&append()).to_vec();
        later[0] = 2;
        assert_eq!(decode(&later.into()).err(), Some(DecodeError::Version(2)));
    }

    /// Damaged frames are refused or decoded, and never more than their memory is taken. Method: 200 000
    /// seeded damages.
    #[test]
    fn damaged_frames_are_decoded_or_refused() {
        let (mut decoded, mut refused) = (0, 0);
        damage(&frame(&append()), 200_000, |bytes| {
            let frame = Bytes::copy_from_slice(bytes);
            match decode(&frame) {
                Ok(_) => decoded += 1,
                Err(_) => refused += 1,
            }
        });
        assert!(decoded > 1000 && refused > 1000, "{decoded} {refused}");
    }
}
