//! The bytes of a sealed segment: mapped from its file, or in memory where a simulator is the disk. The only
//! unsafe code of the crate is here.

#![expect(unsafe_code, reason = "a file can only be mapped by an unsafe call")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use memmap2::{Advice, Mmap, MmapOptions};

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

    /// Reads the pages in, so that a core that touches them does not wait for a disk. Blocks: off the cores.
    pub fn prefetch(&self) -> io::Result<()> {
        match &self.0 {
            Source::Mapped(map) => map.advise(Advice::PopulateRead).or_else(|_| map.advise(Advice::WillNeed)),
            Source::Memory { .. } => Ok(()),
        }
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
