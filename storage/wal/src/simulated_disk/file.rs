//! One file: what a reader sees, what the medium holds, and which sectors differ because nobody has synced.

use std::collections::BTreeSet;

use super::random::Random;

/// What a device writes whole or not at all, if all is well.
pub(super) const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug)]
pub(super) struct SimulatedFile {
    /// What a reader sees.
    pub(super) cached: Vec<u8>,
    /// What is on the medium for certain.
    durable: Vec<u8>,
    /// Written and not synced.
    dirty: BTreeSet<usize>,
}

impl SimulatedFile {
    /// A file of zeros that nobody has synced.
    pub(super) fn new(bytes: usize, random: &mut Random) -> SimulatedFile {
        assert!(bytes.is_multiple_of(SECTOR_BYTES), "files are made of sectors");
        let dirty = (0..bytes / SECTOR_BYTES).collect();
        // What the medium held before, of somebody else's.
        let filler = u8::try_from(random.below(256)).expect("below 256");
        SimulatedFile { cached: vec![0; bytes], durable: vec![filler; bytes], dirty }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(
            offset.is_multiple_of(SECTOR_BYTES) && bytes.len().is_multiple_of(SECTOR_BYTES),
            "in sectors"
        );
        self.cached[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR_BYTES..(offset + bytes.len()) / SECTOR_BYTES);
    }

    pub(super) fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            self.durable[range.clone()].copy_from_slice(&self.cached[range]);
        }
    }

    /// Any part of it reached the medium, and the kernel calls all of it clean: the next sync writes nothing
    /// of what is missing and reports success.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        for sector in std::mem::take(&mut self.dirty) {
            if random.once_in(2) {
                self.keep(sector, random);
            }
        }
    }

    /// The power is gone: of every sector nobody has synced the medium has the old or the new content, or,
    /// rarely, a mixture or garbage.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        // All, nothing or some: a fair coin for every sector would hardly ever keep a whole record.
        let (keep_of, of) = [(0, 1), (1, 1), (1, 2), (1, 8), (7, 8)][random.index(5)];
        for sector in std::mem::take(&mut self.dirty) {
            if random.below(of) < keep_of {
                self.keep(sector, random);
            }
        }
        self.cached.clone_from(&self.durable);
    }

    fn keep(&mut self, sector: usize, random: &mut Random) {
        let begin = sector * SECTOR_BYTES;
        let new = &self.cached[begin..begin + SECTOR_BYTES];
        let old = &mut self.durable[begin..begin + SECTOR_BYTES];
        if old == new {
            return;
        }
        match random.below(32) {
            0 => {
                let torn = random.index(SECTOR_BYTES);
                old[..torn].copy_from_slice(&new[..torn]);
            }
            1 => {
                old.copy_from_slice(new);
                old[random.index(SECTOR_BYTES)] ^= 1 << random.below(8);
            }
            _ => old.copy_from_slice(new),
        }
    }

    /// What a start does with what nothing proves to be on the medium: compares, writes what differs.
    pub(super) fn settle(&mut self, offset: usize, bytes: usize) {
        for sector in offset / SECTOR_BYTES..(offset + bytes) / SECTOR_BYTES {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            if self.cached[range.clone()] != self.durable[range] {
                self.dirty.insert(sector);
            }
        }
    }

    /// Damage at rest: one bit, on the medium and for every reader.
    pub(super) fn flip(&mut self, offset: usize, bit: u8) {
        self.cached[offset] ^= 1 << bit;
        self.durable[offset] ^= 1 << bit;
    }
}
