//! The bytes of a sealed segment: mapped from its file, or in memory where a simulator is the disk; and a
//! segment that is written through its mapping; and how memory goes back to the kernel. The only unsafe code of the
//! crate is here.

#![expect(unsafe_code, reason = "a file can only be mapped, and memory given back, by an unsafe call")]

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::{Advice, Mmap, MmapMut, MmapOptions, UncheckedAdvice};

/// Gives memory of nobody's file back to the kernel: whole pages, which are zero from now on. If the kernel does not
/// take them, nothing has changed.
pub(crate) fn give_back(memory: &mut MmapMut, bytes: Range<usize>) {
    // SAFETY: nobody else refers to the memory, as it is borrowed exclusively; it is anonymous and private, so that
    // its pages read as zero afterwards, or as before.
    let _ = unsafe { memory.unchecked_advise_range(UncheckedAdvice::DontNeed, bytes.start, bytes.len()) };
}

/// A sealed segment's bytes. Counted by `Arc`: the file is recycled only when the log holds the last count.
#[derive(Debug)]
pub struct SegmentBytes(Source);

#[derive(Debug)]
enum Source {
    Mapped(Mmap),
    Memory {
        bytes: Vec<u8>,
        /// Counts who could still read, for a simulated disk.
        #[cfg_attr(not(feature = "simulated-disk"), expect(dead_code, reason = "held, not read"))]
        reader: Arc<()>,
    },
}

impl SegmentBytes {
    /// Maps a whole segment file for reading.
    ///
    /// The file must not be shortened while it is mapped (reading would end the process with SIGBUS): the
    /// log's directory lock keeps other processes out, and this crate never shortens a segment. Its bytes
    /// change only when it is recycled, which waits until nobody holds the mapping.
    pub fn map(file: &File) -> io::Result<SegmentBytes> {
        // SAFETY: nobody writes to or shortens the file while it is mapped; the caller keeps other processes
        // out by the directory lock, and `Log` hands a segment to be recycled only when the count of this
        // mapping's users is zero.
        let map = unsafe { MmapOptions::new().map(file) }?;
        Ok(SegmentBytes(Source::Mapped(map)))
    }

    /// Bytes that are in memory already.
    #[must_use]
    pub fn from_memory(bytes: Vec<u8>) -> SegmentBytes {
        SegmentBytes(Source::Memory { bytes, reader: Arc::default() })
    }

    /// A token that is shared as long as these bytes can be read.
    #[cfg(feature = "simulated-disk")]
    pub(crate) fn reader(&self) -> Arc<()> {
        match &self.0 {
            Source::Mapped(_) => Arc::default(),
            Source::Memory { reader, .. } => Arc::clone(reader),
        }
    }

    /// Reads pages in, as far as they are of the file, so that a core that touches them does not wait for a
    /// disk. Blocks: off the cores.
    pub fn prefetch(&self, offset: usize, bytes: usize) -> io::Result<()> {
        match &self.0 {
            Source::Mapped(map) => {
                let bytes = bytes.min(map.len().saturating_sub(offset));
                let advise = |advice| map.advise_range(advice, offset, bytes);
                advise(Advice::PopulateRead).or_else(|_| advise(Advice::WillNeed))
            }
            Source::Memory { .. } => Ok(()),
        }
    }
}

/// A segment that is written by stores into its mapping: `wal.append = "mapped"`. Lives on whatever thread
/// carries commits out; a store may wait for the file system.
#[derive(Debug)]
pub struct MappedSegment(MmapMut);

impl MappedSegment {
    /// Maps a whole segment file for writing. Its blocks are all allocated: a store into a hole of a full
    /// disk would end the process.
    pub fn map(file: &File) -> io::Result<MappedSegment> {
        // SAFETY: one log writes the file, through this mapping alone, and nobody shortens it while it is
        // mapped; the caller keeps other processes out by the directory lock.
        let map = unsafe { MmapOptions::new().map_mut(file) }?;
        Ok(MappedSegment(map))
    }

    /// Stores a write of a commit. Durable after an fdatasync of the file.
    ///
    /// # Panics
    /// When the file ends before.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

impl Deref for SegmentBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Mapped(map) => map,
            Source::Memory { bytes, .. } => bytes,
        }
    }
}
