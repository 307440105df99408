//! The wheel against a sorted map, and what it promises on time, order, budget and stale ids.

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
                    let span = if random.below(4) == 0 { random.span(62) } else { random.span(crowded + 20) };
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
