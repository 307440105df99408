//! Hot path. The memory of a segment that is still being written: aligned to the page, zero at first, taken
//! from the kernel as it is touched. Reused from segment to segment, so that a page is faulted in once; what
//! no segment has wanted for a while is given back, a piece at a time.

use std::ops::Range;

use memmap2::MmapMut;

use crate::identity::Mono;
use crate::mapping::give_back;

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

/// How long an image waits for the next segment. To fault in another costs some 15 ms, spread over as many appends
/// as fill it: in 10 s that is nothing.
const UNUSED_NS_MAX: u64 = 10_000_000_000;

/// What a turn gives back: 0.3 ms of the kernel's, where all at once would be 4.
const PIECE_BYTES: usize = 4 << 20;

/// The image of a former segment, for the next.
#[derive(Default)]
pub(crate) struct Unused {
    image: Option<Image>,
    /// When it was first seen here.
    since: Option<Mono>,
    /// All before is given back; whole pages.
    gone: usize,
}

impl Unused {
    /// Keeps an image, if there is none.
    pub(crate) fn put(&mut self, image: Image) {
        if self.image.is_none() {
            *self = Unused { image: Some(image), ..Unused::default() };
        }
    }

    /// An image for a segment of so many bytes, which is every image's size here.
    pub(crate) fn take(&mut self, bytes: usize) -> Image {
        std::mem::take(self).image.unwrap_or_else(|| Image::new(bytes))
    }

    /// Gives a piece back, if it is time. Nobody is woken for it.
    pub(crate) fn turn(&mut self, now: Mono) {
        let Some(image) = &mut self.image else { return };
        if now < self.since.get_or_insert(now).after(UNUSED_NS_MAX) {
            return;
        }
        let bytes = image.0.len();
        let piece: Range<usize> = self.gone..(self.gone + PIECE_BYTES).min(bytes);
        self.gone = piece.end;
        give_back(&mut image.0, piece);
        if self.gone == bytes {
            *self = Unused::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image waits for a segment, then goes piece by piece; taken before it is gone it is as long as ever, and
    /// what was given back of it is zero.
    #[test]
    fn an_unused_image_is_given_back() {
        let bytes = 2 * PIECE_BYTES + 4096;
        let mut unused = Unused::default();
        unused.turn(Mono(1));
        let mut image = unused.take(bytes);
        image.bytes_mut().fill(7);
        unused.put(image);
        unused.turn(Mono(5));
        let due = Mono(5).after(UNUSED_NS_MAX);
        unused.turn(Mono(due.0 - 1));
        assert_eq!(unused.gone, 0);
        unused.turn(due);
        assert_eq!(unused.gone, PIECE_BYTES);
        let image = unused.take(bytes);
        assert_eq!(image.bytes().len(), bytes);
        assert!(image.bytes()[..PIECE_BYTES].iter().all(|byte| *byte == 0));
        assert!(image.bytes()[PIECE_BYTES..].iter().all(|byte| *byte == 7));
        unused.put(image);
        unused.turn(due);
        (0..3).for_each(|_| unused.turn(due.after(UNUSED_NS_MAX)));
        assert!(unused.image.is_none());
    }
}
