//! The wake protocol between real threads: what loom shows for a model (`src/wake_flag/model.rs`), here
//! with `rtrb`'s ring, the machine's own store buffers and a real sleep.
//!
//! `std::thread::park` stands for the shell's wait on its eventfd: a wake before the sleep is kept, and a
//! sleep may end for nothing. A lost wake leaves a thread asleep for ever; the test fails when no result
//! has come within [`PATIENCE`].
#![cfg(not(loom))]

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, Thread};
use std::time::Duration;

use mailbox::{Full, Receiver, Sender, WakeFlag, channel};

/// Far above what a loaded machine needs; only a lost wake lasts longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Goal: with a ring that is often full and an owner that often sleeps, every item arrives once and in
/// order. Method: one sender, turns of 1 to 16 items through 8 slots.
#[test]
fn a_stream_arrives_whole() {
    assert_eq!(gather(1, 300_000), 300_000);
}

/// Goal: the same where several cores send to one and share its flag. Method: three senders.
#[test]
fn three_senders_share_one_flag() {
    assert_eq!(gather(3, 100_000), 300_000);
}

/// Goal: no wake is lost where every single item is one. Method: two cores that send each other one item
/// in turn, so that each sleeps or is about to for every item.
#[test]
fn ping_pong_never_sticks() {
    const ROUNDS: u64 = 50_000;
    let (flag_a, flag_b) = (Arc::new(WakeFlag::new()), Arc::new(WakeFlag::new()));
    let (to_b, from_a) = channel(1, flag_b.clone());
    let (to_a, from_b) = channel(1, flag_a.clone());
    within_patience(move || {
        let main = thread::current();
        let peer = start(move || {
            let mut core = PingPong { flag: &flag_b, inbox: from_a, outbox: to_a, peer: main };
            for round in 0..ROUNDS {
                assert_eq!(core.receive(), round);
                core.send(round);
            }
        });
        let mut core = PingPong { flag: &flag_a, inbox: from_b, outbox: to_b, peer: peer.thread().clone() };
        for round in 0..ROUNDS {
            core.send(round);
            assert_eq!(core.receive(), round);
        }
        peer.join().unwrap();
    });
}

/// Goal: of a push and a park that race at least one sees the other, on this machine's store buffers.
/// Method: start both at once from a spinning line-up, round after round; without either fence some
/// hundred rounds of these fail on x86.
#[test]
fn a_push_and_a_park_that_race_see_each_other() {
    const ROUNDS: usize = 200_000;
    let flag = Arc::new(WakeFlag::new());
    let (mut outbox, mut inbox) = channel(1, flag.clone());
    let line_up = Arc::new(LineUp::default());
    within_patience(move || {
        let sender = start({
            let line_up = line_up.clone();
            move || {
                let mut told = Vec::with_capacity(ROUNDS);
                for round in 0..ROUNDS {
                    line_up.wait();
                    outbox.push(round).unwrap();
                    told.push(outbox.must_wake());
                    line_up.wait();
                }
                told
            }
        });
        let mut sleeps = Vec::with_capacity(ROUNDS);
        for round in 0..ROUNDS {
            line_up.wait();
            flag.park();
            sleeps.push(inbox.is_empty());
            line_up.wait();
            flag.unpark();
            assert_eq!(inbox.pop(), Some(round));
        }
        let told = sender.join().unwrap();
        let lost = sleeps.iter().zip(&told).filter(|&(&sleeps, &told)| sleeps && !told).count();
        assert_eq!(lost, 0, "of {ROUNDS} rounds these lost the wake");
    });
}

/// A barrier for two that spins, so that both leave it within nanoseconds. It yields after a while: where
/// there is one processor, the other side cannot come otherwise.
#[derive(Default)]
struct LineUp {
    arrivals: AtomicUsize,
}

impl LineUp {
    /// Called twice a round by each side: at its start and at its end.
    fn wait(&self) {
        let arrival = self.arrivals.fetch_add(1, Ordering::AcqRel);
        let full = (arrival / 2 + 1) * 2;
        let mut spins = 0;
        while self.arrivals.load(Ordering::Acquire) < full {
            spins += 1;
            if spins % 1_000 == 0 {
                thread::yield_now();
            }
            spin_loop();
        }
    }
}

struct PingPong<'a> {
    flag: &'a WakeFlag,
    inbox: Receiver<u64>,
    outbox: Sender<u64>,
    peer: Thread,
}

impl PingPong<'_> {
    fn send(&mut self, item: u64) {
        self.outbox.push(item).unwrap();
        if self.outbox.must_wake() {
            self.peer.unpark();
        }
    }

    fn receive(&mut self) -> u64 {
        loop {
            if let Some(item) = self.inbox.pop() {
                return item;
            }
            sleep_unless(self.flag, || !self.inbox.is_empty());
        }
    }
}

/// Streams `items` from each of `senders` threads to one that sleeps whenever it finds nothing. Returns
/// how many arrived.
fn gather(senders: u64, items: u64) -> u64 {
    within_patience(move || {
        let flag = Arc::new(WakeFlag::new());
        let mut inboxes = Vec::new();
        let mut threads = Vec::new();
        for seed in 0..senders {
            let (outbox, inbox) = channel(8, flag.clone());
            let owner = thread::current();
            inboxes.push((inbox, 0));
            threads.push(start(move || send_all(outbox, items, seed, &owner)));
        }
        let mut arrived = 0;
        while arrived < senders * items {
            let before = arrived;
            for (inbox, next) in &mut inboxes {
                while let Some(item) = inbox.pop() {
                    assert_eq!(item, *next, "in order, once");
                    *next += 1;
                    arrived += 1;
                }
            }
            if arrived == before {
                sleep_unless(&flag, || inboxes.iter().any(|(inbox, _)| !inbox.is_empty()));
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        arrived
    })
}

/// Sends `0..items` in turns of 1 to 16 and wakes the owner after each. A turn that meets a full ring is
/// cut short there, as a core's is.
fn send_all(mut outbox: Sender<u64>, items: u64, seed: u64, owner: &Thread) {
    let mut random = seed;
    let mut next = 0;
    while next < items {
        // Knuth's 64-bit congruential generator: the turn lengths repeat from run to run.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let turn_end = items.min(next + 1 + (random >> 60));
        let mut is_full = false;
        while next < turn_end && !is_full {
            match outbox.push(next) {
                Ok(()) => next += 1,
                Err(Full(item)) => {
                    assert_eq!(item, next);
                    is_full = true;
                }
            }
        }
        if outbox.must_wake() {
            owner.unpark();
        }
        if is_full {
            thread::yield_now();
        }
    }
}

/// The owner's side of the protocol, as the shell plays it.
fn sleep_unless(flag: &WakeFlag, has_work: impl Fn() -> bool) {
    flag.park();
    if !has_work() {
        thread::park();
    }
    flag.unpark();
}

/// Runs a body on a thread of its own and fails, rather than hangs, when it does not come back.
fn within_patience<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    let body = start(move || done.send(body()).unwrap());
    match result.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("no result in {PATIENCE:?}: a wake was lost"),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(body.join().unwrap_err()),
    }
}

#[expect(clippy::disallowed_methods, reason = "two real threads are what is tested")]
fn start<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> thread::JoinHandle<R> {
    thread::spawn(body)
}
