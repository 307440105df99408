//! Hot path. The timers of one core: a hierarchical wheel that never reads a clock.
//!
//! The core arms and cancels, asks `next_deadline` when to come back, and calls `advance` then. Arming and cancelling
//! are O(1); an armed timer costs its slot and nothing else until it is due, apart from one move to a finer level each
//! time the wheel enters the stretch it waits in (at most six moves, one for most MQTT timers).

#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU32;

/// Resolution, 2^25 ns = 33.6 ms: the finest MQTT timer is in seconds, and a core that has timers in every tick is
/// woken for them 30 times a second at most. A power of two, so that a tick is a shift.
pub const TICK_NS: u64 = 1 << TICK_BITS;

const TICK_BITS: u32 = 25;

/// A level has 64 slots, so that one word tells which of them hold timers.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// Seven levels of six bits hold all ticks there are: 64 - 25 bits, and one more because deadlines are rounded up.
const LEVELS: usize = 7;
const LISTS: u32 = (LEVELS * SLOTS) as u32;

const _: () = assert!(LEVELS as u32 * SLOT_BITS > 64 - TICK_BITS);

/// Names one arming of one timer. Once that has fired or been cancelled the id is stale, and harmless: its slot has
/// moved on to another generation (which comes round after 2^32 timers in the same slot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    slot: u32,
    generation: NonZeroU32,
}

const _: () = assert!(size_of::<TimerId>() == 8 && size_of::<Option<TimerId>>() == 8);

/// Neighbours in a circular list. Numbers below `LISTS` are the heads of the lists, the others timers.
#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    previous: u32,
}

#[derive(Clone, Debug)]
struct Timer<K> {
    tick: u64,
    key: K,
    link: Link,
    generation: NonZeroU32,
}

const _: () = assert!(size_of::<Timer<u64>>() == 32);

/// Where a list is: slot `slot` of level `level`. Level 0 has one tick a slot, each level above 64 times as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    level: usize,
    slot: usize,
}

impl Place {
    fn head(self) -> u32 {
        (self.level * SLOTS + self.slot) as u32
    }

    fn of_head(head: u32) -> Self {
        Self { level: head as usize / SLOTS, slot: head as usize % SLOTS }
    }
}

/// Timers of one core. `K` is what `advance` hands back: 8 bytes make a timer 32 bytes, 16 make it 40.
///
/// A timer waits at the lowest level where its tick differs from `tick` in that level's six bits and in none above.
/// So all timers of a level are due before those of the levels above, and each level before its next turn.
pub struct Wheel<K: Copy> {
    /// What `advance` was last told, in nanoseconds.
    now_ns: u64,
    /// Ticks before this one are done. Behind `now_ns` only between calls that ran out of budget.
    tick: u64,
    /// Bit n: slot n of that level holds timers.
    occupied: [u64; LEVELS],
    heads: [Link; LISTS as usize],
    timers: Vec<Timer<K>>,
    /// First free timer slot; free slots are linked by `next`.
    free: u32,
    /// The slot, entered by `tick`, whose timers are on their way to lower levels; late-comers that belong in it join
    /// its end, which keeps timers of one tick in order of arming.
    cascading: Option<Place>,
    len: usize,
}

const NO_TIMER: u32 = u32::MAX;

impl<K: Copy> fmt::Debug for Wheel<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel").field("now_ns", &self.now_ns).field("len", &self.len).finish_non_exhaustive()
    }
}

impl<K: Copy> Wheel<K> {
    /// A wheel without timers, at the time `now_ns` in nanoseconds of any monotonic clock.
    pub fn new(now_ns: u64) -> Self {
        const { assert!(size_of::<K>() <= 16, "timers are many: keep what they name elsewhere") };
        let mut heads = [Link { next: 0, previous: 0 }; LISTS as usize];
        for (head, link) in (0u32..).zip(&mut heads) {
            *link = Link { next: head, previous: head };
        }
        Self {
            now_ns,
            tick: now_ns >> TICK_BITS,
            occupied: [0; LEVELS],
            heads,
            timers: Vec::new(),
            free: NO_TIMER,
            cascading: None,
            len: 0,
        }
    }

    /// Number of armed timers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Arms a timer that fires once, in the first tick that begins at or after `deadline_ns`; at the next `advance` if
    /// that is over.
    pub fn arm(&mut self, deadline_ns: u64, key: K) -> TimerId {
        let tick = deadline_ns.div_ceil(TICK_NS).max(self.tick);
        let slot = self.allocate(tick, key);
        let place = self.place(tick);
        self.push_back(place, slot);
        self.len += 1;
        TimerId { slot, generation: self.timers[slot as usize].generation }
    }

    /// Disarms a timer; false if it has fired or been cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        match self.timers.get(id.slot as usize) {
            Some(timer) if timer.generation == id.generation => {
                self.unlink(id.slot);
                self.release(id.slot);
                true
            }
            _ => false,
        }
    }

    /// When to call `advance` next, in nanoseconds: never later than the earliest deadline rounded up to a tick, but
    /// possibly earlier, to move timers down a level. In the past if something is due already.
    pub fn next_deadline(&self) -> Option<u64> {
        self.earliest().map(|place| self.begin(place).saturating_mul(TICK_NS))
    }

    /// Moves time on to `now_ns` and appends what is due to `fired`, in order of tick, then of arming. Touches at most
    /// `budget` timers, to fire them or to move them down a level; true if that was not enough, so that the caller
    /// comes back, with the same time or a later one. What is in `fired` is out of the wheel: cancelling it is too late.
    ///
    /// # Panics
    /// If time goes back.
    pub fn advance(&mut self, now_ns: u64, fired: &mut Vec<K>, budget: usize) -> bool {
        assert!(now_ns >= self.now_ns, "time goes back");
        self.now_ns = now_ns;
        let now = now_ns >> TICK_BITS;
        let mut budget = budget;
        loop {
            let Some(place) = self.earliest().filter(|&place| self.begin(place) <= now) else {
                self.tick = now;
                self.cascading = None;
                return false;
            };
            self.tick = self.begin(place);
            if place.level == 0 {
                self.cascading = None;
                self.fire(place, fired, &mut budget);
            } else {
                self.cascading = Some(place);
                self.cascade(place, &mut budget);
            }
            if self.is_occupied(place) {
                return true;
            }
        }
    }

    fn fire(&mut self, place: Place, fired: &mut Vec<K>, budget: &mut usize) {
        while *budget > 0 && self.is_occupied(place) {
            *budget -= 1;
            let slot = self.heads[place.head() as usize].next - LISTS;
            fired.push(self.timers[slot as usize].key);
            self.unlink(slot);
            self.release(slot);
        }
    }

    /// Moves timers of a slot that `tick` has entered to lower levels.
    fn cascade(&mut self, place: Place, budget: &mut usize) {
        while *budget > 0 && self.is_occupied(place) {
            *budget -= 1;
            let slot = self.heads[place.head() as usize].next - LISTS;
            self.unlink(slot);
            let lower = self.place_by_tick(self.timers[slot as usize].tick);
            self.push_back(lower, slot);
        }
    }

    /// The occupied slot that begins first.
    fn earliest(&self) -> Option<Place> {
        if let Some(place) = self.cascading.filter(|&place| self.is_occupied(place)) {
            return Some(place);
        }
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        Some(Place { level, slot: self.occupied[level].trailing_zeros() as usize })
    }

    /// First tick of a slot in the present turn of its level.
    fn begin(&self, place: Place) -> u64 {
        let shift = place.level as u32 * SLOT_BITS;
        let turn = self.tick >> (shift + SLOT_BITS) << SLOT_BITS;
        (turn | place.slot as u64) << shift
    }

    /// Where a timer that is armed now waits for `tick`.
    fn place(&self, tick: u64) -> Place {
        let place = self.place_by_tick(tick);
        match self.cascading {
            Some(cascading) if place.level < cascading.level && self.is_occupied(cascading) => cascading,
            _ => place,
        }
    }

    fn place_by_tick(&self, tick: u64) -> Place {
        let differing = tick ^ self.tick;
        let level = (63 - (differing | 1).leading_zeros()) / SLOT_BITS;
        Place { level: level as usize, slot: (tick >> (level * SLOT_BITS)) as usize % SLOTS }
    }

    fn is_occupied(&self, place: Place) -> bool {
        self.occupied[place.level] & 1 << place.slot != 0
    }

    fn push_back(&mut self, place: Place, slot: u32) {
        let (head, number) = (place.head(), slot + LISTS);
        let last = self.heads[head as usize].previous;
        self.timers[slot as usize].link = Link { next: head, previous: last };
        self.link_mut(last).next = number;
        self.heads[head as usize].previous = number;
        self.occupied[place.level] |= 1 << place.slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Link { next, previous } = self.timers[slot as usize].link;
        self.link_mut(previous).next = next;
        self.link_mut(next).previous = previous;
        // Only the head is both neighbours of a timer: that was the last one in its list.
        if next == previous {
            let place = Place::of_head(next);
            self.occupied[place.level] &= !(1 << place.slot);
        }
    }

    fn link_mut(&mut self, number: u32) -> &mut Link {
        if number < LISTS {
            &mut self.heads[number as usize]
        } else {
            &mut self.timers[(number - LISTS) as usize].link
        }
    }

    fn allocate(&mut self, tick: u64, key: K) -> u32 {
        let link = Link { next: NO_TIMER, previous: NO_TIMER };
        if self.free != NO_TIMER {
            let slot = self.free;
            let timer = &mut self.timers[slot as usize];
            self.free = timer.link.next;
            (timer.tick, timer.key, timer.link) = (tick, key, link);
            return slot;
        }
        assert!(self.timers.len() < (NO_TIMER - LISTS) as usize, "a wheel holds fewer than 2^32 timers");
        let slot = self.timers.len() as u32;
        self.timers.push(Timer { tick, key, link, generation: NonZeroU32::MIN });
        slot
    }

    fn release(&mut self, slot: u32) {
        let timer = &mut self.timers[slot as usize];
        timer.generation = timer.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        timer.link.next = self.free;
        self.free = slot;
        self.len -= 1;
    }
}
