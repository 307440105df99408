//! Hot path. The timers of one core: a hierarchical wheel that never reads a clock.
//!
//! The core arms and cancels, asks `next_deadline` when to come back, and calls `advance` then. Arming and cancelling
//! are O(1); an armed timer costs its slot and nothing else until it is due, apart from one move to a finer level each
//! time the wheel enters the stretch it waits in (at most six moves, one for most MQTT timers).

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
#[derive(Debug)]
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

impl<K: Copy> Wheel<K> {
    /// A wheel without timers, at the time `now_ns` in nanoseconds of any monotonic clock.
    pub fn new(now_ns: u64) -> Self {
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
    /// comes back, with the same time or a later one.
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
        // Both neighbours are the same only at the head of a list that is now empty, or with one timer left, whose
        // neighbours the head then is.
        if next == previous && next < LISTS {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{LEVELS, TICK_NS, TimerId, Wheel};

    const SECOND_NS: u64 = 1_000_000_000;

    /// SplitMix64, enough for tests.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }

        fn below(&mut self, end: u64) -> u64 {
            self.next() % end
        }

        /// A span of time with every magnitude as likely as any other, up to 2^`bits` ns.
        fn span(&mut self, bits: u64) -> u64 {
            let magnitude = self.below(bits);
            self.below(1 << magnitude)
        }
    }

    /// What the wheel stands for: timers sorted by tick, then by arming, which is the key.
    struct Model {
        wheel: Wheel<u64>,
        timers: BTreeMap<(u64, u64), (TimerId, u64)>,
        stale: Vec<TimerId>,
        now: u64,
        armed: u64,
        seed: u64,
    }

    impl Model {
        fn new(seed: u64, now: u64) -> Self {
            Self { wheel: Wheel::new(now), timers: BTreeMap::new(), stale: Vec::new(), now, armed: 0, seed }
        }

        fn arm(&mut self, deadline: u64) {
            let key = self.armed;
            self.armed += 1;
            let tick = deadline.div_ceil(TICK_NS).max(self.wheel.tick);
            let id = self.wheel.arm(deadline, key);
            self.timers.insert((tick, key), (id, deadline));
        }

        fn cancel(&mut self, random: &mut Random) {
            if let Some(&stale) = self.stale.get(random.below(64) as usize) {
                assert!(!self.wheel.cancel(stale), "seed {}", self.seed);
            }
            if !self.timers.is_empty() {
                let at = random.below(self.timers.len() as u64) as usize;
                let (&place, &(id, _)) = self.timers.iter().nth(at).expect("the index is below the length");
                self.timers.remove(&place);
                assert!(self.wheel.cancel(id), "seed {}", self.seed);
                assert!(!self.wheel.cancel(id), "seed {}", self.seed);
                self.stale.push(id);
            }
        }

        /// Advances, checks what fired, and returns whether there is more.
        fn advance(&mut self, now: u64, budget: usize) -> bool {
            let seed = self.seed;
            self.now = now;
            let mut fired = Vec::new();
            let more = self.wheel.advance(now, &mut fired, budget);
            assert!(fired.len() <= budget, "seed {seed}");
            for key in fired {
                let ((tick, expected), (id, deadline)) = self.timers.pop_first().expect("it was armed");
                assert_eq!(key, expected, "seed {seed}: order of tick, then of arming");
                assert!(deadline <= now && tick * TICK_NS <= now, "seed {seed}: early");
                self.stale.push(id);
            }
            let due = self.timers.first_key_value().is_some_and(|((tick, _), _)| *tick <= now / TICK_NS);
            assert!(more || !due, "seed {seed}: due, and not said to be");
            more
        }

        fn check(&self) {
            assert_eq!(self.wheel.len(), self.timers.len());
            let earliest = self.timers.first_key_value().map(|((tick, _), _)| tick.saturating_mul(TICK_NS));
            match (self.wheel.next_deadline(), earliest) {
                (None, None) => {}
                (Some(next), Some(earliest)) => assert!(next <= earliest, "seed {}", self.seed),
                other => panic!("seed {}: {other:?}", self.seed),
            }
        }
    }

    /// Goal: whatever is done to it, the wheel fires what the model fires, in its order. Method: random operations of
    /// all magnitudes of time, jumps of years, small budgets and operations between the calls of one advance.
    #[test]
    fn agrees_with_a_sorted_map() {
        for seed in 0..60 {
            let mut random = Random(seed);
            let start = random.span(60);
            let mut model = Model::new(seed, start);
            let crowded = 20 + seed % 20;
            for _ in 0..4_000 {
                match random.below(8) {
                    0..4 => {
                        let span =
                            if random.below(4) == 0 { random.span(62) } else { random.span(crowded + 20) };
                        model.arm(model.now + span);
                    }
                    4 => model.cancel(&mut random),
                    5 => model.arm(model.now.saturating_sub(random.span(40))),
                    _ => {
                        let now =
                            model.now + if random.below(50) == 0 { random.span(55) } else { random.span(32) };
                        let budget = random.below(12) as usize;
                        while model.advance(now, budget) {
                            model.check();
                            if random.below(3) == 0 {
                                let deadline = now + random.span(crowded + 10);
                                model.arm(deadline);
                                model.cancel(&mut random);
                            }
                            if budget == 0 {
                                break;
                            }
                        }
                    }
                }
                model.check();
            }
            // The last one is 146 years away at most; after that the wheel is empty and its slots are free.
            while model.advance(u64::MAX, 1_000) {}
            assert!(model.timers.is_empty() && model.wheel.is_empty(), "seed {seed}");
            assert_eq!(model.wheel.occupied, [0; LEVELS], "seed {seed}");
        }
    }

    /// Goal: a caller who comes when told is never more than a tick late. Method: follow `next_deadline` alone.
    #[test]
    fn following_next_deadline_fires_within_a_tick() {
        let mut random = Random(1);
        let mut wheel = Wheel::new(SECOND_NS);
        for _ in 0..10_000 {
            let deadline = SECOND_NS + random.span(45);
            wheel.arm(deadline, deadline);
        }
        let (mut fired, mut calls, mut count) = (Vec::new(), 0, 0);
        while let Some(next) = wheel.next_deadline() {
            let now = next.max(SECOND_NS);
            assert!(!wheel.advance(now, &mut fired, usize::MAX));
            for deadline in fired.drain(..) {
                assert!(deadline <= now && now - deadline < TICK_NS, "deadline {deadline}, fired at {now}");
                count += 1;
            }
            calls += 1;
        }
        assert_eq!(count, 10_000);
        assert!(calls < 20_000, "{calls} calls for 10000 timers");
    }

    /// Goal: session expiry of 136 years and deadlines that never come. Method: arm them, jump there.
    #[test]
    fn centuries_ahead_work() {
        let mut wheel = Wheel::new(12_345);
        let expiry = u64::from(u32::MAX) * SECOND_NS;
        wheel.arm(u64::MAX, 'z');
        wheel.arm(expiry, 'y');
        let mut fired = Vec::new();
        assert!(!wheel.advance(expiry - 1, &mut fired, 10));
        assert!(fired.is_empty());
        assert!(!wheel.advance(expiry + TICK_NS, &mut fired, 10));
        assert_eq!(fired, ['y']);
        // The first tick after 2^64 ns has no number a caller could name: armed for ever, cancelled like any other.
        assert!(!wheel.advance(u64::MAX, &mut fired, 10));
        assert_eq!((fired.len(), wheel.len(), wheel.next_deadline()), (1, 1, Some(u64::MAX)));
    }

    /// Goal: a deadline in the past fires at the next call, behind what was due in that tick before it. Method: by hand.
    #[test]
    fn past_deadlines_fire_at_once() {
        let mut wheel = Wheel::new(10 * SECOND_NS);
        let mut fired = Vec::new();
        wheel.arm(0, 'a');
        wheel.arm(9 * SECOND_NS, 'b');
        wheel.arm(10 * SECOND_NS, 'c');
        assert!(wheel.next_deadline() <= Some(10 * SECOND_NS));
        assert!(!wheel.advance(10 * SECOND_NS, &mut fired, 10));
        assert_eq!(fired, ['a', 'b']);
        assert!(!wheel.advance(10 * SECOND_NS + TICK_NS, &mut fired, 10));
        assert_eq!(fired, ['a', 'b', 'c']);
    }

    /// Goal: an id outlives its timer without harm. Method: cancel after firing, with the slot in use again.
    #[test]
    fn stale_ids_cancel_nothing() {
        let mut wheel = Wheel::new(0);
        let mut fired = Vec::new();
        let first = wheel.arm(1, 'a');
        assert!(!wheel.advance(TICK_NS, &mut fired, 10));
        let second = wheel.arm(2 * TICK_NS, 'b');
        assert_eq!(first.slot, second.slot);
        assert!(!wheel.cancel(first));
        assert_eq!(wheel.len(), 1);
        assert!(wheel.cancel(second));
        assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
    }

    /// Goal: a slot with very many timers does not stall a turn. Method: 10 000 timers in one distant slot; no call
    /// touches more than its budget, and the order holds, with another timer armed half-way.
    #[test]
    fn moving_down_a_level_is_within_the_budget() {
        let mut wheel = Wheel::new(0);
        let deadline = 5_000 * TICK_NS;
        for key in 0..10_000 {
            wheel.arm(deadline, key);
        }
        let start = wheel.next_deadline().expect("timers are armed");
        assert!(start < deadline);
        let mut fired = Vec::new();
        assert!(wheel.advance(start, &mut fired, 1_000));
        wheel.arm(deadline, 10_000);
        let mut calls = 1;
        while wheel.advance(deadline, &mut fired, 1_000) {
            calls += 1;
        }
        // At most three levels, each timer moved or fired once in each.
        assert!((20..=31).contains(&calls), "{calls} calls");
        assert_eq!(fired, (0..=10_000).collect::<Vec<_>>());
    }

    /// Goal: time that goes back is our bug, found at once. Method: let it.
    #[test]
    #[should_panic(expected = "time goes back")]
    fn time_does_not_go_back() {
        Wheel::<u64>::new(5).advance(4, &mut Vec::new(), 1);
    }
}
