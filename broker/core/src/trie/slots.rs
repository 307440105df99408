//! Hot path. Values in one allocation, named by number; the lowest free number is used first, so that what is left
//! gathers in front, and the rest can be given back.

use std::ops::{Index, IndexMut};

/// Slots that are accounted for together.
const CHUNK: usize = 1024;

const WORDS: usize = CHUNK / 64;

/// Tables up to this many slots are left as they are: 64 KiB of nodes.
pub(super) const SLOTS_KEPT: usize = CHUNK;

/// So many values are moved to a smaller allocation at once: 1 to 2 MB, some 0.3 ms. With more, the allocation stays.
pub(super) const AT_ONCE_MAX: usize = 16_384;

/// Chunks behind the last value that one removal forgets: their memory is touched once more.
const CHUNKS_FORGOTTEN_MAX: usize = 4;

/// Which slots of a chunk are in use.
#[derive(Clone, Copy, Debug)]
struct Used {
    words: [u64; WORDS],
    count: u16,
}

impl Used {
    const NONE: Used = Used { words: [0; WORDS], count: 0 };

    fn first_free(&self) -> usize {
        let word = self.words.iter().position(|word| *word != u64::MAX).expect("the chunk has room");
        word * 64 + self.words[word].trailing_ones() as usize
    }

    /// The last one below a slot.
    fn last_below(&self, slot: usize) -> Option<usize> {
        (0..slot.div_ceil(64)).rev().find_map(|word| {
            let above = (word + 1) * 64 - slot.min((word + 1) * 64);
            let left = self.words[word] << above >> above;
            (left != 0).then(|| word * 64 + 63 - left.leading_zeros() as usize)
        })
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Slots<T> {
    values: Vec<T>,
    /// By chunk.
    used: Vec<Used>,
    /// Which chunks have a free slot, by bits.
    room: Vec<u64>,
    /// Words below this one are zero.
    lowest: usize,
    /// Slots in use.
    count: usize,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { values: Vec::new(), used: Vec::new(), room: Vec::new(), lowest: 0, count: 0 }
    }

    /// Slots in use.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Slots in use and free ones; a number above all.
    pub(super) fn slots(&self) -> usize {
        self.values.len()
    }

    /// Whether far fewer are in use than there are.
    pub(super) fn is_sparse(&self) -> bool {
        self.values.len() > 2 * SLOTS_KEPT && self.count < self.values.len() / 4
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        let chunk = self.first_with_room();
        let slot = self.used[chunk].first_free();
        let number = chunk * CHUNK + slot;
        if number < self.values.len() {
            self.values[number] = value;
        } else {
            self.values.push(value); // all below it are in use
        }
        self.used[chunk].words[slot / 64] |= 1 << (slot % 64);
        self.used[chunk].count += 1;
        if usize::from(self.used[chunk].count) == CHUNK {
            self.room[chunk / 64] &= !(1 << (chunk % 64));
        }
        self.count += 1;
        assert!(number < u32::MAX as usize, "a trie holds fewer than 2^32 nodes");
        number as u32
    }

    /// The lowest chunk that is not full; made if there is none.
    fn first_with_room(&mut self) -> usize {
        while let Some(word) = self.room.get(self.lowest) {
            if *word != 0 {
                return self.lowest * 64 + word.trailing_zeros() as usize;
            }
            self.lowest += 1;
        }
        let chunk = self.used.len();
        self.used.push(Used::NONE);
        self.room.resize(chunk / 64 + 1, 0);
        self.set_room(chunk);
        chunk
    }

    fn set_room(&mut self, chunk: usize) {
        self.room[chunk / 64] |= 1 << (chunk % 64);
        self.lowest = self.lowest.min(chunk / 64);
    }

    /// Frees a slot. What is left in it is dropped when it is used again, or forgotten.
    pub(super) fn remove(&mut self, number: u32) {
        let (chunk, slot) = (number as usize / CHUNK, number as usize % CHUNK);
        let used = &mut self.used[chunk];
        used.words[slot / 64] &= !(1 << (slot % 64));
        used.count -= 1;
        self.count -= 1;
        self.set_room(chunk);
    }

    /// Gives back some of what lies behind the last value.
    pub(super) fn shorten(&mut self) {
        for _ in 0..CHUNKS_FORGOTTEN_MAX {
            if self.used.len() <= 1 || self.used.last().is_some_and(|used| used.count > 0) {
                break;
            }
            self.used.pop();
            let chunk = self.used.len();
            self.room[chunk / 64] &= !(1 << (chunk % 64));
            self.values.truncate(chunk * CHUNK);
        }
        let slots = self.values.len();
        if slots <= AT_ONCE_MAX && self.values.capacity() > 4 * slots.max(SLOTS_KEPT) {
            self.values.shrink_to(2 * slots);
            self.used.shrink_to_fit();
        }
    }

    /// The last slot in use below a number, in the same chunk; otherwise, where to go on.
    pub(super) fn last_below(&self, end: usize) -> Result<u32, usize> {
        let chunk = end.saturating_sub(1) / CHUNK;
        let used = self.used.get(chunk).and_then(|used| used.last_below(end - chunk * CHUNK));
        used.map(|slot| (chunk * CHUNK + slot) as u32).ok_or(chunk * CHUNK)
    }

    /// Whether a value would stand in a lower chunk if it were inserted anew.
    pub(super) fn could_sink(&mut self, number: u32) -> bool {
        self.first_with_room() < number as usize / CHUNK
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>() + self.used.capacity() * size_of::<Used>()
    }
}

impl<T> Index<u32> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.values[number as usize]
    }
}
