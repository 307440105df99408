//! Hot path. The memory of a segment that is still being written: aligned to the page, zero at first, taken
//! from the kernel as it is touched. Reused from segment to segment, so that a page is faulted in once.

use memmap2::MmapMut;

/// One segment's bytes in memory. Lives on the core of its log; the kernel reads ranges of it while a commit
/// is in flight, and those are never written again.
pub(crate) struct Image(MmapMut);

impl Image {
    /// Panics when the address space is exhausted, as any allocation would.
    pub(crate) fn new(bytes: usize) -> Image {
        Image(MmapMut::map_anon(bytes).expect("anonymous memory for a segment"))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
