//! Hot path. What a queue has of its messages, by their places, in chunks of 64: a chunk has 12 bytes for each while
//! they are alike but for their names and sizes, and 32 bytes from the first one on that is not. It is given back when
//! the last of its messages has left at the front.
//!
//! ```text
//!            gone       chunk 0              chunk 1            chunk 2
//!          [ ░░░░ │ ■ ■ ■ ■ ■ … 64 ]  [ ■ ■ ■ ■ … 64 ]  [ ■ ■ ■ ] ◄── push
//!                   ▲ first
//! ```

use std::collections::VecDeque;

use mqtt::QoS;

use super::GroupNumber;
use super::queue::{Entry, State};
use crate::delivery::DeliveryOptions;
use crate::ranges::MessageId;

/// Places of a chunk.
const CHUNK_PLACES: usize = 64;

/// A chunk with room for so many stays with a queue that is empty: one that is empty again and again does not
/// allocate each time.
const KEPT_PLACES: usize = 32;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// All but the last are full.
    chunks: VecDeque<Chunk>,
    /// Places that are not done.
    live: u32,
    /// Places of the first chunk that have left.
    gone: u8,
}

#[derive(Debug)]
enum Chunk {
    /// As long as all share a [`Kind`].
    Alike(Kind, Vec<Alike>),
    Mixed(Vec<Entry>),
}

const _: () = assert!(size_of::<Chunk>() == 48, "README.md says what a queued message costs");

/// What messages of a chunk have in common as a rule: they came by one subscription, and do not expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    /// Index of the entry that the first of them came with.
    index: u64,
    expires_seconds: u32,
    options: DeliveryOptions,
    group: Option<GroupNumber>,
}

/// A message by what tells it from the others.
#[derive(Clone, Copy, Debug)]
struct Alike {
    /// Its entry's index, less that of the first.
    index: u32,
    bytes: u32,
    ordinal: u16,
    qos: QoS,
    /// The lower bit: retain; above it: the state.
    flags: u8,
}

const _: () = assert!(size_of::<Alike>() == 12, "README.md says what a queued message costs");

impl Places {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let last = self.chunks.back().map_or(0, Chunk::len);
        self.chunks.len().saturating_sub(1) * CHUNK_PLACES + last - usize::from(self.gone)
    }

    /// How many of them are not done.
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// In which chunk a place is, and where in it.
    fn at(&self, index: usize) -> (usize, usize) {
        let at = index + usize::from(self.gone);
        (at / CHUNK_PLACES, at % CHUNK_PLACES)
    }

    /// What is at a place; the first that has not left is 0.
    pub(super) fn get(&self, index: usize) -> Option<Entry> {
        let (chunk, at) = self.at(index);
        self.chunks.get(chunk)?.get(at)
    }

    /// What is at the places from one on.
    pub(super) fn from(&self, index: usize) -> impl Iterator<Item = Entry> {
        let (chunk, at) = self.at(index);
        let chunks = self.chunks.range(chunk.min(self.chunks.len())..);
        chunks.enumerate().flat_map(move |(after, chunk)| {
            let at = if after == 0 { at } else { 0 };
            (at..chunk.len()).filter_map(|at| chunk.get(at))
        })
    }

    /// A message that is not done has come further. It is in its group no more.
    pub(super) fn set_state(&mut self, index: usize, state: State) {
        let (chunk, at) = self.at(index);
        self.live -= u32::from(state == State::Done);
        self.chunks[chunk].set_state(at, state);
    }

    /// Adds a place at the end.
    pub(super) fn push(&mut self, entry: &Entry) {
        self.live += u32::from(entry.state != State::Done);
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK_PLACES => last.push(entry),
            Some(_) => self.chunks.push_back(Chunk::begin(entry, CHUNK_PLACES)),
            None => {
                // Most queues never have another.
                self.chunks.reserve_exact(1);
                self.chunks.push_back(Chunk::begin(entry, 1));
            }
        }
    }

    /// The first place leaves, if what is there is done.
    pub(super) fn pop_done(&mut self) -> bool {
        let first = usize::from(self.gone);
        let Some(chunk) = self.chunks.front_mut() else { return false };
        if !chunk.is_done(first) {
            return false;
        }
        self.gone += 1;
        if usize::from(self.gone) == chunk.len() {
            self.gone = 0;
            self.pop_chunk();
        }
        true
    }

    /// Gives back a chunk of which nothing is left.
    fn pop_chunk(&mut self) {
        if self.chunks.len() == 1
            && let Some(Chunk::Alike(_, places)) = self.chunks.front_mut()
            && places.capacity() <= KEPT_PLACES
        {
            return places.clear();
        }
        self.chunks.pop_front();
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        } else if self.chunks.capacity() > 3 * self.chunks.len().max(4) {
            self.chunks.shrink_to(self.chunks.len() * 3 / 2);
        }
    }
}

impl Chunk {
    fn begin(entry: &Entry, places: usize) -> Chunk {
        let mut chunk = Chunk::Alike(Kind::of(entry), Vec::with_capacity(places));
        chunk.push(entry);
        chunk
    }

    fn len(&self) -> usize {
        match self {
            Chunk::Alike(_, places) => places.len(),
            Chunk::Mixed(entries) => entries.len(),
        }
    }

    fn get(&self, at: usize) -> Option<Entry> {
        match self {
            Chunk::Alike(kind, places) => places.get(at).map(|alike| kind.unpack(alike)),
            Chunk::Mixed(entries) => entries.get(at).copied(),
        }
    }

    fn is_done(&self, at: usize) -> bool {
        match self {
            Chunk::Alike(_, places) => places.get(at).is_some_and(|alike| alike.state() == State::Done),
            Chunk::Mixed(entries) => entries.get(at).is_some_and(|entry| entry.state == State::Done),
        }
    }

    fn push(&mut self, entry: &Entry) {
        match self {
            Chunk::Alike(kind, places) => {
                if places.is_empty() {
                    *kind = Kind::of(entry);
                }
                if let Some(alike) = kind.pack(entry) {
                    return places.push(alike);
                }
                let mut entries = Vec::with_capacity(places.capacity().max(places.len() + 1));
                entries.extend(places.iter().map(|alike| kind.unpack(alike)));
                entries.push(*entry);
                *self = Chunk::Mixed(entries);
            }
            Chunk::Mixed(entries) => entries.push(*entry),
        }
    }

    fn set_state(&mut self, at: usize, state: State) {
        match self {
            Chunk::Alike(_, places) => places[at].flags = places[at].flags & 1 | (state as u8) << 1,
            Chunk::Mixed(entries) => {
                entries[at].state = state;
                entries[at].group = entries[at].group.filter(|_| state == State::Waiting);
            }
        }
    }
}

impl Kind {
    /// What a chunk that begins with a message has in common.
    fn of(entry: &Entry) -> Kind {
        let Entry { message, expires_seconds, options, group, .. } = *entry;
        Kind { index: message.index(), expires_seconds, options, group }
    }

    /// The short form of a message; none if it is of another kind, or too far away.
    fn pack(&self, entry: &Entry) -> Option<Alike> {
        let Entry { message, expires_seconds, bytes, options, group, qos, retain, state } = *entry;
        // What is not waiting has no group.
        let same = expires_seconds == self.expires_seconds
            && options == self.options
            && group == self.group.filter(|_| state == State::Waiting);
        let index = u32::try_from(message.index().checked_sub(self.index)?).ok()?;
        let flags = u8::from(retain) | (state as u8) << 1;
        (same && message.origin() == 0).then(|| Alike {
            index,
            bytes,
            ordinal: message.ordinal(),
            qos,
            flags,
        })
    }

    fn unpack(&self, alike: &Alike) -> Entry {
        let state = alike.state();
        Entry {
            message: MessageId::new(0, self.index + u64::from(alike.index), alike.ordinal),
            expires_seconds: self.expires_seconds,
            bytes: alike.bytes,
            options: self.options,
            group: self.group.filter(|_| state == State::Waiting),
            qos: alike.qos,
            retain: alike.flags & 1 != 0,
            state,
        }
    }
}

impl Alike {
    fn state(&self) -> State {
        match self.flags >> 1 {
            0 => State::Waiting,
            1 => State::Received,
            _ => State::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn entry(index: u64, of: impl FnOnce(&mut Entry)) -> Entry {
        let mut entry = Entry {
            message: MessageId::new(0, index, (index % 7) as u16),
            expires_seconds: u32::MAX,
            bytes: 256 + index as u32 % 3,
            options: DeliveryOptions::from_bits(1),
            group: None,
            qos: QoS::AtLeastOnce,
            retain: index.is_multiple_of(5),
            state: State::Waiting,
        };
        of(&mut entry);
        entry
    }

    /// Entries of any kind come out as they went in, by place and in order; with states that change and places that
    /// leave. Against a list, in a random life.
    #[test]
    fn places_are_as_in_a_list() {
        let mut places = Places::default();
        let mut list: VecDeque<Entry> = VecDeque::new();
        let mut random = 5_u64;
        let group = NonZeroU32::new(9).map(GroupNumber::new);
        for step in 0..40_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (dice, at) = ((random >> 40) % 100, (random >> 20) as usize % list.len().max(1));
            // The queue grows to thousands and drains again, thrice; alike for long stretches, and then not.
            let grows = step / 6_666 % 2 == 0;
            let is_odd = step / 500 % 4 == 3;
            if dice < if grows { 60 } else { 20 } {
                let new = entry(step, |entry| match dice % 12 {
                    0 if is_odd => entry.expires_seconds = step as u32,
                    1 if is_odd => entry.group = group,
                    2 if is_odd => entry.options = DeliveryOptions::from_bits(2),
                    3 if is_odd => entry.message = MessageId::new(0, step / 2, 1),
                    4 if is_odd => entry.message = MessageId::new(0, (1 << 40) + step, 1),
                    5 if is_odd => entry.message = MessageId::new(3, step, 1),
                    6 => entry.qos = QoS::ExactlyOnce,
                    _ => {}
                });
                places.push(&new);
                list.push_back(new);
            } else if !list.is_empty() {
                let at = if dice % 2 == 0 { 0 } else { at };
                let state = if dice % 7 == 0 { State::Received } else { State::Done };
                if list[at].state != State::Done {
                    places.set_state(at, state);
                    list[at].state = state;
                    list[at].group = None;
                }
                while list.pop_front_if(|entry| entry.state == State::Done).is_some() {
                    assert!(places.pop_done());
                }
                assert!(!places.pop_done());
            }
            let live = list.iter().filter(|entry| entry.state != State::Done).count();
            assert_eq!((places.len(), places.live() as usize), (list.len(), live));
            assert_eq!(places.get(at), list.get(at).copied());
            if step % 64 == 0 {
                assert!(places.from(at).eq(list.iter().skip(at).copied()));
            }
        }
    }

    fn room(places: &Places) -> usize {
        let of = |chunk: &Chunk| match chunk {
            Chunk::Alike(_, places) => places.capacity() * size_of::<Alike>(),
            Chunk::Mixed(entries) => entries.capacity() * size_of::<Entry>(),
        };
        places.chunks.capacity() * size_of::<Chunk>() + places.chunks.iter().map(of).sum::<usize>()
    }

    /// A message of a long queue takes 13 bytes, 34 where each is another; one that is alone takes 100; and what
    /// is drained is given back.
    #[test]
    fn a_long_queue_is_small_and_an_empty_one_is_nothing() {
        let mut places = Places::default();
        places.push(&entry(0, |_| {}));
        assert!(room(&places) <= 100, "{} bytes for one", room(&places));
        (1..100_000).for_each(|index| places.push(&entry(index, |_| {})));
        assert!(room(&places) < 14 * 100_000, "{} bytes for 100 000", room(&places));
        for left in (0..100_000).rev() {
            places.set_state(0, State::Done);
            assert!(places.pop_done());
            assert!(room(&places) < 15 * left + 8 * 1024, "{} bytes for {left}", room(&places));
        }
        assert!(room(&places) == 0, "{} bytes for none", room(&places));
        (0..1000).for_each(|index| places.push(&entry(index, |entry| entry.expires_seconds = index as u32)));
        assert!(room(&places) < 38 * 1000, "{} bytes for 1 000 that differ", room(&places));
    }

    /// A queue that is filled and emptied by turns keeps its memory.
    #[test]
    fn a_short_queue_keeps_its_memory() {
        let mut places = Places::default();
        let mut rooms = Vec::new();
        for index in 0..1000 {
            places.push(&entry(index, |entry| entry.expires_seconds = index as u32));
            rooms.push(room(&places));
            places.set_state(0, State::Done);
            assert!(places.pop_done());
            assert_eq!((places.len(), room(&places)), (0, rooms[0]));
        }
        assert!(rooms.iter().all(|room| *room == rooms[0]));
    }
}
