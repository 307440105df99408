//! Every interleaving, and every reordering the memory model allows, of parking against pushing, by loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p mailbox --release`.
//!
//! What is checked is the production [`WakeFlag`], compiled against loom's atomics. Two things stand in
//! for what loom cannot see into:
//!
//! - [`Ring`] for `rtrb`'s ring: the same orderings at the one place the protocol leans on, the sender's
//!   Release store of `tail` and the receiver's Acquire load of it. Slots are relaxed atomics, so that an
//!   item read before it was published shows as a wrong number. It never fills nor wraps: the protocol
//!   takes no part in that, and `rtrb` has its own tests for it.
//! - loom's `Notify` for the eventfd: a wake before the sleep is kept, several make one, and it may
//!   return for nothing.
//!
//! The owner's loop is the one the shell runs: drain, park, poll again, sleep only when that found
//! nothing, unpark. A lost wake leaves the owner asleep with no thread to wake it, which loom reports as
//! a deadlock.

use std::cell::Cell;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;

use super::*;

/// Bounds the larger models, which would otherwise run for hours. Defects of this kind need two or three
/// preemptions (Musuvathi and Qadeer, PLDI 2007); a switch at a sleep or at an end is not one.
const PREEMPTIONS_MAX: Option<usize> = Some(3);

/// Items of one sender in a test.
const ITEMS_MAX: usize = 3;

/// Goal: an owner that sleeps after an empty poll is woken for every item pushed later. Method: two turns
/// of one item each against one owner, without a bound on preemptions.
#[test]
fn every_push_wakes_or_is_seen() {
    check::<WakeFlag>(None, &[2]);
}

/// Goal: the same over several parks, in which a wake taken late meets a later park. Method: a third turn.
#[test]
fn several_parks() {
    check::<WakeFlag>(PREEMPTIONS_MAX, &[3]);
}

/// Goal: the same with two senders that share the flag, where one may take the wake that the other would
/// have needed. Method: two turns of one, one of the other.
#[test]
fn two_senders_share_one_flag() {
    check::<WakeFlag>(PREEMPTIONS_MAX, &[2, 1]);
}

/// Goal: of several senders that find the owner parked, exactly one is told to wake it. Method: park
/// first, then ask from two threads and from here.
#[test]
fn one_wake_per_park() {
    loom::model(|| {
        let flag = Arc::new(WakeFlag::new());
        flag.park();
        let askers: Vec<_> = (0..2)
            .map(|_| {
                let flag = flag.clone();
                thread::spawn(move || usize::from(flag.take_parked()))
            })
            .collect();
        let own = usize::from(flag.take_parked());
        let told: usize = askers.into_iter().map(|asker| asker.join().unwrap()).sum();
        assert_eq!(told + own, 1);
    });
}

/// Goal: show that the model can fail at all. Method: the same stream over a flag without its fences,
/// which must end in the deadlock of a lost wake.
#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    check::<Unfenced>(None, &[1]);
}

/// Runs [`stream`] over every execution with at most that many preemptions.
fn check<F: Flag>(preemptions_max: Option<usize>, turns: &'static [usize]) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions_max;
    model.check(move || stream::<F>(turns));
}

/// What a stream needs of a flag, so that a broken one can take the place of ours.
trait Flag: Send + Sync + 'static {
    fn awake() -> Self;
    fn park(&self);
    fn unpark(&self);
    fn take_parked(&self) -> bool;
}

impl Flag for WakeFlag {
    fn awake() -> Self {
        WakeFlag::new()
    }
    fn park(&self) {
        self.park();
    }
    fn unpark(&self) {
        self.unpark();
    }
    fn take_parked(&self) -> bool {
        self.take_parked()
    }
}

/// Release and acquire instead of the fences: what looks enough and is not.
struct Unfenced(AtomicBool);

impl Flag for Unfenced {
    fn awake() -> Self {
        Self(AtomicBool::new(false))
    }
    fn park(&self) {
        self.0.store(true, Ordering::Release);
    }
    fn unpark(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
    fn take_parked(&self) -> bool {
        self.0.load(Ordering::Acquire)
            && self.0.compare_exchange(true, false, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Runs one owner against as many senders as `turns` has entries, each of which pushes that many items,
/// one a turn. Ends when the owner has them all, in order.
fn stream<F: Flag>(turns: &[usize]) {
    let flag = Arc::new(F::awake());
    let eventfd = Arc::new(Notify::new());
    let rings: Vec<_> = turns.iter().map(|_| Arc::new(Ring::new())).collect();

    let senders: Vec<_> = turns
        .iter()
        .zip(&rings)
        .map(|(&turns, ring)| {
            let (flag, eventfd, ring) = (flag.clone(), eventfd.clone(), ring.clone());
            thread::spawn(move || {
                let mut told = 0;
                for item in 1..=turns {
                    ring.push(item);
                    if flag.take_parked() {
                        told += 1;
                        eventfd.notify();
                    }
                }
                told
            })
        })
        .collect();

    let parks = own(&*flag, &eventfd, &rings, turns);
    let told: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
    assert!(told <= parks, "{told} wakes for {parks} parks");
}

/// The owner's loop. Returns how often it parked.
fn own<F: Flag>(flag: &F, eventfd: &Notify, rings: &[Arc<Ring>], expected: &[usize]) -> usize {
    let mut receivers: Vec<_> = rings.iter().map(|ring| RingReader::new(ring)).collect();
    let mut parks = 0;
    loop {
        for receiver in &mut receivers {
            receiver.drain();
        }
        if receivers.iter().map(|receiver| receiver.taken).eq(expected.iter().copied()) {
            return parks;
        }
        flag.park();
        parks += 1;
        if receivers.iter().all(RingReader::is_empty) {
            eventfd.wait();
        }
        flag.unpark();
    }
}

/// `rtrb`'s ring as far as the protocol sees it.
struct Ring {
    slots: [AtomicUsize; ITEMS_MAX],
    tail: AtomicUsize,
}

impl Ring {
    fn new() -> Self {
        Self { slots: std::array::from_fn(|_| AtomicUsize::new(0)), tail: AtomicUsize::new(0) }
    }

    /// Called by the one sender only.
    fn push(&self, item: usize) {
        let tail = self.tail.load(Ordering::Relaxed);
        self.slots[tail].store(item, Ordering::Relaxed);
        self.tail.store(tail + 1, Ordering::Release);
    }
}

/// The receiving end: like `rtrb`'s consumer it looks at `tail` only when what it saw there is used up.
struct RingReader<'a> {
    ring: &'a Ring,
    taken: usize,
    tail_seen: Cell<usize>,
}

impl<'a> RingReader<'a> {
    fn new(ring: &'a Ring) -> Self {
        Self { ring, taken: 0, tail_seen: Cell::new(0) }
    }

    fn drain(&mut self) {
        while self.taken < self.tail_seen.get() || !self.is_empty() {
            let item = self.ring.slots[self.taken].load(Ordering::Relaxed);
            self.taken += 1;
            assert_eq!(item, self.taken, "items arrive whole and in order");
        }
    }

    fn is_empty(&self) -> bool {
        self.tail_seen.set(self.ring.tail.load(Ordering::Acquire));
        self.taken == self.tail_seen.get()
    }
}
