//! Writing a checkpoint: one bounded chunk after the other.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{CHUNK_BYTES, FLAG_LAST, HEADER_BYTES, Header, MAGIC, VERSION};
use crate::format::length;
use crate::identity::LogIndex;

/// Keys and values of one chunk, as a state machine fills it.
pub struct Chunk {
    items: Vec<u8>,
    bytes_max: usize,
    last_key: Vec<u8>,
}

impl Chunk {
    pub(crate) fn new(bytes_max: usize) -> Chunk {
        Chunk { items: Vec::new(), bytes_max, last_key: Vec::new() }
    }

    /// Is it time to stop? A full chunk still takes what is put.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.bytes_max
    }

    /// Takes a key and its value.
    ///
    /// # Panics
    /// When the keys do not ascend, or one is empty.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        assert!(key > &self.last_key[..], "keys ascend and are not empty");
        self.items.extend_from_slice(&length(key.len()).to_le_bytes());
        self.items.extend_from_slice(&length(value.len()).to_le_bytes());
        self.items.extend_from_slice(key);
        self.items.extend_from_slice(value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
    }
}

/// A checkpoint that is being written.
pub(crate) struct Writer {
    pub(crate) header: Header,
    seed: u64,
    /// Bytes so far.
    pub(crate) offset: u64,
    /// Keys up to here are done.
    after: Option<Vec<u8>>,
}

impl Writer {
    /// Begins a checkpoint; the header goes to `out`.
    pub(crate) fn begin(header: Header, out: &mut Vec<u8>) -> Writer {
        let begin = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&header.cluster.0.to_le_bytes());
        out.extend_from_slice(&header.range.0.to_le_bytes());
        for value in [header.number, header.index.0, header.term.0, header.wall.0] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        let seed = xxh3_64(&out[begin..]);
        out.extend_from_slice(&seed.to_le_bytes());
        assert_eq!(out.len() - begin, HEADER_BYTES, "as drawn");
        Writer { header, seed, offset: 0, after: None }
    }

    /// Appends the chunk of the next keys, which stand at `index`; true when it was the last. `fill` is
    /// [`StateMachine::checkpoint`](crate::StateMachine::checkpoint).
    pub(crate) fn chunk(
        &mut self,
        index: LogIndex,
        bytes_max: usize,
        fill: impl FnOnce(Option<&[u8]>, &mut Chunk) -> bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut chunk = Chunk::new(bytes_max);
        if let Some(after) = &self.after {
            chunk.last_key.clone_from(after);
        }
        let last = fill(self.after.as_deref(), &mut chunk);
        assert!(last || self.after.as_deref() != Some(&chunk.last_key[..]), "a chunk comes forward");
        let key_end: &[u8] = if last { &[] } else { &chunk.last_key };
        let begin = out.len();
        let bytes = CHUNK_BYTES - 12 + key_end.len() + chunk.items.len();
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&length(bytes).to_le_bytes());
        out.extend_from_slice(&if last { FLAG_LAST } else { 0 }.to_le_bytes());
        out.extend_from_slice(&index.0.to_le_bytes());
        out.extend_from_slice(&length(key_end.len()).to_le_bytes());
        out.extend_from_slice(key_end);
        out.extend_from_slice(&chunk.items);
        let check = xxh3_64_with_seed(&out[begin + 8..], self.seed);
        out[begin..begin + 8].copy_from_slice(&check.to_le_bytes());
        self.after = Some(chunk.last_key);
        last
    }
}
