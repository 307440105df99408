//! What a replica writes into the log and sends to its peers. Little-endian everywhere, format version 1.
//!
//! A replica has two kinds of records: [`entry`], an entry of its Raft log with the payloads of its commands,
//! and [`state`], everything else it must remember. Every record carries the replica's `sequence`, which
//! counts what it wrote; a copy that reclaiming made has the number of the original. So recovery knows the
//! order of writes whatever was moved since, and these rules decide:
//!
//! * Of several records of one kind (and index) the one with the greatest sequence counts.
//! * Along the Raft log both index and sequence grow: an entry whose sequence is smaller than that of one
//!   with a smaller index was overwritten, and does not count.
//!
//! [`message`] is what goes between replicas. Raft's own types and their protobuf encoding appear in none.

pub mod entry;
pub mod message;
pub mod state;

/// Kind of a record of the log: an entry.
pub const KIND_ENTRY: u16 = 1;
/// Kind of a record of the log: the state of a replica.
pub const KIND_STATE: u16 = 2;
/// Version of both kinds.
pub const VERSION: u16 = 1;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early, or a length in them points outside.
    Truncated,
    /// A value that no writer of this version writes.
    Invalid,
    /// A version this crate does not know.
    Version(u16),
}

/// Takes values off the front of a slice.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(self.bytes(N)?.try_into().expect("as many as asked for"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Invalid) }
    }
}

/// The length of something whose size is bounded by `wal.record_bytes_max`, a u32.
pub(crate) fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("bounded by wal.record_bytes_max")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Write;

    pub(crate) fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut out, byte| {
            write!(out, "{byte:02x}").expect("a string takes all");
            out
        })
    }

    /// Shows `each` the bytes with up to four of them changed, or cut, or both.
    pub(crate) fn damage(bytes: &[u8], count: u64, mut each: impl FnMut(&[u8])) {
        for seed in 0..count {
            let random = |at: u64| xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), seed);
            let below =
                |at: u64, end: usize| usize::try_from(random(at) % end as u64).expect("it was a usize");
            let mut bytes = bytes.to_vec();
            if below(0, 3) == 0 {
                bytes.truncate(below(1, bytes.len()));
            }
            for change in 0..below(2, 5) as u64 {
                if !bytes.is_empty() {
                    let at = below(3 + change, bytes.len());
                    let [new, ..] = random(10 + change).to_le_bytes();
                    bytes[at] = if new < 64 { u8::MAX } else { new };
                }
            }
            each(&bytes);
        }
    }
}
