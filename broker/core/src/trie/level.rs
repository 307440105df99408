//! Hot path. The levels of a path that is looked up.

use std::cell::Cell;

use foldhash::fast::FixedState;

use super::label::{Label, Texts, hash_of};

/// A level to be compared with any number of nodes: packed once, hashed once and only if a table is asked.
pub(super) struct LevelKey<'a> {
    text: &'a [u8],
    label: Label,
    hash: Cell<Option<u64>>,
}

impl<'a> LevelKey<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, label: Label::to_find(text), hash: Cell::new(None) }
    }

    pub(super) fn text(&self) -> &'a [u8] {
        self.text
    }

    pub(super) fn is_plus(&self) -> bool {
        self.label.is(b'+')
    }

    pub(super) fn is_hash(&self) -> bool {
        self.label.is(b'#')
    }

    pub(super) fn equals(&self, label: &Label, texts: &Texts) -> bool {
        if self.label.is_long() {
            label.is_long() && texts.text(label) == self.text
        } else {
            self.label == *label
        }
    }

    pub(super) fn hash(&self, hasher: &FixedState) -> u64 {
        if let Some(hash) = self.hash.get() {
            return hash;
        }
        let hash = hash_of(hasher, &self.label, self.text);
        self.hash.set(Some(hash));
        hash
    }
}

/// The levels of a path, or what is left of them.
#[derive(Clone)]
pub(super) struct Levels<'a> {
    /// None after the last level; an empty rest is one empty level.
    pub(super) rest: Option<&'a [u8]>,
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
        let end = level_end(rest, 0);
        self.rest = rest.get(end + 1..);
        Some(&rest[..end])
    }
}

/// Where the level that starts at `start` ends: at the next '/' or the end.
pub(super) fn level_end(path: &[u8], mut start: usize) -> usize {
    // Levels are short: eight bytes at a time in place beat a call of memchr.
    while let Some(&chunk) = path[start..].first_chunk::<8>() {
        let differing = u64::from_le_bytes(chunk) ^ SLASHES;
        // The lowest zero byte of `differing` is the first slash; higher bits may be false, by carry from there.
        let slashes = differing.wrapping_sub(ONES) & !differing & ONES << 7;
        if slashes != 0 {
            return start + slashes.trailing_zeros() as usize / 8;
        }
        start += 8;
    }
    path[start..].iter().position(|&byte| byte == b'/').map_or(path.len(), |length| start + length)
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const SLASHES: u64 = u64::from_le_bytes([b'/'; 8]);
