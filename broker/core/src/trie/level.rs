//! Hot path. One level of a path: how a node stores it and how a lookup compares it.
//!
//! Levels of up to 20 bytes, which is nearly all of them, live inside the node as three integers, so that comparing
//! two is three integer comparisons and no call. Longer ones live on the heap.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

/// Longest level, in bytes, that is stored inside its node.
const SHORT_BYTES_MAX: usize = 20;

/// `LevelKey::len` of a level that is not short; no short level has this length.
const LONG: u8 = u8::MAX;

/// A level as a node stores it. Bytes are packed little-endian and padded with zeros; `len` tells padding from content.
#[derive(Debug)]
pub(super) enum Level {
    Short { head: [u64; 2], tail: u32, len: u8 },
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<Level>() == 24);

/// A level of the path being looked up, packed once and then compared with any number of nodes.
pub(super) struct LevelKey<'a> {
    bytes: &'a [u8],
    head: [u64; 2],
    tail: u32,
    len: u8,
}

impl<'a> LevelKey<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let (head, tail, len) = match bytes.len() {
            0..8 => ([pack(bytes), 0], 0, bytes.len() as u8),
            8..16 => ([pack(&bytes[..8]), pack(&bytes[8..])], 0, bytes.len() as u8),
            16..=SHORT_BYTES_MAX => {
                ([pack(&bytes[..8]), pack(&bytes[8..16])], pack(&bytes[16..]) as u32, bytes.len() as u8)
            }
            _ => ([0, 0], 0, LONG),
        };
        Self { bytes, head, tail, len }
    }

    pub(super) fn is_plus(&self) -> bool {
        self.len == 1 && self.head[0] == u64::from(b'+')
    }

    pub(super) fn is_hash(&self) -> bool {
        self.len == 1 && self.head[0] == u64::from(b'#')
    }

    pub(super) fn hash(&self, hasher: &FixedState) -> u64 {
        if self.len == LONG {
            hash_long(hasher, self.bytes)
        } else {
            hash_short(hasher, self.head, self.tail, self.len)
        }
    }

    pub(super) fn equals(&self, level: &Level) -> bool {
        match level {
            Level::Short { head, tail, len } => self.len == *len && self.head == *head && self.tail == *tail,
            Level::Long(bytes) => self.len == LONG && **bytes == *self.bytes,
        }
    }

    pub(super) fn to_level(&self) -> Level {
        if self.len == LONG {
            Level::Long(self.bytes.into())
        } else {
            Level::Short { head: self.head, tail: self.tail, len: self.len }
        }
    }
}

impl Level {
    pub(super) const EMPTY: Self = Self::Short { head: [0, 0], tail: 0, len: 0 };

    pub(super) fn hash(&self, hasher: &FixedState) -> u64 {
        match self {
            Self::Short { head, tail, len } => hash_short(hasher, *head, *tail, *len),
            Self::Long(bytes) => hash_long(hasher, bytes),
        }
    }

    /// Whether the level begins with '$', which hides it from a wildcard in the first level.
    pub(super) fn is_dollar(&self) -> bool {
        match self {
            Self::Short { head, .. } => head[0] as u8 == b'$',
            Self::Long(bytes) => bytes.first() == Some(&b'$'),
        }
    }

    /// Bytes held outside the node.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

/// Up to eight bytes as a little-endian integer, without a loop: the two halves may overlap, and then agree.
fn pack(bytes: &[u8]) -> u64 {
    if let Some(&all) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(all);
    }
    if let (Some(&first), Some(&last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let shift = (bytes.len() - 4) * 8;
        return u64::from(u32::from_le_bytes(first)) | u64::from(u32::from_le_bytes(last)) << shift;
    }
    match *bytes {
        [] => 0,
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c, ..] => u64::from(u32::from_le_bytes([a, b, c, 0])),
    }
}

fn hash_short(hasher: &FixedState, head: [u64; 2], tail: u32, len: u8) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u64(head[0]);
    state.write_u64(head[1]);
    state.write_u64(u64::from(len) << 32 | u64::from(tail));
    state.finish()
}

fn hash_long(hasher: &FixedState, bytes: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(bytes);
    state.finish()
}

/// The levels of a path: always at least one, because "" is one empty level.
pub(super) struct Levels<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Levels<'a> {
    pub(super) fn new(path: &'a str) -> Self {
        Self { rest: Some(path.as_bytes()) }
    }
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        // Levels are short: a plain loop beats a call of memchr.
        match rest.iter().position(|&byte| byte == b'/') {
            Some(end) => {
                self.rest = Some(&rest[end + 1..]);
                Some(&rest[..end])
            }
            None => {
                self.rest = None;
                Some(rest)
            }
        }
    }
}
