//! What a replica remembers beside its entries. Written when it changes, before anything that rests on it is
//! said to a peer; of several the one with the greatest sequence counts.
//!
//! ```text
//!  0          8      16     24         32           40             48                  56           64          72
//! ┌──────────┬──────┬──────┬──────────┬────────────┬──────────────┬───────────────────┬────────────┬───────────┬────────┬────────┐
//! │ sequence │ term │ vote │ replica  │ truncated  │ truncated    │ truncated         │ checkpoint │ checkpoint│ voters │ voter… │
//! │ u64      │ u64  │ u64  │ u64      │ index u64  │ term u64     │ sequence u64      │ number u64 │ index u64 │ u32    │ u64    │
//! └──────────┴──────┴──────┴──────────┴────────────┴──────────────┴───────────────────┴────────────┴───────────┴────────┴────────┘
//! ```
//!
//! * Entries up to `truncated index` are no Raft log any more; term and sequence are that entry's. An entry
//!   behind it with a smaller sequence was overwritten.
//! * `checkpoint number` names the file that stands for the state at `checkpoint index`; 0 means none. So
//!   this record is the checkpoint's manifest: a file it does not name does not count.

use super::{DecodeError, Reader, length};
use crate::identity::{LogIndex, ReplicaId, Term};

/// Voters a group can have.
pub const VOTERS_MAX: usize = 64;

/// The content of a state record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateRecord {
    /// Order among the replica's records.
    pub sequence: u64,
    /// Raft's current term.
    pub term: Term,
    /// Whom the replica voted for in it; 0 is nobody.
    pub vote: ReplicaId,
    /// Which member of the group this is.
    pub replica: ReplicaId,
    /// The Raft log begins behind.
    pub truncated: Truncated,
    /// The file to start from.
    pub checkpoint: u64,
    /// The lowest index any of its keys stands at.
    pub checkpoint_index: LogIndex,
    /// The members that vote.
    pub voters: Vec<ReplicaId>,
}

/// The last entry that is no Raft log any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncated {
    /// Its place.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// Its sequence.
    pub sequence: u64,
}

impl StateRecord {
    /// Appends the record's metadata.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for value in [
            self.sequence,
            self.term.0,
            self.vote.0,
            self.replica.0,
            self.truncated.index.0,
            self.truncated.term.0,
            self.truncated.sequence,
            self.checkpoint,
            self.checkpoint_index.0,
        ] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&length(self.voters.len()).to_le_bytes());
        for voter in &self.voters {
            out.extend_from_slice(&voter.0.to_le_bytes());
        }
    }

    /// Reads a record's metadata.
    pub fn decode(metadata: &[u8]) -> Result<StateRecord, DecodeError> {
        let mut reader = Reader(metadata);
        let mut state = StateRecord {
            sequence: reader.u64()?,
            term: Term(reader.u64()?),
            vote: ReplicaId(reader.u64()?),
            replica: ReplicaId(reader.u64()?),
            truncated: Truncated {
                index: LogIndex(reader.u64()?),
                term: Term(reader.u64()?),
                sequence: reader.u64()?,
            },
            checkpoint: reader.u64()?,
            checkpoint_index: LogIndex(reader.u64()?),
            voters: Vec::new(),
        };
        let voters = reader.u32()? as usize;
        if voters > VOTERS_MAX {
            return Err(DecodeError::Invalid);
        }
        for _ in 0..voters {
            state.voters.push(ReplicaId(reader.u64()?));
        }
        reader.end()?;
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::{damage, hex};

    fn state() -> StateRecord {
        StateRecord {
            sequence: 1,
            term: Term(2),
            vote: ReplicaId(3),
            replica: ReplicaId(4),
            truncated: Truncated { index: LogIndex(5), term: Term(6), sequence: 7 },
            checkpoint: 8,
            checkpoint_index: LogIndex(9),
            voters: vec![ReplicaId(4), ReplicaId(10)],
        }
    }

    /// The bytes of version 1, which stand in data that exists.
    #[test]
    fn golden_state() {
        let mut out = Vec::new();
        state().encode(&mut out);
        let numbers: Vec<String> = (1..=9).map(|number| format!("{number:02x}00000000000000")).collect();
        let golden = format!("{}0200000004000000000000000a00000000000000", numbers.concat());
        assert_eq!(hex(&out), golden);
        assert_eq!(StateRecord::decode(&out), Ok(state()));
    }

    /// Damaged records are refused or read. Method: 100 000 seeded damages.
    #[test]
    fn damaged_states_are_decoded_or_refused() {
        let mut out = Vec::new();
        state().encode(&mut out);
        let mut refused = 0;
        damage(&out, 100_000, |bytes| {
            refused +=
                u32::from(StateRecord::decode(bytes).is_err_and(|error| error != DecodeError::Version(0)));
        });
        assert!(refused > 1000, "cut ones are refused");
        out.push(0);
        assert_eq!(StateRecord::decode(&out), Err(DecodeError::Invalid), "and longer ones");
    }
}
