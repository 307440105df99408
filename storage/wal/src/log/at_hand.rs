//! Hot path. Which pages of sealed segments are in memory, as far as a log can know: those that were read in or
//! read from in the last minute or two. A core asks before it reads, and reads in the same turn or when the host
//! has read the pages in, so that a page fault does not become a disk read on a core.
//!
//! The kernel may give pages up before; then a core waits for the disk once. What is asked for in vain, because the
//! pages were there all the time, costs a thread off the cores some microseconds.

use std::ops::Range;

use smallvec::{SmallVec, smallvec};

use super::Log;
use super::sealed::Content;
use crate::identity::{Mono, Position, SegmentId};
use crate::request::{Pages, Request};

/// What is read in at a time, from a multiple of itself on.
const WINDOW_BYTES: u64 = 256 << 10;

/// How long pages that nobody reads count as being in memory, at least; at most twice as long.
const WARM_NS: u64 = 60_000_000_000;

/// A piece of a sealed segment that is read in as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The file.
    pub segment: SegmentId,
    /// Which of its pieces.
    pub number: u32,
}

impl Pages {
    /// All windows that begin in these pages.
    pub fn windows(&self) -> impl Iterator<Item = Window> + use<> {
        let segment = self.segment;
        windows(self.offset, self.bytes).map(move |number| Window { segment, number })
    }
}

fn windows(offset: u64, bytes: u64) -> Range<u32> {
    let number = |at: u64| u32::try_from(at).expect("a file has fewer windows than bytes");
    number(offset / WINDOW_BYTES)..number((offset + bytes).div_ceil(WINDOW_BYTES))
}

/// A bit for each window of a segment.
#[derive(Debug, Default)]
struct Windows(SmallVec<[u64; 4]>);

impl Windows {
    fn all(file_bytes: u64) -> Windows {
        let words = windows(0, file_bytes).len().div_ceil(64);
        Windows(smallvec![u64::MAX; words])
    }

    fn has(&self, window: u32) -> bool {
        self.0.get(window as usize / 64).is_some_and(|word| word & 1 << (window % 64) != 0)
    }

    /// False if it was there.
    fn insert(&mut self, window: u32) -> bool {
        let (word, bit) = (window as usize / 64, 1 << (window % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let before = self.0[word] & bit != 0;
        self.0[word] |= bit;
        !before
    }

    fn remove(&mut self, window: u32) {
        if let Some(word) = self.0.get_mut(window as usize / 64) {
            *word &= !(1 << (window % 64));
        }
    }
}

/// What is known of one sealed segment's pages.
#[derive(Debug, Default)]
pub(crate) struct Warmth {
    /// Read, or read in, in the present minute and in the one before.
    present: Windows,
    former: Windows,
    /// Which minute that is; None: nobody has asked yet.
    minute: Option<u64>,
    /// On their way in.
    asked: Windows,
}

impl Warmth {
    /// Of a segment that was read in just now, as all are at a start.
    pub(crate) fn warm(file_bytes: u64) -> Warmth {
        Warmth { present: Windows::all(file_bytes), ..Warmth::default() }
    }

    fn age(&mut self, now: Mono) {
        let minute = now.0 / WARM_NS;
        match minute - self.minute.replace(minute).unwrap_or(minute) {
            0 => {}
            1 => self.former = std::mem::take(&mut self.present),
            _ => (self.present, self.former) = Default::default(),
        }
    }

    /// Whether a window is in memory, which it then counts as for another while.
    fn touch(&mut self, window: u32) -> bool {
        self.present.has(window) || self.former.has(window) && self.present.insert(window)
    }
}

impl Log {
    /// Whether a record, framed in so many bytes, can be read without waiting for a disk. If not: a window that is
    /// missing. What is missing is asked for by the next [`Log::flush`], once, and is there when
    /// [`Log::on_prefetched`] has said so of that window.
    pub fn at_hand(&self, now: Mono, position: Position, bytes: u32) -> Result<(), Window> {
        let Some(segment) = self.sealed.get(position.segment) else { return Ok(()) };
        if matches!(segment.content, Content::Memory(_)) {
            return Ok(());
        }
        let mut warmth = segment.warmth.borrow_mut();
        warmth.age(now);
        let mut missing = None;
        for number in windows(position.offset() as u64, u64::from(bytes)) {
            if !warmth.touch(number) {
                let window = Window { segment: position.segment, number };
                missing.get_or_insert(window);
                if warmth.asked.insert(number) {
                    self.wanted.borrow_mut().push(window);
                }
            }
        }
        missing.map_or(Ok(()), Err)
    }

    /// The pages that a [`Request::Prefetch`] named are in memory.
    pub fn on_prefetched(&mut self, now: Mono, pages: Pages) {
        let Some(segment) = self.sealed.get(pages.segment) else { return };
        let whole = pages == Pages::whole(pages.segment, segment.file_bytes);
        let mut warmth = segment.warmth.borrow_mut();
        warmth.age(now);
        for window in pages.windows() {
            warmth.present.insert(window.number);
            warmth.asked.remove(window.number);
        }
        if whole {
            self.reclaim.on_prefetched(pages.segment);
        }
    }

    /// Asks for what readers want, neighbours as one.
    pub(super) fn ask_windows(&self, out: &mut Vec<Request>) {
        let mut wanted = self.wanted.borrow_mut();
        wanted.sort_unstable();
        let follows =
            |one: &Window, other: &Window| one.segment == other.segment && one.number + 1 == other.number;
        for run in wanted.chunk_by(follows) {
            let segment = run[0].segment;
            let offset = u64::from(run[0].number) * WINDOW_BYTES;
            // Also of a segment that has left meanwhile: somebody waits for the answer.
            let end = self.sealed.get(segment).map_or(u64::MAX, |segment| segment.file_bytes);
            let bytes = (run.len() as u64 * WINDOW_BYTES).min(end - offset);
            out.push(Request::Prefetch(Pages { segment, offset, bytes }));
        }
        wanted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows count as warm for a minute at least after they were read, and for two at most.
    #[test]
    fn warmth_passes_when_nobody_reads() {
        let mut warmth = Warmth::default();
        warmth.age(Mono(5 * WARM_NS + 1));
        assert!(!warmth.touch(3), "nobody has read it in");
        warmth.present.insert(3);
        warmth.present.insert(70);
        warmth.age(Mono(6 * WARM_NS));
        assert!(warmth.touch(3), "within two minutes, and again from here on");
        warmth.age(Mono(7 * WARM_NS));
        assert!(warmth.touch(3));
        assert!(!warmth.touch(70));
        warmth.age(Mono(9 * WARM_NS));
        assert!(!warmth.touch(3));
    }

    /// What a start has read in counts from the first question on.
    #[test]
    fn a_start_is_warm() {
        let mut warmth = Warmth::warm(64 << 20);
        warmth.age(Mono(1000 * WARM_NS));
        assert!(warmth.touch(0) && warmth.touch(255) && !warmth.touch(256));
    }

    /// A record on the border of two windows needs both; pages name the windows that begin in them.
    #[test]
    fn windows_cover_their_bytes() {
        assert_eq!(windows(WINDOW_BYTES - 1, 2), 0..2);
        assert_eq!(windows(WINDOW_BYTES, 1), 1..2);
        let pages = Pages { segment: SegmentId(1), offset: WINDOW_BYTES, bytes: WINDOW_BYTES + 4096 };
        let numbers: Vec<u32> = pages.windows().map(|window| window.number).collect();
        assert_eq!(numbers, [1, 2]);
    }
}
